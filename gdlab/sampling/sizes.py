"""Batches whose size changes during training, in one compiled program."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gdlab.core.arguments import checked
from gdlab.core.branching import cond_any
from gdlab.core.errors import InputError, check_count, check_real, shown
from gdlab.core.types import Array, Batch, Key, Sampler
from gdlab.sampling.epochs import reordered
from gdlab.sampling.independent import check_batch_size


class BatchSizeScheduleState(NamedTuple):
  """State of `batch_size_schedule`: epoch e shuffles with fold_in(key, e)."""

  key: Key
  step: Array  # int32[], updates so far
  epoch: Array  # int32[]
  used: Array  # int32[], examples of this epoch that have been seen
  order: Array  # int32[N], the order of the current epoch


@checked('max_batch_size', 'schedule')
def batch_size_schedule(max_batch_size: int, schedule: Callable[[Array], Any]) -> Sampler:
  r"""Random reshuffling in batches of $B_t$ = `schedule(t)` examples, in one compiled program.

  Like a decay of the learning rate, a growing batch lowers the noise of the gradient, in fewer updates. Batches always
  have `max_batch_size` slots: $B_t$ real ones with weight 1/$B_t$, the others padding with weight 0. A new size thus
  needs no new program, and each update takes the time of the largest.

  Every epoch takes consecutive slices of a fresh permutation, so every example is seen once per epoch. The last batch
  of an epoch has the r <= $B_t$ remaining examples, with weight 1/r. With a constant size the batches are those of
  `reshuffle`. Lanes under vmap with different sizes end their epochs at different updates, and the permutation is
  computed at each of these.

  Example:
    >>> import optax
    >>> sampler = batch_size_schedule(64, optax.linear_schedule(8, 64, transition_steps=1000))

  Args:
    max_batch_size: slots of a batch, a whole number in [1, N].
    schedule: `(step int32[]) -> number`, such as `piecewise_sizes(...)` or any Optax schedule; its values are rounded
      and clipped to [1, max_batch_size]. Its own numbers may be traced.

  Returns:
    A Sampler. Its `updates_per_epoch` is ceil(N / max_batch_size), the smallest possible number.

  Raises:
    InputError: if an argument is out of range; from `init`, if `max_batch_size` is above N; from `sample`, if
      `schedule` does not return one number.

  Source: S. L. Smith, P.-J. Kindermans, C. Ying and Q. V. Le, "Don't decay the learning rate, increase the batch
  size", ICLR 2018, arXiv 1711.00489.
  """
  max_batch_size = check_count('max_batch_size', max_batch_size)
  if not callable(schedule):
    raise InputError(f'schedule must be a function of the step, got {shown(schedule)}')

  def init(key: Key, num_examples: int) -> BatchSizeScheduleState:
    check_batch_size(max_batch_size, num_examples, 'max_batch_size')
    # Three arrays, not one: a runner may give their buffers away.
    step, epoch, used = (jnp.zeros((), jnp.int32) for _ in range(3))
    return BatchSizeScheduleState(key, step, epoch, used, jnp.arange(num_examples, dtype=jnp.int32))

  def sample(state: BatchSizeScheduleState) -> tuple[Batch, BatchSizeScheduleState]:
    num_examples = state.order.shape[0]
    # A clone, as in the other epoch samplers.
    order = cond_any(state.used == 0, reordered, state.order, jax.random.clone(state.key), state.epoch)
    size = jnp.asarray(schedule(state.step))
    if size.shape:
      raise InputError(f'schedule must return one number, got an array of shape {size.shape}')
    # Whole before clipped: a float past int32 becomes its largest number, and NaN some number or other.
    size = jnp.clip(jnp.round(size).astype(jnp.int32), 1, max_batch_size)
    count = jnp.minimum(size, num_examples - state.used)
    slots = jnp.arange(max_batch_size, dtype=jnp.int32)
    indices = order[jnp.minimum(state.used + slots, num_examples - 1)]
    weights = jnp.where(slots < count, 1 / count.astype(jnp.result_type(float)), 0)
    used = state.used + count
    over = used == num_examples
    state = BatchSizeScheduleState(
      state.key, state.step + 1, state.epoch + over, jnp.where(over, 0, used), order
    )
    return Batch(indices, weights), state

  return Sampler(init, sample, updates_per_epoch=lambda num_examples: -(-num_examples // max_batch_size))


@checked
def piecewise_sizes(sizes: Sequence[Any], boundaries: Sequence[Any]) -> Callable[[Array], Array]:
  """A schedule of batch sizes: `sizes[k]` from update `boundaries[k - 1]` until before `boundaries[k]`.

  Args:
    sizes: K numbers >= 1; may be traced.
    boundaries: K - 1 steps > 0, increasing; may be traced.

  Returns:
    `(step int32[]) -> float[]`, for `batch_size_schedule`.

  Raises:
    InputError: if an argument is out of range.
  """
  sizes, boundaries = tuple(sizes), tuple(boundaries)
  if len(sizes) != len(boundaries) + 1:
    raise InputError(f'sizes must be one more than the {len(boundaries)} boundaries, got {len(sizes)}')
  for number, size in enumerate(sizes):
    if not isinstance(size, jax.core.Tracer) and float(check_real(f'sizes[{number}]', size)) < 1:
      raise InputError(f'sizes[{number}] must be a number >= 1, got {shown(size)}')
  for number, (before, boundary) in enumerate(itertools.pairwise((0, *boundaries))):
    known = not any(isinstance(value, jax.core.Tracer) for value in (before, boundary))
    check_real(f'boundaries[{number}]', boundary, above=float(before) if known else 0.0)

  def schedule(step: Array) -> Array:
    stage = sum((step >= boundary for boundary in boundaries), start=jnp.int32(0))
    return jnp.stack([jnp.asarray(size, jnp.result_type(float)) for size in sizes])[stage]

  return schedule
