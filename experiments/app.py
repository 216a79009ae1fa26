"""What every study script shares: flags, one-line errors, the working directory and its cells."""

import contextlib
import json
import os
import pathlib
import re
import runpy
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import ml_collections
import xarray as xr
from absl import app, flags, logging
from ml_collections import config_flags

import gdlab
from gdlab.errors import InputError, unknown_name
from gdlab.training.progress import Progress

Study = Callable[[ml_collections.ConfigDict, 'Workdir'], None]


class Workdir:
  """A study's folder: `results/*.nc`, one immutable file per cell, and what is drawn from them.

  A cell that is already there from the same configuration is read, not measured again, so a study that was
  stopped goes on where it was.
  """

  def __init__(self, path: str, config: ml_collections.ConfigDict, num_cells: int):
    self.path = pathlib.Path(path)
    self._config = json.dumps(config.to_dict(), sort_keys=True)
    self._num_cells, self._done = num_cells, 0
    try:
      (self.path / 'results').mkdir(parents=True, exist_ok=True)
      with tempfile.TemporaryFile(dir=self.path / 'results'):
        pass
    except OSError as error:
      raise InputError(
        f'workdir must be a folder that can be written, got {path}: {error.strerror}'
      ) from error
    cells = sorted((self.path / 'results').glob('*.nc'))
    for file in cells:
      self._check_config(file, gdlab.load(file))
    for name in ('claims.json', 'report.html'):
      if not cells and (self.path / name).exists():
        raise InputError(f'workdir {path} holds a {name} that no study in it wrote; name a new --workdir')

  def cell(self, name: str, measure: Callable[[Progress], xr.Dataset]) -> xr.Dataset:
    """The cell's Dataset: read from its file, or measured, written and read back."""
    self._done += 1
    title = f'[{self._done}/{self._num_cells}] {name}'
    file = self.path / 'results' / f'{name}.nc'
    if file.exists():
      print(f'{title}: found', file=sys.stderr, flush=True)
      return gdlab.load(file)
    started = time.perf_counter()
    with gdlab.progress_bar(title) as progress:
      dataset = measure(progress)
    elapsed = time.perf_counter() - started
    gdlab.save(dataset.assign_attrs(gdlab.provenance(), config=self._config, cell_wall_time_s=elapsed), file)
    print(f'{title}: {elapsed:.1f} s', file=sys.stderr, flush=True)
    return gdlab.load(file)

  @contextlib.contextmanager
  def replacing(self, name: str) -> Iterator[pathlib.Path]:
    """Yields a temporary path that becomes `name` if nothing is raised; for what can be drawn again from results."""
    target = self.path / name
    temporary = target.with_name(f'.{os.getpid()}.{target.name}')
    try:
      yield temporary
      os.replace(temporary, target)
    except OSError as error:
      raise InputError(f'cannot write {target}: {error.strerror or error}') from error
    finally:
      temporary.unlink(missing_ok=True)

  def _check_config(self, file: pathlib.Path, dataset: xr.Dataset) -> None:
    try:
      stored = json.loads(dataset.attrs.get('config', '{}'))
    except ValueError as error:
      raise InputError(f'workdir {self.path} holds {file.name}, which is not a result of a study') from error
    ours = json.loads(self._config)
    differing = sorted(key for key in stored.keys() | ours.keys() if stored.get(key) != ours.get(key))
    if differing:
      raise InputError(
        f'workdir {self.path} holds {file.name} of another configuration (differs in {", ".join(differing)}); '
        'name a new --workdir'
      )


def main(study: Study, default_config: str, num_cells: Callable[[ml_collections.ConfigDict], int]) -> None:
  """Runs a study from the command line: `--config=FILE --config.key=value --workdir=DIR`.

  Bad input ends it with one line and exit status 2.
  """
  try:
    _check_overrides(sys.argv[1:], default_config)
    config_flag = config_flags.DEFINE_config_file(
      'config', default_config, 'The configuration, a Python file.'
    )
    workdir_flag = flags.DEFINE_string('workdir', None, 'Folder for results, figures and the report.')

    def run(argv: list[str]) -> None:
      if len(argv) > 1:
        raise InputError(f'unexpected argument {argv[1]!r}; values are given as --flag=value')
      if not workdir_flag.value:
        raise InputError('--workdir=DIR is needed: the folder for results, figures and the report')
      logging.set_verbosity(logging.WARNING)  # JAX tells at INFO which backends the machine lacks
      gdlab.use_all_cores()
      config = config_flag.value
      study(config, Workdir(workdir_flag.value, config, num_cells(config)))

    app.run(run, flags_parser=_parse_flags)
  except InputError as error:
    print(f'error: {" ".join(str(error).split())}', file=sys.stderr)
    sys.exit(2)


def _parse_flags(argv: list[str]) -> list[str]:
  """Absl's parser, whose own complaints become InputErrors."""
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    raise InputError(str(error)) from error


def _check_overrides(arguments: list[str], default_config: str) -> None:
  """Refuses a missing configuration file and overrides of keys that it lacks, before absl trips over them."""
  matches = [re.fullmatch(r'--?(config[^=]*)=(.*)', argument) for argument in arguments]
  given = {match[1]: match[2] for match in matches if match}
  file = given.pop('config', default_config)
  if not pathlib.Path(file).is_file():
    raise InputError(f'config must be a Python file with get_config(), and there is no file {file}')
  known = set(_flat_keys(runpy.run_path(file)['get_config']()))
  for key in given:
    if key.removeprefix('config.') not in known:
      raise unknown_name('configuration key', key.removeprefix('config.'), known)


def _flat_keys(config: ml_collections.ConfigDict, prefix: str = '') -> Iterator[str]:
  for key, value in config.items():
    yield prefix + key
    if isinstance(value, ml_collections.ConfigDict):
      yield from _flat_keys(value, f'{prefix}{key}.')
