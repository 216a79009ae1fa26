"""Checks of the arguments of plots, before anything is drawn."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from gdlab.core.errors import InputError, shown
from gdlab.statistics.intervals import floats


def arms(name: str, given: Any) -> Mapping[str, Any]:
  """Returns a mapping from labels with at least one entry; raises InputError for anything else."""
  if not isinstance(given, Mapping) or not given:
    raise InputError(f'{name} must be a mapping from label to what is drawn, got {shown(given)}')
  return given


def numbers(name: str, values: Any, dims: tuple[int, ...], *, finite: bool = False) -> np.ndarray:
  """Real numbers as float64 with one of the given numbers of dimensions, and at least one that can be drawn."""
  array = floats(name, values)
  if array.ndim not in dims or not array.size:
    allowed = ' or '.join(map(str, dims))
    raise InputError(f'{name} must be numbers with {allowed} dimensions, got shape {list(array.shape)}')
  if not np.isfinite(array).any() or (finite and not np.isfinite(array).all()):
    raise InputError(
      f'{name} must be {"finite" if finite else "finite somewhere"}, got {shown(array.tolist())}'
    )
  return array


def variable(name: str, result: Any, wanted: str, dims: tuple[set[str], ...]) -> xr.DataArray:
  """A variable or coordinate of a Dataset, with one of the given sets of dimensions."""
  if not isinstance(result, xr.Dataset):
    raise InputError(f'{name} must be an xarray.Dataset, got {shown(type(result).__name__)}')
  if wanted not in result.variables:
    raise InputError(
      f'{name} has no variable {wanted!r}, only {", ".join(sorted(map(str, result.variables)))}'
    )
  found = result[wanted]
  if set(found.dims) not in dims:
    allowed = ' or '.join(str(tuple(sorted(each))) for each in dims)
    raise InputError(
      f'{name}.{wanted} must have dims {allowed}, got {found.dims}; select the others with .sel'
    )
  return found
