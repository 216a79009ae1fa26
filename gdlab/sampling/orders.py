"""Epoch samplers with orders that are neither the data's own nor uniform and independent.

Batches and epochs are as in `gdlab.sampling.epochs`: consecutive slices of an order, every example once per epoch.
"""

import functools

import jax
import jax.numpy as jnp

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count
from gdlab.core.types import Array, Key, Sampler
from gdlab.sampling.epochs import in_epochs, permutation, reordered


@checked('batch_size')
def paired_reversal(batch_size: int, drop_remainder: bool = False) -> Sampler:
  r"""Pairs of epochs: one in a fresh uniform order, the next in the reverse of it.

  The deviation of an epoch from a step along the mean gradient is, to second order in the rate $\alpha$, a sum over the
  pairs of examples j < k in the epoch's order. The reversed epoch contributes the sum over k < j, and both together do
  not depend on the order: the effect of the order on a pair of epochs is $O(\alpha^3)$.

  The order of examples is reversed; if B does not divide N, the second epoch has other batches.

  Args:
    batch_size: B, a whole number in [1, N].
    drop_remainder: leave out the N mod B examples at the end of an epoch that do not fill a batch.

  Returns:
    A Sampler.

  Raises:
    InputError: if `batch_size` is not a whole number >= 1; from `init`, if it is above N.

  Source: arXiv 2604.00260; Rajput, Lee and Papailiopoulos 2022, Permutation-based SGD: is random optimal?, arXiv
  2102.09718 (FlipFlop).
  """
  return in_epochs(batch_size, drop_remainder, lambda epoch: epoch >= 0, _there_and_back)


@checked('batch_size', 'block_size')
def block_shuffle(batch_size: int, block_size: int, drop_remainder: bool = False) -> Sampler:
  """Blocks of consecutive examples, each read in order; the order of blocks is reshuffled every epoch.

  This is what a data loader does that reads whole files in random order. The last block is shorter if `block_size` does
  not divide N. With a block size of 1 it is `reshuffle`, with N `sequential`.

  Args:
    batch_size: B, a whole number in [1, N].
    block_size: examples per block, a whole number in [1, N].
    drop_remainder: leave out the N mod B examples at the end of an epoch that do not fill a batch.

  Returns:
    A Sampler.

  Raises:
    InputError: if an argument is out of range; from `init`, if one is above N.

  Source: arXiv 2604.00260 (block reshuffling).
  """
  block_size = check_count('block_size', block_size)
  sampler = in_epochs(
    batch_size,
    drop_remainder,
    lambda epoch: epoch >= 0,
    functools.partial(_by_blocks, block_size=block_size),
  )

  def init(key: Key, num_examples: int):
    state = sampler.init(key, num_examples)
    if block_size > num_examples:
      raise InputError(
        f'block_size must be at most the number of examples, in [1, {num_examples}], got {block_size}'
      )
    return state

  return sampler._replace(init=init)


@checked('batch_size', 'buffer_size')
def shuffle_buffer(batch_size: int, buffer_size: int, drop_remainder: bool = False) -> Sampler:
  """A shuffle through a buffer, as by `tf.data.Dataset.shuffle`, repeated in every epoch.

  The buffer first holds the first M examples. Each turn draws one of it uniformly and replaces it with the next example
  of the data, if there is one. Example i thus comes at position i - M + 1 or later: with a small M, sorted data stay
  nearly sorted. M = 1 is `sequential`, M >= N a uniform permutation.

  The order of an epoch is computed at its beginning, by N sequential exchanges.

  Args:
    batch_size: B, a whole number in [1, N].
    buffer_size: M, a whole number >= 1.
    drop_remainder: leave out the N mod B examples at the end of an epoch that do not fill a batch.

  Returns:
    A Sampler.

  Raises:
    InputError: if an argument is out of range; from `init`, if `batch_size` is above N.

  Source: the documentation of `tf.data.Dataset.shuffle`, TensorFlow 2.
  """
  buffer_size = check_count('buffer_size', buffer_size)
  reorder = functools.partial(_through_buffer, buffer_size=buffer_size)
  return in_epochs(batch_size, drop_remainder, lambda epoch: epoch >= 0, reorder)


def _there_and_back(order: Array, key: Key, epoch: Array) -> Array:
  there = reordered(order, key, epoch // 2)
  return jnp.where(epoch % 2 == 0, there, there[::-1])


def _by_blocks(order: Array, key: Key, epoch: Array, *, block_size: int) -> Array:
  count = order.shape[0]
  num_blocks = -(-count // block_size)
  blocks = permutation(jax.random.fold_in(key, epoch), num_blocks).astype(order.dtype)
  # Slots of whole blocks; those that the short block lacks are passed over.
  lacking = num_blocks * block_size - count
  short_ends = (jnp.argmax(blocks == num_blocks - 1) + 1) * block_size - lacking
  place = jnp.arange(count, dtype=order.dtype)
  slot = jnp.where(place < short_ends, place, place + lacking)
  return blocks[slot // block_size] * block_size + slot % block_size


def _through_buffer(order: Array, key: Key, epoch: Array, *, buffer_size: int) -> Array:
  # The buffer lies in the places [t, t + M) of the order itself: what is drawn is exchanged with what is in place t,
  # and the next of the data joins at the end. That is Fisher and Yates' shuffle with a window.
  count = order.shape[0]
  place = jnp.arange(count, dtype=order.dtype)
  ends = jnp.minimum(place + min(buffer_size, count), count)
  drawn = jax.random.randint(jax.random.fold_in(key, epoch), (count,), place, ends, order.dtype)

  def exchange(t: Array, order: Array) -> Array:
    chosen = drawn[t]
    first, other = order[t], order[chosen]
    return order.at[chosen].set(first).at[t].set(other)

  return jax.lax.fori_loop(0, count, exchange, place)
