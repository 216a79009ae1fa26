"""The arms of a comparison: algorithms, their trials, and the problems they run on."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from gdlab.comparison.search import Search, check_search, is_grid, trials_of
from gdlab.core.errors import InputError, check_count, shown, unknown_name
from gdlab.core.types import Algorithm, Problem
from gdlab.problems.checks import check_problem
from gdlab.training.grid import check_grid

HORIZON = 'num_steps'  # the argument for the number of updates


class Arm(NamedTuple):
  """One method of a comparison.

  Attributes:
    make: an algorithm, or a function that makes it from the hyperparameters in `search`. If it also takes `num_steps`,
      it gets the number of updates of its run, for a schedule that ends with the budget; it then runs once per budget.
    search: hyperparameter -> `gdlab.log_uniform(low, high)`, `gdlab.uniform(low, high)` or a list of values; empty for
      a method that is not tuned. Values that are not floats (batch sizes, widths, samplers) are compiled separately.
    problem: minimised by this arm instead of the comparison's problem, such as another model on the same data; with
      several problems a mapping from their names. None for the comparison's own.
  """

  make: Algorithm | Callable[..., Algorithm]
  search: Search = MappingProxyType({})
  problem: Problem | Mapping[str, Problem] | None = None


class Entry(NamedTuple):
  """An arm on one problem, checked.

  Attributes:
    make: as for `Arm`.
    search: as for `Arm`.
    problem: the problem of this arm.
    trials: hyperparameter -> its value in each trial.
    num_trials: number of trials, 1 without hyperparameters.
    shaping: the static hyperparameters, with one program per value.
    takes_horizon: whether `make` takes the number of updates.
    redraw: as for `gdlab.compare`.
  """

  make: Algorithm | Callable[..., Algorithm]
  search: Search
  problem: Problem
  trials: dict[str, list[Any]]
  num_trials: int
  shaping: tuple[str, ...]
  takes_horizon: bool
  redraw: Callable[[Problem, int], Problem] | None = None

  def of_seed(self, seed: int) -> Problem:
    """The problem for one seed."""
    if self.redraw is None:
      return self.problem
    drawn = self.redraw(dataclasses.replace(self.problem), int(seed))
    check_problem(drawn)
    sizes = [jax.tree.map(jax.numpy.shape, (each.train, each.validation)) for each in (drawn, self.problem)]
    if sizes[0] != sizes[1]:
      raise InputError('redraw must give each seed as many examples as the problem has')
    return drawn if self.problem.test is not None else dataclasses.replace(drawn, test=None)

  def point(self, trial: int) -> dict[str, Any]:
    """The hyperparameters of a trial."""
    return {name: values[trial] for name, values in self.trials.items()}

  def shapes(self) -> list[list[int]]:
    """The trials that share a program."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for trial in range(self.num_trials):
      found.setdefault(self.shape(trial), []).append(trial)
    return [*found.values()]

  def shape(self, trial: int) -> tuple[Any, ...]:
    """The static hyperparameters of a trial."""
    return tuple(self.trials[name][trial] for name in self.shaping)

  def longest(self, ends: np.ndarray) -> np.ndarray:
    """The updates that each trial makes for all budgets, int[trial], from the budgets' ends, int[trial, budget]."""
    if self.takes_horizon:
      return np.asarray([sum({*own}) for own in ends.tolist()])
    found = ends.max(axis=1)
    for trials in self.shapes():
      found[trials] = found[trials].max()
    return found

  def algorithm(self, trial: int, num_steps: int) -> Algorithm:
    """The algorithm of a trial."""
    if isinstance(self.make, Algorithm):
      return self.make
    return self.make(**self.point(trial), **({HORIZON: num_steps} if self.takes_horizon else {}))


def check_problems(problem: Problem | Mapping[str, Problem]) -> dict[str, Problem]:
  """The problems of a comparison by name."""
  if isinstance(problem, Problem):
    check_problem(problem)
    return {problem.name: problem}
  if not isinstance(problem, Mapping) or not problem:
    raise InputError(f'problem must be a gdlab.Problem or a mapping of names to some, got {shown(problem)}')
  for own in problem.values():
    check_problem(own)
  return {str(name): own for name, own in problem.items()}


def entries(
  problems: Mapping[str, Problem], arms: Any, baseline: str, num_trials: int, seed: int
) -> dict[tuple[str, str], Entry]:
  """Every arm on every problem, `(problem, arm) -> Entry`.

  Raises:
    InputError: if there are fewer than two arms, an arm is malformed, or arms have different numbers of trials.
  """
  check_count('trials', num_trials)
  if not isinstance(arms, Mapping) or len(arms) < 2:
    raise InputError(f'arms must map at least two names to gdlab.Arm(...), got {shown(arms)}')
  for name, arm in arms.items():
    if not isinstance(name, str) or not isinstance(arm, Arm):
      raise InputError(f'arms must map names to gdlab.Arm(...), got {shown(name)}: {shown(arm)}')
    check_search(name, arm.search)
  if baseline not in arms:
    raise unknown_name('baseline', str(baseline), arms)
  made = {
    (label, name): _entry(name, arm, label, own, num_trials, seed)
    for label, own in problems.items()
    for name, arm in arms.items()
  }
  counts = {name: entry.num_trials for (_, name), entry in made.items() if entry.search}
  if len({*counts.values()}) > 1:
    raise InputError(
      f'arms must have equal numbers of trials, as more of them are an advantage; got {shown(counts)}'
    )
  return made


def _entry(name: str, arm: Arm, label: str, problem: Problem, num_trials: int, seed: int) -> Entry:
  own = arm.problem if arm.problem is not None else problem
  if isinstance(own, Mapping):
    if label not in own:
      raise InputError(f'arms[{name!r}].problem must have one for each problem, and lacks {label!r}')
    own = own[label]
  check_problem(own)
  search = dict(arm.search)
  if isinstance(arm.make, Algorithm):
    if search:
      raise InputError(f'arms[{name!r}].make must be a function of {sorted(search)}, got an algorithm')
    return Entry(arm.make, search, own, {}, 1, (), False)
  if not callable(arm.make):
    raise InputError(
      f'arms[{name!r}].make must be an algorithm or a function that makes one, got {shown(arm.make)}'
    )
  if HORIZON in search:
    raise InputError(f'arms[{name!r}].search must not hold {HORIZON!r}, which follows from the budgets')
  trials = trials_of(search, num_trials, seed)
  takes = HORIZON in inspect.signature(arm.make).parameters
  try:
    grid = check_grid(
      None, trials | ({HORIZON: [1] * len(next(iter(trials.values()), [0]))} if takes else {}), arm.make, None
    )
  except InputError as error:
    raise InputError(f'arms[{name!r}]: {error}') from error
  trials |= {name: [float(value) for value in trials[name]] for name in grid.traced}
  shaping = tuple(sorted(trials.keys() - {*grid.traced}))
  count = len(next(iter(trials.values()))) if trials else 1
  if search and is_grid(search) and count > 1 and len({*zip(*trials.values(), strict=True)}) < count:
    raise InputError(f'arms[{name!r}].search must hold distinct values, got {shown(search)}')
  return Entry(arm.make, search, own, trials, count, shaping, takes)
