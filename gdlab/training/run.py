"""`run` and `sweep`: algorithms over hyperparameters and seeds, all lanes side by side."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import xarray as xr

from gdlab.errors import InputError, check_count, shown
from gdlab.training import lanes
from gdlab.training.drive import run_group
from gdlab.training.grid import check_grid, named_by
from gdlab.training.lane import Probe
from gdlab.training.plan import Plan, resolve
from gdlab.training.progress import Progress, reporting
from gdlab.training.records import check_names, to_dataset
from gdlab.training.seeds import Seeds, seed_ids
from gdlab.types import Algorithm, Problem

RECORDS_PER_RUN = 50  # how many evaluations a run has when `eval_every` does not say


def run(
  problem: Problem,
  algorithm: Algorithm,
  *,
  num_steps: int,
  seeds: Seeds,
  eval_every: int | None = None,
  eval_steps: Sequence[int] = (),
  record_every: int | None = None,
  probes: Mapping[str, Probe] | None = None,
  plan: Plan | None = None,
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
    algorithm: how; see `gdlab.algorithm`.
    num_steps: updates of every run, >= 1.
    seeds: a count, a sequence of seed ids, or a mapping from stream (init, order, noise) to ids.
    eval_every: as for `sweep`.
    eval_steps: as for `sweep`.
    record_every: as for `sweep`.
    probes: as for `sweep`.
    plan: as for `sweep`.
    progress: as for `sweep`.

  Returns:
    A Dataset with dims (seed, step); see `sweep`.

  Raises:
    InputError: if an argument is out of range, before anything is computed.
  """
  if not isinstance(algorithm, Algorithm):
    raise InputError(f'algorithm must come from gdlab.algorithm(...), got {shown(algorithm)}')
  return sweep(
    problem,
    _Always(algorithm),
    {},
    num_steps=num_steps,
    seeds=seeds,
    eval_every=eval_every,
    eval_steps=eval_steps,
    record_every=record_every,
    probes=probes,
    plan=plan,
    progress=progress,
  )


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
  progress: bool | Progress | None = None,
) -> xr.Dataset:
  """Runs an algorithm at every point of a grid of hyperparameters, with many seeds each.

  Hyperparameters whose values are floats are traced: all their values run side by side in one compiled program.
  All others (batch sizes, samplers, widths, flags) shape the program, which is compiled once for each.

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
    make_algorithm: makes the algorithm of the hyperparameters it names. It is compiled once and must depend on
      nothing else: a global that it reads is not looked at again.
    grid: hyperparameter -> values.
    num_steps: updates of every run, >= 1.
    seeds: a count, a sequence of seed ids, or a mapping from stream (init, order, noise) to ids. Every grid
      point gets the same seeds, so that points compare in pairs.
    eval_every: updates between evaluations of the metrics and probes; about 50 evaluations by default.
      Step 0 and the last step are always evaluated.
    eval_steps: further updates after which to evaluate, in [0, num_steps].
    record_every: updates between records of the step's own diagnostics; as `eval_every` by default. It also
      bounds how far a diverged run is put back: to its last record.
    probes: name -> `(problem, state) -> array`, measured at evaluations, for whatever else is wanted
      (`lambda problem, state: state.params` for the path of a one-array model).
    plan: the layout of the lanes; by rule if None.
    progress: True or False for a progress bar with the time left; a function `(done, total)` in updates to
      show it elsewhere; None for a bar where a terminal looks on.

  Returns:
    A Dataset with dims (*grid, seed, step), and `step` every update with a record, 0 among them. Variables:
    `train_<metric>`, `test_<metric>` and probes (between evaluations NaN, or 0 for whole numbers); `batch_loss`,
    `grad_norm`, `update_norm`, `param_norm` of the last update before the record (NaN at step 0); `status` (0
    running, 1 diverged: the run stopped being finite and is frozen at its last finite record); the counts
    `updates`, `examples`, `gradient_evaluations`, `epoch`.

  Raises:
    InputError: if an argument is out of range, before anything is computed.
  """
  started = time.perf_counter()
  ids = seed_ids(seeds)
  steps, evaluates = _record_steps(num_steps, eval_every, eval_steps, record_every)
  make_problem = None if isinstance(problem, Problem) else problem
  if not callable(make_problem):
    _check_problem(problem)
  points = check_grid(grid, make_algorithm, make_problem)
  lane_ids = np.tile(ids, (points.num_points(), 1))
  layout = resolve(plan, len(lane_ids), num_steps)
  check_names('probe', probes or ())
  check_names('hyperparameter', grid)
  programs = []
  for structure in points.groups():
    group_problem = problem if isinstance(problem, Problem) else problem(**named_by(problem, structure))
    _check_problem(group_problem)
    program = lanes.Program(
      make_algorithm,
      tuple(sorted(named_by(make_algorithm, structure).items())),
      tuple((probes or {}).items()),
      layout,
    )
    lanes.check(program, group_problem, points.first_numbers())
    programs.append((program, group_problem))

  results = []
  # A run's keys pass through loops and selects unused; the checker for key reuse takes that for use.
  with reporting(progress, len(programs) * len(lane_ids) * num_steps) as report, jax.debug_key_reuse(False):
    for program, group_problem in programs:
      records = run_group(
        program, group_problem, lane_ids, points.numbers(len(ids)), steps, evaluates, report
      )
      records['epoch'] = records['examples'] / group_problem.num_examples
      results.append(records)

  attributes = {
    'problem': ', '.join(dict.fromkeys(group_problem.name for _, group_problem in programs)),
    'num_steps': num_steps,
    'wall_time_s': time.perf_counter() - started,
  } | {f'plan_{name}': value for name, value in layout._asdict().items()}
  if make_problem is None:
    attributes['num_examples'] = group_problem.num_examples
  records = points.arrange(results, len(ids))
  return to_dataset(records, axes=points.axes, ids=ids, steps=steps, attributes=attributes)


@dataclasses.dataclass(frozen=True)
class _Always:
  """The factory of one algorithm; equal for the same algorithm, so that it compiles once."""

  algorithm: Algorithm

  def __call__(self) -> Algorithm:
    return self.algorithm


def _record_steps(
  num_steps: int, eval_every: int | None, eval_steps: Sequence[int], record_every: int | None
) -> tuple[np.ndarray, np.ndarray]:
  """The updates after which there is a record, 0 first, and whether metrics are evaluated there."""
  num_steps = check_count('num_steps', num_steps)
  default = max(1, num_steps // RECORDS_PER_RUN)
  eval_every = default if eval_every is None else check_count('eval_every', eval_every)
  record_every = eval_every if record_every is None else check_count('record_every', record_every)
  further = {check_count('eval_steps', step, minimum=0, maximum=num_steps) for step in eval_steps}
  evaluated = {*range(0, num_steps, eval_every), *further, num_steps}
  steps = np.asarray(sorted(evaluated | {*range(0, num_steps, record_every)}))
  return steps, np.isin(steps, sorted(evaluated))


def _check_problem(problem: Any) -> None:
  if not isinstance(problem, Problem):
    raise InputError(f'problem must be a gdlab Problem such as gdlab.problems.digits(), got {shown(problem)}')
