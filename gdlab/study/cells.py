"""The cells of a study: measurements that are made once and kept."""

import functools
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import xarray as xr

from gdlab.host import checkpoints
from gdlab.host.checksums import Damaged
from gdlab.host.progress import Progress, progress_bar, say
from gdlab.study.workdir import Results, with_origin


class Cell(NamedTuple):
  """One measurement of a study.

  Attributes:
    name: the name of its file.
    measure: called with the results of `needs` and the keyword argument `progress`, a function (done, total). Its
      result may depend only on these results and the configuration.
    needs: the names of earlier cells.
    alone: whether no other cell may be measured at the same time, because this one measures time.
  """

  name: str
  measure: Callable[..., xr.Dataset]
  needs: tuple[str, ...] = ()
  alone: bool = False


class Unmeasured(Exception):
  """Raised where the results of cells are asked for that have not been measured.

  Attributes:
    names: of the cells.
  """

  def __init__(self, names: Iterable[str]):
    self.names = {*names}
    super().__init__(f'not measured: {", ".join(sorted(self.names))}')


def with_needs(cells: Sequence[Cell], names: Collection[str]) -> list[Cell]:
  """The cells of these names and all that they need, in their order."""
  wanted = {*names}
  for cell in reversed(cells):  # what a cell needs comes before it
    wanted.update(cell.needs if cell.name in wanted else ())
  return [cell for cell in cells if cell.name in wanted]


def check(cells: Sequence[Cell]) -> None:
  """Raises ValueError if cells cannot be measured in their order."""
  known: set[str] = set()
  for cell in cells:
    if cell.name in known or not re.fullmatch(r'\w[\w-]*', cell.name):
      raise ValueError(f'cells must have names of their own, of letters, digits, _ and -; got {cell.name!r}')
    if missing := set(cell.needs) - known:
      raise ValueError(f'cell {cell.name!r} needs {sorted(missing)}, which no earlier cell is called')
    known.add(cell.name)


def titles(cells: Sequence[Cell]) -> dict[str, str]:
  """The title of every cell in messages: `[2/4] runs`."""
  return {cell.name: f'[{number}/{len(cells)}] {cell.name}' for number, cell in enumerate(cells, 1)}


def missing(cells: Sequence[Cell], results: Results) -> list[Cell]:
  """The cells without a result; prints the others."""
  called = titles(cells)
  absent = results.absent([*called])
  for cell in cells:
    if cell.name not in absent:
      say(f'{called[cell.name]}: found')
  return [cell for cell in cells if cell.name in absent]


def measure(cells: Sequence[Cell], results: Results) -> None:
  """Measures the missing cells in this process, one after another; results found damaged meanwhile are remeasured."""
  called = titles(cells)
  waiting = missing(cells, results)
  while waiting:
    cell = waiting[0]
    try:
      needed = [results.read(need) for need in cell.needs]
    except Damaged:  # it is no longer there, and comes first
      waiting = left(cells, results)
      continue
    with progress_bar(called[cell.name]) as progress:
      dataset = measured(cell, needed, progress)
    keep(cell, dataset, results, called[cell.name])
    waiting = left(cells, results)


def left(cells: Sequence[Cell], results: Results, running: Collection[Cell] = ()) -> list[Cell]:
  """The cells that have not been started; if there are none, all results are verified once more."""
  begun = {cell.name for cell in running}
  waiting = [cell for cell in cells if cell.name not in begun and not results.has(cell.name)]
  if waiting or begun:
    return waiting
  absent = results.absent([cell.name for cell in cells])
  return [cell for cell in cells if cell.name in absent]


def measured(cell: Cell, needed: Sequence[xr.Dataset], progress: Progress) -> xr.Dataset:
  """The result of a cell's measurement, with its provenance and the seconds it took."""
  # What measures time is not slowed down.
  with checkpoints.nowhere() if cell.alone else checkpoints.below(cell.name):
    return with_origin(functools.partial(cell.measure, *needed, progress=progress))


def keep(cell: Cell, dataset: xr.Dataset, results: Results, title: str) -> None:
  """Writes the result of a cell and prints a line."""
  results.write(cell.name, dataset)
  checkpoints.forget(cell.name)
  say(f'{title}: {dataset.attrs["cell_wall_time_s"]:.1f} s')
