"""Runs a study from the command line: its cells are measured, here or by workers, and then it is finished."""

import contextlib
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import xarray as xr
from absl import flags

from gdlab.core.errors import InputError
from gdlab.host.checksums import Damaged
from gdlab.study import cells as measuring
from gdlab.study import sharing
from gdlab.study.cells import Cell, Unmeasured
from gdlab.study.launch import Config, one_line_errors, start
from gdlab.study.workdir import Results, replacing

__all__ = ['Cell', 'main', 'replacing', 'start']

Finish: TypeAlias = Callable[[Config, Mapping[str, xr.Dataset], pathlib.Path], None]

GONE = ('cell', 'coordinator', 'distributed', 'nodistributed', 'num_processes', 'peer_timeout', 'process_id')


def main(
  cells: Callable[[Config], Sequence[Cell]],
  finish: Finish,
  default_config: str | Config,
  adjust: Callable[[Config], None] = lambda config: None,
  on_demand: Callable[[], bool] = lambda: False,
) -> None:
  """Runs a study from the command line: `--config=FILE --config.key=value --workdir=DIR`.

  A cell that is already in the folder, from the same configuration, is not measured again. Cells are measured in this
  process, in N processes of this machine with `--workers=N`, or on a Dask cluster with `--dask=ADDRESS` or
  `--dask=FILE`. Only this process writes results.

  Args:
    cells: makes the study's measurements, in an order in which they can be made; a function of a module, by whose name
      workers find it.
    finish: writes claims and report, of the configuration, the results of all cells and the folder.
    default_config: the configuration's file, or the configuration.
    adjust: changes the configuration as further flags say.
    on_demand: whether a cell is measured only if `finish` raises `Unmeasured` with its name, and is called once more.
  """
  with one_line_errors():
    _refuse_old_flags(sys.argv[1:])
  workers = flags.DEFINE_integer('workers', None, 'How many processes of this machine measure cells.')
  dask = flags.DEFINE_string(
    'dask', None, 'A Dask scheduler, whose workers measure cells: its address or file.'
  )

  def run(config: Config, workdir: pathlib.Path) -> None:
    asked = workers.value, dask.value
    adjust(config)
    sharing.check_flags(*asked)
    made = cells(config)
    measuring.check(made)
    results = Results(workdir, config)

    def found(wanted: Sequence[Cell]) -> dict[str, xr.Dataset]:
      while True:
        if asked == (None, None):
          measuring.measure(wanted, results)
        else:
          origin = sharing.Origin.of(cells, config, workdir)
          sharing.measure(wanted, results, origin, lambda: sharing.workers(*asked))
        with contextlib.suppress(Damaged):  # since it was verified: it is measured again
          return {cell.name: results.read(cell.name) for cell in wanted}

    names = set[str]() if on_demand() else {cell.name for cell in made}
    while True:
      try:
        return finish(config, found(measuring.with_needs(made, names)), workdir)
      except Unmeasured as error:
        names |= error.names

  start(run, default_config)


def _refuse_old_flags(arguments: Sequence[str]) -> None:
  """Raises InputError for removed flags, naming their replacements."""
  for argument in arguments:
    name = argument.lstrip('-').partition('=')[0]
    if argument == '--':
      return
    if argument.startswith('-') and name in GONE:
      raise InputError(
        f'--{name} is no longer a flag: --workers=N measures cells in N processes of this machine, --dask=ADDRESS or '
        '--dask=FILE on a Dask cluster'
      )
