"""Error floors against every order of tiny regression problems, and their slopes in the rate, in float64."""

import itertools

import numpy as np
from absl.testing import parameterized

from gdlab import theory
from gdlab.core.errors import InputError


def regression(size=5, seed=0):
  """Hessians and gradients at the minimum of single examples of a two-parameter regression, and x* = 0."""
  generator = np.random.default_rng(seed)
  features = generator.normal(size=(size, 2))
  targets = generator.normal(size=size)
  residuals = targets - features @ np.linalg.lstsq(features, targets, rcond=None)[0]
  return features[:, :, None] * features[:, None, :], -residuals[:, None] * features


def epoch_maps(hessians, gradients, rate, batch_size=1):
  """x -> M x + c over an epoch, for every order."""
  maps = []
  for order in itertools.permutations(range(len(hessians))):
    matrix, vector = np.eye(2), np.zeros(2)
    for start in range(0, len(order), batch_size):
      batch = list(order[start : start + batch_size])
      step = np.eye(2) - rate * hessians[batch].mean(axis=0)
      matrix, vector = step @ matrix, step @ vector - rate * gradients[batch].mean(axis=0)
    maps.append((matrix, vector))
  return maps


def stationary(maps):
  """The mean and the second moment that random affine maps leave unchanged."""
  matrices, vectors = (np.array(part) for part in zip(*maps))
  mean = np.linalg.solve(np.eye(2) - matrices.mean(axis=0), vectors.mean(axis=0))
  crossed = np.einsum('nij,j,nk->ik', matrices, mean, vectors) / len(maps)
  added = crossed + crossed.T + np.einsum('ni,nk->ik', vectors, vectors) / len(maps)
  kronecker = np.einsum('nij,nkl->ikjl', matrices, matrices).reshape(4, 4) / len(maps)
  return mean, np.linalg.solve(np.eye(4) - kronecker, added.ravel()).reshape(2, 2)


class BiasTest(parameterized.TestCase):
  @parameterized.parameters((5, 1), (4, 1), (4, 2), (6, 2), (6, 3))
  def test_is_the_limit_of_the_mean_over_all_orders(self, size, batch_size):
    hessians, gradients = regression(size)
    product = np.einsum('nij,nj->i', hessians, gradients) / size
    errors = []
    for rate in (1e-3, 1e-4):
      mean, _ = stationary(epoch_maps(hessians, gradients, rate, batch_size))
      found = theory.reshuffled_bias(
        hessians.mean(axis=0), product, learning_rate=rate, num_examples=size, batch_size=batch_size
      )
      errors.append(np.abs(mean - found).max() / np.abs(mean).max())
    # The next order in the rate: ten times smaller at a tenth of it.
    self.assertLess(errors[1], 5e-3)
    self.assertAlmostEqual(errors[0] / errors[1], 10, delta=1)

  def test_is_the_leading_term_of_the_floor(self):
    hessians, gradients = regression()
    product = np.einsum('nij,nj->i', hessians, gradients) / 5
    squares = []
    for rate in (1e-3, 1e-4):
      _, second = stationary(epoch_maps(hessians, gradients, rate))
      bias = theory.reshuffled_bias(hessians.mean(axis=0), product, learning_rate=rate, num_examples=5)
      squares.append((np.trace(second), bias @ bias))
    # The variance, of third order, is what is over: a tenth of the relative size at a tenth of the rate.
    over = [floor / leading - 1 for floor, leading in squares]
    self.assertLess(over[1], 0.05)
    self.assertAlmostEqual(over[0] / over[1], 10, delta=1)

  def test_refuses(self):
    arguments = {'learning_rate': 0.1, 'num_examples': 4}
    with self.assertRaisesRegex(InputError, 'divide'):
      theory.reshuffled_bias(np.eye(2), np.ones(2), batch_size=3, **arguments)
    with self.assertRaisesRegex(InputError, 'product'):
      theory.reshuffled_bias(np.eye(2), np.ones(3), **arguments)
    with self.assertRaisesRegex(InputError, 'positive definite'):
      theory.reshuffled_bias(np.diag([1.0, 0.0]), np.ones(2), **arguments)


def slopes(floor, rates):
  return np.diff(np.log([floor(rate) for rate in rates])) / np.diff(np.log(rates))


class FloorTest(parameterized.TestCase):
  RATES = np.array([1e-4, 2e-4, 4e-4])

  def test_with_replacement_is_of_first_order(self):
    hessians, gradients = regression()

    def floor(rate):
      steps = [
        (np.eye(2) - rate * hessian, -rate * gradient) for hessian, gradient in zip(hessians, gradients)
      ]
      return np.trace(stationary(steps)[1])

    # Up to the next order, of relative size 1e-3.
    np.testing.assert_allclose(slopes(floor, self.RATES), 1, atol=0.01)

  def test_reshuffled_regression_is_of_second_order(self):
    hessians, gradients = regression()
    floor = lambda rate: np.trace(stationary(epoch_maps(hessians, gradients, rate))[1])
    np.testing.assert_allclose(slopes(floor, self.RATES), 2, atol=0.05)

  @parameterized.parameters((12, 1), (12, 3), (40, 4))
  def test_additive_noise(self, size, batch_size):
    h, noise = np.array([1.0, 0.3]), np.array([0.5, 2.0])
    fresh, shuffled = (
      lambda rate, count=count: theory.loss_floor(
        h, noise, learning_rate=rate, batch_size=batch_size, num_examples=count
      )
      for count in (None, size)
    )
    np.testing.assert_allclose(fresh(1e-4), 1e-4 * noise.sum() / (4 * batch_size), rtol=1e-3)
    np.testing.assert_allclose(slopes(fresh, self.RATES), 1, atol=0.01)
    updates = size // batch_size
    leading = updates * (updates**2 - 1) / (48 * (size - 1)) * h**2 @ noise
    # The next order is of relative size alpha h K = 4e-3 at most; the floor itself, of 1e-12, cancels from 1e-8.
    np.testing.assert_allclose(shuffled(1e-4) / 1e-12, leading, rtol=0.01)
    np.testing.assert_allclose(slopes(shuffled, self.RATES), 3, atol=0.03)

  @parameterized.parameters(False, True)
  def test_a_short_batch_brings_the_first_order_back(self, drop):
    floor = lambda rate: theory.loss_floor(
      [1.0], 1.0, learning_rate=rate, batch_size=5, num_examples=12, drop_remainder=drop
    )
    np.testing.assert_allclose(slopes(floor, self.RATES), 1, atol=0.02)


class BoundTest(parameterized.TestCase):
  @parameterized.parameters(0.02, 0.2, 0.9)
  def test_hold_for_every_epoch(self, scaled_rate):
    """One-dimensional strongly convex examples, so that each has its own mu: exact means over all 120 orders."""
    h = np.array([0.5, 1.0, 2.0, 3.0, 4.0])
    gradients = np.random.default_rng(0).normal(size=5)
    gradients -= gradients.mean()
    known = {'smoothness': 4.0, 'strong_convexity': 0.5, 'noise': np.mean(gradients**2), 'start': 9.0}
    rate = scaled_rate / 4
    hessians, vectors = h[:, None, None] * np.eye(2), gradients[:, None] * np.array([1.0, 0.0])
    maps = epoch_maps(hessians, vectors, rate)
    multipliers, shifts = np.array([(m[0, 0], c[0]) for m, c in maps]).T
    mean, square = 3.0, 9.0
    for epoch in range(1, 200):
      square = (
        np.mean(multipliers**2) * square + 2 * np.mean(multipliers * shifts) * mean + np.mean(shifts**2)
      )
      mean = np.mean(multipliers) * mean + np.mean(shifts)
      bound = theory.reshuffled_bound(epoch, learning_rate=rate, num_examples=5, **known)
      self.assertLessEqual(square, bound)
    floor = theory.reshuffled_bound(10**7, learning_rate=rate, num_examples=5, **known)
    np.testing.assert_allclose(floor, rate**2 * 4 * 5 * known['noise'] / (2 * 0.5), rtol=1e-12)

  @parameterized.parameters(0.02, 0.2, 0.5)
  def test_hold_for_every_step_with_replacement(self, scaled_rate):
    h = np.array([0.5, 1.0, 2.0, 3.0, 4.0])
    gradients = np.random.default_rng(0).normal(size=5)
    gradients -= gradients.mean()
    rate = scaled_rate / 4
    mean, square = 3.0, 9.0
    for step in range(1, 1000):
      kept, pushed = 1 - rate * h, -rate * gradients
      square, mean = (
        np.mean(kept**2) * square + 2 * np.mean(kept * pushed) * mean + np.mean(pushed**2),
        np.mean(kept) * mean,
      )
      bound = theory.replacement_bound(
        step,
        learning_rate=rate,
        smoothness=4.0,
        strong_convexity=h.mean(),
        noise=np.mean(gradients**2),
        start=9.0,
      )
      self.assertLessEqual(square, bound)

  def test_refuses_rates_it_does_not_hold_for(self):
    known = {'smoothness': 4.0, 'strong_convexity': 0.5, 'noise': 1.0, 'start': 1.0}
    with self.assertRaisesRegex(InputError, r'learning_rate must lie in \(0, 0.25\]'):
      theory.reshuffled_bound(1, learning_rate=0.3, num_examples=5, **known)
    with self.assertRaisesRegex(InputError, r'learning_rate must lie in \(0, 0.125\]'):
      theory.replacement_bound(1, learning_rate=0.2, **known)
