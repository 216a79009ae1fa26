"""The points of a sweep: which hyperparameters are traced, and which are static (one program per value)."""

import inspect
import itertools
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gdlab.core.errors import InputError, shown, unknown_name
from gdlab.core.types import Algorithm
from gdlab.results.datasets import TRIAL, check_names


class Grid(NamedTuple):
  """Checked points: the product of all axes, one of which may be a list of trials.

  Attributes:
    axes: every dim of the result and its values, in order; those of `trial` are 0, 1, ...
    trials: hyperparameter -> its value in every trial.
    traced: the hyperparameters whose values are lanes of one program; the others need one program per value.
  """

  axes: dict[str, list[Any]]
  trials: dict[str, list[Any]]
  traced: tuple[str, ...]

  def points(self) -> list[dict[str, Any]]:
    """The hyperparameters of every point, in the order of the axes."""
    found = []
    for values in itertools.product(*self.axes.values()):
      point = dict(zip(self.axes, values, strict=True))
      trial = point.pop(TRIAL, None)
      found.append(point | {name: column[trial] for name, column in self.trials.items()})
    return found

  def programs(self, num_seeds: int) -> list[tuple[dict[str, Any], dict[str, np.ndarray], np.ndarray]]:
    """The programs that the runs need.

    Returns:
      For each `(structure, numbers, places)`: its static hyperparameters; the traced ones of its lanes, name ->
      float[L], seeds varying fastest; and the lanes' flat indices, int[L], among all runs, with axes (*axes, seed).
    """
    points = self.points()
    members: dict[tuple, list[int]] = {}
    for number, point in enumerate(points):
      # By type too: True is 1, and may be something else to the algorithm.
      shape = tuple((name, value, type(value)) for name, value in point.items() if name not in self.traced)
      members.setdefault(shape, []).append(number)
    found = []
    for shape, own in members.items():
      columns = {name: np.asarray([points[number][name] for number in own], float) for name in self.traced}
      numbers_ = {name: np.repeat(column, num_seeds) for name, column in columns.items()}
      places = np.add.outer(np.asarray(own) * num_seeds, np.arange(num_seeds)).ravel()
      found.append(({name: value for name, value, _ in shape}, numbers_, places))
    return found


def check_grid(
  grid: Mapping[str, Sequence[Any]] | None,
  trials: Mapping[str, Sequence[Any]] | None,
  make_algorithm: Any,
  make_problem: Callable | None,
  num_steps: Any = None,
) -> Grid:
  """Checks points against the functions that take their hyperparameters.

  Args:
    grid: hyperparameter -> values; the points are their product; None for none.
    trials: hyperparameter -> its value in every trial; None for none.
    make_algorithm: takes any of them; an Algorithm takes none.
    make_problem: takes static ones; None if the problem is the same at all points.
    num_steps: a number, or a function that takes static ones.

  Raises:
    InputError: if no function takes a name, or values are missing, repeated or of the wrong kind.
  """
  if not callable(make_algorithm) and not isinstance(make_algorithm, Algorithm):
    raise InputError(f'make_algorithm must be a function of hyperparameters, got {shown(make_algorithm)}')
  grid, trials = _mapping('grid', grid), _mapping('points', trials)
  axes = {name: _checked_values('grid', name, values) for name, values in grid.items()}
  for name, values in axes.items():
    if len(set(values)) != len(values):
      raise InputError(f'grid[{name!r}] must hold distinct values, got {shown(values)}')
  columns = {name: _checked_values('points', name, values) for name, values in trials.items()}
  if both := sorted(axes.keys() & columns.keys()):
    raise InputError(f'points and grid must have different hyperparameters, got {both[0]!r} in both')
  lengths = {name: len(column) for name, column in columns.items()}
  if len(set(lengths.values())) > 1:
    raise InputError(
      f'points must hold one value of every hyperparameter for each trial, got {shown(lengths)}'
    )
  every = columns | axes
  traced = tuple(sorted(name for name in every if _is_traced(every[name])))
  makers = [make_algorithm] if callable(make_algorithm) else []
  takers = [function for function in (make_problem, num_steps) if callable(function)]
  for name in every:
    for what, function in (('problem', make_problem), ('num_steps', num_steps)):
      if name in traced and callable(function) and name in _parameters(function):
        raise InputError(
          f'{what} must be a function of hyperparameters that are not floats, and {name} is one'
        )
    known = set[str]().union(*map(_parameters, makers if name in traced else makers + takers))
    if ANY not in known and name not in known:
      raise unknown_name('hyperparameter', name, known)
  for function in makers + takers:
    if missing := sorted(_required(function) - every.keys()):
      raise InputError(
        f'grid must hold {missing[0]!r}, which {_name(function)} needs, got {shown(sorted(every))}'
      )
  trial_axis = {TRIAL: [*range(next(iter(lengths.values())))]} if columns else {}
  return Grid(trial_axis | axes, columns, traced)


def _mapping(name: str, given: Mapping[str, Sequence[Any]] | None) -> Mapping[str, Sequence[Any]]:
  given = {} if given is None else given
  if not isinstance(given, Mapping):
    raise InputError(f'{name} must be a mapping from hyperparameter to values, got {shown(given)}')
  check_names('hyperparameter', given)
  return given


def named_by(function: Callable, values: Mapping[str, Any]) -> dict[str, Any]:
  """The values that a function takes by name."""
  names = _parameters(function)
  return {name: value for name, value in values.items() if ANY in names or name in names}


ANY = '**'  # stands for all names among a function's parameters


def _parameters(function: Callable) -> set[str]:
  kinds = inspect.signature(function).parameters.values()
  return {ANY if kind.kind is kind.VAR_KEYWORD else kind.name for kind in kinds}


def _required(function: Callable | None) -> set[str]:
  """The names of a function's required arguments."""
  if function is None:
    return set()
  named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
  kinds = inspect.signature(function).parameters.values()
  return {kind.name for kind in kinds if kind.default is kind.empty and kind.kind in named}


def _name(function: Callable | None) -> str:
  return getattr(function, '__name__', repr(function))


def _checked_values(what: str, name: str, values: Sequence[Any]) -> list[Any]:
  if isinstance(values, str) or not np.iterable(values):
    raise InputError(f'{what}[{name!r}] must be a sequence of values, got {shown(values)}')
  checked = [value.item() if getattr(value, 'shape', None) == () else value for value in values]
  if not checked:
    raise InputError(f'{what}[{name!r}] must hold at least one value, got none')
  for value in checked:
    if isinstance(value, float) and not math.isfinite(value):
      raise InputError(f'{what}[{name!r}] must hold finite numbers, got {value}')
    try:
      hash(value)
    except TypeError:
      raise InputError(
        f'{what}[{name!r}] must hold numbers, strings or other hashable values, got {shown(value)}'
      ) from None
  if len(kinds := {_kind(value): value for value in checked}) > 1:
    raise InputError(
      f'{what}[{name!r}] must hold values of one kind, because results store numbers, strings, or the names of other '
      f'objects, got {" and ".join(shown(value) for value in kinds.values())}: sweep over their names'
    )
  return checked


def _kind(value: Any) -> str:
  """How a result stores a value, see `datasets.storable`."""
  if isinstance(value, str):
    return 'string'
  return 'number' if isinstance(value, bool | int | float | np.number) else 'object'


def _is_traced(values: Sequence[Any]) -> bool:
  """Whether the values are real numbers, at least one of them a float."""
  real = all(isinstance(value, numbers.Real) and not isinstance(value, bool) for value in values)
  return real and any(isinstance(value, float) for value in values)
