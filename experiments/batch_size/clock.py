"""Seconds per update of every batch size, measured side by side."""

import xarray as xr

from experiments import clock as shared
from experiments.batch_size.arms import descent
from experiments.batch_size.benches import Bench
from gdlab import theory


def clock(config, bench: Bench, *, progress) -> xr.Dataset:
  """Seconds per update of each arm, in a compiled loop over whole epochs; interleaved repeats."""
  sizes = [arm.batch_size for arm in bench.arms]
  problem = bench.data.problem
  makers = [descent(size, bench.num_examples, ((0.0, 0.0),)) for size in sizes]
  timers = [shared.loop_timer(make(0), problem) for make in makers]
  epochs = [theory.updates_per_epoch(problem.num_examples, size) for size in sizes]
  counts = [
    shared.whole_epochs(timer, epoch, config.clock.seconds)
    for timer, epoch in zip(timers, epochs, strict=True)
  ]
  seconds = shared.in_turn(timers, counts, config.clock.repeats, progress)
  return xr.Dataset(
    {'seconds_per_update': (('repeat', 'batch_size'), seconds)},
    {'batch_size': sizes},
    {'mini_batch': config.mini_batch, 'num_examples': bench.num_examples, 'problem': bench.data.problem.name},
  )
