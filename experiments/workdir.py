"""The working directory of a script: files that appear whole, and the cells of a study."""

import contextlib
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import TypeAlias

import ml_collections
import xarray as xr

import gdlab
from gdlab.core.errors import InputError
from gdlab.host import files
from gdlab.results.store import UNREADABLE

Part: TypeAlias = tuple[int, int] | None  # (i, n): the i-th of n parts of a cell; None: all of it

_FILE = re.compile(r'(?P<cell>.+?)(?:\.part(?P<index>\d+)of(?P<count>\d+))?\.nc')


def open_workdir(path: str | os.PathLike) -> pathlib.Path:
  """Makes the folder if it is missing.

  Raises:
    InputError: if it cannot be written.
  """
  workdir = pathlib.Path(path)
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=workdir):
      pass
  except OSError as error:
    raise InputError(f'workdir must be a folder that can be written, got {path}: {error.strerror}') from error
  return workdir


@contextlib.contextmanager
def replacing(target: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a temporary path that becomes `target` if nothing is raised; for what can be drawn again from results."""
  try:
    with files.replacing(target) as temporary:
      yield temporary
  except OSError as error:
    raise InputError(f'cannot write {target}: {error.strerror or error}') from error


class Results:
  """A study's cells in `results/`, immutable files: `<cell>.nc`, or the parts `<cell>.part<i>of<n>.nc` of a cell.

  What is there from the same configuration is never measured again, so a study that was stopped goes on where it
  was, also with another number of processes. Other processes may be adding files meanwhile.
  """

  def __init__(self, workdir: pathlib.Path, config: ml_collections.ConfigDict):
    self._workdir, self._folder = workdir, open_workdir(workdir / 'results')
    self._config = json.dumps(config.to_dict(), sort_keys=True)
    names = [name for name in sorted(os.listdir(self._folder)) if name.endswith('.nc')]
    for name in names:
      self._check_config(self._folder / name)
    for name in ('claims.json', 'report.html'):
      if not names and (workdir / name).exists():
        raise InputError(f'workdir {workdir} holds a {name} that no study in it wrote; name a new --workdir')

  def parts(self, cell: str, count: int = 1) -> list[Part]:
    """The parts that a cell has: those of which some are there already, else `count` of them."""
    found = self._found(cell)
    if not found:
      return _parts_of(count)
    complete = [number for number, there in found.items() if len(there) == number]
    return _parts_of(min(complete or found))

  def has(self, cell: str, part: Part) -> bool:
    """Whether that part of the cell is there."""
    index, count = part or (0, 1)
    return index in self._found(cell).get(count, ())

  def complete(self, cell: str) -> bool:
    """Whether all of the cell is there."""
    return any(len(there) == count for count, there in self._found(cell).items())

  def read(self, cell: str) -> xr.Dataset:
    """The cell, its parts merged."""
    files = [self._path(cell, part) for part in self.parts(cell)]
    for file in files:
      self._check_config(file)
    datasets = [gdlab.load(file) for file in files]
    if files == [self._path(cell, None)]:
      return datasets[0]
    slowest = max(dataset.attrs['cell_wall_time_s'] for dataset in datasets)
    return gdlab.merge(datasets).assign_attrs(cell_wall_time_s=slowest)

  def write(self, cell: str, part: Part, dataset: xr.Dataset, seconds: float) -> None:
    """Adds what was measured in so many seconds."""
    attributes = gdlab.provenance() | {'config': self._config}
    try:
      gdlab.save(dataset.assign_attrs(attributes, cell_wall_time_s=seconds), self._path(cell, part))
    except InputError:
      # Another start of the same study may have been faster; its measurement is as good.
      if not self.has(cell, part):
        raise

  def title(self, cell: str, part: Part) -> str:
    """What the file is called, without its ending."""
    return cell if part is None else f'{cell}.part{part[0]}of{part[1]}'

  def _path(self, cell: str, part: Part) -> pathlib.Path:
    return self._folder / f'{self.title(cell, part)}.nc'

  def _found(self, cell: str) -> dict[int, set[int]]:
    """Number of parts -> those that are there. A whole cell is 1 -> {0}."""
    found: dict[int, set[int]] = {}
    for name in os.listdir(
      self._folder
    ):  # which, unlike a look for a file, NFS does not answer from its cache
      match = _FILE.fullmatch(name)
      if match and match['cell'] == cell:
        found.setdefault(int(match['count'] or 1), set()).add(int(match['index'] or 0))
    return found

  def _check_config(self, file: pathlib.Path) -> None:
    try:
      with xr.open_dataset(file, engine='h5netcdf') as dataset:  # the attributes alone
        stored = json.loads(dataset.attrs.get('config', '{}'))
    except UNREADABLE as error:
      raise InputError(
        f'workdir {self._workdir} holds {file.name}, which is not a result of a study'
      ) from error
    ours = json.loads(self._config)
    differing = sorted(key for key in stored.keys() | ours.keys() if stored.get(key) != ours.get(key))
    if differing:
      raise InputError(
        f'workdir {self._workdir} holds {file.name} of another configuration (differs in '
        f'{", ".join(differing)}); name a new --workdir'
      )


def _parts_of(count: int) -> list[Part]:
  return [None] if count == 1 else [(index, count) for index in range(count)]
