"""Poisson sampling: every example is in the batch independently of the others."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from scipy import stats

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real, shown
from gdlab.core.types import Array, Batch, Key, Sampler
from gdlab.sampling.independent import check_batch_size

MAX_OVERFLOW = 1e-6  # how often more examples may be drawn than there are slots


class PoissonState(NamedTuple):
  """State of `poisson`: update t draws with fold_in(key, t)."""

  key: Key
  step: Array  # int32[]
  examples: Array  # int32[N], 0 ... N-1


@checked('rate', 'max_batch')
def poisson(rate: Any, max_batch: int) -> Sampler:
  r"""Each example independently with probability q, with weight $1/(Nq)$: batches of random size, also empty ones.

  The sampling that accountants of differential privacy assume. The estimate is unbiased (Horvitz-Thompson), with
  variance $\frac{1-q}{q N^2} \sum_i \lVert g_i \rVert^2$: this is not 0 even if all gradients are equal, because the
  size of the batch is random. In an empty batch every slot is padding and the gradient is 0.

  Batches have `max_batch` slots, padded with weight 0. If K > max_batch examples are drawn, max_batch of them are kept,
  each example with the same probability, with weights K/max_batch times as large: the estimate stays unbiased. A rate
  with which this happens in more than one in a million updates is refused, unless it is traced. A draw costs O(N).
  An epoch is ceil(1/q) updates by convention.

  Args:
    rate: q, in (0, 1]; may be traced.
    max_batch: slots of a batch, a whole number in [1, N].

  Returns:
    A Sampler.

  Raises:
    InputError: if an argument is out of range; from `init`, if `max_batch` is above N or too small for the rate; from
      `updates_per_epoch`, if the rate is traced.

  Source: D. G. Horvitz and D. J. Thompson, "A generalization of sampling without replacement from a finite
  universe", JASA 47, 1952; M. Abadi et al., "Deep learning with differential privacy", 2016, arXiv 1607.00133.
  """
  max_batch = check_count('max_batch', max_batch)
  traced = isinstance(rate, jax.core.Tracer)
  check_real('rate', rate, above=0, maximum=1)

  def updates_per_epoch(num_examples: int) -> int:
    del num_examples
    if traced:
      raise InputError(f'rate must be a known number for updates_per_epoch, got {shown(rate)}')
    return math.ceil(round(1 / float(rate), 6))  # 1 / (1 / n) may be just above n

  def init(key: Key, num_examples: int) -> PoissonState:
    check_batch_size(max_batch, num_examples, 'max_batch')
    if not traced:
      _check_room(float(rate), max_batch, num_examples)
    return PoissonState(key, jnp.zeros((), jnp.int32), jnp.arange(num_examples, dtype=jnp.int32))

  def sample(state: PoissonState) -> tuple[Batch, PoissonState]:
    num_examples = state.examples.shape[0]
    probability = jnp.asarray(rate, jnp.result_type(float))
    coin_key, start_key = jax.random.split(jax.random.fold_in(state.key, state.step))
    # The coins belong to places; a random start says which example has the first, so that a surplus, which is cut
    # off at the last places, falls on all examples alike.
    included = jax.random.bernoulli(coin_key, probability, (num_examples,), mode='high')
    start = jax.random.randint(start_key, (), 0, num_examples, jnp.int32)
    places = jnp.flatnonzero(included, size=max_batch, fill_value=0)
    indices = state.examples[(places + start) % num_examples]
    count = jnp.sum(included, dtype=jnp.int32)
    weight = jnp.maximum(1, count / max_batch) / (num_examples * probability)
    weights = jnp.where(jnp.arange(max_batch) < count, weight, 0).astype(probability.dtype)
    return Batch(indices, weights), state._replace(step=state.step + 1)

  return Sampler(init, sample, updates_per_epoch)


def _check_room(rate: float, max_batch: int, num_examples: int) -> None:
  overflow = float(stats.binom.sf(max_batch, num_examples, rate))
  if overflow > MAX_OVERFLOW:
    enough = int(stats.binom.isf(MAX_OVERFLOW, num_examples, rate))
    raise InputError(
      f'max_batch must be a whole number in [{enough}, {num_examples}], so that no more than {MAX_OVERFLOW:g} of the '
      f'batches at rate {rate:g} overflow, got {max_batch}, with which a fraction of {overflow:.2g} would'
    )
