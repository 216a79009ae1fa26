"""The study's clock: seconds per update of every batch size, measured side by side."""

import time
from collections.abc import Callable

import jax
import numpy as np
import xarray as xr

from experiments.variants.arms import arms, descent
from gdlab import theory
from gdlab.types import Problem


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
  """A function that measures seconds per update, in a compiled loop over epochs that takes at least `seconds`."""
  algorithm = descent(batch_size, problem.num_examples)(0.0)

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
  # Whole epochs from the start of one, so that the permutations in it are as many as in a run.
  count = epoch * max(1, round(seconds / (epoch * measure(epoch))))
  return lambda: measure(count)
