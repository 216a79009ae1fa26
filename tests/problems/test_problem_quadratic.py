"""The quadratic against its formula, and its noise against the laws of sampling, in float64."""

import itertools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from gdlab.core.errors import InputError
from gdlab.problems import quadratic, quadratics


def per_example_gradients(problem, point):
  def value(params, example):
    one = jax.tree.map(lambda leaf: leaf[None], example)
    return problem.loss(params, (), one, jnp.ones(1, bool), jax.random.key(0))[0][0]

  return np.asarray(jax.vmap(jax.grad(value), (None, 0))(point, problem.train))


class QuadraticTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))

  @parameterized.parameters(
    ([1.0, 10.0, 100.0], 0.0, None),
    ([1.0, 10.0, 100.0], 0.5, None),
    ([0.0, 3.0], [0.2, 0.0], 3),
    ([2.0], [4.0], 2),
  )
  def test_moments_are_exact(self, eigenvalues, noise, num_examples):
    problem = quadratic(eigenvalues, noise=noise, num_examples=num_examples)
    size = len(eigenvalues)
    point = np.random.default_rng(0).normal(size=size)
    gradients = per_example_gradients(problem, point)
    # Sums of N numbers of order sqrt(N * noise): N * eps.
    atol = 1e-12
    np.testing.assert_allclose(gradients.mean(0), np.array(eigenvalues) * point, atol=atol)
    centred = gradients - gradients.mean(0)
    expected = np.diag(np.broadcast_to(noise, size))
    np.testing.assert_allclose(centred.T @ centred / len(gradients), expected, atol=atol)

    losses = problem.metrics(point, (), problem.train)['loss']
    np.testing.assert_allclose(losses.mean(), np.dot(eigenvalues, point**2) / 2, rtol=1e-12)
    np.testing.assert_allclose(losses, np.dot(eigenvalues, point**2) / 2 + centred @ point, rtol=1e-10)

  def test_known(self):
    known = quadratic([3.0, 0.5, 7.0], noise=1.0).known
    self.assertEqual((known.value, known.smoothness, known.strong_convexity), (0, 7, 0.5))
    np.testing.assert_array_equal(known.params, np.zeros(3))
    np.testing.assert_allclose(
      per_example_gradients(quadratic([3.0, 0.5]), np.zeros(2)), np.zeros((1, 2)), atol=0
    )

  def test_its_stationary_point(self):
    points = quadratic([3.0, 0.5, 7.0], noise=1.0).known.stationary_points
    np.testing.assert_array_equal(points.params, np.zeros((1, 3)))
    np.testing.assert_array_equal(points.eigenvalues, [[0.5, 3.0, 7.0]])
    self.assertEqual((points.values, points.index, points.basin, points.complete), (0, 0, np.inf, True))
    flat = quadratic([3.0, 0.0]).known.stationary_points
    self.assertEqual((flat.basin, flat.complete), (0, False))

  @parameterized.parameters(1, 2, 4, 5)
  def test_batches_without_replacement_have_the_finite_population_law(self, batch_size):
    noise, count = np.array([0.5, 2.0]), 5
    problem = quadratic([1.0, 1.0], noise=noise, num_examples=count)
    vectors = np.asarray(problem.train.noise)
    means = np.array(
      [vectors[list(rows)].mean(0) for rows in itertools.combinations(range(count), batch_size)]
    )
    # All batches are enumerated, so that the covariance is exact.
    expected = np.diag(noise) / batch_size * (count - batch_size) / (count - 1)
    np.testing.assert_allclose(means.T @ means / len(means), expected, atol=1e-14)

  def test_number_of_examples(self):
    self.assertEqual(quadratic([1.0]).num_examples, 1)
    self.assertEqual(quadratic([1.0], num_examples=7).num_examples, 7)
    self.assertEqual(quadratic([1.0], noise=1.0).num_examples, 1024)
    with mock.patch.object(quadratics, '_DEFAULT_EXAMPLES', 4):
      self.assertEqual(quadratic(np.ones(6), noise=1.0).num_examples, 7)

  def test_start(self):
    with jax.enable_x64(False):
      params, state = quadratic([1.0, 2.0], start=[3, -4]).init(jax.random.key(0))
      self.assertEqual((params.tolist(), str(params.dtype), state), ([3, -4], 'float32', ()))
    problem = quadratic([1.0, 2.0], initial_scale=3.0)
    draws = np.asarray(jax.vmap(problem.init)(jax.random.split(jax.random.key(1), 4000))[0])
    # Five standard errors of a mean and of a variance.
    self.assertLess(abs(draws.mean()), 5 * 3 / np.sqrt(draws.size))
    self.assertLess(abs(draws.var() - 9), 5 * 9 * np.sqrt(2 / draws.size))

  def test_other_eigenvalues_do_not_compile_again(self):
    traces = []

    @jax.jit
    def value(problem, params):
      traces.append(None)
      return problem.metrics(params, (), problem.train)['loss'].mean()

    found = [float(value(quadratic([a, 2.0], noise=a), jnp.ones(2))) for a in (1.0, 5.0)]
    np.testing.assert_allclose(found, [1.5, 3.5], rtol=1e-12)
    self.assertLen(traces, 1)

  @parameterized.parameters(
    (lambda: quadratic([]), 'eigenvalues must be one or more numbers'),
    (
      lambda: quadratic([[1.0]]),
      r'eigenvalues must be one or more numbers in one dimension, got \[\[1.0\]\]',
    ),
    (lambda: quadratic([1.0, -2.0]), r'eigenvalues must be numbers >= 0.*-2.0'),
    (lambda: quadratic([1.0, np.inf]), 'eigenvalues must be finite, got inf'),
    (lambda: quadratic([1.0], noise=-0.1), 'noise must be numbers >= 0.*-0.1'),
    (lambda: quadratic([1.0], noise=None), 'noise must be a rectangular array of real numbers'),
    (lambda: quadratic([1.0], noise=[1.0, 2.0]), r'noise.*\(1,\), got \(2,\)'),
    (lambda: quadratic([1.0, 1.0], noise=0.1, num_examples=2), 'num_examples.*>= 3, got 2'),
    (lambda: quadratic([1.0], start=3), r'start must have shape \(1,\).*got \(\)'),
    (lambda: quadratic([1.0], num_examples=0), 'num_examples.*>= 1, got 0'),
    (lambda: quadratic([1.0], start=[1.0, 2.0]), r'start must have shape \(1,\).*\(2,\)'),
    (lambda: quadratic([1.0], initial_scale=-1.0), 'initial_scale.*-1.0'),
  )
  def test_refusals(self, build, message):
    with self.assertRaisesRegex(InputError, message):
      build()
