"""The course of a study: its cells are measured, by one process or by many, and then it is finished."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import xarray as xr
from absl import flags

from experiments import cells as dealing
from experiments import processes, watch
from experiments.cells import Cell, Share
from experiments.launch import Config, start
from experiments.workdir import Results, replacing
from gdlab.core.errors import InputError

__all__ = ['Cell', 'main', 'replacing', 'start']

Finish: TypeAlias = Callable[[Config, Mapping[str, xr.Dataset], pathlib.Path], None]


def main(cells: Callable[[Config], Sequence[Cell]], finish: Finish, default_config: str) -> None:
  """Runs a study from the command line: `--config=FILE --config.key=value --workdir=DIR`.

  A cell that is in the folder from the same configuration is read, not measured again. The work is shared by the
  elements of a job array with `--cell=i/n`, or by processes that know of each other with `--distributed`; all of
  them use one folder.

  Args:
    cells: the study's measurements, in an order in which they can be made.
    finish: writes claims and report, of the configuration, the results of all cells and the folder.
    default_config: the configuration's file.
  """
  share_of_cells = flags.DEFINE_string(
    'cell', None, 'i/n, i from 0: measure only the cells i, i+n, i+2n, ...'
  )
  distributed = flags.DEFINE_bool(
    'distributed', False, 'Share the work with the other processes of this run.'
  )
  coordinator = flags.DEFINE_string('coordinator', None, 'With --distributed: HOST:PORT of process 0.')
  num_processes = flags.DEFINE_integer('num_processes', None, 'With --distributed: how many there are.')
  process_id = flags.DEFINE_integer('process_id', None, 'With --distributed: which one this is, from 0.')
  silence = flags.DEFINE_float(
    'peer_timeout',
    watch.SILENCE_LIMIT,
    'With --distributed: seconds without a sign of life after which a process counts as dead.',
    lower_bound=2 * watch.BEAT_EVERY,
  )

  def run(config: Config, workdir: pathlib.Path) -> None:
    given = processes.check_address(coordinator.value, num_processes.value, process_id.value)
    if distributed.value and share_of_cells.value is not None:
      raise InputError('--cell and --distributed are two ways to share the work; give one of them')
    if given is not None and not distributed.value:
      raise InputError(
        '--coordinator, --num_processes and --process_id are for --distributed, which is not given'
      )
    if not distributed.value:
      share = Share() if share_of_cells.value is None else dealing.parse_share(share_of_cells.value)
      return _study(cells(config), finish, config, workdir, share)
    with processes.joined(workdir, given, silence.value) as peers:
      share = Share(peers.index, peers.count, divides=True)
      return _study(cells(config), finish, config, workdir, share, peers.others_finished)

  start(run, default_config)


def _study(
  cells: Sequence[Cell],
  finish: Finish,
  config: Config,
  workdir: pathlib.Path,
  share: Share,
  others_finished: Callable[[], bool] | None = None,
) -> None:
  """Measures this process's share, and finishes the study where that is this process's part."""
  dealing.check(cells)
  results = Results(workdir, config)
  dealing.measure(cells, results, share, others_finished)
  if share.divides:
    if share.index > 0:
      return
    for cell in cells:
      dealing.wait(cell.name, results, share, 'report', others_finished)
  if missing := dealing.missing(cells, results):
    print(
      f'{len(missing)} of {len(cells)} cells are still missing; a run without --cell measures them and reports'
    )
    return
  finish(config, {cell.name: results.read(cell.name) for cell in cells}, workdir)
