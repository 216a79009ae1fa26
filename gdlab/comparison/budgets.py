"""The number of updates of every trial within a budget of updates, examples, gradient evaluations or seconds."""

import functools
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from gdlab.comparison.arms import HORIZON, Entry
from gdlab.comparison.clock import seconds_per_update
from gdlab.comparison.measuring import Stored
from gdlab.core.errors import InputError, check_count, check_real, shown, unknown_name
from gdlab.core.seeds import seed_ids
from gdlab.core.types import Algorithm, Array, Problem
from gdlab.host.checkpoints import Place
from gdlab.results.store import load, save
from gdlab.training.grid import check_grid
from gdlab.training.plan import Plan
from gdlab.training.programs import Program
from gdlab.training.records import records_factory
from gdlab.training.saved import check_alike, computed, origin
from gdlab.training.setup import make_programs

KINDS = ('updates', 'examples', 'gradient_evaluations', 'seconds')
COUNTED = KINDS[1:3]
ROUNDING = 1e-9  # so that an arm whose updates define the seconds makes all of them
LONG = 2**20  # num_steps of a method that is counted or timed, not run

Budgets: TypeAlias = Mapping[str, Any]


def check_budgets(budgets: Any, arms: Any) -> dict[str, Any]:
  """The budgets, checked.

  Raises:
    InputError: if a kind is unknown, a number is out of range, or seconds name an arm and no updates are given.
  """
  if not isinstance(budgets, Mapping) or not budgets:
    raise InputError(f"budgets must map kinds to amounts, such as {{'updates': 1000}}, got {shown(budgets)}")
  for kind, amount in budgets.items():
    if kind not in KINDS:
      raise unknown_name('budget', str(kind), KINDS)
    if kind != 'seconds':
      check_count(f'budgets[{kind!r}]', amount)
    elif not isinstance(amount, str):
      check_real("budgets['seconds']", amount, above=0)
    elif amount not in arms:
      raise unknown_name("arm in budgets['seconds']", amount, arms)
    elif 'updates' not in budgets:
      raise InputError(f"budgets must have 'updates', if seconds are those that {amount!r} takes for them")
  return dict(budgets)


def ends_of(
  entries: Mapping[tuple[str, str], Entry], budgets: Budgets, seconds: Mapping[tuple[str, str], np.ndarray]
) -> dict[tuple[str, str], np.ndarray]:
  """The updates at which every budget ends, int[trial, budget] for every arm on every problem.

  The last update is the last one with which the work does not exceed the budget. Work is counted once for all trials
  that share a program; `measuring.check_work` verifies it after the runs.

  Args:
    entries: the arms on the problems.
    budgets: kind -> amount.
    seconds: (problem, arm) -> float[trial], of an update.

  Raises:
    InputError: if a budget is not enough for one update.
  """
  found = {}
  for key, entry in entries.items():
    ends = np.zeros((entry.num_trials, len(budgets)), int)
    for trials in entry.shapes():
      for place, (kind, amount) in enumerate(budgets.items()):
        if kind == 'updates':
          last = amount
        elif kind == 'seconds':
          last = int(_seconds(budgets, seconds, key[0]) / seconds[key][trials[0]] * (1 + ROUNDING))
        else:
          last = updates_within(entry.algorithm(trials[0], LONG), entry.problem, amount, COUNTED.index(kind))
        if last < 1:
          raise InputError(
            f'budgets[{kind!r}] must be enough for one update of arm {key[1]!r}, got {shown(amount)}'
          )
        ends[trials, place] = last
    found[key] = ends
  return found


def _seconds(budgets: Budgets, seconds: Mapping[tuple[str, str], np.ndarray], problem: str) -> float:
  """The seconds of the budget: the given number, or the time of an arm's updates."""
  amount = budgets['seconds']
  if not isinstance(amount, str):
    return float(amount)
  own = seconds[problem, amount]
  if np.unique(own).size > 1:
    raise InputError(
      f"budgets['seconds'] must be a number, as the trials of {amount!r} are of different shapes and take "
      f'{own.min():.3g} to {own.max():.3g} seconds for an update'
    )
  return float(budgets['updates'] * own[0])


def updates_within(algorithm: Algorithm, problem: Problem, amount: int, kind: int) -> int:
  """The largest number of updates whose examples (kind 0) or gradient evaluations (1) do not exceed `amount`.

  Counted by making the updates; for methods with the same counts in every epoch, two epochs suffice. Random counts
  (Poisson batches) are those of one seed.
  """
  period = algorithm.sampler.updates_per_epoch(problem.num_examples)
  made = _work(algorithm, problem, 2 * period)[:, kind]
  if (made[:period] == made[period:]).all():
    epochs, rest = divmod(amount, max(1, int(made[:period].sum())))
    return epochs * period + int(np.searchsorted(np.cumsum(made[:period]), rest, side='right'))
  length = 2 * period
  while made.sum() <= amount:
    length *= 2
    made = _work(algorithm, problem, length)[:, kind]
  return int(np.searchsorted(np.cumsum(made), amount, side='right'))


@functools.partial(jax.jit, static_argnums=(0, 2))
def _work(algorithm: Algorithm, problem: Problem, num_steps: int) -> Array:
  """Examples and gradient evaluations of each update, int32[num_steps, 2]. XLA omits all other computations."""

  def step(state, _):
    state, info = algorithm.step(state, problem)
    return state, jnp.stack([info.examples, info.gradient_evaluations])

  return jax.lax.scan(step, algorithm.init(jax.random.key(0), problem), length=num_steps)[1]


def clock(
  entries: Mapping[tuple[str, str], Entry], plan: Plan, precision: float, stored: Stored, place: Place | None
) -> dict[tuple[str, str], np.ndarray]:
  """Seconds per update, (problem, arm) -> float[trial]: medians over rounds in which all programs take turns.

  One run on every device in a compiled loop, as in the runs that are compared; without evaluations. With checkpoints
  the seconds are stored too, as new ones would change where budgets end.

  Raises:
    InputError: if the checkpoint folder has seconds of other arms, data or versions.
  """
  owners = [(key, trials) for key, entry in entries.items() for trials in entry.shapes()]

  def programs() -> list[Program]:
    return [_program(entries[key], trials[0], plan) for key, trials in owners]

  def time() -> xr.Dataset:
    found = seconds_per_update(programs(), precision=precision)
    return xr.Dataset({'seconds': (('round', 'program'), found)})

  def kept() -> xr.Dataset:
    if place is None:
      return time()
    file = place.folder / 'clock.nc'
    timed = {'arms': [[*key, len(trials)] for key, trials in owners], 'precision': precision}
    facts = timed | origin() | {'program': [*map(computed, programs())]}
    if not file.exists():
      save(time().assign_attrs(facts=json.dumps(facts)), file)
    found = load(file)
    check_alike(place.folder, facts, json.loads(found.attrs['facts']))
    return found

  found = {key: np.zeros(entry.num_trials) for key, entry in entries.items()}
  for (key, trials), seconds in zip(
    owners, stored('clock', kept).seconds.median('round').values, strict=True
  ):
    found[key][trials] = seconds
  return found


def _program(entry: Entry, trial: int, plan: Plan) -> Program:
  """The program of a trial, with a run on every device."""
  point = entry.point(trial) | ({HORIZON: LONG} if entry.takes_horizon else {})
  return one_program(entry.problem, entry.make, plan, point)


def one_program(
  problem: Problem,
  make: Algorithm | Callable[..., Algorithm],
  plan: Plan,
  point: Mapping[str, Any] = MappingProxyType({}),
) -> Program:
  """The program of an algorithm, or of a function of a point that makes it, with a run on every device of the plan."""
  grid = check_grid(None, {name: [value] for name, value in point.items()}, make, None)
  ids = seed_ids(plan.num_devices or jax.local_device_count())
  records = records_factory(None, (), None)
  [program] = make_programs(problem, make, grid, ids, LONG, records, (), plan, (0, 1), None, False)
  return program
