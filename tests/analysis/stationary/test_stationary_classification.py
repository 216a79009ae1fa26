"""Classification of points against spectra that were chosen, and its refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from stationary_cases import SLOPE, alone, numbered

from gdlab import analysis
from gdlab.core.errors import InputError
from gdlab.core.types import Problem

KEY = jax.random.key(0)
EPS = np.finfo(np.float64).eps
D = 6
MANY = 1000
classify_at = jax.jit(analysis.classify_stationary)


def quadratic_loss(params, model_state, examples):
  """½ xᵀAx of a matrix that is the one example."""
  return {'loss': jnp.einsum('i,nij,j->n', params, examples, params) / 2}


def quadratics(matrices):
  """One problem for each matrix, [M, d, d], side by side."""
  return Problem(None, None, quadratic_loss, 'quadratics', jnp.asarray(matrices)[:, None])


def from_spectra(spectra, seed):
  """Symmetric matrices with these eigenvalues, [M, d] to [M, d, d], in random bases."""
  rng = np.random.default_rng(seed)
  bases = np.linalg.qr(rng.normal(size=(*spectra.shape, spectra.shape[1])))[0]
  matrices = np.einsum('mij,mj,mkj->mik', bases, spectra, bases)
  return (matrices + matrices.swapaxes(1, 2)) / 2


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, 0, None))
def _classify(problem, params, key):
  return analysis.classify_stationary(problem, params, (), key)


def classify(matrices, points):
  """Each matrix's quadratic at its point; always MANY at once, so that one program serves all tests."""
  rows = np.minimum(np.arange(MANY), len(matrices) - 1)
  found = _classify(quadratics(matrices[rows]), points[rows], KEY)
  return jax.tree.map(lambda leaf: np.asarray(leaf[: len(matrices)]), found)


def named(point, name):
  return analysis.STATIONARY_MEANINGS[int(point.status)] == name


class ClassificationTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(jax.enable_x64(True))

  def test_no_false_sign_in_a_thousand_spectra(self):
    # Signs at random, sizes over 20 decades (down to far below rounding), with exact zeros and repeated values.
    rng = np.random.default_rng(0)
    spectra = rng.choice([-1.0, 1.0], (1000, D)) * 10.0 ** rng.uniform(-20, 0, (1000, D))
    spectra[rng.random((1000, D)) < 0.1] = 0
    spectra[:200, :3] = spectra[:200, :1]
    spectra = np.sort(spectra, axis=1)
    points = classify(from_spectra(spectra, 1), np.zeros((MANY, D)))
    # What was built has the spectrum to some d eps of its norm.
    built = 4 * D * EPS * np.abs(spectra).max(axis=1)
    np.testing.assert_array_less(points.index, 1 + (spectra < built[:, None]).sum(axis=1))
    np.testing.assert_array_less(
      (spectra < -1e-12 * np.abs(spectra).max(axis=1)[:, None]).sum(axis=1), 1 + points.index
    )
    decided = np.abs(points.eigenvalues) > points.bounds
    wrong = decided & (np.sign(points.eigenvalues) != np.sign(spectra)) & (np.abs(spectra) > built[:, None])
    self.assertEqual(wrong.sum(), 0)
    # None of the zeros is given a sign, but for what the building itself put there.
    zeros = spectra == 0
    self.assertGreater(zeros.sum(), 300)
    self.assertFalse((decided & zeros).any())
    error = np.abs(np.asarray(points.eigenvalues) - spectra)
    self.assertTrue((error <= np.asarray(points.bounds) + built[:, None]).all())
    np.testing.assert_array_equal(np.asarray(points.undecided), (~decided).sum(axis=1))
    # Bounds are not bought by vagueness.
    self.assertLess((np.asarray(points.bounds) / np.abs(spectra).max(axis=1, keepdims=True)).max(), 1e-13)

  def test_spectra_of_note(self):
    spectra = np.array(
      [
        [-3.0, -1.0, 1.0, 1.0, 2.0, 5.0],  # indefinite
        [1e-8, 1e-6, 1e-4, 1e-2, 0.1, 1.0],  # condition 1e8
        [-1e-8, 1e-8, 1.0, 1.0, 1.0, 1.0],
        [2.0] * 6,  # a multiple of the identity
        [-24.0] * 4 + [2.0] * 2,
        [0.0] * 6,
        [-1.0, 0.0, 0.0, 0.0, 1.0, 1.0],
      ]
    )
    matrices = from_spectra(spectra, 2)
    matrices[3], matrices[5] = 2 * np.eye(D), 0  # exactly
    points = classify(matrices, np.zeros((7, D)))
    np.testing.assert_array_equal(points.index, [2, 0, 1, 0, 4, 0, 1])
    np.testing.assert_array_equal(points.undecided, [0, 0, 0, 0, 0, 6, 3])
    np.testing.assert_array_equal(points.status, [0, 0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(points.grad_norm, np.zeros(7))

  def test_near_a_stationary_point(self):
    # At a distance x the gradient is Ax: judged by its norm, located by Newton's step.
    spectra = np.tile([-3.0, -1.0, 1.0, 1.0, 2.0, 5.0], (3, 1))
    scales = np.array([1e-9, 1e-7, 1e-3])
    points = np.ones((3, D)) / np.sqrt(D) * scales[:, None]
    matrices = from_spectra(spectra, 3)
    found = classify(matrices, points)
    np.testing.assert_array_equal(found.status, [0, 0, 4])
    np.testing.assert_allclose(
      found.grad_norm, np.linalg.norm(np.einsum('mij,mj->mi', matrices, points), axis=1), rtol=1e-12
    )
    # Kantorovich's ball: twice the distance, for a Hessian that does not change.
    np.testing.assert_allclose(found.radius, 2 * scales, rtol=1e-9)

  def test_points_that_only_look_stationary_are_refused(self):
    origin = jnp.zeros(2)
    # With the tolerance above the slope: the norm alone would let these pass.
    for name, point, expected in (
      ('inflection', origin, 'gradient_flat'),
      ('inflection', origin.at[0].set(1e-3), 'uncertified'),
      ('ramp', origin.at[0].set(5.0), 'gradient_flat'),
      ('to infinity, exponentially', origin.at[0].set(9.0), 'at_infinity'),
      # The slope and its curvature are below the rounding of the other direction's curvature.
      ('to infinity, exponentially', jnp.array([40.0, 1e-17]), 'at_infinity'),
    ):
      found = classify_at(alone(name), point, (), KEY, tol=2 * SLOPE, flat_tol=1e-3)
      self.assertTrue(named(found, expected), (name, found))
    plateau = alone('plateau')
    far = classify_at(plateau, jnp.array([1e5, 0.0]), (), KEY, tol=1e-6, flat_tol=1e-3)
    self.assertLess(far.grad_norm, 1e-14)
    self.assertTrue(named(far, 'at_infinity'), far)
    near = classify_at(plateau, jnp.array([1e-9, 0.0]), (), KEY, tol=1e-6, flat_tol=1e-3)
    self.assertTrue(named(near, 'stationary'), near)
    steep = classify_at(plateau, jnp.array([1.0, 0.0]), (), KEY, tol=1e-6, flat_tol=1e-3)
    self.assertTrue(named(steep, 'unconverged'), steep)
    broken = classify_at(plateau, jnp.array([np.nan, 0.0]), (), KEY, tol=1e-6, flat_tol=1e-3)
    self.assertTrue(named(broken, 'not_finite'), broken)

  def test_count_signs(self):
    values = np.array([[-2.0, -1e-3, 0.0, 1e-3, 5.0], [-1.0, -1.0, -1.0, 2.0, 2.0]])
    counts = analysis.count_signs(values, np.array([[1e-2] * 5, [0.5, 1.0, 2.0, 2.0, 1.0]]))
    np.testing.assert_array_equal(counts, [[1, 1], [1, 1], [3, 3]])
    np.testing.assert_array_equal(analysis.count_signs(values, 0.0), [[2, 3], [2, 2], [1, 0]])

  def test_refusals(self):
    for name, value in (('tol', 0.0), ('flat_tol', 0.0), ('flat_tol', 1.0)):
      with pytest.raises(InputError, match=name):
        analysis.classify_stationary(numbered(0), jnp.zeros(2), (), KEY, **{name: value})
    with pytest.raises(InputError, match='bounds'):
      analysis.count_signs(np.ones(2), -0.1)
    with pytest.raises(InputError, match='count_signs'):
      analysis.classify_stationary(numbered(0), jnp.zeros(2001), (), KEY)
