"""importance: uniform is with replacement, the alias table's exact law, unbiased, the closed form of its variance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from drawing import assert_law, assert_mean, draw, estimates, keys

from gdlab.core.errors import InputError
from gdlab.sampling import importance, with_replacement
from gdlab.sampling.weighted import alias_table

SKEWED = np.array([0.01, 0.04, 0.05, 0.1, 0.2, 0.6])
RNG = np.random.default_rng(0)
GRADIENTS = RNG.normal(size=(6, 3)) * np.array([[0.1, 0.2, 0.5, 1, 2, 8]]).T


def realised(thresholds, aliases):
  """The probability that a table draws each example, by going through all of its entries."""
  probabilities = np.array(thresholds, np.float64)
  np.add.at(probabilities, aliases, 1 - np.asarray(thresholds, np.float64))
  return probabilities / len(probabilities)


def optimal(gradients):
  norms = np.linalg.norm(gradients, axis=1)
  return norms / norms.sum()


def variance(gradients, probabilities, batch_size):
  """tr Cov of the estimate: that of one draw g_i / (N p_i), over B."""
  second = np.sum(np.sum(gradients**2, axis=1) / probabilities) / len(gradients) ** 2
  return (second - np.sum(gradients.mean(axis=0) ** 2)) / batch_size


@functools.cache
def drawn():
  """Batches [50, 100, 3] of 50 keys."""
  return draw(importance(3, SKEWED), keys(50), 6, 100)


class ReductionTest(parameterized.TestCase):
  @parameterized.parameters((1, 1.0), (7, 0.1), (49, 3e-5), (1000, 1.0))
  def test_equal_probabilities_are_with_replacement_exactly(self, num_examples, level):
    batch_size = min(5, num_examples)
    steps = 3 * (256 // batch_size) + 1  # draws are made in blocks of about 256
    sampler = importance(batch_size, np.full(num_examples, level))
    found = draw(sampler, jax.random.key(3), num_examples, steps)
    for got, expected in zip(
      found, draw(with_replacement(batch_size), jax.random.key(3), num_examples, steps)
    ):
      np.testing.assert_array_equal(got, expected)
    self.assertEqual(sampler.updates_per_epoch(num_examples), -(-num_examples // batch_size))


class LawTest(parameterized.TestCase):
  @parameterized.parameters(1, 2, 5, 300)
  def test_the_table_has_the_law_it_was_made_for(self, num_examples):
    probabilities = np.random.default_rng(num_examples).pareto(1.0, num_examples) + 1e-9
    probabilities /= probabilities.sum()
    thresholds, aliases = alias_table(probabilities * num_examples)
    self.assertTrue(np.all((thresholds > 0) & (thresholds <= 1)))
    # N sums of numbers of size 1, each rounded once or twice.
    np.testing.assert_allclose(
      realised(thresholds, aliases), probabilities, atol=3 * np.finfo(float).eps, rtol=1e-12
    )

  def test_weights_times_probabilities_make_the_estimate_unbiased(self):
    # As the state holds them: E[w l_i] = sum_i P(i) w_i l_i must be l_i / (N B) for each i.
    for x64, eps in ((False, 2.0**-23), (True, 2.0**-51)):
      with jax.enable_x64(x64):
        state = importance(2, 7 * SKEWED).init(jax.random.key(0), 6)
        self.assertEqual(state.weights.dtype, jnp.result_type(float))
        found = realised(state.thresholds, state.aliases)
        # Every entry of the table is rounded once, by eps / 2 of at most 1, and 6 of them at most make one example.
        np.testing.assert_allclose(found, SKEWED, atol=eps)
        np.testing.assert_allclose(state.weights, 1 / (6 * SKEWED * 2), rtol=eps)

  def test_draws_have_the_probabilities(self):
    indices, weights = drawn()
    assert_law(indices, SKEWED)
    np.testing.assert_array_equal(weights, (1 / (18 * SKEWED)).astype(np.float32)[indices])

  def test_a_wrong_law_is_found_out(self):
    indices, _ = drawn()
    with self.assertRaises(AssertionError):
      assert_law(indices, [0.01, 0.04, 0.05, 0.12, 0.18, 0.6])


class VarianceTest(parameterized.TestCase):
  @parameterized.parameters('skewed', 'optimal', 'uniform')
  def test_the_estimate_is_unbiased_with_the_closed_form_of_its_variance(self, name):
    probabilities = {'skewed': SKEWED, 'optimal': optimal(GRADIENTS), 'uniform': np.full(6, 1 / 6)}[name]
    found = estimates(*draw(importance(4, probabilities), keys(60, seed=5), 6, 200), GRADIENTS).reshape(-1, 3)
    mean = GRADIENTS.mean(axis=0)
    for number in range(3):
      assert_mean(found[:, number], mean[number])
    assert_mean(np.sum((found - mean) ** 2, axis=1), variance(GRADIENTS, probabilities, 4))

  def test_probabilities_in_proportion_to_the_norm_are_best(self):
    best = variance(GRADIENTS, optimal(GRADIENTS), 1)
    self.assertLess(best, variance(GRADIENTS, np.full(6, 1 / 6), 1) / 2)
    for seed in range(20):
      other = np.random.default_rng(seed).dirichlet(np.full(6, 5.0)) * 0.2 + optimal(GRADIENTS) * 0.8
      self.assertLess(best, variance(GRADIENTS, other, 1))


class RefusalTest(parameterized.TestCase):
  @parameterized.parameters(
    ([0.5, 0.0, 0.5], 'finite and > 0.* got 0.0 at index 1$'),
    ([0.5, -0.1], 'finite and > 0.* got -0.1 at index 1$'),
    ([np.nan, 1.0], 'finite and > 0.* got nan at index 0$'),
    ([np.inf, 1.0], 'finite and > 0.* got inf at index 0$'),
    ([[0.5, 0.5]], r'shape \[N\] with N >= 1, got \(1, 2\)$'),
    ([], r'shape \[N\] with N >= 1, got \(0,\)$'),
    (0.5, r'shape \[N\] with N >= 1, got \(\)$'),
    (['a', 'b'], r'array of known numbers, got '),
    (None, r'shape'),
  )
  def test_probabilities(self, value, message):
    with self.assertRaisesRegex(InputError, f'^probabilities must .*{message}'):
      importance(1, value)

  @parameterized.parameters(1e-300, 1e-40)
  def test_probabilities_that_the_float_type_cannot_hold(self, least):
    """They would be drawn never, or never weigh a finite number, and the estimate would be biased."""
    sampler = importance(1, [1.0, least])
    with self.assertRaisesRegex(
      InputError, f'^probabilities must be .* float32 .*, got {least:.3g} at index 1$'
    ):
      sampler.init(jax.random.key(0), 2)
    with jax.enable_x64(True):
      sampler.init(jax.random.key(0), 2)
    importance(1, [1.0, 1e-37]).init(jax.random.key(0), 2)

  def test_probabilities_that_are_traced(self):
    with self.assertRaisesRegex(InputError, '^probabilities must be an array of known numbers, got '):
      jax.eval_shape(lambda p: importance(1, p).init(jax.random.key(0), 3), jnp.ones(3))

  def test_another_number_of_probabilities_than_examples(self):
    with self.assertRaisesRegex(InputError, '^probabilities must have .* 7 examples, got 6$'):
      importance(1, SKEWED).init(jax.random.key(0), 7)
