"""`run` and `sweep`: algorithms over hyperparameters and seeds, all lanes side by side."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import xarray as xr

from gdlab.errors import InputError, check_count, shown
from gdlab.training import groups, interrupt
from gdlab.training import halving as successive
from gdlab.training.drive import Group, run_group
from gdlab.training.grid import check_grid
from gdlab.training.groups import check_problem, refuse_module
from gdlab.training.halving import Halving, check_halving
from gdlab.training.lane import Probe
from gdlab.training.looped import check_probe_functions
from gdlab.training.outcome import joined, plan_attributes
from gdlab.training.parts import merge, table
from gdlab.training.plan import Plan, check_plan
from gdlab.training.progress import Progress, reporting
from gdlab.training.schedule import Call, Schedule, make_schedule
from gdlab.training.seeds import Seeds, seed_ids
from gdlab.types import Algorithm, Problem


def run(
  problem: Problem,
  algorithm: Algorithm | Callable[..., Algorithm],
  *,
  num_steps: int,
  seeds: Seeds,
  hyperparameters: Mapping[str, Any] | None = None,
  eval_every: int | None = None,
  eval_steps: Sequence[int] = (),
  record_every: int | None = None,
  probes: Mapping[str, Probe] | None = None,
  plan: Plan | None = None,
  part: tuple[int, int] | None = None,
  progress: bool | Progress | None = None,
) -> xr.Dataset:
  """Runs one algorithm on one problem with many seeds.

  Example:
    >>> import optax, gdlab
    >>> problem = gdlab.problems.quadratic([1.0, 0.1], noise=0.01)
    >>> sgd = gdlab.algorithm(sampler=gdlab.sampling.single(), optimizer=optax.sgd(0.1))
    >>> result = gdlab.run(problem, sgd, num_steps=100, seeds=8, eval_every=10)
    >>> dict(result.train_loss.sizes)
    {'seed': 8, 'step': 11}

  Args:
    problem: what is minimised.
    algorithm: how; see `gdlab.algorithm`. With `hyperparameters` a function that makes it of those it names.
    num_steps: updates of every run, >= 1.
    seeds: a count, a sequence of seed ids, or a mapping from stream (init, order, noise) to ids.
    hyperparameters: name -> value; floats are traced as in `sweep`, which is also more exact for constants near 1, and
      are coordinates of the result (of what `merge` makes of parts, dims of length 1). None for an algorithm whose
      numbers are constants of its program.
    eval_every: as for `sweep`.
    eval_steps: as for `sweep`.
    record_every: as for `sweep`.
    probes: as for `sweep`.
    plan: as for `sweep`.
    part: as for `sweep`.
    progress: as for `sweep`.

  Returns:
    A Dataset with dims (seed, step); see `sweep`.

  Raises:
    InputError: if an argument is out of range, before anything is computed.
  """
  if hyperparameters is None:
    if not isinstance(algorithm, Algorithm):
      raise InputError(f'algorithm must come from gdlab.algorithm(...), got {shown(algorithm)}')
    make: Callable[..., Algorithm] = _Always(algorithm)
  elif not isinstance(hyperparameters, Mapping):
    raise InputError(f'hyperparameters must be a mapping from name to value, got {shown(hyperparameters)}')
  elif isinstance(algorithm, Algorithm) or not callable(algorithm):
    raise InputError(f'algorithm must be a function of the hyperparameters, got {shown(algorithm)}')
  else:
    make = algorithm
  result = sweep(
    problem,
    make,
    {name: [value] for name, value in (hyperparameters or {}).items()},
    num_steps=num_steps,
    seeds=seeds,
    eval_every=eval_every,
    eval_steps=eval_steps,
    record_every=record_every,
    probes=probes,
    plan=plan,
    part=part,
    progress=progress,
  )
  return result.squeeze(list(hyperparameters or ())) if part is None else result


def sweep(
  problem: Problem | Callable[..., Problem],
  make_algorithm: Callable[..., Algorithm],
  grid: Mapping[str, Sequence[Any]],
  *,
  num_steps: int,
  seeds: Seeds,
  eval_every: int | None = None,
  eval_steps: Sequence[int] = (),
  record_every: int | None = None,
  probes: Mapping[str, Probe] | None = None,
  plan: Plan | None = None,
  halving: Halving | None = None,
  part: tuple[int, int] | None = None,
  progress: bool | Progress | None = None,
) -> xr.Dataset:
  """Runs an algorithm at every point of a grid of hyperparameters, with many seeds each.

  Hyperparameters whose values are floats are traced: all their values run side by side in one compiled program. Like
  the Python floats they stand for, they leave the types of parameters and states as they are. Optimizers are more exact
  with constants near 1 traced: with Adam's b2 = .9999 as a Python float updates are off by 8e-5 of themselves, traced
  by 3e-7 (float32), because `1 - b2` is then rounded once, as `b2 ** t` is; `run` takes `hyperparameters` for that.
  All others (batch sizes, samplers, widths, flags) shape the program, which is compiled once for each (in long runs
  on a CPU once for every device, see `Plan.program_per_device`).

  Example:
    >>> import optax, gdlab
    >>> def sgd(learning_rate, batch_size):
    ...   return gdlab.algorithm(sampler=gdlab.sampling.reshuffle(batch_size), optimizer=optax.sgd(learning_rate))
    >>> problem = gdlab.problems.quadratic([1.0, 0.1], noise=0.01, num_examples=16)
    >>> grid = {'learning_rate': [0.1, 0.5], 'batch_size': [1, 4, 16]}
    >>> result = gdlab.sweep(problem, sgd, grid, num_steps=100, seeds=8, eval_every=50)
    >>> dict(result.train_loss.sizes)
    {'learning_rate': 2, 'batch_size': 3, 'seed': 8, 'step': 3}

  Args:
    problem: what is minimised, or a function that makes it of the non-float hyperparameters it names.
    make_algorithm: makes the algorithm of the hyperparameters it names. It is traced once and must depend on nothing
      else: a global that it reads is not looked at again.
    grid: hyperparameter -> values: all numbers, all strings, or all other hashable objects (functions, None), which
      come back by their names.
    num_steps: updates of every run, >= 1.
    seeds: a count, a sequence of seed ids, or a mapping from stream (init, order, noise) to ids. Every grid
      point gets the same seeds, so that points compare in pairs.
    eval_every: updates between evaluations of the metrics and probes; about 50 evaluations by default.
      Step 0 and the last step are always evaluated.
    eval_steps: further updates after which to evaluate, in [0, num_steps].
    record_every: updates between records of the step's own diagnostics; as `eval_every` by default. Also
      how often it is looked whether a run has diverged.
    probes: name -> `(problem, state) -> array`, measured at evaluations, for whatever else is wanted
      (`lambda problem, state: state.params` for the path of a one-array model). They see the state of which the next
      update is made, wherever metrics are evaluated (`evaluate_at` of `gdlab.algorithm`).
    plan: the layout of the lanes; None chooses it by rule, and for long runs of small networks on a CPU by a short
      timed trial (see `remember_plans`). What was chosen is among the attributes of the result.
    halving: stops the worst points of the grid early; see `Halving`.
    part: `(i, n)` runs only the i-th of n shares of the lanes, for the i-th of n processes or jobs. The result is
      then a table with dims (lane, step), and `gdlab.merge` of all n is what one process returns.
    progress: True or False for a progress bar with the time left; a function `(done, total)` in updates to
      show it elsewhere; None for a bar where a terminal looks on.

  Returns:
    A Dataset with dims (*grid, seed, step), and `step` every update with a record, 0 among them. Variables:
    `train_<metric>`, `test_<metric>` and probes (between evaluations NaN, or 0 for whole numbers); `batch_loss`,
    `grad_norm`, `update_norm`, `param_norm` of the last update before the record (NaN at step 0); `status` (0
    running; 1 diverged: the run stopped being finite, its counts stay those of its last finite record and its
    metrics those of the evaluation before, or of 64 records back; 2 stopped by halving); the counts `updates`,
    `examples`, `gradient_evaluations`, `epoch`. A run that diverged so keeps a last loss that may be the least of all:
    choose points by `gdlab.best`, where it loses.

  Raises:
    InputError: if an argument is out of range, before anything is computed.
    KeyboardInterrupt: at Ctrl-C, between two compiled calls or while one is waited for. Those under way, two at most,
      end by themselves. A handler of one's own for SIGINT is left alone.
  """
  started = time.perf_counter()
  ids = seed_ids(seeds)
  schedule = make_schedule(
    num_steps,
    eval_every,
    (*eval_steps, *(halving.steps if isinstance(halving, Halving) else ())),
    record_every,
  )
  make_problem = None if isinstance(problem, Problem) else problem
  refuse_module(make_problem)
  if not callable(make_problem):
    check_problem(problem)
  points = check_grid(grid, make_algorithm, make_problem)
  check_probe_functions(probes)
  halving = None if halving is None else check_halving(halving, num_steps)
  plan, share = check_plan(plan), _check_part(part, halving)
  probe_items = tuple((probes or {}).items())
  work = groups.Work(problem, make_algorithm, points, ids, schedule, probe_items, plan, share)

  # A run's keys pass through loops and selects unused; the checker for key reuse takes that for use.
  with jax.debug_key_reuse(False), interrupt.deferred():
    shares = groups.make(work)
    total = sum(len(mine.places) for mine in shares) * num_steps
    with reporting(progress, total) as report:
      shares = _run(shares, schedule, halving, report)

  attributes = {
    'problem': ', '.join(dict.fromkeys(mine.group.problem[0].name for mine in shares)),
    'num_steps': num_steps,
    'wall_time_s': time.perf_counter() - started,
  } | plan_attributes(shares)
  if isinstance(problem, Problem):
    attributes['num_examples'] = problem.num_examples
  if halving is not None:
    attributes |= {f'halving_{name}': value for name, value in halving._asdict().items()}
    attributes['halving_largest'] = int(halving.largest)
  records, places = joined([mine for mine in shares if len(mine.places)])
  result = table(records, places, axes=points.axes, ids=ids, schedule=schedule, attributes=attributes)
  return merge([result]) if part is None else result


def _run(
  shares: list[groups.Share], schedule: Schedule, halving: Halving | None, report: Callable[[int], None]
) -> list[groups.Share]:
  """Runs all lanes; returns the shares with the layouts that fitted the memory."""

  def calls(group: Group) -> list[Call]:
    return [call for stage in schedule.calls(group.program.layout.steps_per_call) for call in stage]

  if halving is not None:
    return successive.run(shares, schedule, halving, report)
  if not all(len(mine.places) for mine in shares):  # there are more parts than lanes
    return shares
  compiled = groups.compiled_ahead([mine.group for mine in shares], lambda group: calls(group)[0])
  return [
    mine._replace(group=run_group(group, calls(group), report))
    for mine, group in zip(shares, compiled, strict=True)
  ]


def _check_part(part: tuple[int, int] | None, halving: Halving | None) -> tuple[int, int]:
  if part is None:
    return 0, 1
  if not isinstance(part, tuple) or len(part) != 2:
    raise InputError(f'part must be (i, n): of n shares the i-th, from 0; got {shown(part)}')
  if halving is not None:
    raise InputError('part must be None with halving, which compares all lanes')
  count = check_count('part[1]', part[1])
  return check_count('part[0]', part[0], minimum=0, maximum=count - 1), count


@dataclasses.dataclass(frozen=True)
class _Always:
  """The factory of one algorithm; equal for the same algorithm, so that it compiles once."""

  algorithm: Algorithm

  def __call__(self) -> Algorithm:
    return self.algorithm
