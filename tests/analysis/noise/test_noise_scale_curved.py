"""Both noise scales over the whole training set against dense NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from noise_cases import LeastSquares

from gdlab import analysis, problems
from gdlab.core.errors import InputError

scales_of = jax.jit(analysis.noise_scales, static_argnames=('num_probes', 'block_size'))


class CurvedScaleTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(jax.enable_x64(True))

  def test_against_dense(self):
    case = LeastSquares()
    found = scales_of(case.problem, case.params, (), jax.random.key(0), num_probes=1000, block_size=60)
    along = case.mean @ case.hessian @ case.mean
    # Exact: sums of 200 terms in float64.
    np.testing.assert_allclose(
      [found.simple, found.covariance_trace, found.gradient_square, found.gradient_curvature],
      [case.scale, case.trace, case.square, along],
      rtol=1e-12,
    )
    truth = np.trace(case.hessian @ case.covariance)
    self.assertLess(abs(found.curved_trace - truth), 4 * found.curved_trace_error)
    # v is near Gaussian (200 terms): the variance of v'Hv is 2 tr(H Sigma)^2, less the diagonal's share of order
    # 1/N; the error of an error from 1000 skewed numbers is below 10 %.
    product = case.hessian @ case.covariance
    expected = (2 * np.trace(product @ product) / 1000) ** 0.5
    np.testing.assert_allclose(found.curved_trace_error, expected, rtol=0.3)
    np.testing.assert_allclose(found.noise, found.curved_trace / along, rtol=1e-12)
    np.testing.assert_allclose(found.noise_error, found.curved_trace_error / along, rtol=1e-12)

  def test_the_two_agree_where_the_hessian_is_a_multiple_of_the_identity(self):
    # Each v'Hv is then 3 |v|^2, and its mean 3 tr Sigma.
    problem = problems.quadratic([3.0, 3.0], noise=[1.0, 2.0], num_examples=50)
    found = scales_of(problem, jnp.array([1.0, 1.0]), (), jax.random.key(1), num_probes=400)
    np.testing.assert_allclose(found.simple, 3 / 18, rtol=1e-12)
    self.assertLess(abs(found.noise - 3 / 18), 4 * found.noise_error)

  def test_undefined_scales(self):
    # At the minimum G = 0.
    problem = problems.quadratic([1.0], noise=1.0, num_examples=2)
    found = scales_of(problem, jnp.zeros(1), (), jax.random.key(2), num_probes=2)
    self.assertEqual(found.simple, np.inf)
    self.assertTrue(np.isnan(found.noise))

  def test_refusals(self):
    case = LeastSquares(5)
    for options, message in (({'num_probes': 1}, 'num_probes'), ({'block_size': 0}, 'block_size')):
      with self.assertRaisesRegex(InputError, message):
        analysis.noise_scales(case.problem, case.params, (), jax.random.key(0), **options)
