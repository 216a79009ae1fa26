"""Errors for bad input: one exception, and the checks that raise it where the input is given.

Every message names the argument, its value and the allowed values on one line, so that scripts can print it as it is.
"""

import difflib
import math
import numbers
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np


class InputError(ValueError):
  """An argument, a file or a configuration that gdlab cannot accept. The message is one clear line."""


def shown(value: Any) -> str:
  """`repr(value)` on one line of bounded length, for messages."""
  text = ' '.join(repr(value).split())
  return text if len(text) <= 80 else f'{text[:77]}...'


def check_count(
  name: str, value: Any, *, minimum: int = 1, maximum: int | None = None, traced: bool = False
) -> Any:
  """Returns `value` as an int if it is a whole number in [minimum, maximum]; raises InputError if not.

  With `traced`, for numbers that can be swept inside one compilation, scalar integer arrays are allowed too and are
  returned unchanged. A tracer has no value yet: only its type is checked.
  """
  allowed = f'a whole number >= {minimum}' if maximum is None else f'a whole number in [{minimum}, {maximum}]'
  given = value
  if traced and _is_scalar(value, np.integer):
    if isinstance(value, jax.core.Tracer):
      return value
    value = int(value)
  if isinstance(value, bool) or not isinstance(value, numbers.Integral):
    raise InputError(f'{name} must be {allowed}, got {shown(value)} of type {type(value).__name__}')
  number = int(value)
  if number < minimum or (maximum is not None and number > maximum):
    raise InputError(f'{name} must be {allowed}, got {number}')
  return number if value is given else given


def check_real(
  name: str,
  value: Any,
  *,
  above: float = -math.inf,
  below: float = math.inf,
  minimum: float | None = None,
  maximum: Any = None,
) -> Any:
  """Returns `value` if it is a finite real number within its bounds; raises InputError if not.

  A tracer has no value yet and passes unchecked, so that hyperparameters can be swept inside one compilation; a
  `maximum` that is a tracer is ignored.

  Args:
    name: the argument's name in messages.
    value: the argument.
    above: exclusive lower bound.
    below: exclusive upper bound.
    minimum: inclusive lower bound.
    maximum: inclusive upper bound.
  """
  if isinstance(value, jax.core.Tracer):
    return value
  if isinstance(maximum, jax.core.Tracer):
    maximum = None
  left = f'({above}' if minimum is None else f'[{minimum}'
  right = f'{below})' if maximum is None else f'{maximum}]'
  only_minimum = minimum is not None and maximum is None and below == math.inf
  allowed = f'a real number >= {minimum}' if only_minimum else f'a real number in {left}, {right}'
  is_real = isinstance(value, numbers.Real) or _is_scalar(value, np.integer, np.floating)
  try:
    number = float(value) if is_real and not isinstance(value, bool) else math.nan
  except OverflowError:  # of a whole number that no float holds
    number = math.inf
  if not (
    above < number < below
    and (minimum is None or number >= minimum)
    and (maximum is None or number <= maximum)
  ):
    raise InputError(f'{name} must be {allowed}, got {shown(value)}')
  return value


def check_transformation(name: str, value: Any) -> Any:
  """Returns `value` if it is an Optax gradient transformation; raises InputError if not."""
  if not (callable(getattr(value, 'init', None)) and callable(getattr(value, 'update', None))):
    raise InputError(
      f'{name} must be an Optax gradient transformation such as optax.sgd(0.1), got {shown(value)}'
    )
  return value


def _is_scalar(value: Any, *kinds: type) -> bool:
  """Whether `value` is a scalar array (or tracer) whose dtype is of one of these kinds, half precision included."""
  dtype = getattr(value, 'dtype', None)
  is_kind = dtype is not None and any(jax.dtypes.issubdtype(dtype, kind) for kind in kinds)
  return is_kind and getattr(value, 'shape', None) == ()


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
  """The error for an unknown name; it suggests the nearest known one."""
  known = sorted(known)
  near = difflib.get_close_matches(name, known, n=1)
  hint = f'; did you mean {near[0]!r}?' if near else '.'
  return InputError(f'unknown {kind} {shown(name)}{hint} Known: {", ".join(known)}')
