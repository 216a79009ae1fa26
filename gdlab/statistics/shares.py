"""Shares of yes-or-no values, and intervals that draw whole runs anew."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats

from gdlab.core.errors import InputError, check_real
from gdlab.statistics.intervals import Interval
from gdlab.statistics.resampling import bootstrap


def share(flags: npt.ArrayLike, *, confidence: float = 0.95) -> Interval:
  """The share of runs of which something holds, with Clopper and Pearson's exact interval.

  It has a width also where all runs agree. Of no runs it is unknown: NaN in [0, 1].

  Args:
    flags: bool[n], one per run.
    confidence: nominal coverage, in (0, 1); the interval covers at least so often.

  Source: Clopper and Pearson 1934, Biometrika 26.
  """
  check_real('confidence', confidence, above=0, below=1)
  given = np.asarray(flags)
  if given.ndim != 1 or given.dtype != bool:
    raise InputError(
      f'flags must be bool with one dimension, one per run, got {given.dtype} of shape {given.shape}'
    )
  if not given.size:
    return Interval(np.nan, 0.0, 1.0, confidence, 0, 0)
  low, high = scipy.stats.binomtest(int(given.sum()), given.size).proportion_ci(confidence)
  return Interval(float(given.mean()), float(low), float(high), confidence, given.size, 0)


def share_difference(first: npt.ArrayLike, second: npt.ArrayLike, *, confidence: float = 0.95) -> Interval:
  """The difference of two shares, with an interval that holds whether the runs are paired or not.

  Its ends are those of the two shares' own intervals at half the error each (Bonferroni), so that it keeps a width
  where all runs of an arm agree, as a bootstrap would not.
  """
  check_real('confidence', confidence, above=0, below=1)
  a, b = (share(flags, confidence=(1 + confidence) / 2) for flags in (first, second))
  return Interval(a.estimate - b.estimate, a.low - b.high, a.high - b.low, confidence, min(a.num, b.num), 0)


def cluster_bootstrap(
  statistic: Callable[[np.ndarray], Any], num: int, *, vectorized: bool = False, **options: Any
) -> Interval:
  """The bootstrap interval of a function of the runs' numbers: all that belongs to a run is drawn together.

  For slopes, ratios and correlations over several values of a run; a mean of one value each has `bootstrap`.

  Args:
    statistic: int[num] -> float, of the numbers of the runs that were drawn.
    num: how many runs there are.
    vectorized: whether the statistic takes all draws at once, int[..., num] -> float[...].
    **options: of `bootstrap`.

  Source: Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8.
  """

  def whole(places: Any) -> Any:
    return statistic(np.asarray(places).astype(int))

  def at_once(places: Any, axis: int = -1) -> Any:
    return whole(np.moveaxis(np.asarray(places), axis, -1))

  return bootstrap(np.arange(num), at_once if vectorized else whole, **options)
