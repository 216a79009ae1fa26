"""A pool of worker processes on this machine, each with its share of the cores."""

import functools
import multiprocessing
import os
import signal
import threading
import time
from concurrent import futures
from multiprocessing import connection
from typing import Any

from gdlab.core.errors import check_count
from gdlab.host import interrupt
from gdlab.host.machine import Settings, adopt, own_cores, settings

GRACE = 15.0  # seconds in which a worker may end a compiled call and save


def worker_pool(num_workers: int) -> futures.ProcessPoolExecutor:
  """A pool of processes for `executor=` of `gdlab.sweep`, which divide the cores among them.

  The workers are spawned, never forked: JAX has threads, and hangs in a forked process. Each is pinned to its share of
  the cores, if the system can do that, and has one CPU device per core (JAX_NUM_CPU_DEVICES in the environment takes
  precedence). They copy JAX's current settings (float64, random numbers, compilation cache, XLA's flags and number of
  threads) from this process, so that under the same plan results are bitwise equal. They leave Ctrl-C to this process,
  and end when it dies. As with any pool of spawned processes, a script must start its work under
  `if __name__ == '__main__':`.

  Example:
    >>> import gdlab
    >>> with gdlab.worker_pool(2) as pool:
    ...   print(pool.submit(abs, -3).result())
    3

  Args:
    num_workers: the number of workers, >= 1; more than one per core is of no use.

  Returns:
    A ProcessPoolExecutor. Its workers start with its first tasks.

  Raises:
    InputError: if `num_workers` is not a whole number >= 1.
  """
  check_count('num_workers', num_workers)
  context = multiprocessing.get_context('spawn')
  arguments = (context.Value('i', 0), num_workers, settings('jax_platforms'))
  return _Pool(num_workers, context, _start_worker, arguments)


class _Pool(futures.ProcessPoolExecutor):
  """A pool whose workers do not get Ctrl-C while they start: new processes inherit blocked signals."""

  def submit(self, *task: Any, **keywords: Any) -> futures.Future:  # which starts workers
    if not hasattr(signal, 'pthread_sigmask'):
      return super().submit(*task, **keywords)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
      return super().submit(*task, **keywords)
    finally:
      signal.pthread_sigmask(signal.SIG_SETMASK, before)

  def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
    super().shutdown(wait, cancel_futures=cancel_futures)
    # Lets go of the counter's semaphore, over which Python's tracker would complain after a Ctrl-C.
    self._initargs = ()


def end_workers(pool: futures.ProcessPoolExecutor) -> None:
  """Ends a pool's workers during their tasks: by SIGTERM, after which runs are saved, then by SIGKILL."""
  processes = [
    *(getattr(pool, '_processes', None) or {}).values()
  ]  # public from Python 3.14 on: terminate_workers, kill_workers
  for process in processes:
    process.terminate()
  until = time.monotonic() + GRACE
  for process in processes:
    process.join(max(0.0, until - time.monotonic()))
    process.kill()
  # In a thread: Python's pools have been seen to wait for ever for a worker that was ended.
  closing = threading.Thread(target=functools.partial(pool.shutdown, cancel_futures=True), daemon=True)
  closing.start()
  closing.join(GRACE)


def _start_worker(started: Any, num_workers: int, given: Settings) -> None:
  """Initialises a worker before its first task.

  Args:
    started: the number of workers that have started, a shared value.
    num_workers: the number of workers of the pool.
    given: the parent's settings.
  """
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  interrupt.for_a_worker()
  threading.Thread(target=_end_with_parent, name='parent', daemon=True).start()
  with started.get_lock():
    number, started.value = started.value, started.value + 1
  cores = own_cores()
  share = cores_of(cores, number, num_workers)
  if hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, share)
  asked = given.config['jax_num_cpu_devices'] if os.environ.get('JAX_NUM_CPU_DEVICES') else len(share)
  adopt(given._replace(config=given.config | {'jax_num_cpu_devices': asked}))


def cores_of(cores: list[int], number: int, num_workers: int) -> list[int]:
  """The cores of a worker: consecutive ones, each core for one worker, or for several if there are more workers."""
  first, end = (len(cores) * bound // num_workers for bound in (number, number + 1))
  return cores[first:end] or [cores[number % len(cores)]]


def _end_with_parent() -> None:
  """Ends this process when its parent dies; otherwise it would wait for tasks forever."""
  parent = multiprocessing.parent_process()
  if parent is not None:
    connection.wait([parent.sentinel])
    os._exit(1)  # nothing else ends a process in the midst of a compiled call
