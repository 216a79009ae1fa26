"""Ctrl-C and SIGTERM: noted when they arrive, acted on between compiled calls.

Python raises KeyboardInterrupt wherever the main thread happens to be. Inside a garbage-collection callback, such as
JAX's, it is printed and swallowed, and the run continues.

While the main thread waits for compiled calls or compilations, KeyboardInterrupt is raised at most 0.1 s after the
signal (measured: 0.00 to 0.04 s with calls of 5 to 20 s); during tracing, at its end. Nothing stops a compiled call:
calls in progress, two at most, run to their end, and a process that ends by the exception waits for them.

A run with checkpoints lets the calls in progress end, and saves, before it stops: see `held`.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

LOOK_EVERY = 0.1  # seconds between looks while something is waited for
ONE_SIGNAL = 1.0  # seconds within which SIGTERM that comes twice is one
AGAIN_AFTER = 2.0  # seconds after which an exception that nobody has seen is raised once more

# Of the process, as signals are.
_asked: int | None = None  # the signal that came
_deferred = 0  # how many blocks defer it
_held = 0  # how many save before they stop
_script = False  # whether `for_a_script` deals with signals
_worker = False  # whether this is a worker of a pool
_heard = threading.Event()
_again = False  # whether the next signal is the one before, raised again
_since = 0.0  # when the last signal came


@contextlib.contextmanager
def deferred(*, terminate: bool = False) -> Iterator[None]:
  """During the block, the first Ctrl-C is noted for `look` and `wait`, and a second one acts at once.

  Without effect outside the main thread, or if SIGINT has a handler other than Python's own.

  Args:
    terminate: whether SIGTERM is noted too, if it has no handler; it then ends the block by SystemExit(143).

  Raises:
    KeyboardInterrupt: at the end of the block at the latest, if there was a Ctrl-C.
  """
  global _asked, _deferred
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  wanted: dict[int, Any] = {signal.SIGINT: signal.default_int_handler}
  wanted |= {signal.SIGTERM: signal.SIG_DFL} if terminate else {}
  before = {number: own for number, own in wanted.items() if signal.getsignal(number) == own}
  for number in before:
    signal.signal(number, _note)
  _deferred += 1
  try:
    yield
  finally:
    _deferred -= 1
    for number, own in before.items():
      if signal.getsignal(number) is _note:
        signal.signal(number, own)
    if _asked in before:
      left, _asked = _asked, None
      raise _exception(left) from None
    if _script and not _deferred and _asked is not None:
      raise KeyboardInterrupt from None


@contextlib.contextmanager
def for_a_script() -> Iterator[None]:
  """During the block, Ctrl-C and SIGTERM raise KeyboardInterrupt: at once, or when a run calls `look`.

  If Python swallows the exception, it is raised again until `heard` is called, and the first one is not printed. A
  second signal kills the process.
  """
  global _asked, _script
  numbers = [
    number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN
  ]
  before = {number: signal.signal(number, _note) for number in numbers}
  _script = True
  _heard.clear()
  hook = sys.unraisablehook
  sys.unraisablehook = lambda ignored: None if ignored.exc_type is KeyboardInterrupt else hook(ignored)
  try:
    yield
  finally:
    sys.unraisablehook = hook
    _heard.set()
    if signal.getsignal(signal.SIGALRM) is _raise_again:
      signal.setitimer(signal.ITIMER_REAL, 0)
      signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _script, _asked = False, None
    for number, own in before.items():
      signal.signal(number, own)


def for_a_worker() -> None:
  """From now on SIGTERM ends this process once runs are saved: an exception would end only its task."""
  global _worker
  _worker = True


def heard() -> None:
  """Call this where the exception is handled, to end the script: it is not raised again."""
  _heard.set()


@contextlib.contextmanager
def held() -> Iterator[None]:
  """During the block nothing is raised; the code inside must check `asked` and end by itself."""
  global _held
  if threading.current_thread() is not threading.main_thread():  # which no signal reaches
    yield
    return
  _held += 1
  try:
    yield
  finally:
    _held -= 1


def asked() -> bool:
  """Whether there was a signal; always False outside the main thread."""
  return _asked is not None and threading.current_thread() is threading.main_thread()


def look() -> None:
  """Raises KeyboardInterrupt in the main thread if there was a Ctrl-C, SystemExit(143) after SIGTERM."""
  global _asked
  if _asked is None or _held or not asked():
    return
  number = _asked
  if not _script:
    _asked = None
  raise _exception(number)


def wait(block: Callable[[], Any]) -> None:
  """Calls `block`, which waits in C code where signals are not handled, and calls `look` meanwhile."""
  noted = _note in (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
  if threading.current_thread() is not threading.main_thread() or not noted:
    block()
    return

  def quietly() -> None:
    with contextlib.suppress(Exception):  # who uses what was waited for gets it again
      block()

  # Not a daemon: one that comes back from C while Python ends takes the process down with an abort.
  thread = threading.Thread(target=quietly, name='wait')
  thread.start()
  while thread.is_alive():
    look()
    thread.join(LOOK_EVERY)
  look()


def _note(number: int, frame: Any) -> None:
  global _asked, _again, _since
  # `timeout` and some queues send SIGTERM to the process and to its group: twice within a moment.
  if _asked == number == signal.SIGTERM and time.monotonic() - _since < ONE_SIGNAL and not _again:
    return
  _since = time.monotonic()
  if _asked is not None and not _again:  # a second one
    if number == signal.SIGINT and not _script:
      signal.default_int_handler(number, frame)
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
  _asked, _again = number, False
  if _script and not _deferred:
    # By the system's clock: to start a thread from a handler could wait for a lock that this thread holds.
    signal.signal(signal.SIGALRM, _raise_again)
    signal.setitimer(signal.ITIMER_REAL, AGAIN_AFTER)
    raise KeyboardInterrupt


def _raise_again(number: int, frame: Any) -> None:
  global _again
  if not _heard.is_set() and _asked is not None:
    _again = True
    _note(_asked, frame)


def _exception(number: int | None) -> BaseException:
  if number == signal.SIGTERM and _worker:
    os._exit(128 + number)
  return SystemExit(128 + number) if number == signal.SIGTERM and not _script else KeyboardInterrupt()
