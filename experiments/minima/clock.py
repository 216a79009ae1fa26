"""Seconds per update on the two valleys at every batch size, measured side by side, for comparisons at equal time."""

import jax
import xarray as xr

from experiments import clock
from experiments.minima.valleys import descent, landscape, variance, with_data
from gdlab.host.progress import Progress

REPEATS, COUNT = 9, 20_000


def timing(config, *, progress: Progress) -> xr.Dataset:
  """Seconds per update of one run in a compiled loop, interleaved repeats."""
  options, (_, _, ridge) = config.valleys, landscape('tilted')
  sizes = [*options.batch_sizes, options.num_examples]
  problem = with_data('tilted', ridge.poor[0], variance(config), options.num_examples, options.start_scale)
  make = descent(ridge.poor[0], ridge.good[0], options.num_examples, True)
  timers = [clock.loop_timer(make(options.learning_rate, batch_size=size), problem) for size in sizes]
  for timer in timers:
    timer(1)  # compiles
  seconds = clock.in_turn(timers, [COUNT] * len(timers), REPEATS, progress)
  return xr.Dataset(
    {'seconds_per_update': (('repeat', 'batch_size'), seconds)},
    {'batch_size': sizes},
    {'backend': jax.default_backend()},
  )
