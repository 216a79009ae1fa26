"""Checkpoints that are not of this call, or not what was written: refused by what differs, or passed over."""

import dataclasses
import json
import os
import shutil

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from begun_runs import ALWAYS, begun
from tiny_runs import OPTIONS, PLAN, problem, run, same, sgd, standard_run

import gdlab
from gdlab.core.errors import InputError
from gdlab.host import checksums, files
from gdlab.training import saved


def other_data():
  own = problem()
  return dataclasses.replace(own, train=own.train._replace(inputs=own.train.inputs + 1))


OTHERS = {
  'num_steps': lambda folder: run(3, checkpoint=folder, num_steps=16),
  'records': lambda folder: run(3, checkpoint=folder, eval_every=6),
  'seeds': lambda folder: run(4, checkpoint=folder),
  'probes': lambda folder: run(3, checkpoint=folder, probes={}),
  'keep': lambda folder: run(3, checkpoint=folder, keep='params'),
  'plan': lambda folder: run(3, checkpoint=folder, plan=gdlab.Plan(2, 1, 6)),
  'data': lambda folder: gdlab.run(
    other_data(), sgd(0.1), seeds=3, checkpoint=folder, **(OPTIONS | {'plan': PLAN})
  ),
  'program': lambda folder: gdlab.run(
    problem(), sgd(0.10001), seeds=3, checkpoint=folder, **(OPTIONS | {'plan': PLAN})
  ),
  'params': lambda folder: run(
    3, checkpoint=folder, params={'w': jnp.zeros(2, jnp.float32), 'b': jnp.zeros((), jnp.float32)}
  ),
}


@pytest.mark.parametrize('key', OTHERS)
def test_another_experiment_is_refused_by_what_differs(tmp_path, key):
  begun(tmp_path)
  before = sorted(path.name for path in tmp_path.iterdir())
  with pytest.raises(InputError, match=rf'checkpoint must .* differs in .*\b{key}\b') as caught:
    OTHERS[key](tmp_path)
  assert '\n' not in str(caught.value)
  assert sorted(path.name for path in tmp_path.iterdir()) == before
  assert same(run(3, checkpoint=tmp_path), standard_run())


@pytest.mark.parametrize('key', ['version_jax', 'device'])
def test_another_version_or_device_is_refused(tmp_path, monkeypatch, key):
  begun(tmp_path)
  known = saved.provenance()
  monkeypatch.setattr(saved, 'provenance', lambda: known | {key: 'another'})
  with pytest.raises(InputError, match=rf'differs in {key} \(.* there, another here\)'):
    run(3, checkpoint=tmp_path)


def test_another_cpu_is_said(tmp_path, monkeypatch, capfd):
  begun(tmp_path)
  known = saved.provenance()
  monkeypatch.setattr(saved, 'provenance', lambda: known | {'cpu_model': 'another'})
  assert same(run(3, checkpoint=tmp_path), standard_run())
  assert 'begun on another CPU' in capfd.readouterr().err


def test_another_width_or_float_type_is_refused(tmp_path):
  def do(width, dtype, folder):
    model = gdlab.problems.MLP([width])
    own = gdlab.problems.digits(model)
    inputs = own.train.inputs.astype(dtype)
    own = dataclasses.replace(own, train=own.train._replace(inputs=inputs))
    method = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(8), optimizer=optax.sgd(0.1))
    return gdlab.run(own, method, num_steps=4, seeds=1, plan=PLAN, progress=False, checkpoint=folder)

  do(4, np.float32, tmp_path)
  for width, dtype in ((5, np.float32), (4, jnp.bfloat16)):
    with pytest.raises(InputError, match=r'differs in .*program'):
      do(width, dtype, tmp_path)


@pytest.mark.parametrize(
  ('given', 'words'),
  [
    ({'checkpoint': 3}, 'checkpoint must be the path of a folder'),
    ({'checkpoint': ''}, 'checkpoint must be the path of a folder'),
    ({'checkpoint_every': 5}, 'checkpoint_every must be None without checkpoint'),
    ({'checkpoint': 'x', 'checkpoint_every': 0}, 'checkpoint_every must be'),
    ({'checkpoint': 'x', 'checkpoint_every': float('nan')}, 'checkpoint_every must be'),
    ({'checkpoint': 'x', 'checkpoint_every': {'update': 5}}, 'checkpoint_every must be'),
    ({'checkpoint': 'x', 'checkpoint_every': {'updates': 0}}, 'checkpoint_every.*must be'),
  ],
)
def test_what_is_no_folder_or_interval_is_refused(tmp_path, monkeypatch, given, words):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(InputError, match=words):
    run(1, **given)


# Files that are not what was written.


def newest(folder):
  return max(folder.glob('*.npz'))


def truncate(path):
  path.write_bytes(path.read_bytes()[:-100])


def be_a_folder(path):
  path.unlink()
  path.mkdir()


def be_foreign(path):
  np.savez(path, weights=np.zeros(3))


def be_foreign_with_a_sum(path):
  path.unlink()
  with checksums.writing(path) as temporary, open(temporary, 'wb') as file:
    np.savez(file, weights=np.zeros(3))


def lack_an_item(path):
  with np.load(path) as archive:
    arrays = {name: archive[name] for name in archive.files}
  del arrays['array_lanes.0']
  path.unlink()
  with checksums.writing(path) as temporary, open(temporary, 'wb') as file:
    np.savez(file, **arrays)


def hold_a_pickle(path):
  path.unlink()
  with checksums.writing(path) as temporary, open(temporary, 'wb') as file:
    np.savez(file, about=np.asarray([{'a': 1}], object))


DAMAGE = {
  'truncated': truncate,
  'empty': lambda path: path.write_bytes(b''),
  'foreign': be_foreign,
  'foreign, with a sum': be_foreign_with_a_sum,
  'an item is missing': lack_an_item,
  'a pickle': hold_a_pickle,
  'a folder in its place': be_a_folder,
  'a link to nowhere': lambda path: (path.unlink(), path.symlink_to('nowhere')),
  'gone': lambda path: path.unlink(),
  'no list of sums': lambda path: (path.parent / checksums.SUMS).unlink(),
  'a garbled list of sums': lambda path: (path.parent / checksums.SUMS).write_bytes(b'\xff\x00' * 99),
}


@pytest.mark.parametrize('damage', DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_passed_over(tmp_path, capfd, damage):
  begun(tmp_path)
  name = newest(tmp_path).name
  assert len([*tmp_path.glob('lane-0000002-*.npz')]) == 2
  damage(newest(tmp_path))
  assert same(run(3, checkpoint=tmp_path), standard_run())
  said = capfd.readouterr().err
  assert (f'{name} is passed over' in said) == (damage is not DAMAGE['gone'])
  assert 'Traceback' not in said


def test_other_things_in_the_folder_are_left_alone(tmp_path):
  begun(tmp_path)
  (tmp_path / 'notes.txt').write_text('mine')
  (tmp_path / 'lane-0000000-000000000000099').mkdir()  # an empty step folder, as Orbax leaves it
  stale = tmp_path / f'{files.PREFIX}{files._host()}-dead'
  stale.mkdir()
  (stale / 'lane-0000000-000000000000012.npz').write_bytes(b'half of it')
  assert same(run(3, checkpoint=tmp_path), standard_run())
  assert (tmp_path / 'notes.txt').read_text() == 'mine'
  assert not stale.exists()  # the remains of a dead writer


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(InputError, match='checkpoint must be a folder that can be written'):
    run(1, checkpoint=tmp_path / 'file' / 'below')


def test_no_room_for_a_checkpoint_is_a_warning(tmp_path, monkeypatch):
  begun(tmp_path)
  sums = (tmp_path / checksums.SUMS).read_bytes()

  def full(*arguments, **options):
    raise OSError(28, os.strerror(28))

  monkeypatch.setattr(np, 'savez', full)
  with pytest.warns(RuntimeWarning, match='no checkpoint was saved.*No space left on device'):
    assert same(run(3, checkpoint=tmp_path, checkpoint_every=ALWAYS), standard_run())
  assert (tmp_path / checksums.SUMS).read_bytes() == sums


def test_paths_are_as_a_user_writes_them(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.chdir(tmp_path)
  run(1, checkpoint='~/kept')
  assert [*(tmp_path / 'kept').glob('*.npz')]
  with pytest.raises(InputError, match='checkpoint must be a folder that can be written'):
    run(1, checkpoint='a\0b')
  with pytest.raises(InputError, match='checkpoint_every must be'):
    run(1, checkpoint='kept', checkpoint_every=10**400)


def test_parts_and_whole_sweeps_do_not_share_a_folder(tmp_path):
  run(1, checkpoint=tmp_path / 'whole')
  with gdlab.worker_pool(1) as pool, pytest.raises(InputError, match='of one without an executor'):
    run(1, checkpoint=tmp_path / 'whole', executor=pool)
  (tmp_path / 'parts' / 'part-0-of-3').mkdir(parents=True)
  with pytest.raises(InputError, match='differs in executor'):
    run(1, checkpoint=tmp_path / 'parts')


def test_what_is_beside_the_state_says_what_it_is_of(tmp_path):
  begun(tmp_path)
  with np.load(newest(tmp_path), allow_pickle=False) as archive:
    about = json.loads(archive['about'].tobytes())
  assert {'version_jax', 'version_optax', 'device', 'backend', 'seeds', 'num_devices'} <= {
    *about['experiment']
  }
  assert about['plans'] == {'0': [1, 1, 6, 3, 1, 0, 0]}
  assert about['arrays']['records.train_loss'][0] == '<f4'
  shutil.rmtree(tmp_path)
