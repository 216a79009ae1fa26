"""Rates that decay: Robbins-Monro, in steps, per epoch, linear, cosine, linear at the end.

Optax has most of these shapes for concrete numbers. Here each number may be a tracer, so that a sweep over it is one
program. They are Optax schedules, `(count int32[]) -> float[]`, computed in JAX's default float or the widest type of
their arguments, at least float32.
"""

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp

from gdlab.core.argument_checks import at_most_int32, optional
from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_real, shown
from gdlab.core.types import Array
from gdlab.schedules.numbers import Schedule, exact, floats
from gdlab.schedules.ramps import half_cosine, line


@checked('initial', 'exponent', 'offset')
def robbins_monro(initial: Any, exponent: Any = 1.0, offset: Any = 1.0) -> Schedule:
  r"""A rate that falls as a power of time, $a_t = a_0 (1 + t/t_0)^{-p}$.

  The conditions under which stochastic approximation converges, $\sum_t a_t = \infty$ (it can reach any point) and
  $\sum_t a_t^2 < \infty$ (the noise dies out), hold exactly for $p \in (1/2, 1]$. Other powers are allowed, for
  experiments: $p \le 1/2$ violates the second condition, $p > 1$ stops at a distance of at most
  $\sum_t a_t \lVert g_t \rVert$ from the start, $p = 0$ is constant.

  Example:
    >>> rate = robbins_monro(0.5, exponent=1.0, offset=10)
    >>> [round(float(rate(count)), 3) for count in (0, 10, 90)]
    [0.5, 0.25, 0.05]

  Args:
    initial: a_0, the rate of the first update.
    exponent: p >= 0.
    offset: t_0 > 0, in updates: how long the rate stays close to a_0.

  Raises:
    InputError: if an argument is out of range.

  Source: Robbins and Monro 1951, A stochastic approximation method; for p < 1 with averaging Polyak and Juditsky 1992.
  """
  check_real('initial', initial)
  check_real('exponent', exponent, minimum=0)
  check_real('offset', offset, above=0)

  def schedule(count: Any) -> Array:
    elapsed, first, power, scale = floats(count, initial, exponent, offset)
    return first / (1 + elapsed / scale) ** power

  return schedule


@checked('initial', 'factor', 'boundaries', every=optional(at_most_int32))
def step_decay(initial: Any, factor: Any, *, boundaries: Iterable[Any] = (), every: Any = None) -> Schedule:
  r"""A rate multiplied by a factor repeatedly, $a_t = a_0 \gamma^{k(t)}$.

  $k(t)$ is the number of boundaries $b \le t$, or $\lfloor t / e \rfloor$ for a step every $e$ updates.

  Example:
    >>> rate = step_decay(0.5, 0.1, boundaries=(100, 150))
    >>> [round(float(rate(count)), 4) for count in (99, 100, 150)]
    [0.5, 0.05, 0.005]

  Args:
    initial: a_0, the rate of the first update.
    factor: gamma > 0.
    boundaries: the updates at which the rate is multiplied by the factor, each >= 0, in any order.
    every: e > 0, the updates between two steps, instead of boundaries.

  Raises:
    InputError: if an argument is out of range, or both or none of `boundaries` and `every` are given.

  Source: `optax.piecewise_constant_schedule`, for tracers.
  """
  check_real('initial', initial)
  check_real('factor', factor, above=0)
  try:
    times = tuple(boundaries)
  except TypeError:
    raise InputError(f'boundaries must be a sequence of numbers, got {shown(boundaries)}') from None
  if (every is None) == (not times):
    raise InputError(f'either boundaries or every must be given, got {shown(times)} and {shown(every)}')
  for number, boundary in enumerate(times):
    check_real(f'boundaries[{number}]', boundary, minimum=0)
  if every is not None:
    check_real('every', every, above=0)

  def schedule(count: Any) -> Array:
    if every is not None:
      steps = jnp.floor_divide(exact(count), exact(every))
    else:
      steps = sum((jnp.where(exact(count) >= exact(time), 1, 0) for time in times), start=jnp.int32(0))
    first, base, number = floats(initial, factor, steps)
    return first * base**number

  return schedule


@checked('initial', 'factor', updates_per_epoch=at_most_int32)
def exponential_per_epoch(
  initial: Any, factor: Any, updates_per_epoch: Any, *, staircase: bool = True
) -> Schedule:
  r"""A rate multiplied by a factor once an epoch, $a_t = a_0 \gamma^{\lfloor t/u \rfloor}$, or smoothly $\gamma^{t/u}$.

  Args:
    initial: a_0, the rate of the first update.
    factor: gamma > 0, per epoch.
    updates_per_epoch: u > 0; `sampler.updates_per_epoch(num_examples)`.
    staircase: whether the rate is constant within an epoch; otherwise it changes at every update.

  Raises:
    InputError: if an argument is out of range.

  Source: `optax.exponential_decay` with an epoch's updates as its `transition_steps`, for tracers.
  """
  check_real('initial', initial)
  check_real('factor', factor, above=0)
  check_real('updates_per_epoch', updates_per_epoch, above=0)
  if staircase:
    return step_decay(initial, factor, every=updates_per_epoch)

  def schedule(count: Any) -> Array:
    elapsed, first, base, length = floats(count, initial, factor, updates_per_epoch)
    return first * base ** (elapsed / length)

  return schedule


@checked
def linear(initial: Any, num_steps: Any, final: Any = 0.0) -> Schedule:
  r"""A rate on a straight line, $a_t = a_T + (a_0 - a_T)(1 - t/T)$, and $a_T$ from update T on.

  Args:
    initial: a_0, the rate of the first update.
    num_steps: T > 0, in updates.
    final: a_T.

  Raises:
    InputError: if an argument is out of range.

  Source: `optax.linear_schedule`, for tracers.
  """
  return _ramp(line, initial, num_steps, final)


@checked
def cosine(initial: Any, num_steps: Any, final: Any = 0.0) -> Schedule:
  r"""A rate on half a cosine, $a_t = a_T + \frac12 (a_0 - a_T)(1 + \cos(\pi t/T))$, and $a_T$ from update T on.

  `optax.cosine_decay_schedule(initial, num_steps, alpha=final / initial)` for tracers.

  Args:
    initial: a_0, the rate of the first update.
    num_steps: T > 0, in updates.
    final: a_T.

  Raises:
    InputError: if an argument is out of range.

  Source: Loshchilov and Hutter 2017, arXiv 1608.03983.
  """
  return _ramp(half_cosine, initial, num_steps, final)


@checked('cooldown')
def constant_then_linear(initial: Any, num_steps: Any, cooldown: Any = 0.2, final: Any = 0.0) -> Schedule:
  r"""A constant rate with a linear cooldown at the end: $a_0$ up to $t = (1 - c)T$, then a line to $a_T$ at T.

  With `warmup` before it, this is warm-up, stable, decay (WSD). The rate before the cooldown does not depend on T, so
  one long run serves many horizons.

  Example:
    >>> rate = constant_then_linear(0.5, 100)
    >>> [round(float(rate(count)), 3) for count in (0, 80, 90, 100)]
    [0.5, 0.5, 0.25, 0.0]

  Args:
    initial: a_0, the rate of the first update.
    num_steps: T > 0, in updates.
    cooldown: c in [0, 1], the fraction of the updates in which the rate falls; 1 is `linear`.
    final: a_T.

  Raises:
    InputError: if an argument is out of range.

  Source: Hägele et al. 2024, arXiv 2405.18392; Hu et al. 2024, arXiv 2404.06395.
  """
  check_real('initial', initial)
  check_real('num_steps', num_steps, above=0)
  check_real('cooldown', cooldown, minimum=0, maximum=1)
  check_real('final', final)

  def schedule(count: Any) -> Array:
    elapsed, first, last, total, share = floats(count, initial, final, num_steps, cooldown)
    length = share * total
    return line(elapsed - (total - length), first, last, length)

  return schedule


def _ramp(shape: Any, initial: Any, num_steps: Any, final: Any) -> Schedule:
  check_real('initial', initial)
  check_real('num_steps', num_steps, above=0)
  check_real('final', final)
  return lambda count: shape(*floats(count, initial, final, num_steps))
