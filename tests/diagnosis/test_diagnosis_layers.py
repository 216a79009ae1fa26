"""Which arrays are layers to the diagnosis, and what is said of attention: by what the module says, not by rank."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from flax import linen as nn

import gdlab
from gdlab.core.types import LeafKind
from gdlab.diagnosis import Cause, probes
from gdlab.diagnosis.layers import layer_names
from gdlab.problems import from_linen

RNG = np.random.default_rng(0)
CROSS_ENTROPY = optax.softmax_cross_entropy_with_integer_labels
WORDS, LABELS = RNG.normal(size=(120, 5, 4)), RNG.integers(0, 2, 120)
FULL = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(0.0))


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
  params = jax.tree.map(lambda leaf: leaf.astype(float), state.params if params is None else params)
  measured = jax.jit(probes()['diagnosis_layers'])(problem, state._replace(params=params))
  return np.asarray(measured), params


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


def stalled(layers):
  """A result of one run whose loss does not move, with these layers at every evaluation."""
  steps = np.arange(0, 70, 10)
  flat = {name: np.ones(7) for name in ('train_loss', 'test_loss', 'batch_loss', 'param_norm', 'grad_norm')}
  others = {'update_norm': np.full(7, 0.1), 'status': np.zeros(7, np.int8), 'updates': steps}
  variables = {name: (('seed', 'step'), values[None]) for name, values in (flat | others).items()}
  rows = np.broadcast_to(layers, (1, 7, *layers.shape))
  variables['diagnosis_layers'] = (('seed', 'step', 'layer', 'number'), rows)
  return xr.Dataset(variables, {'seed': [0], 'step': steps})


@pytest.mark.parametrize('use_bias', [True, False])
def test_gradients_of_attention_vanish_where_they_do_and_nowhere_else(use_bias):
  sound, deep = attention(use_bias=use_bias), attention(depth=3, squashed=True, use_bias=use_bias)
  for problem, vanishes in ((sound, False), (deep, True)):
    layers, params = rows(problem)
    found = gdlab.diagnose(stalled(layers), problem).runs[0].findings
    assert (Cause.VANISHING_GRADIENTS in [finding.cause for finding in found]) == vanishes
    if vanishes:
      # The kernels' gradients by plain differentiation: the smallest is named.
      gradient = jax.grad(
        lambda p: CROSS_ENTROPY(Attention(3, True, use_bias).apply({'params': p}, WORDS), LABELS).mean()
      )
      norms = {
        jax.tree_util.keystr(path): np.linalg.norm(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(jax.jit(gradient)(params))
        if 'kernel' in jax.tree_util.keystr(path)
      }
      smallest = min(norms, key=norms.get)
      assert f'that of {smallest} is' in found[0].words
      # Two float32 programs of one gradient; sums of 600 terms that cancel: 600 * 6e-8 = 4e-5, times 100 for
      # what cancels.
      np.testing.assert_allclose(
        found[0].evidence['at the start'], norms[smallest] / max(norms.values()), rtol=4e-3
      )
