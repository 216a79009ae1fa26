"""The cells of a study: what is measured once and kept, and which process measures it."""

import dataclasses
import re
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import xarray as xr

import gdlab
from experiments.workdir import Part, Results
from gdlab.core.errors import InputError
from gdlab.host.progress import say

LOOK_EVERY = 1.0  # seconds between looks for a file of another process
GIVE_UP = (
  90.0  # seconds that the file of a process that has finished may take to be seen; NFS caches up to 60
)


class Cell(NamedTuple):
  """One measurement of a study.

  Attributes:
    name: of its file.
    measure: called with the results of `needs` and by name with `progress`, a function (done, total), and
      where the cell is divisible with `part`: (i, n) for the i-th of n shares of its lanes, None for all of them.
      Only what the configuration and those results say may change what it returns.
    needs: the names of earlier cells.
    divisible: whether processes may share it: `measure` hands `part` to `gdlab.sweep` and returns what that does.
  """

  name: str
  measure: Callable[..., xr.Dataset]
  needs: tuple[str, ...] = ()
  divisible: bool = False


@dataclasses.dataclass(frozen=True)
class Share:
  """What of a study a process measures.

  Attributes:
    index: of the process, from 0.
    count: of processes.
    divides: whether they share the divisible cells, lane by lane; else whole cells only.
  """

  index: int = 0
  count: int = 1
  divides: bool = False

  def splits(self, cell: Cell) -> bool:
    """Whether the processes share the cell."""
    return self.divides and cell.divisible

  def owner(self, number: int, cell: Cell, part: Part) -> int:
    """The process that measures a part of the cell of that number."""
    dealt = part[0] if part and self.splits(cell) else number
    return dealt % self.count


def parse_share(text: str) -> Share:
  """The share that `--cell=i/n` asks for."""
  match = re.fullmatch(r'(\d+)/(\d+)', text)
  if not match or not int(match[1]) < int(match[2]):
    raise InputError(f'--cell must be i/n with 0 <= i < n, got {text!r}')
  return Share(int(match[1]), int(match[2]))


def check(cells: Sequence[Cell]) -> None:
  """Refuses cells that could not be measured in their order."""
  known: set[str] = set()
  for cell in cells:
    if cell.name in known or not re.fullmatch(r'\w[\w-]*', cell.name):
      raise ValueError(f'cells must have names of their own, of letters, digits, _ and -; got {cell.name!r}')
    if missing := set(cell.needs) - known:
      raise ValueError(f'cell {cell.name!r} needs {sorted(missing)}, which no earlier cell is called')
    known.add(cell.name)


def measure(
  cells: Sequence[Cell], results: Results, share: Share, hopeless: Callable[[], bool] | None = None
) -> None:
  """Measures what of this process's share is not there yet, cell after cell.

  What another process measures is waited for. As all take the cells in the same order, the earliest cell that is
  missing is always being measured by someone, provided that all of them run.

  Args:
    cells: all cells of the study.
    results: where they are.
    share: which of them are measured here.
    hopeless: tells whether all other processes have finished.
  """
  for number, cell in enumerate(cells):
    for part in results.parts(cell.name, share.count if share.splits(cell) else 1):
      if share.owner(number, cell, part) != share.index:
        continue
      title = f'[{number + 1}/{len(cells)}] {results.title(cell.name, part)}'
      if results.has(cell.name, part):
        say(f'{title}: found')
        continue
      for need in cell.needs:
        wait(need, results, share, title, hopeless)
      _measure_one(cell, part, results, title)


def _measure_one(cell: Cell, part: Part, results: Results, title: str) -> None:
  needed = [results.read(need) for need in cell.needs]
  started = time.perf_counter()
  with gdlab.progress_bar(title) as progress:
    divided = {'part': part} if cell.divisible else {}
    dataset = cell.measure(*needed, progress=progress, **divided)
  elapsed = time.perf_counter() - started
  results.write(cell.name, part, dataset, elapsed)
  say(f'{title}: {elapsed:.1f} s')


def wait(
  name: str, results: Results, share: Share, title: str, hopeless: Callable[[], bool] | None = None
) -> None:
  """Waits until a cell is there."""
  if results.complete(name):
    return
  who = 'other processes measure' if share.divides else 'another element of the array measures (all must run)'
  say(f'{title}: waiting for {name}, which {who}')
  since = None
  while not results.complete(name):
    if hopeless is not None and hopeless():
      since = since or time.monotonic()
      if time.monotonic() - since > GIVE_UP:
        raise InputError(f'cell {name} is missing in the workdir, and all other processes have finished')
    time.sleep(LOOK_EVERY)


def missing(cells: Sequence[Cell], results: Results) -> list[str]:
  """The names of the cells that are not there."""
  return [cell.name for cell in cells if not results.complete(cell.name)]
