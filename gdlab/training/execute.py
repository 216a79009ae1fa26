"""Executes programs block by block within the available memory, and compiles the next ones meanwhile."""

import collections
import contextlib
import functools
import itertools
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures

import jax
import numpy as np

from gdlab.host import interrupt
from gdlab.host.checkpoints import Saved
from gdlab.training.programs import Program, Report
from gdlab.training.saved import ENDED, Checkpoint, block_name, lanes_of, put_records, records_of, restored


def compiled_ahead(
  programs: Sequence[Program], stops: Sequence[int] = (), checkpoint: Checkpoint | None = None
) -> Iterator[Program]:
  """Yields the programs in turn, each compiled; the next ones are compiled in the meantime.

  Tracing holds Python's global lock, compiling does not: this thread traces, others compile.

  Args:
    programs: the programs to run.
    stops: see `Records.chunks`.
    checkpoint: notes the hash of every program, if given.
  """
  ahead: collections.deque[list[futures.Future]] = collections.deque()
  coming = iter(programs)
  workers = os.cpu_count() or 1
  with futures.ThreadPoolExecutor(workers) as pool, contextlib.ExitStack() as stack:
    stack.callback(pool.shutdown, wait=False, cancel_futures=True)  # where the caller gives up
    for program in programs:
      # Of programs that are compiled for every device fewer: a process has room for some hundreds.
      most = 1 + -(-workers // len(program.problem))
      for following in itertools.islice(coming, max(0, most - len(ahead))):
        first = following.records.chunks(following.plan.steps_per_call, stops)[0][0]
        ahead.append([])
        calls = following.lowered(first)
        for lowered in calls if checkpoint is None else checkpoint.noted(following, calls):
          # Other threads have settings of their own; with others than the run's it would be compiled once more.
          compiling = jax.debug_key_reuse(False)(lowered.compile)
          ahead[-1].append(pool.submit(compiling))
      # Not `result`: what is wrong with a program is raised by its call, where a lack of memory is dealt with.
      interrupt.wait(functools.partial(futures.wait, ahead.popleft()))
      yield program


def execute(
  program: Program, report: Report, keep: bool = False, checkpoint: Checkpoint | None = None
) -> Program:
  """Runs all lanes from the first record to the last, in blocks that fit into memory.

  A block that does not fit after all is halved and restarted.

  Args:
    program: the program to run.
    report: called with numbers of updates made, summed over lanes.
    keep: whether to keep the final parameters and model state of every run.
    checkpoint: where runs are saved and resumed from.

  Returns:
    The program with the plan that fitted.
  """
  done, num_lanes = 0, len(program.places)
  while done < num_lanes:
    counted, taken_back = counting(report)
    try:
      if checkpoint is None:
        members = np.arange(done, min(done + program.plan.lanes_per_block, num_lanes))
        _one_block(program, members, counted, keep)
      else:
        members, saved = checkpoint.next_block(program, done)
        _saved_block(checkpoint, program, saved, members, keep, counted)
    except (RuntimeError, ValueError, MemoryError) as error:  # JAX's is one of the first two, by place
      [program] = all_smaller([program], error)
      taken_back()
    else:
      done += len(members)
  return program


def _one_block(program: Program, members: np.ndarray, report: Report, keep: bool) -> None:
  """All updates of these lanes; the memory is free again before the next block starts."""
  [chunks] = program.records.chunks(program.plan.steps_per_call)
  block = program.advance(program.start(members), chunks, report)
  if keep:
    program.keep(block)


def _saved_block(
  checkpoint: Checkpoint,
  program: Program,
  saved: Saved | None,
  members: np.ndarray,
  keep: bool,
  report: Report,
) -> None:
  """All updates of these lanes, resumed from a checkpoint if there is one; saved when due, and at the end."""
  interrupt.look()
  records, name = program.records, block_name(program, members[0])
  last, size = len(records.periods), len(members)
  if saved is not None:
    made = saved.about['periods']
    put_records(program, members, saved.arrays)
    report(size * int(records.steps[records.made(made) - 1]))
    if saved.about.get(ENDED):
      return
    block = restored(program, members, saved.arrays)
  else:
    checkpoint.folder.clear(name)
    block, made = program.start(members), 0
  started, begun = time.monotonic(), made
  while made < last:
    with interrupt.held():
      block, made = checkpoint.advance(program, block, range(made, last), report)
      if made < last:
        step, arrays = int(records.steps[records.made(made) - 1]), lanes_of(block)
        arrays |= records_of(program, members, made)
        checkpoint.save(name, step, [program], arrays, periods=made, lanes=size)
    if made < last:
      interrupt.look()
  checkpoint.timed(program, size, last - begun, time.monotonic() - started)
  if keep:
    program.keep(block)
  arrays = records_of(program, members, last)
  checkpoint.save(name, records.num_steps, [program], arrays, keep=1, periods=last, lanes=size, ended=True)


def counting(report: Report) -> tuple[Report, Callable[[], None]]:
  """A report that forwards to `report`, and a function that subtracts what was reported, for a restart."""
  made = 0

  def counted(updates: int) -> None:
    nonlocal made
    made += updates
    report(updates)

  return counted, lambda: report(-made)


def all_smaller(programs: Sequence[Program], error: Exception) -> list[Program]:
  """The programs with halved blocks if the error says that memory ran out; otherwise raises the error."""
  if not isinstance(error, MemoryError) and 'RESOURCE_EXHAUSTED' not in str(error):
    raise error
  plans = [program.plan.halved() or program.plan for program in programs]
  found = [program._replace(plan=plan) for program, plan in zip(programs, plans, strict=True)]
  changed = [(old.plan, new.plan) for old, new in zip(programs, found, strict=True) if old.plan != new.plan]
  if not changed:
    raise error
  before, after = changed[0]
  warnings.warn(
    f'out of memory with {before.lanes_per_block} lanes per block, {before.lanes_at_once} at once: going on with '
    f'{after.lanes_per_block} per block, {after.lanes_at_once} at once',
    RuntimeWarning,
    stacklevel=2,
  )
  return found
