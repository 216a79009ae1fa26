"""Runs that are ended in their midst and go on from a checkpoint: the same bits, whatever carries them."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sent_runs import descent
from tiny_runs import OPTIONS, PLAN, problem, run, same, sgd, standard_run, sweep

import gdlab
from gdlab.core.errors import InputError
from gdlab.host import checkpoints, checksums, files
from gdlab.training import saved
from gdlab.training.programs import Program

ALWAYS = 1e-9  # seconds: a checkpoint after every call


class Killed(Exception):
  """In place of the end of a process."""


def ended_after(updates):
  """A progress that ends all once so many updates are made, of all runs."""

  def show(done, total):
    if done >= updates:
      raise Killed

  return show


def in_pieces(do, folder, total, pieces=3, **options):
  """What `do` returns when it was ended so many times before."""
  for piece in range(1, pieces):
    with pytest.raises(Killed):
      do(checkpoint=folder, checkpoint_every=ALWAYS, progress=ended_after(piece * total // pieces), **options)
  return do(checkpoint=folder, checkpoint_every=ALWAYS, **options)


def test_a_run_goes_on_bit_for_bit(tmp_path):
  made = []
  assert same(in_pieces(lambda **options: run(3, **options), tmp_path, 36), standard_run())
  # What is there is not computed again.
  again = run(
    3, checkpoint=tmp_path, progress=lambda done, total: made.append((done, total)), checkpoint_every=ALWAYS
  )
  assert same(again, standard_run())
  assert made == [(12, 36), (24, 36), (36, 36)]  # a block for each


PLANS = {
  'blocks': gdlab.Plan(1, 2, 4, lanes_per_block=2),
  'under vmap': gdlab.Plan(2, 2, 4),
  'a program per device': gdlab.Plan(1, 2, 4, program_per_device=True),
  'a shared batch': gdlab.Plan(data_parallel=2, steps_per_call=4),
  'steps by the host': gdlab.Plan(1, 2, host_steps=True),
  'steps by the host under vmap': gdlab.Plan(2, 2, host_steps=True),
}


@pytest.mark.parametrize('plan', PLANS.values(), ids=PLANS)
def test_every_layout_goes_on_bit_for_bit(tmp_path, plan, as_users_compile):
  grid = {'learning_rate': [0.05, 0.1, 1e20], 'batch_size': [2, 4]}  # a third of the runs diverge

  def do(**options):
    return sweep(grid, make=sgd, plan=plan, keep='params', **options)

  whole = do()
  assert (whole.status == 1).sum() == 2 * 2 * len(whole.step[whole.step > 0])
  assert same(in_pieces(do, tmp_path, 12 * 12, pieces=5), whole)


def test_a_sweep_with_halving_goes_on_bit_for_bit(tmp_path):
  grid = {'learning_rate': [0.05, 0.1, 0.2, 0.3], 'batch_size': [2, 4]}
  halving = gdlab.Halving((4, 8))

  def do(**options):
    return sweep(grid, halving=halving, **options)

  assert same(in_pieces(do, tmp_path, 12 * 16, pieces=7), do())
  assert same(do(checkpoint=tmp_path), do())


@pytest.mark.parametrize('halving', [None, gdlab.Halving((4, 8))], ids=['', 'halving'])
def test_runs_go_on_after_a_shortage_of_memory(tmp_path, monkeypatch, halving):
  grid, start = {'learning_rate': [0.05, 0.1, 0.2, 0.3]}, Program.start

  def do(**options):
    return sweep(grid, halving=halving, plan=gdlab.Plan(1, 1, 4, lanes_per_block=8), **options)

  def short(self, members):
    if members[0] >= 2 and self.plan.lanes_per_block > 2:  # some lanes are over by then, but for halving
      raise RuntimeError('RESOURCE_EXHAUSTED: Out of memory')
    return start(self, members)

  def checked(**options):
    with warnings.catch_warnings():
      warnings.filterwarnings('ignore', 'out of memory', RuntimeWarning)
      return do(**options)

  whole = do()
  monkeypatch.setattr(Program, 'start', short)
  found = in_pieces(checked, tmp_path, 12 * 8, pieces=6)
  assert same(found, whole)
  assert halving or np.ravel(found.attrs['plan_lanes_per_block']).max() == 2
  assert same(checked(checkpoint=tmp_path), whole)


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_half_precision_and_own_keys_are_kept_to_the_bit(tmp_path, dtype):
  def init(params):
    return optax.EmptyState(), jnp.ones((), jnp.int8), jnp.zeros((3,), bool)

  def update(updates, state, params=None):
    empty, count, flags = state
    return updates, (empty, count + 1, ~flags)

  counting = optax.GradientTransformation(init, update)
  optimizer = optax.chain(optax.add_noise(0.1, 0.5, 7), counting, optax.adam(0.1, mu_dtype=dtype))
  method = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(2), optimizer=optimizer)

  def do(**options):
    return gdlab.run(problem(), method, seeds=2, plan=PLAN, **(OPTIONS | options))

  assert same(in_pieces(do, tmp_path, 24), do())


def test_probes_of_trees_and_other_lengths_go_on(tmp_path):
  def do(**options):
    return gdlab.sweep(
      problem(),
      sgd,
      {'learning_rate': [0.1, 0.2], 'batch_size': [2, 4]},
      seeds=2,
      plan=PLAN,
      **(
        OPTIONS
        | {'num_steps': lambda batch_size: 32 // batch_size, 'probes': {'all': lambda _, state: state.params}}
        | options
      ),
    )

  assert same(in_pieces(do, tmp_path, 4 * 16 + 4 * 8, pieces=4), do())


def test_a_plan_that_was_found_by_trial_is_taken_from_there(tmp_path, monkeypatch):
  from gdlab.training import autotune

  monkeypatch.setattr(autotune, 'lanes_at_once', lambda *arguments: 2)
  begun(tmp_path, plan=None)
  monkeypatch.setattr(autotune, 'lanes_at_once', lambda *arguments: 1)
  assert run(3, checkpoint=tmp_path, plan=None).attrs['plan_lanes_at_once'] == 2


def test_a_checkpoint_is_made_every_so_many_updates(tmp_path, monkeypatch):
  saved = []
  save = checkpoints.Folder.save
  monkeypatch.setattr(
    checkpoints.Folder, 'save', lambda self, own, keep: (saved.append(own.step), save(self, own, keep))[1]
  )
  options = {'num_steps': 40, 'eval_every': 2, 'record_every': 2, 'plan': gdlab.Plan(1, 1, 2)}
  run(1, checkpoint=tmp_path, checkpoint_every={'updates': 10}, **options)
  assert saved == [10, 20, 30, 40]


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_before_it_ends_the_run(tmp_path, number):
  sent = []

  def show(done, total):
    if not sent:
      sent.append(number)
      signal.raise_signal(number)

  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit):
      run(1, checkpoint=tmp_path, progress=show, plan=gdlab.Plan(1, 1, 1))
  finally:
    signal.signal(signal.SIGINT, before)
  [file] = tmp_path.glob('*.npz')
  assert 0 < int(file.stem.rpartition('-')[2]) < 12
  made = []
  assert same(
    run(1, checkpoint=tmp_path, plan=gdlab.Plan(1, 1, 1), progress=lambda done, total: made.append(done)),
    run(1, plan=gdlab.Plan(1, 1, 1)),
  )
  assert made[0] > 0


def test_a_part_of_an_executor_goes_on(tmp_path):
  def do(**options):
    grid = {'learning_rate': [0.1, 0.2]}
    own = gdlab.problems.quadratic([1.0, 0.1], noise=0.3, num_examples=16)
    return gdlab.sweep(own, descent, grid, seeds=2, num_steps=8, progress=False, **options)

  whole = do(plan=PLAN)
  with gdlab.worker_pool(2) as pool:
    assert same(do(plan=PLAN, executor=pool, checkpoint=tmp_path), whole)
  assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {'part-0-of-2', 'part-1-of-2'}
  stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*.npz')}
  with gdlab.worker_pool(2) as pool:
    assert same(do(plan=PLAN, executor=pool, checkpoint=tmp_path), whole)
  assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*.npz')} == stamps


# What is refused.


def begun(folder, **options):
  with pytest.raises(Killed):
    run(3, checkpoint=folder, checkpoint_every=ALWAYS, progress=ended_after(36), **options)


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


def test_what_ran_before_in_a_process_is_nothing_to_it(tmp_path):
  code = """
import sys
import gdlab, jax, optax
problem = gdlab.problems.digits(gdlab.problems.MLP([4]))
def make(rate):
  return gdlab.algorithm(sampler=gdlab.sampling.reshuffle(8), optimizer=optax.sgd(rate))
def sweep(**options):
  return gdlab.sweep(problem, make, {'rate': [0.1]}, seeds=2, eval_every=2, progress=False, **options)
if sys.argv[2] == 'second':
  sweep(num_steps=6)
  gdlab.analysis.sharpness(problem, *problem.init(jax.random.key(0)), jax.random.key(1))
sweep(num_steps=8, checkpoint=sys.argv[1])
"""
  for order in ('first', 'second'):
    command = [sys.executable, '-c', code, str(tmp_path / 'kept'), order]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert answer.returncode == 0, answer.stderr
  assert 'passed over' not in answer.stderr


def test_half_precision_starts_go_on(tmp_path):
  start = {'w': jnp.ones(2, jnp.bfloat16), 'b': jnp.zeros((), jnp.bfloat16)}

  def do(**options):
    return run(1, params=start, **options)

  assert same(in_pieces(do, tmp_path, 12), do())
  with pytest.raises(InputError, match='differs in params'):
    run(1, params=jax.tree.map(lambda leaf: leaf + 1, start), checkpoint=tmp_path)


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
