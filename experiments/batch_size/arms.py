"""The arms of a bench: tuned by a search of their own, then run with the study's seeds."""

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
from experiments.batch_size import cooling
from experiments.batch_size.benches import Arm, Bench, Data, sampler, seeds, tuning_seeds
from gdlab import estimators, theory
from gdlab.core import evaluation
from gdlab.core.types import Algorithm, Examples, Problem
from gdlab.host.progress import Progress

KEPT = nn.BatchNorm.momentum  # what running statistics keep of themselves at an update: 0.99


@functools.cache  # one function for one arm, so that its program is compiled once
def descent(
  batch_size: int, num_examples: int, settings: tuple[tuple[float, float], ...], ghost: int = 0
) -> Callable[..., Algorithm]:
  """Gradient descent as a function of the number of its setting, a pair (rate, momentum).

  With `ghost` the gradient is summed over slices of so many examples, each normalised by its own statistics.
  """

  def make(setting) -> Algorithm:
    number = jnp.asarray(setting, jnp.int32)
    rate, momentum = (jnp.asarray(column, jnp.float32)[number] for column in zip(*settings, strict=True))
    return gdlab.algorithm(
      sampler=sampler(batch_size, num_examples),
      optimizer=optax.sgd(rate, momentum),
      estimator=estimators.microbatched(ghost) if ghost else None,
    )

  return make


def probes(data: Data, *, params: bool) -> dict[str, Callable]:
  """Validation loss and accuracy, test loss on labels like those; with BatchNorm test accuracy, by all statistics.

  The running averages that a BatchNorm is usually tested with remember the last hundreds of updates, more than a large
  batch makes in all, and ghosts update them many times per update. By those, ghosts would win for that alone. So
  statistics are taken over the whole training set at the parameters that are measured.
  """
  normed = bool(jax.tree.leaves(jax.eval_shape(data.problem.init, jax.random.key(0))[1]))
  at = _with_population_statistics if normed else lambda problem, state: state.model_state
  made = {
    f'validation_{name}': functools.partial(_mean, name, data.validation, at) for name in ('loss', 'accuracy')
  }
  made['alike_loss'] = functools.partial(_mean, 'loss', data.alike, at)
  if normed:
    made['population_accuracy'] = functools.partial(_mean, 'accuracy', data.problem.test, at)
  return made | ({'params': _flat} if params else {})


def _mean(name: str, examples: Examples, at: Callable, problem: Problem, state: gdlab.State):
  return evaluation.mean_metrics(problem, state.params, at(problem, state), examples)[name]


def _flat(problem: Problem, state: gdlab.State):
  return ravel_pytree(state.params)[0]


def _with_population_statistics(problem: Problem, state: gdlab.State):
  """BatchNorm's statistics over the whole training set at these parameters."""
  mask = jnp.ones(problem.num_examples, bool)
  _, moved = problem.loss(state.params, state.model_state, problem.train, mask, state.key)
  # An update of the running statistics, moved = m old + (1 - m) those of the batch, solved for the latter.
  return jax.tree.map(lambda new, old: old + (new - old) / (1 - KEPT), moved, state.model_state)


def tuning(config, bench: Bench, arm: Arm, clock: xr.Dataset | None, *, progress: Progress) -> xr.Dataset:
  """One arm at every setting, with the tuning seeds."""
  return _sweep(
    config, bench, arm, range(len(bench.settings)), tuning_seeds(config), clock, progress
  ).drop_vars('params', errors='ignore')


def arm(
  config, bench: Bench, arm: Arm, clock: xr.Dataset | None, tuned: xr.Dataset, *, progress: Progress
) -> xr.Dataset:
  """One arm with the study's seeds, at the setting that was best for each budget.

  The mini-batch also at the setting that fits fastest.
  """
  numbers = set(best_settings(bench, arm, clock, tuned).values())
  if sharp(config, bench) and arm.batch_size == config.mini_batch:
    numbers.add(fitting_setting(bench, arm, tuned))
  runs = _sweep(config, bench, arm, sorted(numbers), seeds(config, bench.num_seeds), clock, progress)
  return runs.drop_vars('params', errors='ignore')


def end_points(
  config, bench: Bench, arm: Arm, clock: xr.Dataset, tuned: xr.Dataset, *, progress: Progress
) -> xr.Dataset:
  """The parameters where each run, cooled, comes to the training loss at which end points are compared, else the last.

  At the settings that sharpness is measured for, and at the one that is best there.
  """
  target = config.sharpness.target[bench.name]
  numbers = {matched_setting(tuned, target), *sharpness_settings(config, bench)}
  ids = seeds(config, config.sharpness.num_seeds)
  runs = _sweep(config, bench, arm, sorted(numbers), ids, clock, progress)
  _, starts = at_target(runs, target)
  starts = starts.transpose('setting', 'seed')
  points = runs.params.transpose('setting', 'seed', 'step', ...).values
  found = [
    cooling.end_point(bench.data.problem, points[place], int(starts.values[place]), target, config.sharpness)
    for place in np.ndindex(starts.shape)
  ]

  def column(values: Sequence) -> tuple[tuple, np.ndarray]:
    return starts.dims, np.reshape(values, starts.shape)

  return xr.Dataset(
    {
      'params': (
        (*starts.dims, 'params_0'),
        np.reshape([point.params for point in found], (*starts.shape, -1)),
      ),
      'update': column([runs.step.values[point.place] for point in found]),
      'cooling': column([point.updates for point in found]),
      'reached': column([point.reached for point in found]),
      'status': runs.status.isel(step=[-1]),
    },
    {name: runs[name] for name in ('setting', 'seed', 'learning_rate', 'momentum')},
    runs.attrs,
  )


def sharp(config, bench: Bench) -> bool:
  """Whether sharpness is measured on the bench."""
  return bench.name in config.sharpness.target


def _sweep(
  config,
  bench: Bench,
  arm: Arm,
  numbers: Sequence[int],
  ids: Sequence[int],
  clock: xr.Dataset | None,
  progress: Progress,
) -> xr.Dataset:
  """Runs of one arm. The search and the study's runs differ in their lanes alone, and so share one program."""
  ends = budgets(bench, arm, clock)
  last = max(ends.values())
  result = gdlab.sweep(
    bench.data.problem,
    descent(arm.batch_size, bench.num_examples, bench.settings, arm.ghost),
    {'setting': [float(number) for number in numbers]},
    num_steps=last,
    seeds=ids,
    eval_every=max(1, last // config.evaluations),
    eval_steps=sorted(set(ends.values())),
    probes=probes(bench.data, params=sharp(config, bench)),
    plan=gdlab.Plan(lanes_per_block=config.lanes_per_block or None),
    progress=progress,
  )
  rates, momenta = zip(*(bench.settings[int(number)] for number in result.setting.values), strict=True)
  return result.assign_coords(
    setting=result.setting.astype(int),
    learning_rate=('setting', list(rates)),
    momentum=('setting', list(momenta)),
  ).assign_attrs(batch_size=arm.batch_size, ghost=arm.ghost)


def budgets(bench: Bench, arm: Arm, clock: xr.Dataset | None) -> dict[str, int]:
  """Updates of equal examples, equal updates and, with a clock, equal time: the mini-batch's for its epochs."""
  ends = bench.budgets(arm.batch_size)
  if clock is None:
    return ends
  seconds = clock.seconds_per_update.median('repeat')
  mini = int(clock.attrs['mini_batch'])
  time = bench.budgets(mini)['epochs'] * float(seconds.sel(batch_size=mini))
  # At most what the arm runs for by the others.
  made = int(np.clip(time / float(seconds.sel(batch_size=arm.batch_size)), 1, max(ends.values())))
  return ends | {'time': made}


def at_target(runs: xr.Dataset, target: float) -> tuple[xr.DataArray, xr.DataArray]:
  """Whether each run's training loss came to the target, and the place of the first record there, else the last."""
  loss = unless_failed(runs, 'train_loss', np.inf)
  below, finite = loss <= target, loss < np.inf
  reached = below.any('step')
  last = loss.sizes['step'] - 1 - finite.isel(step=slice(None, None, -1)).argmax('step')
  return reached, xr.where(reached, below.argmax('step'), last)


def best_settings(bench: Bench, arm: Arm, clock: xr.Dataset | None, tuned: xr.Dataset) -> dict[str, int]:
  """The setting of the best validation accuracy for each budget, mean over the tuning seeds; ties by lower loss."""
  return {kind: best_setting(tuned.sel(step=step)) for kind, step in budgets(bench, arm, clock).items()}


def best_setting(tuned: xr.Dataset) -> int:
  """The setting of the best mean validation accuracy; a failed run has none, and ties go to the lower loss."""
  accuracy = unless_failed(tuned, 'validation_accuracy', 0.0).mean('seed').values
  loss = unless_failed(tuned, 'validation_loss', np.inf).mean('seed').values
  return int(tuned.setting.values[np.lexsort((loss, -accuracy))[0]])


def fitting_setting(bench: Bench, arm: Arm, tuned: xr.Dataset) -> int:
  """The setting of the least training loss after equal examples: what someone takes who looks at nothing else."""
  step = bench.budgets(arm.batch_size)['epochs']
  loss = unless_failed(tuned.sel(step=step), 'train_loss', np.inf).mean('seed')
  return int(loss.idxmin('setting'))


def matched_setting(tuned: xr.Dataset, target: float) -> int:
  """The setting whose validation accuracy is best where the training loss first comes to the target.

  Settings with which a tuning run did not come there are left out; if none is left, the one of the least loss is taken.
  """
  reached, place = at_target(tuned, target)
  there = tuned.isel(step=place).drop_vars('step').where(reached)
  loss = unless_failed(tuned, 'train_loss', np.inf).min('step').mean('seed')
  if not reached.all('seed').any():
    return int(loss.idxmin('setting'))
  accuracy = there.validation_accuracy.mean('seed', skipna=False).values
  entropy = there.validation_loss.mean('seed', skipna=False).values
  order = np.lexsort((np.nan_to_num(entropy, nan=np.inf), -np.nan_to_num(accuracy, nan=-np.inf)))
  return int(tuned.setting.values[order[0]])


def sharpness_settings(config, bench: Bench) -> list[int]:
  """The settings with which end points of every batch size are compared in G4."""
  return [bench.settings.index(tuple(pair)) for pair in config.sharpness.settings]


def unless_failed(runs: xr.Dataset, variable: str, failed: float) -> xr.DataArray:
  """A variable of runs, with `failed` where a run has diverged or the value is not finite."""
  values = runs[variable]
  return values.where((runs.status == gdlab.RUNNING) & np.isfinite(values), failed)


def updates_per_epoch(bench: Bench, arm: Arm) -> int:
  """Of an arm."""
  return theory.updates_per_epoch(bench.num_examples, arm.batch_size)
