"""The arms of the comparison: gradient descent at several batch sizes, timed, tuned and run.

Each function that takes `progress` measures one cell: it returns a Dataset that is written to
`results/<cell>.nc`, and nothing downstream sees anything else.
"""

import functools
from collections.abc import Callable

import numpy as np
import optax
import xarray as xr

import gdlab
from gdlab import problems, sampling, theory
from gdlab.core.types import Algorithm, Problem, Sampler
from gdlab.host.progress import Progress

DATASETS = {'digits': problems.digits, 'mnist': problems.mnist}
TUNING_IDS = 1_000_000  # seeds for tuning start here, far from the study's


def make_problem(config) -> Problem:
  """The supervised problem that a configuration names."""
  return DATASETS[config.dataset](problems.MLP(features=tuple(config.hidden)))


def sampler(batch_size: int, num_examples: int) -> Sampler:
  """Full batch or reshuffled mini-batches."""
  return sampling.full_batch() if batch_size == num_examples else sampling.reshuffle(batch_size)


@functools.cache  # one function for one arm, so that its program is compiled once
def descent(batch_size: int, num_examples: int) -> Callable[..., Algorithm]:
  """Plain gradient descent as a function of its learning rate."""

  def make(learning_rate) -> Algorithm:
    return gdlab.algorithm(sampler=sampler(batch_size, num_examples), optimizer=optax.sgd(learning_rate))

  return make


def seeds(config) -> range:
  """The ids of the study's seeds."""
  return range(config.first_seed, config.first_seed + config.num_seeds)


def tuning_seeds(config) -> range:
  """The ids of the seeds that rates are tuned with."""
  return range(TUNING_IDS, TUNING_IDS + config.num_tuning_seeds)


def arms(config, num_examples: int) -> list[int]:
  """The batch sizes compared, full batch last."""
  return [size for size in config.batch_sizes if size < num_examples] + [num_examples]


def horizon(config, num_examples: int, clock: xr.Dataset, batch_size: int) -> int:
  """Updates that an arm runs for: enough for the comparison at equal examples and at equal time."""
  return max(*budgets(config, num_examples, clock, batch_size).values(), config.min_updates)


def budgets(config, num_examples: int, clock: xr.Dataset, batch_size: int) -> dict[str, int]:
  """Updates that an arm makes in the epochs that all have (`examples`), and in the mini-batch arm's time (`time`)."""
  updates = config.epochs * theory.updates_per_epoch(num_examples, batch_size)
  seconds = median_seconds(clock).sel(batch_size=batch_size)
  return {
    'examples': updates,
    'time': max(1, round(time_budget(config, num_examples, clock) / float(seconds))),
  }


def median_seconds(clock: xr.Dataset) -> xr.DataArray:
  """Median seconds per update of every batch size."""
  return clock.seconds_per_update.median('repeat')


def time_budget(config, num_examples: int, clock: xr.Dataset) -> float:
  """Equal time: the seconds that the mini-batch arm takes for its epochs."""
  updates = config.epochs * theory.updates_per_epoch(num_examples, config.mini_batch)
  return updates * float(median_seconds(clock).sel(batch_size=config.mini_batch))


def tuning(config, problem: Problem, batch_size: int, clock: xr.Dataset, *, progress: Progress) -> xr.Dataset:
  """One arm at every learning rate, with the tuning seeds."""
  rates = config.learning_rates
  return _sweep(config, problem, clock, batch_size, rates, tuning_seeds(config), progress)


def arm(
  config,
  problem: Problem,
  batch_size: int,
  clock: xr.Dataset,
  tuned: xr.Dataset,
  *,
  progress: Progress,
) -> xr.Dataset:
  """One arm with the study's seeds, at the rates that were best at equal examples and at equal time."""
  rates = sorted(set(best_rates(config, problem.num_examples, clock, tuned, batch_size).values()))
  return _sweep(config, problem, clock, batch_size, rates, seeds(config), progress)


def _sweep(config, problem, clock, batch_size, rates, ids, progress) -> xr.Dataset:
  ends = budgets(config, problem.num_examples, clock, batch_size)
  return gdlab.sweep(
    problem,
    descent(batch_size, problem.num_examples),
    {'learning_rate': [float(rate) for rate in rates]},
    num_steps=horizon(config, problem.num_examples, clock, batch_size),
    seeds=ids,
    eval_every=max(1, ends['examples'] // config.evaluations),
    eval_steps=list(ends.values()),
    progress=progress,
  ).assign_attrs(batch_size=batch_size)


def best_rates(
  config, num_examples: int, clock: xr.Dataset, tuned: xr.Dataset, batch_size: int
) -> dict[str, float]:
  """The rate of least mean training loss at equal examples and at equal time; a failed run counts as infinite."""
  losses = unless_failed(tuned, 'train_loss', np.inf)
  ends = budgets(config, num_examples, clock, batch_size)
  return {
    kind: float(losses.sel(step=step).mean('seed', skipna=False).idxmin('learning_rate'))
    for kind, step in ends.items()
  }


def unless_failed(runs: xr.Dataset, variable: str, failed: float) -> xr.DataArray:
  """A variable of runs, with `failed` where a run has diverged or the value is not finite."""
  values = runs[variable]
  return values.where((runs.status == gdlab.RUNNING) & np.isfinite(values), failed)
