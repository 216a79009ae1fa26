"""Which arrays are layers to the diagnosis, and what is said of attention: by what the module says, not by rank."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import gdlab
from gdlab.diagnosis import Cause, probes
from gdlab.diagnosis.layers import layer_names
from gdlab.problems import from_linen
from gdlab.types import LeafKind

RNG = np.random.default_rng(0)
CROSS_ENTROPY = optax.softmax_cross_entropy_with_integer_labels
WORDS, LABELS = RNG.normal(size=(120, 5, 4)), RNG.integers(0, 2, 120)
FULL = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(0.0))
MEASURED = {name: probe for name, probe in probes().items() if name != 'diagnosis_curvature'}


class Body(nn.Module):
  @nn.compact
  def __call__(self, x, _):
    return nn.relu(nn.Dense(4)(x)), None


class Stack(nn.Module):
  scanned: bool

  @nn.compact
  def __call__(self, x):
    if self.scanned:
      whole = nn.scan(Body, variable_axes={'params': 0}, split_rngs={'params': True}, length=3)
      return whole(name='stack')(x, None)[0]
    for number in range(3):
      x, _ = Body(name=f'body{number}')(x, None)
    return x


def rows(problem, params=None):
  state = FULL.init(jax.random.key(0), problem)
  params = state.params if params is None else params
  return np.asarray(MEASURED['diagnosis_layers'](problem, state._replace(params=params))), params


def test_a_stack_counts_as_its_layers_by_themselves(x64):
  data = (WORDS[:, 0], np.zeros((120, 4)))
  loss = lambda y, t: jnp.sum((y - t) ** 2, -1)
  scanned, plain = (from_linen(Stack(scanned), data, loss) for scanned in (True, False))
  stacked, params = rows(scanned)
  apart = {f'body{n}': jax.tree.map(lambda leaf, n=n: leaf[n], params['stack']) for n in range(3)}
  expected, _ = rows(plain, apart)
  columns = [0, 1, 2, 4]
  # The same sums of 16 products in float64, in another order.
  np.testing.assert_allclose(stacked[:, columns], expected[:, columns], rtol=1e-12)
  assert stacked[:, 2].max() > 0  # some of 12 ReLU units are dead, so that the shares are compared too
  assert len(set(stacked[:, 3])) == 3
  path = "['stack']['Dense_0']['kernel']"
  assert layer_names(scanned) == [f'{path}, copy {number} of 3' for number in (1, 2, 3)]
  # Told by hand to have no copies, it is one layer: the norms are those of all three.
  kinds = lambda: {
    'stack': {'Dense_0': {'bias': LeafKind('bias', (0, 1)), 'kernel': LeafKind('kernel', (0, 2))}}
  }
  (single,), _ = rows(dataclasses.replace(scanned, kinds=kinds))
  np.testing.assert_allclose(single[:2], np.linalg.norm(expected[:, :2], axis=0), rtol=1e-12)
  np.testing.assert_allclose(single[2], expected[:, 2].mean(), rtol=1e-12)


class Attention(nn.Module):
  """Blocks of attention, deep and squashed or not, and a mean over positions."""

  depth: int = 1
  squashed: bool = False
  use_bias: bool = True

  @nn.compact
  def __call__(self, x):
    for _ in range(self.depth):
      x = nn.MultiHeadDotProductAttention(2, qkv_features=8, out_features=4, use_bias=self.use_bias)(x)
      x = nn.sigmoid(nn.Dense(4)(x)) if self.squashed else x
    return nn.Dense(2)(x.mean(1))


def attention(**options):
  return from_linen(Attention(**options), (WORDS, LABELS), CROSS_ENTROPY)


def test_units_are_heads_times_their_lengths_and_the_keys_bias_is_no_layer():
  problem = attention()
  names = layer_names(problem)
  assert sorted(name.split("'")[-4] for name in names) == ['Dense_0', 'key', 'out', 'query', 'value']
  assert all(name.endswith("['kernel']") for name in names)
  state = FULL.init(jax.random.key(0), problem)
  params = jax.tree.map(lambda leaf: leaf, state.params)
  out = params['MultiHeadDotProductAttention_0']['out']
  out['kernel'] = out['kernel'].at[0].set(0.0)  # what head 0 finds goes nowhere
  found, _ = rows(problem, params)
  dead = dict(zip((name.split("'")[-4] for name in names), found[:, 2]))
  # 4 of 8 units each; along the last axis alone none of 4 would be.
  assert dead == {'query': 0.5, 'key': 0.5, 'value': 0.5, 'out': 0.0, 'Dense_0': 0.0}


def diagnosed(problem, rate):
  descent = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(20), optimizer=optax.sgd(rate))
  result = gdlab.run(problem, descent, num_steps=120, seeds=1, eval_every=20, probes=MEASURED)
  return gdlab.diagnose(result, problem).runs[0].findings


@pytest.mark.parametrize('use_bias', [True, False])
def test_gradients_of_attention_vanish_where_they_do_and_nowhere_else(use_bias):
  # Stalled, since its labels are at random.
  stalled = diagnosed(attention(use_bias=use_bias), 0.01)
  assert Cause.VANISHING_GRADIENTS not in [finding.cause for finding in stalled]
  deep = attention(depth=5, squashed=True, use_bias=use_bias)
  (found,) = [f for f in diagnosed(deep, 0.01) if f.cause is Cause.VANISHING_GRADIENTS]
  first, _ = rows(deep)
  names = layer_names(deep)
  # As probed at the start of another seed: within a block of the first layers, not at a bias.
  assert "['kernel']" in found.words.split(' is ')[0]
  assert found.evidence['at the start'] < 1e-3
  assert len(names) == len(first) == 5 * 5 + 1
