"""Progress with the time left: a bar on a terminal, periodic lines in a log."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int], None]  # (updates done, updates in all)
SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def reporting(progress: bool | Progress | None, total: int) -> Iterator[Callable[[int], None]]:
  """Yields `report(count)`, to be called with the number of updates just made."""
  if progress is None:
    progress = _on_terminal()
  if progress is False:
    yield lambda count: None
    return
  with contextlib.ExitStack() as stack:
    show = progress if callable(progress) else stack.enter_context(progress_bar('updates'))
    done = 0

    def report(count: int) -> None:
      nonlocal done
      done += count
      show(done, total)

    yield report


@contextlib.contextmanager
def progress_bar(description: str) -> Iterator[Progress]:
  """Yields a Progress that draws a bar on a terminal, or else prints a line every ten seconds at most.

  Without standard error (under pythonw, after `2>&-`, or if it is closed) nothing is shown.
  """
  if not _on_terminal():
    yield _Lines(description)
    return
  import rich.console  # only a terminal needs it, and the first import is slow
  import rich.progress

  columns = (
    rich.progress.TextColumn('{task.description}'),
    rich.progress.BarColumn(),
    rich.progress.TaskProgressColumn(),
    rich.progress.TextColumn('time left'),
    rich.progress.TimeRemainingColumn(),
  )
  with rich.progress.Progress(*columns, console=rich.console.Console(stderr=True), transient=True) as bar:
    task = bar.add_task(description, total=None)
    yield lambda done, total: bar.update(task, completed=done, total=total)


class _Lines:
  """A Progress for logs."""

  def __init__(self, description: str):
    self._description = description
    self._started = self._last = time.monotonic()

  def __call__(self, done: int, total: int) -> None:
    now = time.monotonic()
    if (
      done <= 0 or now - self._last < SECONDS_BETWEEN_LINES
    ):  # a block begun again can undo all that was done
      return
    self._last = now
    left = (now - self._started) * (total - done) / done
    say(f'{self._description}: {done / total:.0%}, about {left:.0f} s left')


def say(line: str) -> None:
  """Prints a line to standard error, if that exists, is open and is read."""
  if sys.stderr is not None:  # `print` would take None for standard output
    with contextlib.suppress(AttributeError, OSError, ValueError):
      print(line, file=sys.stderr, flush=True)


def _on_terminal() -> bool:
  try:
    return sys.stderr.isatty()
  except (AttributeError, ValueError):  # there is none, or it is closed
    return False
