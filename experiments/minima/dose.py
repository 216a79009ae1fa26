"""Noise added on purpose to full batch, at many levels, constant or annealed: a rugged landscape, a network (N4)."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
import xarray as xr

import gdlab
from experiments.minima import arms
from gdlab import problems, sampling, transforms
from gdlab.core.types import Algorithm, Examples, Problem
from gdlab.host.progress import Progress

SCHEDULES = ('constant', 'annealed')


def rugged(config) -> Problem:
  """The Rastrigin function from random starts three to four ripples away from its minimum in every coordinate."""
  return problems.landscapes.rastrigin(config.dose.dim, start=[3.3] * config.dose.dim, initial_scale=0.5)


def small_data(config, validation: bool) -> Problem:
  """Few training images; with `validation` the test images are training images that are left over."""
  problem = arms.make_problem(config, (config.dose_network.hidden,))
  count = config.dose_network.num_examples
  first, rest = (
    Examples(*(leaf[part] for leaf in problem.train)) for part in (slice(count), slice(count, 10 * count))
  )
  name = f'{problem.name}, {count} training images'
  return dataclasses.replace(problem, train=first, test=rest if validation else problem.test, name=name)


@functools.cache
def langevin(annealed: bool, num_steps: int) -> Callable[..., Algorithm]:
  """Full batch with Langevin noise of a temperature, constant or falling on a line to 0."""

  def make(learning_rate, level) -> Algorithm:
    def temperature(count):
      return level * (1 - count / num_steps) if annealed else level * jnp.ones(())

    noise = transforms.langevin_noise(temperature, learning_rate)
    return gdlab.algorithm(
      sampler=sampling.full_batch(), optimizer=optax.chain(optax.sgd(learning_rate), noise)
    )

  return make


def tuning(config, section: str, *, progress: Progress) -> xr.Dataset:
  """Every level of noise at every rate, constant and annealed, with the tuning seeds."""
  options = config[section]
  problem = rugged(config) if section == 'dose' else small_data(config, validation=True)
  grid = {
    'level': [float(level) for level in options.levels],
    'learning_rate': [float(rate) for rate in options.learning_rates],
  }
  return _both(
    options,
    lambda annealed: langevin(annealed, options.updates),
    problem,
    grid,
    arms.tuning_seeds(options.num_tuning_seeds),
    progress,
  )


def dose(config, section: str, tuned: xr.Dataset, *, progress: Progress) -> xr.Dataset:
  """Every level at the rate that was best for it, constant and annealed, with the study's seeds."""
  options = config[section]
  problem = rugged(config) if section == 'dose' else small_data(config, validation=False)
  rates = best_rates(tuned, section)

  def make(annealed: bool) -> Callable[..., Algorithm]:
    table = jnp.asarray(rates.sel(schedule=SCHEDULES[annealed]).values, jnp.float32)
    levels = jnp.asarray(rates.level.values, jnp.float32)
    inner = langevin(annealed, options.updates)
    return lambda level: inner(table[jnp.argmin(jnp.abs(levels - level))], level)

  grid = {'level': [float(level) for level in options.levels]}
  return _both(options, make, problem, grid, arms.seeds(config, options.num_seeds), progress)


def _both(
  options,
  make: Callable[[bool], Callable],
  problem: Problem,
  grid: dict,
  ids: Sequence[int],
  progress: Progress,
) -> xr.Dataset:
  runs = []
  for annealed in (False, True):
    runs.append(
      gdlab.sweep(
        problem,
        make(annealed),
        grid,
        num_steps=options.updates,
        seeds=ids,
        eval_every=options.updates,
        progress=arms.share_of(progress, int(annealed), 2),
      )
    )
  joined = xr.concat(runs, xr.Variable('schedule', list(SCHEDULES)), combine_attrs='drop_conflicts')
  return joined.assign_attrs(backend=jax.default_backend())


def outcome(runs: xr.Dataset, section: str) -> xr.DataArray:
  """What noise is to lower: the landscape's loss, the network's test error; a failed run has the worst there is."""
  if section == 'dose':
    return arms.at_end(runs, 'train_loss', float('inf'))
  return 1 - arms.at_end(runs, 'test_accuracy', 0.0)


def best_rates(tuned: xr.Dataset, section: str) -> xr.DataArray:
  """The rate of the best mean outcome, for each schedule and level."""
  return outcome(tuned, section).mean('seed', skipna=False).idxmin('learning_rate')


def best_levels(tuned: xr.Dataset, section: str) -> xr.DataArray:
  """The level of the best mean outcome at its best rate, for each schedule; among equals the least noise."""
  return outcome(tuned, section).mean('seed', skipna=False).min('learning_rate').idxmin('level')
