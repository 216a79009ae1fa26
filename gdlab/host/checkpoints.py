"""Checkpoints in a folder: when they are due, their files and checksums, and where a script keeps its own.

A checkpoint is a NumPy archive `NAME-STEP.npz` with arrays and their metadata as JSON (`about`). Its SHA-256 is in the
folder's SHA256SUMS and is verified before anything is read. The newest two of a name are kept.
"""

import contextlib
import contextvars
import itertools
import json
import os
import pathlib
import re
import shutil
import tempfile
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from gdlab.core.errors import InputError, check_count, check_real, shown
from gdlab.host import checksums, locks
from gdlab.host.progress import say

Every: TypeAlias = float | Mapping[str, int]

SECONDS = 120.0  # between checkpoints, by default
SHARE = 40  # by default the time between checkpoints is at least so many times that of saving one
FORMAT = 'gdlab checkpoint 1'
KEPT = 2  # checkpoints of a name that are kept
UNREADABLE = (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile)


class Saved(NamedTuple):
  """The content of a checkpoint.

  Attributes:
    name: the name of its series.
    step: the number of updates made.
    arrays: name -> array.
    about: metadata.
  """

  name: str
  step: int
  arrays: dict[str, np.ndarray]
  about: dict[str, Any]


class Place(NamedTuple):
  """Where and how often a run saves checkpoints.

  Attributes:
    folder: a folder for this run alone.
    every: seconds, or {'updates': n} of every run; None for the default.
  """

  folder: pathlib.Path
  every: Every | None


class Folder:
  """The checkpoints of one run or sweep.

  Raises:
    InputError: if the folder cannot be written, or `every` is out of range.
  """

  def __init__(self, path: pathlib.Path, every: Every | None = None):
    self.path = path
    self.seconds, self.updates, self._by_default = _interval(every)
    self._last = time.monotonic()
    _make(path)
    self._files: dict[
      str, list[pathlib.Path]
    ] = {}  # by name, the newest first: no other process works in the folder
    for file in sorted(path.iterdir(), reverse=True):
      if match := re.fullmatch(r'(.+)-\d{15}\.npz', file.name):
        self._files.setdefault(match[1], []).append(file)

  def is_due(self, updates: int, soon: float = 0.0) -> bool:
    """Whether it is time to save.

    Args:
      updates: updates of every run since the last checkpoint.
      soon: seconds until the next call of this method.
    """
    if self.updates is not None:
      return updates >= self.updates
    return time.monotonic() - self._last + soon >= self.seconds

  def save(self, saved: Saved, keep: int = KEPT) -> None:
    """Writes a checkpoint, and removes older ones of its name. If it cannot be written, warns and continues.

    Args:
      saved: the checkpoint.
      keep: the number of newest checkpoints to keep.
    """
    started = time.monotonic()
    arrays: dict[str, Any] = {f'array_{name}': array for name, array in saved.arrays.items()}
    about = saved.about | {'format': FORMAT, 'arrays': _described(saved.arrays)}
    arrays['about'] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    path = self.path / f'{saved.name}-{saved.step:015}.npz'
    try:
      with checksums.writing(path) as temporary, open(temporary, 'wb') as file:
        np.savez(file, **arrays)
      files = [path, *(file for file in self._files.get(saved.name, []) if file != path)]
      self._files[saved.name] = files[:keep]
      for old in files[keep:]:
        with contextlib.suppress(IsADirectoryError, PermissionError):  # what is no file of ours stays
          checksums.remove(old)
    except OSError as error:
      warnings.warn(
        f'no checkpoint was saved: cannot write {path}: {error.strerror or error}; earlier ones are kept',
        RuntimeWarning,
        stacklevel=2,
      )
    self._last = time.monotonic()
    if self._by_default:
      self.seconds = max(SECONDS, SHARE * (self._last - started))

  def latest(self, name: str, *, arrays: bool = True) -> Saved | None:
    """The newest undamaged checkpoint of a name, with or without its arrays; prints a line for each damaged one."""
    for path in self._files.get(name, []):
      try:
        return _read(name, path, arrays)
      except UNREADABLE as error:
        say(f'{path.name} is passed over: {" ".join(str(error).split())}')
    return None

  def names(self) -> list[str]:
    """The names of which there are checkpoints."""
    return sorted(self._files)

  def clear(self, name: str) -> None:
    """Removes the checkpoints of a name."""
    for path in self._files.pop(name, []):
      with contextlib.suppress(OSError):
        checksums.remove(path)


@contextlib.contextmanager
def held(place: Place | None) -> Iterator[None]:
  """Locks the folder of a run, so that no other run works in it."""
  if place is None:
    yield
    return
  _make(place.folder)
  with locks.held(place.folder, 'checkpoint'):
    yield


def _make(folder: pathlib.Path) -> None:
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except (OSError, ValueError) as error:  # a ValueError of a path with a null byte
    reason = getattr(error, 'strerror', None) or error
    raise InputError(
      f'checkpoint must be a folder that can be written, got {shown(str(folder))}: {reason}'
    ) from error


def _read(name: str, path: pathlib.Path, with_arrays: bool) -> Saved:
  if not checksums.verify(path):
    raise InputError(f'{path} has no checksum')
  with np.load(path, allow_pickle=False) as archive:
    about = json.loads(archive['about'].tobytes())
    keys = [key for key in archive.files if with_arrays and key != 'about']
    arrays = {key.removeprefix('array_'): archive[key] for key in keys}
  if about.get('format') != FORMAT or (with_arrays and _described(arrays) != about['arrays']):
    raise InputError(f'{path} is not as gdlab writes a checkpoint')
  return Saved(name, int(path.stem.rpartition('-')[2]), arrays, about)


def _described(arrays: Mapping[str, np.ndarray]) -> dict[str, list]:
  return {name: [array.dtype.str, *array.shape] for name, array in arrays.items()}


def _interval(every: Every | None) -> tuple[float, int | None, bool]:
  """Seconds, updates or None, and whether this is the default."""
  if every is None:
    return SECONDS, None, True
  if isinstance(every, Mapping):
    if [*every] != ['updates']:
      raise InputError(
        f"checkpoint_every must be seconds > 0 or {{'updates': a whole number >= 1}}, got {shown(every)}"
      )
    return SECONDS, check_count("checkpoint_every['updates']", every['updates']), False
  return float(check_real('checkpoint_every', every, above=0, maximum=1e9)), None, False


# The folder for the current measurement of a script, its interval, and a counter of its sweeps.
_around: contextvars.ContextVar[tuple[pathlib.Path, Every | None, Iterator[int]] | None] = (
  contextvars.ContextVar('checkpoints', default=None)
)


@contextlib.contextmanager
def inside(folder: pathlib.Path, every: Every | None) -> Iterator[None]:
  """In the block, sweeps without a folder of their own save checkpoints in `folder/NUMBER`."""
  token = _around.set((folder, every, itertools.count()))
  try:
    yield
  finally:
    _around.reset(token)


def around() -> tuple[str, Every | None] | None:
  """The folder and the interval of `inside`, for another process."""
  found = _around.get()
  return found and (str(found[0]), found[1])


@contextlib.contextmanager
def below(name: str) -> Iterator[None]:
  """In the block, the subfolder of this name replaces the folder of the enclosing block, if there is one."""
  found = around()
  with contextlib.nullcontext() if found is None else inside(pathlib.Path(found[0], name), found[1]):
    yield


def forget(name: str) -> None:
  """Removes the checkpoints saved `below` a name."""
  if found := around():
    shutil.rmtree(pathlib.Path(found[0], name), ignore_errors=True)


@contextlib.contextmanager
def nowhere() -> Iterator[None]:
  """In the block, sweeps without a folder of their own save no checkpoints."""
  token = _around.set(None)
  try:
    yield
  finally:
    _around.reset(token)


def place(checkpoint: str | os.PathLike | Place | None, every: Every | None) -> Place | None:
  """Where a sweep saves checkpoints: in its own folder if given, else in that of the enclosing script.

  Raises:
    InputError: if `checkpoint` is not a path, or only `every` is given.
  """
  if isinstance(checkpoint, Place):
    return checkpoint
  if checkpoint is not None:
    if not isinstance(checkpoint, str | os.PathLike) or not os.fspath(checkpoint):
      raise InputError(f'checkpoint must be the path of a folder or None, got {shown(checkpoint)}')
    return Place(pathlib.Path(checkpoint).expanduser().absolute(), every)
  if _around.get() is None and every is not None:
    raise InputError('checkpoint_every must be None without checkpoint, which names the folder')
  if (found := _around.get()) is None:
    return None
  folder, own, numbers = found
  return Place(folder / f'{next(numbers):03}', own if every is None else every)
