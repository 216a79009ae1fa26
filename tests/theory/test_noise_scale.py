"""Noise scales, trade-offs and linear scaling against direct minimisation and exact moments, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from absl.testing import parameterized

import gdlab
from gdlab import theory
from gdlab.core.errors import InputError


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
    (
      lambda: theory.noise_scale([1.0, 0.0], -np.eye(2), np.eye(2)),
      'covariance must be positive semidefinite',
    ),
    (lambda: theory.simple_noise_scale([1.0, 0.0], -np.eye(2)), 'covariance must be positive semidefinite'),
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

  @parameterized.product(kappa=(0.5, 4.0, 40.0), nesterov=(False, True))
  def test_changes_with_momentum(self, kappa, nesterov):
    """Against a Lyapunov solver and the eigenvalues of the update as Optax writes it."""
    h, rate, beta = np.array([1.0, 0.3]), 0.02, 0.8
    method = {'momentum': beta, 'nesterov': nesterov}
    found = theory.linear_scaling_change(kappa, h, learning_rate=rate, **method)

    def decay(rate):
      moduli = []
      for curvature in h:
        columns = []
        for x, m in np.eye(2):
          gradient = curvature * x
          moved = beta * m + gradient
          columns.append([x - rate * (gradient + beta * moved if nesterov else moved), moved])
        moduli.append(np.abs(np.linalg.eigvals(np.array(columns).T)).max())
      return -np.log(moduli)

    def variance(rate):
      return np.diag(theory.stationary_covariance(np.diag(h), np.eye(2), learning_rate=rate, **method))

    # The eigenvalues' rounding over a decay of 0.006; kappa = 40 makes both directions swing.
    np.testing.assert_allclose(
      found.decay, decay(kappa * rate) / decay(rate) / kappa - 1, rtol=1e-9, atol=1e-12
    )
    expected = variance(kappa * rate) / variance(rate) / kappa - 1
    np.testing.assert_allclose(found.variance, expected, rtol=1e-9, atol=1e-9)

  def test_an_unstable_scaling_with_momentum(self):
    found = theory.linear_scaling_change(200.0, [1.0, 0.01], learning_rate=0.02, momentum=0.8)
    self.assertEqual(found.variance[0], np.inf)
    self.assertTrue(np.isfinite(found.variance[1]))
    self.assertLess(found.decay[0], -1)

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


class SquareRootScalingTest(parameterized.TestCase):
  @parameterized.parameters(0.01, 0.3, 4.0)
  def test_change_of_adam_on_a_constant_gradient(self, signal):
    """Optax's Adam on g + noise, 4,000 coordinates: its mean step per example before and after the rule."""
    kappa, size, batch = 8, 4000, 2
    gradient, generator = np.sqrt(signal / batch), np.random.default_rng(0)

    def step(factor):
      scaled = gdlab.schedules.adam_scaling(1e-3, 0.99, 0.9999, 1e-12, 1, factor=factor)
      tx = optax.scale_by_adam(scaled.b1, scaled.b2, scaled.eps)
      params = jnp.zeros(size)
      # As the second moment would be after long; then its own average over a few hundred noises keeps it there.
      second = jnp.full(size, gradient**2 + 1 / (batch * factor))
      state = tx.init(params)._replace(count=jnp.asarray(10**7), mu=jnp.full(size, gradient), nu=second)
      noises = generator.normal(size=(40, size)) / np.sqrt(batch * factor)
      moves = jax.lax.scan(
        lambda state, noise: tx.update(gradient + noise, state)[::-1], state, jnp.asarray(noises)
      )[1]
      means = np.asarray(moves).mean(axis=0)
      return scaled.learning_rate * means.mean() / factor, means.std() / means.mean() / np.sqrt(size)

    (before, error), (after, other) = step(1), step(kappa)
    found = float(theory.square_root_scaling_change(kappa, signal))
    # Beside the standard errors, float32 and v's own fluctuation, of 40 kappa (1 - b2) at most.
    self.assertAlmostEqual(after / before / (1 + found), 1, delta=3 * np.hypot(error, other) + 2e-3)
    self.assertLess(found, -0.03)

  @parameterized.product(signal=(0.0, 0.01, 1.0), tolerance=(0.02, 0.3))
  def test_the_largest_kappa_is_just_within_the_tolerance(self, signal, tolerance):
    kappa = theory.largest_square_root_scaling([signal, signal / 2], b1=0.9, b2=0.999, tolerance=tolerance)
    self.assertGreater(kappa, 1)

    def change(kappa):
      steps = theory.square_root_scaling_change(kappa, [signal, signal / 2])
      # By examples an average's decay is ln(beta)/kappa, its variance (1 - beta)/(1 + beta)/kappa.
      betas = np.array([0.9, 0.999])
      scaled = 1 - kappa * (1 - betas)
      decay = np.log(scaled) / (kappa * np.log(betas)) - 1
      variance = (1 - scaled) / (1 + scaled) * (1 + betas) / (1 - betas) / kappa - 1
      return max(np.abs(part).max() for part in (steps, decay, variance))

    self.assertLessEqual(change(kappa * (1 - 1e-6)), tolerance)
    self.assertGreater(change(kappa * (1 + 1e-6)), tolerance)

  @parameterized.parameters(
    (lambda: theory.square_root_scaling_change(0.0, 1.0), 'kappa'),
    (lambda: theory.square_root_scaling_change(2.0, -1.0), 'signal'),
    (lambda: theory.largest_square_root_scaling(0.1, b1=0.0, b2=0.9, tolerance=0.1), 'b1 and b2'),
    (lambda: theory.largest_square_root_scaling(0.1, b1=0.9, b2=0.9, tolerance=1.0), 'tolerance'),
  )
  def test_refuses(self, call, message):
    with self.assertRaisesRegex(InputError, message):
      call()
