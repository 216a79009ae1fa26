"""The machine in the two numbers that matter here, and the versions of what ran on it."""

import pathlib
import platform
import re
import statistics
from importlib import metadata

from experiments.throughput import pool


def describe() -> dict[str, int | None]:
  """The number of cores that may be used, and their clock in MHz (None where the system does not say)."""
  return {'num_cores': len(pool.cores()), 'clock_mhz': _clock()}


def versions() -> dict[str, str]:
  """Versions of Python and of the packages that were compared; '-' for one that is not installed."""
  return {'python': platform.python_version()} | {
    name: _version(name) for name in ('gdlab', 'jax', 'jaxlib', 'optax', 'flax', 'numpy', 'torch')
  }


def _clock() -> int | None:
  try:
    text = pathlib.Path('/proc/cpuinfo').read_text(encoding='utf-8')
  except OSError:
    return None
  clocks = [float(value) for value in re.findall(r'^cpu MHz\s*:\s*([\d.]+)', text, re.MULTILINE)]
  return round(statistics.median(clocks)) if clocks else None


def _version(distribution: str) -> str:
  try:
    return metadata.version(distribution)
  except metadata.PackageNotFoundError:
    return '-'
