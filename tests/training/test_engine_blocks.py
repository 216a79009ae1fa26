"""Blocks and memory, parts of a sweep and their merging, successive halving."""

import os
import subprocess
import sys
import tempfile
import textwrap

import numpy as np
import optax
import pytest
from absl.testing import parameterized
from tiny_runs import NUM_STEPS, OPTIONS, assert_same, problem, run, stream_sgd, sweep

import gdlab
from gdlab import Halving, InputError, Plan
from gdlab.training.programs import Program

GRID = {'learning_rate': [0.05, 0.1, 0.2], 'batch_size': [4, 11]}


class BlocksTest(parameterized.TestCase):
  def test_blocks_change_nothing(self):
    plan = Plan(1, 1, 6, lanes_per_block=5)
    assert_same(sweep(GRID, plan=plan), sweep(GRID))

  def test_progress_counts_every_block_once(self):
    calls = []
    run(5, plan=Plan(1, 1, 6, 2), progress=lambda *call: calls.append(call))
    self.assertEqual(calls[-1], (5 * NUM_STEPS, 5 * NUM_STEPS))
    self.assertEqual(calls, sorted(set(calls)))


# Lanes of a block carry 8 x 2 x 40 MB; with halving all wait in the host's memory, so there has to be room for that.
@pytest.mark.parametrize(('limit', 'halving'), [(520, None), (1000, (2,))])
def test_out_of_memory_halves_the_block_and_changes_nothing(limit, halving):
  # A real shortage: the process may have so many MiB more. Arrays above 32 MiB and a single arena: so malloc gives all
  # of it back, and what is left for small things is sure.
  code = f"""
    import resource, warnings
    import jax, jax.numpy as jnp, numpy as np, optax
    import gdlab
    def init(key): return jnp.ones(10_000_000) * jax.random.uniform(key), ()
    def loss(params, state, x, mask, key): return jnp.mean(params**2) * jnp.ones(len(x)), state
    def metrics(params, state, x): return {{'loss': jnp.mean(params**2) * jnp.ones(len(x))}}
    large = gdlab.Problem(init, loss, metrics, 'large', jnp.ones((4, 1)))
    def descent(rate):
      optimizer = optax.sgd(rate, momentum=0.9)
      return gdlab.algorithm(sampler=gdlab.sampling.sequential(2), optimizer=optimizer)
    halving = {halving} and gdlab.Halving({halving})
    def run(block):
      plan = gdlab.Plan(1, 1, 2, lanes_per_block=block)
      options = dict(num_steps=4, seeds=4, eval_every=2, progress=False, halving=halving, plan=plan)
      return gdlab.sweep(large, descent, {{'rate': [0.1, 0.2]}}, **options)
    small = run(2)
    with open('/proc/self/statm') as file: used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + {limit} * 2**20,) * 2)
    with warnings.catch_warnings(record=True) as warned:
      warnings.simplefilter('always')
      whole = run(8)
    print([str(warning.message) for warning in warned if 'out of memory' in str(warning.message)])
    print(int(whole.attrs['plan_lanes_per_block']))
    print(all(np.array_equal(whole[name], small[name], equal_nan=True) for name in whole))
  """
  answer = subprocess.run(
    [sys.executable, '-c', textwrap.dedent(code)],
    env=os.environ | {'MALLOC_ARENA_MAX': '1'},
    capture_output=True,
    text=True,
    check=False,
  )
  assert answer.returncode == 0, answer.stderr
  said, block, equal = answer.stdout.splitlines()
  assert said.startswith("['out of memory with 8 lanes per block, 1 at once: going on with 4 per block")
  assert int(block) < 8
  assert equal == 'True'


class PartsTest(parameterized.TestCase):
  @parameterized.parameters(2, 5, 9)
  def test_parts_make_up_what_one_process_returns(self, count):
    parts = [sweep(GRID, part=(number, count)) for number in range(count)]
    lanes = np.concatenate([part.lane for part in parts])
    np.testing.assert_array_equal(np.sort(lanes), np.arange(3 * 2 * 2))  # each once
    whole = sweep(GRID)
    merged = gdlab.merge(list(reversed(parts)))
    assert_same(merged, whole)
    self.assertEqual(merged.train_loss.dims, whole.train_loss.dims)
    self.assertEqual(set(merged.coords), set(whole.coords))
    for name in whole.coords:
      np.testing.assert_array_equal(merged[name], whole[name])
    self.assertEqual(set(merged.attrs), set(whole.attrs))

  def test_parts_survive_the_disk(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    for number in range(2):
      gdlab.save(sweep(GRID, part=(number, 2)), f'{folder}/{number}.nc')
    assert_same(gdlab.merge([gdlab.load(f'{folder}/{number}.nc') for number in range(2)]), sweep(GRID))

  def test_parts_of_a_sweep_over_functions_agree_on_their_names(self):
    def make(rule):
      return gdlab.algorithm(sampler=gdlab.sampling.sequential(4), optimizer=rule(0.1))

    part = sweep({'rule': [optax.sgd, optax.sign_sgd]}, make=make, part=(0, 1), num_steps=1, eval_every=1)
    self.assertNotIn('0x', part.attrs['sweep'])
    self.assertEqual([name.split('.')[-1] for name in gdlab.merge([part]).rule.values], ['sgd', 'sign_sgd'])

  def test_all_parts_choose_the_layout_of_the_whole(self):
    # Nine lanes on four devices go three at once, hence four; five of them alone would go two at once.
    parts = [run(9, plan=None, part=(number, 2)) for number in range(2)]
    self.assertEqual([part.attrs['plan_lanes_at_once'] for part in parts], [4, 4])
    assert_same(gdlab.merge(parts), run(9, plan=None))

  def test_what_parts_do_not_agree_on_is_all_kept(self):
    parts = [run(4, plan=Plan(1, 1, 6, block), part=(number, 2)) for number, block in enumerate((1, 2))]
    self.assertEqual(gdlab.merge(parts).attrs['plan_lanes_per_block'], [1, 2])

  def test_a_part_of_a_run(self):
    merged = gdlab.merge([run(3, part=(number, 2)) for number in range(2)])
    assert_same(merged, run(3))

  def test_refusals(self):
    first, second = (sweep(part=(number, 2)) for number in range(2))
    for parts, message in (
      ([], '^parts must hold at least one part of a sweep, got none$'),
      (
        [first],
        '^parts must hold each of the 6 lanes once, got 3 that are missing or repeated, the first is 3$',
      ),
      ([first, second, first], 'got 3 that are missing or repeated, the first is 0$'),
      ([sweep()], r'^parts must be results of sweep\(\.\.\., part=\(i, n\)\), got '),
      ([first, sweep({'learning_rate': [0.1]}, part=(0, 1))], 'differ in sweep$'),
      ([first, sweep(part=(1, 2), eval_every=2)], 'differ in their records$'),
    ):
      with self.assertRaisesRegex(InputError, message):
        gdlab.merge(parts)
    for part in (2, (1,), (0, 0), (2, 2), (-1, 2), (0.0, 2)):
      with self.assertRaisesRegex(InputError, '^part'):
        sweep(part=part)


class HalvingTest(parameterized.TestCase):
  RATES = (1e-6, 1e-3, 0.05, 0.1, 1e9)

  def halved(self, **options):
    grid = {'learning_rate': list(self.RATES), 'batch_size': [4, 11]}
    return sweep(
      grid, halving=Halving(steps=(4, 8), keep=0.3), plan=options.pop('plan', Plan(1, 1, 4)), **options
    )

  @parameterized.parameters((Plan(2, 4, 4),), (Plan(1, 2, 4, lanes_per_block=4),))
  def test_only_the_best_points_go_on_and_nothing_else_changes(self, plan):
    result, whole = (
      self.halved(plan=plan),
      sweep({'learning_rate': list(self.RATES), 'batch_size': [4, 11]}, plan=plan),
    )
    # Rank by hand: the mean loss of the seeds, worst where a run has diverged.
    alive = np.ones((5, 2), bool)
    for step, count in ((4, 3), (8, 1)):
      loss = whole.train_loss.sel(step=step).where(whole.status.sel(step=step) == gdlab.RUNNING, np.inf)
      mean = np.where(alive, loss.mean('seed', skipna=False), np.inf)
      alive &= mean <= np.sort(mean.ravel())[count - 1]
      self.assertEqual(alive.sum(), count)
      after = result.sel(step=slice(step + 1, None))
      at_ranking = result.status.sel(step=step).values[~alive][..., None]
      expected = np.where(at_ranking == gdlab.RUNNING, gdlab.STOPPED, at_ranking)
      self.assertTrue((after.status.values[~alive] == expected).all())
      for name in ('train_loss', 'batch_loss', 'weights'):
        self.assertTrue(np.isnan(after[name].values[~alive]).all(), name)
      self.assertTrue((after.updates.values[~alive] <= step).all())
    assert_same(result.sel(step=slice(0, 4)), whole.sel(step=slice(0, 4)))
    for name in whole.data_vars:
      np.testing.assert_array_equal(result[name].values[alive], whole[name].values[alive], name)
    np.testing.assert_array_equal(result.attrs['halving_steps'], (4, 8))
    self.assertEqual(result.attrs['halving_metric'], 'train_loss')
    self.assertIn('stopped', result.status.attrs['flag_meanings'])

  def test_progress_reaches_the_end(self):
    calls = []
    self.halved(progress=lambda *call: calls.append(call))
    self.assertEqual(*calls[-1])

  def test_a_halved_sweep_can_be_saved(self):
    path = self.enter_context(tempfile.TemporaryDirectory()) + '/halved.nc'
    result = self.halved()
    gdlab.save(result, path)
    assert_same(gdlab.load(path), result)

  def test_a_run_that_diverged_stays_so_when_its_point_is_stopped(self):
    result = self.halved()
    diverged = (result.status == gdlab.DIVERGED).any('step')
    self.assertTrue(diverged.any())
    self.assertTrue((result.status.isel(step=-1).values[diverged.values] == gdlab.DIVERGED).all())

  def test_large_is_good_for_an_accuracy(self):
    for largest, best in ((None, 'max'), (True, 'max'), (False, 'min')):
      halving = Halving(steps=(4,), keep=0.4, metric='train_accuracy', largest=largest)
      result = sweep({'learning_rate': [1e-6, 0.2]}, halving=halving)
      accuracy = result.train_accuracy.sel(step=4).mean('seed')
      survivors = (result.status[:, 0, -1] == gdlab.RUNNING).values
      np.testing.assert_array_equal(survivors, accuracy == getattr(accuracy, best)())

  def test_refusals(self):
    for halving, message in (
      (Halving(()), 'halving.steps must be increasing, at least one'),
      (Halving((8, 4)), 'halving.steps must be increasing'),
      (Halving((NUM_STEPS,)), r'halving.steps must be a whole number in \[1, 11\], got 12'),
      (Halving((4,), keep=1.0), r'halving.keep must be a real number in \(0, 1\), got 1.0'),
      (Halving((4,), largest='loss'), "halving.largest must be True, False or None, got 'loss'"),
      (Halving((4,), metric='train_los'), "halving.metric must be one of .*train_loss.*, got 'train_los'"),
      (Halving((4,), metric='weights'), 'halving.metric must be one number of a run, and weights has axes'),
      ((4, 8), 'halving must be a gdlab.Halving or None'),
    ):
      with self.assertRaisesRegex(InputError, message):
        sweep(halving=halving)
    with self.assertRaisesRegex(InputError, 'part must be None with halving'):
      sweep(halving=Halving((4,)), part=(0, 2))


def test_a_diverged_run_is_put_back_by_64_records_at_most():
  # One evaluation at the end: what is kept is what was there at most 64 records before the failure.
  options = OPTIONS | {'num_steps': 300, 'eval_every': 300, 'record_every': 1, 'plan': Plan(1, 1, 100)}
  result = gdlab.run(problem(), stream_sgd(2.5), seeds=1, **options).isel(seed=0)
  first = int(np.argmax(result.status.values == gdlab.DIVERGED))
  assert first > 64, 'the rate was chosen to fail late'
  kept = (first - 1) // 64 * 64
  before = gdlab.run(problem(), stream_sgd(2.5), seeds=1, **(options | {'eval_steps': [kept]})).isel(seed=0)
  # The same updates compiled for periods of another length. Errors grow as the iterates do, so their share grows by
  # a few roundings in each update; the loss is a square.
  rtol = 2 * 4 * kept * np.finfo(np.float32).eps
  np.testing.assert_allclose(result.train_loss[-1], before.train_loss.sel(step=kept), rtol=rtol)
  assert result.train_loss[-1] > 100 * before.train_loss[0], 'by then it had grown'


@pytest.mark.parametrize(('failing', 'call'), [('start', 1), ('advance', 1), ('advance', 3)])
def test_halving_begins_again_in_smaller_blocks(failing, call, monkeypatch):
  options = {'halving': Halving((4, 8)), 'plan': Plan(1, 2, lanes_per_block=8)}
  expected = sweep({'learning_rate': [0.01, 0.02, 0.05, 0.1]}, **options)
  calls, real = [], getattr(Program, failing)

  def full(self, *arguments):
    calls.append(self.plan.lanes_per_block)
    if len(calls) == call:
      raise RuntimeError('RESOURCE_EXHAUSTED: Out of memory')
    return real(self, *arguments)

  monkeypatch.setattr(Program, failing, full)
  done = []
  with pytest.warns(RuntimeWarning, match='out of memory with 8 lanes per block'):
    found = sweep(
      {'learning_rate': [0.01, 0.02, 0.05, 0.1]}, **options | {'progress': lambda made, _: done.append(made)}
    )
  assert_same(found, expected)
  assert (found.status.isel(step=-1) == gdlab.STOPPED).sum() > 0
  assert max(calls) == 8
  assert calls[-1] == 4
  assert done[-1] == 4 * 2 * 12
