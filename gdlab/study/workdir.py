"""The working directory of a script: files that appear whole, and the cells of a study."""

import contextlib
import json
import os
import pathlib
import re
import tempfile
import time
from collections.abc import Callable, Iterator

import ml_collections
import xarray as xr

from gdlab.core.errors import InputError
from gdlab.host import files
from gdlab.host.progress import say
from gdlab.results.datasets import provenance
from gdlab.results.store import UNREADABLE, load, save


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


def with_origin(measure: Callable[[], xr.Dataset]) -> xr.Dataset:
  """What is measured, with where it was made, how many seconds it took, and how busy the machine was at its start."""
  load, started = os.getloadavg()[0], time.perf_counter()
  dataset = measure()
  seconds = time.perf_counter() - started
  return dataset.assign_attrs(provenance(), cell_wall_time_s=seconds, load_average=load)


class Results:
  """A study's cells in `results/`, immutable files `<cell>.nc`.

  What is there from the same configuration is never measured again, so a study that was stopped goes on where it
  was, also with another number of workers.
  """

  def __init__(self, workdir: pathlib.Path, config: ml_collections.ConfigDict):
    self._workdir, self._folder = workdir, open_workdir(workdir / 'results')
    own = config.to_dict()
    if isinstance(seeds := own.get('seeds'), dict):
      seeds.pop('repeats', None)  # a repeat has cells of its own
    self._config = json.dumps(own, sort_keys=True)
    names = [name for name in sorted(os.listdir(self._folder)) if name.endswith('.nc')]
    for name in names:
      self._check_config(self._folder / name)
    for name in ('claims.json', 'report.html'):
      if not names and (workdir / name).exists():
        raise InputError(f'workdir {workdir} holds a {name} that no study in it wrote; name a new --workdir')

  def has(self, cell: str) -> bool:
    """Whether the cell is there."""
    return self._path(cell).exists()

  def read(self, cell: str) -> xr.Dataset:
    """What was measured."""
    self._check_config(self._path(cell))
    return load(self._path(cell))

  def write(self, cell: str, dataset: xr.Dataset) -> None:
    """Adds what was measured."""
    try:
      save(dataset.assign_attrs(config=self._config), self._path(cell))
    except InputError:
      # Another start of the same study may have been faster; its measurement is as good.
      if not self.has(cell):
        raise

  def stored(self, prefix: str, name: str, make: Callable[[], xr.Dataset]) -> xr.Dataset:
    """What is there under a name, or else what is measured now: `stored` of `gdlab.compare`."""
    cell = re.sub(r'[^\w-]+', '_', f'{prefix} {name}'.strip())
    if self.has(cell):
      say(f'{prefix} {name}: found'.strip())
    else:
      dataset = with_origin(make)
      self.write(cell, dataset.assign_attrs(stored_as=f'{prefix} {name}'))
      say(f'{prefix} {name}: {dataset.attrs["cell_wall_time_s"]:.1f} s'.strip())
    found = self.read(cell)
    if found.attrs.get('stored_as') != f'{prefix} {name}':
      raise InputError(
        f'{prefix} {name} and {found.attrs.get("stored_as")} would share the file {cell}.nc; rename one of them'
      )
    return found

  def all(self) -> dict[str, xr.Dataset]:
    """Everything that was measured."""
    return {path.stem: self.read(path.stem) for path in sorted(self._folder.glob('*.nc'))}

  def _path(self, cell: str) -> pathlib.Path:
    return self._folder / f'{cell}.nc'

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
