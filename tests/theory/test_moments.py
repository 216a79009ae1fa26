"""Second moments on a quadratic against every order of tiny data, dense matrices, and stationarity, in float64."""

import itertools

import numpy as np
import scipy.linalg
from absl.testing import parameterized

from gdlab import theory
from gdlab.core.errors import InputError

METHODS = (
  {'momentum': 0.0},
  {'momentum': 0.8},
  {'momentum': 0.8, 'nesterov': True},
)
H = np.array([2.0, 0.3, 0.01])
SIGMA2 = np.array([0.5, 2.0, 1.0])


def descend(x, noises, rates, h, *, momentum=0.0, nesterov=False):
  """The path of (x, m) under given noises, written as Optax's update and not as a matrix."""
  m, path = 0.0, [(x, 0.0)]
  for noise, rate in zip(noises, rates):
    gradient = h * x + noise
    m = momentum * m + gradient
    x = x - rate * (gradient + momentum * m if nesterov else m)
    path.append((x, m))
  return np.array(path)


def batch_means(values, order, batch_size, drop_remainder):
  starts = range(0, len(values), batch_size)
  means = [np.mean(values[list(order[start : start + batch_size])]) for start in starts]
  return means[: len(values) // batch_size] if drop_remainder else means


class WithoutReplacementTest(parameterized.TestCase):
  """The mean over all orders of one and of two epochs: what the formula must give, by enumeration."""

  @parameterized.product(
    method=METHODS,
    shape=((4, 1, False), (4, 2, False), (5, 2, False), (5, 2, True), (4, 3, False), (3, 3, False)),
    curvature=(0.3, 2.0, -0.4),
  )
  def test_every_order_of_one_epoch(self, method, shape, curvature):
    size, batch_size, drop = shape
    values = np.random.default_rng(0).normal(size=size)
    values -= values.mean()
    rates = [0.3, 0.2, 0.1, 0.25, 0.3]
    paths = []
    for order in itertools.permutations(range(size)):
      noises = batch_means(values, order, batch_size, drop)
      paths += [descend(start, noises, rates, curvature, **method) for start in (-1.5, 1.5)]
    paths = np.array(paths)
    count = paths.shape[1] - 1
    found = theory.second_moments(
      [curvature],
      np.mean(values**2),
      learning_rate=rates[:count],
      num_steps=count,
      batch_size=batch_size,
      initial=1.5**2,
      num_examples=size,
      drop_remainder=drop,
      **method,
    )
    # Means of up to 240 products of numbers of size 1: rounding of some tens of eps.
    np.testing.assert_allclose(
      found.position[:, 0], (paths[..., 0] ** 2).mean(axis=0), rtol=1e-12, atol=1e-13
    )
    np.testing.assert_allclose(found.cross[:, 0], paths.prod(axis=-1).mean(axis=0), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(
      found.momentum[:, 0], (paths[..., 1] ** 2).mean(axis=0), rtol=1e-12, atol=1e-13
    )

  @parameterized.product(method=METHODS, batch_size=(1, 2, 3))
  def test_every_order_of_two_epochs(self, method, batch_size):
    values = np.random.default_rng(1).normal(size=4)
    values -= values.mean()
    orders = list(itertools.permutations(range(4)))
    one = [batch_means(values, order, batch_size, False) for order in orders]
    paths = np.array(
      [
        descend(0.7, first + second, [0.4] * 8, 0.6, **method)
        for first, second in itertools.product(one, one)
      ]
    )
    count = paths.shape[1] - 1
    found = theory.second_moments(
      [0.6],
      np.mean(values**2),
      learning_rate=0.4,
      num_steps=count,
      batch_size=batch_size,
      initial=0.49,
      num_examples=4,
      **method,
    )
    np.testing.assert_allclose(found.position[:, 0], (paths[..., 0] ** 2).mean(axis=0), rtol=1e-12)

  @parameterized.parameters(*METHODS)
  def test_a_batch_of_all_examples_has_no_noise(self, **method):
    arguments = {'learning_rate': 0.2, 'num_steps': 20, 'batch_size': 6, **method}
    noisy = theory.second_moments(H, SIGMA2, num_examples=6, **arguments)
    silent = theory.second_moments(H, 0.0, **arguments)
    for found, expected in zip(noisy, silent):
      # Variances of a few eps of what cancels to 0.
      np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


class IndependentBatchesTest(parameterized.TestCase):
  """Three steps, each with any batch of two: a draw with replacement, or a fresh subset."""

  @parameterized.product(method=METHODS, subsets=(False, True))
  def test_every_batch_of_three_steps(self, method, subsets):
    values = np.array([-1.0, 0.25, 0.5, 0.25])
    batches = itertools.combinations(values, 2) if subsets else itertools.product(values, repeat=2)
    means = [np.mean(batch) for batch in batches]
    rates = [0.5, 0.1, 0.3]
    paths = np.array(
      [descend(1.2, noises, rates, 0.9, **method) for noises in itertools.product(means, repeat=3)]
    )
    found = theory.second_moments(
      [0.9],
      np.mean(values**2),
      learning_rate=rates,
      num_steps=3,
      batch_size=2,
      initial=1.44,
      subsets_of=4 if subsets else None,
      **method,
    )
    exact = np.mean(paths**2, axis=0)
    np.testing.assert_allclose(found.position[:, 0], exact[:, 0], rtol=1e-13)
    np.testing.assert_allclose(found.momentum[:, 0], exact[:, 1], rtol=1e-13)


class WithReplacementTest(parameterized.TestCase):
  def test_plain_descent_is_a_geometric_sum(self):
    found = theory.second_moments(H, SIGMA2, learning_rate=0.4, num_steps=30, batch_size=3, initial=2.0)
    kept = (1 - 0.4 * H) ** 2
    steps = np.arange(31)[:, None]
    exact = 2 * kept**steps + 0.4**2 * SIGMA2 / 3 * (1 - kept**steps) / (1 - kept)
    np.testing.assert_allclose(found.position, exact, rtol=1e-12)

  def test_nesterov_without_momentum_is_plain_descent(self):
    arguments = {'learning_rate': 0.4, 'num_steps': 9}
    plain = theory.second_moments(H, SIGMA2, **arguments)
    nesterov = theory.second_moments(H, SIGMA2, nesterov=True, **arguments)
    np.testing.assert_allclose(nesterov.position, plain.position, rtol=1e-14)

  def test_full_covariance_of_a_rotated_problem(self):
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    found = theory.covariance_path(
      rotation @ np.diag(H) @ rotation.T,
      rotation @ np.diag(SIGMA2) @ rotation.T,
      learning_rate=0.4,
      num_steps=12,
      batch_size=2,
    )
    each = theory.second_moments(H, SIGMA2, learning_rate=0.4, num_steps=12, batch_size=2)
    turned = np.einsum('ji,tjk,kl->til', rotation, found, rotation)
    np.testing.assert_allclose(turned, each.position[:, :, None] * np.eye(3), rtol=1e-12, atol=1e-13)


class FreshSubsetsTest(parameterized.TestCase):
  @parameterized.parameters(*METHODS)
  def test_stationary(self, **method):
    """Where the recursion ends, in one direction and many; with all examples there is no noise."""
    known = {'learning_rate': 0.3, 'batch_size': 3, 'subsets_of': 8, **method}
    h = np.array([2.0, 0.3, 0.1])
    path = theory.second_moments(h, SIGMA2, num_steps=1200, **known)
    found = theory.stationary_moments(h, SIGMA2, **known)
    np.testing.assert_allclose(found.position, path.position[-1], rtol=1e-10)
    dense = theory.stationary_covariance(np.diag(h), np.diag(SIGMA2), **known)
    np.testing.assert_allclose(np.diag(dense), found.position, rtol=1e-9)
    floor = theory.loss_floor(h, SIGMA2, **known)
    np.testing.assert_allclose(floor, h @ found.position / 2, rtol=1e-14)
    self.assertEqual(theory.loss_floor(h, SIGMA2, **known | {'batch_size': 8}), 0)

  def test_refuses(self):
    with self.assertRaisesRegex(InputError, 'subsets_of must be None with num_examples'):
      theory.stationary_moments([1.0], 1.0, learning_rate=0.1, num_examples=4, subsets_of=4)
    with self.assertRaisesRegex(InputError, 'batch_size must be at most'):
      theory.second_moments([1.0], 1.0, learning_rate=0.1, num_steps=1, batch_size=5, subsets_of=4)


class StationaryTest(parameterized.TestCase):
  @parameterized.product(method=METHODS, num_examples=(None, 6, 7), batch_size=(1, 2))
  def test_is_where_the_recursion_ends(self, method, num_examples, batch_size):
    h = np.array([2.0, 0.3, 0.1])
    arguments = {'learning_rate': 0.3, 'batch_size': batch_size, 'num_examples': num_examples, **method}
    found = theory.stationary_moments(h, SIGMA2, **arguments)
    epoch = 1 if num_examples is None else theory.updates_per_epoch(num_examples, batch_size)
    # The slowest mean falls by at least 0.97 per step: after 1,200 steps 1e-15 is left of the start.
    path = theory.second_moments(h, SIGMA2, num_steps=epoch * (1200 // epoch), **arguments)
    for exact, limit in zip(found, path):
      np.testing.assert_allclose(exact, limit[-1], rtol=1e-10, atol=1e-14)

  @parameterized.parameters(0.01, 0.9, 1.7)
  def test_closed_forms(self, rate):
    """The formulas of the docstring, and of REFERENCES for plain descent."""
    e, beta, batch_size = rate * H, 0.8, 4
    scale = rate * SIGMA2 / (batch_size * H)
    tau, delta = (1 + beta) * (1 - e), beta * (1 - e)
    plain = scale / (2 - e)
    heavy = scale * (1 + beta) / ((1 - beta) * (2 + 2 * beta - e))
    nesterov = ((1 + delta) * ((1 + beta) ** 2 + beta**2) - 2 * beta * (1 + beta) * tau) / (1 - delta)
    nesterov = scale * nesterov / (2 + 2 * beta - (1 + 2 * beta) * e)
    rates = {'learning_rate': rate, 'batch_size': batch_size}
    found = theory.stationary_moments(H[1:], SIGMA2[1:], **rates)
    np.testing.assert_allclose(found.position, plain[1:], rtol=1e-12)
    found = theory.stationary_moments(H[1:], SIGMA2[1:], momentum=beta, **rates)
    np.testing.assert_allclose(found.position, heavy[1:], rtol=1e-12)
    np.testing.assert_allclose(found.cross, -rate * found.momentum / 2, rtol=1e-12)
    found = theory.stationary_moments(H[1:], SIGMA2[1:], momentum=beta, nesterov=True, **rates)
    np.testing.assert_allclose(found.position, nesterov[1:], rtol=1e-12)

  @parameterized.parameters(*METHODS)
  def test_full_covariance_solves_its_equation(self, **method):
    generator = np.random.default_rng(2)
    root, other = generator.normal(size=(2, 4, 4))
    hessian, sigma = root @ root.T + np.eye(4), other @ other.T  # They do not commute.
    rate = 0.9 / np.linalg.eigvalsh(hessian)[-1]
    found = theory.stationary_covariance(hessian, sigma, learning_rate=rate, batch_size=3, **method)
    # By brute force: the state's recursion with the update written out as in Optax, until nothing changes.
    beta, eye, zero = method['momentum'], np.eye(4), np.zeros((4, 4))
    trace = np.hstack([hessian, beta * eye, eye])  # m' of (x, m, xi)
    used = np.hstack([hessian, zero, eye]) + beta * trace if method.get('nesterov') else trace
    moved = np.vstack([np.hstack([eye, zero, zero]) - rate * used, trace])
    state = np.zeros((8, 8))
    for _ in range(4000):
      state = moved @ scipy.linalg.block_diag(state, sigma / 3) @ moved.T
    np.testing.assert_allclose(found, state[:4, :4], rtol=1e-9, atol=1e-12 * np.abs(found).max())

  def test_diagonal_and_dense_agree(self):
    for method in METHODS:
      dense = theory.stationary_covariance(np.diag(H), np.diag(SIGMA2), learning_rate=0.5, **method)
      each = theory.stationary_moments(H, SIGMA2, learning_rate=0.5, **method)
      # The bilinear solver's error is eps over the gap of the slowest direction, (0.005)^2.
      np.testing.assert_allclose(np.diag(dense), each.position, rtol=1e-9)

  @parameterized.parameters(0.0, 0.9)
  def test_small_rates(self, beta):
    generator = np.random.default_rng(3)
    root, other = generator.normal(size=(2, 3, 3))
    hessian, sigma = root @ root.T + np.eye(3), other @ other.T
    errors = []
    # Between directions that do not commute momentum's error is about alpha h / (1 - beta)^2.
    for rate in np.array([1e-3, 1e-4]) * (1 - beta) ** 2:
      exact = theory.stationary_covariance(hessian, sigma, learning_rate=rate, momentum=beta)
      small = theory.small_rate_covariance(hessian, sigma, learning_rate=rate, momentum=beta)
      errors.append(np.abs(small / exact - 1).max())
    # An error of first order in the rate: ten times smaller at a tenth of it, up to second order (a few %).
    self.assertLess(errors[0], 0.05)
    self.assertAlmostEqual(errors[0] / errors[1], 10, delta=1.0)
    commuting = theory.small_rate_covariance(np.diag(H), np.diag(SIGMA2), learning_rate=0.1, batch_size=5)
    np.testing.assert_allclose(commuting, np.diag(0.1 * SIGMA2 / H / 10), rtol=1e-12)


class RefusalTest(parameterized.TestCase):
  @parameterized.parameters(
    ({'eigenvalues': [[1.0]]}, 'eigenvalues must have shape'),
    ({'noise': [1.0, 2.0]}, 'noise must be one number'),
    ({'noise': -1.0}, 'noise must be >= 0'),
    ({'initial': np.inf}, 'initial must be finite'),
    ({'learning_rate': [0.1, 0.2]}, 'learning_rate must be a number or have shape'),
    ({'num_steps': -1}, 'num_steps'),
    ({'momentum': 1.0}, r'momentum must be a real number in \[0, 1\)'),
    ({'batch_size': 5, 'num_examples': 4}, 'batch_size'),
  )
  def test_second_moments(self, wrong, message):
    right = {'eigenvalues': [1.0, 2.0, 3.0], 'noise': 1.0, 'learning_rate': 0.1, 'num_steps': 3}
    with self.assertRaisesRegex(InputError, message):
      theory.second_moments(**right | wrong)

  def test_stationary(self):
    with self.assertRaisesRegex(InputError, 'where descent is stable'):
      theory.stationary_moments([1.0, 2.0], 1.0, learning_rate=1.0)
    with self.assertRaisesRegex(InputError, 'positive definite'):
      theory.stationary_covariance(np.diag([1.0, -1.0]), np.eye(2), learning_rate=0.1)
    with self.assertRaisesRegex(InputError, 'symmetric'):
      theory.stationary_covariance([[1.0, 0.5], [0.0, 1.0]], np.eye(2), learning_rate=0.1)
    with self.assertRaisesRegex(InputError, 'noise_covariance must have shape'):
      theory.small_rate_covariance(np.eye(2), np.eye(3), learning_rate=0.1)

  def test_covariances(self):
    for call in (theory.stationary_covariance, theory.small_rate_covariance):
      with self.assertRaisesRegex(InputError, 'noise_covariance must be positive semidefinite'):
        call(np.eye(2), -np.eye(2), learning_rate=0.1)
    for wrong in ({'noise_covariance': -np.eye(2)}, {'initial': np.diag([1.0, -1.0])}):
      with self.assertRaisesRegex(InputError, 'must be positive semidefinite'):
        theory.covariance_path(
          **{'hessian': np.eye(2), 'noise_covariance': np.eye(2), 'learning_rate': 0.1, 'num_steps': 2}
          | wrong
        )
    with self.assertRaisesRegex(InputError, 'learning_rate must be a real number >= 0'):
      theory.covariance_path(np.eye(2), np.eye(2), learning_rate=[0.1, 0.2], num_steps=2)
    # Rounding of a singular covariance is let pass.
    vector = np.random.default_rng(0).normal(size=(5, 1)).astype(np.float32)
    theory.small_rate_covariance(np.eye(5), vector @ vector.T, learning_rate=0.1)
