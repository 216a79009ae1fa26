"""adaptive_importance: which scores are learned, the probabilities they make, draws of that law, feedback in a run."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from drawing import assert_law, assert_mean, draw, estimates, keys

import gdlab
from gdlab import sampling
from gdlab.core.errors import InputError
from gdlab.core.types import Batch, EstimateInfo
from gdlab.sampling import adaptive_importance, gradient_norm, last_loss
from gdlab.sampling.learned import draw as draw_by_tree

EPS = np.finfo(np.float32).eps


def feedback(losses=None, gradients=None):
  return EstimateInfo(jnp.zeros(()), (), jnp.int32(0), losses, gradients)


def batch_of(*indices, weights=None):
  return Batch(
    jnp.array(indices, jnp.int32), jnp.ones(len(indices)) if weights is None else jnp.array(weights)
  )


def learned(sampler, num_examples, *seen):
  """The state after feedback on batches `(indices, losses)`."""
  state = sampler.init(jax.random.key(0), num_examples)
  for indices, losses in seen:
    state = sampler.update(state, batch_of(*indices), feedback(jnp.array(losses)))
  return state


def law(scores, mixing):
  """The formula of the docstring."""
  shares = scores / scores.sum() if scores.sum() else np.full(len(scores), 1 / len(scores))
  return (1 - mixing) * shares + mixing / len(scores)


def batches(sampler, state, count, num_steps):
  """`count` lanes from one learned state: indices and weights [count, num_steps, B]."""
  started = sampler._replace(init=lambda key, num_examples: state._replace(key=key))
  return draw(started, keys(count, seed=4), len(state.scores), num_steps)


class ScoresTest(parameterized.TestCase):
  def test_only_what_was_drawn_is_updated(self):
    sampler = adaptive_importance(2, last_loss)
    state = learned(sampler, 5, ((1, 3), (0.5, 2.0)), ((3, 4), (7.0, 1.0)))
    np.testing.assert_array_equal(state.scores, [0, 0.5, 0, 7, 1])
    np.testing.assert_array_equal(state.seen, [False, True, False, True, True])

  def test_repeats_count_with_their_mean_and_padding_not_at_all(self):
    sampler = adaptive_importance(4, last_loss)
    state = sampler.init(jax.random.key(0), 4)
    batch = batch_of(2, 2, 0, 1, weights=[0.25, 0.25, 0.25, 0.0])
    state = sampler.update(state, batch, feedback(jnp.array([1.0, 2.0, 5.0, 9.0])))
    np.testing.assert_array_equal(state.scores, [5, 0, 1.5, 0])
    np.testing.assert_array_equal(state.seen, [True, False, True, False])

  def test_decay_blends_from_the_second_time_on(self):
    state = learned(adaptive_importance(1, last_loss, decay=0.75), 2, ((1,), (8.0,)), ((1,), (4.0,)))
    np.testing.assert_array_equal(state.scores, [0, 0.75 * 8 + 0.25 * 4])

  @parameterized.parameters(np.nan, np.inf, -np.inf)
  def test_a_score_that_is_not_finite_leaves_the_old_one(self, bad):
    state = learned(adaptive_importance(2, last_loss), 3, ((0, 1), (3.0, 4.0)), ((1, 2), (bad, 5.0)))
    if bad == -np.inf:  # below 0 counts as 0, however far below
      np.testing.assert_array_equal(state.scores, [3, 0, 5])
    else:
      np.testing.assert_array_equal(state.scores, [3, 4, 5])

  def test_gradient_norms_are_over_all_leaves_and_need_no_finer_type(self):
    rng = np.random.default_rng(0)
    leaves = {'a': rng.normal(size=(4, 2, 3)), 'b': rng.normal(size=4), 'c': np.zeros((4, 0))}
    expected = np.sqrt((leaves['a'] ** 2).sum((1, 2)) + leaves['b'] ** 2)
    found = gradient_norm(feedback(gradients=jax.tree.map(jnp.asarray, leaves)))
    np.testing.assert_allclose(found, expected, rtol=8 * EPS)  # 7 squares, their sum, a root
    half = gradient_norm(feedback(gradients=jnp.full((2, 3), 300.0, jnp.bfloat16)))
    self.assertEqual(half.dtype, jnp.float32)
    np.testing.assert_allclose(half, 300 * np.sqrt(3), rtol=4 * EPS)


class ProbabilitiesTest(parameterized.TestCase):
  def test_before_anything_is_known_draws_are_uniform(self):
    indices, weights = draw(adaptive_importance(3, last_loss), keys(50), 7, 40)
    assert_law(indices, np.ones(7))
    np.testing.assert_allclose(weights, 1 / 3, rtol=8 * EPS)

  @parameterized.parameters(0.05, 0.5, 1.0)
  def test_weights_are_those_of_the_formula_and_bounded(self, mixing):
    scores = np.array([0.0, 1e-6, 1.0, 3.0, 400.0])
    sampler = adaptive_importance(5, last_loss, mixing=mixing)
    state = learned(sampler, 5, (range(5), scores))
    indices, weights = batches(sampler, state, 20, 50)
    np.testing.assert_allclose(weights, (1 / (25 * law(scores, mixing)))[indices], rtol=16 * EPS)
    self.assertLessEqual(weights.max(), 1 / (mixing * 5) * (1 + 4 * EPS))

  def test_what_has_not_been_seen_counts_with_the_mean_of_what_has(self):
    sampler = adaptive_importance(2, last_loss, mixing=0.1)
    state = learned(sampler, 4, ((0, 1), (2.0, 6.0)))
    indices, weights = batches(sampler, state, 10, 30)
    expected = law(np.array([2.0, 6.0, 4.0, 4.0]), 0.1)
    np.testing.assert_allclose(weights, (1 / (8 * expected))[indices], rtol=16 * EPS)

  @parameterized.parameters(0.0, 1e38)
  def test_scores_of_nothing_or_near_the_largest_float_are_uniform(self, score):
    sampler = adaptive_importance(6, last_loss)
    _, weights = batches(sampler, learned(sampler, 6, (range(6), [score] * 6)), 3, 5)
    np.testing.assert_allclose(weights, 1 / 6, rtol=8 * EPS)

  def test_draws_have_the_probabilities_and_the_estimate_is_unbiased(self):
    scores = np.array([0.5, 1.0, 3.0, 0.1, 6.0])
    sampler = adaptive_importance(3, last_loss, mixing=0.3)
    indices, weights = batches(
      sampler, learned(sampler, 5, ((0, 1, 2), scores[:3]), ((2, 3, 4), scores[2:])), 60, 50
    )
    assert_law(indices, law(scores, 0.3))
    values = np.random.default_rng(1).normal(size=(5, 2))
    found = estimates(indices, weights, values).reshape(-1, 2)
    for number in range(2):
      assert_mean(found[:, number], values.mean(axis=0)[number])

  @parameterized.parameters(2, 3, 64, 100)
  def test_the_tree_draws_any_number_of_examples(self, num_examples):
    probabilities = np.random.default_rng(2).uniform(0.5, 2, num_examples)
    drawn = draw_by_tree(jax.random.key(1), jnp.asarray(probabilities), 3000)
    self.assertEqual((drawn.shape, drawn.dtype), ((3000,), jnp.int32))
    assert_law(drawn, probabilities)

  def test_the_tree_tells_small_probabilities_apart_beside_a_large_one(self):
    # Beside 1, a running sum in float32 has steps of 6e-8 or more: these would be drawn never, or too often.
    probabilities = np.append(1.0, np.tile([1.5e-8, 4.5e-8], 2**14)).astype(np.float32)
    drawn = np.asarray(draw_by_tree(jax.random.key(0), jnp.asarray(probabilities), 2**20))
    # Their sum is 1e-3: 260 draws of the lighter half are expected and 770 of the heavier.
    assert_law(np.where(drawn == 0, 0, 2 - drawn % 2), [1.0, 2**14 * 1.5e-8, 2**14 * 4.5e-8])


class TracedTest(parameterized.TestCase):
  def test_mixing_and_decay_are_traced_once_and_mapped(self):
    @jax.jit
    @chex.assert_max_traces(n=1)
    def after_feedback(mixing, decay):
      def one(mixing, decay):
        sampler = adaptive_importance(2, last_loss, mixing=mixing, decay=decay)
        state = learned(sampler, 3, ((0, 1), (1.0, 3.0)), ((1, 2), (5.0, 2.0)))
        return sampler.sample(state)[0].weights, sampler.sample(state)[0].indices, state.scores

      return jax.vmap(one)(mixing, decay)

    chex.clear_trace_counter()
    for mixing, decay in (
      (np.array([0.1, 1.0]), np.array([0.0, 0.5])),
      (np.array([0.2, 0.4]), np.array([0.9, 0.1])),
    ):
      weights, indices, scores = after_feedback(jnp.asarray(mixing), jnp.asarray(decay))
      for lane in range(2):
        expected = np.array([1, decay[lane] * 3 + (1 - decay[lane]) * 5, 2])
        np.testing.assert_allclose(scores[lane], expected, rtol=4 * EPS)
        p = law(expected, mixing[lane])
        np.testing.assert_allclose(weights[lane], 1 / (6 * p[indices[lane]]), rtol=16 * EPS)

  @parameterized.parameters(False, True)
  def test_state_keeps_its_types(self, x64):
    with jax.enable_x64(x64):
      sampler = adaptive_importance(2, last_loss, mixing=jnp.float32(0.5), decay=jnp.float32(0.5))
      state = sampler.init(jax.random.key(0), 4)
      batch, after = sampler.sample(state)
      after = sampler.update(after, batch, feedback(jnp.ones(2, jnp.bfloat16)))
      describe = lambda state: [
        (leaf.shape, leaf.dtype, leaf.weak_type) for leaf in state[1:]
      ]  # without the key
      self.assertEqual(describe(after), describe(state))
      self.assertEqual(batch.weights.dtype, jnp.result_type(float))


class RunTest(parameterized.TestCase):
  def problem(self):
    rng = np.random.default_rng(3)
    self.inputs, self.targets = rng.normal(size=(12, 2)), rng.normal(size=12) * np.arange(1, 13)
    return gdlab.problems.linear_regression(self.inputs, self.targets)

  def algorithm(self, score, estimator):
    return gdlab.algorithm(
      sampler=adaptive_importance(4, score, mixing=0.25), optimizer=optax.sgd(0.01), estimator=estimator
    )

  @parameterized.parameters('loss', 'norm')
  def test_scores_are_those_of_the_examples_just_drawn_in_every_lane(self, name):
    problem = self.problem()
    score, estimator = {
      'loss': (last_loss, gdlab.estimators.batch_mean()),
      'norm': (gradient_norm, gdlab.estimators.per_example()),
    }[name]
    descent = self.algorithm(score, estimator)
    states = jax.vmap(lambda key: descent.init(key, problem))(keys(3, seed=6))
    step = jax.jit(jax.vmap(lambda state: descent.step(state, problem)[0]))
    sample = jax.jit(jax.vmap(descent.sampler.sample))
    expected = np.zeros((3, 12))
    for _ in range(6):
      before = np.asarray(states.params, np.float64)
      drawn = np.asarray(sample(states.sampler)[0].indices)
      states = step(states)
      for lane in range(3):
        residuals = self.inputs @ before[lane] - self.targets
        truth = (
          residuals**2 / 2 if name == 'loss' else np.abs(residuals) * np.linalg.norm(self.inputs, axis=1)
        )
        expected[lane, drawn[lane]] = truth[drawn[lane]]
      # Parameters, inputs and targets of size up to 30 in float32, squared: relative to the largest score.
      np.testing.assert_allclose(states.sampler.scores, expected, rtol=1e-4, atol=1e-4)
    self.assertFalse(np.array_equal(expected[0], expected[1]))

  def test_a_run_with_seeds_goes_through(self):
    descent = self.algorithm(last_loss, None)
    data = gdlab.run(self.problem(), descent, num_steps=30, seeds=2)
    self.assertTrue(np.all(np.asarray(data['status'])[..., -1] == 0))


class RefusalTest(parameterized.TestCase):
  @parameterized.product(name=('mixing', 'decay'), value=(-0.1, 1.1, np.nan, np.inf, '0.5', None, True))
  def test_shares_out_of_range(self, name, value):
    with self.assertRaisesRegex(InputError, f'^{name} must be a real number in '):
      adaptive_importance(1, last_loss, **{name: value})

  def test_the_ends_of_the_ranges(self):
    adaptive_importance(1, last_loss, mixing=1, decay=0)
    with self.assertRaisesRegex(InputError, r'^mixing must be a real number in \(0, 1\], got 0'):
      adaptive_importance(1, last_loss, mixing=0.0)
    with self.assertRaisesRegex(InputError, r'^decay must be a real number in \[0, 1\), got 1'):
      adaptive_importance(1, last_loss, decay=1.0)

  def test_a_score_that_is_no_function_or_has_another_shape(self):
    with self.assertRaisesRegex(InputError, '^score must be a function such as .*, got '):
      adaptive_importance(1, 'loss')
    sampler = adaptive_importance(2, lambda info: info.loss)
    with self.assertRaisesRegex(InputError, r'^score must return one number per slot, \(2,\), got \(\)$'):
      learned(sampler, 3, ((0, 1), (1.0, 2.0)))

  @parameterized.parameters((last_loss, 'losses', 'batch_mean'), (gradient_norm, 'gradients', 'per_example'))
  def test_an_estimator_that_does_not_tell(self, score, what, estimator):
    sampler = adaptive_importance(1, score)
    state = sampler.init(jax.random.key(0), 3)
    with self.assertRaisesRegex(InputError, f'^estimator must .*{what}.*gdlab.estimators.{estimator}'):
      sampler.update(state, batch_of(0), feedback())


def test_the_scores_are_exported():
  assert {'last_loss', 'gradient_norm'} <= set(sampling.__all__)
