"""A watch over the processes of one run: when one of them dies, the others end with a clear line.

Each says every two seconds in a file of the shared folder that it lives. A look compares what a file says with what
it said before, on the looking process's own clock: clocks of different hosts are never compared.
"""

import contextlib
import os
import pathlib
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from typing import NoReturn

from gdlab.core.errors import InputError
from gdlab.host.progress import say

BEAT_EVERY = 2.0  # seconds
SILENCE_LIMIT = 30.0  # seconds without a sign of life after which a process counts as dead
START_LIMIT = 120.0  # seconds for the first one
DEAD_PEER = 3  # exit status of those that a dead process takes along

FINISHED, FAILED, RUNNING = 'finished', 'failed', 'running'


class Peers:
  """What is known of the other processes.

  Args:
    others: their numbers.
    now: the time.
    silence_limit: seconds without a change after which a process counts as dead.
  """

  def __init__(self, others: list[int], now: float, silence_limit: float):
    self._texts: dict[int, str | None] = dict.fromkeys(others)
    self._changed = dict.fromkeys(others, now)
    self._limit = silence_limit

  def look(self, texts: Mapping[int, str | None], now: float) -> str | None:
    """Takes note of what the files say, None for one that cannot be read; returns what is wrong, if anything is."""
    for number, text in texts.items():
      if text is not None and text != self._texts[number]:
        self._texts[number], self._changed[number] = text, now
    return next((wrong for number in self._texts if (wrong := self._wrong(number, now))), None)

  def finished(self) -> bool:
    """Whether all have ended well."""
    return all(_state(text) == FINISHED for text in self._texts.values())

  def _wrong(self, number: int, now: float) -> str | None:
    text = self._texts[number]
    silent = now - self._changed[number]
    name = f'process {number} of {len(self._texts) + 1}'
    if text is None:
      return f'{name} did not start within {START_LIMIT:.0f} s' if silent > START_LIMIT else None
    if _state(text) == FAILED:
      return f'{name} failed: {text.partition(FAILED + " ")[2]}'
    if _state(text) == RUNNING and silent > self._limit:
      return f'{name} has given no sign of life for {self._limit:.0f} s'
    return None


class Watch:
  """Says that this process lives, and ends it when another one does not.

  Args:
    folder: shared by all processes, cleared by `clear` before the first of them begins to watch.
    index: this process's number.
    count: of processes.
    silence_limit: seconds without a sign of life after which another one counts as dead.
  """

  def __init__(self, folder: pathlib.Path, index: int, count: int, silence_limit: float = SILENCE_LIMIT):
    self._folder, self.index, self.count = folder, index, count
    self._others = [number for number in range(count) if number != index]
    self._peers = Peers(self._others, time.monotonic(), silence_limit)
    self._token, self._beats = secrets.token_hex(4), 0
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._watch, name='watch', daemon=True)

  def others_finished(self) -> bool:
    """Whether all other processes have ended well."""
    return self._peers.finished()

  @contextlib.contextmanager
  def watching(self, until_all_finish: bool) -> Iterator['Watch']:
    """Watches while the block runs, and if asked to goes on until the other processes have finished, too."""
    self._folder.mkdir(parents=True, exist_ok=True)
    self._write(RUNNING)
    self._thread.start()
    try:
      yield self
    except BaseException as error:
      kind = '' if isinstance(error, InputError) else f'{type(error).__name__}: '
      self._end(f'{FAILED} {" ".join(f"{kind}{error}".split())}')
      raise
    self._end(FINISHED)
    while until_all_finish and not self.others_finished():
      self._look()
      time.sleep(BEAT_EVERY / 2)

  def _watch(self) -> None:
    # A thread, not a look between two computations: one of these may take an hour.
    while not self._ended.wait(BEAT_EVERY):
      said = self._read(self.index)
      if said is not None and not said.startswith(self._token):
        _die('another run of this study uses the same workdir')
      self._look()
      self._write(RUNNING)

  def _look(self) -> None:
    texts = {number: self._read(number) for number in self._others}
    if wrong := self._peers.look(texts, time.monotonic()):
      _die(f'{wrong}; finished cells are kept, run again to go on')

  def _end(self, state: str) -> None:
    self._ended.set()
    self._thread.join()
    self._write(state)

  def _write(self, state: str) -> None:
    self._beats += 1
    temporary = self._folder / f'{self.index}.{self._token}'
    # A file system that does not answer for a moment is no reason to end.
    with contextlib.suppress(OSError):
      temporary.write_text(f'{self._token} {self._beats} {state}', encoding='utf-8')
      os.replace(temporary, self._folder / str(self.index))

  def _read(self, number: int) -> str | None:
    # Opened anew each time: NFS looks at the server then.
    with contextlib.suppress(OSError):
      return (self._folder / str(number)).read_text(encoding='utf-8') or None
    return None


def clear(folder: pathlib.Path) -> None:
  """Removes what an earlier run left.

  Every process does so before `jax.distributed.initialize`, which returns only when all have come to it, and begins
  to watch after that: so no process ever sees a file of an earlier run.
  """
  for file in folder.glob('*'):
    file.unlink(missing_ok=True)


def _state(text: str | None) -> str | None:
  return text.split()[2] if text else None


def _die(line: str) -> NoReturn:
  say(f'error: {line}')
  # Nothing else ends a process in the midst of a compiled computation.
  os._exit(DEAD_PEER)
