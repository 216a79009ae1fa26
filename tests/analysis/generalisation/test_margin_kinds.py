"""Margins over the layers of networks with attention, embeddings and stacked copies, against NumPy."""

import functools

import jax
import jax.numpy as jnp
import kind_networks as nets
import numpy as np
import pytest
from flax import linen as nn

from gdlab import LeafKind, analysis, problems
from gdlab.core.errors import InputError

OUTPUTS = np.random.default_rng(3).normal(size=(12, 4)).astype(np.float32)
LABELS = nets.SEQUENCES[1]
# float32: a singular value is right to a few eps of itself, here 50 for up to 16 layers, and their logarithms' sum is
# below 30, whose rounding the exponential turns into 30 more.
TOLERANCE = 100 * np.finfo(np.float32).eps


def expected(matrices, order):
  """The quantiles of the margins over the product of norms, by NumPy."""
  z = np.asarray(OUTPUTS, np.float64)
  rest = [np.delete(row, label).max() for row, label in zip(z, LABELS, strict=True)]
  product = np.prod([np.linalg.norm(matrix, order) for matrix in matrices])
  return np.quantile(z[np.arange(12), LABELS] - rest, [0.1, 0.5, 0.9]) / product


def check(found, matrices):
  np.testing.assert_allclose(found.spectral, expected(matrices, 2), rtol=TOLERANCE)
  np.testing.assert_allclose(found.frobenius, expected(matrices, 'fro'), rtol=TOLERANCE)


def dense(leaf):
  return np.asarray(leaf, np.float64)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.float16, jnp.bfloat16])
def test_attention_with_small_biases(dtype):
  problem, params = nets.linen(dtype=dtype)
  assert all(
    len(np.shape(params['block_0']['attention'][name]['bias'])) == 2 for name in ('query', 'key', 'value')
  )
  check(analysis.margins(OUTPUTS, LABELS, params, kinds=problem.kinds()), nets.linen_matrices(params))


def test_scanned_layers_are_layers():
  (problem, params), (plain, _) = nets.linen(scanned=True), nets.linen()
  apart = nets.unstacked(params)
  found = jax.jit(functools.partial(analysis.margins, kinds=problem.kinds()))(OUTPUTS, LABELS, params)
  check(found, nets.linen_matrices(apart))
  same = analysis.margins(OUTPUTS, LABELS, apart, kinds=plain.kinds())
  np.testing.assert_allclose(found.spectral, same.spectral, rtol=TOLERANCE)
  np.testing.assert_allclose(found.frobenius, same.frobenius, rtol=TOLERANCE)


@pytest.mark.parametrize('stacked', [False, True])
def test_nnx_with_lora(stacked):
  problem, params = nets.of_nnx(stacked)
  copies = params['blocks']
  blocks = [nets.copy_of(copies, k) if stacked else copies[k] for k in range(3)]
  out = params['out']
  last = [dense(leaf) for leaf in (out['kernel'], out['lora']['lora_a'], out['lora']['lora_b'])]
  matrices = [*nets.attention_matrices(blocks), *last]
  check(analysis.margins(OUTPUTS, LABELS, params, kinds=problem.kinds()), matrices)


def test_an_embedding_is_the_first_layer():
  problem, params = nets.linen(embedded=True)
  matrices = [dense(params['embed']['embedding']), *nets.linen_matrices(params)]
  check(analysis.margins(OUTPUTS, LABELS, params, kinds=problem.kinds()), matrices)
  # It may take a factor from the next layer, which changes neither the function nor, therefore, the quotient.
  table, kernel = np.random.default_rng(0).normal(size=(7, 5)), np.random.default_rng(1).normal(size=(5, 4))
  found = [
    analysis.margins(OUTPUTS, LABELS, {'embedding': table * c, 'out': {'kernel': kernel / c}}).spectral
    for c in (1.0, 8.0)
  ]
  np.testing.assert_allclose(*found, rtol=TOLERANCE)


class Wrapped(nn.Module):
  """Normalisation of weights, whose scales are no layers, and of activations; a kernel with groups."""

  @nn.compact
  def __call__(self, x):
    x = nn.SpectralNorm(nn.DenseGeneral((2, 5), name='first'))(x, update_stats=False)
    x = nn.WeightNorm(nn.DenseGeneral(6, axis=(-2, -1), name='second'))(x)
    return nn.Dense(4, name='out')(nn.LayerNorm()(x).mean(axis=1))


def test_wrapped_layers():
  problem = problems.from_linen(Wrapped(), nets.SEQUENCES, nets.loss)
  params = jax.jit(problem.init)(jax.random.key(1))[0]
  first, second, out = (dense(params[name]['kernel']) for name in ('first', 'second', 'out'))
  found = analysis.margins(OUTPUTS, LABELS, params, kinds=problem.kinds())
  check(found, [first.reshape(8, 10), second.reshape(10, 6), out])


def test_a_layer_that_is_zero():
  params = {'a': {'kernel': np.ones((3, 2))}, 'b': {'kernel': np.zeros((2, 4))}}
  with pytest.raises(InputError, match=r"params\['b'\]\['kernel'\] must not be zero"):
    analysis.margins(OUTPUTS, LABELS, params)
  found = jax.jit(analysis.margins)(OUTPUTS, LABELS, params)
  assert np.isnan(found.spectral).all()
  assert np.isnan(found.frobenius).all()
  assert np.isfinite(found.output).all()
  # One copy of several is enough.
  stack = np.stack([np.ones((4, 4)), np.zeros((4, 4))])
  with pytest.raises(InputError, match='any of its copies'):
    analysis.margins(OUTPUTS, LABELS, {'kernel': stack}, kinds={'kernel': LeafKind('kernel', (2,), (0,))})


@pytest.mark.parametrize('make', [nets.linen, nets.of_nnx, functools.partial(nets.linen, scanned=True)])
def test_what_names_leave_open_is_refused(make):
  params = make()[1]
  with pytest.raises(InputError, match=r"kinds must be given.*params\['b.*kinds=problem.kinds\(\)"):
    analysis.margins(OUTPUTS, LABELS, params)
  with pytest.raises(InputError, match='kinds must be given'):
    analysis.filter_direction(jax.random.key(0), params)


@pytest.mark.parametrize(
  'params',
  [
    {'kernel': np.ones((3, 4, 4))},  # copies, heads, or a convolution of one dimension
    {'query': {'kernel': np.ones((3, 4, 2, 2))}},  # copies of heads
    {'kernel': np.ones((3, 4, 4)), 'bias': np.ones((3, 4))},
    {'kernel': np.ones((3, 5, 4)), 'bias': np.ones(5)},  # a transposed convolution
    {'out': {'kernel': np.ones((4, 4))}, 'attention_bias': np.ones((4, 4))},
    {'scale': np.ones((3, 4)), 'kernel': np.ones((4, 4))},
    {'pos_embedding': np.ones((1, 3, 4))},
    {'w': np.ones((3, 4, 4))},
    [np.ones((3, 4, 4))],
  ],
)
def test_shapes_that_leave_it_open(params):
  with pytest.raises(InputError, match='kinds must be given'):
    analysis.margins(OUTPUTS, LABELS, params)


def test_what_names_and_shapes_say():
  rng = np.random.default_rng(4)
  conv, first, other = rng.normal(size=(3, 2, 5)), rng.normal(size=(5, 4)), rng.normal(size=(4, 4))
  params = {'conv': {'kernel': conv, 'bias': np.ones(5)}, 'layer_kernel': first, 'w': other, 'b': np.ones(4)}
  check(analysis.margins(OUTPUTS, LABELS, params), [conv.reshape(6, 5), first, other])
  check(analysis.margins(OUTPUTS, LABELS, [first, np.ones(4), other]), [first, other])


def test_kinds_that_do_not_fit_are_refused():
  params = {'w': np.ones((4, 4)), 'b': np.ones(4)}
  good = {'w': LeafKind('kernel', (1,)), 'b': LeafKind('bias', (0,))}
  analysis.margins(OUTPUTS, LABELS, params, kinds=good)
  for bad, message in (
    ({'w': good['w']}, 'kinds must be a tree of LeafKind like params'),
    ({'w': 'kernel', 'b': 'bias'}, 'kinds must be a tree of LeafKind'),
    (
      good | {'w': LeafKind('kernel', (2,))},
      r"different axes of the array, of shape \(4, 4\), for params\['w'\]",
    ),
    (good | {'w': LeafKind('kernel', (1,), (1,))}, 'different axes'),
    (good | {'w': LeafKind('weight', (1,))}, "one of .*'kernel'"),
    (good | {'w': LeafKind('other', ())}, r"kinds must say what params\['w'\] of shape \(4, 4\) is"),
  ):
    with pytest.raises(InputError, match=message):
      analysis.margins(OUTPUTS, LABELS, params, kinds=bad)
