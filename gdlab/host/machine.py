"""Settings that must be made before JAX starts, and properties of the machine that may change results.

Settings are the devices, deterministic operations, and the folder of compiled programs.
"""

import contextlib
import functools
import importlib
import os
import pathlib
import platform
import re
import tempfile
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

# The first makes XLA choose kernels that sum in a fixed order, by rule and not by timing; the second refuses what has
# no such kernel. Both are of jaxlib 0.10 to 0.12, and older: a flag that jaxlib does not know ends the process.
DETERMINISTIC = ('xla_gpu_deterministic_ops', 'xla_gpu_exclude_nondeterministic_ops')

# Variables of the environment, besides those that JAX's configuration takes over, that may change the bits of results.
VARIABLES = (
  'XLA_FLAGS',
  'LIBTPU_INIT_ARGS',
  'NVIDIA_TF32_OVERRIDE',
  'CUBLAS_WORKSPACE_CONFIG',
  'OMP_NUM_THREADS',
)
# What of JAX's configuration may change them, and by which attribute of a result it is known.
CONFIGURATION = {
  'x64': 'jax_enable_x64',
  'matmul_precision': 'jax_default_matmul_precision',
  'prng_impl': 'jax_default_prng_impl',
  'threefry_partitionable': 'jax_threefry_partitionable',
  'disable_most_optimizations': 'jax_disable_most_optimizations',
}


def use_all_cores() -> int:
  """Gives JAX one CPU device per core, so that lanes run in parallel. Call it before any JAX computation.

  It also lets XLA compile every loop that touches less than 4 MB as one function (jaxlib 0.12 does so below 1 MB by
  default): updates of small problems are up to seven times as fast. If XLA_FLAGS already has such options, they are
  kept.

  Returns:
    The number of cores.

  Raises:
    InputError: if JAX has already started its backend.
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


def deterministic() -> None:
  """Makes results on GPUs bitwise reproducible, at some cost in speed. Call it before any JAX computation.

  It sets flags in XLA_FLAGS, which workers inherit. Results on CPUs are reproducible anyway, for the same numbers of
  devices and threads.

  Raises:
    InputError: if JAX has already started its backend, or XLA_FLAGS says the opposite.
  """
  try:
    # There and back: JAX refuses another number once its backend is there, which no public function tells.
    number = _configured('jax_num_cpu_devices')
    jax.config.update('jax_num_cpu_devices', number + 1)
    jax.config.update('jax_num_cpu_devices', number)
  except RuntimeError as error:
    raise InputError('deterministic() must be called before JAX computes anything') from error
  flags = os.environ.get('XLA_FLAGS', '')
  for name in DETERMINISTIC:
    given = re.search(rf'--{name}\b(?:=(\S*))?', flags)
    if given and not _is_true(given[1]):
      raise InputError(f'XLA_FLAGS must not have {given[0]} where deterministic() is called; take it out')
    if not given:
      flags = f'{flags} --{name}=true'.strip()
  os.environ['XLA_FLAGS'] = flags


def _is_true(value: str | None) -> bool:
  """Whether XLA takes this value of a flag as true; no value means true."""
  return value is None or value.lower() in ('true', '1')


def conditions() -> dict[str, str]:
  """Properties of this machine and of JAX's settings that may change results, as attributes that NetCDF can hold.

  `deterministic` is 'false' on GPUs without the flags of `deterministic()`. `num_threads` is the number of XLA's CPU
  threads, which divide sums. Values that are not set are 'none'. Starts JAX's backend.
  """
  known = {name.lower(): ' '.join(os.environ.get(name, '').split()) for name in VARIABLES}
  known |= {name: str(_configured(option)) for name, option in CONFIGURATION.items()}
  flag = re.search(rf'--{DETERMINISTIC[0]}\b(?:=(\S*))?', known['xla_flags'])
  known |= {
    'num_devices': str(jax.device_count()),
    'num_processes': str(jax.process_count()),
    'num_threads': settings().environment['NPROC'],
    'deterministic': str(jax.default_backend() != 'gpu' or bool(flag and _is_true(flag[1]))),
    'platform_version': ' '.join(jax.devices()[0].client.platform_version.split()),
    'system': f'{platform.system()} {platform.machine()}',
    'cpu_model': cpu_model(),
  }
  return {
    name: value.lower() if value in ('True', 'False', 'None') else value or 'none'
    for name, value in known.items()
  }


def _configured(name: str) -> Any:
  return getattr(jax.config, name) if hasattr(jax.config, name) else jax.config.read(name)


@functools.cache
def cpu_model() -> str:
  """The name of the host's CPU, 'unknown' if the system does not say."""
  try:
    text = pathlib.Path('/proc/cpuinfo').read_text(encoding='utf-8', errors='replace')
  except OSError:
    text = ''
  found = re.search(r'^model name\s*:\s*(.+)$', text, re.MULTILINE)
  return found[1].strip() if found else platform.processor() or 'unknown'


def use_compilation_cache(folder: str | os.PathLike | None = None) -> pathlib.Path:
  """Keeps compiled programs on disk, so that the next process need not compile them again.

  Args:
    folder: the cache folder; by default the one named by JAX_COMPILATION_CACHE_DIR, else `gdlab/compiled` in the user's
      cache folder (XDG_CACHE_HOME, else `~/.cache`). Except for JAX_COMPILATION_CACHE_DIR, its size is limited to
      2 GiB; share it only with processes that limit it too.

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
    with tempfile.TemporaryFile(dir=path) as file:
      file.write(bytes(4096))  # or JAX would warn of a full or read-only disk at every program
      file.flush()
    for entry in path.glob('*-cache'):
      # Of a process that ran out of disk between the two: JAX then fails to add anything. Oldest, so first to go.
      pathlib.Path(f'{str(entry).removesuffix("-cache")}-atime').touch()
  except OSError as error:
    raise InputError(f'folder must be one that can be written, got {path}: {error.strerror}') from error
  _sum_programs()
  jax.config.update('jax_compilation_cache_dir', str(path))
  if not shared:
    # With a bound every program needs a time of use: JAX cannot add to a folder in which others, unbounded, wrote none.
    jax.config.update('jax_compilation_cache_max_size', CACHE_BYTES)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)  # a read costs about a tenth of it
  return path


def _sum_programs() -> None:
  """Makes JAX add a checksum to programs compressed by Zstandard (from Python 3.14 on, or if it is installed).

  Without it a flipped bit is not noticed, and can crash the process that loads the program; zlib always has one. Any
  process can read such programs. Without effect if JAX no longer has these functions.
  """
  with contextlib.suppress(ImportError):
    packing: Any = importlib.import_module('jax._src.compilation_cache')  # there is no public way
    zstd, zstandard = getattr(packing, 'zstd', None), getattr(packing, 'zstandard', None)
    if zstd:
      options = {zstd.CompressionParameter.checksum_flag: 1}
      packing.compress_executable = lambda program: zstd.compress(program, options=options)
    elif zstandard:
      packing.compress_executable = lambda program: zstandard.ZstdCompressor(write_checksum=True).compress(
        program
      )


class Settings(NamedTuple):
  """The settings that two processes must share to get bitwise equal results.

  Attributes:
    config: name -> value, of JAX's configuration.
    environment: name -> value. NPROC is the number of XLA's threads, which divide the sums of a product.
  """

  config: dict[str, Any]
  environment: dict[str, str]


def settings(*further: str) -> Settings:
  """The settings of this process, with further options of JAX's configuration."""
  config = {name: getattr(jax.config, name) for name in (*SHARED, *further)}
  threads = max(len(own_cores()), config['jax_num_cpu_devices'])
  environment = {'NPROC': os.environ.get('NPROC') or str(threads)}
  if 'XLA_FLAGS' in os.environ:
    environment['XLA_FLAGS'] = os.environ['XLA_FLAGS']
  return Settings(config, environment)


def adopt(given: Settings) -> None:
  """Applies another process's settings to this one, without the compilation cache if its folder cannot be created.

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
