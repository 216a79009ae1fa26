"""Bounds on plain gradient descent against descent itself, in float64."""

import numpy as np
from absl.testing import parameterized

from gdlab import theory
from gdlab.core.errors import InputError

EPS = np.finfo(np.float64).eps


def gaps(value, gradient, x, learning_rate, num_steps):
  """f(x_k) - f* along plain descent, for f with minimum 0."""
  found = [value(x)]
  for _ in range(num_steps):
    x = x - learning_rate * gradient(x)
    found.append(value(x))
  return np.array(found)


def quadratic(eigenvalues, seed=0):
  rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))
  hessian = rotation * np.asarray(eigenvalues) @ rotation.T
  return lambda x: 0.5 * x @ hessian @ x, lambda x: hessian @ x


class ContractionTest(parameterized.TestCase):
  @parameterized.product(scaled_rate=(0.1, 0.7, 1.0, 1.5, 1.9), smallest=(0.5, 3.0, 20.0))
  def test_bounds_every_step_on_a_quadratic(self, scaled_rate, smallest):
    smoothness = 20.0
    value, gradient = quadratic([smallest, 20.0, 20.0, smallest])
    x = np.random.default_rng(1).normal(size=4)
    bound = theory.contraction_rate(scaled_rate / smoothness, smoothness, smallest)
    # Few enough steps that the gap stays far above the rounding of the iterates: rates here are >= 0.001.
    found = gaps(value, gradient, x, scaled_rate / smoothness, 8)
    found = found[found > 1e-12]
    # One step is a matrix-vector product in 4 dimensions: rounding of some tens of eps.
    self.assertTrue(np.all(found[1:] <= found[:-1] * (bound + 100 * EPS)), (found, bound))

  @parameterized.parameters(0.1, 0.7, 1.5, 1.9)
  def test_attained_where_all_curvatures_are_equal(self, scaled_rate):
    value, gradient = quadratic([4.0, 4.0, 4.0])
    found = gaps(value, gradient, np.ones(3), scaled_rate / 4, 5)
    bound = theory.contraction_rate(scaled_rate / 4, 4.0, 4.0)
    # The error of a ratio is that of the Hessian's entries, a few eps, against |1 - scaled_rate| >= 0.3.
    np.testing.assert_allclose(found[1:] / found[:-1], bound, rtol=100 * EPS)

  @parameterized.product(scaled_rate=(0.2, 1.0, 1.8), start=(-4.0, 0.7, 3.0))
  def test_holds_without_convexity_under_the_pl_inequality(self, scaled_rate, start):
    # f = x^2 + 3 sin^2 x is 8-smooth, not convex, and satisfies PL with mu = 1/32 (Karimi et al. 2016).
    found = gaps(
      lambda x: x**2 + 3 * np.sin(x) ** 2, lambda x: 2 * x + 3 * np.sin(2 * x), start, scaled_rate / 8, 30
    )
    found = found[found > 1e-12]
    self.assertTrue(np.all(found[1:] <= found[:-1] * theory.contraction_rate(scaled_rate / 8, 8.0, 1 / 32)))

  def test_known_values(self):
    self.assertEqual(theory.contraction_rate(0.25, 4.0, 1.0), 0.75)  # 1 - mu / L at 1 / L
    self.assertEqual(theory.contraction_rate(0.125, 4.0, 1.0), 0.8125)

  @parameterized.parameters(
    ((0.5, 4.0, 1.0), 'learning_rate'),
    ((0.0, 4.0, 1.0), 'learning_rate'),
    ((0.1, 4.0, 0.0), 'strong_convexity'),
    ((0.1, 4.0, 5.0), 'strong_convexity must be at most smoothness=4.0'),
    ((0.1, -1.0, 0.5), 'smoothness'),
  )
  def test_refuses(self, arguments, message):
    with self.assertRaisesRegex(InputError, message):
      theory.contraction_rate(*arguments)


class StabilityTest(parameterized.TestCase):
  @parameterized.parameters(0.3, 50.0)
  def test_border_is_sharp_on_a_quadratic(self, smoothness):
    value, gradient = quadratic([smoothness, smoothness / 10])
    border = theory.largest_stable_rate(smoothness)
    # 1 % inside, the stiff direction is multiplied by 0.98 a step and its share of f by 0.96; outside by
    # 1.04. Over 400 steps that is 1e-7 and 7e6: 1e-4 and 1e4 stand well between them and no change.
    below, above = (gaps(value, gradient, np.ones(2), scale * border, 400) for scale in (0.99, 1.01))
    self.assertLess(below[-1], 1e-4 * below[0])
    self.assertGreater(above[-1], 1e4 * above[0])

  @parameterized.parameters(0.0, -2.0, np.nan, np.inf)
  def test_refuses(self, smoothness):
    with self.assertRaisesRegex(InputError, 'smoothness'):
      theory.largest_stable_rate(smoothness)
