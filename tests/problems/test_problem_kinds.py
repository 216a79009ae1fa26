"""What each array of a Linen model's parameters is: Flax's own layers, and what wraps or stacks them.

Expected values are written by hand from the shapes that Flax documents. Lengths differ from one another unless a test
is about lengths that do not.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from gdlab import problems
from gdlab.core.types import LeafKind
from gdlab.problems.kinds import einsum_outputs, stacks
from gdlab.problems.linen_kinds import LinenKinds

BIAS, SCALE = LeafKind('bias', (0,)), LeafKind('scale', (0,))
DENSE = LeafKind('kernel', (1,))
STACKED_BIAS, STACKED_DENSE = LeafKind('bias', (1,), (0,)), LeafKind('kernel', (2,), (0,))
QUERY = {'kernel': LeafKind('kernel', (1, 2)), 'bias': LeafKind('bias', (0, 1))}
ATTENTION = {
  'query': QUERY,
  'key': QUERY | {'bias': LeafKind('bias', (0, 1), inert=True)},
  'value': QUERY,
  'out': {'kernel': LeafKind('kernel', (2,)), 'bias': BIAS},
}
KEPT = ATTENTION | {'key': QUERY}  # where the keys' bias is not known to do nothing


@dataclasses.dataclass(frozen=True)
class Initialised:
  """The `init` of a problem's model, without data."""

  module: nn.Module
  inputs: jax.ShapeDtypeStruct

  def init(self, key):
    variables = self.module.init(key, jnp.zeros(self.inputs.shape, self.inputs.dtype))
    return variables.get('params', {}), ()


def linen_kinds(module, *shape, dtype=jnp.float32):
  return LinenKinds(Initialised(module, jax.ShapeDtypeStruct(shape, dtype)))()


def linear_attention(query, key, value, **_):
  return jnp.einsum('...qhd,...khd,...khe->...qhe', query, key, value)


class Around(nn.Module):
  """Calls a function of this module's own on the inputs."""

  function: callable

  @nn.compact
  def __call__(self, x):
    return self.function(self, x)


def own_params(module, x):
  """Arrays that a module makes by itself: told by their names where the rank fits."""
  kernel = module.param('my_kernel', nn.initializers.ones, (5, 2))
  bias = module.param('bias', nn.initializers.zeros, (2,))
  table = module.param('token_embedding', nn.initializers.ones, (3, 2))
  shape = module.param('kernel', nn.initializers.ones, (2, 2, 2))
  shift = module.param('attention_bias', nn.initializers.ones, (2, 2))
  weights = module.param('w', nn.initializers.ones, (2, 2))
  return (x @ kernel + bias[None] + table[:1]) @ (weights + shift + shape[0])


LINEN = {
  'dense': (nn.Dense(3), (2, 5), {'kernel': DENSE, 'bias': BIAS}),
  'half': (nn.Dense(3, param_dtype=jnp.bfloat16), (2, 5), {'kernel': DENSE, 'bias': BIAS}),
  'general': (nn.DenseGeneral((3, 4)), (2, 5), {k: QUERY[k] for k in ('kernel', 'bias')}),
  'general, two inputs': (
    nn.DenseGeneral(3, axis=(-2, -1)),
    (2, 5, 6),
    {'kernel': LeafKind('kernel', (2,)), 'bias': BIAS},
  ),
  'general, groups': (
    nn.DenseGeneral(3, axis=-1, batch_dims=(0,)),
    (4, 2, 5),
    {'kernel': LeafKind('kernel', (0, 2)), 'bias': LeafKind('bias', (0, 1))},
  ),
  'einsum': (
    nn.Einsum((8, 5, 4), 'nta,hab->nthb'),
    (2, 3, 5),
    {'kernel': LeafKind('kernel', (0, 2)), 'bias': LeafKind('bias', (0, 1))},
  ),
  'einsum, told at the call': (
    Around(lambda _, x: nn.Einsum((4, 5), use_bias=False, name='e')(x, 'na,ba->nb')),
    (2, 5),
    {'e': {'kernel': LeafKind('kernel', (0,))}},
  ),
  'conv': (nn.Conv(4, (3, 3)), (2, 6, 6, 5), {'kernel': LeafKind('kernel', (3,)), 'bias': BIAS}),
  'conv, depthwise': (
    nn.Conv(10, (3,), feature_group_count=5),
    (2, 6, 5),
    {'kernel': LeafKind('kernel', (2,)), 'bias': BIAS},
  ),
  'conv, local': (
    nn.ConvLocal(4, (3,), padding='VALID'),
    (2, 8, 5),
    {'kernel': LeafKind('kernel', (0, 2)), 'bias': LeafKind('bias', (0, 1))},
  ),
  'conv, transpose': (
    nn.ConvTranspose(4, (3,)),
    (2, 8, 5),
    {'kernel': LeafKind('kernel', (2,)), 'bias': BIAS},
  ),
  'conv, transposed kernel': (
    nn.ConvTranspose(4, (3,), transpose_kernel=True),
    (2, 8, 5),
    {'kernel': LeafKind('kernel', (1,)), 'bias': BIAS},
  ),
  'batch norm': (nn.BatchNorm(True), (2, 5), {'scale': SCALE, 'bias': BIAS}),
  'layer norm of two axes': (
    nn.LayerNorm(reduction_axes=(-2, -1), feature_axes=(-2, -1)),
    (2, 3, 5),
    {'scale': LeafKind('scale', (0, 1)), 'bias': LeafKind('bias', (0, 1))},
  ),
  'group norm': (nn.GroupNorm(2), (2, 6), {'scale': SCALE, 'bias': BIAS}),
  'instance norm': (nn.InstanceNorm(), (2, 3, 5), {'scale': SCALE, 'bias': BIAS}),
  'rms norm': (nn.RMSNorm(), (2, 5), {'scale': SCALE}),
  'spectral norm': (
    Around(lambda _, x: nn.SpectralNorm(nn.DenseGeneral((3, 4), name='d'), name='s')(x, update_stats=False)),
    (2, 5),
    {'d': QUERY},
  ),
  'weight norm': (
    Around(lambda _, x: nn.WeightNorm(nn.Dense(3, name='d'), name='s')(x)),
    (2, 5),
    {'d': {'kernel': DENSE, 'bias': BIAS}, 's': {'d/kernel/scale': SCALE}},
  ),
  'attention': (nn.MultiHeadDotProductAttention(2), (2, 3, 8), ATTENTION),
  'attention, other name': (nn.MultiHeadAttention(2), (2, 3, 8), ATTENTION),
  'attention, no bias': (
    nn.MultiHeadAttention(2, use_bias=False),
    (2, 3, 8),
    {name: {'kernel': leaves['kernel']} for name, leaves in ATTENTION.items()},
  ),
  'attention, normalised keys': (
    nn.MultiHeadAttention(2, normalize_qk=True),
    (2, 3, 8),
    KEPT | {'query_ln': {'scale': SCALE}, 'key_ln': {'scale': SCALE}},
  ),
  'attention without softmax': (nn.MultiHeadAttention(2, attention_fn=linear_attention), (2, 3, 8), KEPT),
  'attention, rematerialised': (nn.remat(nn.MultiHeadAttention)(2), (2, 3, 8), ATTENTION),
  'attention, jitted': (nn.jit(nn.MultiHeadAttention)(2), (2, 3, 8), ATTENTION),
  'lstm': (
    nn.RNN(nn.OptimizedLSTMCell(4)),
    (2, 3, 5),
    {
      'cell': {f'i{gate}': {'kernel': DENSE} for gate in 'ifgo'}
      | {f'h{gate}': {'kernel': DENSE, 'bias': BIAS} for gate in 'ifgo'}
    },
  ),
  'gru': (
    nn.RNN(nn.GRUCell(4)),
    (2, 3, 5),
    {
      'cell': {f'i{gate}': {'kernel': DENSE, 'bias': BIAS} for gate in 'rzn'}
      | {f'h{gate}': {'kernel': DENSE} for gate in 'rz'}
      | {'hn': {'kernel': DENSE, 'bias': BIAS}}
    },
  ),
  'arrays of its own': (
    Around(own_params),
    (4, 5),
    {
      'my_kernel': DENSE,
      'bias': BIAS,
      'token_embedding': LeafKind('embedding', (0,)),
      'kernel': LeafKind('other', ()),
      'attention_bias': LeafKind('other', ()),
      'w': LeafKind('other', ()),
    },
  ),
  'no parameters': (nn.Dropout(0.5, deterministic=True), (2, 5), {}),
}


@pytest.mark.parametrize('name', LINEN)
def test_linen_layers(name):
  module, shape, expected = LINEN[name]
  assert linen_kinds(module, *shape) == expected


class Block(nn.Module):
  width: int

  @nn.compact
  def __call__(self, x, _=None):
    return x + nn.Dense(self.width, name='d')(nn.LayerNorm(name='n')(x)), None


def scanned(length, axis=0, block=Block):
  def apply(_, x):
    width = x.shape[-1]
    layers = nn.scan(
      block, variable_axes={'params': axis}, split_rngs={'params': True}, length=length, metadata_params={}
    )
    return layers(width, name='s')(x, None)[0]

  return Around(apply)


def test_scanned_and_mapped_copies():
  stacked = {'d': {'kernel': STACKED_DENSE, 'bias': STACKED_BIAS}}
  norm = {'n': {'scale': LeafKind('scale', (1,), (0,)), 'bias': STACKED_BIAS}}
  assert linen_kinds(scanned(3), 2, 5) == {'s': stacked | norm}
  assert linen_kinds(scanned(3, block=nn.remat(Block)), 2, 5) == {'s': stacked | norm}

  def heads(_, x):
    mapped = nn.vmap(
      nn.MultiHeadAttention,
      variable_axes={'params': 1},
      split_rngs={'params': True},
      in_axes=None,
      axis_size=7,
    )
    return mapped(2, name='v')(x)

  found = linen_kinds(Around(heads), 2, 3, 8)['v']
  assert found['query']['kernel'] == LeafKind('kernel', (2, 3), (1,))
  assert found['key']['bias'] == LeafKind('bias', (0, 2), (1,), inert=True)
  assert found['out']['kernel'] == LeafKind('kernel', (3,), (1,))


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_a_stack_whose_lengths_are_all_equal(axis):
  # [4, 4, 4] for a Dense layer of [4, 4]: shapes do not tell which axis the scan has put in.
  class Plain(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x, _=None):
      return nn.Dense(self.width, use_bias=False, name='d')(x), None

  outputs = {0: 2, 1: 2, 2: 1}[axis]
  expected = {'s': {'d': {'kernel': LeafKind('kernel', (outputs,), (axis,))}}}
  assert linen_kinds(scanned(4, axis, Plain), 2, 4) == expected


def test_a_shared_scope_and_tied_embeddings():
  class Tied(nn.Module):
    def setup(self):
      self.embed = nn.Embed(7, 5)
      self.inner = nn.DenseGeneral((5,))
      nn.share_scope(self, self.inner)

    def __call__(self, ids):
      return self.embed.attend(self.inner(self.embed(ids)))

  expected = {'embed': {'embedding': LeafKind('embedding', (0,))}, 'kernel': DENSE, 'bias': BIAS}
  assert linen_kinds(Tied(), 2, 3, dtype=jnp.int32) == expected


def test_own_models():
  loss = optax.softmax_cross_entropy_with_integer_labels
  dense, norm = {'kernel': DENSE, 'bias': BIAS}, {'scale': SCALE, 'bias': BIAS}
  images = np.zeros((4, 4, 4)), np.arange(4) % 3
  mlp = problems.from_linen(problems.MLP((8,), 3, batch_norm=True), images, loss)
  assert mlp.kinds() == {'Dense_0': dense, 'BatchNorm_0': norm, 'Dense_1': dense}
  cnn = problems.from_linen(problems.CNN((4,), 3), images, loss)
  assert cnn.kinds() == {'PatchConv_0': {'Dense_0': dense}, 'Dense_0': dense}
  ids = np.zeros((4, 6), int)
  table = LeafKind('embedding', (0,))
  transformer = problems.from_linen(
    problems.Transformer(5, 8, num_layers=1, num_heads=2, max_context=6),
    (ids, ids),
    lambda o, t: loss(o, t).mean(-1),
  )
  found = transformer.kinds()
  assert found.pop('MultiHeadDotProductAttention_0') == ATTENTION
  assert found.pop('Embed_0') == {'embedding': table}
  assert found.pop('positions') == table
  assert set(found) == {'LayerNorm_0', 'LayerNorm_1', 'LayerNorm_2', 'Dense_0', 'Dense_1'}
  assert found['LayerNorm_1'] == norm
  assert found['Dense_1'] == dense
  gru = problems.from_linen(problems.GRU(5, 8), (ids, ids), lambda o, t: loss(o, t).mean(-1)).kinds()
  assert gru['GRUCell_0']['hn'] == dense
  assert gru['Embed_0'] == {'embedding': table}


def test_kinds_are_like_the_parameters_and_compile_once():
  loss = optax.softmax_cross_entropy_with_integer_labels
  data = np.eye(4), np.arange(4) % 3
  made = [problems.from_linen(problems.MLP((8,), 3), data, loss) for _ in range(2)]
  assert made[0].kinds == made[1].kinds
  assert hash(made[0].kinds) == hash(made[1].kinds)
  params = jax.eval_shape(made[0].init, jax.random.key(0))[0]
  assert jax.tree.structure(params) == jax.tree.structure(made[0].kinds())
  # A trace that JAX has kept, of a module initialised before, calls no module any more.
  jax.jit(made[0].init)(jax.random.key(0))
  assert made[0].kinds() == made[1].kinds()


def test_boxes_of_metadata_are_seen_through():
  init = nn.with_partitioning(nn.initializers.ones, (None, 'model'))
  found = linen_kinds(nn.Dense(3, kernel_init=init), 2, 5)
  assert jax.tree.leaves(found) == [BIAS, DENSE]


def test_a_penalty_depends_on_the_bias_of_keys():
  ids = np.zeros((4, 6), int)
  loss = lambda outputs, targets: outputs.mean(axis=(-2, -1))
  problem = problems.from_linen(problems.Transformer(5, 8, 1, 2, 6), (ids, ids), loss)
  inert = [leaf.inert for leaf in jax.tree.leaves(problem.kinds())]
  assert sum(inert) == 1

  def num_inert(**options):
    return sum(leaf.inert for leaf in jax.tree.leaves(problems.with_penalty(problem, **options).kinds()))

  assert num_inert(l2=0.1) == 0
  assert num_inert(l1=0.1, where=lambda path, leaf: leaf.ndim > 1) == 0  # it has two axes
  assert num_inert(l2=0.1, where=problems.not_biases) == 1
  assert num_inert() == 1


def test_the_bias_of_keys_does_nothing_exactly_where_kinds_say_so():
  # A shift of all keys moves all scores of a query alike. 1e-5: sixteen roundings of float32 about values of order 1.
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 8)), jnp.float32)
  for name in ('attention', 'attention, normalised keys', 'attention without softmax'):
    module = LINEN[name][0]
    params = jax.jit(module.init)(jax.random.key(0), x)['params']
    before = module.apply({'params': params}, x)
    params['key']['bias'] = params['key']['bias'] + jnp.arange(8.0).reshape(2, 4)
    moved = np.abs(module.apply({'params': params}, x) - before).max()
    assert (moved < 1e-5) == linen_kinds(module, 2, 3, 8)['key']['bias'].inert, name


def test_rules():
  assert einsum_outputs('...a,...ab->...b', 2) == (1,)
  assert einsum_outputs('a...,a...->...', 3) == (1, 2)
  assert einsum_outputs('nha, h b a -> nhb', 3) == (0, 1)
  assert stacks((4,), (3, 4)) == [(0,)]
  assert stacks((4,), (4, 4)) == [(0,), (1,)]
  assert stacks((4, 5), (3, 2, 4, 5)) == [(0, 1)]
  assert stacks((4, 5), (5, 4)) == stacks((4, 5), (4,)) == []
