"""Noise put on a problem: the law of batch gradients against the stated one, and what must not change."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from gradient_moments import assert_moments, batch_of, gradients
from jax.flatten_util import ravel_pytree

import gdlab
from gdlab.core.errors import InputError
from gdlab.core.objective import batch_loss
from gdlab.core.types import Batch
from gdlab.problems import quadratic
from gdlab.problems.matrices import deep_linear_network, low_rank_factorization, population_phase_retrieval
from gdlab.problems.noise import gaussian, heavy_tailed, hessian_noise, isotropic, state_dependent, with_noise

COVARIANCE = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]])
SINGULAR = np.outer([1.0, 2.0, 0.0], [1.0, 2.0, 0.0])


def deviation(params):
  return 1 + params**2


def one_deviation(params):
  return jnp.sqrt(jnp.sum(params**2))


class NoiseModelsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))
    self.point = np.array([0.5, -1.0, 2.0])

  @parameterized.named_parameters(
    ('isotropic', isotropic(0.7), lambda x: 0.7 * np.eye(3)),
    ('none', isotropic(0.0), lambda x: np.zeros((3, 3))),
    ('gaussian', gaussian(COVARIANCE), lambda x: COVARIANCE),
    ('singular', gaussian(SINGULAR), lambda x: SINGULAR),
    ('hessian', hessian_noise(0.3), lambda x: 0.3 * np.diag([1.0, 10.0, 3.0])),
    ('normal_by_alpha_2', heavy_tailed(2.0, 0.5), lambda x: 2 * 0.5**2 * np.eye(3)),
    ('state_dependent', state_dependent(deviation), lambda x: np.diag((1 + x**2) ** 2)),
    ('state_dependent_alike', state_dependent(one_deviation), lambda x: x @ x * np.eye(3)),
  )
  def test_batch_gradients_have_the_covariance_over_the_batch_size(self, noise, covariance):
    curvatures = np.array([1.0, 10.0, 3.0])
    problem = with_noise(quadratic(curvatures), noise)
    for weights, share in (
      ([1.0] + [0.0] * 7, 1.0),
      ([1 / 8] * 8, 1 / 8),
      ([0.5, 0.25, 0.25] + [0.0] * 5, 0.375),  # importance, and padding
    ):
      draws = gradients(problem, self.point, batch_of(weights), 6000)
      assert_moments(draws, curvatures * self.point, share * covariance(self.point))

  @parameterized.parameters(0.0, 1.0)
  def test_hessian_noise_takes_the_absolute_eigenvalues(self, at):
    problem = population_phase_retrieval([1.0, 0.5])
    point = np.array([at, -0.2])
    value = lambda p: problem.metrics(p, (), problem.train)['loss'].mean()
    eigenvalues, vectors = np.linalg.eigh(np.asarray(jax.hessian(value)(point)))
    self.assertEqual((eigenvalues < 0).any(), at == 0.0)
    expected = 0.2 * vectors * np.abs(eigenvalues) @ vectors.T
    draws = gradients(with_noise(problem, hessian_noise(0.2)), point, batch_of([0.5, 0.5]), 6000)
    assert_moments(draws, np.asarray(jax.grad(value)(point)), expected / 2)

  @parameterized.parameters(isotropic(0.3), state_dependent(lambda params: jax.tree.map(jnp.abs, params)))
  def test_parameters_may_be_a_tree(self, noise):
    problem = deep_linear_network([1.0, 0.5], width=1)
    params = (np.array([[0.5, -0.2]]), np.array([[1.0], [0.4]]))
    mean = gradients(problem, params, batch_of([1.0]), 1)[0]
    draws = gradients(with_noise(problem, noise), params, batch_of([0.25] * 4), 6000)
    flat = np.asarray(ravel_pytree(params)[0])
    covariance = 0.3 * np.eye(4) if noise == isotropic(0.3) else np.diag(flat**2)
    assert_moments(draws, mean, covariance / 4)

  @parameterized.parameters(
    isotropic(1.0),
    gaussian(COVARIANCE),
    hessian_noise(1.0),
    heavy_tailed(1.5, 1.0),
    state_dependent(deviation),
  )
  def test_values_hessians_and_metrics_are_unchanged(self, noise):
    plain = quadratic([1.0, 10.0, 3.0])
    noisy = with_noise(plain, noise, num_examples=6)
    batch, key = batch_of([0.25] * 4), jax.random.key(3)
    value = lambda problem, params: batch_loss(problem, params, (), batch, key)[0]
    self.assertEqual(value(noisy, self.point), value(with_noise(plain, isotropic(0.0)), self.point))
    hessian = jax.hessian(value, argnums=1)(noisy, self.point)
    np.testing.assert_allclose(hessian, np.diag([1.0, 10.0, 3.0]), rtol=0, atol=1e-14)
    self.assertEqual(noisy.num_examples, 6)
    expected = float(plain.metrics(self.point, (), plain.train)['loss'][0])
    np.testing.assert_allclose(
      noisy.metrics(self.point, (), noisy.train)['loss'], np.full(6, expected), rtol=1e-15
    )
    self.assertEqual(noisy.known.smoothness, 10.0)
    self.assertEqual(noisy.init, plain.init)

  def test_the_dtype_is_that_of_the_parameters(self):
    for x64, dtype in ((True, jnp.float64), (False, jnp.float32)):
      with jax.enable_x64(x64):
        for noise in (gaussian(COVARIANCE), hessian_noise(1.0), state_dependent(deviation)):
          problem = with_noise(quadratic([1.0, 2.0, 3.0]), noise)
          found = gradients(problem, jnp.ones(3), batch_of([1.0]), 1)
          self.assertEqual(found.dtype, dtype)

  def test_a_problem_with_examples_keeps_them(self):
    plain = gdlab.problems.linear_regression([[1.0], [2.0], [4.0]], [1.0, 2.0, 3.0])
    noisy = with_noise(plain, isotropic(0.5))
    self.assertEqual(noisy.num_examples, 3)
    draws = gradients(noisy, jnp.zeros(1), Batch(jnp.array([2]), jnp.ones(1)), 6000)
    assert_moments(draws, np.array([-12.0]), np.array([[0.5]]))

  def test_equal_noise_makes_equal_problems(self):
    for make in (
      lambda: isotropic(0.5),
      lambda: gaussian(COVARIANCE),
      lambda: hessian_noise(0.5),
      lambda: heavy_tailed(1.5, 0.5),
      lambda: state_dependent(deviation),
    ):
      one, other = (with_noise(quadratic([1.0, 2.0, 3.0]), make()) for _ in range(2))
      self.assertEqual(jax.tree.structure(one), jax.tree.structure(other))
      self.assertEqual(hash(one.loss), hash(other.loss))

  def test_noise_of_your_own(self):
    @dataclasses.dataclass(frozen=True)
    class Shift:
      def __call__(self, key, params, count, loss):
        return jnp.full((count, 2), loss(params))

    problem = with_noise(quadratic([1.0, 2.0]), Shift())
    draws = gradients(problem, jnp.array([1.0, 1.0]), batch_of([0.5, 0.5]), 1)
    np.testing.assert_allclose(draws, [[2.5, 3.5]])

  @parameterized.parameters(
    (lambda: isotropic(-1.0), 'variance must be a real number >= 0, got -1.0'),
    (lambda: gaussian([1.0]), 'covariance must be a square matrix'),
    (lambda: gaussian([[1.0, 0.5], [0.0, 1.0]]), 'covariance must be symmetric'),
    (lambda: gaussian([[1.0, 2.0], [2.0, 1.0]]), 'covariance must be symmetric and positive semidefinite'),
    *(
      (lambda value=value: gaussian(value), 'covariance must be a rectangular array of real numbers')
      for value in ('abc', [[1.0], [1.0, 2.0]], [[1j]])
    ),
    (lambda: gaussian(np.zeros((0, 0))), 'covariance must be a square matrix'),
    (lambda: gaussian([[np.inf]]), 'covariance must be finite, got inf'),
    (lambda: with_noise(3, isotropic(1.0)), 'problem must be a gdlab Problem such as .*, got 3'),
    (lambda: hessian_noise(np.nan), 'scale.*nan'),
    (lambda: heavy_tailed(0.0, 1.0), 'alpha.*0.0'),
    (lambda: heavy_tailed(2.5, 1.0), r'alpha must be a real number in \(0, 2\], got 2.5'),
    (lambda: heavy_tailed(1.5, -1.0), 'scale.*-1.0'),
    (lambda: state_dependent(1.0), 'deviation must be a function'),
    (lambda: with_noise(quadratic([1.0]), 0.1), 'noise must be a law such as'),
    (lambda: with_noise(quadratic([1.0]), isotropic(1.0), num_examples=0), 'num_examples.*0'),
    (lambda: with_noise(quadratic([1.0]), gaussian(COVARIANCE)), r'covariance must have shape \(1, 1\)'),
    (
      lambda: with_noise(quadratic([1.0] * 3), state_dependent(lambda p: p[:2])),
      'deviation must return one number or one for each of the 3 parameters, got 2',
    ),
    (
      lambda: with_noise(quadratic([1.0], noise=1.0), hessian_noise(1.0)),
      "hessian_noise needs a problem with one example.*'quadratic' with 1024",
    ),
    (
      lambda: with_noise(
        low_rank_factorization([1.0, 2.0], 1), lambda key, params, count, loss: jnp.zeros(2)
      ),
      r'noise must have shape \(1, 2\), got \(2,\)',
    ),
  )
  def test_refusals(self, build, message):
    with self.assertRaisesRegex(InputError, message):
      build()
