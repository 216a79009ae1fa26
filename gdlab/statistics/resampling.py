"""Bootstrap intervals, and what is fitted seed by seed and then resampled: slopes in logarithms."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats

from gdlab.errors import InputError, check_count, check_real
from gdlab.statistics.intervals import Interval, floats


def bootstrap(
  values: npt.ArrayLike,
  statistic: Callable[..., Any] = np.mean,
  *,
  confidence: float = 0.95,
  num_resamples: int = 9999,
  seed: int = 0,
) -> Interval:
  """A BCa bootstrap interval of `statistic` that survives ties, single values, NaN and infinities.

  All values equal give an interval without width; one value gives (-inf, inf). Where BCa is undefined (its
  jackknife has no spread, or a value is infinite) the percentile interval stands in, with its ends taken at
  order statistics, since interpolating towards an infinity gives NaN. An infinite value is a legitimate
  observation (a run that diverged), and what it does is up to the statistic: a median may stay finite, a
  mean does not. A statistic that is NaN, on the values or on a resample, leaves (-inf, inf).

  With few values the interval is too narrow, as every bootstrap interval is: at the nominal 95 % the one of
  the mean of n Gaussian values covers about P(|t_{n-1}| < 1.96 sqrt((n-1)/n)): 93 % at n=20, 89 % at n=8,
  85 % at n=5.

  Args:
    values: float[n], one per seed. NaN is left out and counted; n up to a few thousand (memory n**2).
    statistic: `(values) -> float`; with an `axis` argument it is called once for all resamples.
    confidence: nominal coverage, in (0, 1).
    num_resamples: number of bootstrap resamples.
    seed: of the resampling; the same values and seed give the same interval.

  Raises:
    InputError: if `values` is not one-dimensional and real, or another argument is out of range.

  Source: Efron 1987, Better bootstrap confidence intervals, JASA 82.
  """
  check_real('confidence', confidence, above=0, below=1)
  check_count('num_resamples', num_resamples)
  given = floats('values', values)
  if given.ndim != 1:
    raise InputError(f'values must have one dimension, one value per seed, got shape {given.shape}')
  used = given[~np.isnan(given)]
  unknown = Interval(np.nan, -np.inf, np.inf, confidence, used.size, given.size - used.size)
  if not used.size:
    return unknown
  with warnings.catch_warnings(), np.errstate(all='ignore'):
    # The degenerate cases that SciPy and NumPy warn about are the ones handled here by value.
    warnings.simplefilter('ignore', RuntimeWarning)
    estimate = float(statistic(used))
    if used.size == 1 or np.isnan(estimate):
      return unknown._replace(estimate=estimate)
    if np.all(used == used[0]):
      # Resampled sums of equal values differ in their last bits, and BCa then puts low above high.
      return unknown._replace(estimate=estimate, low=estimate, high=estimate)
    result = scipy.stats.bootstrap(
      (used,),
      statistic,
      n_resamples=num_resamples,
      confidence_level=confidence,
      method='BCa' if np.isfinite(used).all() else 'percentile',
      rng=np.random.default_rng(seed),
    )
  low, high = result.confidence_interval
  if not np.isfinite([low, high]).all():
    low, high = _percentiles(result.bootstrap_distribution, confidence)
  return unknown._replace(estimate=estimate, low=float(low), high=float(high))


def _percentiles(resampled: np.ndarray, confidence: float) -> tuple[float, float]:
  """The ends of the percentile interval, at order statistics rounded outwards."""
  if np.isnan(resampled).any():
    return -np.inf, np.inf
  ordered, last = np.sort(resampled), resampled.size - 1
  low, high = (1 - confidence) / 2 * last, (1 + confidence) / 2 * last
  return ordered[int(np.floor(low))], ordered[int(np.ceil(high))]


def loglog_slope(x: npt.ArrayLike, y: npt.ArrayLike, **options: Any) -> tuple[np.ndarray, Interval]:
  """The least-squares slope of log y on log x for each seed, and the interval of its mean over seeds.

  Args:
    x: float[k] > 0, at least two of them different.
    y: float[seed, k] > 0. A seed with a value that is NaN or infinite gets the slope NaN and is excluded.
    **options: of `bootstrap`.

  Returns:
    `(slopes float[seed], interval)`.

  Raises:
    InputError: if shapes do not match, a value has no logarithm, or `x` is constant.
  """
  x, y = floats('x', x), floats('y', y)
  if x.ndim != 1 or y.ndim != 2 or y.shape[1] != x.size:
    raise InputError(f'x must have shape [k] and y [seed, k], got {x.shape} and {y.shape}')
  if not (np.isfinite(x).all() and (x > 0).all() and np.unique(x).size > 1):
    raise InputError(f'x must hold at least two different positive finite values, got {x.tolist()}')
  if (y <= 0).any():
    raise InputError(f'y must be positive to have a logarithm, got a minimum of {np.nanmin(y)}')
  centred = np.log(x) - np.log(x).mean()
  usable = np.where(np.isfinite(y).all(axis=1, keepdims=True), y, np.nan)
  slopes = np.log(usable) @ centred / (centred @ centred)
  return slopes, bootstrap(slopes, **options)
