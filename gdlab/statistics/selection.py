"""The uncertainty of choices made on tuning runs: how often each is made, and intervals that include it."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
from scipy.special import stdtrit

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, shown, unknown_name
from gdlab.statistics.intervals import Interval
from gdlab.statistics.jackknife import SCALES

_Choice = TypeVar('_Choice', bound=Hashable)
RARE = 0.05  # choices with a smaller share are left out


@checked('num', 'num_resamples')
def choices(
  choose: Callable[[np.ndarray], _Choice], num: int, *, num_resamples: int = 999, seed: int = 0
) -> dict[_Choice, float]:
  """How often each choice is made when the tuning runs are resampled with replacement.

  Args:
    choose: int[num] -> a choice, a hashable function of the indices of the drawn runs; for several arms a tuple.
    num: number of tuning runs, >= 2.
    num_resamples: number of resamples.
    seed: of the resampling.

  Returns:
    Choice -> its share of the resamples; the choice on the runs themselves comes first, also if its share is 0.

  Raises:
    InputError: an argument out of range.

  Source: Efron 2014, Estimation and accuracy after model selection, JASA 109.
  """
  check_count('num', num, minimum=2)
  check_count('num_resamples', num_resamples)
  drawn = np.random.default_rng(seed).integers(num, size=(num_resamples, num))
  counts: dict[_Choice, int] = {choose(np.arange(num)): 0}
  for row in drawn:
    found = choose(row)
    counts[found] = counts.get(found, 0) + 1
  return {choice: count / num_resamples for choice, count in counts.items()}


@checked('num')
def likely(choose: Callable[[np.ndarray], _Choice], num: int) -> dict[_Choice, float]:
  """The choices with a share of at least 5 % in `choices`, with their shares; the choice actually made comes first.

  Args:
    choose: as for `choices`.
    num: number of tuning runs; with a single one its choice counts as certain.
  """
  if check_count('num', num) < 2:
    return {choose(np.arange(num)): 1.0}
  shares = choices(choose, num)
  made = next(iter(shares))
  return {choice: share for choice, share in shares.items() if choice == made or share >= RARE}


@checked
def over_choices(
  effects: Mapping[_Choice, Interval], shares: Mapping[_Choice, float], *, scale: str = 'plain'
) -> Interval:
  r"""The interval of an effect after a choice: that at the choice made, widened by the variance over other choices.

  With $\theta_c$ the effect at choice c, $p_c$ its share and $h$ the half-width at the choice made, the half-width is
  $\sqrt{h^2 + t^2 \sum_c p_c (\theta_c - \bar\theta)^2}$, with $\bar\theta = \sum_c p_c \theta_c$ and t the quantile in
  h, with num - 1 degrees of freedom. Evaluation and selection use different runs, so their variances add.

  Args:
    effects: choice -> interval, of the same graded runs; the choice made comes first.
    shares: of each choice, from `choices`; those without an effect are left out and the rest rescaled.
    scale: on which intervals are symmetric, as in `jackknife`.

  Returns:
    The interval; unbounded if the effect at a choice with a positive share is not finite.

  Raises:
    InputError: if there is no effect, the choice made is not the first of both, or its interval has confidence 1.
  """
  if scale not in SCALES:
    raise unknown_name('scale', scale, SCALES)
  if not effects or next(iter(effects)) != next(iter(shares), None):
    given = f'{shown(list(effects))} and {shown(list(shares))}'
    raise InputError(f'effects and shares must begin with the choice that was made, got {given}')
  to, back = SCALES[scale]
  made = next(iter(effects.values()))
  weights = np.asarray([shares.get(choice, 0.0) for choice in effects])
  weights = weights / weights.sum() if weights.sum() > 0 else np.eye(len(weights))[0]
  with np.errstate(all='ignore'):
    values = np.asarray([to(interval.estimate) for interval in effects.values()])
    seen = weights > 0
    spread = float(np.sum(weights[seen] * (values[seen] - np.sum(weights[seen] * values[seen])) ** 2))
    low, centre, high = (float(to(end)) for end in (made.low, made.estimate, made.high))
    quantile = float(stdtrit(max(made.num - 1, 1), (1 + made.confidence) / 2))
    extra = quantile**2 * spread
    ends: list[Any] = [
      back(centre - np.sqrt((centre - low) ** 2 + extra)),
      back(centre + np.sqrt((high - centre) ** 2 + extra)),
    ]
  if made.confidence == 1:
    raise InputError('effects must be intervals with a confidence below 1, as a choice is uncertain')
  if not np.isfinite([*ends, centre]).all():
    return made._replace(low=-np.inf, high=np.inf)
  return made._replace(low=float(ends[0]), high=float(ends[1]))
