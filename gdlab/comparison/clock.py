"""Seconds per update of several programs, measured in turn, so that a slow phase of the machine affects all of them."""

import time
from collections.abc import Sequence

import jax
import numpy as np

from gdlab.host import interrupt
from gdlab.training.programs import Program
from gdlab.training.records import Records

LEAST_ROUNDS, MOST_ROUNDS = 5, 60
CALL_SECONDS = 0.1  # of one program in one round: long compared with the overhead of a clock and a call
MOST_UPDATES = 2**24


class Timer:
  """Times updates of all lanes of a program, always from the start, with only the last record and no evaluation.

  From the start, since lanes that have diverged at a record stop, which takes no time. Up to the first record all
  updates are made in any case.
  """

  def __init__(self, program: Program):
    self._program = program

  def __call__(self, num_steps: int) -> float:
    """The seconds of a compiled call that makes `num_steps` updates of every lane."""
    program, count = self._program, len(self._program.inputs['ids'])
    own = program._replace(records=Records(np.asarray([0, num_steps]), np.asarray([False, False]), count))
    [chunks] = own.records.chunks(num_steps)
    block = own.start(np.arange(count))
    jax.block_until_ready(block.lanes)
    started = time.perf_counter()
    block = own.advance(block, chunks, lambda updates: None)
    jax.block_until_ready(block.lanes)
    return time.perf_counter() - started


def seconds_per_update(programs: Sequence[Program], *, precision: float = 0.01) -> np.ndarray:
  """Seconds in which all lanes of a program make one update, all programs in turn in every round.

  Rounds are repeated until the standard error of the mean logarithm of every program's seconds over the first one's is
  at most `precision`: at least 5, at most 60 rounds.

  Args:
    programs: with the number of lanes to be timed.
    precision: the relative standard error to reach, > 0.

  Returns:
    float[round, program].
  """
  # As in `sweep`: the checker for key reuse takes what passes through a loop unused for use.
  with jax.debug_key_reuse(False):
    return _rounds(programs, precision)


def _rounds(programs: Sequence[Program], precision: float) -> np.ndarray:
  timers = [Timer(program) for program in programs]
  counts = [_updates(timer) for timer in timers]
  rounds: list[list[float]] = []
  while len(rounds) < MOST_ROUNDS:
    interrupt.look()
    rounds.append([timer(count) / count for timer, count in zip(timers, counts, strict=True)])
    if len(rounds) >= LEAST_ROUNDS:
      logs = np.log(rounds)
      errors = (logs - logs[:, :1]).std(axis=0, ddof=1) / np.sqrt(len(rounds))
      if errors.max() <= precision:
        break
  return np.asarray(rounds)


def _updates(timer: Timer) -> int:
  """The number of updates that take about `CALL_SECONDS`."""
  timer(1)  # compiles
  count = 1
  while (seconds := timer(count)) < CALL_SECONDS / 2 and count < MOST_UPDATES:
    count = min(MOST_UPDATES, max(2 * count, int(count * CALL_SECONDS / max(seconds, 1e-9) / 2)))
  return count
