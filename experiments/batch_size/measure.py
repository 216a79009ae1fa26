"""What is measured; the functions that take `progress` are cells. Every seed has data of its own."""

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
from experiments.batch_size import arms, effects
from experiments.batch_size.arms import Arm
from gdlab import analysis, estimators, sampling, schedules, statistics, study, theory
from gdlab.analysis.blocks import full_loss_and_gradient
from gdlab.core import evaluation
from gdlab.core.types import Algorithm, Problem, Sampler

KEPT = nn.BatchNorm.momentum  # what running statistics keep of themselves at an update: 0.99
RANK = 4  # directions in which the trace is exact: as many as stand out
EXACT = 0.25, 100  # rate and directions of the noisy quadratic
TOLERANCE = 0.02  # relative, of the largest eigenvalue: far below the effects that matter


def sampler(batch_size: int, num_examples: int) -> Sampler:
  """Full batch or reshuffled mini-batches."""
  return sampling.full_batch() if batch_size == num_examples else sampling.reshuffle(batch_size)


def descent(arm: Arm) -> Callable[..., Algorithm]:
  """Gradient descent as a function of the number of its setting, a pair (rate, momentum).

  With ghosts the gradient is summed over slices of so many examples, each normalised by its own statistics.
  """
  return _momentum(arm.bench.settings, arm.batch_size, arm.bench.num_train, arm.ghost)


@functools.cache  # one function for right and wrong labels, so that its program is compiled once
def _momentum(settings, batch_size: int, num_examples: int, ghost: int) -> Callable[..., Algorithm]:
  def make(setting) -> Algorithm:
    number = jnp.asarray(setting, jnp.int32)
    columns = zip(*settings, strict=True)
    return gdlab.algorithm(
      sampler=sampler(batch_size, num_examples),
      optimizer=optax.sgd(*(jnp.asarray(column, jnp.float32)[number] for column in columns)),
      estimator=estimators.microbatched(ghost) if ghost else None,
    )

  return make


def population(problem: Problem, state: gdlab.State) -> dict[str, jax.Array]:
  """Held-out metrics with BatchNorm's statistics of the whole training set at the parameters that are measured.

  The running averages that a BatchNorm is usually tested with remember the last hundreds of updates, more than a large
  batch makes in all, and ghosts update them many times per update. By those, ghosts would win for that alone.
  """
  mask = jnp.ones(problem.num_examples, bool)
  _, moved = problem.loss(state.params, state.model_state, problem.train, mask, state.key)
  # An update of the running statistics, moved = m old + (1 - m) those of the batch, solved for the latter.
  at = jax.tree.map(lambda new, old: old + (new - old) / (1 - KEPT), moved, state.model_state)
  held_out = {'validation': problem.validation, 'test': problem.test}
  return {
    f'{name}_{metric}': value
    for name, examples in held_out.items()
    for metric, value in evaluation.mean_metrics(problem, state.params, at, examples).items()
  }


def tuning(config, arm: Arm, *, progress) -> xr.Dataset:
  """One arm at every setting."""
  return _sweep(config, arm, range(len(arm.bench.settings)), config.seeds.for_tuning, progress)


def runs(config, arm: Arm, tuned: xr.Dataset, *, progress) -> xr.Dataset:
  """One arm at the settings that are likely for each budget; the small batch on wrong labels also at those that fit."""
  kinds = [*arm.budgets, *(['matched'] if arm.bench.target else [])]
  kinds += ['fit'] if str(arm) == f'noisy_b{config.small_batch}' else []
  ids = _ids(config, arm.bench.num_seeds)
  return _sweep(config, arm, _likely(config, arm, kinds, tuned), ids, progress)


def _ids(config, count: int) -> list[int]:
  """So many seeds, from the first of the set on."""
  return [config.seeds.first + number for number in range(count)]


def _likely(config, arm: Arm, kinds: Sequence[str], tuned: xr.Dataset) -> list[int]:
  """The numbers of the settings that tuning chooses, or might with other seeds."""
  num = config.seeds.tuning
  found = [statistics.likely(arms.chooser(arm, kind, tuned), num) for kind in kinds]
  return sorted(set().union(*found))


def _sweep(config, arm: Arm, numbers, ids: Sequence[int], progress, **options) -> xr.Dataset:
  """Runs of one arm. The search and the study's runs differ in their lanes alone, and so share one program."""
  last = max(arm.budgets.values())
  given = {
    'num_steps': last,
    'eval_every': max(1, last // config.evaluations),
    'eval_steps': sorted(set(arm.budgets.values())),
    'probes': {'population': population} if arm.bench.name == 'norm' else {},
    'plan': gdlab.Plan(lanes_per_block=config.lanes_per_block or None),
  }
  settings = {'setting': [float(number) for number in numbers]}
  result = study.sweep_anew(
    arm.bench.data, descent(arm), settings, seeds=ids, progress=progress, **given | options
  )
  return result.assign_coords(setting=result.setting.astype(int))


def sharpness(config, arm: Arm, *, progress) -> xr.Dataset:
  """The measures at the end points of an arm at the settings that every batch size runs."""
  numbers = [arm.bench.settings.index(tuple(pair)) for pair in config.sharpness.settings]
  return _end_points(config, arm, numbers, progress)


def own(config, arm: Arm, tuned: xr.Dataset, *, progress) -> xr.Dataset:
  """The same at the settings with which the arm is likely to come there in the fewest updates."""
  return _end_points(config, arm, _likely(config, arm, ['fastest'], tuned), progress)


def _end_points(config, arm: Arm, numbers: Sequence[int], progress) -> xr.Dataset:
  """Four measures of sharpness and the gap where each run, cooled, comes to the training loss of end points.

  The measures ask how far the loss rises nearby, and would take the gradient of a mini-batch that is still jumping
  about for curvature: so it is cooled. A run that does not come to that loss within `sharpness.updates` has no end
  point, and NaN for all of them; `reached` tells, and `updates` when it first was there.
  """
  options, bench = config.sharpness, arm.bench
  ids = _ids(config, options.num_seeds)
  horizon = {'num_steps': options.updates, 'eval_every': options.eval_every, 'eval_steps': []}
  found = _sweep(config, arm, numbers, ids, progress, probes={'params': study.flat_params}, **horizon)
  loss = study.unless_failed(found, 'train_loss', np.inf).transpose('seed', 'setting', 'step').values
  points = found.params.transpose('seed', 'setting', 'step', ...).values
  rows: list[dict] = []
  for run in np.ndindex(loss.shape[:2]):
    below = np.flatnonzero(loss[run] <= bench.target)
    problem = bench.data(ids[run[0]])
    start = int(below[0]) if below.size else 0
    params, _, cooling, cooled = end_point(problem, points[run], start, bench.target, options)
    here = _sharpness_at(problem, params, len(rows), options)
    reached = bool(below.size) and cooled
    if not reached:
      here = dict.fromkeys(here, np.nan)
    updates = float(found.step[start]) if below.size else np.nan
    rows.append(here | {'cooling': cooling, 'updates': updates, 'reached': reached})
    progress(len(rows), loss[..., 0].size)
  dims = 'seed', 'setting'
  columns = {name: (dims, np.reshape([row[name] for row in rows], loss.shape[:2])) for name in rows[0]}
  return xr.Dataset(columns, {name: found[name] for name in dims}, found.attrs)


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
  # The validation images are labelled like those of training, wrongly as often.
  alike = dataclasses.replace(problem, test=problem.validation)
  loss = analysis.generalisation_gap(alike, params)['loss']
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
  """The rates that are likely to be the best at one batch size."""
  rates = statistics.likely(effects.fastest(tuned), config.seeds.tuning)
  return _to_target(config, size, sorted(rates), _ids(config, config.steps.num_seeds), progress)


def _to_target(config, size: int, rates, ids: Sequence[int], progress) -> xr.Dataset:
  """Updates to the target training loss of every run; where censored, what it had."""
  last = horizon(config, size)
  # Evaluated after every update at first, then in equal ratios.
  records = {int(step) for step in np.geomspace(1, last, config.steps.records).round()}
  runs = _plain(config, size, rates, ids, progress, last, eval_every=last, eval_steps=sorted(records))
  alive = runs.train_loss.where(runs.status == gdlab.RUNNING).transpose(..., 'step')
  found = statistics.first_crossing(runs.step.values, alive.values, config.steps.losses[-1])
  columns = {'steps': (alive.dims[:-1], found.time), 'censored': (alive.dims[:-1], found.censored)}
  return xr.Dataset(
    columns | {'status': runs.status.isel(step=[-1])},
    {name: runs[name] for name in alive.dims[:-1]},
    runs.attrs,
  )


def horizon(config, size: int) -> int:
  """Updates that a batch size has to reach the target."""
  return config.steps.budget_updates + -(-config.steps.budget_examples // size)


def _plain(config, size: int, rates, ids: Sequence[int], progress, last: int, **records) -> xr.Dataset:
  """Plain descent of the perceptron on right labels."""
  bench = arms.benches(config)['clean']
  return study.sweep_anew(
    bench.data,
    _descent(size, bench.num_train),
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
  """Moments of the gradients, tr Sigma and |G|^2, where the training loss at the best rate first is at most each loss.

  Measured at every update, up to where the slowest tuning run came to the target and half as far again: a run that is
  not at a loss by then has NaN there.
  """
  rate = next(iter(statistics.likely(effects.fastest(tuned), config.seeds.tuning)))
  last = int(min(horizon(config, size), 1.5 * tuned.steps.sel(learning_rate=rate).max()))
  records = {'eval_every': 1, 'probes': {'moments': _moments}}
  ids = _ids(config, config.steps.num_seeds)
  found = _plain(config, size, [rate], ids, progress, last, **records).isel(learning_rate=0)
  found = found[['train_loss', 'moments.trace', 'moments.square', 'status']]
  parts = [arms.at_target(found, loss).assign_coords(loss=loss) for loss in config.steps.losses]
  there = xr.concat(parts, 'loss', combine_attrs='override')
  return there.rename({'moments.trace': 'trace', 'moments.square': 'square'}).assign_attrs(found.attrs)


def _moments(problem: Problem, state: gdlab.State) -> dict[str, jax.Array]:
  found = analysis.gradient_covariance_trace(problem, state.params, state.model_state, state.key)
  return {'trace': found.covariance_trace, 'square': optax.tree.norm(found.mean, squared=True)}


def first_stage(config, *, progress) -> xr.Dataset:
  """Every rate in the first stage, which is the same of all `WAYS`."""
  return _slowed(config, 'kept', config.growth.learning_rates, config.seeds.for_tuning, 1, progress)


def way(config, way: str, first: xr.Dataset, *, progress) -> xr.Dataset:
  """One of `WAYS` at the rates that are likely to be the largest stable one."""
  rates = statistics.likely(effects.stable_rate(first), config.seeds.tuning)
  return _slowed(config, way, sorted(rates), config.seeds.ids, 3, progress)


def _slowed(
  config, way: str, rates, ids: Sequence[int], num_stages: int, progress, method='sgd'
) -> xr.Dataset:
  """Metrics at the end of every epoch of the first stages; `step` is the updates made by then."""
  options, bench = config.growth, arms.benches(config)['clean']
  batches, decay = arms.changes(config, way, method)
  per_epoch = [theory.updates_per_epoch(bench.num_train, size) for size in batches]
  ends = [int(count) for count in np.cumsum(np.repeat(per_epoch, np.diff([0, *options.epochs])))]
  boundaries = tuple(ends[epoch - 1] for epoch in options.epochs[:-1])
  ends = ends[: options.epochs[num_stages - 1]]
  found = study.sweep_anew(
    bench.data,
    _slowing(tuple(batches), boundaries, method),
    {'learning_rate': list(rates), 'decay': [decay]},
    num_steps=ends[-1],
    seeds=ids,
    eval_every=ends[-1],
    eval_steps=ends,
    plan=gdlab.Plan(lanes_per_block=config.lanes_per_block or None),
    progress=progress,
  )
  return found[['train_loss', 'test_loss', 'test_accuracy', 'status']].isel(decay=0, drop=True)


@functools.cache
def _slowing(sizes: tuple[int, ...], boundaries: tuple[int, ...], method: str) -> Callable[..., Algorithm]:
  """Descent with a rate that is multiplied by `decay` at the boundaries, where the batch takes the next size."""
  growing = sampling.batch_size_schedule(sizes[-1], sampling.piecewise_sizes(sizes, boundaries))
  chosen = growing if sizes[-1] > sizes[0] else sampling.reshuffle(sizes[0])

  def make(learning_rate, decay) -> Algorithm:
    rate = schedules.step_decay(learning_rate, decay, boundaries=boundaries)
    return gdlab.algorithm(sampler=chosen, optimizer=arms.OPTIMIZERS[method](rate))

  return make


def ramp_stage(config, method: str, *, progress) -> xr.Dataset:
  """Every rate of an optimizer in the first stage, which is the same of all `RAMPS`."""
  return _slowed(config, 'kept', getattr(config.ramp, method), config.seeds.for_tuning, 1, progress, method)


def ramp(config, method: str, first: xr.Dataset, *, progress) -> xr.Dataset:
  """All `RAMPS` at the rates that are likely to be the largest stable one; `step` is the epoch."""
  rates = statistics.likely(effects.stable_rate(first), config.seeds.tuning)
  ids, parts = _ids(config, config.ramp.num_seeds), []
  for way in effects.RAMPS:
    found = _slowed(config, way, sorted(rates), ids, 3, progress, method)
    parts.append(
      found.assign(made=('step', found.step.values)).assign_coords(step=range(found.sizes['step']))
    )
  return xr.concat(parts, xr.Variable('way', [*effects.RAMPS]), combine_attrs='override')


def ramp_exact(config, *, progress) -> xr.Dataset:
  r"""Expected losses at the ends of stages of $x - \alpha g / \sqrt{E|g|^2}$ on a noisy quadratic, exactly.

  $m_i = E[x_i^2]$ follows $(1 - \eta h_i)^2 m_i + \eta^2 c_i / B$ with $\eta = \alpha / \sqrt{E|g|^2}$ and
  $E|g|^2 = \sum_i h_i^2 m_i + c_i / B$, from h = c = 1/i and m = 1.
  """
  model = theory.noisy_quadratic(1 / np.arange(1, EXACT[1] + 1))
  h, c, losses = model.curvatures, model.noise, []
  for done, way in enumerate(effects.RAMPS, 1):
    (sizes, decay), moment = arms.changes(config, way, 'normalised'), model.initial
    for stage, (size, epochs) in enumerate(zip(sizes, np.diff([0, *config.growth.epochs]), strict=True)):
      for _ in range(epochs * theory.updates_per_epoch(config.num_train, size)):
        rate = EXACT[0] * decay**stage / np.sqrt(np.sum(h**2 * moment + c / size))
        moment = (1 - rate * h) ** 2 * moment + rate**2 * c / size
      losses.append(h @ moment / 2)
    progress(done, len(effects.RAMPS))
  return xr.Dataset({'loss': (('way', 'stage'), np.reshape(losses, (-1, 3)))}, {'way': [*effects.RAMPS]})
