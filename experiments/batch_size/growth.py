"""Growing the batch by the factor by which the rate would decay (G7)."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import optax
import xarray as xr

import gdlab
from experiments.batch_size.arms import probes
from experiments.batch_size.benches import Bench, seeds, tuning_seeds
from gdlab import sampling, schedules
from gdlab.core.types import Algorithm

WAYS = ('growth', 'decay', 'kept')  # the batch grows, the rate decays, neither: each has a search of its own


def decay_tuning(config, bench: Bench, *, progress) -> xr.Dataset:
  """Decaying and constant rates: every rate that is tried, with the tuning seeds."""
  return _decay(config, bench, config.growth.learning_rates, tuning_seeds(config), progress)


def growth_tuning(config, bench: Bench, *, progress) -> xr.Dataset:
  """Growing batches: the same rates and seeds."""
  return _growth(config, bench, config.growth.learning_rates, tuning_seeds(config), progress)


def decay(config, bench: Bench, decayed: xr.Dataset, grown: xr.Dataset, *, progress) -> xr.Dataset:
  """Decaying and constant rates with the study's seeds, at the rate that is best for each."""
  chosen = {best_rate(decayed, grown, way) for way in ('decay', 'kept')}
  return _decay(config, bench, sorted(chosen), seeds(config), progress)


def growth(config, bench: Bench, decayed: xr.Dataset, grown: xr.Dataset, *, progress) -> xr.Dataset:
  """Growing batches with the study's seeds, at their own best rate and at that of the decaying arm."""
  chosen = {best_rate(decayed, grown, way) for way in ('decay', 'growth')}
  return _growth(config, bench, sorted(chosen), seeds(config), progress)


def way_of(decayed: xr.Dataset, grown: xr.Dataset, way: str) -> xr.Dataset:
  """The runs of one of the ways."""
  return grown if way == 'growth' else decayed.isel(decay=('decay', 'kept').index(way))


def best_rate(decayed: xr.Dataset, grown: xr.Dataset, way: str) -> float:
  """The rate of the best mean validation accuracy at the end; a failed run has none, and ties go to the lower loss."""
  runs = way_of(decayed, grown, way).isel(passes=-1)
  alive = (runs.state == gdlab.RUNNING) & np.isfinite(runs.validation_loss)
  accuracy = runs.validation_accuracy.where(alive, 0.0).mean('seed').values
  loss = runs.validation_loss.where(alive, np.inf).mean('seed').values
  return float(runs.learning_rate.values[np.lexsort((loss, -accuracy))[0]])


def _decay(config, bench: Bench, rates: Sequence[float], ids: Sequence[int], progress) -> xr.Dataset:
  options = config.growth
  per_epoch = -(-bench.num_examples // options.batch_size)
  boundaries = tuple(per_epoch * epoch for epoch in options.epochs[:-1])
  return _measured(
    bench,
    _decaying(options.batch_size, boundaries),
    {'learning_rate': list(rates), 'decay': [1 / options.factor, 1.0]},
    ids,
    [per_epoch * epoch for epoch in range(1, options.epochs[-1] + 1)],
    progress,
  )


def _growth(config, bench: Bench, rates: Sequence[float], ids: Sequence[int], progress) -> xr.Dataset:
  return _measured(
    bench,
    _growing(batch_sizes(config), boundaries(config, bench.num_examples)),
    {'learning_rate': list(rates)},
    ids,
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


def _measured(bench: Bench, make, grid, ids: Sequence[int], ends: list[int], progress) -> xr.Dataset:
  """The metrics at the end of every epoch, with the updates made by then."""
  runs = gdlab.sweep(
    bench.data.problem,
    make,
    grid,
    num_steps=ends[-1],
    seeds=ids,
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
