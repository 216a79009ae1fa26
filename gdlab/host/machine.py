"""Settings of the machine that have to be made before JAX starts: devices, and where compiled programs are kept."""

import os
import pathlib
from typing import Any, NamedTuple

import jax

from gdlab.core.errors import InputError

# What of JAX's configuration a process has to share with another one to compute the same and to use the same cache.
SHARED = (
  'jax_compilation_cache_dir',
  'jax_compilation_cache_max_size',
  'jax_default_matmul_precision',
  'jax_default_prng_impl',
  'jax_enable_x64',
  'jax_num_cpu_devices',
  'jax_persistent_cache_min_compile_time_secs',
  'jax_threefry_partitionable',
)

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
  cores = len(own_cores())
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


class Settings(NamedTuple):
  """What a process has to share with another one to compute the same, bit for bit.

  Attributes:
    config: name -> value, of JAX's configuration.
    environment: name -> value. NPROC is the number of XLA's threads: a product that they share is summed in parts.
  """

  config: dict[str, Any]
  environment: dict[str, str]


def settings(*further: str) -> Settings:
  """Those of this process, with further ones of JAX's configuration."""
  config = {name: getattr(jax.config, name) for name in (*SHARED, *further)}
  threads = max(len(own_cores()), config['jax_num_cpu_devices'])
  environment = {'NPROC': os.environ.get('NPROC') or str(threads)}
  if 'XLA_FLAGS' in os.environ:
    environment['XLA_FLAGS'] = os.environ['XLA_FLAGS']
  return Settings(config, environment)


def adopt(given: Settings) -> None:
  """Makes another process's settings this one's; it goes without a cache where that folder cannot be made.

  Raises:
    InputError: if JAX has already started here, with another number of devices.
  """
  config = dict(given.config)
  os.environ.update(given.environment)
  if config['jax_compilation_cache_dir']:
    try:
      pathlib.Path(config['jax_compilation_cache_dir']).mkdir(parents=True, exist_ok=True)
    except OSError:
      config['jax_compilation_cache_dir'] = None
  for name, value in config.items():
    if getattr(jax.config, name) == value:
      continue
    try:
      jax.config.update(name, value)
    except RuntimeError as error:
      raise InputError(
        f'{name} must be {value}, and this process has started JAX with {getattr(jax.config, name)}'
      ) from error


def own_cores() -> list[int]:
  """The cores that this process may use."""
  return (
    sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else [*range(os.cpu_count() or 1)]
  )
