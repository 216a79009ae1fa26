"""Filters of networks with attention, embeddings and stacked copies, against norms taken by NumPy."""

import functools

import jax
import kind_networks as nets
import numpy as np
import pytest

from gdlab import LeafKind, analysis
from gdlab.core.errors import InputError

TOLERANCE = 50 * np.finfo(np.float32).eps  # a norm of up to 16 terms, divided and multiplied


def norms(leaf, axes):
  return np.sqrt(np.square(np.asarray(leaf, np.float64)).sum(axis=axes))


def check(direction, params, axes):
  """The norms of all filters, sums over `axes`, are those of the weights, and the filters are no copies."""
  np.testing.assert_allclose(norms(direction, axes), norms(params, axes), rtol=TOLERANCE)
  assert not np.allclose(np.abs(direction), np.abs(params))


def direction_of(problem, params, **options):
  return analysis.filter_direction(jax.random.key(4), params, kinds=problem.kinds(), **options)


def test_attention_has_a_filter_for_every_head_and_dimension():
  problem, params = nets.linen()
  draw = functools.partial(analysis.filter_direction, kinds=problem.kinds())
  found = jax.jit(draw)(jax.random.key(4), params)
  attention, weights = found['block_1']['attention'], params['block_1']['attention']
  for name in ('query', 'key', 'value'):
    check(attention[name]['kernel'], weights[name]['kernel'], 0)
    np.testing.assert_array_equal(attention[name]['bias'], np.zeros((2, 4)))
    assert np.all(weights[name]['bias'] == np.float32(0.001))
  check(attention['out']['kernel'], weights['out']['kernel'], (0, 1))
  norm = found['block_1']['norm']
  assert not np.any(norm['scale'])
  assert not np.any(norm['bias'])
  check(found['out']['kernel'], params['out']['kernel'], 0)


def test_copies_have_filters_of_their_own():
  problem, params = nets.linen(scanned=True)
  # Copies of different lengths, or a filter across copies would pass for one of each.
  factors = np.arange(1.0, 4.0, dtype=np.float32)
  longer = jax.tree.map(lambda leaf: leaf * factors.reshape(-1, *[1] * (leaf.ndim - 1)), params['blocks'])
  params = params | {'blocks': longer}
  attention, weights = direction_of(problem, params)['blocks']['attention'], params['blocks']['attention']
  check(attention['query']['kernel'], weights['query']['kernel'], 1)
  check(attention['out']['kernel'], weights['out']['kernel'], (1, 2))
  assert not np.any(attention['out']['bias'])
  assert not np.any(attention['key']['bias'])
  moved = direction_of(problem, params, biases=True)['blocks']
  check(moved['attention']['key']['bias'], params['blocks']['attention']['key']['bias'], (1, 2))
  check(moved['norm']['scale'], params['blocks']['norm']['scale'], 1)


@pytest.mark.parametrize('stacked', [False, True])
def test_nnx(stacked):
  problem, params = nets.of_nnx(stacked)
  found = direction_of(problem, params)
  block, weights = (tree['blocks'] if stacked else tree['blocks'][2] for tree in (found, params))
  check(block['value']['kernel'], weights['value']['kernel'], int(stacked))
  assert not any(np.any(block[name]['bias']) for name in ('query', 'key', 'value', 'out'))
  assert not np.any(found['norm']['scale'])
  check(found['out']['lora']['lora_a'], params['out']['lora']['lora_a'], 0)


def test_a_filter_of_an_embedding_is_a_row():
  problem, params = nets.linen(embedded=True)
  check(direction_of(problem, params)['embed']['embedding'], params['embed']['embedding'], 1)
  table = {'embedding': np.diag(np.arange(1.0, 5.0, dtype=np.float32))}
  check(analysis.filter_direction(jax.random.key(0), table)['embedding'], table['embedding'], 1)


def test_half_precision_neither_overflows_nor_vanishes():
  # 300 squared is above 65504, the largest float16; 2e-4 squared is below 6e-8, the least.
  params = {
    'large': {'kernel': np.full((4, 3), 300, np.float16)},
    'small': {'kernel': np.full((4, 3), 2e-4, np.float16)},
  }
  found = analysis.filter_direction(jax.random.key(0), params)
  for name in params:
    assert found[name]['kernel'].dtype == np.float16
    # Four entries rounded to float16, of relative eps 2^-10 / 2 each; the small ones to its least step, 6e-8.
    allowed = norms(params[name]['kernel'], 0) * 2.0**-10 + 4 * 6e-8
    assert np.all(np.abs(norms(found[name]['kernel'], 0) - norms(params[name]['kernel'], 0)) < allowed)


def test_a_line_along_it():
  problem, params = nets.linen(scanned=True)
  line = analysis.loss_line(problem, params, direction=direction_of(problem, params), num_points=3)
  at_centre = jax.jit(problem.metrics)(params, (), problem.train)['loss'].mean()
  np.testing.assert_allclose(line.train_loss.sel(alpha=0), at_centre, rtol=1e-5)  # a mean of 12 in float32
  assert abs(line.train_loss.values[0] - at_centre) > 1e-3


def test_refusals():
  biases = {'key': {'bias': np.ones((2, 4), np.float32)}}
  kinds = {'key': {'bias': LeafKind('bias', (0, 1))}}
  with pytest.raises(InputError, match='biases must be True'):
    analysis.filter_direction(jax.random.key(0), biases, kinds=kinds)
  with pytest.raises(InputError, match='kinds must be given'):
    analysis.filter_direction(jax.random.key(0), biases)
  with pytest.raises(InputError, match='kinds must be a tree'):
    analysis.filter_direction(jax.random.key(0), biases, kinds={})


@pytest.mark.parametrize('make', [nets.linen, functools.partial(nets.linen, scanned=True), nets.of_nnx])
def test_only_dense_stacks_are_aligned(make):
  problem, params = make()
  with pytest.raises(InputError, match='only stacks of Dense layers can be aligned'):
    analysis.align(problem, params, params)
