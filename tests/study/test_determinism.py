"""Same configuration, versions and plan: the same bytes, in another process, from scratch."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import gdlab

HERE = pathlib.Path(__file__).parent
# Attributes of when and how fast, which are no results.
OF_TIME = {'cell_wall_time_s', 'wall_time_s', 'compile_time_s', 'load_average'}


def studied(script: str, workdir: pathlib.Path, *arguments: str) -> pathlib.Path:
  """Runs a study to its end, with nothing compiled before."""
  done = subprocess.run(
    [sys.executable, str(HERE / script), f'--workdir={workdir}', '--nocompilation_cache', *arguments],
    env=os.environ | {'JAX_NUM_CPU_DEVICES': '2'},
    check=False,
    capture_output=True,
    text=True,
    timeout=500,
  )
  assert done.returncode == 0, done.stderr
  return workdir


def different(first: xr.Dataset, second: xr.Dataset) -> list[str]:
  """The names of variables, coordinates among them, and of attributes that are not the same, bit for bit."""
  names = {*first.variables, *second.variables}
  found = [
    str(name)
    for name in names
    if not (name in first.variables and name in second.variables)
    or content(first[name].variable) != content(second[name].variable)
  ]
  attributes = {*first.attrs, *second.attrs} - OF_TIME
  return sorted(found) + sorted(
    f'attribute {name}' for name in attributes if repr(first.attrs.get(name)) != repr(second.attrs.get(name))
  )


def content(variable: xr.Variable) -> tuple:
  values = variable.values
  data = repr(values.tolist()) if values.dtype.hasobject else np.ascontiguousarray(values).tobytes()
  return variable.dims, variable.shape, str(values.dtype), data


def assert_same_studies(first: pathlib.Path, second: pathlib.Path, claims: tuple[str, ...]) -> int:
  """Returns how many variables were compared."""
  files = sorted(path.name for path in (first / 'results').glob('*.nc'))
  assert files
  assert files == sorted(path.name for path in (second / 'results').glob('*.nc'))
  count = 0
  for name in files:
    own, other = (gdlab.load(folder / 'results' / name) for folder in (first, second))
    assert different(own, other) == [], name
    count += len(own.variables)
  for name in claims:
    assert (first / name).read_bytes() == (second / name).read_bytes()
  return count


def test_cells_of_two_processes_are_the_same_bytes(tmp_path):
  first, second = (studied('tiny_study.py', tmp_path / name) for name in ('first', 'second'))
  count = assert_same_studies(first, second, ('claims.json',))
  print(f'variables equal bit for bit: {count}')


@pytest.mark.faults
def test_a_study_of_two_processes_is_the_same_bytes(tmp_path):
  """With a comparison: its search, its graded runs, and what is claimed of them, of a repeat too."""
  first, second = (studied('own_study.py', tmp_path / name) for name in ('first', 'second'))
  count = assert_same_studies(first, second, ('claims.json', 'claims-1.json'))
  print(f'variables equal bit for bit: {count}')


def test_one_bit_is_a_difference():
  own = xr.Dataset(
    {'loss': ('step', np.array([0.1, np.nan], np.float32))}, {'step': [0, 1]}, {'a': 1.0, 'wall_time_s': 1.0}
  )
  assert different(own, own.copy(deep=True).assign_attrs(wall_time_s=2.0)) == []
  for place in range(64):
    other = own.copy(deep=True)
    other.loss.values.view(np.uint32)[place // 32] ^= np.uint32(1 << place % 32)
    assert different(own, other) == ['loss']
  assert different(own, own.assign_attrs(a=2.0)) == ['attribute a']
  assert different(own, own.assign_coords(step=[0, 2])) == ['step']
  assert different(own, own.drop_vars('step')) == ['step']
