"""Checks of numbers and arrays. Each raises InputError with argument, value and range."""

import math
from typing import Any

import numpy as np

from gdlab.core.errors import InputError, check_real, shown


def as_floats(name: str, value: Any) -> np.ndarray:
  """Returns `value` as a float64 array of finite numbers, of any shape."""
  try:
    array = np.asarray(value)
  except ValueError as error:
    raise InputError(f'{name} must be a rectangular array of numbers, got {shown(value)}: {error}') from None
  if array.dtype.kind not in 'iuf':
    raise InputError(f'{name} must be real numbers, got {shown(value)}')
  array = array.astype(np.float64)
  if not np.isfinite(array).all():
    raise InputError(f'{name} must be finite, got {shown(value)}')
  return array


def nonnegative(name: str, value: Any) -> np.ndarray:
  """Returns `value` as a float64 array of finite numbers >= 0."""
  array = as_floats(name, value)
  if (array < 0).any():
    raise InputError(f'{name} must be >= 0, got {array[array < 0][0]}')
  return array


def positive(name: str, value: Any) -> np.ndarray:
  """Returns `value` as a float64 array of finite numbers > 0."""
  array = as_floats(name, value)
  if (array <= 0).any():
    raise InputError(f'{name} must be > 0, got {array[array <= 0][0]}')
  return array


def positive_number(name: str, value: Any) -> float:
  """Returns `value` as a float if it is a finite real number > 0."""
  return float(check_real(name, value, above=0.0, below=math.inf))


def nonnegative_number(name: str, value: Any) -> float:
  """Returns `value` as a float if it is a finite real number >= 0."""
  return float(check_real(name, value, minimum=0))


def finite_number(name: str, value: Any) -> float:
  """Returns `value` as a float if it is a finite real number."""
  try:
    return float(check_real(name, value))
  except InputError:
    raise InputError(f'{name} must be a finite real number, got {shown(value)}') from None


def momentum_factor(value: Any, name: str = 'momentum') -> float:
  """Returns `value` as a float if it lies in [0, 1)."""
  return float(check_real(name, value, minimum=0, below=1))


def spectrum(name: str, value: Any) -> np.ndarray:
  """Returns eigenvalues float[d] > 0 as a float64 array."""
  array = positive(name, value)
  if array.ndim != 1 or array.size == 0:
    raise InputError(f'{name} must have shape [d] with d >= 1, got {array.shape}')
  return array


def per_direction(name: str, value: Any, size: int) -> np.ndarray:
  """Returns numbers >= 0, one for all directions or one for each, as float64[size]."""
  array = nonnegative(name, value)
  if array.shape not in ((), (size,)):
    raise InputError(f'{name} must be one number or one per eigenvalue, ({size},), got shape {array.shape}')
  return np.broadcast_to(array, (size,))


def together(**arrays: np.ndarray) -> tuple[np.ndarray, ...]:
  """Returns arrays broadcast against each other, in the order of their names."""
  try:
    return np.broadcast_arrays(*arrays.values())
  except ValueError:
    shapes = ', '.join(f'{name} of {array.shape}' for name, array in arrays.items())
    raise InputError(f'shapes must broadcast against each other, got {shapes}') from None


def symmetric(name: str, value: Any, size: int | None = None) -> np.ndarray:
  """Returns a symmetric matrix as float64[d, d]."""
  array = as_floats(name, value)
  if array.ndim != 2 or array.shape[0] != array.shape[1] or (size is not None and array.shape[0] != size):
    raise InputError(f'{name} must have shape [{size or "d"}, {size or "d"}], got {array.shape}')
  scale = np.abs(array).max(initial=0)
  if np.abs(array - array.T).max(initial=0) > 1e-6 * scale:
    raise InputError(f'{name} must be symmetric, got entries that differ by {np.abs(array - array.T).max()}')
  return (array + array.T) / 2


def semidefinite(name: str, value: Any, size: int | None = None) -> np.ndarray:
  """Returns a covariance, a symmetric and positive semidefinite matrix, as float64[d, d]."""
  array = symmetric(name, value, size)
  least = float(np.linalg.eigvalsh(array)[0]) if array.size else 0.0
  # As for symmetry, what comes from float32 may be off by its rounding.
  if least < -1e-6 * np.abs(array).max(initial=0):
    raise InputError(f'{name} must be positive semidefinite, got least eigenvalue {least}')
  return array
