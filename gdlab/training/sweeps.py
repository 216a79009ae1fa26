"""`run` and `sweep`: algorithms over hyperparameters and seeds, all lanes in parallel."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import jax
import numpy as np
import xarray as xr

from gdlab.core.errors import InputError, check_count, shown
from gdlab.core.seeds import Seeds, seed_ids
from gdlab.core.types import Algorithm, Problem, PyTree
from gdlab.host import checkpoints, interrupt
from gdlab.host.checkpoints import Every, Place
from gdlab.host.compiling import compile_seconds
from gdlab.host.progress import Progress, reporting
from gdlab.problems.checks import check_problem, refuse_module
from gdlab.results.kept import TREES
from gdlab.results.parts import aligned, merge, table
from gdlab.training.checks import check_probe_functions
from gdlab.training.execute import compiled_ahead, execute
from gdlab.training.executors import spread
from gdlab.training.grid import Grid, check_grid
from gdlab.training.halving import Halving, check_halving, run_halving
from gdlab.training.lane import Probe
from gdlab.training.plan import Plan, check_plan
from gdlab.training.programs import Program
from gdlab.training.records import records_factory
from gdlab.training.saved import Checkpoint, experiment
from gdlab.training.setup import make_programs


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
  params: PyTree = None,
  keep: str | None = None,
  plan: Plan | None = None,
  checkpoint: str | os.PathLike | Place | None = None,
  checkpoint_every: Every | None = None,
  part: tuple[int, int] | None = None,
  executor: Executor | None = None,
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
    problem: the problem to minimise.
    algorithm: see `gdlab.algorithm`. With `hyperparameters`, a function that returns it, with some of them as
      arguments.
    num_steps: updates of every run, >= 1.
    seeds: a count, a sequence of seed ids, or a mapping from stream (init, order, noise) to ids.
    hyperparameters: name -> value. Floats are traced as in `sweep`, which is more exact for constants near 1. All are
      coordinates of the result (in a result of `merge`, dims of length 1). None for a complete algorithm.
    eval_every: as for `sweep`.
    eval_steps: as for `sweep`.
    record_every: as for `sweep`.
    probes: as for `sweep`.
    params: as for `sweep`.
    keep: as for `sweep`.
    plan: as for `sweep`.
    checkpoint: as for `sweep`.
    checkpoint_every: as for `sweep`.
    part: as for `sweep`.
    executor: as for `sweep`.
    progress: as for `sweep`.

  Returns:
    A Dataset with dims (seed, step); see `sweep`.

  Raises:
    InputError: if an argument is out of range, before anything is computed.
  """
  if hyperparameters is None:
    if not isinstance(algorithm, Algorithm):
      raise InputError(f'algorithm must come from gdlab.algorithm(...), got {shown(algorithm)}')
  elif not isinstance(hyperparameters, Mapping):
    raise InputError(f'hyperparameters must be a mapping from name to value, got {shown(hyperparameters)}')
  elif isinstance(algorithm, Algorithm) or not callable(algorithm):
    raise InputError(f'algorithm must be a function of the hyperparameters, got {shown(algorithm)}')
  result = sweep(
    problem,
    algorithm,
    {name: [value] for name, value in (hyperparameters or {}).items()},
    num_steps=num_steps,
    seeds=seeds,
    eval_every=eval_every,
    eval_steps=eval_steps,
    record_every=record_every,
    probes=probes,
    params=params,
    keep=keep,
    plan=plan,
    checkpoint=checkpoint,
    checkpoint_every=checkpoint_every,
    part=part,
    executor=executor,
    progress=progress,
  )
  return result.squeeze(list(hyperparameters or ())) if part is None else result


def sweep(
  problem: Problem | Callable[..., Problem],
  make_algorithm: Algorithm | Callable[..., Algorithm],
  grid: Mapping[str, Sequence[Any]] | None = None,
  *,
  points: Mapping[str, Sequence[Any]] | None = None,
  num_steps: int | Callable[..., int],
  seeds: Seeds,
  eval_every: int | None = None,
  eval_steps: Sequence[int] = (),
  record_every: int | None = None,
  probes: Mapping[str, Probe] | None = None,
  params: PyTree = None,
  keep: str | None = None,
  plan: Plan | None = None,
  checkpoint: str | os.PathLike | Place | None = None,
  checkpoint_every: Every | None = None,
  halving: Halving | None = None,
  part: tuple[int, int] | None = None,
  executor: Executor | None = None,
  progress: bool | Progress | None = None,
) -> xr.Dataset:
  """Runs an algorithm at every point of a grid of hyperparameters, with many seeds each.

  Float hyperparameters are traced: all their values run in parallel in one compiled program. Like the Python floats
  they stand for, they do not change the dtypes of parameters and states. Constants near 1 are more exact if traced: the
  relative error of Adam's updates with b2 = .9999 is 8e-5 with a Python float and 3e-7 traced (float32), because then
  `1 - b2` and `b2 ** t` use the same rounded b2; `run` takes `hyperparameters` for that. All other hyperparameters
  (batch sizes, samplers, widths, flags) are static: one compilation per value (in long runs on a CPU one per value and
  device, see `Plan.program_per_device`).

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
    problem: the problem to minimise, or a function that returns it, with static hyperparameters as arguments.
    make_algorithm: a function that returns the algorithm, with hyperparameters as arguments. It is traced once and must
      depend on nothing else: later changes of a global variable that it reads have no effect.
    grid: hyperparameter -> values: all numbers, all strings, or all other hashable objects (functions, None), which are
      coordinates by their names. The sweep is over all combinations.
    points: hyperparameter -> its value in each trial, for points that are not a grid (random search). Trials are the
      dim `trial` of the result; with a `grid` as well, every trial is run at every point of the grid.
    num_steps: updates of every run, >= 1, or a function of static hyperparameters:
      `lambda batch_size: 10 * 1500 // batch_size` for equal epochs. Shorter runs repeat their last record at later
      steps, and their `updates` stand still: it is their clock, for `gdlab.statistics.first_crossing` and for plots.
    seeds: a count, a sequence of seed ids, or a mapping from stream (init, order, noise) to ids. Every grid
      point gets the same seeds, so that points can be compared in pairs.
    eval_every: updates between evaluations of the metrics and probes; about 50 evaluations by default.
      Step 0 and the last step are always evaluated.
    eval_steps: further updates after which to evaluate, in [0, num_steps]. If `num_steps` is a function, steps beyond
      the end of a run are ignored.
    record_every: updates between records of an update's own diagnostics; `eval_every` by default. Runs are checked for
      divergence at each record.
    probes: name -> `(problem, state) -> array or pytree of arrays`, measured at evaluations. Each array of a pytree
      becomes a variable: `{'params': lambda problem, state: state.params}` gives `params.Dense_0.kernel`. Probes see
      the state that the next update starts from, wherever metrics are evaluated (`evaluate_at` of `gdlab.algorithm`).
    params: the initial parameters of all runs, a pytree like the problem's; None to draw them for each run.
    keep: 'params' keeps the parameters and model state at which the last metrics of every run are evaluated, as
      variables without the dim `step`, such as `params.Dense_0.kernel`; `gdlab.kept_params` restores the pytrees.
    plan: the layout of the lanes; None chooses it by rule, for long runs of small networks on a CPU by a short timed
      trial (see `remember_plans`). The plan used is in the attributes of the result.
    checkpoint: a folder in which the complete state of the runs is saved periodically. After an interruption of any
      kind the same call resumes from it, bit for bit, with the same plan. A folder of another experiment is refused.
      When all runs have ended, the same call returns their result at once; remove the folder when it is no longer
      needed. With an `executor`, workers must be able to read and write it.
    checkpoint_every: seconds between checkpoints, or `{'updates': n}` of every run; by default 120 s, or 40 times the
      time to save one if that is longer. Runs can be saved only where metrics are evaluated, or after 64 records.
    halving: stops the worst points of the grid early; see `Halving`.
    part: `(i, n)` runs only the i-th of n shares of the lanes, i from 0, for n processes or jobs. The result is then a
      table with dims (lane, step); `gdlab.merge` of all n gives the result of a single process.
    executor: runs the lanes in the workers of anything with the `submit` of `concurrent.futures.Executor`: a pool of
      spawned processes (`gdlab.worker_pool`), Dask's `client.get_executor()`, ... Problem, algorithm and probes must be
      functions at the top level of a module, so that they can be sent. Under the same plan results are bitwise equal to
      those of this process.
    progress: True or False for a progress bar with the time left; a function `(done, total)`, in updates, to
      show it elsewhere; None for a bar if the output is a terminal.

  Returns:
    A Dataset with dims (*grid, seed, step); `step` holds the updates with a record, including 0. Variables:
    `train_<metric>`, `validation_<metric>`, `test_<metric>` and probes (between evaluations NaN, or 0 for integers);
    `batch_loss`, `grad_norm`, `update_norm`, `param_norm` of the last update before the record (NaN at step 0);
    `status` (0 running; 1 diverged; 2 stopped by halving); the counts `updates`, `examples`, `gradient_evaluations`,
    `epoch`. Attributes: the problem, the plan, versions, `wall_time_s`, and `compile_time_s`, summed over the threads
    that compile during the runs.

    A diverged run is one that was not finite at a record. Its counts stay those of its last finite record, its metrics
    those of the evaluation before, or of up to 64 records before. Its last loss may be the lowest of all, so choose
    points with `gdlab.best`, which ranks it last.

  Raises:
    InputError: if an argument is out of range, before anything is computed.
    KeyboardInterrupt: at Ctrl-C, as soon as a compiled call ends or is waited for. Calls in progress, two at most, run
      to their end, and are saved if there is a checkpoint folder. A signal handler of your own stays in place.
    SystemExit: likewise after SIGTERM, with status 143, if there is a checkpoint folder and no handler of your own.
  """
  given = dict(locals())
  started, compiled = time.perf_counter(), compile_seconds()
  ids = seed_ids(seeds)
  stops = halving.steps if isinstance(halving, Halving) else ()
  records = records_factory(eval_every, (*eval_steps, *stops), record_every, ends_differ=callable(num_steps))
  if not callable(num_steps):
    records(num_steps, 0)  # what does not fit is refused first
  make_problem = None if isinstance(problem, Problem) else problem
  refuse_module(make_problem)
  if not callable(make_problem):
    check_problem(problem)
  if isinstance(make_algorithm, Algorithm) and not callable(make_problem) and (grid or points):
    raise InputError('make_algorithm must be a function of the hyperparameters, got an algorithm')
  axes = check_grid(grid, points, make_algorithm, make_problem, num_steps)
  check_probe_functions(probes)
  if halving is not None:
    if callable(num_steps):
      raise InputError('num_steps must be a number with halving, which compares runs after equal steps')
    halving = check_halving(halving, num_steps)
  plan, share = check_plan(plan), _check_part(part, halving, executor)
  if keep not in (None, 'params') or (keep and halving):
    raise InputError(f"keep must be None or 'params', and None with halving, got {shown(keep)}")
  _check_names(axes, probes or {}, bool(keep))
  place = checkpoints.place(checkpoint, checkpoint_every)
  if executor is not None:
    return spread(sweep, given, executor, axes, len(ids), place)

  params = jax.device_get(params)  # so that no device is its own

  # A run's keys pass through loops and selects unused; the checker for key reuse takes that for use.
  with jax.debug_key_reuse(False), interrupt.deferred(terminate=place is not None), checkpoints.held(place):
    items = tuple((probes or {}).items())
    asked: dict[str, Any] = {
      'records': (eval_every, [*eval_steps], record_every),
      'probes': [*(probes or {})],
      'keep': keep,
      'part': share,
    }
    asked |= {'plan': plan, 'halving': halving, 'num_steps': None if callable(num_steps) else num_steps}
    saves = None if place is None else Checkpoint(place, experiment(axes, ids, params, asked))
    plans = saves.plans if saves else {}
    programs = make_programs(
      problem, make_algorithm, axes, ids, num_steps, records, items, plan, share, params, bool(keep), plans
    )
    attributes = _attributes(programs)  # of all, so that parts agree
    steps = np.unique(np.concatenate([program.records.steps for program in programs]))
    programs = [program for program in programs if len(program.places)]  # there may be more parts than lanes
    total = sum(len(program.places) * program.records.num_steps for program in programs)
    with reporting(progress, total) as report:
      if halving is None:
        for number, program in enumerate(compiled_ahead(programs, checkpoint=saves)):
          programs[number] = execute(program, report, bool(keep), saves)
      else:
        programs = run_halving(programs, len(ids), halving, report, saves)

  attributes |= {
    'wall_time_s': time.perf_counter() - started + (saves.seconds_before if saves else 0.0),
    'compile_time_s': compile_seconds() - compiled,
  } | _plan_attributes(programs)
  if isinstance(problem, Problem):
    attributes['num_examples'] = problem.num_examples
  if halving is not None:
    attributes |= {f'halving_{name}': value for name, value in halving._asdict().items()}
    attributes['halving_largest'] = int(halving.largest)
  result = table(
    [(program.places, _records(program, steps)) for program in programs],
    [(program.places, program.records.kept) for program in programs],
    axes=axes.axes,
    trials=axes.trials,
    ids=ids,
    steps=steps,
    attributes=attributes,
  )
  return merge([result]) if part is None else result


def _check_names(axes: Grid, probes: Mapping[str, Probe], keep: bool) -> None:
  """Raises InputError if two of the probes, hyperparameters and kept trees have the same name."""
  kept = TREES if keep else ()
  for kind, names in (('probe', probes), ('hyperparameter', [*axes.axes, *axes.trials])):
    if taken := sorted({*names} & {*kept}):
      raise InputError(f"{kind} must have another name with keep='params', which keeps {taken[0]!r}")
  if taken := sorted(probes.keys() & {*axes.axes, *axes.trials}):
    raise InputError(f'probe must have a name that no hyperparameter has, got {taken[0]!r}')


def _records(program: Program, steps: np.ndarray) -> dict[str, np.ndarray]:
  """The records of a program's lanes, at the steps at which any program has records."""
  totals = program.records.totals()
  totals['epoch'] = totals['examples'] / program.problem[0].num_examples
  return {name: aligned(name, values, program.records.steps, steps) for name, values in totals.items()}


def _attributes(programs: Sequence[Program]) -> dict[str, Any]:
  """The names of the problems and the numbers of updates: all of them if programs differ."""
  num_steps = [*dict.fromkeys(program.records.num_steps for program in programs)]
  return {
    'problem': ', '.join(dict.fromkeys(program.problem[0].name for program in programs)),
    'num_steps': num_steps[0] if len(num_steps) == 1 else num_steps,
  }


def _plan_attributes(programs: Sequence[Program]) -> dict[str, Any]:
  """The plans: one number if all programs share it, else one for every program."""
  columns = {name: [int(getattr(program.plan, name)) for program in programs] for name in Plan._fields}
  return {
    f'plan_{name}': values[0] if len(set(values)) == 1 else values
    for name, values in columns.items()
    if values
  }


def _check_part(
  part: tuple[int, int] | None, halving: Halving | None, executor: Executor | None
) -> tuple[int, int]:
  for name, value in (('part', part), ('executor', executor)):
    if value is not None and halving is not None:
      raise InputError(f'{name} must be None with halving, which compares all lanes')
  if part is None:
    return 0, 1
  if executor is not None:
    raise InputError('part must be None with an executor, which divides the sweep into parts itself')
  if not isinstance(part, tuple) or len(part) != 2:
    raise InputError(f'part must be (i, n): of n shares the i-th, from 0; got {shown(part)}')
  count = check_count('part[1]', part[1])
  return check_count('part[0]', part[0], minimum=0, maximum=count - 1), count
