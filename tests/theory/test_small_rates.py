"""Closed forms where float64 would cancel, against exact rational and 60-digit arithmetic."""

import decimal
import math
from fractions import Fraction

import numpy as np
import scipy.stats
from absl.testing import parameterized

from gdlab import theory
from gdlab.core.errors import InputError

EPOCHS = ((6, 1, False), (12, 3, False), (7, 3, False), (7, 3, True), (5, 4, False))  # N, B, drop_remainder


def product(left, right):
  return [[sum(left[i][k] * right[k][j] for k in range(2)) for j in range(2)] for i in range(2)]


def solved(rows):
  """Gauss and Jordan, of rows with the right-hand side last."""
  for i in range(len(rows)):
    pivot = next(r for r in range(i, len(rows)) if rows[r][i] != 0)
    rows[i], rows[pivot] = rows[pivot], rows[i]
    rows[i] = [x / rows[i][i] for x in rows[i]]
    for r in range(len(rows)):
      if r != i:
        rows[r] = [x - rows[r][i] * y for x, y in zip(rows[r], rows[i])]
  return [row[-1] for row in rows]


def exact_moments(h, rate, momentum, nesterov, sizes, count):
  """E[x^2], E[x m], E[m^2] for variance 1, by the formula of `second_moments` and the equation of an epoch."""
  h, rate, beta = Fraction(h), Fraction(rate), Fraction(momentum)
  of_gradient, of_momentum = (1 + beta, beta * beta) if nesterov else (Fraction(1), beta)
  step = [[1 - rate * of_gradient * h, -rate * of_momentum], [h, beta]]
  noise = [-rate * of_gradient, Fraction(1)]
  epoch, weights = [[Fraction(1), Fraction(0)], [Fraction(0), Fraction(1)]], []
  for size in reversed(sizes):
    weights.append((size, [row[0] * noise[0] + row[1] * noise[1] for row in epoch]))
    epoch = product(step, epoch)
  total = [sum(weight[i] for _, weight in weights) for i in range(2)]
  added = [
    (sum(Fraction(count, n) * w[i] * w[j] for n, w in weights) - total[i] * total[j]) / (count - 1)
    for i, j in ((0, 0), (0, 1), (1, 1))
  ]
  (a, b), (c, d) = epoch
  return solved(
    [
      [1 - a * a, -2 * a * b, -b * b, added[0]],
      [-a * c, 1 - a * d - b * c, -b * d, added[1]],
      [-c * c, -2 * c * d, 1 - d * d, added[2]],
    ]
  )


class ReshuffledTest(parameterized.TestCase):
  @parameterized.parameters(
    (0.0, False), (0.5, False), (0.9, False), (0.9, True), (0.99, False), (0.99, True)
  )
  def test_stationary_moments_at_every_rate(self, momentum, nesterov):
    """From alpha h = 1e-12 to 0.6 of the border of stability, short last batches and dropped ones too."""
    border = theory.largest_stable_rate(1.0, momentum=momentum, nesterov=nesterov)
    for count, size, drop in EPOCHS:
      sizes = theory.batch_sizes_of_epoch(count, size, drop)
      for h, rate in ((1.0, 1e-12), (1e-4, 1e-5), (1.0, 1e-6), (1.0, 1e-3), (0.5, 0.1), (1.0, 0.6 * border)):
        found = theory.stationary_moments(
          [h],
          1.0,
          learning_rate=rate,
          batch_size=size,
          momentum=momentum,
          nesterov=nesterov,
          num_examples=count,
          drop_remainder=drop,
        )
        exact = [float(number) for number in exact_moments(h, rate, momentum, nesterov, sizes, count)]
        # The few eps over 1 - beta of the docstring.
        np.testing.assert_allclose(np.ravel(found), exact, rtol=3e-14 / (1 - momentum))

  def test_the_floor_is_of_third_order_to_the_smallest_rates(self):
    """What the review found: 3.3e-18 at a rate where it is 4.2e-20."""
    found = theory.stationary_moments([1e-4], 1.0, learning_rate=1e-5, batch_size=10, num_examples=100)
    np.testing.assert_allclose(found.position, 1e-5**3 * 1e-4 * 10 * 99 / (24 * 99), rtol=1e-8)
    floors = [
      theory.loss_floor([1.0], 1.0, learning_rate=rate, batch_size=10, num_examples=100)
      for rate in (1e-12, 1e-6)
    ]
    # The next order is of relative size alpha K.
    np.testing.assert_allclose(floors[0] / floors[1], 1e-18, rtol=2e-5)

  def test_one_example_and_one_batch_have_no_noise(self):
    for count in (1, 4):
      found = theory.stationary_moments([1.0], 1.0, learning_rate=0.1, batch_size=count, num_examples=count)
      np.testing.assert_array_equal(np.ravel(found), 0)


def decimal_walk(e, momentum, nesterov, steps):
  """The response of x to its start and the variance from noise of variance 1, for alpha = 1 and gamma = e."""
  e, beta = decimal.Decimal(e), decimal.Decimal(momentum)
  of_gradient, of_momentum = (1 + beta, beta * beta) if nesterov else (1, beta)
  start, weight = (
    [decimal.Decimal(1), decimal.Decimal(0)],
    [-decimal.Decimal(of_gradient), decimal.Decimal(1)],
  )
  total = decimal.Decimal(0)
  for _ in range(steps):
    total += weight[0] ** 2
    start, weight = (
      [x + of_gradient * e * x - of_momentum * m, -e * x + beta * m] for x, m in (start, weight)
    )
  return start[0], total


class EscapeTest(parameterized.TestCase):
  @parameterized.parameters((0.0, False), (0.9, False), (0.9, True), (0.99, False))
  def test_probability_where_little_has_happened(self, momentum, nesterov):
    with decimal.localcontext(prec=60):
      for e, steps in ((1e-15, 1), (1e-13, 37), (1e-9, 400), (1e-4, 400), (0.3, 37)):
        response, variance = decimal_walk(e, momentum, nesterov, steps)
        noise = 1e-4
        spread, mean = math.sqrt(float(variance) * noise), 0.1 * float(response)
        far = mean + spread
        found = theory.escaped_probability(
          steps, far, 0.1, curvature=e, learning_rate=1.0, noise=noise, momentum=momentum, nesterov=nesterov
        )
        exact = scipy.stats.norm.sf((far - mean) / spread) + scipy.stats.norm.cdf((-far - mean) / spread)
        # The mean, of up to 20 spreads and with an exponent of up to 10, to a few eps; 1/(1 - beta) of the roots.
        np.testing.assert_allclose(found, exact, rtol=1e-13 / (1 - momentum))

  @parameterized.parameters(1e-3, 1e-9, 1e-13, 1e-16)
  def test_steps_of_plain_descent_are_the_logarithm(self, e):
    starts = np.array([0.9, 0.1, 1e-3])
    found = theory.escape_steps(1.0, starts, curvature=e, learning_rate=1.0)
    np.testing.assert_allclose(found, np.ceil(np.log(1 / starts) / np.log1p(e)), rtol=1e-14)
    noisy = theory.escape_steps(1.0, starts, curvature=e, learning_rate=1.0, noise=1e-3 * e)
    q = 1e-3 / (2 + e)  # alpha sigma^2 / (gamma (2 + alpha gamma))
    exact = np.log1p((1 - starts**2) / (starts**2 + q)) / (2 * np.log1p(e))
    np.testing.assert_allclose(noisy, np.ceil(exact), rtol=1e-13)

  @parameterized.parameters(0.5, 0.9)
  def test_steps_with_momentum_take_their_root(self, momentum):
    """To first order in e the growth is e/(1 - beta), and the first steps cost beta/(1 - beta) of them."""
    e = 1e-10
    found = theory.escape_steps(1.0, 0.01, curvature=e, learning_rate=1.0, momentum=momentum)
    exact = math.log(100) * (1 - momentum) / e
    np.testing.assert_allclose(found, exact, rtol=10 * e / (1 - momentum) ** 2)

  def test_what_has_overflowed_is_out(self):
    known = {'curvature': 1.0, 'learning_rate': 0.1, 'noise': 1.0}
    for method in ({}, {'momentum': 0.9}, {'momentum': 0.9, 'nesterov': True}):
      found = theory.escaped_probability(8000, [1.0, 1e300], 0.1, **known, **method)
      np.testing.assert_array_equal(found, 1)
    self.assertGreater(theory.escape_steps(1e300, 1e-300, curvature=1.0, learning_rate=0.1), 14_000)

  def test_mean_steps_refuses_where_it_does_not_hold(self):
    with self.assertRaisesRegex(InputError, 'distance must be at least'):
      theory.mean_escape_steps(1e-6, curvature=1.0, learning_rate=0.1, noise=1.0)
    with self.assertRaisesRegex(InputError, 'learning_rate'):
      theory.escape_steps(1.0, 0.1, curvature=1e-10, learning_rate=1e-10)


class NoisyQuadraticTest(parameterized.TestCase):
  @parameterized.parameters(1e-17, 1e-15, 1e-12, 1e-6)
  def test_expected_loss_decays_at_the_true_rate(self, rate):
    """Plain descent without noise: e^{2 T log1p(-alpha h)}, at T of 1/(alpha h)."""
    steps = int(1 / rate)
    model = theory.noisy_quadratic([1.0], noise=0.0)
    found = theory.expected_loss(model, steps, learning_rate=rate, batch_size=1)
    np.testing.assert_allclose(found, 0.5 * math.exp(2 * steps * math.log1p(-rate)), rtol=1e-14)
