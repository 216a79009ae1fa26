"""What is measured by training: schedules and their rivals, warm-up, transfer of rates, batch sizes."""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

import gdlab
from experiments.learning_rate.rates import effects, tasks
from experiments.learning_rate.rates.tasks import for_tuning, ids
from experiments.learning_rate.study import steps
from gdlab import analysis, sampling, schedules, statistics, study
from gdlab.core.types import Algorithm, Problem, State

OPTIMIZERS = {'SGD': optax.sgd, 'Adam': optax.adam}
KEPT = ('train_loss', 'validation_loss', 'test_loss', 'test_accuracy', 'status', 'scale', 'excess')


@steps.cell(over=lambda config: [f'{task}_{arm}' for task in tasks.TASKS for arm in tasks.ARMS])
def trained(config, name, *, progress):
  """One arm on one task at all rates, tuning seeds and graded ones, [schedule,] learning_rate, seed, step."""
  options, (task, arm) = config.rates.schedules, name.split('_')
  streaming = task == 'regression'
  metric = 'train_loss' if streaming else 'validation_loss'
  make = tasks.method(arm, options.batch_size, options.updates, options.patience, metric)
  rates = options.prodigy_rates if arm == 'Prodigy' else getattr(options, f'{task}_rates')
  grid = {'schedule': [float(row) for row in range(len(tasks.SCHEDULES))]} if arm == 'fixed' else {}
  given = {'num_steps': options.updates, 'eval_every': options.updates // options.evaluations}
  given['probes'] = {'scale': tasks.scale} if arm == 'plateau' else {}
  data = lambda seed: tasks.task(
    *(task, options.dataset, options.num_train, options.num_validation, options.label_noise, options.hidden),
    0 if streaming else seed,
  )
  call = (make, grid | {'learning_rate': rates})
  seeds = for_tuning(config) + ids(config)
  if streaming:
    given['probes'] |= {'excess': _excess}
    runs = gdlab.sweep(
      data(0), *call, seeds=seeds, eval_steps=[options.updates // 2], progress=progress, **given
    )
  else:
    runs = study.sweep_anew(
      data, *call, seeds=seeds, eval_steps=[options.updates // 2], progress=progress, **given
    )
  if arm == 'fixed':
    runs = runs.assign_coords(schedule=[*tasks.SCHEDULES])
  return runs[[variable for variable in KEPT if variable in runs]]


def _excess(problem: Problem, state: State):
  """A probe: the expected loss of absolute regression over its least, where it is that of the errors alone.

  With r the distance to the minimiser an error is normal with variance 1 + r^2, so that the loss is
  sqrt(2 (1 + r^2) / pi).
  """
  distance = jnp.sum((study.flat_params(problem, state) - 1) ** 2)
  return jnp.sqrt(2 / jnp.pi) * (jnp.sqrt(1 + distance) - 1)


@functools.cache
def warmed(method: str, batch_size: int, momentum: float) -> Callable[..., Algorithm]:
  """SGD with momentum, or Adam, at a constant rate after a warm-up."""

  def make(length, peak):
    rate = schedules.warmup(optax.constant_schedule(peak), length)
    optimizer = optax.adam(rate) if method == 'Adam' else optax.sgd(rate, momentum=momentum)
    return gdlab.algorithm(sampler=sampling.reshuffle(batch_size), optimizer=optimizer)

  return make


@steps.cell(over=lambda config: [*OPTIMIZERS])
def warm_up(config, method, *, progress):
  """All lengths of warm-up at all peaks, [share, peak, seed, step]."""
  options = config.rates.warm_up
  runs = gdlab.sweep(
    tasks.whole('digits', options.hidden),
    warmed(method, options.batch_size, options.momentum),
    {
      'length': [share * options.updates for share in options.shares],
      'peak': options.sgd_peaks if method == 'SGD' else options.adam_peaks,
    },
    num_steps=options.updates,
    seeds=for_tuning(config) + ids(config),
    eval_every=max(1, options.updates // 20),
    progress=progress,
  )
  found = runs[['train_loss', 'test_accuracy', 'status']].rename(length='share')
  return found.assign_coords(share=[*options.shares])


@functools.cache
def descent(batch_size: int, method: str, num_examples: int) -> Callable[..., Algorithm]:
  """A method at a constant rate."""
  sampler = sampling.full_batch() if batch_size >= num_examples else sampling.reshuffle(batch_size)
  return lambda learning_rate: gdlab.algorithm(sampler=sampler, optimizer=OPTIMIZERS[method](learning_rate))


CHANGES = ('base', 'scale', 'width', 'batch')


@steps.cell(over=lambda config: (*CHANGES, 'full'))
def transfer(config, change, *, progress):
  """A network at all rates after equal epochs; with inputs scaled, wider, with a larger batch; full batch for L1."""
  options = config.rates.transfer
  width = options.wide if change == 'width' else options.hidden
  problem = tasks.whole('digits', (width,), options.scale if change == 'scale' else 1.0)
  count = problem.num_examples
  size = {'batch': options.large_batch, 'full': count}.get(change, options.batch_size)
  last = options.full_updates if change == 'full' else options.epochs * -(-count // size)
  runs = gdlab.sweep(
    problem,
    descent(size, 'SGD', count),
    {'learning_rate': options.learning_rates},
    num_steps=last,
    seeds=for_tuning(config) + ids(config),
    eval_every=last,
    eval_steps=range(1, min(last, 11)) if change == 'full' else [],
    progress=progress,
  )
  return runs[['train_loss', 'test_loss', 'status']]


def noisy(config) -> Problem:
  """The images of L8 and L9, the same for all seeds, with wrong labels: noise, and not curvature, limits the rate."""
  options = config.rates.schedules
  sizes = options.num_train, options.num_validation, options.label_noise
  return tasks.task('network', options.dataset, *sizes, config.rates.batches.hidden, 0)


@steps.cell(
  over=lambda config: [
    f'{method}_{size}' for method in OPTIMIZERS for size in config.rates.batches.batch_sizes
  ]
)
def batch(config, name, *, progress):
  """Updates to a training loss at all rates for one batch size, and the noise scale and test loss there."""
  options, (method, size) = config.rates.batches, name.split('_')
  problem = noisy(config)
  last = options.budget_updates + -(-options.budget_examples // int(size))
  runs = gdlab.sweep(
    problem,
    descent(int(size), method, problem.num_examples),
    {'learning_rate': options.sgd_rates if method == 'SGD' else options.adam_rates},
    num_steps=last,
    seeds=for_tuning(config) + ids(config),
    eval_every=last,
    eval_steps=sorted({int(step) for step in np.geomspace(1, last, options.records).round()}),
    progress=progress,
  )
  alive = runs.train_loss.where(runs.status == gdlab.RUNNING).transpose('learning_rate', 'seed', 'step')
  found = statistics.first_crossing(runs.step.values, alive.values, options.target)
  at = xr.DataArray((alive <= options.target).values.argmax(axis=-1), dims=alive.dims[:-1])
  columns = {'steps': found.time.astype(float), 'censored': found.censored}
  return xr.Dataset(
    {key: (alive.dims[:-1], values) for key, values in columns.items()}
    | {'test_loss': runs.test_loss.isel(step=at), 'status': runs.status.isel(step=[-1])},
    {name: runs[name] for name in alive.dims[:-1]},
    runs.attrs,
  )


@steps.cell('batch_SGD_{}', over=lambda config: [effects.LARGER])
def noise(config, size, searched, *, progress):
  """Moments of the gradients, tr Sigma and |G|^2, where descent at its fastest rate first is at the target loss."""
  options, problem = config.rates.batches, noisy(config)
  tuned = np.log(searched.steps.where(~searched.censored, np.inf)).sel(seed=for_tuning(config))
  rate = study.best(tuned, 'learning_rate')
  last = 2 * int(searched.steps.sel(learning_rate=rate).max())
  runs = gdlab.run(
    problem,
    descent(size, 'SGD', problem.num_examples),
    hyperparameters={'learning_rate': rate},
    num_steps=last,
    seeds=ids(config),
    eval_every=max(1, last // 40),
    probes={'moments': _moments},
    progress=progress,
  ).transpose('seed', 'step')
  below = (runs.train_loss <= options.target).values
  place = xr.DataArray(np.where(below.any(axis=1), below.argmax(axis=1), below.shape[1] - 1), dims='seed')
  there = runs.isel(step=place)
  return xr.Dataset(
    {'trace': there['moments.trace'], 'square': there['moments.square'], 'status': runs.status},
    attrs=runs.attrs,
  )


def _moments(problem: Problem, state: State):
  found = analysis.gradient_covariance_trace(problem, state.params, state.model_state, state.key)
  return {'trace': found.covariance_trace, 'square': optax.tree.norm(found.mean, squared=True)}
