"""Growing the batch by the factor by which the rate would decay (G7)."""

import functools
from collections.abc import Callable

import numpy as np
import optax
import xarray as xr

import gdlab
from experiments.batch_size.arms import probes
from experiments.batch_size.benches import Bench, seeds, tuning_seeds
from gdlab import sampling, schedules
from gdlab.types import Algorithm


def decay(config, bench: Bench, *, progress) -> xr.Dataset:
  """One batch size, its rate constant or decayed at the stages' ends; every rate, tuning seeds and the study's."""
  options = config.growth
  per_epoch = -(-bench.num_examples // options.batch_size)
  boundaries = tuple(per_epoch * epoch for epoch in options.epochs[:-1])
  return _measured(
    config,
    bench,
    _decaying(options.batch_size, boundaries),
    {'learning_rate': list(options.learning_rates), 'decay': [1 / options.factor, 1.0]},
    [per_epoch * epoch for epoch in range(1, options.epochs[-1] + 1)],
    progress,
  )


def growth(config, bench: Bench, *, progress) -> xr.Dataset:
  """The same rates, kept; the batch grows by the factor at the same epochs."""
  options = config.growth
  return _measured(
    config,
    bench,
    _growing(batch_sizes(config), boundaries(config, bench.num_examples)),
    {'learning_rate': list(options.learning_rates)},
    epoch_ends(config, bench.num_examples),
    progress,
  )


def batch_sizes(config) -> tuple[int, ...]:
  """Of the stages."""
  return tuple(
    config.growth.batch_size * config.growth.factor**stage for stage in range(len(config.growth.epochs))
  )


def epoch_ends(config, num_examples: int) -> list[int]:
  """Updates made by the end of every epoch while the batch grows."""
  lengths = np.diff([0, *config.growth.epochs])
  per_epoch = [-(-num_examples // size) for size in batch_sizes(config)]
  return [int(count) for count in np.cumsum(np.repeat(per_epoch, lengths))]


def boundaries(config, num_examples: int) -> tuple[int, ...]:
  """The updates at which the batch grows."""
  ends = epoch_ends(config, num_examples)
  return tuple(ends[epoch - 1] for epoch in config.growth.epochs[:-1])


def _measured(config, bench: Bench, make, grid, ends: list[int], progress) -> xr.Dataset:
  """The metrics at the end of every epoch, with the updates made by then."""
  runs = gdlab.sweep(
    bench.data.problem,
    make,
    grid,
    num_steps=ends[-1],
    seeds=[*seeds(config), *tuning_seeds(config)],
    eval_every=ends[-1],
    eval_steps=ends,
    probes=probes(bench.data, params=False),
    progress=progress,
  )
  names = ('train_loss', 'test_loss', 'test_accuracy', 'validation_loss', 'validation_accuracy', 'status')
  # Step 0 is the end of epoch 0. The axis is passes over the data from here on, what the two ways have in common.
  kept = runs[list(names)].rename(step='passes', status='state').assign_coords(passes=range(len(ends) + 1))
  last = kept.state.isel(passes=[-1], drop=True).rename(passes='step').drop_vars('step', errors='ignore')
  return kept.assign(made=('passes', runs.step.values), status=last).assign_attrs(runs.attrs)


@functools.cache
def _decaying(batch_size: int, boundaries: tuple[int, ...]) -> Callable[..., Algorithm]:
  def make(learning_rate, decay) -> Algorithm:
    rate = schedules.step_decay(learning_rate, decay, boundaries=boundaries)
    return gdlab.algorithm(sampler=sampling.reshuffle(batch_size), optimizer=optax.sgd(rate))

  return make


@functools.cache
def _growing(sizes: tuple[int, ...], boundaries: tuple[int, ...]) -> Callable[..., Algorithm]:
  def make(learning_rate) -> Algorithm:
    sampler = sampling.batch_size_schedule(sizes[-1], sampling.piecewise_sizes(sizes, boundaries))
    return gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(learning_rate))

  return make
