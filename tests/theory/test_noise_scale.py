"""Noise scales, trade-offs and linear scaling against direct minimisation and exact moments, in float64."""

import numpy as np
import scipy.optimize
from absl.testing import parameterized

from gdlab import theory
from gdlab.errors import InputError


def matrices():
  generator = np.random.default_rng(0)
  root, other = generator.normal(size=(2, 5, 5))
  return generator.normal(size=5), other @ other.T, root @ root.T + np.eye(5)  # G, Sigma, H


class NoiseScaleTest(parameterized.TestCase):
  @parameterized.parameters(0.5, 8, 1000)
  def test_best_rate_minimises_the_expected_loss_of_a_step(self, batch_size):
    gradient, sigma, hessian = matrices()

    def change(rate):
      """E[f(x - rate g)] - f(x) for g of mean G and covariance Sigma/B, on a quadratic."""
      second = np.outer(gradient, gradient) + sigma / batch_size
      return -rate * gradient @ gradient + rate**2 / 2 * np.trace(hessian @ second)

    largest = theory.largest_useful_rate(gradient, hessian)
    scale = theory.noise_scale(gradient, sigma, hessian)
    found = theory.best_rate(batch_size, largest, scale)
    best = scipy.optimize.minimize_scalar(change, bracket=(0, 2 * largest), tol=1e-12)
    # A parabola's least point is found to the root of eps.
    np.testing.assert_allclose(found, best.x, rtol=1e-6)
    np.testing.assert_allclose(change(found), -found * gradient @ gradient / 2, rtol=1e-12)

  def test_multiples_of_the_identity_are_simple(self):
    gradient, sigma, _ = matrices()
    simple = theory.simple_noise_scale(gradient, sigma)
    np.testing.assert_allclose(theory.noise_scale(gradient, sigma, 3 * np.eye(5)), simple, rtol=1e-13)

  def test_half_the_rate_at_the_noise_scale(self):
    self.assertEqual(theory.best_rate(100.0, 0.5, 100.0), 0.25)

  def test_the_trade_of_steps_and_examples(self):
    fewest_steps, fewest_examples = 300.0, 48_000.0
    sizes = np.geomspace(1, 1e5, 20)
    steps = theory.steps_for_batch(sizes, fewest_steps, fewest_examples)
    examples = theory.examples_for_batch(sizes, fewest_steps, fewest_examples)
    np.testing.assert_allclose(examples, sizes * steps, rtol=1e-14)
    np.testing.assert_allclose((steps / 300 - 1) * (examples / 48_000 - 1), 1, rtol=1e-10)
    np.testing.assert_allclose(theory.examples_for_steps(steps, 300.0, 48_000.0), examples, rtol=1e-9)
    critical = theory.critical_batch_size(fewest_steps, fewest_examples)
    self.assertEqual(critical, 160)
    self.assertEqual(theory.steps_for_batch(critical, fewest_steps, fewest_examples), 600)

  @parameterized.parameters(
    (lambda: theory.noise_scale([0.0, 0.0], np.eye(2), np.eye(2)), 'gradient'),
    (lambda: theory.noise_scale([1.0, 0.0], np.eye(3), np.eye(2)), 'covariance must have shape'),
    (lambda: theory.noise_scale([1.0, 0.0], np.eye(2), -np.eye(2)), 'positive curvature'),
    (lambda: theory.best_rate([1, 0], 1.0, 1.0), 'batch_size'),
    (lambda: theory.examples_for_steps(300, 300.0, 1.0), 'above fewest_steps'),
  )
  def test_refuses(self, call, message):
    with self.assertRaisesRegex(InputError, message):
      call()


class LinearScalingTest(parameterized.TestCase):
  @parameterized.parameters(1.0, 3.0, 12.0)
  def test_changes_are_those_of_the_exact_moments(self, kappa):
    h, rate, batch_size = np.array([1.0, 0.3]), 0.08, 4
    found = theory.linear_scaling_change(kappa, h, learning_rate=rate)
    before = theory.stationary_moments(h, 1.0, learning_rate=rate, batch_size=batch_size).position
    after = theory.stationary_moments(
      h, 1.0, learning_rate=rate * kappa, batch_size=int(batch_size * kappa)
    ).position
    np.testing.assert_allclose(found.variance, after / before - 1, rtol=1e-12, atol=1e-14)
    # The mean over 12 updates of the smaller batch and 12/kappa of the larger, which see the same examples.
    decays = np.log((1 - rate * h) ** 12), np.log((1 - kappa * rate * h) ** (12 / kappa))
    np.testing.assert_allclose(found.decay, decays[1] / decays[0] - 1, rtol=1e-12, atol=1e-14)

  def test_an_unstable_scaling_has_no_variance(self):
    found = theory.linear_scaling_change(30.0, [1.0, 0.01], learning_rate=0.1)
    self.assertEqual(found.variance[0], np.inf)
    self.assertTrue(np.isfinite(found.variance[1]))

  @parameterized.product(rate=(1e-4, 0.05, 0.5), tolerance=(0.01, 0.2, 1.0))
  def test_the_largest_kappa_is_just_within_the_tolerance(self, rate, tolerance):
    h = np.array([0.9, 0.3, 0.01])
    kappa = theory.largest_linear_scaling(h, learning_rate=rate, tolerance=tolerance)
    self.assertGreater(kappa, 1)
    self.assertLess(kappa, theory.largest_stable_rate(0.9) / rate)

    def change(kappa):
      return np.abs(theory.linear_scaling_change(kappa, h, learning_rate=rate)).max()

    self.assertLessEqual(change(kappa * (1 - 1e-6)), tolerance)
    self.assertGreater(change(kappa * (1 + 1e-6)), tolerance)
    # To no smaller kappa is it exceeded.
    within = [change(smaller) for smaller in np.linspace(1, kappa, 200)]
    self.assertLessEqual(max(within), tolerance * (1 + 1e-9))

  @parameterized.parameters(0.01, 0.5)
  def test_the_batch_up_to_which_the_best_rate_is_linear(self, tolerance):
    batch_size = theory.largest_linear_batch(200.0, tolerance)
    line = batch_size / 200.0
    np.testing.assert_allclose(theory.best_rate(batch_size, 1.0, 200.0) / line, 1 - tolerance, rtol=1e-12)

  def test_refuses(self):
    with self.assertRaisesRegex(InputError, 'learning_rate must lie in'):
      theory.largest_linear_scaling([1.0, 2.0], learning_rate=0.5, tolerance=0.1)
    with self.assertRaisesRegex(InputError, 'tolerance'):
      theory.largest_linear_batch(1.0, 1.0)
    with self.assertRaisesRegex(InputError, 'kappa'):
      theory.linear_scaling_change(0.0, [1.0], learning_rate=0.1)
