"""Intervals of smooth functions of whole runs, for few runs: the jackknife with Student's t."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import stdtrit

from gdlab.core.arguments import checked
from gdlab.core.errors import check_count, check_real, unknown_name
from gdlab.statistics.intervals import Interval

SCALES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
  'plain': (lambda value: value, lambda value: value),
  'log': (np.log, np.exp),
  'fisher': (np.arctanh, np.tanh),
}


@checked('num', 'confidence')
def jackknife(
  statistic: Callable[[np.ndarray], Any], num: int, *, confidence: float = 0.95, scale: str = 'plain'
) -> Interval:
  r"""The interval of a smooth function of runs, by leaving out one run at a time with all its values.

  With $\hat\theta_{(i)}$ the statistic without run i, on the scale, and $\bar\theta$ their mean, the standard error is
  $s^2 = \frac{n-1}{n} \sum_i (\hat\theta_{(i)} - \bar\theta)^2$ and the interval $\hat\theta \pm t_{n-1} s$.

  For slopes, ratios of means and correlations, where the coverage at the nominal 95 % is 94 to 96 % for n = 8, 16 and
  32 Gaussian runs (in the tests); that of BCa for the mean is 89 to 93. Not for medians or other order statistics,
  whose jackknife is not consistent.

  Args:
    statistic: int[m] -> float, a function of the indices of the runs to use.
    num: number of runs; with fewer than 3 the interval is unbounded.
    confidence: nominal coverage, in (0, 1).
    scale: on which the statistic is nearly normal: 'plain'; 'log' for ratios; 'fisher' (arctanh) for correlations.

  Returns:
    The Interval; unbounded if the statistic, with all runs or without one, is not finite on the scale.

  Raises:
    InputError: an argument out of range.

  Source: Tukey 1958, Bias and confidence in not-quite large samples, Ann. Math. Statist. 29; Miller 1974, The
  jackknife: a review, Biometrika 61.
  """
  check_real('confidence', confidence, above=0, below=1)
  check_count('num', num)
  if scale not in SCALES:
    raise unknown_name('scale', str(scale), SCALES)
  to, back = SCALES[scale]
  runs = np.arange(num)
  whole = float(statistic(runs))
  if num < 3:
    return Interval(whole, -np.inf, np.inf, confidence, num, 0)
  with np.errstate(all='ignore'):
    centre = to(whole)
    others = np.asarray([to(float(statistic(np.delete(runs, run)))) for run in runs])
    error = np.sqrt((num - 1) / num * np.sum((others - others.mean()) ** 2))
    half = stdtrit(num - 1, (1 + confidence) / 2) * error
  if not np.isfinite([centre, half]).all():
    return Interval(whole, -np.inf, np.inf, confidence, num, 0)
  with np.errstate(over='ignore'):  # an end beyond all floats is infinite
    low, high = float(back(centre - half)), float(back(centre + half))
  return Interval(whole, low, high, confidence, num, 0)
