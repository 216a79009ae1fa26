"""What `run` and `sweep` refuse: at once, on one line that names the argument and the value."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from tiny_runs import algorithm, init, loss, metrics, problem, sgd, stream_sgd

import gdlab
from gdlab.core.errors import InputError
from gdlab.core.types import Problem


def never(*args):
  raise AssertionError('something was computed before the refusal')


# Its functions cannot be called: what is refused in time never gets there.
UNTOUCHED = Problem(never, never, never, 'untouched', problem().train)


def run(problem=UNTOUCHED, algorithm=None, **options):
  algorithm = sgd(0.1) if algorithm is None else algorithm
  return gdlab.run(problem, algorithm, **({'num_steps': 2, 'seeds': 1, 'progress': False} | options))


def sweep(grid, make=stream_sgd, problem=UNTOUCHED, **options):
  return gdlab.sweep(problem, make, grid, **({'num_steps': 2, 'seeds': 1, 'progress': False} | options))


class RefusalTest(parameterized.TestCase):
  def refused(self, message, function, *args, **options):
    with self.assertRaisesRegex(InputError, message) as caught:
      function(*args, **options)
    self.assertNotIn('\n', str(caught.exception))

  @parameterized.product(
    name=('num_steps', 'eval_every', 'record_every'),
    value=(0, -1, 2.0, True, '2', np.float32(2), (np.array([1, 2]),)),
  )
  def test_counts(self, name, value):
    value = value[0] if isinstance(value, tuple) else value
    self.refused(rf'^{name} must be a whole number >= 1, got ', run, **{name: value})

  def test_num_steps_and_seeds_must_be_given(self):
    self.refused('^num_steps must be a whole number >= 1, got None', run, num_steps=None)
    self.refused('^seeds must hold at least one seed id', run, seeds=[])
    self.refused('^seeds must be a whole number >= 1, got 0', run, seeds=0)

  def test_plan(self):
    self.refused('^plan must be a gdlab.Plan or None', run, plan=4)
    self.refused(
      r'^plan.num_devices must be a whole number in \[1, 4\], got 9', run, plan=gdlab.Plan(num_devices=9)
    )

  def test_arguments_the_wrong_way_round(self):
    self.refused(
      r'^algorithm must come from gdlab.algorithm\(...\), got Problem', run, algorithm(), problem()
    )

  @parameterized.parameters('digits', None, 3)
  def test_a_problem_that_is_none(self, value):
    self.refused(f'^problem must be a gdlab Problem such as .*, got {value!r}$', run, value)

  @parameterized.parameters(
    (
      {'learning_rat': [0.1]},
      "unknown hyperparameter 'learning_rat'; did you mean 'learning_rate'[?] Known: ",
    ),
    ({'learning_rate': []}, r"grid\['learning_rate'\] must hold at least one value, got none$"),
    ({'learning_rate': 0.1}, r"grid\['learning_rate'\] must be a sequence of values, got 0.1$"),
    ({'learning_rate': np.array(0.1)}, r"grid\['learning_rate'\] must be a sequence of values, got array"),
    ({'learning_rate': 'fast'}, r"grid\['learning_rate'\] must be a sequence of values, got 'fast'$"),
    ({'learning_rate': [0.1, 0.1]}, r"grid\['learning_rate'\] must hold distinct values, got \[0.1, 0.1\]$"),
    ({'learning_rate': [0.1, float('nan')]}, r"grid\['learning_rate'\] must hold finite numbers, got nan$"),
    ({'learning_rate': [float('inf')]}, r"grid\['learning_rate'\] must hold finite numbers, got inf$"),
    ({'batch_size': [[1], [2]]}, r"grid\['batch_size'\] must hold .* hashable values, got \[1\]$"),
    ({'batch_size': [0]}, 'batch_size must be a whole number >= 1, got 0$'),
    ({'batch_size': [True]}, 'batch_size must be a whole number >= 1, got True'),
    ({'batch_size': ['4']}, "batch_size must be a whole number >= 1, got '4'"),
  )
  def test_grids(self, grid, message):
    self.refused(f'^{message}', sweep, {'learning_rate': [0.1]} | grid)

  def test_data_without_examples(self):
    empty = dataclasses.replace(problem(), train=jax.tree.map(lambda leaf: leaf[:0], problem().train))
    for sampler in (gdlab.sampling.single(), gdlab.sampling.full_batch(), gdlab.sampling.with_replacement(1)):
      descent = gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(0.1))
      self.refused('^num_examples must be a whole number >= 1, got 0$', run, empty, descent)

  def test_batches_and_slices_above_their_limits(self):
    self.refused(r'^batch_size must be .* \[1, 11\] .*, got 12$', run, problem(), sgd(0.1, batch_size=12))
    sliced = gdlab.algorithm(
      sampler=gdlab.sampling.sequential(4),
      optimizer=optax.sgd(0.1),
      estimator=gdlab.estimators.microbatched(5),
    )
    self.refused(r'^size must be .* \[1, 4\] .*, got 5$', run, problem(), sliced)

  def test_a_factory_that_makes_no_problem(self):
    self.refused(
      '^problem must be a gdlab Problem', sweep, {'learning_rate': [0.1], 'n': [1]}, problem=lambda n: None
    )


class WelcomeTest(parameterized.TestCase):
  """Forms of arguments that are as good as the usual ones."""

  def test_grids_of_numpy_jax_and_generators(self):
    expected = [0.125, 0.25]
    for values in (expected, tuple(expected), np.array(expected), np.float32(expected), iter(expected)):
      result = sweep({'learning_rate': values}, make=stream_sgd, problem=problem(), plan=gdlab.Plan(1, 1))
      np.testing.assert_array_equal(result.learning_rate, expected)

  def test_numpy_integers_for_counts(self):
    result = run(problem(), num_steps=np.int64(2), eval_every=np.int32(1), seeds=np.int64(1))
    np.testing.assert_array_equal(result.step, [0, 1, 2])

  def test_factories_of_any_form(self):
    class Maker:
      def __call__(self, learning_rate):
        return stream_sgd(learning_rate)

    for make in (Maker(), functools.partial(stream_sgd, batch_size=11)):
      result = sweep({'learning_rate': [0.1]}, make=make, problem=problem(), plan=gdlab.Plan(1, 1))
      self.assertTrue(np.isfinite(result.train_loss).all())


def test_every_group_is_checked_before_the_first_is_run():
  calls = []
  with pytest.raises(InputError, match='got 1000'):
    sweep(
      {'learning_rate': [0.1], 'batch_size': [4, 1000]},
      problem=problem(),
      plan=gdlab.Plan(1, 1),
      progress=lambda *call: calls.append(call),
    )
  assert calls == []


@pytest.mark.parametrize(
  ('grid', 'make'),
  [
    ({'batch_size': [4]}, stream_sgd),  # a hyperparameter without default or values
    ({'learning_rate': [0.1]}, sgd(0.1)),  # an algorithm in place of what makes one
    ({'learning_rate': [0.1]}, optax.sgd),  # what makes an optimizer, not an algorithm
  ],
)
def test_factories_that_do_not_fit_are_refused(grid, make):
  with pytest.raises(InputError):
    sweep(grid, make=make, problem=problem())


@pytest.mark.parametrize('grid', [7, [('learning_rate', [0.1])]])
def test_a_grid_that_is_no_mapping_is_refused(grid):
  with pytest.raises(InputError, match='grid must be a mapping'):
    sweep(grid)


@pytest.mark.parametrize('name', ['seed', 'step', 'status', 'init_seed', 'train_loss'])
def test_hyperparameters_named_like_the_results_own_are_refused(name):
  make = lambda **given: stream_sgd(given[name])
  with pytest.raises(InputError, match=name):
    sweep({name: [0.1]}, make=make, problem=problem(), plan=gdlab.Plan(1, 1))


@pytest.mark.parametrize('name', ['train_loss', 'status', 'examples', 'seed'])
def test_probes_named_like_the_results_own_are_refused(name):
  with pytest.raises(InputError, match=name):
    run(problem(), stream_sgd(0.1), probes={name: lambda problem, state: 7.0}, plan=gdlab.Plan(1, 1))


def test_the_untouched_problem_is_really_untouchable():
  # Guards the refusals above.
  with pytest.raises(AssertionError, match='something was computed'):
    run()
  assert Problem(init, loss, metrics, 'line', problem().train).num_examples == 11


# Known faults; each is in the tester's report.


def test_a_grid_may_be_a_jax_array():
  result = sweep({'learning_rate': jnp.array([0.125, 0.25])}, make=stream_sgd, problem=problem())
  np.testing.assert_array_equal(result.learning_rate, [0.125, 0.25])


@pytest.mark.parametrize('order', [[True, False], [False, True]])
def test_groups_with_different_metrics_are_refused_or_filled(order):
  result = sweep(
    {'learning_rate': [0.1], 'with_test': order},
    make=stream_sgd,
    problem=lambda with_test: problem(with_test=with_test),
    plan=gdlab.Plan(1, 1),
  )
  assert np.isnan(result.test_loss.sel(with_test=False)).all()
  assert np.isfinite(result.test_loss.sel(with_test=True)).all()
