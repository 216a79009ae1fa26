"""Seconds per update on the two valleys at every batch size, measured side by side, for comparisons at equal time."""

import time
from collections.abc import Callable

import jax
import numpy as np
import xarray as xr

from experiments.minima.valleys import descent, landscape, variance, with_data
from gdlab.training.progress import Progress

REPEATS, COUNT = 9, 20_000


def timing(config, *, progress: Progress) -> xr.Dataset:
  """Seconds per update of one run in a compiled loop, interleaved repeats."""
  options, (_, _, ridge) = config.valleys, landscape('tilted')
  sizes = [*options.batch_sizes, options.num_examples]
  problem = with_data('tilted', ridge.poor[0], variance(config), options.num_examples, options.start_scale)
  make = descent(ridge.poor[0], ridge.good[0], options.num_examples, True)
  loops = [_loop(make(options.learning_rate, batch_size=size), problem) for size in sizes]
  seconds = np.empty((REPEATS, len(sizes)))
  for repeat in range(REPEATS):
    for place, loop in enumerate(loops):
      seconds[repeat, place] = loop()
    progress(repeat + 1, REPEATS)
  return xr.Dataset(
    {'seconds_per_update': (('repeat', 'batch_size'), seconds)},
    {'batch_size': sizes},
    {'backend': jax.default_backend()},
  )


def _loop(algorithm, problem) -> Callable[[], float]:
  @jax.jit
  def run(state, problem):
    return jax.lax.fori_loop(0, COUNT, lambda _, state: algorithm.step(state, problem)[0], state)

  state = jax.jit(algorithm.init)(jax.random.key(0), problem)
  jax.block_until_ready(run(state, problem))

  def measure() -> float:
    started = time.perf_counter()
    jax.block_until_ready(run(state, problem))
    return (time.perf_counter() - started) / COUNT

  return measure
