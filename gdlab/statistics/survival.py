"""Steps to a target that some runs never reach: survival curves, medians, means, and the test of two arms.

A run that ends before it reaches the target is not dropped, which would favour the arm that fails more often; it is
censored, as its time is known to be longer than the run.
"""

import math
import warnings
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import scipy.stats

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real
from gdlab.statistics.comparisons import Comparison
from gdlab.statistics.crossings import Crossing
from gdlab.statistics.intervals import Interval, floats


class Survival(NamedTuple):
  """The share of runs that have not reached the target yet, with a pointwise confidence band.

  Attributes:
    time: float[k], the times at which runs crossed or were censored, ascending.
    share: float[k], just after that time, correctly rounded, so that 1/2 is exact. Before the first time it is 1.
    low: float[k], lower end of the band.
    high: float[k], upper end.
    at_risk: int[k], runs that had neither crossed nor been censored just before.
    crossed: int[k], number of runs that crossed then.
    censored: int[k], number of runs that were censored then.
    confidence: of the band.
  """

  time: np.ndarray
  share: np.ndarray
  low: np.ndarray
  high: np.ndarray
  at_risk: np.ndarray
  crossed: np.ndarray
  censored: np.ndarray
  confidence: float


@checked('confidence')
def kaplan_meier(crossing: Crossing, *, confidence: float = 0.95) -> Survival:
  r"""The Kaplan-Meier estimate, $\hat S(t) = \prod_{t_i \le t} (1 - d_i / n_i)$, by `scipy.stats.ecdf`.

  The band comes from Greenwood's variance on the scale of $\log(-\log S)$. Before the first crossing, where it is
  undefined, it is [0, 1]; once the share is 0, it is from 0 to the upper end before.

  Example:
    >>> found = kaplan_meier(Crossing([2, 5, 9, 9], [False, False, False, True]))
    >>> found.time, found.share
    (array([2., 5., 9.]), array([0.75, 0.5 , 0.25]))

  Args:
    crossing: of n >= 1 runs, from `first_crossing`: times >= 0, shape [n].
    confidence: of the band, in (0, 1).

  Raises:
    InputError: if `crossing` is not of that form, or the confidence is out of range.

  Source: Kaplan and Meier 1958, Nonparametric estimation from incomplete observations, JASA 53.
  """
  check_real('confidence', confidence, above=0, below=1)
  time, censored = _checked('crossing', crossing)
  curve = scipy.stats.ecdf(_sample(time, censored)).sf
  with warnings.catch_warnings(), np.errstate(all='ignore'):
    warnings.simplefilter('ignore', RuntimeWarning)  # where the band is undefined, which is handled here
    low, high = (
      end.probabilities for end in curve.confidence_interval(confidence_level=confidence, method='log-log')
    )
  unseen = curve.probabilities == 1
  low = np.where(unseen | np.isnan(low), 0.0, low)
  high = np.where(unseen, 1.0, np.where(np.isnan(high), np.inf, high))
  ends, places = np.unique(time, return_inverse=True)
  at_risk = (time[:, None] >= ends).sum(axis=0)
  crossed = np.bincount(places, ~censored).astype(int)
  return Survival(
    time=ends,
    share=_product(at_risk, crossed),
    low=low,
    high=np.minimum.accumulate(np.minimum(high, 1)),
    at_risk=at_risk,
    crossed=crossed,
    censored=np.bincount(places, censored).astype(int),
    confidence=confidence,
  )


@checked('crossing')
def median_time(crossing: Crossing, *, confidence: float = 0.95) -> Interval:
  r"""The median time to the target, the first at which at most half of the runs have not reached it.

  If no run was censored before the last one crossed, as when all have the same budget, the interval is that of order
  statistics, whose coverage is at least nominal for any law of the times: [t_(k), t_(n+1-k)] with the largest k for
  which $P(\mathrm{Bin}(n, 1/2) < k) \le (1 - c) / 2$; unbounded for n < 6 at 95 %. Otherwise it consists of the times,
  from the first crossing on, at which the band of `kaplan_meier` contains 1/2 (Brookmeyer and Crowley). An estimate or
  an upper end beyond the observed times is infinite; the lower end is at most the last observed time.

  Example:
    >>> found = median_time(Crossing([3, 4, 5, 6, 7, 8, 9, 9], [False] * 6 + [True] * 2))
    >>> found.estimate, found.low, found.high
    (6.0, 3.0, inf)

  Args:
    crossing: as in `kaplan_meier`.
    confidence: in (0, 1).

  Raises:
    InputError: as `kaplan_meier`.

  Source: Brookmeyer and Crowley 1982, A confidence interval for the median survival time, Biometrics 38.
  """
  curve = kaplan_meier(crossing, confidence=confidence)
  time, censored = _checked('crossing', crossing)
  estimate = _first(curve.time, curve.share <= 0.5)
  if not censored.any() or censored.all() or time[censored].min() >= time[~censored].max():
    place = _order(time.size, (1 - confidence) / 2)
    # A run that was censored crosses no sooner than that: as the lower end its time holds, as the upper one none does.
    low = np.sort(time)[place - 1] if place else -np.inf
    high = np.sort(np.where(censored, np.inf, time))[-place] if place else np.inf
  else:
    # Before the first crossing the band says nothing, which a run that was censored then does not change.
    low = min(_first(curve.time, (curve.low <= 0.5) & (curve.share < 1)), time.max())
    high = _first(curve.time, curve.high <= 0.5)
  return Interval(estimate, float(low), float(high), confidence, time.size, 0)


@checked('until')
def restricted_mean(crossing: Crossing, until: float, *, confidence: float = 0.95) -> Interval:
  r"""The mean of the time to the target or `until`, whichever comes first, $\int_0^\tau \hat S(t)\,dt$.

  The variance is Greenwood's, $\frac{n}{n-1} \sum_i \frac{d_i}{n_i (n_i - d_i)} \bigl(\int_{t_i}^\tau \hat S\bigr)^2$,
  and the interval is Student's with n - 1 degrees of freedom: if no run is censored before tau it is the usual one of
  the mean of min(t, tau).

  Example:
    >>> round(restricted_mean(Crossing([2, 4, 9, 9], [False, False, False, True]), until=8).estimate, 2)
    5.5

  Args:
    crossing: as in `kaplan_meier`.
    until: tau > 0; at most the longest time, unless all runs crossed.
    confidence: in (0, 1).

  Raises:
    InputError: if `until` is beyond the last time and some runs never crossed, or as `kaplan_meier`.

  Source: Klein and Moeschberger 2003, Survival analysis, section 4.5.
  """
  curve = kaplan_meier(crossing, confidence=confidence)
  check_real('until', until, above=0)
  if until > curve.time[-1] and curve.share[-1] > 0:
    raise InputError(f'until must be at most {curve.time[-1]:g}, when the last run was censored, got {until}')
  num = int(curve.at_risk[0])
  mean, variance = _area(curve, until)
  if num == 1:
    return Interval(mean, -np.inf, np.inf, confidence, num, 0)
  half = scipy.stats.t.ppf((1 + confidence) / 2, num - 1) * np.sqrt(variance * num / (num - 1))
  return Interval(mean, mean - half, mean + half, confidence, num, 0)


@checked('confidence', 'num_permutations')
def log_rank_test(
  a: Crossing,
  b: Crossing,
  *,
  confidence: float = 0.95,
  num_permutations: int | None = None,
  seed: int = 0,
) -> Comparison:
  r"""Whether two arms reach the target at different times: the log-rank test, by `scipy.stats.logrank`.

  Most powerful under proportional hazards, where one arm's probability of crossing at the next step is a constant
  multiple of the other's. The normal approximation of its p-value is rough below about ten runs per arm; use
  permutations of the runs between the arms there, which are exact for any number if both arms had the same budget.

  Args:
    a: as in `kaplan_meier`.
    b: as in `kaplan_meier`; not paired with the runs of `a`.
    confidence: of the effect's interval, in (0, 1).
    num_permutations: None for SciPy's p-value; else that from this many random permutations, or from all of them if
      there are no more (462 for 5 and 6 runs).
    seed: of the permutations.

  Returns:
    A Comparison: `statistic` z, negative if `a` is slower; `effect` the difference a - b of the restricted means until
    the earlier of the two last times, in units of time, with Welch's t interval; `standardised` the ratio a / b of the
    restricted means.

  Raises:
    InputError: if no run of either arm crossed, or as `kaplan_meier`.

  Source: Mantel 1966, Evaluation of survival data and two new rank order statistics, Cancer Chemother. Rep. 50.
  """
  check_real('confidence', confidence, above=0, below=1)
  both = _checked('a', a), _checked('b', b)
  if all(censored.all() for _, censored in both):
    raise InputError('a and b must have a run that reached the target, got none in either')
  with warnings.catch_warnings(), np.errstate(all='ignore'):
    warnings.simplefilter('ignore', RuntimeWarning)  # 0 / 0 where all cross at once, which is handled here
    found = scipy.stats.logrank(*(_sample(*arm) for arm in both))
  # All crossings at one time, of all runs: nothing tells the arms apart.
  alike = bool(np.isnan(found.statistic))
  p_value, statistic, exact = (
    (1.0, 0.0, False) if alike else (float(found.pvalue), float(found.statistic), False)
  )
  if num_permutations is not None:
    check_count('num_permutations', num_permutations)
    scores = _scores(*(np.concatenate(pieces) for pieces in zip(*both, strict=True)))
    num = both[0][0].size
    permuted = scipy.stats.permutation_test(
      (scores[:num], scores[num:]),
      lambda first, second, axis: first.sum(axis=axis),
      vectorized=True,
      n_resamples=num_permutations,
      rng=np.random.default_rng(seed),
    )
    p_value = float(permuted.pvalue)
    exact = math.comb(scores.size, num) <= num_permutations
  means, variances, nums = [], [], []
  until = min(time.max() for time, _ in both)
  for time, censored in both:
    mean, variance = _area(kaplan_meier(Crossing(time, censored), confidence=confidence), until)
    means.append(mean)
    variances.append(variance * time.size / max(time.size - 1, 1))
    nums.append(time.size)
  effect = _welch(means, variances, nums, confidence)
  ratio = means[0] / means[1] if means[1] else np.nan
  return Comparison(p_value, statistic, effect, ratio, exact)


def _checked(name: str, crossing: Crossing) -> tuple[np.ndarray, np.ndarray]:
  """Times and censoring as arrays; raises InputError if they are not of the form of `kaplan_meier`."""
  time, censored = floats(f'{name}.time', crossing[0]), np.asarray(crossing[1])
  if time.ndim != 1 or not time.size or censored.shape != time.shape or censored.dtype != bool:
    raise InputError(
      f'{name} must be times [n] and censored bool[n] of at least one run, got shapes {time.shape} and '
      f'{censored.shape}, dtype {censored.dtype}'
    )
  if not (np.isfinite(time).all() and (time >= 0).all()):
    raise InputError(f'{name} must have finite times >= 0, got {time.tolist()}')
  return time, censored


def _sample(time: np.ndarray, censored: np.ndarray) -> scipy.stats.CensoredData:
  return scipy.stats.CensoredData.right_censored(time, censored)


def _product(at_risk: np.ndarray, crossed: np.ndarray) -> np.ndarray:
  """The survival curve from integer products, with one rounding per value.

  A product of floats may miss 1/2 by a few units in its last place, and the median would then be one crossing late.
  """
  top, bottom, shares = 1, 1, []
  for risk, gone in zip(at_risk.tolist(), crossed.tolist(), strict=True):
    top, bottom = top * (risk - gone), bottom * risk
    shares.append(top / bottom)
  return np.array(shares)


def _order(num: int, tail: float) -> int:
  """The largest k for which P(Bin(num, 1/2) < k) is at most the tail, in exact arithmetic, as both may be equal."""
  bound, place, below, term = Fraction(tail) * 2**num, 0, 0, 1
  while below + term <= bound:
    below, place = below + term, place + 1
    term = term * (num - place + 1) // place
  return place


def _first(time: np.ndarray, reached: np.ndarray) -> float:
  return float(time[reached.argmax()]) if reached.any() else np.inf


def _area(curve: Survival, until: float) -> tuple[float, float]:
  """The area under the curve up to `until`, and its variance."""
  ends = np.concatenate([[0.0], np.minimum(curve.time, until), [until]])
  pieces = np.diff(ends) * np.concatenate([[1.0], curve.share])
  after = pieces[::-1].cumsum()[::-1][1:]  # from each time on
  left = curve.at_risk - curve.crossed
  terms = np.divide(
    curve.crossed * after**2, curve.at_risk * left, out=np.zeros_like(after), where=left > 0
  )  # where none is left the area is 0
  return float(pieces.sum()), float(terms[curve.time < until].sum())


def _scores(time: np.ndarray, censored: np.ndarray) -> np.ndarray:
  """Each run's term in its arm's observed minus expected crossings: 1 if it crossed, minus its cumulative hazard."""
  ends = np.unique(time[~censored])
  hazard = (time[~censored, None] == ends).sum(axis=0) / (time[:, None] >= ends).sum(axis=0)
  return ~censored - (time[:, None] >= ends) @ hazard


def _welch(
  means: Sequence[float], variances: Sequence[float], nums: Sequence[int], confidence: float
) -> Interval:
  """The difference of two independent means with its t interval, unbounded if an arm has one run."""
  estimate, total = means[0] - means[1], sum(variances)
  if min(nums) < 2:
    return Interval(estimate, -np.inf, np.inf, confidence, sum(nums), 0)
  half = 0.0
  if total:
    freedom = total**2 / sum(variance**2 / (num - 1) for variance, num in zip(variances, nums, strict=True))
    half = scipy.stats.t.ppf((1 + confidence) / 2, freedom) * np.sqrt(total)
  return Interval(estimate, estimate - half, estimate + half, confidence, sum(nums), 0)
