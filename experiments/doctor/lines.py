"""What a check says: lines, and how a failing check becomes one."""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

OK, NOTE, FAULT = 'ok', 'note', 'fault'


class Line(NamedTuple):
  """One finding.

  Attributes:
    status: 'ok', 'note' for what is worth knowing, 'fault' for what is wrong.
    name: of what was looked at.
    text: what was found.
    mend: what to do about it, '' where there is nothing to do.
  """

  status: str
  name: str
  text: str
  mend: str = ''

  def __str__(self) -> str:
    first = f'{self.status:<6} {one_line(self.name)}: {one_line(self.text)}'
    return f'{first}\n       to mend: {one_line(self.mend)}' if self.mend else first


def one_line(text: str) -> str:
  """The text on one line of bounded length, without what a terminal would take for a command."""
  plain = ''.join(letter if letter.isprintable() else ' ' for letter in text)
  return re.sub(r'\s+', ' ', plain).strip()[:400]


def checked(name: str, check: Callable[[], Iterable[Line]]) -> Iterator[Line]:
  """The lines of a check; where it raises, one line that says so."""
  try:
    yield from check()
  except Exception as error:  # whatever is broken here, the other checks go on
    yield Line(
      FAULT, name, f'the check failed with {type(error).__name__}: {error}', 'mend what the message names'
    )


def size(num_bytes: float) -> str:
  """Bytes in words."""
  units = ('bytes', 'KiB', 'MiB', 'GiB', 'TiB')
  power = min(len(units) - 1, int(math.log2(max(1, num_bytes)) // 10))
  return f'{num_bytes / 1024**power:.{min(1, power)}f} {units[power]}'
