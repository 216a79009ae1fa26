"""What of the machine may change results: set before JAX starts, and recorded with every result."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

import gdlab
from gdlab.core.errors import InputError
from gdlab.host import machine

ROOT = pathlib.Path(__file__).resolve().parents[1]


def in_a_process(code: str, **environment: str) -> subprocess.CompletedProcess:
  """Runs code in a new process, without what the suite's own environment says of JAX and XLA."""
  own = {name: value for name, value in os.environ.items() if not name.startswith(('JAX_', 'XLA_'))}
  own |= {'PYTHONPATH': str(ROOT)} | environment
  return subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, env=own, check=False, capture_output=True, text=True, timeout=120
  )


RUN = """
import json, sys
import jax, optax
import gdlab
from gdlab.host import machine
{before}
problem = gdlab.problems.quadratic([1.0, 0.5])
method = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(0.1))
result = gdlab.run(problem, method, num_steps=2, seeds=1)
gdlab.save(result, sys.argv[1]) if sys.argv[1:] else None
print(json.dumps(result.attrs, default=str))
"""


def test_deterministic_sets_flags_that_jaxlib_knows():
  """An unknown flag would end the process as the backend starts."""
  done = in_a_process(RUN.format(before='machine.deterministic(); machine.deterministic()'))
  assert done.returncode == 0, done.stderr[-400:]
  attributes = json.loads(done.stdout)
  assert attributes['xla_flags'] == (
    '--xla_gpu_deterministic_ops=true --xla_gpu_exclude_nondeterministic_ops=true'
  )
  assert attributes['deterministic'] == 'true'


def test_deterministic_keeps_other_flags_and_workers_take_them():
  code = """
from gdlab.host import machine
machine.use_all_cores()
machine.deterministic()
print(machine.settings().environment['XLA_FLAGS'])
"""
  done = in_a_process(code, XLA_FLAGS='--xla_gpu_deterministic_ops --xla_cpu_enable_fast_math=false')
  flags = done.stdout.split()
  assert flags == [
    '--xla_gpu_deterministic_ops',
    '--xla_cpu_enable_fast_math=false',
    machine.SMALL_LOOP,
    '--xla_gpu_exclude_nondeterministic_ops=true',
  ], done.stderr


@pytest.mark.parametrize(
  'flag', ['--xla_gpu_deterministic_ops=false', '--xla_gpu_exclude_nondeterministic_ops=0']
)
def test_the_contrary_in_the_environment_is_one_line(flag):
  code = """
import gdlab
from gdlab.host import machine
try:
  machine.deterministic()
except gdlab.InputError as error:
  print(error)
"""
  done = in_a_process(code, XLA_FLAGS=flag)
  assert done.stdout == f'XLA_FLAGS must not have {flag} where deterministic() is called; take it out\n'


def test_deterministic_is_refused_once_jax_has_started():
  jax.devices()
  before = os.environ.get('XLA_FLAGS')
  with pytest.raises(InputError, match=r'^deterministic\(\) must be called before JAX computes anything$'):
    machine.deterministic()
  assert os.environ.get('XLA_FLAGS') == before


def test_results_record_what_could_make_them_differ(tmp_path):
  """As set by the environment, and as read back from a file."""
  given = {
    'XLA_FLAGS': '--xla_cpu_enable_fast_math=false',
    'JAX_ENABLE_X64': '1',
    'JAX_DEFAULT_MATMUL_PRECISION': 'float32',
    'JAX_DEFAULT_PRNG_IMPL': 'rbg',
    'JAX_NUM_CPU_DEVICES': '3',
    'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
    'OMP_NUM_THREADS': '1',
    'NPROC': '5',
  }
  code = RUN.format(before=f'sys.argv[1:] = [{str(tmp_path / "result.nc")!r}]')
  done = in_a_process(code, **given)
  assert done.returncode == 0, done.stderr[-400:]
  attributes = gdlab.load(tmp_path / 'result.nc').attrs
  expected = {
    'xla_flags': '--xla_cpu_enable_fast_math=false',
    'x64': 'true',
    'matmul_precision': 'float32',
    'prng_impl': 'rbg',
    'num_devices': '3',
    'num_threads': '5',
    'omp_num_threads': '1',
    'disable_most_optimizations': 'true',
    'deterministic': 'true',
    'backend': 'cpu',
    'libtpu_init_args': 'none',
  }
  assert {name: attributes[name] for name in expected} == expected
  names = {name for name in attributes if name.startswith('version_')}
  assert {'version_jaxlib', 'version_numpy', 'version_scikit_learn'} <= names
  print(f'conditions recorded: {len(gdlab.provenance())}')


def test_all_that_is_recorded_is_text(monkeypatch):
  monkeypatch.setenv('XLA_FLAGS', '--a=1\n  --b=é')
  found = gdlab.provenance()
  assert {type(value) for value in found.values()} == {str}
  assert '' not in found.values()
  assert found['xla_flags'] == '--a=1 --b=é'
  model = pathlib.Path('/proc/cpuinfo')
  if model.exists() and 'model name' in model.read_text():
    assert found['cpu_model'] in model.read_text()


@pytest.mark.parametrize(
  ('flags', 'backend', 'expected'),
  [
    ('', 'gpu', 'false'),
    ('--xla_gpu_deterministic_ops=false', 'gpu', 'false'),
    ('--xla_gpu_deterministic_ops=true', 'gpu', 'true'),
    ('--xla_gpu_deterministic_ops', 'gpu', 'true'),
    ('', 'cpu', 'true'),
  ],
)
def test_a_gpu_is_deterministic_by_its_flag(monkeypatch, flags, backend, expected):
  monkeypatch.setenv('XLA_FLAGS', flags)
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  assert machine.conditions()['deterministic'] == expected
