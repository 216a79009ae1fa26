"""Sweeps in other processes, through anything with the `submit` of `concurrent.futures.Executor`."""

import functools
import pathlib
import pickle
import re
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any

import xarray as xr

from gdlab.core.errors import InputError, shown
from gdlab.host import checkpoints, interrupt
from gdlab.host.checkpoints import Place
from gdlab.host.progress import reporting
from gdlab.results.parts import merge
from gdlab.training.grid import Grid

PARTS = 8  # if the number of an executor's workers is unknown


def spread(
  sweep: Callable[..., xr.Dataset],
  arguments: Mapping[str, Any],
  executor: futures.Executor,
  axes: Grid,
  num_seeds: int,
  place: Place | None,
) -> xr.Dataset:
  """A sweep split into tasks of an executor, whose results are merged.

  Args:
    sweep: `gdlab.sweep`, called in the workers.
    arguments: all of its arguments; the executor must be able to send problem, algorithm and probes.
    executor: anything with `submit`.
    axes: the points.
    num_seeds: the number of runs at each point.
    place: the checkpoint folder, with a subfolder for each part: a restarted task resumes from there, on any worker
      that can read the folder.

  Raises:
    InputError: if the executor has no `submit`, forks or cannot send the arguments, or a worker process ends.
  """
  check_executor(executor)
  own = {'executor', 'progress', 'part', 'checkpoint', 'checkpoint_every'}
  given = {name: value for name, value in arguments.items() if name not in own}
  lanes = len(axes.points()) * num_seeds
  count = min(lanes, num_workers(executor) or PARTS)
  if place is not None:
    count = _parts_of(place.folder, count)
  task = functools.partial(_part, sweep, given, place)
  deferred, held = interrupt.deferred(terminate=place is not None), checkpoints.held(place)
  with reporting(arguments['progress'], count) as report, deferred, held:
    tasks = [submitted(executor, task, (number, count)) for number in range(count)]
    return merge(finished(tasks, report))


def _parts_of(folder: pathlib.Path, count: int) -> int:
  """The number of parts of the sweep begun in this folder, whatever the number of workers now; else `count`.

  Raises:
    InputError: if the folder holds a sweep that ran without an executor.
  """
  found = [re.fullmatch(r'part-\d+-of-(\d+)', path.name) for path in folder.glob('part-*-of-*')]
  if [*folder.glob('*.npz')]:
    raise InputError(
      f'checkpoint must be a folder of the same experiment, and {folder} is of one without an executor; give another '
      'folder, or remove this one to start again'
    )
  return max((int(match[1]) for match in found if match), default=count)


def submitted(executor: futures.Executor, task: Callable[..., Any], *arguments: Any) -> futures.Future:
  """Submits the task to the executor; raises InputError if it cannot be sent, or a worker was killed before."""
  try:
    return executor.submit(task, *arguments)
  except futures.BrokenExecutor as error:
    raise _ended(error) from error
  except (pickle.PicklingError, AttributeError, TypeError) as error:
    raise _unsendable(error) from error


def finished(tasks: list[futures.Future], report: Callable[[int], None]) -> list[Any]:
  """The results of all tasks, in their order; calls `report(1)` for each. The first error cancels the others."""
  waiting = [*tasks]
  try:
    while waiting:
      interrupt.look()
      done = [task for task in waiting if task.done()]
      for task in done:
        result_of(task)
        report(1)
      waiting = [task for task in waiting if task not in done]
      if not done:
        time.sleep(interrupt.LOOK_EVERY)
  except BaseException:
    for task in waiting:
      task.cancel()
    raise
  return [task.result() for task in tasks]


def result_of(task: futures.Future) -> Any:
  """The result of a finished task; raises InputError if its worker was killed or something could not be sent."""
  try:
    return task.result()
  except futures.BrokenExecutor as error:
    raise _ended(error) from error
  except (pickle.PicklingError, AttributeError, TypeError) as error:
    if 'pickle' not in str(error) and 'local object' not in str(error):  # as Python 3.13 words it
      raise
    raise _unsendable(error) from error


def num_workers(executor: Any) -> int | None:
  """The number of an executor's workers; None if unknown."""
  if hasattr(executor, '_client'):  # Dask's
    return len(executor._client.scheduler_info()['workers']) or None
  count = getattr(executor, '_max_workers', None)
  return count if isinstance(count, int) else None


def check_executor(executor: Any) -> None:
  """Raises InputError if there is no `submit`, and for a pool of forked processes, in which JAX would hang."""
  if not callable(getattr(executor, 'submit', None)):
    raise InputError(f'executor must have the submit of concurrent.futures.Executor, got {shown(executor)}')
  context = getattr(executor, '_mp_context', None)
  if context is not None and context.get_start_method() == 'fork':
    raise InputError(
      'executor must not fork, because JAX hangs in forked processes: use gdlab.worker_pool(n)'
    )


def _ended(error: Exception) -> InputError:
  return InputError(f'a worker process of the executor ended before its task was done: {error}')


def _unsendable(error: Exception) -> InputError:
  return InputError(
    f'executor cannot send the sweep to another process ({" ".join(str(error).split())}): give problem, '
    'make_algorithm and probes as functions at the top level of a module that workers can import'
  )


def _part(
  sweep: Callable[..., xr.Dataset], arguments: Mapping[str, Any], place: Place | None, part: tuple[int, int]
) -> xr.Dataset:
  number, count = part
  own = None if place is None else place._replace(folder=place.folder / f'part-{number}-of-{count}')
  return sweep(**arguments, part=part, progress=False, checkpoint=own)
