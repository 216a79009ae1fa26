"""The grid of a sweep: which hyperparameters are traced as lanes, and which shape a program."""

import inspect
import itertools
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gdlab.errors import InputError, shown, unknown_name
from gdlab.training.records import check_names


class Grid(NamedTuple):
  """A checked grid; its points are the product of all axes.

  Attributes:
    axes: every hyperparameter and its values, in the order given.
    traced: those whose values are lanes of one program.
    shaping: those that need a program for each value.
  """

  axes: dict[str, list[Any]]
  traced: dict[str, list[float]]
  shaping: dict[str, list[Any]]

  def groups(self) -> list[dict[str, Any]]:
    """The shaping hyperparameters of every program."""
    return [
      dict(zip(self.shaping, values, strict=True)) for values in itertools.product(*self.shaping.values())
    ]

  def numbers(self, num_seeds: int) -> dict[str, np.ndarray]:
    """The traced hyperparameters of every lane, float[L]; the seeds of a point follow one another."""
    points = np.asarray(list(itertools.product(*self.traced.values())), float)
    return {name: np.repeat(points[:, column], num_seeds) for column, name in enumerate(self.traced)}

  def first_numbers(self) -> dict[str, float]:
    """The traced hyperparameters of the first lane."""
    return {name: float(values[0]) for name, values in self.traced.items()}

  def num_points(self) -> int:
    """How many traced points every program has."""
    return math.prod(len(values) for values in self.traced.values())

  def places(self, num_seeds: int) -> np.ndarray:
    """Where the lanes of every program belong among all runs, which are numbered with axes (*axes, seed).

    Returns:
      int[programs, L].
    """
    sizes = [len(values) for values in self.axes.values()]
    names = list(self.axes)
    numbers = np.arange(math.prod(sizes) * num_seeds).reshape(*sizes, num_seeds)
    order = [names.index(name) for name in (*self.shaping, *self.traced)]
    turned = np.transpose(numbers, (*order, len(order)))
    return turned.reshape(-1, self.num_points() * num_seeds)


def check_grid(
  grid: Mapping[str, Sequence[Any]], make_algorithm: Callable, make_problem: Callable | None
) -> Grid:
  """Checks a grid against the functions that take its hyperparameters.

  Args:
    grid: hyperparameter -> values.
    make_algorithm: takes any of them.
    make_problem: takes those that shape a program; None for a problem that is the same everywhere.

  Raises:
    InputError: if nobody takes a name, or values are missing, repeated or of the wrong kind.
  """
  if not isinstance(grid, Mapping):
    raise InputError(f'grid must be a mapping from hyperparameter to values, got {shown(grid)}')
  if not callable(make_algorithm):
    raise InputError(f'make_algorithm must be a function of hyperparameters, got {shown(make_algorithm)}')
  check_names('hyperparameter', grid)
  axes = {name: _checked_values(name, values) for name, values in grid.items()}
  traced = {name: values for name, values in axes.items() if _is_traced(values)}
  for name in axes:
    takers = [make_algorithm] if name in traced or make_problem is None else [make_algorithm, make_problem]
    known = set[str]().union(*map(_parameters, takers))
    if make_problem is not None and name in traced and name in _parameters(make_problem) - known:
      raise InputError(
        f'problem must be a function of hyperparameters that are not floats, and {name} is one'
      )
    if ANY not in known and name not in known:
      raise unknown_name('hyperparameter', name, known)
  for function in (make_algorithm, make_problem):
    if missing := sorted(_required(function) - axes.keys()):
      raise InputError(
        f'grid must hold {missing[0]!r}, which {_name(function)} needs, got {shown(sorted(axes))}'
      )
  return Grid(axes, traced, {name: values for name, values in axes.items() if name not in traced})


def named_by(function: Callable, values: Mapping[str, Any]) -> dict[str, Any]:
  """Those of the values that a function takes by name."""
  names = _parameters(function)
  return {name: value for name, value in values.items() if ANY in names or name in names}


ANY = '**'  # stands for all names among a function's parameters


def _parameters(function: Callable) -> set[str]:
  kinds = inspect.signature(function).parameters.values()
  return {ANY if kind.kind is kind.VAR_KEYWORD else kind.name for kind in kinds}


def _required(function: Callable | None) -> set[str]:
  """The names that a function cannot be called without."""
  if function is None:
    return set()
  named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
  kinds = inspect.signature(function).parameters.values()
  return {kind.name for kind in kinds if kind.default is kind.empty and kind.kind in named}


def _name(function: Callable | None) -> str:
  return getattr(function, '__name__', repr(function))


def _checked_values(name: str, values: Sequence[Any]) -> list[Any]:
  if isinstance(values, str) or not np.iterable(values):
    raise InputError(f'grid[{name!r}] must be a sequence of values, got {shown(values)}')
  checked = [value.item() if getattr(value, 'shape', None) == () else value for value in values]
  if not checked:
    raise InputError(f'grid[{name!r}] must hold at least one value, got none')
  for value in checked:
    if isinstance(value, float) and not math.isfinite(value):
      raise InputError(f'grid[{name!r}] must hold finite numbers, got {value}')
    try:
      hash(value)
    except TypeError:
      raise InputError(
        f'grid[{name!r}] must hold numbers, strings or other hashable values, got {shown(value)}'
      ) from None
  if len(set(checked)) != len(checked):
    raise InputError(f'grid[{name!r}] must hold distinct values, got {shown(checked)}')
  if len(kinds := {_kind(value): value for value in checked}) > 1:
    raise InputError(
      f'grid[{name!r}] must hold values of one kind, for results give back numbers, strings, or the names of other '
      f'objects, got {" and ".join(shown(value) for value in kinds.values())}: sweep over names of them'
    )
  return checked


def _kind(value: Any) -> str:
  """As what a result gives a value back, see `records.storable`."""
  if isinstance(value, str):
    return 'string'
  return 'number' if isinstance(value, bool | int | float | np.number) else 'object'


def _is_traced(values: Sequence[Any]) -> bool:
  """Whether the values are real numbers, at least one of them a float."""
  real = all(isinstance(value, numbers.Real) and not isinstance(value, bool) for value in values)
  return real and any(isinstance(value, float) for value in values)
