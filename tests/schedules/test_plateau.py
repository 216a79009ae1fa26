"""reduce_on_plateau: Optax's rule on the same values, by hand where they part, its state inside other optimizers."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

from gdlab import schedules
from gdlab.core.errors import InputError

PARAMS = {'w': jnp.zeros(3), 'b': jnp.zeros(())}


def observed(values, metric='test_loss', **options):
  """Scale and best value after each of the values."""
  state = schedules.reduce_on_plateau(metric=metric, **options).init(PARAMS)

  def step(state, value):
    state = schedules.observe(state, {metric: value, 'train_loss': jnp.nan})
    return state, (state.scale, state.best)

  return jax.lax.scan(step, state, jnp.asarray(values))[1]


def optax_scales(values, **options):
  transformation = optax.contrib.reduce_on_plateau(**options)

  def step(state, value):
    _, state = transformation.update(PARAMS, state, value=value)
    return state, (state.scale, state.best_value)

  return jax.lax.scan(step, transformation.init(PARAMS), jnp.asarray(values))[1]


def losses(kind):
  """60 values of a loss: falling to a floor, noisy, rising, and with holes."""
  rng = np.random.default_rng(3)
  noise = rng.normal(size=60).astype(np.float32)
  falling = np.exp(-np.arange(60, dtype=np.float32) / 10)
  return {
    'floor': np.maximum(falling, 0.2),
    'noisy': falling + 0.1 * np.abs(noise),
    'rising': 1 + np.arange(60, dtype=np.float32),
    'holes': np.where(noise > 0.8, np.nan, falling + 0.3 * np.abs(noise)).astype(np.float32),
  }[kind]


OPTIONS = (
  {},
  {'factor': 0.5, 'patience': 3},
  {'factor': 0.5, 'patience': 3, 'cooldown': 4},
  {'factor': 0.7, 'patience': 2, 'cooldown': 1, 'min_scale': 0.3},
  {'factor': 0.5, 'patience': 1, 'rtol': 0.2},
  {'factor': 0.8, 'patience': 1, 'cooldown': 2},
  {'factor': 0.5, 'patience': 4, 'rtol': 0.0, 'atol': 0.05, 'cooldown': 2},
)


class RuleTest(parameterized.TestCase):
  @parameterized.parameters(*itertools.product(('floor', 'noisy', 'rising', 'holes'), OPTIONS))
  def test_scales_and_best_values_are_those_of_optax(self, kind, options):
    values = losses(kind)
    scales, best = jax.jit(lambda values: observed(values, **options))(values)
    expected_scales, expected_best = jax.jit(lambda values: optax_scales(values, **options))(values)
    np.testing.assert_array_equal(scales, expected_scales)
    np.testing.assert_array_equal(best, expected_best)
    if options:
      self.assertGreater(len(np.unique(scales)), 2, 'the scale was reduced more than once')

  def test_by_hand(self):
    #         first  worse  worse: reduced  cooldown  cooldown  worse  better  worse  worse: reduced
    values = [1.0, 1.0, 1.5, 2.0, 2.0, 3.0, 0.5, 0.6, 0.6]
    scales, best = observed(values, factor=0.25, patience=2, cooldown=2)
    np.testing.assert_array_equal(scales, [1, 1, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.0625])
    np.testing.assert_array_equal(best, [1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5])

  def test_a_negative_best_value_must_be_undercut_too(self):
    # Optax asks for v < 0.9 * best, which -9.5 is for -10.
    scales, best = observed([-10.0, -9.5, -10.5, -11.5], factor=0.5, patience=1, rtol=0.1)
    np.testing.assert_array_equal(scales, [1, 0.5, 0.25, 0.25])
    np.testing.assert_array_equal(best, [-10, -10, -10, -11.5])

  def test_large_is_good_for_an_accuracy_and_where_it_is_said(self):
    values = [0.5, 0.6, 0.4, 0.5, 0.7]
    for options in ({'metric': 'test_accuracy'}, {'metric': 'test_score', 'largest': True}):
      scales, _ = observed(values, factor=0.5, patience=2, **options)
      np.testing.assert_array_equal(scales, [1, 1, 1, 0.5, 0.5])

  def test_no_threshold_at_all(self):
    scales, _ = observed([1.0, 0.999999, 0.999999], factor=0.5, patience=1, rtol=0.0)
    np.testing.assert_array_equal(scales, [1, 1, 0.5])

  def test_infinite_and_missing_values_are_no_improvement(self):
    scales, best = observed([np.inf, np.nan, 1.0, np.nan, np.inf], factor=0.5, patience=2)
    np.testing.assert_array_equal(scales, [1, 0.5, 0.5, 0.5, 0.25])
    np.testing.assert_array_equal(best, [np.inf, np.inf, 1, 1, 1])

  def test_every_number_is_swept_in_one_trace(self):
    values = losses('noisy')
    pairs = {
      'factor': (0.5, 0.25),
      'patience': (2.0, 4.0),
      'min_scale': (0.0, 0.3),
      'cooldown': (0.0, 3.0),
      'rtol': (1e-4, 0.3),
      'atol': (0.0, 0.1),
    }
    defaults = {'factor': 0.5, 'patience': 2, 'cooldown': 1}
    for name, pair in pairs.items():
      chex.clear_trace_counter()

      def swept(numbers, name=name):
        return jax.vmap(lambda one: observed(values, **(defaults | {name: one}))[0])(numbers)

      compiled = jax.jit(chex.assert_max_traces(swept, n=1))
      found = compiled(jnp.array(pair))
      np.testing.assert_array_equal(compiled(jnp.array(pair[::-1])), found[::-1])
      for number, scales in zip(pair, found, strict=True):
        np.testing.assert_array_equal(scales, observed(values, **(defaults | {name: number}))[0], name)
      self.assertFalse(np.array_equal(*found), name)


class UpdateTest(parameterized.TestCase):
  def test_updates_are_scaled_and_keep_their_kind(self):
    transformation = schedules.reduce_on_plateau(0.5, patience=1)
    updates = {
      'half': jnp.array([1.0, 3.0], jnp.bfloat16),
      'nested': (jnp.float32(2.0), [jnp.zeros((0, 3))]),
      'nan': jnp.array([jnp.nan, 1.0]),
    }
    state = transformation.init(updates)
    chex.assert_trees_all_equal(transformation.update(updates, state)[0], updates)
    for value in (1.0, 1.0):
      state = schedules.observe(state, {'test_loss': jnp.float32(value)})
    scaled, after = jax.jit(transformation.update)(updates, state, updates, value=1.0)
    chex.assert_trees_all_equal(scaled, jax.tree.map(lambda leaf: leaf / 2, updates))
    chex.assert_trees_all_equal_shapes_and_dtypes(scaled, updates)
    chex.assert_trees_all_equal(after, state)

  def test_the_state_keeps_its_types(self):
    for x64 in (False, True):
      with jax.enable_x64(x64):
        state = schedules.reduce_on_plateau(0.5, patience=1).init(PARAMS)
        told = schedules.observe(state, {'test_loss': jnp.bfloat16(1)})
        chex.assert_trees_all_equal_shapes_and_dtypes(state, told)
        self.assertEqual(told.scale.dtype, jnp.float64 if x64 else jnp.float32)

  @parameterized.named_parameters(
    ('chain', lambda plateau: optax.chain(optax.adam(0.1), plateau)),
    ('masked', lambda plateau: optax.masked(plateau, {'w': True, 'b': False})),
    ('if_finite', lambda plateau: optax.apply_if_finite(plateau, 3)),
    ('accumulated', lambda plateau: optax.MultiSteps(plateau, 2)),
    ('partition', lambda plateau: optax.partition({'p': plateau, 's': optax.sgd(1.0)}, {'w': 'p', 'b': 's'})),
    (
      'injected',
      lambda plateau: optax.inject_hyperparams(
        lambda learning_rate: optax.chain(plateau, optax.sgd(learning_rate))
      )(0.1),
    ),
  )
  def test_it_is_found_wherever_it_is_and_all_else_is_left_alone(self, wrap):
    optimizer = wrap(schedules.reduce_on_plateau(0.5, patience=1))
    state = optimizer.init(PARAMS)
    told = state
    for value in (1.0, 1.0):
      told = schedules.observe(told, {'test_loss': value})
    self.assertEqual(optax.tree.get(told, 'scale'), 0.5)
    chex.assert_trees_all_equal_shapes_and_dtypes(told, state)
    changed = [new is not old for new, old in zip(jax.tree.leaves(told), jax.tree.leaves(state), strict=True)]
    self.assertEqual(sum(changed), 4)  # scale, best and two counts

    def second_updates(state):
      for _ in range(2):  # accumulation makes every other one
        updates, state = optimizer.update(PARAMS | {'w': jnp.ones(3)}, state, PARAMS)
      return np.asarray(updates['w'])

    self.assertTrue(second_updates(state).all())
    np.testing.assert_array_equal(second_updates(told), second_updates(state) / 2)

  def test_two_of_them_listen_each_for_itself(self):
    optimizer = optax.chain(
      schedules.reduce_on_plateau(0.5, patience=1, metric='train_loss'),
      schedules.reduce_on_plateau(0.25, patience=1, metric='test_loss'),
    )
    state = optimizer.init(PARAMS)
    for _ in range(2):
      state = schedules.observe(state, {'train_loss': 1.0, 'test_loss': 1.0})
    self.assertEqual([float(each.scale) for each in state], [0.5, 0.25])

  def test_a_state_that_does_not_listen_is_the_same_object_by_object(self):
    state = optax.adam(0.1).init(PARAMS)
    told = schedules.observe(state, {})
    self.assertTrue(all(map(lambda new, old: new is old, jax.tree.leaves(told), jax.tree.leaves(state))))

  def test_a_metric_that_is_not_there_is_refused_with_its_neighbour(self):
    state = schedules.reduce_on_plateau(metric='test_los').init(PARAMS)
    with self.assertRaisesRegex(InputError, "^unknown metric 'test_los'; did you mean 'test_loss'?"):
      schedules.observe(state, {'train_loss': 1.0, 'test_loss': 1.0})

  @parameterized.parameters(
    ({'factor': 1.0}, r'^factor must be a real number in \(0, 1\), got 1.0'),
    ({'factor': 0}, r'^factor must be a real number in \(0, 1\), got 0'),
    ({'patience': 0}, r'^patience must be a real number >= 1, got 0'),
    ({'min_scale': 1.5}, r'^min_scale must be a real number in \[0, 1\], got 1.5'),
    ({'cooldown': -1}, r'^cooldown must be a real number >= 0, got -1'),
    ({'rtol': 1.0}, r'^rtol must be a real number in .*, got 1.0'),
    ({'rtol': -0.1}, r'^rtol must be a real number in \[0, .*, got -0.1'),
    ({'atol': -1}, r'^atol must be a real number >= 0, got -1'),
    ({'metric': 3}, r'^metric must be the name of a metric such as test_loss, got 3'),
  )
  def test_bad_arguments_are_refused_by_name(self, options, message):
    with self.assertRaisesRegex(InputError, message):
      schedules.reduce_on_plateau(**options)
