"""Runs that are ended in their midst and go on from a checkpoint: the same bits, whatever carries them."""

import signal
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from begun_runs import ALWAYS, begun, in_pieces
from sent_runs import descent
from tiny_runs import OPTIONS, PLAN, problem, run, same, sgd, standard_run, sweep

import gdlab
from gdlab.core.errors import InputError
from gdlab.host import checkpoints
from gdlab.training.programs import Program


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
