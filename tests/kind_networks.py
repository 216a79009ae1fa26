"""Problems of networks whose arrays rank does not tell apart, in Linen and NNX, for tests of what goes by kind."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import nnx

from gdlab import problems

RNG = np.random.default_rng(5)
SEQUENCES = RNG.normal(size=(12, 3, 8)), RNG.integers(0, 4, 12)
IDS = RNG.integers(0, 7, (12, 3)), RNG.integers(0, 4, 12)
loss = optax.softmax_cross_entropy_with_integer_labels


class Block(nn.Module):
  """Attention with a residual connection, for `nn.scan`."""

  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, _=None):
    attention = nn.MultiHeadAttention(
      2, bias_init=nn.initializers.constant(0.001), param_dtype=self.dtype, name='attention'
    )
    return x + attention(nn.GroupNorm(2, param_dtype=self.dtype, name='norm')(x)), None


class Linen(nn.Module):
  """Three such blocks, scanned or one by one, and a Dense layer on their mean; behind an embedding for ids."""

  scanned: bool = False
  embedded: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x):
    if self.embedded:
      x = nn.Embed(7, 8, param_dtype=self.dtype, name='embed')(x)
    if self.scanned:
      x, _ = nn.scan(Block, variable_axes={'params': 0}, split_rngs={'params': True}, length=3)(
        self.dtype, name='blocks'
      )(x, None)
    else:
      for number in range(3):
        x, _ = Block(self.dtype, name=f'block_{number}')(x)
    return nn.Dense(4, param_dtype=self.dtype, name='out')(x.mean(axis=1))


class Nnx(nnx.Module):
  """The same from NNX, with a LoRA layer at its end."""

  def __init__(self, rngs, stacked=False):
    def make(rngs):
      return nnx.MultiHeadAttention(
        2, 8, decode=False, bias_init=nnx.initializers.constant(0.001), keep_rngs=False, rngs=rngs
      )

    if stacked:
      self.blocks = nnx.split_rngs(splits=3)(nnx.vmap(make))(rngs)
    else:
      self.blocks = nnx.List([make(rngs) for _ in range(3)])
    self.stacked = stacked
    self.norm = nnx.InstanceNorm(8, rngs=rngs)
    ones = nnx.initializers.ones
    self.out = nnx.LoRALinear(8, 4, lora_rank=2, b_initializer=ones, rngs=rngs)

  def __call__(self, x):
    if self.stacked:
      x = nnx.scan(lambda x, block: x + block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.blocks)
    else:
      for block in self.blocks:
        x = x + block(x)
    return self.out(self.norm(x).mean(axis=1))


@functools.cache
def linen(**options):
  """The problem of a Linen network, and its parameters."""
  problem = problems.from_linen(Linen(**options), IDS if options.get('embedded') else SEQUENCES, loss)
  return problem, jax.jit(problem.init)(jax.random.key(0))[0]


@functools.cache
def of_nnx(stacked=False):
  """The problem of the NNX network, and its parameters."""
  problem = problems.from_nnx(functools.partial(Nnx, stacked=stacked), SEQUENCES, loss)
  return problem, jax.jit(problem.init)(jax.random.key(0))[0]


def copy_of(stacked, number):
  """One of the copies in a stack."""
  return jax.tree.map(lambda leaf: leaf[number], stacked)


def unstacked(params):
  """The parameters of the network with its blocks one by one, from those of the scanned one."""
  blocks = {f'block_{number}': copy_of(params['blocks'], number) for number in range(3)}
  return {name: leaves for name, leaves in params.items() if name != 'blocks'} | blocks


def attention_matrices(blocks):
  """The four kernels of every attention layer as NumPy matrices."""
  return [
    np.asarray(block[name]['kernel'], np.float64).reshape((-1, 8) if name == 'out' else (8, -1))
    for block in blocks
    for name in ('query', 'key', 'value', 'out')
  ]


def linen_matrices(params):
  """All kernels of a Linen network whose blocks are one by one."""
  blocks = [params[f'block_{number}']['attention'] for number in range(3)]
  return [*attention_matrices(blocks), np.asarray(params['out']['kernel'], np.float64)]
