"""Locks of folders in which one process at a time works, such as the working directory of a study."""

import contextlib
import datetime
import errno
import json
import os
import pathlib
import platform
from collections.abc import Iterator

import filelock

from gdlab.core.errors import InputError
from gdlab.host import files
from gdlab.host.progress import say

# The holder is written down beside the lock, for filelock empties its own file.
LOCK, HOLDER = '.gdlab-workdir.lock', '.gdlab-holder.json'

WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def held(folder: str | os.PathLike, name: str = 'workdir') -> Iterator[None]:
  """Locks a folder until the block ends; the system releases the lock when the process ends, however it ends.

  On a file system without locks it only prints a line.

  Args:
    folder: an existing folder.
    name: its name in messages.

  Raises:
    InputError: if it is locked already, by another process or this one, or cannot be written.
  """
  folder = pathlib.Path(folder)
  lock = filelock.FileLock(folder / LOCK)
  if not _take(lock, folder, name):
    say(f'{name} {folder}: its file system has no locks, and a second start there would not be noticed')
    yield
    return
  try:
    with contextlib.suppress(OSError):  # a full disk; the lock holds without it
      _write_down(folder)
    yield
  finally:
    with contextlib.suppress(OSError):
      (folder / HOLDER).unlink()
    lock.release()


def _take(lock: filelock.BaseFileLock, folder: pathlib.Path, name: str) -> bool:
  """Takes the lock; False if the file system has no locks."""
  try:
    lock.acquire(timeout=0)
  except filelock.Timeout:
    raise InputError(
      f'{name} {folder} is in use{_holder(folder)}; wait for its end, end it, or name another folder'
    ) from None
  except NotImplementedError:
    return False
  except OSError as error:
    if error.errno in WITHOUT_LOCKS:
      return False
    raise InputError(
      f'{name} {folder} cannot be locked: {error.strerror or error}; it must be a folder that can be written'
    ) from error
  return True


def _write_down(folder: pathlib.Path) -> None:
  since = datetime.datetime.now().astimezone().isoformat(sep=' ', timespec='seconds')
  (folder / HOLDER).unlink(missing_ok=True)  # that of a process that was killed
  with files.replacing(folder / HOLDER) as path:
    path.write_text(
      json.dumps({'process': os.getpid(), 'host': platform.node(), 'since': since}) + '\n', encoding='utf-8'
    )


def _holder(folder: pathlib.Path) -> str:
  """The process that holds the folder, in words."""
  try:
    found = json.loads((folder / HOLDER).read_text(encoding='utf-8'))
    return (
      f' by process {int(found["process"])} on {str(found["host"])[:80]} since {str(found["since"])[:40]}'
    )
  except (OSError, KeyError, TypeError, ValueError):
    return ' by another process'
