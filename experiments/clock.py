"""Seconds per update of several algorithms, measured side by side in compiled loops."""

import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

from gdlab.core.types import Algorithm, Problem
from gdlab.host.progress import Progress


def loop_timer(algorithm: Algorithm, problem: Problem) -> Callable[[int], float]:
  """A function that runs so many updates in a compiled loop from one start, and returns the seconds of one update."""

  @jax.jit
  def loop(state, problem, count):
    return jax.lax.fori_loop(0, count, lambda _, state: algorithm.step(state, problem)[0], state)

  state = jax.jit(algorithm.init)(jax.random.key(0), problem)

  def measure(count: int) -> float:
    started = time.perf_counter()
    jax.block_until_ready(loop(state, problem, count))
    return (time.perf_counter() - started) / count

  return measure


def whole_epochs(measure: Callable[[int], float], epoch: int, seconds: float) -> int:
  """How many updates take about so many seconds: whole epochs, at least one.

  Whole epochs from the start of one, so that the permutations in them are as many as in a run.

  Args:
    measure: seconds per update over so many updates; called twice, as the first call compiles.
    epoch: updates of one.
    seconds: wanted.
  """
  measure(epoch)
  return epoch * max(1, round(seconds / (epoch * measure(epoch))))


def in_turn(
  timers: Sequence[Callable[[int], float]], counts: Sequence[int], repeats: int, progress: Progress
) -> np.ndarray:
  """Seconds per update, float[repeat, timer]: all timers in turn within each repeat, so that drifts hit them alike."""
  seconds = np.empty((repeats, len(timers)))
  for repeat in range(repeats):
    seconds[repeat] = [measure(count) for measure, count in zip(timers, counts, strict=True)]
    progress(repeat + 1, repeats)
  return seconds
