"""The working directory of a script: files that are written atomically, and the cells of a study."""

import collections
import contextlib
import datetime
import json
import os
import pathlib
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import xarray as xr

from gdlab.core.errors import InputError
from gdlab.host import checkpoints, checksums, files
from gdlab.host.checksums import Damaged
from gdlab.host.progress import say
from gdlab.results.datasets import provenance
from gdlab.results.store import UNREADABLE, load, save

ASIDE = 'damaged'  # the folder in `results` for damaged files
MOST_DAMAGES = 3  # of one cell in one run, beyond which the disk is at fault


def open_workdir(path: str | os.PathLike, name: str = 'workdir') -> pathlib.Path:
  """Creates the folder, the argument `name`, if it is missing.

  Raises:
    InputError: if it cannot be written.
  """
  workdir = pathlib.Path(path)
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=workdir):
      pass
  except OSError as error:
    raise InputError(f'{name} must be a folder that can be written, got {path}: {error.strerror}') from error
  return workdir


@contextlib.contextmanager
def replacing(target: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a temporary path that becomes `target` if nothing is raised; for files that can be made from results again.

  The checksums of JSON and NetCDF files are listed in SHA256SUMS in their folder.
  """
  write = checksums.writing if target.suffix in ('.json', '.nc') else files.replacing
  try:
    with write(target) as temporary:
      yield temporary
  except OSError as error:
    raise InputError(f'cannot write {target}: {error.strerror or error}') from error


def with_origin(measure: Callable[[], xr.Dataset]) -> xr.Dataset:
  """A measurement with its provenance, the seconds it took, and the machine's load average at its start."""
  load, started = os.getloadavg()[0], time.perf_counter()
  dataset = measure()
  seconds = time.perf_counter() - started
  return dataset.assign_attrs(provenance(), cell_wall_time_s=seconds, load_average=load)


class Results:
  """A study's cells in `results/`, immutable files `<cell>.nc`.

  A cell of the same configuration is never measured again, so an interrupted study resumes, also with another number of
  workers. A damaged file is moved to `results/damaged/`, and its cell counts as missing.
  """

  def __init__(self, workdir: pathlib.Path, config: ml_collections.ConfigDict):
    self._workdir, self._folder = workdir, open_workdir(workdir / 'results')
    self._times_damaged = collections.Counter[str]()
    own = config.to_dict()
    if isinstance(seeds := own.get('seeds'), dict):
      seeds.pop('repeats', None)  # a repeat has cells of its own
    self._config = json.dumps(own, sort_keys=True)
    found = [self._folder / name for name in sorted(os.listdir(self._folder)) if name.endswith('.nc')]
    for name in ('claims.json', 'report.html'):
      if not found and not (self._folder / ASIDE).exists() and (workdir / name).exists():
        raise InputError(f'workdir {workdir} holds a {name} that no study in it wrote; name a new --workdir')
    damaged = {file: error for file in found if (error := self._damage(file))}
    whole = [file for file in found if file not in damaged]
    for file in whole:  # before anything is changed in a folder that may be another study's
      self._check_config(file, _attributes(file, workdir))
    for file, error in damaged.items():
      self._set_aside(file, error)
    if whole and not os.path.lexists(self._folder / checksums.SUMS):
      say(
        f'{self._folder} has no {checksums.SUMS}: its {len(whole)} cells are listed as they are, not verified'
      )
      checksums.adopt(self._folder, whole)

  def has(self, cell: str) -> bool:
    """Whether there is a result for the cell."""
    return os.path.lexists(self._path(cell))

  def read(self, cell: str) -> xr.Dataset:
    """The result of a cell.

    Raises:
      Damaged: if the file does not match its checksum; it is moved away, so that the cell can be measured again.
      InputError: if this happened repeatedly to the cell, or the file is of another configuration.
    """
    file = self._path(cell)
    if error := self._damage(file):
      self._set_aside(file, error)
      raise error
    dataset = load(file)
    self._check_config(file, dataset.attrs)
    return dataset

  def absent(self, cells: Sequence[str]) -> list[str]:
    """The cells among these without a result; damaged results are moved away first."""
    for cell in cells:
      if self.has(cell) and (error := self._damage(self._path(cell))):
        self._set_aside(self._path(cell), error)
    return [cell for cell in cells if not self.has(cell)]

  def write(self, cell: str, dataset: xr.Dataset) -> None:
    """Stores the result of a cell; does nothing if another process has stored it meanwhile."""
    try:
      save(dataset.assign_attrs(config=self._config), self._path(cell))
    except InputError:
      # Another start of the same study may have been faster; its measurement is as good.
      if not self.has(cell):
        raise

  def stored(self, prefix: str, name: str, make: Callable[[], xr.Dataset]) -> xr.Dataset:
    """The stored result under a name, or else the result of `make`, which is stored: `stored` of `gdlab.compare`."""
    title = f'{prefix} {name}'.strip()
    cell = re.sub(r'[^\w-]+', '_', title)
    if not self.absent([cell]):
      say(f'{title}: found')
    else:
      with checkpoints.below(cell):
        dataset = with_origin(make)
      self.write(cell, dataset.assign_attrs(stored_as=f'{prefix} {name}'))
      checkpoints.forget(cell)
      say(f'{title}: {dataset.attrs["cell_wall_time_s"]:.1f} s')
    found = self.read(cell)
    if found.attrs.get('stored_as') != f'{prefix} {name}':
      raise InputError(
        f'{prefix} {name} and {found.attrs.get("stored_as")} would share the file {cell}.nc; rename one of them'
      )
    return found

  def all(self) -> dict[str, xr.Dataset]:
    """All stored results."""
    return {path.stem: self.read(path.stem) for path in sorted(self._folder.glob('*.nc'))}

  def _path(self, cell: str) -> pathlib.Path:
    return self._folder / f'{cell}.nc'

  def _damage(self, file: pathlib.Path) -> Damaged | None:
    """The damage of a file; None if its checksum is right, or if there is no list of checksums."""
    try:
      checksums.verify(file)
    except Damaged as error:
      return error
    except OSError as error:  # such as a folder in the file's place, or a disk that does not give it back
      return Damaged(f'{file} cannot be read: {error.strerror or error}; make it again')
    return None

  def _set_aside(self, file: pathlib.Path, error: Damaged) -> None:
    """Moves a damaged file to `results/damaged/` and prints a line."""
    self._times_damaged[file.stem] += 1
    if self._times_damaged[file.stem] > MOST_DAMAGES:
      raise InputError(
        f'{error}; that has happened {MOST_DAMAGES} times before in this run: check the disk'
      ) from error
    time_now = datetime.datetime.now(datetime.UTC).strftime('%Y%m%dT%H%M%S.%fZ')
    aside = self._folder / ASIDE / f'{file.stem}-{time_now}{file.suffix}'
    try:
      aside.parent.mkdir(exist_ok=True)
      file.rename(aside)
      checksums.remove(file)
    except OSError as problem:
      raise InputError(f'{error}; it cannot be moved to {aside}: {problem.strerror or problem}') from problem
    what, _ = str(error).rsplit(';', 1)  # and what the user is to do, which is done here
    say(f'{what}; kept as {aside}, and measured again')

  def _check_config(self, file: pathlib.Path, attributes: Mapping[str, Any]) -> None:
    stored, ours = json.loads(attributes.get('config', '{}')), json.loads(self._config)
    differing = sorted(key for key in stored.keys() | ours.keys() if stored.get(key) != ours.get(key))
    if differing:
      raise InputError(
        f'workdir {self._workdir} holds {file.name} of another configuration (differs in '
        f'{", ".join(differing)}); name a new --workdir'
      )


def _attributes(file: pathlib.Path, workdir: pathlib.Path) -> dict[str, Any]:
  try:
    with xr.open_dataset(file, engine='h5netcdf') as dataset:
      return dict(dataset.attrs)
  except UNREADABLE as error:
    raise InputError(
      f'workdir {workdir} holds {file.name}, which is not a result of a study; move it away, or name a new --workdir'
    ) from error
