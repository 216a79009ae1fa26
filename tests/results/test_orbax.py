"""`gdlab.to_orbax`: a plain Orbax restore gives the same bits, and bad input is one line."""

import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import gdlab
from gdlab.core.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parents[2]


def restored(path, *target):
  """What Orbax itself reads, with nothing of ours."""
  import orbax.checkpoint as ocp

  with ocp.StandardCheckpointer() as checkpointer:
    return checkpointer.restore(path, *target)


def assert_same_bits(found, expected):
  paths, others = (jax.tree_util.tree_leaves_with_path(tree) for tree in (found, expected))
  assert [path for path, _ in paths] == [path for path, _ in others]
  for (_, own), (_, other) in zip(paths, others, strict=True):
    own, other = np.asarray(own), np.asarray(other)
    assert (own.dtype, own.shape, own.tobytes()) == (other.dtype, other.shape, other.tobytes())


@pytest.mark.parametrize(
  'dtype', [jnp.float32, jnp.bfloat16, jnp.float16, jnp.int8, jnp.uint32, bool, np.float64]
)
def test_all_bits_come_back(tmp_path, dtype):
  """Of random bits, so NaNs with payloads, infinities and subnormals are among the floats."""
  rng = np.random.default_rng(1)
  if dtype is bool:
    values = rng.integers(0, 2, 4096).astype(bool)
  else:
    values = np.frombuffer(rng.bytes(4096 * np.dtype(dtype).itemsize), dtype).reshape(64, 64)
  tree = {'kernel': values, 'scalar': values.reshape(-1)[7], 'none': (), 'pair': [values[:1], values[1:2]]}
  path = gdlab.to_orbax(tmp_path / 'trained', tree)
  assert_same_bits(restored(path), tree)
  assert restored(path)['kernel'].dtype == dtype


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_kept_parameters_go_out_and_into_their_module(tmp_path, dtype):
  module = nn.Dense(3, param_dtype=dtype)
  data = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32), np.arange(8) % 3
  problem = gdlab.problems.from_linen(module, data, optax.softmax_cross_entropy_with_integer_labels)
  method = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(4), optimizer=optax.sgd(0.1))
  result = gdlab.run(problem, method, num_steps=3, seeds=2, keep='params')
  kept = gdlab.kept_params(problem, result.isel(seed=1))
  assert {leaf.dtype for leaf in jax.tree.leaves(kept)} == {np.dtype(dtype)}
  path = gdlab.to_orbax(str(tmp_path / 'a b' / 'é "x"'), kept)
  assert path.is_absolute()
  # Like a target: with the tuple's kind of node, ready for the module.
  own = restored(path, jax.eval_shape(problem.init, jax.random.key(0)))
  assert_same_bits(own, kept)
  outputs = [module.apply(gdlab.to_flax(problem, *each), data[0]) for each in (own, kept)]
  np.testing.assert_array_equal(*outputs)


def test_keys_go_by_their_data(tmp_path):
  key = jax.random.key(3)
  with pytest.raises(
    InputError, match=r"^tree\['rngs'\] must be an array of numbers, got a typed key; .*key_data"
  ):
    gdlab.to_orbax(tmp_path / 'x', {'rngs': key})
  path = gdlab.to_orbax(tmp_path / 'x', {'rngs': jax.random.key_data(key)})
  assert jax.random.wrap_key_data(restored(path)['rngs']) == key


@pytest.mark.parametrize(
  ('tree', 'message'),
  [
    ((), r'tree must hold at least one array, got \(\)$'),
    ({'a': None}, r'tree must hold at least one array'),
    ({'a': 'text'}, r"tree\['a'\] must be an array or a number, got 'text'$"),
    ({'a': np.zeros((0, 2))}, r"tree\['a'\] must hold at least one number, .*\(0, 2\)$"),
    ([np.array([object()], object)], r'tree\[0\] must be an array of numbers, got one of dtype object$'),
    (np.array(['a']), r'tree must be an array of numbers, got one of dtype <U1$'),
    ({'a': 10**40}, r"tree\['a'\] must be an array of numbers, got one of dtype object$"),
  ],
)
def test_what_is_no_tree_of_numbers_is_one_line(tmp_path, tree, message):
  with pytest.raises(InputError, match=f'^{message}') as caught:
    gdlab.to_orbax(tmp_path / 'x', tree)
  assert '\n' not in str(caught.value)
  assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('path', ['', 3, None, b'x', 'gs://bucket/x', 'a\0b'])
def test_what_is_no_path_is_one_line(path):
  with pytest.raises(
    InputError, match=f'^path must be that of a new folder on this machine, got {re.escape(repr(path))}$'
  ):
    gdlab.to_orbax(path, 1.0)


def test_what_exists_stays(tmp_path):
  (tmp_path / 'file').write_text('mine')
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'link').symlink_to('nowhere')
  for name in ('file', 'folder', 'link'):
    with pytest.raises(
      InputError, match=f'^path must name a new folder, and .*{name} exists; checkpoints are never'
    ):
      gdlab.to_orbax(tmp_path / name, 1.0)
  with pytest.raises(InputError, match=f'^cannot write {tmp_path}/file/x: '):
    gdlab.to_orbax(tmp_path / 'file' / 'x', 1.0)
  assert (tmp_path / 'file').read_text() == 'mine'


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, capfd):
  disk = tmp_path / 'disk'
  disk.mkdir()
  if subprocess.run(
    ['mount', '-t', 'tmpfs', '-o', 'size=256k', 'none', disk], check=False, capture_output=True
  ).returncode:
    pytest.skip('no tmpfs can be mounted here')
  try:
    values = np.random.default_rng(0).normal(size=2**18)  # 2 MB that cannot be compressed
    with pytest.raises(InputError, match=f'^cannot write {disk}/x: .') as caught:
      gdlab.to_orbax(disk / 'x', values)
    assert '\n' not in str(caught.value)
    assert os.listdir(disk) == []
    assert capfd.readouterr() == ('', '')
  finally:
    subprocess.run(['umount', '-l', disk], check=True)


def test_importing_gdlab_does_not_import_orbax():
  code = "import gdlab, sys; gdlab.to_orbax; gdlab.kept_params; assert 'orbax' not in sys.modules"
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=False, capture_output=True, text=True)
  assert (done.returncode, done.stderr) == (0, '')
