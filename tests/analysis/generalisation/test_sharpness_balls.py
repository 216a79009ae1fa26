"""SAM-type and adaptive sharpness and flatness against closed forms on quadratics."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from gdlab import analysis, problems
from gdlab.core.errors import InputError
from gdlab.core.types import Problem

sam = jax.jit(analysis.sam_sharpness, static_argnames='num_steps')
adaptive = jax.jit(analysis.adaptive_sharpness, static_argnames='num_steps')
CURVATURES = np.array([4.0, 1.0, 0.25])
POINT = np.array([0.5, -2.0, 3.0])


def height(point):
  return CURVATURES @ point**2 / 2


class BallTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(jax.enable_x64(True))
    self.problem = problems.quadratic(CURVATURES)

  def test_one_step_at_a_slope(self):
    gradient = CURVATURES * POINT
    plain = 0.1 * gradient / np.linalg.norm(gradient)
    adapted = 0.1 * POINT**2 * gradient / np.linalg.norm(POINT * gradient)
    for sharpness, move in ((sam, plain), (adaptive, adapted)):
      found = sharpness(self.problem, jnp.asarray(POINT), (), jax.random.key(0), radius=0.1)
      np.testing.assert_allclose(found.perturbation, move, rtol=1e-12)
      np.testing.assert_allclose(found.loss, height(POINT), rtol=1e-12)
      np.testing.assert_allclose(found.sharpness, height(POINT + move) - height(POINT), rtol=1e-10)

  def test_many_steps_at_the_minimum_are_power_iteration(self):
    # From a random start; the second eigenvalue is a quarter of the first. A point that is off by d is lower by d².
    found = sam(self.problem, jnp.zeros(3), (), jax.random.key(0), radius=0.3, num_steps=30)
    np.testing.assert_allclose(found.sharpness, 0.3**2 / 2 * 4, rtol=1e-12)
    np.testing.assert_allclose(np.abs(found.perturbation), [0.3, 0, 0], atol=1e-7)

  def test_many_steps_stay_on_the_adapted_ball_and_climb(self):
    one, many = (
      adaptive(self.problem, jnp.asarray(POINT), (), jax.random.key(0), radius=2.0, num_steps=steps)
      for steps in (1, 200)
    )
    self.assertGreater(many.sharpness, one.sharpness)
    np.testing.assert_allclose(np.linalg.norm(many.perturbation / POINT), 2, rtol=1e-12)
    # The highest of a million points of the ball: none is above what was found, and the best comes near.
    points = np.random.default_rng(0).normal(size=(1_000_000, 3))
    points *= 2 / np.linalg.norm(points, axis=1, keepdims=True)
    highest = ((POINT + POINT * points) ** 2 @ CURVATURES / 2).max() - height(POINT)
    self.assertLessEqual(highest, many.sharpness * (1 + 1e-12))
    np.testing.assert_allclose(highest, many.sharpness, rtol=1e-3)

  def test_no_higher_point_and_no_number(self):
    falling = lambda params, model_state, examples: {'loss': -jnp.sum(params**2)[None]}
    problem = Problem(None, None, falling, 'peak', jnp.zeros((1, 1)))
    found = sam(problem, jnp.zeros(2), (), jax.random.key(0), num_steps=2)
    self.assertEqual(found.sharpness, 0)
    np.testing.assert_array_equal(found.perturbation, np.zeros(2))
    root = lambda params, model_state, examples: {'loss': -jnp.sqrt(params)}
    problem = Problem(None, None, root, 'edge', jnp.zeros((1, 1)))
    found = sam(problem, jnp.ones(1), (), jax.random.key(0), radius=2.0, num_steps=3)
    self.assertTrue(np.isnan(found.sharpness))

  def test_half_precision_parameters_move(self):
    # At a radius far below their spacing; POINT itself they hold exactly. In float32: losses of about 4.
    point, gradient = jnp.asarray(POINT, jnp.bfloat16), CURVATURES * POINT
    for measure, rise in (
      (sam, 1e-3 * np.linalg.norm(gradient)),
      (adaptive, 1e-3 * np.linalg.norm(POINT * gradient)),
    ):
      found = measure(self.problem, point, (), jax.random.key(0), radius=1e-3)
      self.assertEqual(found.perturbation.dtype, jnp.float32)
      # To first order; the second is at most 1e-6 max h s^2 / 2.
      np.testing.assert_allclose(found.sharpness, rise, atol=3e-6 + 8 * np.finfo(np.float32).eps)
    find = jax.jit(analysis.flatness, static_argnames='num_pairs')
    flat = find(self.problem, point, (), jax.random.key(0), sigma=1e-3, num_pairs=2)
    self.assertGreater(flat.standard_error, 0)

  def test_flatness_of_a_quadratic(self):
    # Each pair's rise is σ²/2 Σ h s² ξ², of mean σ²/2 Σ h s² and variance σ⁴/2 Σ (h s²)², at any point.
    find = jax.jit(analysis.flatness, static_argnames=('relative', 'num_pairs'))
    for relative, sizes in ((False, np.ones(3)), (True, POINT)):
      found = find(
        self.problem, jnp.asarray(POINT), (), jax.random.key(1), sigma=0.2, relative=relative, num_pairs=2000
      )
      stretched = CURVATURES * sizes**2
      self.assertLess(abs(found.rise - 0.02 * stretched.sum()), 4 * found.standard_error)
      expected = 0.04 * (np.sum(stretched**2) / 2 / 2000) ** 0.5
      # The relative error of a standard deviation of chi-square numbers (kurtosis 15): sqrt(14 / 4 / 2000).
      np.testing.assert_allclose(found.standard_error, expected, rtol=4 * 0.042)
      np.testing.assert_allclose(found.loss, height(POINT), rtol=1e-12)

  @parameterized.parameters(
    (analysis.sam_sharpness, {'radius': 0.0}, 'radius'),
    (analysis.adaptive_sharpness, {'num_steps': 0}, 'num_steps'),
    (analysis.flatness, {'sigma': -1.0}, 'sigma'),
    (analysis.flatness, {'num_pairs': 1}, 'num_pairs'),
    (analysis.flatness, {'block_size': 0}, 'block_size'),
    (analysis.flatness, {'losses': 'training'}, 'losses'),
  )
  def test_refusals(self, measure, options, message):
    with self.assertRaisesRegex(InputError, message):
      measure(self.problem, jnp.ones(3), (), jax.random.key(0), **options)
