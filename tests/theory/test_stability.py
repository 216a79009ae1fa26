"""Rates and thresholds against numerical eigenvalues and descent itself, in float64."""

import numpy as np
import scipy.optimize
from absl.testing import parameterized

from gdlab import theory
from gdlab.core.errors import InputError
from gdlab.theory import linear

METHODS = ({'momentum': 0.0}, {'momentum': 0.7}, {'momentum': 0.7, 'nesterov': True})


def update_matrix(h, rate, *, momentum=0.0, nesterov=False):
  """The map of (x, m), column by column from Optax's update."""
  columns = []
  for x, m in ((1.0, 0.0), (0.0, 1.0)):
    moved = momentum * m + h * x
    step = h * x + momentum * moved if nesterov else moved
    columns.append([x - rate * step, moved])
  return np.array(columns).T


class SpectralRadiusTest(parameterized.TestCase):
  @parameterized.product(method=METHODS, rate=(1e-3, 0.3, 1.0, 1.9, 3.0), h=(1.0, 0.01, -0.5))
  def test_is_that_of_the_matrix(self, method, rate, h):
    exact = np.abs(np.linalg.eigvals(update_matrix(h, rate, **method))).max()
    # Roots that nearly meet lose half the digits in the reference.
    np.testing.assert_allclose(theory.spectral_radius(h, rate, **method), exact, rtol=1e-7, atol=1e-7)

  @parameterized.product(method=METHODS, smoothness=(0.01, 1.0, 300.0))
  def test_threshold_is_sharp(self, method, smoothness):
    border = theory.largest_stable_rate(smoothness, **method)
    self.assertLess(theory.spectral_radius(smoothness, border * (1 - 1e-9), **method), 1)
    self.assertGreater(theory.spectral_radius(smoothness, border * (1 + 1e-9), **method), 1)
    # Below it every smaller curvature is stable too.
    below = theory.spectral_radius(smoothness * np.linspace(1e-3, 1, 999), border * (1 - 1e-9), **method)
    self.assertLess(below.max(), 1)

  def test_thresholds_of_the_references(self):
    self.assertEqual(theory.largest_stable_rate(4.0), 0.5)
    self.assertEqual(theory.largest_stable_rate(4.0, momentum=0.5), 0.75)
    self.assertEqual(theory.largest_stable_rate(4.0, momentum=0.5, nesterov=True), 0.375)
    with self.assertRaisesRegex(InputError, 'momentum'):
      theory.largest_stable_rate(4.0, momentum=-0.1)


class BestSettingsTest(parameterized.TestCase):
  @parameterized.product(
    case=(
      (theory.best_plain, False, False),
      (theory.best_heavy_ball, True, False),
      (theory.best_nesterov, True, True),
    ),
    condition=(1.5, 10.0, 1000.0),
  )
  def test_rate_is_right_and_nothing_near_is_better(self, case, condition):
    make, has_momentum, nesterov = case
    best = make(condition, 1.0)
    h = np.concatenate([np.linspace(1, condition, 1001), np.geomspace(1, condition, 1001)])

    def worst(rate, beta):
      return theory.spectral_radius(h, rate, momentum=beta, nesterov=nesterov).max()

    # Double roots, where the discriminant's rounding enters by its square root.
    self.assertAlmostEqual(worst(best.learning_rate, best.momentum), best.rate, delta=1e-6)
    for rate_factor in (0.98, 0.999, 1.0, 1.001, 1.02):
      for beta_factor in (0.98, 0.999, 1.0, 1.001, 1.02) if has_momentum else (1.0,):
        beta = best.momentum * beta_factor
        if beta < 1:
          self.assertGreater(worst(best.learning_rate * rate_factor, beta), best.rate - 1e-6)

  def test_equal_eigenvalues_are_solved_in_one_step(self):
    for make in (theory.best_plain, theory.best_heavy_ball, theory.best_nesterov):
      np.testing.assert_allclose(make(2.0, 2.0), (0.5, 0.0, 0.0), rtol=1e-15, atol=1e-15)

  def test_descent_falls_at_the_rate(self):
    best = theory.best_heavy_ball(100.0, 1.0)
    h = np.array([1.0, 30.0, 100.0])
    x, m, sizes = np.ones(3), np.zeros(3), []
    for _ in range(200):
      m = best.momentum * m + h * x
      x = x - best.learning_rate * m
      sizes.append(np.abs(x).max())
    # Double roots: T rate^T, so the last factor is above the rate by 1/T.
    self.assertAlmostEqual((sizes[-1] / sizes[99]) ** (1 / 100), best.rate * 2**0.01, delta=1e-3)

  @parameterized.parameters((1.0, 2.0), (0.0, 1.0), (1.0, -1.0), (np.nan, 1.0))
  def test_refuses(self, large, small):
    with self.assertRaises(InputError):
      theory.best_heavy_ball(large, small)


class LineSearchTest(parameterized.TestCase):
  @parameterized.parameters(([1.0, 10.0],), ([7.0, 0.5, 1.0, 2.0],), ([3.0, 3.0],))
  def test_the_worst_start_attains_the_bound_at_every_step(self, eigenvalues):
    h = np.array(eigenvalues)
    x = theory.line_search_worst_start(h)
    bound = theory.line_search_rate(h.max(), h.min())
    for _ in range(5):
      gradient = h * x
      along = lambda rate, x=x, gradient=gradient: h @ (x - rate * gradient) ** 2 / 2
      best = scipy.optimize.minimize_scalar(along, bracket=(0, 1 / h.max()), tol=1e-12).x
      # A minimum is flat: its value is exact to the square of the search's error.
      self.assertAlmostEqual(along(best) / along(0.0), bound, delta=1e-9)
      x = x - best * gradient
      if bound == 0:
        break

  def test_no_random_start_is_worse(self):
    h = np.array([1.0, 4.0, 20.0])
    starts = np.random.default_rng(0).normal(size=(2000, 3))
    gradient = starts * h
    rate = (gradient**2).sum(1) / (h * gradient**2).sum(1)
    left = (h * (starts - rate[:, None] * gradient) ** 2).sum(1) / (h * starts**2).sum(1)
    self.assertLess(left.max(), theory.line_search_rate(20.0, 1.0))
    self.assertGreater(left.max(), 0.95 * theory.line_search_rate(20.0, 1.0))


class LinearSystemTest(parameterized.TestCase):
  """Powers and stationary moments, which everything else is made of, against dense linear algebra."""

  # Among them a double root (rate 1 for plain descent), real roots of one and of both signs, and growth.
  @parameterized.product(method=METHODS, rate=(1e-4, 0.3, 1.0, 1.6, 3.2))
  def test_powers_with_momentum(self, method, rate):
    h = np.array([1.0, 0.1, 1e-5, 0.97, -0.2])
    found = linear.powers(linear.momentum_system(h, rate, **method))
    for steps in (0, 1, 2, 3, 10, 57, 400):
      for row in range(2):
        rows = np.stack(linear.power(found, steps, row), axis=-1)
        exact = [np.linalg.matrix_power(update_matrix(value, rate, **method), steps)[row] for value in h]
        # Some eps per factor; relative to the row, for an entry may cancel, and a
        # nilpotent matrix leaves the reference its rounding alone.
        scale = np.abs(exact).max(axis=-1, keepdims=True) + 1e-6
        self.assertLess(np.max(np.abs(rows - exact) / scale), 1e-9, (steps, row))

  @parameterized.product(rate=(0.3, 1.0, 1.6), decay=(0.0, 0.5, 0.9))
  def test_powers_with_an_average(self, rate, decay):
    h = np.array([1.0, 0.1, 1e-5, 0.97])
    system = linear.average_system(h, rate, decay)
    for steps in (0, 1, 2, 9, 400):
      found = np.stack(linear.power(linear.powers(system), steps, 1), -1)
      for value, row in zip(h, found):
        x, y = np.eye(2)  # As functions of (x_0, y_0).
        for _ in range(steps):
          x = x - rate * value * x
          y = decay * y + (1 - decay) * x
        np.testing.assert_allclose(row, y, rtol=1e-9, atol=1e-13)

  def test_critical_damping(self):
    """A double root up to rounding: the quotient of differences must become T z^(T-1)."""
    beta = 0.81
    h = (1 - np.sqrt(beta)) ** 2 * (1 + np.array([0.0, 1e-15, -1e-15, 1e-12, -1e-12, 1e-9, -1e-9]))
    system = linear.momentum_system(h, 1.0, momentum=beta)
    for steps in (2, 30, 100):
      found = np.stack(linear.power(linear.powers(system), steps, 0), -1)
      exact = np.array([np.linalg.matrix_power(matrix, steps)[0] for matrix in system.matrix])
      # The roots split by 1e-9 T^2 at most in relative terms of the smaller ones; both take the same matrix.
      np.testing.assert_allclose(found, exact, rtol=1e-9)

  @parameterized.product(method=METHODS, rate=(1e-3, 0.3, 1.3))
  def test_stationary_solves_the_lyapunov_equation(self, method, rate):
    h = np.array([1.0, 0.1, 1e-3])
    system = linear.momentum_system(h, rate, **method)
    found = linear.stationary(system)
    for moment, matrix, noise in zip(found, system.matrix, system.noise):
      exact = scipy.linalg.solve_discrete_lyapunov(matrix, np.outer(noise, noise))
      # The solver's own error: eps over the gap of 1e-6 at least.
      np.testing.assert_allclose(moment, exact, rtol=1e-8, atol=1e-8 * np.abs(exact).max())
