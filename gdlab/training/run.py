"""`run` and `sweep`: algorithms over hyperparameters and seeds, all lanes side by side."""

import inspect
import itertools
import math
import numbers
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from gdlab.errors import InputError, check_count, unknown_name
from gdlab.training import lanes
from gdlab.training.lane import Interval, Probe
from gdlab.training.plan import Plan, resolve
from gdlab.training.progress import Progress, reporting
from gdlab.training.records import to_dataset
from gdlab.training.seeds import Seeds, seed_ids
from gdlab.types import Algorithm, Problem

RECORDS_PER_RUN = 50  # how many evaluations a run has when `eval_every` does not say


def run(problem: Problem, algorithm: Algorithm, *, num_steps: int, seeds: Seeds, **options: Any) -> xr.Dataset:
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
    **options: as for `sweep`.

  Returns:
    A Dataset with dims (seed, step); see `sweep`.

  Raises:
    InputError: if an argument is out of range, before anything is computed.
  """
  if not isinstance(algorithm, Algorithm):
    raise InputError(f'algorithm must come from gdlab.algorithm(...), got {algorithm!r}')
  return sweep(problem, _Always(algorithm), {}, num_steps=num_steps, seeds=seeds, **options)


def sweep(
  problem: Problem | Callable[..., Problem],
  make_algorithm: Callable[..., Algorithm],
  grid: Mapping[str, Sequence[Any]],
  *,
  num_steps: int,
  seeds: Seeds,
  eval_every: int | None = None,
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
    make_algorithm: makes the algorithm of the hyperparameters it names.
    grid: hyperparameter -> values.
    num_steps: updates of every run, >= 1.
    seeds: a count, a sequence of seed ids, or a mapping from stream (init, order, noise) to ids. Every grid
      point gets the same seeds, so that points compare in pairs.
    eval_every: updates between evaluations of the metrics and probes; about 50 evaluations by default.
      Step 0 and the last step are always evaluated.
    record_every: updates between records of the step's own diagnostics; as `eval_every` by default. It also
      bounds how far a diverged run is put back: to its last record.
    probes: name -> `(problem, state) -> array`, measured at evaluations, for whatever else is wanted
      (`lambda problem, state: state.params` for the path of a one-array model).
    plan: the layout of the lanes; by rule if None.
    progress: True or False for a progress bar with the time left; a function `(done, total)` in updates to
      show it elsewhere; None for a bar where a terminal looks on.

  Returns:
    A Dataset with dims (*grid, seed, step), and `step` every update with a record, 0 among them. Variables:
    `train_<metric>`, `test_<metric>` and probes (NaN between evaluations); `batch_loss`, `grad_norm`,
    `update_norm`, `param_norm` of the last update before the record (NaN at step 0); `status` (0 running,
    1 diverged: the run stopped being finite and is frozen at its last finite record); the counts `updates`,
    `examples`, `gradient_evaluations`, `epoch`.

  Raises:
    InputError: if an argument is out of range, before anything is computed.
  """
  started = time.perf_counter()
  ids = seed_ids(seeds)
  steps, evaluates = _record_steps(num_steps, eval_every, record_every)
  axes = _checked_grid(grid, [make_algorithm] if isinstance(problem, Problem) else [make_algorithm, problem])
  traced = {name: values for name, values in axes.items() if _is_numeric(values)}
  shaping = {name: values for name, values in axes.items() if name not in traced}

  numeric_points = list(itertools.product(*traced.values()))
  lane_ids = np.tile(ids, (len(numeric_points), 1))
  lane_numbers = {
    name: np.repeat(np.asarray([point[place] for point in numeric_points]), len(ids))
    for place, name in enumerate(traced)
  }
  resolved = resolve(plan, len(lane_ids), num_steps)
  groups = [dict(zip(shaping, values, strict=True)) for values in itertools.product(*shaping.values())]
  total = len(groups) * len(lane_ids) * num_steps

  with reporting(progress, total) as report:
    results = []
    for structure in groups:
      group_problem = problem if isinstance(problem, Problem) else problem(**_named_by(problem, structure))
      _check_problem(group_problem)
      program = lanes.Program(
        make_algorithm,
        tuple(sorted(_named_by(make_algorithm, structure).items())),
        tuple((probes or {}).items()),
        resolved,
      )
      records = _run_group(program, group_problem, lane_ids, lane_numbers, steps, evaluates, report)
      records['epoch'] = records['examples'] / group_problem.num_examples
      results.append(records)

  sizes = [len(values) for values in (*shaping.values(), *traced.values())]
  order = [[*shaping, *traced].index(name) for name in axes]
  stacked = {}
  for name in results[0]:
    values = np.stack([records[name] for records in results])
    values = values.reshape(*sizes, len(ids), *values.shape[2:])
    stacked[name] = np.transpose(values, (*order, *range(len(axes), values.ndim)))
  attributes = {
    'problem': group_problem.name,
    'num_steps': num_steps,
    'num_examples': group_problem.num_examples,
    'wall_time_s': time.perf_counter() - started,
  } | {f'plan_{name}': value for name, value in resolved._asdict().items()}
  return to_dataset(stacked, axes=axes, ids=ids, steps=steps, attributes=attributes)


class _Always(NamedTuple):
  """The factory of one algorithm; equal for the same algorithm, so that it compiles once."""

  algorithm: Algorithm

  def __call__(self) -> Algorithm:
    return self.algorithm


def _run_group(program, problem, ids, lane_numbers, steps, evaluates, report) -> dict[str, np.ndarray]:
  """All lanes of one program: records with axes [L, T, ...], counts already summed."""
  num_lanes = len(ids)
  # Lanes that fill up the last block repeat lane 0; they are dropped from the records.
  chosen = np.append(np.arange(num_lanes), np.zeros(lanes.pad(program.plan, num_lanes) - num_lanes, int))
  float_dtype = jax.dtypes.canonicalize_dtype(float)
  traced = {name: values[chosen].astype(float_dtype) for name, values in lane_numbers.items()}
  state, initial = lanes.start(program, problem, ids[chosen], traced)
  per_call = max(1, round(program.plan.steps_per_call * len(steps) / steps[-1]))
  rows = []
  for first in range(1, len(steps), per_call):
    last = min(first + per_call, len(steps))
    lengths = np.zeros(per_call, np.int32)
    flags = np.zeros(per_call, bool)
    lengths[: last - first] = np.diff(steps[first - 1 : last])
    flags[: last - first] = evaluates[first:last]
    state, records = lanes.advance(program, problem, state, traced, Interval(lengths, flags))
    rows.append({name: np.asarray(values)[:num_lanes, : last - first] for name, values in records.items()})
    report(num_lanes * int(steps[last - 1] - steps[first - 1]))
  return {name: _with_initial(name, [row[name] for row in rows], initial, num_lanes) for name in rows[0]}


def _with_initial(name: str, rows: list[np.ndarray], initial: Mapping[str, Any], num_lanes: int) -> np.ndarray:
  """One record's time axis, with its value before the first update at its head."""
  values = np.concatenate(rows, axis=1)
  if name in initial:
    first = np.asarray(initial[name])[:num_lanes, None]
  else:
    first = np.full_like(values[:, :1], np.nan if values.dtype.kind == 'f' else 0)
  values = np.concatenate([first, values], axis=1)
  if name in ('examples', 'gradient_evaluations'):
    return np.cumsum(values, axis=1, dtype=np.int64)  # summed here: int32 would overflow on long runs
  return values


def _record_steps(num_steps: int, eval_every: int | None, record_every: int | None) -> tuple[np.ndarray, np.ndarray]:
  """The updates after which there is a record, 0 first, and whether metrics are evaluated there."""
  num_steps = check_count('num_steps', num_steps)
  default = max(1, num_steps // RECORDS_PER_RUN)
  eval_every = default if eval_every is None else check_count('eval_every', eval_every)
  record_every = eval_every if record_every is None else check_count('record_every', record_every)
  evaluated = {*range(0, num_steps, eval_every), num_steps}
  steps = np.asarray(sorted(evaluated | {*range(0, num_steps, record_every)}))
  return steps, np.isin(steps, sorted(evaluated))


def _checked_grid(grid: Mapping[str, Sequence[Any]], takers: list[Callable]) -> dict[str, list[Any]]:
  known: set[str] = set()
  for taker in takers:
    known |= _parameters(taker)
  axes = {}
  for name, values in grid.items():
    if '**' not in known and name not in known:
      raise unknown_name('hyperparameter', name, known)
    if isinstance(values, str) or not np.iterable(values):
      raise InputError(f'grid[{name!r}] must be a sequence of values, got {values!r}')
    axes[name] = [value.item() if isinstance(value, np.generic) else value for value in values]
    if not axes[name]:
      raise InputError(f'grid[{name!r}] must hold at least one value, got none')
    if len(set(axes[name])) != len(axes[name]):
      raise InputError(f'grid[{name!r}] must hold distinct values, got {axes[name]}')
  return axes


def _parameters(function: Callable) -> set[str]:
  """The names a function takes; '**' stands for any."""
  kinds = inspect.signature(function).parameters.values()
  return {'**' if kind.kind is kind.VAR_KEYWORD else kind.name for kind in kinds}


def _named_by(function: Callable, values: Mapping[str, Any]) -> dict[str, Any]:
  names = _parameters(function)
  return {name: value for name, value in values.items() if '**' in names or name in names}


def _is_numeric(values: Sequence[Any]) -> bool:
  """Whether a hyperparameter is traced: real numbers, at least one of them a float."""
  real = all(isinstance(value, numbers.Real) and not isinstance(value, bool) for value in values)
  return real and any(isinstance(value, float) for value in values) and not any(map(math.isnan, values))


def _check_problem(problem: Any) -> None:
  if not isinstance(problem, Problem):
    raise InputError(f'problem must be a gdlab Problem such as gdlab.problems.digits(), got {problem!r}')
