"""Settings of the machine that have to be made before JAX starts: devices, and where compiled programs are kept."""

import os
import pathlib

import jax

from gdlab.core.errors import InputError

# Not to be had for one program alone. The digits at B=1 touch between 1 and 2 MB, the epoch's order included.
SMALL_LOOP = '--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=4000000'
CACHE_BYTES = (
  2**31
)  # of compiled programs in gdlab's own folder; the least recently used go first, by 'filelock'


def use_all_cores() -> int:
  """Gives JAX one CPU device per core, so that lanes run side by side. Call it before anything computes.

  It also lets XLA make one function of every loop that touches less than 4 MB (jaxlib 0.12 does by itself below 1 MB):
  an update of a small problem is up to seven times as fast. An XLA_FLAGS that has such options already is left alone.

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
  flags = os.environ.get('XLA_FLAGS', '')
  if 'xla_backend_extra_options' not in flags:
    os.environ['XLA_FLAGS'] = f'{flags} {SMALL_LOOP}'.strip()
  return cores


def use_compilation_cache(folder: str | os.PathLike | None = None) -> pathlib.Path:
  """Keeps compiled programs on disk, so that the next process need not compile them again.

  Args:
    folder: where; by default the folder that JAX_COMPILATION_CACHE_DIR names, else `gdlab` in the user's cache
      folder (XDG_CACHE_HOME, else `~/.cache`). All but the first is kept below 2 GiB, so only processes that do
      likewise should share it.

  Returns:
    The folder.

  Raises:
    InputError: if it cannot be written.
  """
  shared = None if folder else os.environ.get('JAX_COMPILATION_CACHE_DIR')
  home = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  path = pathlib.Path(folder or shared or pathlib.Path(home, 'gdlab', 'compiled')).expanduser()
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError(f'folder must be one that can be written, got {path}: {error.strerror}') from error
  jax.config.update('jax_compilation_cache_dir', str(path))
  if not shared:
    # With a bound every program needs a time of use: JAX cannot add to a folder in which others, unbounded, wrote none.
    jax.config.update('jax_compilation_cache_max_size', CACHE_BYTES)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)  # a read costs about a tenth of it
  return path
