"""Several processes that share one study, started by SLURM, Kubernetes, a TPU pod, Open MPI or by hand."""

import contextlib
import os
import pathlib
import socket
import traceback
from collections.abc import Iterator
from typing import NamedTuple

import jax

from experiments.watch import SILENCE_LIMIT, Watch, clear
from gdlab.core.errors import InputError, check_count
from gdlab.host.progress import say

JOIN_LIMIT = 120  # seconds that all processes have to come together


class Address(NamedTuple):
  """Where processes meet, for hosts on which JAX does not find it out by itself.

  Attributes:
    coordinator: `HOST:PORT` of process 0, a port that is free there.
    num_processes: how many there are.
    process_id: this one's number, from 0.
  """

  coordinator: str
  num_processes: int
  process_id: int


def check_address(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> Address | None:
  """The address that flags give, None where they give none; raises InputError for half of one."""
  if coordinator is None and num_processes is None and process_id is None:
    return None
  if coordinator is None or num_processes is None or process_id is None:
    raise InputError('--coordinator, --num_processes and --process_id are given all together or not at all')
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdigit() or not 0 < int(port) < 2**16:
    raise InputError(f'--coordinator must be HOST:PORT, got {coordinator!r}')
  check_count('--num_processes', num_processes)
  check_count('--process_id', process_id, minimum=0, maximum=num_processes - 1)
  return Address(coordinator, num_processes, process_id)


@contextlib.contextmanager
def joined(
  workdir: pathlib.Path, address: Address | None, silence_limit: float = SILENCE_LIMIT
) -> Iterator[Watch]:
  """Joins the other processes and watches over them. Nothing may have been computed before.

  Yields:
    The watch, which knows this process's number and how many there are.

  Raises:
    InputError: if JAX finds no other processes and no address is given.
  """
  clear(workdir / '.alive')
  index, count = _join(address)
  # On CPUs each process is on its own once it knows its number. While JAX's client lives, the death of any process
  # aborts all with a stack trace, and one that ends early waits 300 s for the others and then aborts them.
  # Accelerators keep it: their libraries set up communicators through it, even those of local devices.
  stays = jax.default_backend() != 'cpu'
  if not stays:
    jax.distributed.shutdown()
  watch = Watch(workdir / '.alive', index, count, silence_limit)
  try:
    with watch.watching(until_all_finish=stays):
      yield watch
  except BaseException as error:
    if not stays:
      raise
    # An ordinary end would wait in JAX for processes that are ending because of this one.
    if isinstance(error, InputError):
      say(f'error: {" ".join(str(error).split())}')
      os._exit(2)
    say(traceback.format_exc().rstrip())
    os._exit(1)


def _join(address: Address | None) -> tuple[int, int]:
  """This process's number and how many there are."""
  jax.config.update('jax_enable_preemption_service', False)  # it swallows SIGTERM
  jax.config.update('jax_cpu_collectives_implementation', None)  # no collectives here; Gloo writes to stdout
  coordinator, num_processes, process_id = address or (None, None, None)
  if address is not None and process_id == 0:
    _check_free(address.coordinator)
  try:
    jax.distributed.initialize(coordinator, num_processes, process_id, initialization_timeout=JOIN_LIMIT)
  except (RuntimeError, ValueError) as error:
    if address is None:
      raise InputError(
        '--distributed found no SLURM, Kubernetes, TPU or Open MPI; give --coordinator=HOST:PORT '
        f'--num_processes=N --process_id=I to every process ({error})'
      ) from error
    raise InputError(f'the processes cannot meet at {coordinator}: {error}') from error
  return jax.process_index(), jax.process_count()


def _check_free(coordinator: str) -> None:
  """Raises InputError if another program listens at the port that is to be this process's: JAX would crash."""
  port = int(coordinator.rpartition(':')[2])
  with socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection just closed is no hindrance
    try:
      probe.bind(('', port))
    except OSError as error:
      raise InputError(f'--coordinator must name a free port, and {coordinator}: {error.strerror}') from error
