"""How every test runs: on four CPU devices, with JAX's strict switches on, and without a display."""

import os
import pathlib
from importlib import metadata

# Most of the suite's time is XLA's, which takes a quarter of it where it does not try hard. By environment, before JAX
# reads it, so that scripts started by a test inherit it; what is set already stays, see CONTRIBUTING.md.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
# The newest jaxlib ends at a flag that it no longer has.
os.environ.setdefault(
  'XLA_FLAGS',
  '--xla_cpu_parallel_codegen_split_count=1'
  + (' --xla_cpu_use_fusion_emitters=false' if metadata.version('jaxlib').startswith('0.10.') else ''),
)
os.environ.setdefault('JAX_TRACEBACK_IN_LOCATIONS_LIMIT', '0')
os.environ.setdefault('JAX_INCLUDE_FULL_TRACEBACKS_IN_LOCATIONS', '0')

import jax
import pytest

import gdlab

# Before any backend starts. Four devices, also on fewer cores, so that sharding over devices is exercised.
jax.config.update('jax_num_cpu_devices', 4)
# float32[3] + float32[2, 3] is nearly always a mistake where a leading axis is the batch's or the lanes'.
jax.config.update('jax_numpy_rank_promotion', 'raise')
# A key consumed twice is a bug in a sampler. Known false alarm: grad of jax.checkpoint outside jit.
jax.config.update('jax_debug_key_reuse', True)

# By environment, so that scripts started by a test inherit it.
os.environ['MPLBACKEND'] = 'Agg'

# Many tests make the same program anew, workers have it from one another, and a second run from the first.
gdlab.use_compilation_cache(pathlib.Path(__file__).parents[1] / '.pytest_cache' / 'programs')
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)


# Long simulations and compilations, for `make slow`: the suite has to end within 15 minutes on two cores.
SLOW_FILES = {
  'test_landscape_runs.py',
  'test_noise_draws.py',
  'test_problem_language_models.py',
  'test_random_landscapes.py',
  'test_simulated_moments.py',
  'test_stationary_search.py',
  'test_throughput.py',
}


# What takes a minute by itself, begun first: so that no worker is left with one while the others have ended.
LONG = ('test_random_', 'test_readme', 'test_variants', 'test_workers', 'test_engine_', 'test_host_steps')


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Marks the tests of slow files, before the marks select, and puts long files first."""
  for item in items:
    if item.path.name in SLOW_FILES:
      item.add_marker(pytest.mark.slow)
  items.sort(key=lambda item: not item.path.name.startswith(LONG))


@pytest.fixture(scope='module', autouse=True)
def room_for_programs():
  """Frees what was compiled before XLA crashes for want of memory mappings: Linux allows a process 65,530.

  Long before: modules share programs, but in a process of gigabytes everything takes twice as long.
  """
  yield
  if memory_mappings() > 8_000:
    jax.clear_caches()


def memory_mappings() -> float:
  """How many this process has; unknown, hence too many, where there is no /proc."""
  try:
    with open('/proc/self/maps') as file:
      return sum(1 for _ in file)
  except OSError:
    return float('inf')


@pytest.fixture
def as_users_compile():
  """With XLA's optimisation on: for promises of bits, which it makes harder to keep."""
  before = jax.config.read('jax_disable_most_optimizations')
  jax.clear_caches()
  jax.config.update('jax_disable_most_optimizations', False)
  yield
  jax.config.update('jax_disable_most_optimizations', before)
  jax.clear_caches()


@pytest.fixture
def x64():
  """Makes float64 JAX's default float type within one test: for comparisons with exact truth."""
  with jax.enable_x64(True):
    yield
