"""The permutation is paid once per epoch, also under vmap: held by what is computed where, not by timing."""

import jax
import pytest
from drawing import keys

from gdlab import sampling


def primitives(jaxpr, inside=False):
  """(name, whether inside a branch of a conditional) of every operation of a program, at any depth."""
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    yield name, inside
    for value in jax.tree.leaves(equation.params, is_leaf=lambda leaf: hasattr(leaf, 'eqns')):
      value = getattr(value, 'jaxpr', value)
      if hasattr(value, 'eqns'):
        yield from primitives(value, inside or name == 'cond')


# What permutations are made of, and the rest of a sampler is not.
PERMUTES = ('random_bits', 'sort', 'scan', 'while')


def permutes(function, state):
  """For every operation of a permutation, whether it is in a branch."""
  return [inside for name, inside in primitives(jax.make_jaxpr(function)(state).jaxpr) if name in PERMUTES]


def lanes(sampler, *sizes):
  """A state with leading axes `sizes`."""
  states = keys(3 * 2).reshape(3, 2) if len(sizes) == 2 else keys(3)
  init = lambda key: sampler.init(key, 7)
  for _ in sizes:
    init = jax.vmap(init)
  return init(states)


MAKERS = [
  sampling.reshuffle,
  sampling.shuffle_once,
  sampling.paired_reversal,
  lambda size: sampling.block_shuffle(size, 2),
  lambda size: sampling.shuffle_buffer(size, 4),
  lambda size: sampling.batch_size_schedule(size, lambda step: 1 + step % size),
]
NAMES = [
  'reshuffle',
  'shuffle_once',
  'paired_reversal',
  'block_shuffle',
  'shuffle_buffer',
  'batch_size_schedule',
]


@pytest.mark.parametrize('make', MAKERS, ids=NAMES)
@pytest.mark.parametrize('depth', [1, 2])
def test_every_permutation_of_a_vmapped_sampler_is_in_a_branch(make, depth):
  sampler = make(3)
  function = sampler.sample
  for _ in range(depth):
    function = jax.vmap(function)
  found = permutes(function, lanes(sampler, *(3, 2)[:depth]))
  assert found, 'no permutation in the program at all'
  assert all(found)


def test_a_plain_conditional_would_be_found_out():
  def sample(state):
    permuted = lambda order: jax.random.permutation(state.key, 7).astype(order.dtype)
    return jax.lax.cond(state.step % 3 == 0, permuted, lambda order: order, state.order)

  with jax.debug_key_reuse(False):  # a select between lanes looks like a second use to the checker
    assert not all(permutes(jax.vmap(sample), lanes(sampling.reshuffle(3), 3)))


def test_sequential_never_permutes():
  sampler = sampling.sequential(3)
  assert permutes(jax.vmap(sampler.sample), lanes(sampler, 3)) == []
