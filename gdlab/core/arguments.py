"""Checks of the arguments of public functions by their annotations: `@checked`.

An annotation gives an argument's type, a few names mean the same everywhere (`seed`, `key`, `confidence`, `params`),
and further checks of a single function are given to its decorator:

    @checked(eigenvalues=array(ndim=1, above=0))
    def condition_number(eigenvalues: Any, *, num_steps: int = 100, seed: int = 0) -> float: ...

Only certain errors are refused: a tracer has no value yet and passes; so do NumPy scalars and one-element arrays in
place of a number. Checks run when Python calls the function, so never inside a compiled program.
"""

import collections.abc
import functools
import inspect
import os
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, overload

import jax
import numpy as np

from gdlab.core.argument_checks import (
  Check,
  anything,
  array,
  at_most_int32,
  check_callable,
  check_finite,
  check_flag,
  check_iterable,
  check_key,
  check_mapping,
  check_seed,
  check_sequence,
  check_whole,
  each,
  is_a,
  optional,
  params_of_problem,
  real,
  state_of_problem,
)
from gdlab.core.errors import InputError, shown

P = ParamSpec('P')
R = TypeVar('R')


@overload
def checked(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def checked(*own: str, **checks: Check) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def checked(*given: Any, **checks: Check) -> Any:
  """Decorates a function so that invalid arguments raise InputError, which names the argument, value and range.

  Args:
    *given: the function; or names of arguments that the function checks itself. Of these only counts (annotated `int`)
      too large for int32 are refused here.
    **checks: checks by argument name, in place of those from the annotations.
  """
  if len(given) == 1 and callable(given[0]):
    return checked()(given[0])

  def decorate(function: Callable[P, R]) -> Callable[P, R]:
    signature = inspect.signature(function)
    if unknown := sorted({*given, *checks} - {*signature.parameters}):
      raise TypeError(f'{function.__name__} has no arguments {unknown}')

    @functools.cache
    def all_checks() -> dict[str, Check]:
      found = {name: check for name, check in _from_annotations(function).items() if name not in given}
      counts = {'int', 'int | None', 'Optional[int]'}
      kinds = {name: inspect.formatannotation(signature.parameters[name].annotation) for name in given}
      own = {name for name, kind in kinds.items() if kind in counts or name == 'seed'}
      return found | dict.fromkeys(own, at_most_int32) | checks

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
      arguments = signature.bind(*args, **kwargs).arguments
      found = all_checks()
      for name, value in arguments.items():
        # The default is right by definition, though it may be None where the annotation leaves it out.
        if name in found and value is not signature.parameters[name].default:
          found[name](name, value, arguments)
      return function(*args, **kwargs)

    return call

  return decorate


# What these names mean wherever they are arguments of the annotated type.
BY_NAME: dict[str, Check] = {
  'key': check_key,
  'seed': check_seed,
  'confidence': real(above=0, below=1),
  'params': params_of_problem,
  'model_state': state_of_problem,
}
BY_TYPE: dict[Any, Check] = {
  int: check_whole,
  float: check_finite,
  bool: check_flag,
  str: is_a(str),
  jax.Array: array(finite=False, empty=True, flags=True),
  np.ndarray: array(finite=False, empty=True, flags=True),
  collections.abc.Callable: check_callable,
  collections.abc.Mapping: check_mapping,
  collections.abc.Sequence: check_sequence,
  collections.abc.Iterable: check_iterable,
}


def _from_annotations(function: Callable[..., Any]) -> dict[str, Check]:
  try:
    hints = typing.get_type_hints(function)
  except NameError:  # imported for the type checker alone
    hints = {}
  found = {}
  for name, parameter in inspect.signature(function).parameters.items():
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or name not in hints:
      continue
    check = _of_type(hints[name], name)
    if check is not None:
      found[name] = check
  return found


def _of_type(hint: Any, name: str) -> Check | None:
  """The check of one annotation; None for one that allows anything or is not known here."""
  if hint is Any and name not in BY_NAME:
    return None
  origin, parts = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    rest = [part for part in parts if part is not types.NoneType]
    if len(rest) > 1:
      return _of_any(rest, name, none=len(rest) < len(parts))
    check = _of_type(rest[0], name)
    return check and optional(check)
  if name in BY_NAME and hint in (Any, int, float, jax.Array):
    return BY_NAME[name]
  if origin is tuple and parts and parts[-1] is not Ellipsis:
    checks = [_of_type(part, name) or anything for part in parts]
    return _each_of(checks)
  if origin in (tuple, list):
    return check_sequence
  if origin is collections.abc.Sequence and parts[0] not in (int, float, bool):
    part_check = _of_type(parts[0], name)
    return each(part_check, empty=True) if part_check else check_sequence
  kind = origin or hint
  if kind in BY_TYPE:
    return BY_TYPE[kind]
  if isinstance(kind, type) and kind is not type and not getattr(kind, '_is_protocol', False):
    return is_a(kind)
  return None


def _each_of(checks: list[Check]) -> Check:
  def check(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
    check_sequence(name, value, arguments)
    if len(value) != len(checks):
      raise InputError(f'{name} must have {len(checks)} entries, got {len(value)}: {shown(value)}')
    for place, (part, part_check) in enumerate(zip(value, checks, strict=True)):
      part_check(f'{name}[{place}]', part, arguments)

  return check


def _of_any(hints: list[Any], name: str, *, none: bool) -> Check | None:
  """The check of a union: what any of its members allows. The message lists their types."""
  if any(typing.get_origin(hint) is None and hint in (complex, bytes) for hint in hints):
    return array(finite=False, empty=True, flags=True)  # numpy.typing.ArrayLike
  if any(hint is os.PathLike or typing.get_origin(hint) is os.PathLike for hint in hints):
    hints = [str, os.PathLike]
  checks = [_of_type(hint, name) for hint in hints]
  if None in checks:
    return None
  kinds = [getattr(typing.get_origin(hint) or hint, '__name__', str(hint)) for hint in hints]

  def check(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
    if (value is None and none) or (jax.Array in hints and isinstance(value, jax.Array)):
      return  # a key is an array too, though not one of numbers
    errors = []
    for one in checks:
      try:
        return typing.cast(Check, one)(name, value, arguments)
      except InputError as error:
        errors.append(error)
    raise InputError(
      f'{name} must be {" or ".join(kinds)}{" or None" * none}, got {shown(value)} of type {type(value).__name__}'
    )

  return check
