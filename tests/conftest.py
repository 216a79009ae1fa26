"""How every test runs: on four CPU devices, with JAX's strict switches on, and without a display."""

import os

import jax
import pytest

# Before any backend starts. Four devices, also on fewer cores, so that sharding over devices is exercised.
jax.config.update('jax_num_cpu_devices', 4)
# float32[3] + float32[2, 3] is nearly always a mistake where a leading axis is the batch's or the lanes'.
jax.config.update('jax_numpy_rank_promotion', 'raise')
# A key consumed twice is a bug in a sampler. Known false alarm: grad of jax.checkpoint outside jit.
jax.config.update('jax_debug_key_reuse', True)

# By environment, so that scripts started by a test inherit it.
os.environ['MPLBACKEND'] = 'Agg'


@pytest.fixture(scope='module', autouse=True)
def no_programs_of_other_modules():
  """Frees what a module has compiled: thousands of programs use up a process's memory mappings, and XLA crashes."""
  yield
  jax.clear_caches()


@pytest.fixture
def x64():
  """Makes float64 JAX's default float type within one test: for comparisons with exact truth."""
  with jax.enable_x64(True):
    yield
