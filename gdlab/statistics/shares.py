"""Shares of yes-or-no values with exact intervals."""

import numpy as np
import numpy.typing as npt
import scipy.stats

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_real
from gdlab.statistics.intervals import Interval


@checked('flags')
def share(flags: npt.ArrayLike, *, confidence: float = 0.95) -> Interval:
  """The share of True values, with Clopper and Pearson's exact interval.

  It has a width even if all values agree. Without values it is NaN, with the interval [0, 1].

  Args:
    flags: bool[n], one per run.
    confidence: in (0, 1); the coverage is at least this.

  Raises:
    InputError: if `flags` is not bool[n], or `confidence` is out of range.

  Source: Clopper and Pearson 1934, Biometrika 26.
  """
  return _share(_flags('flags', flags), confidence)


def _flags(name: str, flags: npt.ArrayLike) -> np.ndarray:
  given = np.asarray(flags)
  if given.ndim != 1 or given.dtype != bool:
    raise InputError(
      f'{name} must be bool with one dimension, one per run, got {given.dtype} of shape {given.shape}'
    )
  return given


def _share(given: np.ndarray, confidence: float) -> Interval:
  check_real('confidence', confidence, above=0, below=1)
  if not given.size:
    return Interval(np.nan, 0.0, 1.0, confidence, 0, 0)
  low, high = scipy.stats.binomtest(int(given.sum()), given.size).proportion_ci(confidence)
  return Interval(float(given.mean()), float(low), float(high), confidence, given.size, 0)


@checked('confidence')
def share_difference(first: npt.ArrayLike, second: npt.ArrayLike, *, confidence: float = 0.95) -> Interval:
  """The difference of two shares, with an interval that is valid whether the runs are paired or not.

  Its ends come from the intervals of both shares at half the error each (Bonferroni), so that it has a width even if
  all runs of an arm agree, unlike a bootstrap.

  Args:
    first: bool[n], one per run.
    second: bool[m], one per run.
    confidence: as for `share`.

  Raises:
    InputError: as for `share`.
  """
  check_real('confidence', confidence, above=0, below=1)
  level = (1 + confidence) / 2
  a, b = (_share(_flags(*given), level) for given in (('first', first), ('second', second)))
  return Interval(a.estimate - b.estimate, a.low - b.high, a.high - b.low, confidence, min(a.num, b.num), 0)
