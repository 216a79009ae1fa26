"""Measures the cells of a study in workers: processes of this machine, or of a Dask cluster.

A task is one whole cell, described by plain values: the module of the study, the configuration, the cell's name. The
worker builds the study's cells and measures that one. Results are returned to the main process, which alone writes
files; so workers need not share a folder with it.

Workers use the main process's numbers of devices and threads and its XLA flags, because the layout of lanes depends on
them, and the last bits of results on the layout: results are bitwise those of a single process.
"""

import contextlib
import functools
import importlib
import json
import logging
import pathlib
import pickle
import runpy
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple, TypeAlias

import xarray as xr

from gdlab.core.errors import InputError, check_count, shown
from gdlab.host import checkpoints, machine
from gdlab.host.checksums import Damaged
from gdlab.host.progress import progress_bar, say
from gdlab.host.workers import end_workers, worker_pool
from gdlab.study.cells import Cell, keep, left, measured, missing, titles
from gdlab.study.launch import Config
from gdlab.study.workdir import Results
from gdlab.training.autotune import remember_plans

Workers: TypeAlias = contextlib.AbstractContextManager[futures.Executor]

CONNECT_LIMIT = 30  # seconds for Dask's scheduler to answer
AGAIN = 'finished cells are kept, and the same command goes on from them'

_adopted: list[machine.Settings] = []  # in a worker: the settings of its first task


class Origin(NamedTuple):
  """Where a worker finds the cells of a study.

  Attributes:
    module: the name of its module, or the path of its file if it was started as a script.
    function: the function that returns the cells, or the module's object and its method, `object.method`.
    config: the configuration, pickled.
    workdir: the working directory; its `plans` has the layouts found by timing, if the worker can read it.
    settings: those of the main process.
    checkpoints: folder and interval of checkpoints, used by workers that can access the working directory.
  """

  module: str
  function: str
  config: bytes
  workdir: str
  settings: machine.Settings
  checkpoints: tuple[str, checkpoints.Every | None] | None

  @classmethod
  def of(cls, cells: Callable[[Config], Sequence[Cell]], config: Config, workdir: pathlib.Path) -> 'Origin':
    """The origin of the study that this process runs."""
    owner = getattr(cells, '__self__', None)  # of a method, such as that of `registry.Study`
    module: Any = sys.modules[cells.__module__ if owner is None else '__main__']
    spec = getattr(module, '__spec__', None)
    name = spec.name if spec else str(pathlib.Path(module.__file__).resolve())
    function = cells.__name__
    if owner is not None:
      function = next(f'{key}.{function}' for key, value in vars(module).items() if value is owner)
    return cls(
      name,
      function,
      pickle.dumps(config.to_dict()),
      str(workdir.resolve()),
      machine.settings(),
      checkpoints.around(),
    )


def measure_cell(origin: Origin, name: str, needed: Sequence[xr.Dataset]) -> xr.Dataset:
  """The task of a worker: measures one cell, given the results that it needs."""
  _set_up(origin)
  cell = _cells(origin.module, origin.function, origin.config)[name]
  with contextlib.ExitStack() as stack:
    if origin.checkpoints and pathlib.Path(origin.workdir).is_dir():
      folder, every = origin.checkpoints
      stack.enter_context(checkpoints.inside(pathlib.Path(folder), every))
    return measured(cell, needed, lambda done, total: None)


def _set_up(origin: Origin) -> None:
  if not _adopted:
    machine.adopt(origin.settings)
    _adopted.append(origin.settings)
  if _adopted != [origin.settings]:
    raise InputError(
      'a worker has run a study with another number of devices, other XLA flags or another cache before: start new ones'
    )
  if pathlib.Path(origin.workdir).is_dir():
    remember_plans(pathlib.Path(origin.workdir, 'plans'))


@functools.lru_cache(maxsize=1)  # a study's problems and compiled programs, for its next cell
def _cells(module: str, function: str, config: bytes) -> Mapping[str, Cell]:
  if module.endswith('.py'):
    found = runpy.run_path(module, run_name=pathlib.Path(module).stem)
  else:
    found = vars(importlib.import_module(module))
  first, *attributes = function.split('.')
  make = functools.reduce(getattr, attributes, found[first])
  return {cell.name: cell for cell in make(Config(pickle.loads(config)))}


def measure(cells: Sequence[Cell], results: Results, origin: Origin, workers: Callable[[], Workers]) -> None:
  """Measures the missing cells, each as soon as the cells it needs are done.

  Args:
    cells: all cells of the study.
    results: where they are stored.
    origin: where workers find them.
    workers: makes the executor, if there is anything to measure.

  Raises:
    InputError: if a cell raises it, or a worker cannot import the study; no further cell is started.
    ChildProcessError: if a worker died and the executor does not restart its task.
  """
  called = titles(cells)
  waiting = missing(cells, results)
  if not waiting:
    return
  total, running = len(waiting), dict[futures.Future, Cell]()
  with workers() as executor, progress_bar('cells') as progress:
    while waiting or running:
      with contextlib.suppress(Damaged):  # then what a cell needs is no longer there, and comes first
        for cell in _ready(waiting, results, [*running.values()]):
          needed = [results.read(need) for need in cell.needs]
          running[_submit(executor, origin, cell.name, needed)] = cell
      done, _ = futures.wait(running, return_when=futures.FIRST_COMPLETED)
      failed = [task for task in done if task.cancelled() or task.exception()]
      for task in done.difference(failed):
        cell = running.pop(task)
        keep(cell, task.result(), results, called[cell.name])
      if failed:
        raise _reason(failed[0], [running[task].name for task in failed])
      waiting = left(cells, results, running.values())
      progress(total - len(waiting) - len(running), total)


def _ready(waiting: Sequence[Cell], results: Results, running: Sequence[Cell]) -> list[Cell]:
  """The cells that can start now."""
  if any(cell.alone for cell in running):
    return []
  ready: list[Cell] = []
  for cell in waiting:
    if not all(results.has(need) for need in cell.needs):
      continue
    if cell.alone:  # the next to begin, as soon as nothing else runs
      return ready or ([] if running else [cell])
    ready.append(cell)
  return ready


def _submit(
  executor: futures.Executor, origin: Origin, name: str, needed: Sequence[xr.Dataset]
) -> futures.Future:
  with warnings.catch_warnings():
    # Dask would rather keep what is needed on a worker, with which it would be lost.
    warnings.filterwarnings('ignore', 'Sending large graph', UserWarning)
    try:
      return executor.submit(measure_cell, origin, name, needed)
    except futures.BrokenExecutor as error:  # a worker has died since the last look
      broken: futures.Future = futures.Future()
      broken.set_exception(error)
      return broken


def _reason(task: futures.Future, names: Sequence[str]) -> BaseException:
  """The exception to raise for a task without a result."""
  cells = f'cell{"s" if len(names) > 1 else ""} {", ".join(names)}'
  if task.cancelled():
    return ChildProcessError(f'the scheduler ended before the tasks were done, in {cells}; {AGAIN}')
  error = task.exception()
  if isinstance(error, futures.BrokenExecutor):
    return ChildProcessError(f'a worker ended before its task was done, in {cells}; {AGAIN}')
  if type(error).__name__ == 'KilledWorker':  # Dask's, for a task that has taken several workers along
    return ChildProcessError(f'workers ended again and again before their task was done, in {cells}; {AGAIN}')
  found = error if isinstance(error, ImportError) else error.__cause__ if error else None
  if isinstance(found, ImportError):  # Dask's scheduler looks at tasks, too
    return InputError(
      f'workers and scheduler must be able to import the study: {found} (start them with PYTHONPATH=CHECKOUT)'
    )
  assert error is not None
  return error


def check_flags(num_workers: int | None, dask: str | None) -> None:
  """Raises InputError for invalid values of `--workers` and `--dask`."""
  if num_workers is not None and dask is not None:
    raise InputError('--workers and --dask are two ways to measure cells; give one of them')
  if num_workers is not None:
    check_count('--workers', num_workers)
  if dask is not None:
    _address(dask)


@contextlib.contextmanager
def workers(num_workers: int | None, dask: str | None) -> Iterator[futures.Executor]:
  """The executor for the flags; on an error its tasks are ended at once (with Dask only those not yet started)."""
  if dask is None:
    assert num_workers is not None
    pool = worker_pool(num_workers)
    try:
      yield pool
      pool.shutdown()
    finally:
      end_workers(pool)
    return
  distributed = _distributed()
  logging.getLogger('distributed.utils').setLevel(logging.CRITICAL)  # it prints what is raised anyway
  with distributed.Client(_address(dask), timeout=CONNECT_LIMIT, set_as_default=False) as client:
    if not client.scheduler_info()['workers']:
      say(f'{dask} has no workers yet; cells wait for the first')
    yield client.get_executor()


def _address(dask: str) -> str:
  """The scheduler's address, given directly or by its file."""
  if pathlib.Path(dask).is_file():
    try:
      return json.loads(pathlib.Path(dask).read_text(encoding='utf-8'))['address']
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise InputError(f'--dask must be the file of a scheduler, and {dask} is none') from error
  host, _, port = dask.rpartition(':')
  if not host or not port.isdigit():
    raise InputError(
      f'--dask must be HOST:PORT of a scheduler or the file that it wrote, and there is no file {shown(dask)}'
    )
  return dask


def _distributed() -> Any:
  try:
    return importlib.import_module('distributed')
  except ImportError as error:
    raise InputError('--dask needs Dask: pip install "gdlab[dask]"') from error
