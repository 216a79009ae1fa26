"""Ctrl-C while a sweep runs: noted when it comes, acted on between compiled calls.

Python raises KeyboardInterrupt wherever the main thread happens to be. Inside a callback of the garbage collector, as
JAX has one, it is printed and forgotten, and the run goes on.

While compiled calls or compilations are waited for, KeyboardInterrupt comes 0.1 s after the signal at the latest
(measured: 0.00 to 0.04 s with calls of 5 to 20 s); else when what is being traced is traced. Nothing stops a compiled
call: those under way, two at most, go on to their end, and a process that ends by the exception waits for them.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

LOOK_EVERY = 0.1  # seconds between looks while something is waited for

_asked = False  # of the process, as signals are


@contextlib.contextmanager
def deferred() -> Iterator[None]:
  """While the block runs, the first Ctrl-C is noted for `look` and `wait`, and a second one raises at once.

  Nothing is changed outside the main thread, or where SIGINT has another handler than Python's own.

  Raises:
    KeyboardInterrupt: at the end of the block at the latest, if there was a Ctrl-C.
  """
  global _asked
  in_main = threading.current_thread() is threading.main_thread()
  if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
    yield
    return
  signal.signal(signal.SIGINT, _note)
  try:
    yield
  finally:
    if signal.getsignal(signal.SIGINT) is _note:
      signal.signal(signal.SIGINT, signal.default_int_handler)
    left, _asked = _asked, False
    if left:
      raise KeyboardInterrupt from None


def look() -> None:
  """Raises KeyboardInterrupt in the main thread if there was a Ctrl-C."""
  global _asked
  if _asked and threading.current_thread() is threading.main_thread():
    _asked = False
    raise KeyboardInterrupt


def wait(block: Callable[[], Any]) -> None:
  """Calls `block`, which waits in C where no signal is seen, and looks meanwhile."""
  if (
    threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not _note
  ):
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
  global _asked
  if _asked:
    signal.default_int_handler(number, frame)
  _asked = True
