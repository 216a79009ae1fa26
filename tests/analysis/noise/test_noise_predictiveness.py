"""Loss and gradient along the gradient against the closed form of a quadratic."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from noise_cases import LeastSquares

from gdlab import analysis, problems
from gdlab.core.errors import InputError

predictiveness = jax.jit(analysis.gradient_predictiveness, static_argnames='block_size')


class PredictivenessTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(jax.enable_x64(True))

  def test_closed_form(self):
    case, steps = LeastSquares(), np.array([0.5, -0.1, 2.0])
    found = predictiveness(case.problem, case.params, (), jax.random.key(0), steps, block_size=70)
    g, bent = case.mean, case.hessian @ case.mean
    value = mean_loss(case)
    np.testing.assert_allclose(found.loss, value, rtol=1e-12)
    np.testing.assert_allclose(found.grad_norm, np.linalg.norm(g), rtol=1e-12)
    np.testing.assert_allclose(found.losses, value - steps * (g @ g) + steps**2 / 2 * (g @ bent), rtol=1e-10)
    norm = np.linalg.norm(bent)
    np.testing.assert_allclose(found.gradient_changes, abs(steps) * norm, rtol=1e-10)
    np.testing.assert_allclose(found.smoothness, norm / np.linalg.norm(g), rtol=1e-10)
    others = g - steps[:, None] * bent
    cosines = others @ g / np.linalg.norm(others, axis=1) / np.linalg.norm(g)
    np.testing.assert_allclose(found.cosines, cosines, rtol=1e-10)

  def test_where_the_gradient_is_zero(self):
    case = LeastSquares()
    examples = case.problem.train._replace(inputs=jnp.zeros((200, 4)), targets=jnp.full(200, 0.25))
    problem = dataclasses.replace(case.problem, train=examples)  # every residual is exactly zero
    found = predictiveness(problem, case.params, (), jax.random.key(0), np.ones(3), block_size=70)
    self.assertEqual((found.grad_norm, found.gradient_changes.max()), (0, 0))
    self.assertTrue(np.isnan(found.cosines).all() and np.isnan(found.smoothness).all())

  def test_half_precision_parameters_move(self):
    problem, point = problems.quadratic([4.0, 1.0]), jnp.array([0.5, -2.0], jnp.bfloat16)
    found = predictiveness(problem, point, (), jax.random.key(0), np.array([1e-4]), block_size=1)
    # The gradient (2, -2) changes by 1e-4 (8, -2); float32 rounds it by eps.
    np.testing.assert_allclose(
      found.gradient_changes, 1e-4 * np.hypot(8, 2), atol=8 * np.finfo(np.float32).eps
    )

  def test_refusals(self):
    case = LeastSquares(3)
    for steps in (0.1, []):
      with self.assertRaisesRegex(InputError, 'steps'):
        analysis.gradient_predictiveness(case.problem, case.params, (), jax.random.key(0), steps)


def mean_loss(case):
  """The mean loss, from the per-example gradients: the first of them is the residual."""
  return (case.gradients[:, 0] ** 2).mean() / 2
