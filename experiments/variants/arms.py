"""The arms of the comparison: gradient descent at several batch sizes, timed, tuned and run.

Each function that takes `progress` measures one cell: it returns a Dataset that is written to
`results/<cell>.nc`, and nothing downstream sees anything else.
"""

import functools
import math
import time
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
import optax
import xarray as xr

import gdlab
from gdlab import problems, sampling, theory
from gdlab.errors import InputError, check_count, check_real, unknown_name
from gdlab.types import Algorithm, Problem, Sampler

Records = TypeVar('Records', xr.Dataset, xr.DataArray)
TUNING_IDS = 1_000_000  # seeds for tuning start here, far from the study's


def make_problem(config) -> Problem:
  """The supervised problem that a configuration names."""
  makers = {'digits': problems.digits, 'mnist': problems.mnist}
  if config.dataset not in makers:
    raise unknown_name('dataset', config.dataset, makers)
  return makers[config.dataset](problems.MLP(features=tuple(config.hidden)))


def check(config, num_examples: int) -> None:
  """Refuses a configuration that the study could not finish with, before anything is measured."""
  for name in ('num_seeds', 'num_tuning_seeds', 'epochs', 'min_updates', 'mini_batch', 'components'):
    check_count(name, config[name])
  check_count('population', config.population, minimum=2)
  for size in (*config.batch_sizes, *(power - config.timing.offset for power in config.timing.powers)):
    check_count('batch_size', size, maximum=num_examples)
  for size in (1, config.mini_batch):
    if size not in config.batch_sizes:
      raise InputError(
        f'batch_sizes must hold 1 and mini_batch, got {tuple(config.batch_sizes)} without {size}'
      )
  for rate in (*config.learning_rates, *config.floor.learning_rates, *config.stream.learning_rates):
    check_real('learning_rate', rate, above=0)


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


def timing(config, problem: Problem, progress) -> xr.Dataset:
  """Seconds per update of every arm and of the neighbours of powers of two, interleaved repeats."""
  offset = config.timing.offset
  neighbours = [power + side for power in config.timing.powers for side in (-offset, 0, offset)]
  sizes = sorted(
    {*arms(config, problem.num_examples), *(size for size in neighbours if size <= problem.num_examples)}
  )
  loops = [_timed_loop(problem, size, config.timing.seconds) for size in sizes]
  seconds = np.empty((config.timing.repeats, len(sizes)))
  for repeat in range(config.timing.repeats):
    for place, loop in enumerate(loops):
      seconds[repeat, place] = loop()
    progress(repeat + 1, config.timing.repeats)
  return xr.Dataset(
    {'seconds_per_update': (('repeat', 'batch_size'), seconds)},
    {'batch_size': sizes},
    {
      'num_examples': problem.num_examples,
      'problem': problem.name,
      'data_megabytes': sum(leaf.nbytes for leaf in jax.tree.leaves(problem.train)) / 1e6,
    },
  )


def _timed_loop(problem: Problem, batch_size: int, seconds: float) -> Callable[[], float]:
  """A function that measures seconds per update in a compiled loop of about `seconds`, compilation apart."""
  algorithm = descent(batch_size, problem.num_examples)(0.0)

  @jax.jit
  def loop(state, problem, count):
    return jax.lax.fori_loop(0, count, lambda _, state: algorithm.step(state, problem)[0], state)

  state = jax.jit(algorithm.init)(jax.random.key(0), problem)

  def measure(count: int) -> float:
    started = time.perf_counter()
    jax.block_until_ready(loop(state, problem, count))
    return (time.perf_counter() - started) / count

  measure(1)
  count = max(1, round(seconds / measure(3)))
  # Whole epochs where they fit, so that their share of permutations is in.
  epoch = -(-problem.num_examples // batch_size)
  count = max(1, count // epoch) * epoch if count > epoch / 2 else count
  return lambda: measure(count)


def horizon(config, num_examples: int, clock: xr.Dataset, batch_size: int) -> int:
  """Updates that an arm runs for: enough for the comparison at equal examples and at equal time."""
  budgets = [budget(config, num_examples, clock, batch_size, kind) for kind in ('examples', 'time')]
  return max(*(math.ceil(updates) for updates in budgets), config.min_updates)


def budget(config, num_examples: int, clock: xr.Dataset, batch_size: int, kind: str) -> float:
  """Updates that an arm makes in the epochs that all have (`examples`), or in the mini-batch arm's time (`time`)."""
  if kind == 'examples':
    return config.epochs * theory.updates_per_epoch(num_examples, batch_size)
  return time_budget(config, num_examples, clock) / float(median_seconds(clock).sel(batch_size=batch_size))


def median_seconds(clock: xr.Dataset) -> xr.DataArray:
  """Median seconds per update of every batch size."""
  return clock.seconds_per_update.median('repeat')


def time_budget(config, num_examples: int, clock: xr.Dataset) -> float:
  """Equal time: the seconds that the mini-batch arm takes for its epochs."""
  updates = budget(config, num_examples, clock, config.mini_batch, 'examples')
  return updates * float(median_seconds(clock).sel(batch_size=config.mini_batch))


def tuning(config, problem: Problem, clock: xr.Dataset, batch_size: int, progress) -> xr.Dataset:
  """One arm at every learning rate, with the tuning seeds."""
  return _sweep(config, problem, clock, batch_size, config.learning_rates, tuning_seeds(config), progress)


def arm(
  config, problem: Problem, clock: xr.Dataset, tuned: xr.Dataset, batch_size: int, progress
) -> xr.Dataset:
  """One arm with the study's seeds, at the rates that were best at equal examples and at equal time."""
  rates = sorted(set(best_rates(config, problem.num_examples, clock, tuned, batch_size).values()))
  return _sweep(config, problem, clock, batch_size, rates, seeds(config), progress)


def _sweep(config, problem, clock, batch_size, rates, ids, progress) -> xr.Dataset:
  epochs_in_updates = int(budget(config, problem.num_examples, clock, batch_size, 'examples'))
  return gdlab.sweep(
    problem,
    descent(batch_size, problem.num_examples),
    {'learning_rate': [float(rate) for rate in rates]},
    num_steps=horizon(config, problem.num_examples, clock, batch_size),
    seeds=ids,
    eval_every=max(1, epochs_in_updates // 60),
    progress=progress,
  ).assign_attrs(batch_size=batch_size)


def best_rates(
  config, num_examples: int, clock: xr.Dataset, tuned: xr.Dataset, batch_size: int
) -> dict[str, float]:
  """The rate of least mean training loss at equal examples and at equal time; a diverged run counts as infinite."""
  losses = tuned.train_loss.where(tuned.status == gdlab.RUNNING, np.inf)

  def best(kind: str) -> float:
    ends = value_at(losses, budget(config, num_examples, clock, batch_size, kind))
    return float(ends.mean('seed').idxmin('learning_rate'))

  return {kind: best(kind) for kind in ('examples', 'time')}


def value_at(values: Records, step: float) -> Records:
  """Values at a step between records: those of the last record at or before it."""
  return values.sel(step=step, method='ffill')
