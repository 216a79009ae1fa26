"""Settings of the machine that have to be made before JAX starts: devices, and where compiled programs are kept."""

import os
import pathlib

import jax

from gdlab.errors import InputError

CACHE_BYTES = (
  2**31
)  # of compiled programs kept; the least recently used go first, with the help of 'filelock'


def use_all_cores() -> int:
  """Gives JAX one CPU device per core, so that lanes run side by side. Call it before anything computes.

  Returns:
    The number of cores.

  Raises:
    InputError: if JAX has already started its backend, when it is too late.
  """
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
  try:
    jax.config.update('jax_num_cpu_devices', cores)
  except RuntimeError as error:
    raise InputError('use_all_cores() must be called before JAX computes anything') from error
  return cores


def use_compilation_cache(folder: str | os.PathLike | None = None) -> pathlib.Path:
  """Keeps compiled programs on disk, so that the next process need not compile them again.

  Args:
    folder: where; by default the folder that JAX_COMPILATION_CACHE_DIR names, else `gdlab` in the user's cache
      folder (XDG_CACHE_HOME, else `~/.cache`).

  Returns:
    The folder.

  Raises:
    InputError: if it cannot be written.
  """
  home = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  chosen = folder or os.environ.get('JAX_COMPILATION_CACHE_DIR') or pathlib.Path(home, 'gdlab', 'compiled')
  path = pathlib.Path(chosen).expanduser()
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError(f'folder must be one that can be written, got {path}: {error.strerror}') from error
  jax.config.update('jax_compilation_cache_dir', str(path))
  jax.config.update('jax_compilation_cache_max_size', CACHE_BYTES)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)  # a read costs about a tenth of it
  return path
