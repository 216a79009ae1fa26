"""`gdlab.run`: what the dataset holds, against a plain Python loop over the algorithm and counts by hand."""

import jax
import numpy as np
import optax
import xarray as xr
from absl.testing import parameterized
from tiny_runs import EVALUATED, NUM_STEPS, STEPS, N, algorithm, plain_loop, problem, run, same, standard_run

import gdlab
from gdlab import DIVERGED, RUNNING
from gdlab.training.records import records_factory

METRICS = {'train_loss', 'train_accuracy', 'test_loss', 'test_accuracy'}
DIAGNOSTICS = {'batch_loss', 'grad_norm', 'update_norm', 'param_norm'}
COUNTS = {'status', 'updates', 'examples', 'gradient_evaluations', 'epoch'}


class DatasetTest(parameterized.TestCase):
  def test_dimensions_coordinates_and_variables_are_as_promised(self):
    result = standard_run()
    self.assertIsInstance(result, xr.Dataset)
    self.assertEqual(dict(result.sizes), {'seed': 3, 'step': 7, 'weights_0': 2})
    self.assertEqual(set(result.data_vars), METRICS | DIAGNOSTICS | COUNTS | {'weights'})
    self.assertEqual(set(result.coords), {'seed', 'step', 'init_seed', 'order_seed', 'noise_seed'})
    for name in METRICS | DIAGNOSTICS | COUNTS:
      self.assertEqual(result[name].dims, ('seed', 'step'), name)
    self.assertEqual(result.weights.dims, ('seed', 'step', 'weights_0'))
    for name in METRICS | DIAGNOSTICS | {'weights'}:
      self.assertEqual(result[name].dtype, np.float32, name)
    np.testing.assert_array_equal(result.seed, [0, 1, 2])

  def test_steps_are_the_union_of_records_and_evaluations_with_both_ends(self):
    np.testing.assert_array_equal(standard_run().step, STEPS)

  def test_metrics_and_probes_are_missing_between_evaluations_and_only_there(self):
    for name in METRICS | {'weights'}:
      missing = np.isnan(standard_run()[name].transpose('step', 'seed', ...).values.reshape(7, -1))
      np.testing.assert_array_equal(
        missing, [[not evaluated] * missing.shape[1] for evaluated in EVALUATED], name
      )

  def test_diagnostics_are_missing_at_step_0_and_only_there(self):
    for name in DIAGNOSTICS:
      np.testing.assert_array_equal(np.isnan(standard_run()[name]), [[True] + [False] * 6] * 3, name)

  def test_counts_by_hand(self):
    # Batches of 4, 4 and 3 make an epoch of 11 examples.
    result = standard_run()
    examples = [0, 11, 15, 22, 30, 33, 44]
    for name, expected in {
      'updates': STEPS,
      'examples': examples,
      'gradient_evaluations': examples,
      'epoch': np.array(examples) / N,
      'status': [RUNNING] * 7,
    }.items():
      np.testing.assert_array_equal(result[name], [expected] * 3, name)
    self.assertEqual(result.examples.dtype, np.int64)

  def test_everything_equals_a_plain_loop_over_the_algorithm(self):
    result = standard_run()
    # The same operations compiled otherwise: float32 rounding, over 12 contracting steps.
    close = lambda found, expected: np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    for seed in range(3):
      states, infos = plain_loop(seed)
      for place, step in enumerate(STEPS):
        at = result.isel(seed=seed, step=place)
        if step:
          close(at.batch_loss, infos[step].loss)
          close(at.grad_norm, infos[step].grad_norm)
          close(at.update_norm, infos[step].update_norm)
          close(at.param_norm, infos[step].param_norm)
        if EVALUATED[place]:
          params = jax.tree.map(np.asarray, states[step].params)
          close(at.weights, params['w'])
          for split, (inputs, targets) in {'train': problem().train, 'test': problem().test}.items():
            errors = np.asarray(inputs) @ params['w'] + params['b'] - targets
            close(at[f'{split}_loss'], np.mean(errors**2) / 2)
            close(at[f'{split}_accuracy'], np.mean(np.abs(errors) < 1))

  def test_attributes_say_where_it_came_from(self):
    attributes = standard_run().attrs
    expected = {
      'problem': 'line',
      'num_steps': NUM_STEPS,
      'num_examples': N,
      'plan_lanes_at_once': 1,
      'plan_num_devices': 1,
      'plan_steps_per_call': 6,
      'plan_lanes_per_block': 3,
      'plan_data_parallel': 1,
      'version_jax': jax.__version__,
      'backend': 'cpu',
    }
    self.assertEqual({name: attributes[name] for name in expected}, expected)
    self.assertGreater(attributes['wall_time_s'], 0)
    for name in (
      'version_optax',
      'version_flax',
      'version_gdlab',
      'version_python',
      'device',
      'git_revision',
    ):
      self.assertIsInstance(attributes[name], str)
    self.assertEqual(standard_run().status.attrs['flag_meanings'].split()[DIVERGED], 'diverged')


class ScheduleOfRecordsTest(parameterized.TestCase):
  @parameterized.parameters(
    # num_steps, eval_every, eval_steps, record_every -> steps, evaluated steps
    (1, None, (), None, [0, 1], [0, 1]),
    (3, 100, (), None, [0, 3], [0, 3]),
    (3, 100, (), 2, [0, 2, 3], [0, 3]),
    (5, 2, (), None, [0, 2, 4, 5], [0, 2, 4, 5]),
    (5, 2, (), 3, [0, 2, 3, 4, 5], [0, 2, 4, 5]),
    (9, 6, (2, 6, 7, 0), 4, [0, 2, 4, 6, 7, 8, 9], [0, 2, 6, 7, 9]),
    (3, None, (), None, [0, 1, 2, 3], [0, 1, 2, 3]),
    # About fifty evaluations by default.
    (149, None, (), None, [*range(0, 149, 2), 149], [*range(0, 149, 2), 149]),
  )
  def test_steps_and_evaluations(self, num_steps, eval_every, eval_steps, record_every, steps, evaluated):
    records = records_factory(eval_every, eval_steps, record_every)(num_steps, 1)
    np.testing.assert_array_equal(records.steps, steps)
    np.testing.assert_array_equal(records.steps[records.evaluates], evaluated)

  @parameterized.parameters((1, None, None, [0, 1]), (5, 2, 3, [0, 2, 3, 4, 5]))
  def test_uneven_intervals_make_the_right_updates(self, num_steps, eval_every, record_every, steps):
    result = run(1, num_steps=num_steps, eval_every=eval_every, record_every=record_every)
    np.testing.assert_array_equal(result.step, steps)
    np.testing.assert_array_equal(result.updates[0], steps)
    last = result.weights.isel(seed=0, step=-1)
    expected = plain_loop(0)[0][num_steps].params['w']
    np.testing.assert_allclose(last, expected, rtol=1e-5, atol=1e-5)

  @parameterized.parameters(1, 1000)
  def test_how_often_the_host_looks_changes_nothing(self, steps_per_call):
    # Other calls are other programs, hence rounding.
    result = run(3, plan=gdlab.Plan(1, 1, steps_per_call))
    for name in ('train_loss', 'batch_loss', 'weights'):
      np.testing.assert_allclose(result[name], standard_run()[name], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(result.examples, standard_run().examples)

  def test_the_same_run_again_is_the_same(self):
    self.assertTrue(same(run(3), standard_run()))


class ProgressTest(parameterized.TestCase):
  def test_a_function_sees_growing_counts_that_end_at_the_total(self):
    calls = []
    run(3, progress=lambda done, total: calls.append((done, total)))
    total = 3 * NUM_STEPS
    self.assertGreater(len(calls), 1)
    self.assertEqual({called[1] for called in calls}, {total})
    done = [called[0] for called in calls]
    self.assertEqual(done, sorted(set(done)))
    self.assertGreater(done[0], 0)
    self.assertEqual(done[-1], total)


class ProbesTest(parameterized.TestCase):
  @parameterized.parameters(1, 2)
  def test_a_probe_may_return_a_plain_number(self, lanes_at_once):
    plan = gdlab.Plan(lanes_at_once, 1)
    result = run(3, probes={'seven': lambda problem, state: 7.0, 'two': lambda problem, state: 2}, plan=plan)
    np.testing.assert_array_equal(result.seven.values[:, EVALUATED], 7.0)
    np.testing.assert_array_equal(result.two.values[:, EVALUATED], 2)

  def test_probes_of_other_shapes_in_other_groups_are_refused_before_anything_runs(self):
    def make(batch_size):
      return gdlab.algorithm(sampler=gdlab.sampling.reshuffle(batch_size), optimizer=optax.sgd(0.1))

    def batch(problem, state):
      return make_sizes[state.sampler.order.shape[0]]

    make_sizes = {11: np.zeros(2), 8: np.zeros(3)}
    message = r"^probes must have one shape in all programs, got \{'batch': \(2,\)\} and \{'batch': \(3,\)\}$"
    with self.assertRaisesRegex(gdlab.InputError, message):
      gdlab.sweep(
        lambda num_examples: problem(num_examples),
        lambda num_examples: make(4),
        {'num_examples': [11, 8]},
        num_steps=2,
        seeds=1,
        probes={'batch': batch},
        progress=lambda *call: self.fail('something was computed'),
      )


class UnusualProblemTest(parameterized.TestCase):
  def test_a_single_example_and_no_test_set(self):
    one = problem(1, with_test=False)
    descent = gdlab.algorithm(sampler=gdlab.sampling.single(), optimizer=optax.sgd(0.1))
    result = gdlab.run(one, descent, num_steps=3, seeds=1, eval_every=3, progress=False)
    self.assertEqual(set(result.data_vars), (METRICS | DIAGNOSTICS | COUNTS) - {'test_loss', 'test_accuracy'})
    np.testing.assert_array_equal(result.examples, [[0, 3]])
    np.testing.assert_array_equal(result.epoch, [[0, 3]])

  def test_the_default_plan_uses_the_devices_there_are(self):
    result = run(3, plan=None, num_steps=2)
    self.assertEqual(result.attrs['plan_num_devices'], jax.local_device_count())
    self.assertEqual(result.attrs['plan_lanes_at_once'], 1)


def test_counts_beyond_int32_within_one_interval():
  mean = gdlab.estimators.batch_mean()

  def estimate(*args):
    gradient, state, info = mean.estimate(*args)
    return gradient, state, info._replace(gradient_evaluations=np.int32(2**30))

  costly = gdlab.algorithm(
    sampler=gdlab.sampling.sequential(4),
    optimizer=optax.sgd(0.1),
    estimator=gdlab.core.types.Estimator(mean.init, estimate),
  )
  result = gdlab.run(problem(), costly, num_steps=4, seeds=1, eval_every=4, progress=False)
  np.testing.assert_array_equal(result.gradient_evaluations, [[0, 2**32]])


def test_the_algorithm_of_a_run_is_usable_alone():
  # Guards the comparison above: the plain loop itself goes somewhere.
  states, infos = plain_loop(0)
  assert float(infos[12].loss) < float(infos[1].loss)
  assert int(states[12].step) == 12
  assert int(states[12].model_state) == 44  # the examples seen
  assert algorithm().sampler.updates_per_epoch(N) == 3


def test_compiling_is_told_apart_from_running():
  problem = gdlab.problems.quadratic([1.0, 0.1], noise=0.1)
  algorithm = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(4), optimizer=optax.sgd(0.1))
  first, again = (gdlab.run(problem, algorithm, num_steps=7, seeds=2).attrs for _ in range(2))
  assert first['compile_time_s'] > 0
  assert again['compile_time_s'] == 0
