"""Choices made on tuning runs are a matter of chance, too: how often each is made, and intervals that hold it."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
from scipy.special import stdtrit

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, shown, unknown_name
from gdlab.statistics.intervals import Interval
from gdlab.statistics.jackknife import SCALES

_Choice = TypeVar('_Choice', bound=Hashable)
RARE = 0.05  # chance of a choice that is left out


@checked('num', 'num_resamples')
def choices(
  choose: Callable[[np.ndarray], _Choice], num: int, *, num_resamples: int = 999, seed: int = 0
) -> dict[_Choice, float]:
  """How often each choice is made when the tuning runs are drawn anew, with replacement.

  Args:
    choose: int[num] -> a choice, of the numbers of the runs that are drawn; of several arms a tuple of theirs.
    num: tuning runs.
    num_resamples: draws.
    seed: of the draws.

  Returns:
    The share of the draws by choice; the choice of the runs themselves is among them and first.

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
  """Choices that are made in at least 5 % of the draws of the tuning runs, with their shares; the one made is first.

  Args:
    choose: as for `choices`.
    num: tuning runs; of a single one the choice is taken for certain.
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
  r"""The interval of an effect after a choice: that of the choice made, widened by how far other choices are from it.

  With $\theta_c$ the effect at choice c, $p_c$ its share and $h$ the half-width at the choice made, the half-width is
  $\sqrt{h^2 + t^2 \sum_c p_c (\theta_c - \bar\theta)^2}$, $\bar\theta = \sum_c p_c \theta_c$ and t the quantile that h
  was made with, of num - 1 degrees of freedom: evaluation and selection have runs of their own, so that their
  variances add.

  Args:
    effects: interval by choice, of the same graded runs; the first is that of the choice made.
    shares: of each choice, as `choices` gives them; those without an effect are left out and the rest scaled up.
    scale: on which intervals are symmetric, as in `jackknife`.

  Returns:
    The interval; without bounds where a choice with a share has none.

  Raises:
    InputError: if there is no effect, or the choice made is not the first of both.
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
