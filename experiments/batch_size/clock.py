"""Seconds per update of every batch size, measured side by side."""

import time
from collections.abc import Callable

import jax
import numpy as np
import xarray as xr

from experiments.batch_size.arms import descent
from experiments.batch_size.benches import Bench
from gdlab import theory


def clock(config, bench: Bench, *, progress) -> xr.Dataset:
  """Seconds per update of each arm, in a compiled loop over whole epochs; interleaved repeats."""
  sizes = [arm.batch_size for arm in bench.arms]
  loops = [_timed_loop(bench, size, config.clock.seconds) for size in sizes]
  seconds = np.empty((config.clock.repeats, len(sizes)))
  for repeat in range(config.clock.repeats):
    for place, loop in enumerate(loops):
      seconds[repeat, place] = loop()
    progress(repeat + 1, config.clock.repeats)
  return xr.Dataset(
    {'seconds_per_update': (('repeat', 'batch_size'), seconds)},
    {'batch_size': sizes},
    {'mini_batch': config.mini_batch, 'num_examples': bench.num_examples, 'problem': bench.data.problem.name},
  )


def _timed_loop(bench: Bench, batch_size: int, seconds: float) -> Callable[[], float]:
  """Measures seconds per update in a loop that takes about so many seconds."""
  problem = bench.data.problem
  algorithm = descent(batch_size, bench.num_examples, ((0.0, 0.0),))(0)

  @jax.jit
  def loop(state, problem, count):
    return jax.lax.fori_loop(0, count, lambda _, state: algorithm.step(state, problem)[0], state)

  state = jax.jit(algorithm.init)(jax.random.key(0), problem)
  epoch = theory.updates_per_epoch(problem.num_examples, batch_size)

  def measure(count: int) -> float:
    started = time.perf_counter()
    jax.block_until_ready(loop(state, problem, count))
    return (time.perf_counter() - started) / count

  measure(epoch)
  count = epoch * max(1, round(seconds / (epoch * measure(epoch))))
  return lambda: measure(count)
