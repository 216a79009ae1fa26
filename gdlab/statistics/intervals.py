"""An estimate with its interval, and this package's common check of values."""

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from gdlab.core.argument_checks import count, real
from gdlab.core.arguments import checked
from gdlab.core.errors import InputError


class Interval(NamedTuple):
  """An estimate with its confidence interval; (-inf, inf) where the values do not determine one.

  Attributes:
    estimate: the statistic of the values, NaN if there are none.
    low: lower end.
    high: upper end.
    confidence: in (0, 1]; 1 for a value that is known exactly.
    num: number of values used.
    excluded: number of NaN values left out.
  """

  estimate: float
  low: float
  high: float
  confidence: float
  num: int
  excluded: int


@checked(value=real(infinite=True), num=count(0))
def exactly(value: float, *, num: int = 1) -> Interval:
  """The interval of zero width of a value that is known exactly, such as a count."""
  return Interval(float(value), float(value), float(value), 1.0, num, 0)


def floats(name: str, values: Any) -> np.ndarray:
  """`values` as a float64 array; raises InputError if they are not real numbers or some of them are masked."""
  if any(np.ma.is_masked(part) for part in (values if isinstance(values, (list, tuple)) else [values])):
    raise InputError(
      f'{name} must have no masked values, which would count as numbers; give .filled(numpy.nan)'
    )
  array = np.asarray(values)
  if not np.can_cast(array.dtype, np.float64, 'same_kind'):
    raise InputError(f'{name} must be real numbers, got dtype {array.dtype}')
  return array.astype(np.float64)


def along(name: str, values: Any, *order: Any) -> np.ndarray:
  """`floats` of an array; an `xarray.DataArray` is transposed to this order of dims."""
  if isinstance(values, xr.DataArray) and set(order) - {...} <= set(values.dims):
    values = values.transpose(*order)
  return floats(name, values)
