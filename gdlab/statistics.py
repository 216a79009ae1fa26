"""Effects over seeds with intervals: bootstrap, pairing by seed, slopes, first crossings. NumPy, on the host.

Two arms of a comparison that share their seeds share initialisation and data order, so their difference (or
ratio) seed by seed has the smaller variance; that is why effects are paired before they are averaged.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.stats
import xarray as xr

from gdlab.errors import InputError, check_count, check_real


class Interval(NamedTuple):
  """An estimate with its confidence interval; (-inf, inf) where the values say nothing about the spread.

  Attributes:
    estimate: the statistic of the values, NaN if there are none.
    low: lower end.
    high: upper end.
    confidence: in (0, 1]; 1 for what is known exactly.
    num: how many values were used.
    excluded: how many NaN values were left out.
  """

  estimate: float
  low: float
  high: float
  confidence: float
  num: int
  excluded: int


class Crossing(NamedTuple):
  """When each run first reached its target.

  Attributes:
    time: float[...]; where censored, the end of the run, a lower bound on the true time.
    censored: bool[...], True for runs that never got there.
  """

  time: np.ndarray
  censored: np.ndarray


def exactly(value: float, *, num: int = 1) -> Interval:
  """The interval without width of a value known exactly, such as a count or an identity's error."""
  return Interval(float(value), float(value), float(value), 1.0, num, 0)


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
  given = _floats('values', values)
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


def paired_differences(a: Any, b: Any) -> Any:
  """The differences a - b, matched by seed.

  Args:
    a: float[seed, ...], an array, or an `xarray.DataArray` whose dimension `seed` has a coordinate.
    b: of the same kind and shape. DataArrays are matched by seed id, in the order of `a`.

  Returns:
    The differences, of the kind of `a`.

  Raises:
    InputError: if shapes or coordinates differ, a seed is in one of the two only, or only one has seed ids.
  """
  a, b = _matched(a, b)
  with np.errstate(invalid='ignore'):  # Two runs that both diverged differ by inf - inf: NaN, and excluded.
    return a - b


def paired_interval(a: Any, b: Any, statistic: Callable[..., Any] = np.mean, **options: Any) -> Interval:
  """The `bootstrap` interval of a statistic of the differences a - b of two arms, float[seed] each.

  Args:
    a: as in `paired_differences`.
    b: as in `paired_differences`.
    statistic: of the differences.
    **options: of `bootstrap`.

  Raises:
    InputError: as `paired_differences` and `bootstrap`.
  """
  return bootstrap(paired_differences(a, b), statistic, **options)


def paired_log_ratio(a: Any, b: Any, **options: Any) -> Interval:
  """The geometric mean of the ratios a / b, matched by seed, with its interval on the ratio's scale.

  The `bootstrap` interval of the mean of log(a / b), exponentiated. Zeros and infinities keep their meaning
  (0 / 1 is the ratio 0); a pair whose ratio is undefined (0 / 0, inf / inf) counts as excluded.

  Args:
    a: float[seed] >= 0, as in `paired_differences`.
    b: float[seed] >= 0.
    **options: of `bootstrap`.

  Raises:
    InputError: if a value is negative, or as `paired_differences` and `bootstrap`.
  """
  a, b = (_floats(name, values) for name, values in zip('ab', _matched(a, b), strict=True))
  if (a < 0).any() or (b < 0).any():
    raise InputError(f'a ratio needs values >= 0, got a minimum of {np.nanmin([a, b])}')
  with np.errstate(divide='ignore', invalid='ignore'):
    interval = bootstrap(np.log(a) - np.log(b), **options)
  estimate, low, high = (float(np.exp(end)) for end in interval[:3])
  return interval._replace(estimate=estimate, low=low, high=high)


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
  x, y = _floats('x', x), _floats('y', y)
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


def first_crossing(times: npt.ArrayLike, values: npt.ArrayLike, target: float) -> Crossing:
  """The first recorded time at which each run's value is at or below `target`; runs that never are, censored.

  A NaN is not below anything, so a run that diverged before its crossing is censored; none is dropped.

  Args:
    times: float[t], or float[..., t] where runs have clocks of their own; increasing along the last axis.
    values: float[..., t], time on the last axis.
    target: the value to reach.

  Raises:
    InputError: if `times` does not fit `values` or does not increase, or there is no time at all.
  """
  check_real('target', target)
  times, values = _floats('times', times), _floats('values', values)
  if not values.ndim or not values.shape[-1] or times.shape not in (values.shape, values.shape[-1:]):
    raise InputError(f'times must have shape [t] or that of values [..., t], got {times.shape}')
  if not (np.diff(times) > 0).all():
    raise InputError('times must increase along the last axis')
  reached = np.less_equal(values, target)
  censored = np.logical_not(reached.any(axis=-1))
  index = np.where(censored, values.shape[-1] - 1, reached.argmax(axis=-1))
  time = np.take_along_axis(np.broadcast_to(times, values.shape), index[..., None], axis=-1)[..., 0]
  return Crossing(time, censored)


def _floats(name: str, values: Any) -> np.ndarray:
  """`values` as a float64 array; raises InputError if they are not real numbers."""
  array = np.asarray(values)
  if array.dtype.kind not in 'biuf':
    raise InputError(f'{name} must be real numbers, got dtype {array.dtype}')
  return array.astype(np.float64)


def _matched(a: Any, b: Any) -> tuple[Any, Any]:
  """`a` and `b` with the same seeds in the same order; see `paired_differences`."""
  if isinstance(a, xr.DataArray) != isinstance(b, xr.DataArray):
    raise InputError('a and b must both carry seed ids (xarray.DataArray) or neither')
  if not isinstance(a, xr.DataArray):
    a, b = _floats('a', a), _floats('b', b)
    if a.shape != b.shape:
      raise InputError(f'a and b must have the same shape to be paired, got {a.shape} and {b.shape}')
    return a, b
  for name, array in (('a', a), ('b', b)):
    if 'seed' not in array.indexes or not array.indexes['seed'].is_unique:
      raise InputError(f"{name} must have a dimension 'seed' whose coordinate names each seed once")
  unpaired = sorted(set(a.seed.values.tolist()) ^ set(b.seed.values.tolist()))
  if unpaired:
    raise InputError(f'seeds in only one of a and b: {unpaired}')
  if set(a.dims) != set(b.dims):
    raise InputError(f'a and b must have the same dimensions, got {a.dims} and {b.dims}')
  try:
    # Arithmetic on DataArrays keeps what both have and drops the rest without a word.
    return xr.align(a, b.sel(seed=a.seed).transpose(*a.dims), join='exact', copy=False)
  except ValueError as error:
    raise InputError(f'a and b differ in another coordinate than seed: {error}'.splitlines()[0]) from error
