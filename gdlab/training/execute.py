"""Programs executed: compiled while others run, block by block, in what memory there is."""

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
  """The programs in turn, each compiled; those of the next ones are being compiled meanwhile.

  Tracing holds Python's lock, compiling does not: so this thread traces and others compile.

  Args:
    programs: what is to run.
    stops: as of `Records.chunks`.
    checkpoint: what notes the programs, if anything does.
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
  """Runs all lanes from the first record to the last, in blocks that fit the memory.

  Where a block does not fit after all, it is halved and begun again.

  Args:
    program: what is to run.
    report: told the updates made, of all lanes.
    keep: whether what is left at the end of every run is kept.
    checkpoint: from which runs go on, and in which they are saved.

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
  """All updates of these lanes, from where a checkpoint has them; saved as often as is due, and at the end."""
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
  """A report that hands on, and what takes back all that it was told, for what is begun again."""
  made = 0

  def counted(updates: int) -> None:
    nonlocal made
    made += updates
    report(updates)

  return counted, lambda: report(-made)


def all_smaller(programs: Sequence[Program], error: Exception) -> list[Program]:
  """Programs under half the block each, if the error says that the memory was full; else the error is raised."""
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
