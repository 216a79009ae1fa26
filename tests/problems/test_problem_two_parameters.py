"""The two-parameter network's stationary points, by derivatives, by search and by gradient flow, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from scipy import integrate, optimize

from gdlab.core.errors import InputError
from gdlab.problems.two_parameters import two_parameter_network


def objective(problem):
  """The training loss as a function of the parameters, through JAX."""
  return lambda params: problem.metrics(params, (), problem.train)['loss'].mean()


class TwoParameterNetworkTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))
    self.problem = two_parameter_network()
    self.f = objective(self.problem)
    self.gradient = jax.jit(jax.grad(self.f))
    self.points = self.problem.known.stationary_points

  def test_gradient_and_symmetry(self):
    x, y = np.asarray(self.problem.train.inputs), np.asarray(self.problem.train.targets)
    value = lambda p: np.mean((p[0] * np.tanh(p[1] * x) - y) ** 2) / 2
    for point in np.random.default_rng(0).uniform(-3, 3, (5, 2)):
      np.testing.assert_allclose(self.f(point), value(point), rtol=1e-12)
      np.testing.assert_allclose(self.f(-point), value(point), rtol=1e-12)
      # Central differences: h^2 times a third derivative of order 10, eps/h.
      np.testing.assert_allclose(self.gradient(point), optimize.approx_fprime(point, value, 1e-7), atol=1e-5)

  def test_data_are_standardised(self):
    for leaf in self.problem.train:
      self.assertEqual(leaf.shape, (442,))
      np.testing.assert_allclose([np.mean(leaf), np.var(leaf)], [0, 1], atol=1e-13)

  def test_stationary_points(self):
    np.testing.assert_array_equal(self.points.params[1], 0)
    hessian = jax.jit(jax.hessian(self.f))
    for place, point in enumerate(self.points.params):
      # At a minimum known to 1e-12 the gradient is at most L * 1e-12 and rounding of a mean.
      np.testing.assert_allclose(self.gradient(point), 0, atol=1e-12)
      np.testing.assert_allclose(self.f(point), self.points.values[place], rtol=1e-13)
      np.testing.assert_allclose(
        np.linalg.eigvalsh(hessian(point)), self.points.eigenvalues[place], rtol=1e-10, atol=1e-14
      )
    np.testing.assert_array_equal(self.points.index, [0, 1, 0])
    correlation = np.mean(np.asarray(self.problem.train.inputs) * np.asarray(self.problem.train.targets))
    np.testing.assert_allclose(self.points.eigenvalues[1], [-correlation, correlation], rtol=1e-13)
    np.testing.assert_array_equal(self.problem.known.params, -self.points.params[0])
    self.assertEqual(self.problem.known.value, self.points.values.min())

  def test_a_search_from_many_starts_finds_no_others(self):
    self.assertTrue(self.points.complete)
    (low, high), size = self.problem.known.box[0], 15
    hessian, found = jax.jit(jax.hessian(self.f)), []
    for start in np.stack(np.meshgrid(*[np.linspace(low, high, size)] * 2), -1).reshape(-1, 2):
      # Roots of the gradient: saddles are found as minima are.
      root = optimize.root(self.gradient, start, jac=hessian, tol=1e-13)
      inside = (np.abs(root.x) <= high).all()
      if inside and np.linalg.norm(self.gradient(root.x)) < 1e-10:
        found.append(np.linalg.norm(self.points.params - root.x, axis=1))
    self.assertGreater(len(found), size)
    self.assertLess(np.min(found, axis=1).max(), 1e-8)
    # And each of the three is found.
    self.assertLess(np.min(found, axis=0).max(), 1e-8)

  def test_the_loss_at_the_best_a_has_one_minimum_in_b(self):
    x, y = np.asarray(self.problem.train.inputs), np.asarray(self.problem.train.targets)
    hidden = np.tanh(np.linspace(1e-3, 3, 3000)[:, None] * x)
    # No stationary point has a = 0 and b > 0, and every one with b > 0 is on the curve of the best a.
    self.assertGreater((hidden @ y).min(), 0)
    loss = np.var(y) / 2 - (hidden @ y) ** 2 / np.sum(hidden**2, axis=1) / x.size / 2
    falls = np.diff(loss) < 0
    self.assertEqual(np.count_nonzero(falls[1:] != falls[:-1]), 1)
    self.assertTrue(falls[0])
    np.testing.assert_allclose(loss.min(), self.problem.known.value, atol=1e-6)

  def test_basins(self):
    minimum, radius = self.points.params[2], self.points.basin[2]
    self.assertGreater(radius, 0.5)
    self.assertEqual(self.points.basin[1], 0)
    for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False):
      start = minimum + 0.999 * radius * np.array([np.cos(angle), np.sin(angle)])
      flow = lambda t, p: -np.asarray(self.gradient(p))
      # At the end the distance has fallen by e^-40 since the flow came near; what stays is the solver's error.
      duration = 40 / self.points.eigenvalues[2, 0]
      end = integrate.solve_ivp(flow, (0, duration), start, method='LSODA', rtol=1e-8, atol=1e-10).y[:, -1]
      np.testing.assert_allclose(end, minimum, atol=1e-6)

  def test_start(self):
    fixed, state = two_parameter_network(start=(1, -2)).init(jax.random.key(0))
    self.assertEqual((fixed.tolist(), state), ([1, -2], ()))
    with jax.enable_x64(False):
      problem = two_parameter_network()
      self.assertEqual({str(leaf.dtype) for leaf in problem.train}, {'float32'})
      self.assertEqual(jnp.shape(problem.init(jax.random.key(1))[0]), (2,))
      # Known for the data as stored: rounded to float32, they move the minimum by some 1e-8.
      moved = np.abs(problem.known.params - self.problem.known.params).max()
      self.assertTrue(0 < moved < 1e-6)

  @parameterized.parameters(
    ({'initial_scale': 0}, 'initial_scale.*0'),
    ({'start': (1.0, np.inf)}, r'start\[1\].*inf'),
    ({'start': (1.0,)}, r'start must be.*\(1.0,\)'),
  )
  def test_refusals(self, options, message):
    with self.assertRaisesRegex(InputError, message):
      two_parameter_network(**options)
