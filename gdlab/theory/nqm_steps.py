"""The number of steps of the noisy quadratic model to a target loss, for batch sizes and learning rates.

The loss P(T) + V(T)/B need not fall at every step: V never falls, and P may oscillate under momentum. So the first
crossing is bracketed by a lower bound over an interval, the steadily falling part of P at its end plus V/B at its
start, and intervals are halved until the bound excludes a crossing or one step is left: no dip is missed.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError
from gdlab.theory.inputs import positive, positive_number
from gdlab.theory.linear import Floats
from gdlab.theory.nqm import Curve, Method, NoisyQuadratic, Phase, Stretch, checked_phases, is_model, method

# Beyond this a rate counts as never: the fall from one step to the next drowns in rounding long before.
_LONGEST = 2**48


class Fastest(NamedTuple):
  """The best constant rate for every batch size; steps are inf and the rate NaN where no rate reaches the target."""

  steps: Floats  # float[...], whole numbers
  learning_rate: Floats  # float[...]


@checked(model=is_model)
def steps_to_target(
  model: NoisyQuadratic,
  batch_sizes: Any,
  learning_rates: Any,
  *,
  target: float = 0.01,
  momentum: float = 0.0,
  nesterov: bool = False,
  averaging: float = 0.0,
) -> Floats:
  """The number of steps after which the expected loss is first at or below a target, at constant rates.

  Args:
    model: see `noisy_quadratic`.
    batch_sizes: float[K] > 0.
    learning_rates: float[R] > 0.
    target: of the expected loss, > 0.
    momentum: as for `expected_loss`.
    nesterov: as for `expected_loss`.
    averaging: as for `expected_loss`.

  Returns:
    float[K, R], whole numbers; inf where the target is never reached and for every unstable rate.

  Raises:
    InputError: an argument out of range.
  """
  search = _Search(model, batch_sizes, learning_rates, target, method(momentum, nesterov, averaging))
  return np.array(
    [[search.first(size, number, _LONGEST) for number in range(search.rates.size)] for size in search.sizes]
  )


@checked(model=is_model)
def fastest(
  model: NoisyQuadratic,
  batch_sizes: Any,
  learning_rates: Any,
  *,
  target: float = 0.01,
  momentum: float = 0.0,
  nesterov: bool = False,
  averaging: float = 0.0,
) -> Fastest:
  """The best of a grid of constant rates for every batch size: the minimum of `steps_to_target` over the rates.

  Faster than the whole table, as no rate is followed beyond the best number of steps so far. Ties go to the smallest
  rate.

  Args:
    model: see `noisy_quadratic`.
    batch_sizes: float[K] > 0.
    learning_rates: float[R] > 0.
    target: of the expected loss, > 0.
    momentum: as for `expected_loss`.
    nesterov: as for `expected_loss`.
    averaging: as for `expected_loss`.

  Returns:
    Fastest, arrays float[K].

  Raises:
    InputError: an argument out of range.
  """
  search = _Search(model, batch_sizes, learning_rates, target, method(momentum, nesterov, averaging))
  steps, chosen = [], []
  guess = 0
  for size in search.sizes:
    best, place = math.inf, None
    # Nearest to the last batch size's best first, so that the others need not be followed far.
    for number in sorted(range(search.rates.size), key=lambda number: abs(number - guess)):
      found = search.first(size, number, int(min(best, _LONGEST)))
      if found < best or (found == best and place is not None and search.rates[number] < search.rates[place]):
        best, place = found, number
    steps.append(best)
    chosen.append(math.nan if place is None else search.rates[place])
    guess = guess if place is None else place
  return Fastest(np.array(steps), np.array(chosen))


@checked('target', 'phases', model=is_model)
def phased_steps(
  model: NoisyQuadratic,
  phases: Sequence[Phase],
  *,
  target: float = 0.01,
  momentum: float = 0.0,
  nesterov: bool = False,
  averaging: float = 0.0,
) -> float:
  """`steps_to_target` for a schedule of rates and batch sizes: the first step at or below the target, exactly.

  Plain descent needs few evaluations for phases of any length. With momentum or averaging every step is evaluated at
  which the noise alone is not above the target.

  Example:
    >>> model = NoisyQuadratic(*[np.array([1.0, 0.1])] * 3, np.ones(2))
    >>> phased_steps(model, [Phase(1.0, 200, 16), Phase(0.1, 10_000, 16)])
    207.0

  Args:
    model: see `noisy_quadratic`.
    phases: the phases in order.
    target: of the expected loss, > 0.
    momentum: as for `phased_loss`.
    nesterov: as for `phased_loss`.
    averaging: as for `phased_loss`.

  Returns:
    A whole number, counted from the start of the first phase; inf where no phase reaches the target.

  Raises:
    InputError: an argument out of range.
  """
  goal, descent = positive_number('target', target), method(momentum, nesterov, averaging)
  moment, done = descent.moment(model), 0
  if model.weights @ moment[:, descent.output, descent.output] / 2 <= goal:
    return 0.0
  for phase in checked_phases(phases):
    stretch = Stretch(model, phase, descent, moment)
    found = _crossing(stretch, 1.0, phase.num_steps, goal)
    if found < math.inf:
      return float(done + found)
    moment, done = stretch.moment(phase.num_steps), done + phase.num_steps
  return math.inf


class _Search:
  """First crossings for one model and one method; all batch sizes share the curves."""

  def __init__(
    self, model: NoisyQuadratic, batch_sizes: Any, learning_rates: Any, target: float, descent: Method
  ):
    self.sizes, self.rates = _row('batch_sizes', batch_sizes), _row('learning_rates', learning_rates)
    self._target = positive_number('target', target)
    self._curves = [
      Curve(model, float(rate), descent) if descent.stable(model, float(rate)) else None
      for rate in self.rates
    ]

  def first(self, size: float, number: int, longest: int) -> float:
    """The first step at or below the target up to `longest`, inf if there is none."""
    curve = self._curves[number]
    return math.inf if curve is None else _crossing(curve, size, longest, self._target)


def _crossing(curve: Curve | Stretch, size: float, longest: int, target: float) -> float:
  if curve(0)[0] <= target:
    return 0
  low, high = 0, min(1, longest)
  while low < high:
    found = _within(curve, size, low, high, target)
    if found is not None:
      return found
    if curve(high)[2] / size > target:
      return math.inf  # V never falls
    low, high = high, min(2 * high, longest)
  return math.inf


def _within(curve: Curve | Stretch, size: float, low: int, high: int, target: float) -> int | None:
  """The first crossing in (low, high]."""
  if curve(high)[1] + curve(low)[2] / size > target:
    return None
  if high - low == 1:
    left, _, added = curve(high)
    return high if left + added / size <= target else None
  middle = (low + high) // 2
  found = _within(curve, size, low, middle, target)
  return _within(curve, size, middle, high, target) if found is None else found


def _row(name: str, value: Any) -> Floats:
  array = positive(name, value)
  if array.ndim != 1 or array.size == 0:
    raise InputError(f'{name} must have shape [K] with K >= 1, got {array.shape}')
  return array
