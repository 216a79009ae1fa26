"""Samplers that pass over the data in epochs: every example once per epoch, in some order.

An epoch has ceil(N/B) updates. If B does not divide N, the last batch is padded to B slots: its r real examples have
weight 1/r, so that each update uses a mean, and its padding has weight 0.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdlab.core.arguments import checked
from gdlab.core.branching import cond_any
from gdlab.core.errors import check_count
from gdlab.core.types import Array, Batch, Key, Sampler
from gdlab.sampling.independent import check_batch_size, equal_weights

LARGEST_NETWORK = 2**14  # words that a network sorts; beyond it XLA's sort is as fast


class EpochState(NamedTuple):
  """State of the epoch samplers: epoch e shuffles with fold_in(key, e)."""

  key: Key
  step: Array  # int32[], updates so far
  order: Array  # int32[N], the order of the current epoch


@checked('batch_size')
def reshuffle(batch_size: int, drop_remainder: bool = False) -> Sampler:
  """Random reshuffling: a fresh uniform permutation at the start of every epoch.

  Within an epoch draws are without replacement, so every example is seen exactly once (at most once with
  `drop_remainder`). Also under vmap the permutation is computed once per epoch, not at every step.

  Args:
    batch_size: B, a whole number in [1, N].
    drop_remainder: leave out the N mod B examples that do not fill a batch, other ones in every epoch.

  Returns:
    A Sampler.

  Raises:
    InputError: if `batch_size` is not a whole number >= 1; from `init`, if it is above N.

  Source: Mishchenko, Khaled and Richtarik 2020, arXiv 2006.05988.
  """
  return in_epochs(batch_size, drop_remainder, lambda epoch: epoch >= 0)


@checked('batch_size')
def shuffle_once(batch_size: int, drop_remainder: bool = False) -> Sampler:
  """One uniform permutation, drawn before the first update and kept for every epoch.

  Arguments, errors and source as for `reshuffle`; with `drop_remainder` the same examples are left out in
  every epoch.
  """
  return in_epochs(batch_size, drop_remainder, lambda epoch: epoch == 0)


@checked('batch_size')
def sequential(batch_size: int, drop_remainder: bool = False) -> Sampler:
  """The data's own order in every epoch: the incremental gradient method.

  Arguments and errors as for `reshuffle`; the key given to `init` is not used.

  Source: Bertsekas 2011, Incremental gradient, subgradient, and proximal methods, arXiv 1507.01030.
  """
  return in_epochs(batch_size, drop_remainder, None)


@checked
def single() -> Sampler:
  """Stochastic gradient descent proper: one example at every update, reshuffled every epoch.

  The same as `reshuffle(1)`, source as for `reshuffle`. For independent draws use `with_replacement(1)`.
  """
  return reshuffle(1)


def in_epochs(
  batch_size: int,
  drop_remainder: bool,
  shuffles: Callable[[Array], Array] | None,
  reorder: Callable[[Array, Key, Array], Array] | None = None,
) -> Sampler:
  """The common form of the epoch samplers.

  Args:
    batch_size: B.
    drop_remainder: leave out the examples that do not fill a batch.
    shuffles: `(epoch) -> bool[]`, whether that epoch has a new order; None if no epoch has.
    reorder: `(order, key, epoch) -> int32[N]`, that order; `reordered` by default. Of the previous order only shape and
      dtype matter.
  """
  reorder = reordered if reorder is None else reorder
  batch_size = check_count('batch_size', batch_size)

  def updates_per_epoch(num_examples: int) -> int:
    return num_examples // batch_size if drop_remainder else -(-num_examples // batch_size)

  def init(key: Key, num_examples: int) -> EpochState:
    check_batch_size(batch_size, num_examples)
    return EpochState(key, jnp.zeros((), jnp.int32), jnp.arange(num_examples, dtype=jnp.int32))

  def sample(state: EpochState) -> tuple[Batch, EpochState]:
    epoch, update = jnp.divmod(state.step, updates_per_epoch(state.order.shape[0]))
    order = state.order
    if shuffles is not None:
      # A clone: the key-reuse checker counts an operand of `cond` as consumed; the fold is inside the branch.
      order = cond_any((update == 0) & shuffles(epoch), reorder, order, jax.random.clone(state.key), epoch)
    return next_slice(order, update, batch_size), EpochState(state.key, state.step + 1, order)

  def sizes(num_examples: int) -> tuple[int, ...]:
    return (batch_size,) if drop_remainder else slice_sizes(batch_size, num_examples)

  return Sampler(init, sample, updates_per_epoch, sizes=sizes)


def next_slice(order: Array, update: Array, batch_size: int) -> Batch:
  """The batch of the epoch's update number `update`, padded at the end of the order.

  Args:
    order: int32[N].
    update: int32[], in [0, ceil(N/B)).
    batch_size: B.
  """
  num_examples = order.shape[0]
  slots = update * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
  # Padding repeats the last example: some valid index is needed, and its weight is 0.
  indices = order[jnp.minimum(slots, num_examples - 1)]
  last_batch_size = num_examples % batch_size or batch_size
  full, last = equal_weights(batch_size), equal_weights(last_batch_size, batch_size)
  weights = jnp.where(slots[-1] < num_examples, full, jnp.where(slots < num_examples, last, 0))
  return Batch(indices, weights)


def slice_sizes(batch_size: int, num_examples: int) -> tuple[int, ...]:
  """The numbers of real examples in the batches of an epoch, see `next_slice`."""
  return tuple(sorted({batch_size, num_examples % batch_size or batch_size}))


def reordered(order: Array, key: Key, epoch: Array) -> Array:
  """The order of epoch number `epoch`: a uniform permutation of all examples, int32[N], whatever `order` was.

  It does not depend on earlier epochs, so epoch e can be computed without them.
  """
  return permutation(jax.random.fold_in(key, epoch), order.shape[0]).astype(order.dtype)


def permutation(key: Key, count: int) -> Array:
  """A uniform random permutation of 0 ... count-1, uint32[count], three times as fast on a CPU as JAX's.

  Both sort by random bits. Here the bits share a word with the index, so that one array is sorted instead of a pair.
  Indices with equal bits keep their order; there are enough rounds to make this rarer than once in `count` draws, as in
  JAX's own `_shuffle`.

  Args:
    key: randomness.
    count: a whole number >= 1.
  """
  place_bits = max(1, (count - 1).bit_length())
  random_bits = 32 - place_bits
  num_rounds = max(1, math.ceil(3 * math.log2(count) / random_bits))
  places = jnp.arange(count, dtype=jnp.uint32)
  order = places
  for number in range(num_rounds):
    drawn = jax.random.bits(jax.random.fold_in(key, number), (count,), jnp.uint32)
    words = sorted_words(drawn << place_bits | places)
    order = order[words & (2**place_bits - 1)]
  return order


def sorted_words(words: Array) -> Array:
  """Words in ascending order, uint32[N].

  On a CPU by a bitonic network: half the time of XLA's sort for 1,500 words, and unlike a sort it does not prevent XLA
  from compiling the surrounding loop as one function. Source: Batcher 1968, Sorting networks and their applications.
  """
  count = words.shape[0]
  if jax.default_backend() != 'cpu' or not 1 < count <= LARGEST_NETWORK:
    return jax.lax.sort(words, is_stable=False)
  size = 2 ** (count - 1).bit_length()
  place = jnp.arange(size)

  def stage(carried: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    # Sorted runs, up and down in turn, are merged into runs twice as long by comparing places ever less far apart.
    run, apart, words = carried
    twice = jnp.concatenate([words, words])
    above, below = (jax.lax.dynamic_slice_in_dim(twice, first, size) for first in (apart, size - apart))
    first_of_pair, rising = place & apart == 0, place & run == 0
    other = jnp.where(first_of_pair, above, below)
    words = jnp.where(first_of_pair == rising, jnp.minimum(words, other), jnp.maximum(words, other))
    merged = apart == 1
    return jnp.where(merged, 2 * run, run), jnp.where(merged, run, apart // 2), words

  padded = jnp.concatenate([words, jnp.full(size - count, 2**32 - 1, words.dtype)])
  # Numbers of the loop's own: an array of stages would be a constant, which `cond_any` cannot take under vmap.
  first = jnp.int32(2), jnp.int32(1), padded
  return jax.lax.while_loop(lambda carried: carried[0] <= size, stage, first)[2][:count]
