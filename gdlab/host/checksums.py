"""SHA-256 checksums of a folder's files, in its file `SHA256SUMS`, which `sha256sum -c` reads.

A checksum is listed before its file appears, and verified before the file is parsed: some formats, NetCDF among them,
return flipped bits silently. While a file is being replaced both checksums are listed, so that a killed writer leaves
nothing that looks damaged.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import re
import warnings
from collections.abc import Iterator, Sequence

import filelock

from gdlab.core.errors import InputError
from gdlab.host import files

SUMS, LOCK = 'SHA256SUMS', '.gdlab-sums.lock'
PATIENCE = 60.0  # seconds for other processes to change the list
LINE = re.compile(r'(\\?)([0-9a-f]{64}) [ *](.+)', re.DOTALL)
ESCAPES = {'\\': '\\\\', '\n': '\\n', '\r': '\\r'}  # as sha256sum writes them, in a line that begins with \
UNESCAPED = {text: letter for letter, text in ESCAPES.items()}


class Damaged(InputError):
  """A file that does not match its checksum, or has none in its folder's list."""


@contextlib.contextmanager
def writing(path: str | os.PathLike, *, new: bool = False) -> Iterator[pathlib.Path]:
  """As `files.replacing`: yields a temporary path that becomes `path`; its checksum is listed in SHA256SUMS."""
  path = pathlib.Path(path)
  with contextlib.ExitStack() as lock:
    before: list[str] | None = None
    try:
      with files.replacing(path, new=new) as temporary:
        yield temporary
        own = sum_of(temporary)
        adopt(path.parent, [path])
        lock.enter_context(_locked(path.parent))
        # Of a file that never came, no sum counts.
        before = _listed(path.parent).get(path.name, []) if os.path.lexists(path) else []
        _list(path, [*before, own])
    except FileExistsError:
      if before is not None:  # another writer of a new file was faster, and its sum counts
        _list(path, before)
      raise
    with contextlib.suppress(OSError):  # the file is whole, and its sum is listed; the other one does no harm
      _list(path, [own])


def verify(path: str | os.PathLike) -> bool:
  """Compares a file with its checksum; False if its folder has no list of checksums.

  Raises:
    Damaged: if the file does not match its checksum, or the list does not name it.
    InputError: if the list cannot be read.
    OSError: if the file cannot be read.
  """
  path = pathlib.Path(path)
  if not os.path.lexists(path.parent / SUMS):
    return False
  try:
    listed = _listed(path.parent).get(path.name, [])
    while (found := sum_of(path)) not in listed:
      before, listed = listed, _listed(path.parent).get(path.name, [])
      if listed == before:  # else it was replaced meanwhile
        break
  except _Unreadable as error:
    raise InputError(
      f'{path} cannot be verified: {SUMS} beside it cannot be read ({error.strerror}); move that away'
    ) from error
  if not listed:
    raise Damaged(
      f'{path} is not in {SUMS} beside it: it was changed, renamed or written by other means; if you trust it, '
      'list it there with sha256sum, else make it again'
    )
  if found not in listed:
    raise Damaged(
      f'{path} is damaged: its SHA-256 is not that in {SUMS} beside it; take it from a copy or make it again'
    )
  return True


def warn_unverified(path: str | os.PathLike) -> None:
  """Warns that a file was read without a checksum to compare it with."""
  warnings.warn(
    f'{os.fspath(path)} is not verified: there is no {SUMS} beside it, as of a file that was moved by itself or '
    'written by an earlier version',
    UserWarning,
    stacklevel=3,
  )


def adopt(folder: pathlib.Path, paths: Sequence[pathlib.Path]) -> None:
  """Lists the existing ones of these files, as they are, if the folder has no list (from earlier versions)."""
  here = [path for path in paths if path.is_file()]
  if not here or os.path.lexists(folder / SUMS):
    return
  with _locked(folder):
    if not os.path.lexists(folder / SUMS):
      _write(folder, {path.name: [sum_of(path)] for path in here})


def remove(path: pathlib.Path) -> None:
  """Removes a file, if it exists, and its checksum."""
  path.unlink(missing_ok=True)
  with _locked(path.parent):
    _list(path, [])


def sum_of(path: pathlib.Path) -> str:
  """The SHA-256 of a file's bytes."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


class _Unreadable(OSError):
  """The list exists but cannot be read."""


def _listed(folder: pathlib.Path) -> dict[str, list[str]]:
  """The checksums of each name: one, or two while it is being replaced; invalid lines are ignored."""
  try:
    content = (folder / SUMS).read_bytes()
  except FileNotFoundError:
    return {}
  except OSError as error:
    raise _Unreadable(error.errno, error.strerror, str(folder / SUMS)) from error
  return {name: [*sums] for name, sums in _parsed(content).items()}


@functools.lru_cache(maxsize=4)  # a folder of thousands of files is read file by file
def _parsed(content: bytes) -> dict[str, list[str]]:
  found: dict[str, list[str]] = {}
  for line in os.fsdecode(content).split('\n'):
    if match := LINE.fullmatch(line):
      escaped, own, name = match.groups()
      if escaped:
        name = re.sub(r'\\[\\nr]', lambda each: UNESCAPED[each[0]], name)
      found.setdefault(name, []).append(own)
  return found


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
  """Lets one process at a time change the list; without effect on a file system without locks."""
  lock = filelock.FileLock(folder / LOCK)
  with contextlib.ExitStack() as stack:
    with contextlib.suppress(NotImplementedError):
      lock.acquire(timeout=PATIENCE)
      stack.callback(lock.release)
    yield


def _list(path: pathlib.Path, sums: list[str]) -> None:
  """Replaces the checksums of a file in the list, and drops entries of files that no longer exist."""
  listed = _listed(path.parent)
  if listed.get(path.name, []) == sums:
    return
  here = {name: own for name, own in listed.items() if os.path.lexists(path.parent / name)}
  _write(path.parent, here | {path.name: sums})


def _write(folder: pathlib.Path, listed: dict[str, list[str]]) -> None:
  lines = [_line(name, own) for name in sorted(listed) for own in dict.fromkeys(listed[name])]
  with files.replacing(folder / SUMS) as temporary:
    temporary.write_bytes(os.fsencode(''.join(lines)))


def _line(name: str, own: str) -> str:
  escaped = ''.join(ESCAPES.get(letter, letter) for letter in name)
  return f'{"" if escaped == name else chr(92)}{own}  {escaped}\n'
