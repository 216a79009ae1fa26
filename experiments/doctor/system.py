"""Checks that need neither JAX nor gdlab: they have to work where those do not."""

import contextlib
import operator
import os
import pathlib
import platform
import re
import resource
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata

from experiments.doctor.lines import FAULT, NOTE, OK, Line, size

# What changes the bits of results, or on what they are computed.
VARIABLES = (
  *(
    'XLA_FLAGS',
    'LIBTPU_INIT_ARGS',
    'NVIDIA_TF32_OVERRIDE',
    'CUBLAS_WORKSPACE_CONFIG',
    'OMP_NUM_THREADS',
    'NPROC',
  ),
  *('JAX_ENABLE_X64', 'JAX_DEFAULT_MATMUL_PRECISION', 'JAX_DEFAULT_PRNG_IMPL', 'JAX_THREEFRY_PARTITIONABLE'),
  *(
    'JAX_NUM_CPU_DEVICES',
    'JAX_PLATFORMS',
    'JAX_DISABLE_JIT',
    'JAX_DISABLE_MOST_OPTIMIZATIONS',
    'JAX_DEBUG_NANS',
  ),
  'CUDA_VISIBLE_DEVICES',
)
COMPARE = {
  '>=': operator.ge,
  '<=': operator.le,
  '==': operator.eq,
  '!=': operator.ne,
  '>': operator.gt,
  '<': operator.lt,
}
LEAST_DISK, LITTLE_DISK = 64 * 2**20, 2**30  # bytes: a small study does not fit; a large one may not
LEAST_MEMORY, LITTLE_MEMORY = 512 * 2**20, 2 * 2**30  # bytes: JAX alone takes half a GiB with its libraries
CGROUP = pathlib.Path('/sys/fs/cgroup')


def python() -> Iterator[Line]:
  """The interpreter against gdlab's bound."""
  version = platform.python_version()
  try:
    bound = metadata.metadata('gdlab')['Requires-Python'] or ''
  except metadata.PackageNotFoundError:
    bound = ''
  if within(version, bound):
    yield Line(OK, 'Python', f'{version} on {platform.system()} {platform.machine()}')
  else:
    yield Line(
      FAULT, 'Python', f'{version}, and gdlab needs {bound}', 'make the environment with a newer Python'
    )


def versions() -> Iterator[Line]:
  """What is installed against the bounds in the metadata of gdlab, and of jax for jaxlib."""
  try:
    required = metadata.requires('gdlab') or []
  except metadata.PackageNotFoundError:
    yield Line(
      NOTE, 'versions', 'gdlab is not installed, so its bounds are not known', 'pip install --editable .'
    )
    required = []
  with contextlib.suppress(metadata.PackageNotFoundError):
    required += [text for text in metadata.requires('jax') or [] if text.startswith('jaxlib')]
  found = []
  for text in ['gdlab', *required]:
    match = re.match(r'([\w.-]+)\s*(?:\[[^]]*\])?\s*([^;]*)(;.*extra\s*==)?', text)
    if not match or match[3]:
      continue
    name, bound = match[1], match[2].strip(' ()')
    try:
      version = metadata.version(name)
    except metadata.PackageNotFoundError:
      if name != 'gdlab':
        yield Line(
          FAULT,
          name,
          f'is not installed, and {bound or "any version"} is needed',
          f'pip install "{name}{bound}"',
        )
      continue
    if within(version, bound):
      found.append(f'{name} {version}')
    else:
      yield Line(FAULT, name, f'{version}, and {bound} is needed', f'pip install --upgrade "{name}{bound}"')
  yield Line(OK, 'versions', ', '.join(found) or 'none found')


def within(version: str, bound: str) -> bool:
  """Whether a version meets bounds such as '>=3.11,<4', by the numbers that versions begin with."""
  parts = [
    re.fullmatch(r'\s*(>=|<=|==|!=|>|<)\s*([\d.]+)\s*', part) for part in bound.split(',') if part.strip()
  ]
  return all(part is None or COMPARE[part[1]](*_padded(version, part[2])) for part in parts)


def _padded(*versions: str) -> list[tuple[int, ...]]:
  begins = [re.findall(r'^\d+(?:\.\d+)*', text) for text in versions]
  numbers = [[int(part) for text in found for part in text.split('.')] for found in begins]
  longest = max(map(len, numbers))
  return [(*each, *[0] * (longest - len(each))) for each in numbers]


def variables() -> Iterator[Line]:
  """Variables of the environment that change results."""
  given = [name for name in VARIABLES if os.environ.get(name)]
  for name in given:
    yield Line(
      NOTE,
      name,
      f'is {os.environ[name]!r}: results are those of this setting',
      f'unset {name}, if it is not meant',
    )
  if not given:
    yield Line(OK, 'environment', 'no variable is set that changes results')


def disk(name: str, folder: str) -> Iterator[Line]:
  """Whether a folder, or the one that it would be made in, can be written, and what is free there."""
  path = pathlib.Path(folder).expanduser().absolute()
  there = next(each for each in (path, *path.parents) if each.exists())
  if not there.is_dir():
    yield Line(
      FAULT, name, f'{there} is a file where a folder is needed', 'name another folder, or move the file'
    )
    return
  try:
    with tempfile.TemporaryFile(dir=there) as file:
      file.write(bytes(4096))
      file.flush()
  except OSError as error:
    yield Line(
      FAULT, name, f'{there} cannot be written: {error.strerror}', 'free some of it, or name another folder'
    )
    return
  free, stats = shutil.disk_usage(there).free, os.statvfs(there)
  inodes = stats.f_favail if stats.f_files else None
  text = f'{size(free)} free in {there}' + ('' if inodes is None else f', room for {inodes:,} files')
  if free < LEAST_DISK or (inodes is not None and inodes < 100):
    yield Line(FAULT, name, text, 'remove what is no longer needed, or name another disk')
  elif free < LITTLE_DISK:
    yield Line(NOTE, name, text, 'a long study may need more; remove what is no longer needed')
  else:
    yield Line(OK, name, text)


def memory() -> Iterator[Line]:
  """What is free of the host's memory or of the container's, where the system's cache of files counts as free."""
  fields = dict(re.findall(r'^(\w+):\s+(\d+) kB', _text('/proc/meminfo'), re.MULTILINE))
  if 'MemAvailable' not in fields:
    yield Line(NOTE, 'memory', 'this system does not tell what is free')
    return
  free, where = 1024 * int(fields['MemAvailable']), 'on the host'
  for limit, used, stat, cached in (
    (CGROUP / 'memory.max', CGROUP / 'memory.current', CGROUP / 'memory.stat', 'inactive_file'),
    (
      CGROUP / 'memory/memory.limit_in_bytes',
      CGROUP / 'memory/memory.usage_in_bytes',
      CGROUP / 'memory/memory.stat',
      'total_inactive_file',
    ),
  ):
    with contextlib.suppress(OSError, ValueError):  # there is no container, or no limit
      total, taken = int(limit.read_text()), int(used.read_text())
      cache = dict(re.findall(r'^(\w+) (\d+)', _text(stat), re.MULTILINE)).get(cached, '0')
      left = total - taken + int(cache)
      if left < free:
        free, where = left, f"of the container's {size(total)}"
  address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
  if address_space != resource.RLIM_INFINITY:
    text = f'is limited to {size(address_space)} for a process'
    yield Line(NOTE, 'address space', text, 'ulimit -v unlimited, where memory is found to be short')
  text = f'{size(free)} free {where}'
  if free < LEAST_MEMORY:
    yield Line(FAULT, 'memory', text, 'end other processes, or raise the limit of the container')
  elif free < LITTLE_MEMORY:
    yield Line(NOTE, 'memory', text, 'sweeps of large models are run in smaller blocks; end other processes')
  else:
    yield Line(OK, 'memory', text)


def cores() -> Iterator[Line]:
  """The cores that this process may use, and the container's quota of their time."""
  own = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
  quota, _, period = _text(CGROUP / 'cpu.max').partition(' ')
  if quota.isdigit() and int(quota) < own * int(period):
    text = f'{own}, of which the container may use {int(quota) / int(period):.1f} at a time'
    yield Line(NOTE, 'cores', text, 'export JAX_NUM_CPU_DEVICES and NPROC as that number, rounded up')
  else:
    yield Line(OK, 'cores', str(own))


def _text(path: str | pathlib.Path) -> str:
  """What is in a file of the system, '' where there is none."""
  try:
    return pathlib.Path(path).read_text(encoding='utf-8', errors='replace')
  except OSError:
    return ''
