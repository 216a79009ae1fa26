"""The studies of the ledger: which there are, whether anything has changed, and their runs, one after the other.

A study is unchanged, and is not started, if its claims and its page are there, the claims being what was written, and
none of these has changed since the ledger saw it end: its command, its configuration, the sources of the study and of
`gdlab`, the lists of sums of its claims and cells. Versions of other packages are not looked at, nor are the cells
themselves; a study that is started verifies them, and measures none that is there from its configuration.
"""

import contextlib
import copy
import hashlib
import importlib
import json
import pathlib
import pkgutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections
import xarray as xr

import experiments
import gdlab
from gdlab.claims import Finding, read_claims
from gdlab.core.errors import InputError
from gdlab.host import checksums, interrupt, locks
from gdlab.host.progress import say
from gdlab.study import Study
from gdlab.study.launch import STOPPED
from gdlab.study.schema import APART

LOOK_EVERY = 1.0  # seconds between looks at a folder that another process works in


class Source(NamedTuple):
  """A study, as the ledger runs it.

  Attributes:
    study: with its claims and sections.
    command: what runs its quick configuration, but for `--workdir`.
    config: that configuration.
    sources: the folders of what it is made of.
  """

  study: Study
  command: tuple[str, ...]
  config: ml_collections.ConfigDict
  sources: tuple[pathlib.Path, ...]


def find() -> dict[str, Source]:
  """The studies in `experiments`, by name: packages whose module `study` has a `gdlab.study.Study`."""
  found = {}
  for package in pkgutil.iter_modules(experiments.__path__):
    folder = pathlib.Path(experiments.__path__[0], package.name)
    if not (folder / 'study.py').is_file():
      continue
    module = importlib.import_module(
      f'experiments.{package.name}.__main__'
    )  # which registers its sections, too
    studies = [value for value in vars(module).values() if isinstance(value, Study)]
    if studies:
      found[package.name] = Source(
        studies[0],
        (sys.executable, '-m', f'experiments.{package.name}', f'--config=configs/{package.name}.py'),
        importlib.import_module(f'configs.{package.name}').get_config(),
        (folder, pathlib.Path(gdlab.__file__).parent),
      )
  return found


def once_more(source: Source, claims: Sequence[str], number: int) -> Source:
  """The same study, which asks some of its claims alone, on the seeds that its repeat of this number would have."""
  config = copy.deepcopy(source.config)
  config.seeds.first += number * APART
  config.seeds.repeats = 0
  flags = (f'--claims={",".join(claims)}', f'--config.seeds.first={config.seeds.first}', '--repeat=0')
  return source._replace(command=(*source.command, *flags), config=config)


def run(source: Source, workdir: pathlib.Path, workers: int | None) -> int:
  """Runs a study to its end; its status. A signal is passed on, once, and the study saves before it is raised here."""
  _wait_for(workdir)
  command = [*source.command, f'--workdir={workdir}']
  command += [f'--workers={workers}'] if workers else []
  # In a session of its own: Ctrl-C on a terminal goes to all of a group, and a second signal would kill the study.
  with interrupt.deferred():
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
      interrupt.wait(process.wait)
    except KeyboardInterrupt:
      interrupt.heard()
      process.send_signal(signal.SIGTERM)
      process.wait()
      raise
  if process.returncode == STOPPED:  # by a signal of its own
    raise KeyboardInterrupt
  return process.returncode


def _wait_for(workdir: pathlib.Path) -> None:
  """Waits while another process works in a study's folder: one whose ledger was killed goes on to its end."""
  said = False
  while workdir.is_dir():
    try:
      with locks.held(workdir):
        return
    except InputError as error:
      if not said:
        say(f'{error}: waiting for its end')
      said = True
    time.sleep(LOOK_EVERY)


def made_of(source: Source) -> str:
  """A sum of what a study's results come from: command, configuration, sources."""
  asked = [source.command[1:], source.config.to_dict()]
  found = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
  for folder in source.sources:
    for path in sorted(folder.rglob('*')):
      if path.suffix in ('.py', '.jinja'):
        found.update(f'{path.relative_to(folder)} {checksums.sum_of(path)}'.encode())
  return found.hexdigest()


def sums(workdir: pathlib.Path) -> str:
  """What the lists of sums of a study's claims and cells say."""
  files = [workdir / checksums.SUMS, workdir / 'results' / checksums.SUMS]
  return hashlib.sha256(b'\n\n'.join(path.read_bytes() for path in files if path.is_file())).hexdigest()


def graded(source: Source, workdir: pathlib.Path) -> list[list[Finding]]:
  """The findings of every set of seeds.

  Raises:
    InputError: if they are not what was written.
    OSError: if there are none.
  """
  (workdir / 'report.html').stat()
  repeats = range(1, source.config.seeds.repeats + 1)
  names = ['claims.json', *(f'claims-{number}.json' for number in repeats)]
  return [read_claims(workdir / name) for name in names]


def unchanged(source: Source, workdir: pathlib.Path, known: Mapping[str, Any]) -> bool:
  """Whether a study has nothing to do: `known` is what `facts` has found at its end."""
  with contextlib.suppress(InputError, OSError):
    graded(source, workdir)
    return (known.get('made_of'), known.get('sums')) == (made_of(source), sums(workdir))
  return False


def facts(source: Source, workdir: pathlib.Path) -> dict[str, Any]:
  """What a study that has ended took, and where its results come from."""
  cells = []
  for path in sorted((workdir / 'results').glob('*.nc')):
    with xr.open_dataset(path, engine='h5netcdf') as dataset:
      cells.append(dict(dataset.attrs))
  return {
    'command': ' '.join(['python', *source.command[1:]]),
    'cells': len(cells),
    'seconds': sum(float(cell['cell_wall_time_s']) for cell in cells),
    **{f'{name}s': _all(cells, name) for name in ('git_revision', 'device', 'version_jax')},
    'sums': sums(workdir),
  }


def _all(cells: Sequence[Mapping[str, Any]], name: str) -> list[str]:
  return sorted({str(cell.get(name, 'unknown')) for cell in cells})
