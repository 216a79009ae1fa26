"""Rates that rise first: a warm-up before any schedule, and one cycle. Each number may be a tracer; see `decay`."""

from typing import Any

import jax.numpy as jnp

from gdlab.core.argument_checks import at_most_int32
from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_real, shown
from gdlab.core.types import Array
from gdlab.schedules.numbers import Schedule, exact, floats
from gdlab.schedules.ramps import half_cosine, line


@checked('schedule', 'start', num_warmup_steps=at_most_int32)
def warmup(schedule: Schedule, num_warmup_steps: Any, start: Any = 0.0) -> Schedule:
  r"""A schedule after a linear warm-up: $a_t = s_0 + (a(0) - s_0)\, t/W$ for $t < W$, then $a(t - W)$.

  For concrete numbers this is `optax.join_schedules([optax.linear_schedule(start, a(0), W), a], [W])`; it replaces
  `optax.warmup_cosine_decay_schedule` and the like.

  Example:
    >>> rate = warmup(lambda count: 0.5, num_warmup_steps=10)
    >>> [float(rate(count)) for count in (0, 5, 10, 1000)]
    [0.0, 0.25, 0.5, 0.5]

  Args:
    schedule: any Optax schedule, counted from the end of the warm-up; `optax.constant_schedule(rate)` for one rate.
    num_warmup_steps: W >= 0, in updates. If it is not whole, the schedule begins at the next whole update.
    start: s_0, the rate of the first update. With 0 that update changes no parameter.

  Raises:
    InputError: if an argument is out of range.

  Source: Goyal et al. 2017, arXiv 1706.02677, section 2.2.
  """
  if not callable(schedule):
    raise InputError(f'schedule must be a function of the count of updates, got {shown(schedule)}')
  check_real('num_warmup_steps', num_warmup_steps, minimum=0)
  check_real('start', start)

  def warmed(count: Any) -> Array:
    since = jnp.maximum(count - jnp.ceil(exact(num_warmup_steps)).astype(jnp.int32), 0)
    # During the warm-up this is the schedule's first value, so that it need not be asked for twice.
    elapsed, first, following, length = floats(count, start, schedule(since), num_warmup_steps)
    return line(elapsed, first, following, length)

  return warmed


@checked('peak_at', 'return_at')
def one_cycle(
  peak: Any,
  num_steps: Any,
  *,
  peak_at: Any = 0.3,
  return_at: Any = 0.85,
  initial_divisor: Any = 25.0,
  final_divisor: Any = 1e4,
) -> Schedule:
  r"""One cycle in three straight lines: up to the peak, back to the initial rate, and down to almost 0.

  From $a_0 = \text{peak}/\text{initial\_divisor}$ to the peak, back to $a_0$, and to
  $a_0/\text{final\_divisor}$, where it stays. `optax.linear_onecycle_schedule` for tracers, except that the corners are
  rounded to the nearest update where Optax rounds down.

  Args:
    peak: the largest rate.
    num_steps: > 0, of the whole cycle, in updates.
    peak_at: in [0, return_at], the fraction of the cycle at which the peak is reached.
    return_at: in [0, 1], the fraction at which the rate is back at its initial value.
    initial_divisor: > 0.
    final_divisor: > 0.

  Raises:
    InputError: if an argument is out of range.

  Source: Smith 2018, arXiv 1803.09820; Smith and Topin 2017, arXiv 1708.07120.
  """
  _check_cycle(peak, num_steps, initial_divisor, final_divisor)
  check_real('return_at', return_at, minimum=0, maximum=1)
  check_real('peak_at', peak_at, minimum=0, maximum=return_at)

  def schedule(count: Any) -> Array:
    elapsed, top, length, up, back = floats(count, peak, num_steps, peak_at, return_at)
    first, last = _ends(top, initial_divisor, final_divisor)
    up, back = jnp.round(up * length), jnp.round(back * length)
    rise = line(elapsed, first, top, up)
    fall = line(elapsed - up, top, first, back - up)
    tail = line(elapsed - back, first, last, length - back)
    return jnp.where(elapsed < up, rise, jnp.where(elapsed < back, fall, tail))

  return schedule


@checked('peak_at')
def cosine_one_cycle(
  peak: Any,
  num_steps: Any,
  *,
  peak_at: Any = 0.3,
  initial_divisor: Any = 25.0,
  final_divisor: Any = 1e4,
) -> Schedule:
  r"""One cycle in two half cosines: up to the peak, and down to almost 0.

  From $a_0 = \text{peak}/\text{initial\_divisor}$ to the peak and to $a_0/\text{final\_divisor}$, where it stays.
  `optax.cosine_onecycle_schedule` for tracers, except that the corner is rounded to the nearest update where Optax
  rounds down.

  Args:
    peak: the largest rate.
    num_steps: > 0, of the whole cycle, in updates.
    peak_at: in [0, 1], the fraction of the cycle at which the peak is reached.
    initial_divisor: > 0.
    final_divisor: > 0.

  Raises:
    InputError: if an argument is out of range.

  Source: Smith and Topin 2017, arXiv 1708.07120, in the form that fastai and PyTorch gave it.
  """
  _check_cycle(peak, num_steps, initial_divisor, final_divisor)
  check_real('peak_at', peak_at, minimum=0, maximum=1)

  def schedule(count: Any) -> Array:
    elapsed, top, length, up = floats(count, peak, num_steps, peak_at)
    first, last = _ends(top, initial_divisor, final_divisor)
    up = jnp.round(up * length)
    rise = half_cosine(elapsed, first, top, up)
    fall = half_cosine(elapsed - up, top, last, length - up)
    return jnp.where(elapsed < up, rise, fall)

  return schedule


def _check_cycle(peak: Any, num_steps: Any, initial_divisor: Any, final_divisor: Any) -> None:
  check_real('peak', peak)
  check_real('num_steps', num_steps, above=0)
  check_real('initial_divisor', initial_divisor, above=0)
  check_real('final_divisor', final_divisor, above=0)


def _ends(top: Array, initial_divisor: Any, final_divisor: Any) -> tuple[Array, Array]:
  """The rates at the beginning and at the end of a cycle."""
  top, initial, final = floats(top, initial_divisor, final_divisor)
  return top / initial, top / initial / final
