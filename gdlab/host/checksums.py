"""SHA-256 sums of a folder's files, in the file `SHA256SUMS` beside them, which `sha256sum -c` reads.

A sum is listed before its file appears, and compared before anything parses the file: NetCDF, NumPy's archives and JSON
all give back most flipped bits without a word. While a file is being replaced both sums are listed, so that a writer
that is killed leaves nothing that looks damaged.
"""

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Iterator

import filelock

from gdlab.core.errors import InputError
from gdlab.host import files

SUMS, LOCK = 'SHA256SUMS', '.gdlab-sums.lock'


class Damaged(InputError):
  """A file whose bytes are not those that were written."""


@contextlib.contextmanager
def writing(path: str | os.PathLike, *, new: bool = False) -> Iterator[pathlib.Path]:
  """As `files.replacing`: yields a temporary path that becomes `path`; its sum is listed beside it."""
  path = pathlib.Path(path)
  with files.replacing(path, new=new) as temporary:
    yield temporary
    own = sum_of(temporary)
    # Of a file that is to stay, and of one that never came, no sum counts.
    before = [] if new or not (path.parent / SUMS).exists() else _listed(path.parent).get(path.name, [])
    _change(path, [*before, own])
  _change(path, [own])


def verify(path: str | os.PathLike) -> bool:
  """Compares a file with its sum; False where its folder has no list of sums.

  Raises:
    Damaged: if it is not what was written, or the list does not name it.
    OSError: if it, or the list, cannot be read.
  """
  path = pathlib.Path(path)
  try:
    listed = _listed(path.parent)
  except FileNotFoundError:
    return False
  if path.name not in listed:
    raise Damaged(f'{path} is not in {SUMS} beside it: it was changed or written by other means')
  if sum_of(path) not in listed[path.name]:
    raise Damaged(f'{path} is damaged: its SHA-256 is another than in {SUMS} beside it')
  return True


def remove(path: pathlib.Path) -> None:
  """Removes a file and its sum."""
  path.unlink(missing_ok=True)
  _change(path, [])


def sum_of(path: pathlib.Path) -> str:
  """The SHA-256 of a file's bytes."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _listed(folder: pathlib.Path) -> dict[str, list[str]]:
  """The sums of each name, one, or two while it is being replaced."""
  found: dict[str, list[str]] = {}
  for line in (folder / SUMS).read_text(encoding='utf-8', errors='surrogateescape').splitlines():
    own, _, name = line.removeprefix('\\').partition('  ')
    if line.startswith('\\'):
      name = name.replace('\\n', '\n').replace('\\\\', '\\')
    found.setdefault(name, []).append(own)
  return found


def _change(path: pathlib.Path, sums: list[str]) -> None:
  """Lists these sums for a file, in place of those that are there."""
  lock = filelock.FileLock(path.parent / LOCK)
  with contextlib.ExitStack() as stack:
    with contextlib.suppress(NotImplementedError):  # a file system without locks
      lock.acquire()
      stack.callback(lock.release)
    listed = _listed(path.parent) if (path.parent / SUMS).exists() else {}
    if listed.get(path.name, []) == sums:
      return
    listed[path.name] = sums
    lines = [_line(name, own) for name in sorted(listed) for own in listed[name]]
    with files.replacing(path.parent / SUMS) as temporary:
      temporary.write_text(''.join(lines), encoding='utf-8', errors='surrogateescape')


def _line(name: str, own: str) -> str:
  if '\\' in name or '\n' in name:  # as sha256sum does it
    name, own = name.replace('\\', '\\\\').replace('\n', '\\n'), '\\' + own
  return f'{own}  {name}\n'
