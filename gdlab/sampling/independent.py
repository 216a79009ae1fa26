"""Samplers without memory: the whole data set, or draws with replacement."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdlab.core.arguments import checked
from gdlab.core.branching import cond_any
from gdlab.core.errors import InputError, check_count
from gdlab.core.types import Array, Batch, Key, Sampler

DRAWN_TOGETHER = 256  # draws; random numbers cost a small update as much as its arithmetic if made one by one


def check_batch_size(batch_size: int, num_examples: int, name: str = 'batch_size') -> None:
  """Raises InputError unless batch_size <= num_examples and num_examples >= 1."""
  check_count('num_examples', num_examples)
  if batch_size > num_examples:
    raise InputError(f'{name} must be a whole number in [1, {num_examples}] (the examples), got {batch_size}')


def equal_weights(count: int, slots: int | None = None) -> Array:
  """Weights 1/count for `slots` (by default `count`) slots, in JAX's default float, whatever the model's dtype."""
  return jnp.full(slots or count, 1 / count, jnp.result_type(float))


class FullBatchState(NamedTuple):
  """State of `full_batch`: the batch it always returns."""

  batch: Batch


@checked
def full_batch() -> Sampler:
  r"""Every example at every update, each with weight $1/N$: batch gradient descent.

  Returns:
    A Sampler whose batches are `indices = 0 ... N-1` and `weights = 1/N`.

  Source: Cauchy 1847, Méthode générale pour la résolution des systèmes d'équations simultanées.
  """

  def init(key: Key, num_examples: int) -> FullBatchState:
    del key
    check_count('num_examples', num_examples)
    indices = jnp.arange(num_examples, dtype=jnp.int32)
    return FullBatchState(Batch(indices, equal_weights(num_examples)))

  def sample(state: FullBatchState) -> tuple[Batch, FullBatchState]:
    return state.batch, state

  return Sampler(
    init, sample, updates_per_epoch=lambda num_examples: 1, sizes=lambda num_examples: (num_examples,)
  )


class WithReplacementState(NamedTuple):
  """State of `with_replacement`: the draws of K updates are made together, the k-th with fold_in(key, k)."""

  key: Key
  step: Array  # int32[]
  num_examples: Array  # int32[]
  drawn: Array  # int32[K, B], for this update and those around it


@checked('batch_size')
def with_replacement(batch_size: int) -> Sampler:
  r"""B independent uniform draws at every update, each with weight $1/B$.

  The estimate is unbiased and its variance is $\operatorname{tr}\Sigma / B$ for per-example gradients of
  covariance $\Sigma$. An epoch is ceil(N/B) updates by convention; they do not see every example.

  Args:
    batch_size: B, a whole number in [1, N].

  Returns:
    A Sampler.

  Raises:
    InputError: if `batch_size` is not a whole number >= 1; from `init`, if it is above N.

  Source: Robbins and Monro 1951, A stochastic approximation method.
  """
  batch_size = check_count('batch_size', batch_size)
  together = max(1, DRAWN_TOGETHER // batch_size)

  def init(key: Key, num_examples: int) -> WithReplacementState:
    check_batch_size(batch_size, num_examples)
    drawn = jnp.zeros((together, batch_size), jnp.int32)
    return WithReplacementState(key, jnp.zeros((), jnp.int32), jnp.asarray(num_examples, jnp.int32), drawn)

  def sample(state: WithReplacementState) -> tuple[Batch, WithReplacementState]:
    number, place = jnp.divmod(state.step, together)
    # A clone: the key-reuse checker counts an operand of `cond` as consumed; the fold is inside the branch.
    drawn = cond_any(
      place == 0, uniform_draws, state.drawn, jax.random.clone(state.key), number, state.num_examples
    )
    batch = Batch(drawn[place], equal_weights(batch_size))
    return batch, state._replace(step=state.step + 1, drawn=drawn)

  return Sampler(
    init,
    sample,
    updates_per_epoch=lambda num_examples: -(-num_examples // batch_size),
    sizes=lambda num_examples: (batch_size,),
  )


def uniform_draws(drawn: Array, key: Key, number: Array, num_examples: Array | int) -> Array:
  """Independent uniform draws in [0, num_examples), shape and dtype as `drawn`, for block number `number`."""
  return jax.random.randint(jax.random.fold_in(key, number), drawn.shape, 0, num_examples, drawn.dtype)
