"""What is measured; the functions that take `progress` are cells."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from flax import linen as nn
from jax.flatten_util import ravel_pytree

import gdlab
from experiments.batch_size import effects
from experiments.batch_size.effects import Arm, Bench
from gdlab import analysis, estimators, sampling, schedules, statistics, study, theory
from gdlab.analysis.blocks import full_loss_and_gradient
from gdlab.core import evaluation
from gdlab.core.types import Algorithm, Examples, Problem, Sampler

KEPT = nn.BatchNorm.momentum  # what running statistics keep of themselves at an update: 0.99
RANK = 4  # directions in which the trace is exact: as many as stand out
TOLERANCE = 0.02  # relative, of the largest eigenvalue: far below the effects that matter


def sampler(batch_size: int, num_examples: int) -> Sampler:
  """Full batch or reshuffled mini-batches."""
  return sampling.full_batch() if batch_size == num_examples else sampling.reshuffle(batch_size)


@functools.cache  # one function for one arm, so that its program is compiled once
def descent(arm: Arm) -> Callable[..., Algorithm]:
  """Gradient descent as a function of the number of its setting, a pair (rate, momentum).

  With ghosts the gradient is summed over slices of so many examples, each normalised by its own statistics.
  """

  def make(setting) -> Algorithm:
    number = jnp.asarray(setting, jnp.int32)
    columns = zip(*arm.bench.settings, strict=True)
    return gdlab.algorithm(
      sampler=sampler(arm.batch_size, arm.bench.problem.num_examples),
      optimizer=optax.sgd(*(jnp.asarray(column, jnp.float32)[number] for column in columns)),
      estimator=estimators.microbatched(arm.ghost) if arm.ghost else None,
    )

  return make


@functools.cache
def probes(bench: Bench) -> dict[str, Callable]:
  """Validation loss and accuracy, test loss on labels like those of training; with BatchNorm a test accuracy.

  The running averages that a BatchNorm is usually tested with remember the last hundreds of updates, more than a large
  batch makes in all, and ghosts update them many times per update. By those, ghosts would win for that alone. So all
  but the built-in metrics are by statistics of the whole training set at the parameters that are measured.
  """
  asked = {f'validation_{name}': (name, bench.validation) for name in ('loss', 'accuracy')}
  asked['alike_loss'] = 'loss', bench.alike
  if bench.name == 'norm':
    asked['population_accuracy'] = 'accuracy', bench.problem.test
  return {name: functools.partial(_mean, *of) for name, of in asked.items()}


def _mean(name: str, examples: Examples, problem: Problem, state: gdlab.State):
  mask = jnp.ones(problem.num_examples, bool)
  _, moved = problem.loss(state.params, state.model_state, problem.train, mask, state.key)
  # An update of the running statistics, moved = m old + (1 - m) those of the batch, solved for the latter.
  at = jax.tree.map(lambda new, old: old + (new - old) / (1 - KEPT), moved, state.model_state)
  return evaluation.mean_metrics(problem, state.params, at, examples)[name]


def clock(config, *, progress) -> xr.Dataset:
  """Seconds per update of every batch size of the perceptron."""
  del progress
  timed = [arm for arm in effects.arms(config) if arm.bench.name == 'clean']
  methods, precision = {arm.batch_size: descent(arm)(0) for arm in timed}, config.clock.precision
  seconds = study.time_updates(methods, timed[0].bench.problem, 'batch_size', precision=precision)
  return xr.Dataset({'seconds': seconds}, attrs={'mini_batch': config.mini_batch})


def tuning(config, arm: Arm, clock: xr.Dataset, *, progress) -> xr.Dataset:
  """One arm at every setting."""
  found = _sweep(config, arm, range(len(arm.bench.settings)), config.seeds.for_tuning, clock, progress)
  return found.drop_vars('params', errors='ignore')


def runs(config, arm: Arm, clock: xr.Dataset, tuned: xr.Dataset, *, progress) -> xr.Dataset:
  """One arm at the setting that was best for each budget; the mini-batch also at the one that fits fastest."""
  fit = ['fit'] if arm.bench.target and arm.batch_size == config.mini_batch else []
  kinds, ids = [*effects.budgets(arm, clock), *fit], config.seeds.ids[: arm.bench.num_seeds]
  numbers = {effects.best_setting(arm, kind, clock, tuned) for kind in kinds}
  return _sweep(config, arm, sorted(numbers), ids, clock, progress).drop_vars('params', errors='ignore')


def _sweep(config, arm: Arm, numbers, ids: Sequence[int], clock: xr.Dataset, progress) -> xr.Dataset:
  """Runs of one arm. The search and the study's runs differ in their lanes alone, and so share one program."""
  bench, ends = arm.bench, effects.budgets(arm, clock)
  last = max(ends.values())
  result = gdlab.sweep(
    bench.problem,
    descent(arm),
    {'setting': [float(number) for number in numbers]},
    num_steps=last,
    seeds=ids,
    eval_every=max(1, last // config.evaluations),
    eval_steps=sorted(set(ends.values())),
    probes=probes(bench) | ({'params': study.flat_params} if bench.target else {}),
    plan=gdlab.Plan(lanes_per_block=config.lanes_per_block or None),
    progress=progress,
  )
  return result.assign_coords(setting=result.setting.astype(int))


def sharpness(config, arm: Arm, clock: xr.Dataset, tuned: xr.Dataset, *, progress) -> xr.Dataset:
  """Four measures of sharpness and the gap where each run, cooled, comes to the training loss of end points.

  At the settings that every batch size runs, and at the one that is best there. The measures ask how far the loss rises
  nearby, and would take the gradient of a mini-batch that is still jumping about for curvature: so it is cooled.
  """
  options, bench = config.sharpness, arm.bench
  numbers = {effects.best_setting(arm, 'matched', clock, tuned), *effects.alike(config, bench)}
  found = _sweep(config, arm, sorted(numbers), config.seeds.ids[: options.num_seeds], clock, progress)
  starts = effects.at_target(found, bench.target)[1].transpose('setting', 'seed')
  points = found.params.transpose('setting', 'seed', 'step', ...).values
  problem = dataclasses.replace(bench.problem, test=bench.alike)  # for the gap: labels of one kind
  rows: list[dict] = []
  for run in np.ndindex(starts.shape):
    params, _, cooling, reached = end_point(
      problem, points[run], int(starts.values[run]), bench.target, options
    )
    rows.append(_sharpness_at(problem, params, len(rows), options) | {'cooling': cooling, 'reached': reached})
    progress(len(rows), starts.size)
  columns = {name: (starts.dims, np.reshape([row[name] for row in rows], starts.shape)) for name in rows[0]}
  return xr.Dataset(columns, {name: found[name] for name in starts.dims}, found.attrs)


def end_point(problem: Problem, points: np.ndarray, start: int, target: float, options):
  """A run's end point: parameters, the record that cooling began from, updates of cooling, whether it came there.

  Full batch at a small rate cools. A mini-batch that is cooled from where its training loss first is at the target, the
  record `start` of its parameters `points` float[step, P], falls below, and full batch does not, so that the two would
  not be equally trained. So cooling starts at the last earlier record that is still above the target after
  `cooling_updates` of it, and goes on until the loss is at the target, at most for `cooling_limit`. The losses of end
  points differ by one update of cooling at most.
  """
  rate, least = options.cooling_rate, options.cooling_updates
  for place in range(start, -1, -1):
    params, loss, updates = _cool(
      problem, points[place], rate, 0.0, least
    )  # no loss is below 0: exactly so many
    if not float(loss) <= target:
      break
  params, loss, more = _cool(problem, params, rate, target, max(0, options.cooling_limit - least))
  return np.asarray(params), place, int(updates) + int(more), bool(float(loss) <= target)


@jax.jit
def _cool(problem: Problem, point, rate: float, target: float, most: int):
  """The parameters after updates of full batch until the loss is at the target, at most so many; loss and number."""
  measure = full_loss_and_gradient(problem, (), jax.random.key(0))

  def update(carry):
    params, _, grad, count = carry
    params = jax.tree.map(lambda value, slope: value - rate * slope, params, grad)
    return params, *measure(params), count + 1

  going = lambda carry: (carry[1] > target) & (carry[3] < most)
  params = _structured(problem, point)
  params, loss, _, count = jax.lax.while_loop(going, update, (params, *measure(params), 0))
  return ravel_pytree(params)[0], loss, count


@jax.jit
def _structured(problem: Problem, point):
  """Parameters from a vector."""
  return ravel_pytree(problem.init(jax.random.key(0))[0])[1](point)


def _sharpness_at(problem: Problem, point: np.ndarray, number: int, options) -> dict[str, float]:
  """The measures at one point; a lone one is compiled for, as counts of points differ between arms."""
  key = jax.random.fold_in(jax.random.key(0), number)
  params = _structured(problem, point)
  found = {name: float(value) for name, value in _compiled(problem, params, key, options.probes).items()}
  if not np.isfinite(point).all():
    return dict.fromkeys((*found, 'keskar'), np.nan)
  keskar = analysis.keskar_sharpness(problem, params, (), key, epsilon=options.epsilon)
  return found | {'keskar': keskar.sharpness}


@functools.partial(jax.jit, static_argnames='num_probes')
def _compiled(problem: Problem, params, key, num_probes: int) -> dict[str, jax.Array]:
  """What needs no host, for models without other state."""
  operator = analysis.hessian(problem, params, (), key)
  loss = analysis.generalisation_gap(problem, params)['loss']
  return {
    'eigenvalue': analysis.sharpness(problem, params, (), key, tolerance=TOLERANCE).values[0],
    'trace': analysis.trace(operator, key, num_probes=num_probes, rank=RANK).value,
    'adaptive': analysis.adaptive_sharpness(problem, params, (), key).sharpness,
    'gradient_norm': optax.tree.norm(analysis.full_gradient(problem, (), key)(params)),
    'cooled_loss': loss.train,
    'loss_gap': loss.gap,
  }


def search(config, size: int, *, progress) -> xr.Dataset:
  """Every rate at one batch size: updates to the target."""
  return _to_target(config, size, config.steps.learning_rates, config.seeds.for_tuning, progress)


def steps(config, size: int, tuned: xr.Dataset, *, progress) -> xr.Dataset:
  """The best rate at one batch size."""
  return _to_target(config, size, [effects.fastest_rate(tuned)], config.seeds.ids, progress).isel(
    learning_rate=0
  )


def _to_target(config, size: int, rates, ids: Sequence[int], progress) -> xr.Dataset:
  """Updates to the target training loss of every run; where censored, what it had."""
  last = _horizon(config, size)
  # Evaluated after every update at first, then in equal ratios.
  records = {int(step) for step in np.geomspace(1, last, config.steps.records).round()}
  runs = _plain(config, size, rates, ids, progress, last, eval_every=last, eval_steps=sorted(records))
  alive = runs.train_loss.where(runs.status == gdlab.RUNNING).transpose(..., 'step')
  found = statistics.first_crossing(runs.step.values, alive.values, config.steps.target_loss)
  columns = {'steps': (alive.dims[:-1], found.time), 'censored': (alive.dims[:-1], found.censored)}
  return xr.Dataset(
    columns | {'status': runs.status.isel(step=[-1])},
    {name: runs[name] for name in alive.dims[:-1]},
    runs.attrs,
  )


def _horizon(config, size: int) -> int:
  """Updates that a batch size has to reach the target."""
  return config.steps.budget_updates + -(-config.steps.budget_examples // size)


def _plain(config, size: int, rates, ids: Sequence[int], progress, last: int, **records) -> xr.Dataset:
  """Plain descent of the perceptron on right labels."""
  problem = effects.arms(config)[0].bench.problem
  return gdlab.sweep(
    problem,
    _descent(size, problem.num_examples),
    {'learning_rate': [float(rate) for rate in rates]},
    num_steps=last,
    seeds=ids,
    plan=gdlab.Plan(lanes_per_block=config.lanes_per_block or None),
    progress=progress,
    **records,
  )


@functools.cache
def _descent(size: int, num_examples: int) -> Callable[..., Algorithm]:
  return lambda learning_rate: gdlab.algorithm(
    sampler=sampler(size, num_examples), optimizer=optax.sgd(learning_rate)
  )


def scales(config, size: int, tuned: xr.Dataset, *, progress) -> xr.Dataset:
  """The noise scale tr(Sigma)/|G|^2 along runs at the best rate, up to the target; NaN beyond."""
  rate, ids = effects.fastest_rate(tuned), config.seeds.ids[: config.steps.scale_seeds]
  last = int(min(_horizon(config, size), 1.5 * tuned.steps.sel(learning_rate=rate).max()))
  records = {'eval_every': max(1, last // config.steps.scale_records), 'probes': {'simple': _noise_scale}}
  found = _plain(config, size, [rate], ids, progress, last, **records).isel(learning_rate=0)
  on_way = (found.train_loss > config.steps.target_loss).cumprod('step').astype(bool)
  return xr.Dataset({'simple': found.simple.where(on_way), 'status': found.status}, attrs=found.attrs)


def _noise_scale(problem: Problem, state: gdlab.State):
  found = analysis.gradient_covariance_trace(problem, state.params, state.model_state, state.key)
  return found.covariance_trace / optax.tree.norm(found.mean, squared=True)


def way_search(config, way: str, *, progress) -> xr.Dataset:
  """One of `WAYS` at every rate."""
  return _slowed(config, way, config.growth.learning_rates, config.seeds.for_tuning, progress)


def way(config, way: str, own: xr.Dataset, decay: xr.Dataset, *, progress) -> xr.Dataset:
  """One of `WAYS` at its own best rate and at that of the decaying rate."""
  rates = {effects.most_accurate(tuned.isel(step=-1), 'learning_rate') for tuned in (own, decay)}
  return _slowed(config, way, sorted(rates), config.seeds.ids, progress)


def _slowed(config, way: str, rates, ids: Sequence[int], progress) -> xr.Dataset:
  """Metrics at the end of every epoch; `step` is the updates made by then."""
  options = config.growth
  bench = next(arm.bench for arm in effects.arms(config) if arm.bench.name == options.bench)
  sizes = effects.stages(config) if way == 'growth' else effects.stages(config)[:1] * 3
  per_epoch = [theory.updates_per_epoch(bench.problem.num_examples, size) for size in sizes]
  ends = [int(count) for count in np.cumsum(np.repeat(per_epoch, np.diff([0, *options.epochs])))]
  found = gdlab.sweep(
    bench.problem,
    _slowing(sizes, tuple(ends[epoch - 1] for epoch in options.epochs[:-1])),
    {'learning_rate': list(rates), 'decay': [1 / options.factor if way == 'decay' else 1.0]},
    num_steps=ends[-1],
    seeds=ids,
    eval_every=ends[-1],
    eval_steps=ends,
    probes=probes(bench),
    progress=progress,
  )
  names = ['train_loss', 'test_accuracy', 'validation_loss', 'validation_accuracy', 'status']
  return found[names].isel(decay=0, drop=True)


@functools.cache
def _slowing(sizes: tuple[int, ...], boundaries: tuple[int, ...]) -> Callable[..., Algorithm]:
  """Descent with a rate that is multiplied by `decay` at the boundaries, where the batch takes the next size."""
  growing = sampling.batch_size_schedule(sizes[-1], sampling.piecewise_sizes(sizes, boundaries))
  chosen = growing if sizes[-1] > sizes[0] else sampling.reshuffle(sizes[0])

  def make(learning_rate, decay) -> Algorithm:
    rate = schedules.step_decay(learning_rate, decay, boundaries=boundaries)
    return gdlab.algorithm(sampler=chosen, optimizer=optax.sgd(rate))

  return make
