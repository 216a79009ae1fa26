"""Sweeps: lanes side by side in every layout, divergence, groups, factories, and what is compiled how often."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from tiny_runs import (
  EVAL_EVERY,
  NUM_STEPS,
  assert_close,
  assert_same,
  init,
  loss,
  metrics,
  plain_loop,
  problem,
  sgd,
  standard_run,
  stream_sgd,
  sweep,
)

import gdlab
from gdlab import DIVERGED, RUNNING, Plan
from gdlab.core.types import Problem


@functools.cache
def reference():
  """Five lanes, one at a time on one device."""
  return sweep({'learning_rate': [0.1]}, seeds=5)


class LayoutTest(parameterized.TestCase):
  @parameterized.parameters((1, 4), (2, 1), (3, 2))
  def test_results_do_not_depend_on_the_layout(self, lanes_at_once, num_devices):
    # Five lanes fill none of these evenly: the surplus must be dropped.
    plan = Plan(lanes_at_once, num_devices, 6)
    result = sweep({'learning_rate': [0.1]}, seeds=5, plan=plan)
    assert_close(result, reference())
    self.assertEqual(result.attrs['plan_num_devices'], num_devices)

  def test_a_lane_is_the_same_bit_for_bit_whatever_runs_beside_it(self):
    one, other = sweep({'learning_rate': [0.05, 0.1, 0.2]}), sweep({'learning_rate': [0.1, 0.15, 0.3]})
    assert_same(one.sel(learning_rate=0.1), other.sel(learning_rate=0.1))

  def test_a_lane_is_the_single_run_with_its_hyperparameter(self):
    # There the rate is a constant of the program, here an argument: equal to rounding.
    assert_close(sweep(make=sgd).sel(learning_rate=0.1), standard_run().isel(seed=slice(2)))


@pytest.mark.parametrize('lanes_at_once', [1, 3])
def test_a_lane_that_diverges_is_frozen_and_its_neighbours_do_not_notice(lanes_at_once):
  # Under vmap the lanes also vote on shuffling, and the frozen lane's counter stays behind.
  plan = Plan(lanes_at_once, 1, 6)
  result = sweep({'learning_rate': [0.05, 1e4, 0.2]}, make=sgd, plan=plan)
  beside = sweep({'learning_rate': [0.05, 0.3, 0.2]}, make=sgd, plan=plan)
  assert_same(result.isel(learning_rate=[0, 2]), beside.isel(learning_rate=[0, 2]))
  assert (result.status.isel(learning_rate=[0, 2]) == RUNNING).all()

  diverged = result.isel(learning_rate=1)
  for seed in range(2):
    lane = diverged.isel(seed=seed)
    first = int(np.argmax(lane.status.values == DIVERGED))
    assert 1 < first < 6, 'the rate was chosen to fail in the middle'
    np.testing.assert_array_equal(lane.status, [RUNNING] * first + [DIVERGED] * (7 - first))
    # Counts are those of the last finite record; parameters and metrics those of the last evaluation before.
    for name in ('updates', 'examples', 'gradient_evaluations', 'epoch'):
      np.testing.assert_array_equal(lane[name][first:], [lane[name].values[first - 1]] * (7 - first), name)
    assert lane.updates[first] == lane.step[first - 1]
    assert np.isfinite(lane.param_norm[1:first]).all()
    evaluated = ~np.isnan(result.train_loss.isel(learning_rate=0, seed=0).values)
    assert np.isfinite(lane.weights.values[evaluated]).all()
    after = lane.weights.values[first:][evaluated[first:]]
    np.testing.assert_array_equal(after, np.repeat(after[:1], len(after), axis=0))
    states, _ = plain_loop(seed, learning_rate=1e4)
    kept = max(step for step in lane.step.values[:first] if step % EVAL_EVERY == 0)
    # To the rounding of the last of a few steps, each ten thousand times the one before.
    expected = states[int(kept)].params['w']
    np.testing.assert_allclose(after[-1], expected, rtol=1e-4)
    # What the failed interval ended in is on record once, then nothing.
    assert not np.isfinite(lane.isel(step=first)[['batch_loss', 'param_norm']].to_array()).all()
    assert np.isnan(lane.batch_loss[first + 1 :]).all()


class GroupsTest(parameterized.TestCase):
  def test_every_point_of_a_mixed_grid_is_in_its_place(self):
    grid = {'batch_size': [4, 11], 'learning_rate': [0.05, 0.1, 0.2]}
    result = sweep(grid)
    self.assertEqual(
      dict(result.sizes), {'batch_size': 2, 'learning_rate': 3, 'seed': 2, 'step': 7, 'weights_0': 2}
    )
    self.assertEqual(result.train_loss.dims, ('batch_size', 'learning_rate', 'seed', 'step'))
    np.testing.assert_array_equal(result.batch_size, [4, 11])
    np.testing.assert_array_equal(result.learning_rate, [0.05, 0.1, 0.2])
    assert_same(result.sel(batch_size=4), sweep())
    # With B = N every update sees all 11.
    np.testing.assert_array_equal(result.examples.sel(batch_size=11)[0, 0], 11 * result.step)
    np.testing.assert_array_equal(result.epoch.sel(batch_size=11)[0, 0], result.step)
    # The order of the axes is that of the grid, and only that changes with it.
    turned = sweep(dict(reversed(grid.items())))
    self.assertEqual(turned.train_loss.dims, ('learning_rate', 'batch_size', 'seed', 'step'))
    assert_same(turned.transpose('batch_size', 'learning_rate', ...), result)

  def test_hyperparameters_that_are_not_numbers_shape_programs(self):
    def make(rule, learning_rate):
      optimizer = {'sgd': optax.sgd, 'sign': optax.sign_sgd}[rule](learning_rate)
      return gdlab.algorithm(sampler=gdlab.sampling.sequential(11), optimizer=optimizer)

    result = sweep({'learning_rate': [0.1], 'rule': ['sgd', 'sign']}, make=make, num_steps=2, seeds=1)
    # Sign descent moves each of the three parameters by the rate.
    np.testing.assert_allclose(result.update_norm.sel(rule='sign')[..., 1:], 0.1 * np.sqrt(3), rtol=1e-6)
    self.assertNotAlmostEqual(float(result.update_norm.sel(rule='sgd')[0, 0, -1]), 0.1 * np.sqrt(3), places=3)
    self.assertEqual(list(result.rule.values), ['sgd', 'sign'])

  def test_problems_may_be_made_of_hyperparameters(self):
    def make_problem(num_examples):
      return problem(num_examples)

    grid = {'learning_rate': [0.1, 0.2], 'num_examples': [4, 8]}
    result = gdlab.sweep(make_problem, stream_sgd, grid, num_steps=4, seeds=1, eval_every=4, progress=False)
    self.assertEqual(result.train_loss.dims, ('learning_rate', 'num_examples', 'seed', 'step'))
    np.testing.assert_array_equal(result.epoch[:, :, 0, -1], [[4, 2]] * 2)  # 16 examples drawn
    self.assertNotIn('num_examples', result.attrs)  # there is no one number
    # Each group starts at the loss of its own data.
    with jax.debug_key_reuse(False):
      params, _ = init(gdlab.streams(jax.random.fold_in(jax.random.key(0), 0)).init)
    for place, num_examples in enumerate((4, 8)):
      expected = np.mean(metrics(params, (), problem(num_examples).train)['loss'])
      np.testing.assert_allclose(result.train_loss[:, place, 0, 0], expected, rtol=1e-5)

  def test_progress_counts_all_lanes_of_all_groups(self):
    calls = []
    sweep(
      {'batch_size': [4, 11], 'learning_rate': [0.05, 0.1, 0.2]}, progress=lambda *call: calls.append(call)
    )
    total = 2 * 3 * 2 * NUM_STEPS
    self.assertEqual(calls[-1], (total, total))
    self.assertTrue(all(call[1] == total for call in calls))


class CompilationTest(parameterized.TestCase):
  def test_one_program_for_each_structure_and_none_for_a_second_call(self):
    traces = []

    def counted_loss(*args):
      traces.append(None)
      return loss(*args)

    counted = Problem(init, counted_loss, metrics, 'counted', problem().train)
    gdlab.problems.mixing(counted)  # found out once for a loss, whatever the structure

    def traced_by(grid, seeds):
      before = len(traces)
      gdlab.sweep(counted, stream_like, grid, num_steps=2, seeds=seeds, plan=Plan(1, 1, 2), progress=False)
      return len(traces) - before

    def stream_like(learning_rate, batch_size):
      return gdlab.algorithm(
        sampler=gdlab.sampling.sequential(batch_size), optimizer=optax.sgd(learning_rate)
      )

    once = traced_by({'learning_rate': [0.1, 0.2, 0.3, 0.4], 'batch_size': [4]}, 1)
    self.assertGreater(once, 0)
    # Other values, other seeds, another split of the four lanes between them: the same program.
    self.assertEqual(traced_by({'learning_rate': [0.1, 0.2, 0.3, 0.4], 'batch_size': [4]}, 1), 0)
    self.assertEqual(traced_by({'learning_rate': [0.5, 0.6, 0.7, 0.8], 'batch_size': [4]}, [9]), 0)
    self.assertEqual(traced_by({'learning_rate': [0.5, 0.6], 'batch_size': [4]}, 2), 0)
    # Two more structures, each traced as often as the first and no oftener.
    self.assertEqual(traced_by({'learning_rate': [0.1, 0.2], 'batch_size': [5, 6]}, 2), 2 * once)

  def test_a_second_run_of_an_algorithm_compiles_nothing(self):
    traces = []

    def counted_loss(*args):
      traces.append(None)
      return loss(*args)

    counted = Problem(init, counted_loss, metrics, 'counted', problem().train)
    descent = stream_sgd(0.1)
    options = {'num_steps': 2, 'plan': Plan(1, 1, 2), 'progress': False}
    gdlab.run(counted, descent, seeds=2, **options)
    first = len(traces)
    gdlab.run(counted, descent, seeds=[3, 8], **options)
    # The same shapes of other data: data are arguments, not constants of the program.
    other = Problem(
      init, counted_loss, metrics, 'counted', jax.tree.map(lambda leaf: leaf + 1, problem().train)
    )
    gdlab.run(other, descent, seeds=2, **options)
    self.assertGreater(first, 0)
    self.assertLen(traces, first)


class ParametersTest(parameterized.TestCase):
  """Parameters of unusual form."""

  def result(self, params, seeds=1):
    def loss(params, model_state, examples, mask, key):
      return (examples @ params['w'].astype(examples.dtype)) ** 2, model_state

    shaped = Problem(
      lambda key: (params, ()),
      loss,
      lambda p, s, x: {'loss': loss(p, s, x, None, None)[0]},
      'form',
      jnp.ones((5, 3)),
    )
    descent = gdlab.algorithm(sampler=gdlab.sampling.sequential(2), optimizer=optax.sgd(0.125))
    return gdlab.run(shaped, descent, num_steps=1, seeds=seeds, progress=False)

  def test_empty_leaves(self):
    params = {'w': jnp.ones(3), 'empty': jnp.zeros((0, 2)), 'none': None, 'nothing': ()}
    result = self.result(params)
    # w = 1 - (1/8) 2 (1 + 1 + 1) = 1/4 in all three
    np.testing.assert_allclose(result.param_norm[0, 1], np.sqrt(3) / 4, rtol=1e-6)

  def test_float16_parameters(self):
    result = self.result({'w': jnp.ones(3, jnp.float16)})
    np.testing.assert_allclose(result.param_norm[0, 1], np.sqrt(3) / 4, rtol=1e-3)
    self.assertEqual(result.status[0, 1], RUNNING)

  def test_float16_parameters_whose_squares_overflow_are_finite_all_the_same(self):
    # 600 - (1/8) 2 (3 600) = 150, and 3 * 150^2 > 65504, the largest float16
    result = self.result({'w': jnp.full(3, 600, jnp.float16)})
    np.testing.assert_allclose(result.param_norm[0, 1], 150 * np.sqrt(3), rtol=1e-6)
    self.assertEqual(result.status[0, 1], RUNNING)

  def test_a_model_state_that_is_not_finite_freezes_the_run_too(self):
    def growing(params, model_state, examples, mask, key):
      return loss(params, 0, examples, mask, key)[0], {
        'scale': model_state['scale'] * 1e15,
        'count': mask.sum(),
      }

    start = lambda key: (init(key)[0], {'scale': jnp.float32(1), 'count': jnp.int32(0)})
    fragile = Problem(
      start, growing, lambda p, s, x: {'loss': s['scale'] + 0 * x.targets}, 'scale', problem().train
    )
    result = gdlab.run(fragile, stream_sgd(0.1), num_steps=4, seeds=1, eval_every=1, progress=False)
    # 1e15^3 is beyond float32.
    np.testing.assert_array_equal(result.status, [[RUNNING] * 3 + [DIVERGED] * 2])
    np.testing.assert_allclose(result.train_loss, [[1, 1e15, 1e30, 1e30, 1e30]], rtol=1e-5)

  def test_bfloat16_parameters_move(self):
    result = self.result({'w': jnp.ones(3, jnp.bfloat16)})
    np.testing.assert_allclose(np.asarray(result.param_norm[0, 1], np.float32), np.sqrt(3) / 4, rtol=2**-7)
    self.assertEqual(result.status[0, 1], RUNNING)

  def test_bfloat16_diagnostics_are_missing_at_step_0_and_can_be_saved(self):
    result = self.result({'w': jnp.ones(3, jnp.bfloat16)})
    self.assertTrue(np.isnan(np.asarray(result.param_norm[0, 0], np.float32)))
    for name in result.data_vars:
      self.assertIn(result[name].dtype.kind, 'fiu', name)


def test_unused_argument_of_sgd_is_its_default():
  # Guards `sweep()` against `run()`: both draw batches of 4.
  assert sgd(0.1).sampler.updates_per_epoch(11) == 3
