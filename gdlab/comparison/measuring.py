"""The runs of a comparison: all trials on the tuning seeds, the best of them on the grading seeds."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import xarray as xr

from gdlab.comparison.arms import HORIZON, Entry
from gdlab.core.errors import InputError
from gdlab.core.types import Problem
from gdlab.host.checkpoints import Place
from gdlab.host.progress import Progress
from gdlab.results.datasets import RUNNING, TRIAL, storable
from gdlab.training.plan import Plan
from gdlab.training.sweeps import sweep

Stored: TypeAlias = Callable[[str, Callable[[], xr.Dataset]], xr.Dataset]


SLACK = 1.1  # how far random batch sizes may exceed a budget


class How(NamedTuple):
  """The options of all runs of a comparison; see `gdlab.compare`."""

  stored: Stored
  place: Place | None
  eval_every: int | None
  keep: str | None
  plan: Plan | None
  executor: Executor | None
  progress: bool | Progress | None


class Runs(NamedTuple):
  """Some trials of one arm on one problem, run with some seeds.

  Attributes:
    result: with dims (trial, seed, step, ...); its dim `trial` numbers the runs, not the trials of the search.
    places: (trial, budget) -> (number of the run, last update).
  """

  result: xr.Dataset
  places: dict[tuple[int, int], tuple[int, int]]

  def at(self, trial: int, budget: int, variable: str) -> xr.DataArray:
    """A variable where the budget ends, with dim `seed`; NaN for a run that had failed by then."""
    run, end = self.places[trial, budget]
    last = self.result.isel({TRIAL: run}).sel(step=end)
    return last[variable].astype(float).where((last.status == RUNNING) & np.isfinite(last[variable]))

  def curve(self, trial: int, budget: int) -> xr.Dataset:
    """The records up to the budget's end, with dims (seed, step, ...)."""
    run, end = self.places[trial, budget]
    return self.result.isel({TRIAL: run}).sel(step=slice(0, end))


class LastUpdate:
  """The updates of a run as a function of its static hyperparameters, as `num_steps` of `gdlab.sweep`."""

  def __init__(self, known: Mapping[frozenset, int]):
    self.known = dict(known)

  def __call__(self, **shape: Any) -> int:
    return self.known[frozenset(shape.items())]


def measure(
  name: str,
  entry: Entry,
  ends: np.ndarray,
  pairs: Sequence[tuple[int, int]],
  seeds: Sequence[int],
  how: How,
) -> Runs:
  """Runs (trial, budget) pairs of an arm with some seeds.

  A method that does not take its horizon makes the same updates for every budget, so that one run serves all of them.

  Args:
    name: under which the result is stored.
    entry: the arm on its problem.
    ends: int[trial, budget], the updates at which a budget ends.
    pairs: the (trial, budget) pairs to run.
    seeds: ids.
    how: the options of all runs.
  """
  runs: dict[tuple[int, int], int] = {}
  longest = {trial: max(ends[t, b] for t, b in pairs if t == trial) for trial, _ in pairs}
  if not entry.takes_horizon:  # one length for all that share a program
    for trials in entry.shapes():
      own = [longest[trial] for trial in trials if trial in longest]
      longest |= dict.fromkeys([trial for trial in trials if trial in longest], max(own, default=0))
  places = {}
  for trial, budget in pairs:
    end = int(ends[trial, budget])
    run = runs.setdefault((trial, end if entry.takes_horizon else int(longest[trial])), len(runs))
    places[trial, budget] = run, end
  points = {name: [values[trial] for trial, _ in runs] for name, values in entry.trials.items()}
  if entry.takes_horizon:
    points[HORIZON] = [last for _, last in runs]
  shaping = [*entry.shaping, *([HORIZON] if entry.takes_horizon else [])]
  known = {frozenset((name, points[name][run]) for name in shaping): last for (_, last), run in runs.items()}

  def swept() -> xr.Dataset:
    if entry.redraw is None:
      return of(entry.problem, [*seeds], name)
    parts = [of(entry.of_seed(seed), [seed], f'{name} {seed}') for seed in seeds]
    return xr.concat(parts, 'seed', combine_attrs='override')

  def of(problem: Problem, ids: list[int], called: str) -> xr.Dataset:
    return sweep(
      problem,
      entry.make,
      points=points or None,
      num_steps=LastUpdate(known) if shaping else next(iter(known.values())),
      seeds=ids,
      eval_every=how.eval_every,
      eval_steps=sorted({end for _, end in places.values()}),
      keep=how.keep,
      plan=how.plan,
      checkpoint=None
      if how.place is None
      else how.place._replace(folder=how.place.folder / file_name(called)),
      executor=how.executor,
      progress=how.progress,
    )

  result = how.stored(name, swept)
  result = result if points else result.expand_dims({TRIAL: [0]})
  _check_stored(name, result, points, seeds, places)
  return Runs(result, places)


def _check_stored(
  name: str, result: xr.Dataset, points: Mapping[str, Any], seeds: Sequence[int], places
) -> None:
  """Raises InputError if a stored result is not that of the requested runs."""
  asked = {'seeds': (result.seed.values.tolist(), [*seeds])}
  asked |= {key: (result[key].values.tolist(), storable(values)) for key, values in points.items()}
  for what, (found, wanted) in asked.items():
    if found != wanted:
      raise InputError(f'stored must return the requested runs, and {name!r} has other {what}')
  if not {end for _, end in places.values()} <= {*result.step.values.tolist()}:
    raise InputError(f'stored must return the requested runs, and {name!r} has other ends')


def file_name(name: str) -> str:
  """A file name for a name: valid on every file system, and unique by its hash."""
  return f'{re.sub(r"[^a-zA-Z0-9-]+", "_", name)}-{hashlib.sha256(name.encode()).hexdigest()[:8]}'


def measured(name: str, make: Callable[[], xr.Dataset]) -> xr.Dataset:
  """Stores nothing."""
  del name
  return make()


def check_work(runs: Runs, budgets: Sequence[str], amounts: Sequence[Any], arm: str) -> None:
  """Raises InputError where runs have used far more examples or gradients than a budget allows.

  Work is counted beforehand for one trial of each shape and one seed, but it may depend on the trial or the seed.
  """
  for (trial, place), (run, end) in runs.places.items():
    kind, amount = budgets[place], amounts[place]
    if kind in ('examples', 'gradient_evaluations'):
      made = int(runs.result[kind].isel({TRIAL: run}).sel(step=end).max())
      if made > SLACK * amount and end > 1:
        raise InputError(
          f'budgets[{kind!r}] cannot be kept by arm {arm!r}, which uses {made:,} instead of {amount:,} with trial '
          f"{trial}: the work of its updates changes during a run or with a hyperparameter; give 'updates'"
        )


def more(runs: Runs, further: Runs) -> Runs:
  """The same runs with further seeds."""
  return runs._replace(result=xr.concat([runs.result, further.result], 'seed'))


def choose(runs: Runs, entry: Entry, budget: int, metric: str, largest: bool) -> Callable[[np.ndarray], int]:
  """The trial with the best mean metric where a budget ends, as a function of the indices of the tuning runs.

  A trial that fails with fewer seeds is always better.
  """
  values = np.stack([runs.at(trial, budget, metric).values for trial in range(entry.num_trials)])
  values = -values if largest else values

  def best(numbers: np.ndarray) -> int:
    drawn = values[:, numbers]
    failed = np.isnan(drawn)
    counts = np.maximum((~failed).sum(axis=1), 1)
    means = np.where(failed.all(axis=1), np.inf, np.where(failed, 0, drawn).sum(axis=1) / counts)
    return int(np.lexsort((means, failed.sum(axis=1)))[0])

  return best
