"""The number of lanes that fit into memory."""

import contextlib
import math
import pathlib
import re

import jax

MEMORY_SHARE = 0.25  # of a memory, or of what is free in it now, for the lanes of a block

# Limits of a container, of the second and the first version of Linux's control groups; bytes, or a word for none.
CONTAINER_LIMITS = ('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes')


def memory_lanes(num_bytes: int, num_devices: int) -> int:
  """How many lanes of `num_bytes` fit into the devices' memory, or into the host's if devices do not report theirs."""
  stats = jax.local_devices()[0].memory_stats() or {}
  if 'bytes_limit' in stats:
    free = (stats['bytes_limit'] - stats.get('bytes_in_use', 0)) * num_devices
  else:
    free = _free_host_bytes()
  return max(1, int(MEMORY_SHARE * free / num_bytes))


def widest_vmap(num_bytes: int, most: int) -> int:
  """The largest power of two of lanes of `num_bytes` that fits one device, at most `most`.

  By the total memory, not the free memory: the number of lanes at once changes the last bits of results.
  """
  stats = jax.local_devices()[0].memory_stats() or {}
  if 'bytes_limit' not in stats:
    return most
  return min(most, 2 ** int(math.log2(max(1, MEMORY_SHARE * stats['bytes_limit'] / num_bytes))))


def _free_host_bytes() -> int:
  """The available memory of the host (including its disk cache), or the limit of its container if that is less."""
  try:
    [kib] = re.findall(r'^MemAvailable: *(\d+) kB$', pathlib.Path('/proc/meminfo').read_text(), re.MULTILINE)
  except (OSError, ValueError):  # Linux alone tells
    return 4 * 2**30
  free = int(kib) * 1024
  for file in CONTAINER_LIMITS:
    with contextlib.suppress(OSError, ValueError):  # there is no container, or no limit
      free = min(free, int(pathlib.Path(file).read_text()))
  return free
