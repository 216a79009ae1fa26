"""What each array of an NNX model's parameters is; see `test_problem_kinds`, whose expected values these are too."""

import functools

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx
from test_problem_kinds import (
  ATTENTION,
  BIAS,
  DENSE,
  KEPT,
  QUERY,
  SCALE,
  STACKED_BIAS,
  STACKED_DENSE,
  linear_attention,
)

from gdlab.core.types import LeafKind
from gdlab.problems.nnx_kinds import NnxKinds

NNX_ATTENTION = functools.partial(nnx.MultiHeadAttention, 2, 8, decode=False)
NNX = {
  'linear': (lambda r: nnx.Linear(5, 3, rngs=r), {'kernel': DENSE, 'bias': BIAS}),
  'linear, half': (
    lambda r: nnx.Linear(5, 3, param_dtype=jnp.float16, rngs=r),
    {'kernel': DENSE, 'bias': BIAS},
  ),
  'general': (lambda r: nnx.LinearGeneral(5, (3, 4), rngs=r), QUERY),
  'general, groups': (
    lambda r: nnx.LinearGeneral(5, 3, batch_axis={0: 4}, rngs=r),
    {'kernel': LeafKind('kernel', (0, 2)), 'bias': LeafKind('bias', (0, 1))},
  ),
  'einsum': (
    lambda r: nnx.Einsum('nta,hab->nthb', (8, 2, 4), (8, 4), rngs=r),
    {'kernel': LeafKind('kernel', (0, 2)), 'bias': LeafKind('bias', (0, 1))},
  ),
  'conv': (lambda r: nnx.Conv(5, 4, (3, 3), rngs=r), {'kernel': LeafKind('kernel', (3,)), 'bias': BIAS}),
  'conv, transposed kernel': (
    lambda r: nnx.ConvTranspose(5, 4, (3,), transpose_kernel=True, rngs=r),
    {'kernel': LeafKind('kernel', (1,)), 'bias': BIAS},
  ),
  'embed': (lambda r: nnx.Embed(7, 5, rngs=r), {'embedding': LeafKind('embedding', (0,))}),
  'batch norm': (lambda r: nnx.BatchNorm(5, rngs=r), {'scale': SCALE, 'bias': BIAS}),
  'layer norm': (lambda r: nnx.LayerNorm(5, rngs=r), {'scale': SCALE, 'bias': BIAS}),
  'group norm': (lambda r: nnx.GroupNorm(6, 2, rngs=r), {'scale': SCALE, 'bias': BIAS}),
  'instance norm': (lambda r: nnx.InstanceNorm(5, rngs=r), {'scale': SCALE, 'bias': BIAS}),
  'rms norm': (lambda r: nnx.RMSNorm(5, rngs=r), {'scale': SCALE}),
  'spectral norm': (
    lambda r: nnx.SpectralNorm(nnx.Linear(5, 3, rngs=r), rngs=r),
    {'layer_instance': {'kernel': DENSE, 'bias': BIAS}},
  ),
  'lora': (
    lambda r: nnx.LoRALinear(5, 3, lora_rank=2, rngs=r),
    {'kernel': DENSE, 'bias': BIAS, 'lora': {'lora_a': DENSE, 'lora_b': DENSE}},
  ),
  'attention': (lambda r: NNX_ATTENTION(rngs=r), ATTENTION),
  'attention, grouped': (lambda r: NNX_ATTENTION(num_kv_heads=1, rngs=r), ATTENTION),
  'attention, normalised keys': (
    lambda r: NNX_ATTENTION(normalize_qk=True, rngs=r),
    KEPT | {'query_ln': {'scale': SCALE}, 'key_ln': {'scale': SCALE}},
  ),
  'attention without softmax': (lambda r: NNX_ATTENTION(attention_fn=linear_attention, rngs=r), KEPT),
  'lstm': (
    lambda r: nnx.OptimizedLSTMCell(5, 4, rngs=r),
    {'dense_i': {'kernel': DENSE}, 'dense_h': {'kernel': DENSE, 'bias': BIAS}},
  ),
  'list': (
    lambda r: nnx.Sequential(nnx.Linear(5, 3, use_bias=False, rngs=r)),
    {'layers': {0: {'kernel': DENSE}}},
  ),
  'behind a bridge': (
    lambda r: nnx.bridge.ToNNX(nn.MultiHeadAttention(2), rngs=r).lazy_init(jnp.ones((2, 3, 8))),
    ATTENTION,
  ),
}


@pytest.mark.parametrize('name', NNX)
def test_nnx_layers(name):
  make_module, expected = NNX[name]
  assert NnxKinds(make_module)() == expected


class Stack(nnx.Module):
  def __init__(self, rngs, copies=3, axis=0, width=8):
    @nnx.split_rngs(splits=copies)
    @functools.partial(nnx.vmap, out_axes=axis)
    def make(rngs):
      return nnx.List([NNX_ATTENTION(rngs=rngs), nnx.LoRALinear(width, 5, lora_rank=2, rngs=rngs)])

    self.copies = make(rngs)


def test_nnx_stacks():
  attention, lora = NnxKinds(Stack)()['copies'].values()
  assert attention['query']['kernel'] == LeafKind('kernel', (2, 3), (0,))
  assert attention['key']['bias'] == LeafKind('bias', (1, 2), (0,), inert=True)
  assert attention['out']['kernel'] == LeafKind('kernel', (3,), (0,))
  assert lora['kernel'] == lora['lora']['lora_a'] == lora['lora']['lora_b'] == STACKED_DENSE
  assert lora['bias'] == STACKED_BIAS
  # [8, 8, 5] for a layer of [8, 5], stacked along axis 1 as the others show: nobody says which 8 it is.
  attention, lora = NnxKinds(functools.partial(Stack, copies=8, axis=1))()['copies'].values()
  assert attention['out']['bias'].kind == 'other'
  assert lora['kernel'].kind == 'other'
  assert attention['query']['bias'] == LeafKind('bias', (0, 2), (1,))


class Tied(nnx.Module):
  """An output layer that has the embedding for its kernel, and a bias of keys that is one of queries as well."""

  def __init__(self, rngs):
    self.embed, self.out = nnx.Embed(7, 7, rngs=rngs), nnx.Linear(7, 7, rngs=rngs)
    self.out.kernel = self.embed.embedding
    self.attention = NNX_ATTENTION(rngs=rngs)
    self.attention.query.bias = self.attention.key.bias


def test_what_is_shared_in_nnx():
  found = NnxKinds(Tied)()
  assert found['embed'] == {'embedding': LeafKind('embedding', (0,))}
  assert found['out'] == {'bias': BIAS}
  assert not any(leaf.inert for leaf in jax.tree.leaves(found))
