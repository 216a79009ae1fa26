"""Power: how many seeds detect an effect, and the smallest effect that a number of seeds detects."""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
import scipy.stats

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real, shown
from gdlab.statistics.intervals import Interval

MOST_SEEDS = 10_000_000


@checked('effect', 'num_seeds', 'significance')
def paired_power(effect: float, num_seeds: int, *, significance: float = 0.05) -> float:
  r"""The power of a two-sided paired t test over n seeds, the probability that it detects an effect.

  $P(|T| > t_{1 - \alpha/2})$ with T noncentral t of n - 1 degrees of freedom and noncentrality $d \sqrt n$. Exact for
  Gaussian differences.

  Example:
    >>> round(paired_power(0.5, 34), 3)
    0.808

  Args:
    effect: d, the mean difference of the two arms over the standard deviation of the differences between seeds.
    num_seeds: n >= 2.
    significance: alpha in (0, 1), the probability of detecting an effect that is not there.

  Raises:
    InputError: if an argument is out of range.

  Source: Cohen 1988, Statistical power analysis for the behavioral sciences, section 2.3.
  """
  check_real('effect', effect)
  check_count('num_seeds', num_seeds, minimum=2)
  check_real('significance', significance, above=0, below=1)
  return _power(float(effect), num_seeds, float(significance))


@checked('effect')
def seeds_needed(effect: float, *, power: float = 0.8, significance: float = 0.05) -> int:
  """The fewest seeds with which a two-sided paired t test has a given power; see `paired_power`.

  Example:
    >>> seeds_needed(1.0), seeds_needed(0.5), seeds_needed(0.2)
    (10, 34, 199)

  Args:
    effect: d, not zero, as in `paired_power`.
    power: in (significance, 1), the probability of detecting it.
    significance: in (0, 1).

  Raises:
    InputError: if an argument is out of range, or more than ten million seeds would be needed.
  """
  _check_goal(power, significance)
  if check_real('effect', effect) == 0:
    raise InputError('effect must differ from 0, got 0: no number of seeds shows that there is none')
  low, high = 1, 2
  while _power(effect, high, significance) < power:
    low, high = high, 2 * high
    if high > MOST_SEEDS:
      raise InputError(f'effect must be large enough for {MOST_SEEDS:,} seeds to show it, got {effect}')
  while high - low > 1:  # the power grows with the seeds
    middle = (low + high) // 2
    low, high = (middle, high) if _power(effect, middle, significance) < power else (low, middle)
  return high


@checked('num_seeds')
def smallest_effect(num_seeds: int, *, power: float = 0.8, significance: float = 0.05) -> float:
  """The smallest d > 0 that a two-sided paired t test detects with a given power; see `paired_power`.

  Example:
    >>> round(smallest_effect(5), 2), round(smallest_effect(20), 2)
    (1.68, 0.66)

  Args:
    num_seeds: >= 2.
    power: in (significance, 1), the probability of detecting it.
    significance: in (0, 1).

  Raises:
    InputError: if an argument is out of range.
  """
  check_count('num_seeds', num_seeds, minimum=2)
  _check_goal(power, significance)
  high = 1.0
  while _power(high, num_seeds, significance) < power:
    high *= 2
  return float(
    scipy.optimize.brentq(lambda effect: _power(effect, num_seeds, significance) - power, 0, high, rtol=1e-10)
  )


@checked('draw', 'num_seeds', 'significance', 'num_trials', 'confidence')
def simulated_power(
  test: Callable[..., Any],
  draw: Callable[..., Any] | tuple[Callable[..., Any], ...],
  num_seeds: int,
  *,
  significance: float = 0.05,
  num_trials: int = 10_000,
  confidence: float = 0.95,
) -> Interval:
  """The power of any test by simulation, such as a rank test, for which there is no formula.

  By `scipy.stats.power`, with the exact binomial interval of the share of simulations in which the test rejected.

  Example:
    >>> import numpy as np, scipy.stats
    >>> rng = np.random.default_rng(0)
    >>> found = simulated_power(scipy.stats.wilcoxon, lambda size: rng.normal(1, 1, size), 10, num_trials=500)
    >>> bool(found.low < found.estimate < found.high)
    True

  Args:
    test: `(sample, ...) -> result with .pvalue`, or the p-value itself; SciPy's tests with an `axis` run on all
      simulations at once.
    draw: `(size) -> float[size]` draws the values of one arm (or the paired differences) under the effect; a tuple of
      two for a test of two samples. It has its own generator.
    num_seeds: per sample, >= 2.
    significance: in (0, 1); a p-value equal to it rejects.
    num_trials: number of simulated studies.
    confidence: of the interval, in (0, 1).

  Raises:
    InputError: if an argument is out of range.
  """
  check_count('num_seeds', num_seeds, minimum=2)
  check_count('num_trials', num_trials)
  check_real('significance', significance, above=0, below=1)
  check_real('confidence', confidence, above=0, below=1)
  draws = draw if isinstance(draw, tuple) else (draw,)
  if not draws or not all(callable(one) for one in draws):
    raise InputError(f'draw must be a function (size) -> float[size], or a tuple of some, got {shown(draw)}')
  found = scipy.stats.power(test, draws, (num_seeds,) * len(draws), n_resamples=num_trials)
  # Counted here: SciPy's own count leaves out p-values equal to the level, which exact tests reach.
  rejected = int(np.sum(found.pvalues <= significance))
  share = scipy.stats.binomtest(rejected, num_trials)
  low, high = share.proportion_ci(confidence)
  return Interval(share.statistic, float(low), float(high), confidence, num_trials, 0)


def _power(effect: float, num_seeds: int, significance: float) -> float:
  freedom, shift = num_seeds - 1, abs(effect) * np.sqrt(num_seeds)
  border = scipy.stats.t.isf(significance / 2, freedom)
  # P(T < -border) for the shift is P(T > border) for minus the shift; SciPy's lower tail is NaN far out.
  return float(scipy.stats.nct.sf(border, freedom, [shift, -shift]).sum())


def _check_goal(power: float, significance: float) -> None:
  check_real('significance', significance, above=0, below=1)
  check_real('power', power, above=significance, below=1)
