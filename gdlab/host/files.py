"""Files that are written atomically; temporary files of killed writers are removed by the next writer.

A file is written in a hidden folder next to its target, flushed to the disk and moved. Its writer holds a lock in that
folder, which the system releases when the process ends, however it ends.
"""

import contextlib
import errno
import hashlib
import os
import pathlib
import platform
import secrets
import shutil
from collections.abc import Iterator

import filelock

PREFIX, LOCK = '.gdlab-', '.gdlab-lock'
# Seconds after which what another host wrote last counts as abandoned: its locks may not reach this one.
ABANDONED = 3600.0


@contextlib.contextmanager
def replacing(path: str | os.PathLike, *, new: bool = False) -> Iterator[pathlib.Path]:
  """Yields a temporary path that becomes `path` if nothing is raised; remains of killed writers are removed first.

  Args:
    path: the file; its folder is created if it is missing.
    new: whether an existing file is an error; otherwise it is replaced.

  Raises:
    FileExistsError: if `new` and the file exists, even if it appeared meanwhile.
    OSError: if the folder cannot be written, or nothing was written to the temporary path.
  """
  path = pathlib.Path(path)
  if new and os.path.lexists(path):  # before any work
    raise FileExistsError(f'{path} exists')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
  except FileExistsError:  # which here would mean that `path` exists
    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent)) from None
  with _own_folder(path.parent) as folder:
    _remove_remains(path.parent, folder)
    temporary = folder / path.name
    yield temporary
    with open(temporary, 'rb+') as written:
      os.fsync(written.fileno())
    _move(temporary, path, new)


def _move(temporary: pathlib.Path, path: pathlib.Path, new: bool) -> None:
  if new:
    try:
      os.link(
        temporary, path
      )  # unlike a move, it fails where there is one: the first process to come decides
      return
    except FileExistsError:
      raise
    except OSError:  # a file system without links
      if os.path.lexists(path):
        raise FileExistsError(f'{path} exists') from None
  os.replace(temporary, path)


@contextlib.contextmanager
def _own_folder(parent: pathlib.Path) -> Iterator[pathlib.Path]:
  """Creates a folder with a lock that is held, and removes it at the end."""
  while True:
    # Not the process id: in containers that share a folder all have the same.
    folder = parent / f'{PREFIX}{_host()}-{secrets.token_hex(4)}'
    folder.mkdir()
    lock = filelock.FileLock(folder / LOCK)
    # Another writer may take it for abandoned between the two lines above: then once more.
    with contextlib.suppress(FileNotFoundError):
      if _take(lock) is not False and folder.is_dir():
        break
  try:
    yield folder
  finally:
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()


def _remove_remains(parent: pathlib.Path, own: pathlib.Path) -> None:
  """Removes the folders of dead writers; folders that cannot be locked or removed are left alone."""
  for folder in parent.glob(f'{PREFIX}*-*'):
    if folder == own:
      continue
    with contextlib.suppress(OSError):
      # On the clock of the file system, which may be another host's.
      idle = own.stat().st_mtime - max(item.stat().st_mtime for item in (folder, *folder.iterdir()))
      lock = filelock.FileLock(folder / LOCK)
      free = _take(lock)
      if free is not False and (idle > ABANDONED or (free and folder.name.startswith(f'{PREFIX}{_host()}-'))):
        shutil.rmtree(folder, ignore_errors=True)
      lock.release()


def _take(lock: filelock.BaseFileLock) -> bool | None:
  """Whether the lock was free, and is now held; None if the file system has no locks."""
  try:
    lock.acquire(timeout=0)
  except filelock.Timeout:
    return False
  except NotImplementedError:
    return None
  return True


def _host() -> str:
  return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
