"""The study's clock: seconds per update of every batch size, measured side by side."""

import jax
import xarray as xr

from experiments import clock
from experiments.variants.arms import arms, descent
from gdlab import theory
from gdlab.core.types import Problem


def timing(config, problem: Problem, progress) -> xr.Dataset:
  """Seconds per update of every arm and of the neighbours of powers of two, interleaved repeats."""
  offset = config.timing.offset
  neighbours = [power + side for power in config.timing.powers for side in (-offset, 0, offset)]
  sizes = sorted(
    {*arms(config, problem.num_examples), *(size for size in neighbours if size <= problem.num_examples)}
  )
  timers = [clock.loop_timer(descent(size, problem.num_examples)(0.0), problem) for size in sizes]
  epochs = [theory.updates_per_epoch(problem.num_examples, size) for size in sizes]
  counts = [
    clock.whole_epochs(timer, epoch, config.timing.seconds)
    for timer, epoch in zip(timers, epochs, strict=True)
  ]
  seconds = clock.in_turn(timers, counts, config.timing.repeats, progress)
  return xr.Dataset(
    {'seconds_per_update': (('repeat', 'batch_size'), seconds)},
    {'batch_size': sizes},
    {
      'num_examples': problem.num_examples,
      'problem': problem.name,
      'data_megabytes': sum(leaf.nbytes for leaf in jax.tree.leaves(problem.train)) / 1e6,
    },
  )
