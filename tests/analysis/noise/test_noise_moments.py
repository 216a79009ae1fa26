"""Moments of every parameter's gradient against NumPy, and against the covariance a quadratic was built from."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from noise_cases import LeastSquares, flat, loss

from gdlab import analysis, problems
from gdlab.core.errors import InputError
from gdlab.core.types import Examples, Problem

EPS = np.finfo(np.float64).eps

moments_of = jax.jit(analysis.gradient_moments, static_argnames='block_size')


class MomentsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(jax.enable_x64(True))

  # Blocks that leave a rest, and that exceed N.
  @parameterized.parameters(7, 256)
  def test_against_numpy(self, block_size):
    case = LeastSquares()
    found = moments_of(case.problem, case.params, (), jax.random.key(0), block_size=block_size)
    # Sums of 200 terms of order 10.
    np.testing.assert_allclose(flat(found.mean), case.mean, atol=1000 * EPS)
    np.testing.assert_allclose(flat(found.variance), np.diag(case.covariance), rtol=1000 * EPS)

  def test_the_covariance_of_a_quadratic(self):
    noise = np.array([0.5, 2.0, 0.0])
    problem = problems.quadratic([1.0, 10.0, 3.0], noise=noise, num_examples=40)
    point = jnp.array([1.0, -2.0, 0.5])
    found = moments_of(problem, point, (), jax.random.key(0), block_size=9)
    np.testing.assert_allclose(found.mean, [1.0, -20.0, 1.5], rtol=1e-12)
    # Rows of order sqrt(N noise), about means of order 20.
    np.testing.assert_allclose(found.variance, noise, atol=1e-12)
    trace = analysis.gradient_covariance_trace(problem, point, (), jax.random.key(1)).covariance_trace
    np.testing.assert_allclose(found.variance.sum(), trace, rtol=1e-12)

  def test_variance_survives_a_mean_that_dwarfs_it(self):
    # In float32, gradients of 1000 ± 0.5: squares of 1e6 have a spacing of 0.06, the variance is 0.25.
    targets = jnp.where(jnp.arange(60) % 2 == 0, -999.5, -1000.5).astype(jnp.float32)
    problem = Problem(None, loss, None, 'bias', Examples(jnp.zeros((60, 1), jnp.float32), targets))
    params = {'w': jnp.zeros(1, jnp.float32), 'b': jnp.zeros((), jnp.float32)}
    found = moments_of(problem, params, (), jax.random.key(0), block_size=8)
    self.assertEqual((found.mean['b'].dtype, found.variance['b'], found.mean['b']), (jnp.float32, 0.25, 1000))

  def test_signal_to_noise(self):
    moments = analysis.ParameterMoments({'a': jnp.array([3.0, -2.0])}, {'a': jnp.array([4.0, 0.0])})
    np.testing.assert_array_equal(analysis.signal_to_noise(moments, batch_size=16)['a'], [6.0, np.inf])
    with self.assertRaisesRegex(InputError, 'batch_size.*0'):
      analysis.signal_to_noise(moments, batch_size=0)

  def test_refuses_block_size(self):
    case = LeastSquares()
    with self.assertRaisesRegex(InputError, 'block_size'):
      analysis.gradient_moments(case.problem, case.params, (), jax.random.key(0), block_size=0)
