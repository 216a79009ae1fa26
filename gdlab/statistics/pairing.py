"""Effects of arms that share their seeds: differences and ratios, matched by seed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError
from gdlab.statistics.intervals import Interval, floats
from gdlab.statistics.resampling import bootstrap


@checked
def paired_differences(a: Any, b: Any) -> Any:
  """The differences a - b, matched by seed.

  Args:
    a: float[seed, ...], an array, or an `xarray.DataArray` whose dimension `seed` has a coordinate.
    b: of the same kind and shape. DataArrays are matched by seed id, in the order of `a`.

  Returns:
    The differences in float64, in an array of the kind of `a`.

  Raises:
    InputError: if shapes or coordinates differ, a seed is in only one of the two, or only one has seed ids.
  """
  a, b = _matched(a, b)
  with np.errstate(invalid='ignore'):  # Two runs that both diverged differ by inf - inf: NaN, and excluded.
    return a - b


@checked
def paired_interval(a: Any, b: Any, statistic: Callable[..., Any] = np.mean, **options: Any) -> Interval:
  """The `bootstrap` interval of a statistic of the differences a - b of two arms, float[seed] each.

  By default of their mean: Student's t, as in `paired_t_test`.

  Args:
    a: as in `paired_differences`.
    b: as in `paired_differences`.
    statistic: of the differences.
    **options: of `bootstrap`.

  Raises:
    InputError: as `paired_differences` and `bootstrap`.
  """
  return bootstrap(paired_differences(a, b), statistic, **options)


@checked
def paired_log_ratio(a: Any, b: Any, **options: Any) -> Interval:
  """The geometric mean of the ratios a / b, matched by seed, with its interval on the ratio's scale.

  The `bootstrap` interval of the mean of log(a / b), exponentiated: Student's t by default, which is exact for
  log-normal ratios. Zeros and infinities are valid (0 / 1 is the ratio 0); a pair whose ratio is undefined (0 / 0,
  inf / inf) is excluded.

  Args:
    a: float[seed] >= 0, as in `paired_differences`.
    b: float[seed] >= 0.
    **options: of `bootstrap`.

  Raises:
    InputError: if a value is negative, or as `paired_differences` and `bootstrap`.
  """
  a, b = (floats(name, values) for name, values in zip('ab', _matched(a, b), strict=True))
  if (a < 0).any() or (b < 0).any():
    raise InputError(f'a ratio needs values >= 0, got a minimum of {np.nanmin([a, b])}')
  with np.errstate(divide='ignore', invalid='ignore', over='ignore'):  # an end beyond all floats is infinite
    interval = bootstrap(np.log(a) - np.log(b), **options)
    estimate, low, high = (float(np.exp(end)) for end in interval[:3])
  return interval._replace(estimate=estimate, low=low, high=high)


def _matched(a: Any, b: Any) -> tuple[Any, Any]:
  """`a` and `b` with the same seeds in the same order; see `paired_differences`."""
  if isinstance(a, xr.DataArray) != isinstance(b, xr.DataArray):
    raise InputError('a and b must both carry seed ids (xarray.DataArray) or neither')
  if not isinstance(a, xr.DataArray):
    a, b = floats('a', a), floats('b', b)
    if a.shape != b.shape:
      raise InputError(f'a and b must have the same shape to be paired, got {a.shape} and {b.shape}')
    return a, b
  for name, array in (('a', a), ('b', b)):
    if 'seed' not in array.indexes or not array.indexes['seed'].is_unique:
      raise InputError(f"{name} must have a dimension 'seed' whose coordinate names each seed once")
  # As floats: unsigned counts would wrap around, and flags cannot be subtracted.
  a, b = (array.copy(data=floats(name, array)) for name, array in (('a', a), ('b', b)))
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
