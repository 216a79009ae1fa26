"""Extreme eigenpairs against the eigenvalues that matrices were built from, float64 unless a test says otherwise."""

import functools

import curvature_cases as cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from jax.experimental import io_callback

from gdlab.analysis.curvature import Operator, dense, eigenpairs, layers
from gdlab.core.errors import InputError

SIZE = 24


@functools.partial(jax.jit, static_argnames=('tolerance', 'dense_below', 'basis_size'))
def search(matrices, keys, *, tolerance, dense_below=0, basis_size=None):
  high, low = cases.ENDS

  def one(matrix, key):
    return eigenpairs(
      cases.operator_of(matrix),
      key,
      num_largest=high,
      num_smallest=low,
      tolerance=tolerance,
      max_products=300,
      dense_below=dense_below,
      basis_size=basis_size,
    )

  return jax.vmap(one)(matrices, keys)


def keys_for(matrices, seed=0):
  return jax.random.split(jax.random.key(seed), len(matrices))


class EigenpairsTest(parameterized.TestCase):
  @parameterized.parameters(0, SIZE)  # by Krylov space, by the whole matrix
  def test_agrees_with_the_spectrum_built_in(self, dense_below):
    with jax.enable_x64(True):
      matrices, eigenvalues = cases.matrices(SIZE, 0)
      found = search(matrices, keys_for(matrices), tolerance=1e-9, dense_below=dense_below)
      values, residuals, signs, converged = cases.joined(found)
      # A symmetric matrix has an eigenvalue within the residual; in order, so these are the wanted ones.
      self.assertTrue((np.abs(values - cases.wanted(eigenvalues)) <= residuals).all())
      self.assertTrue(converged.all())
      # Each is as small as asked, so the bound above is no empty one.
      self.assertLess((residuals / np.maximum(np.abs(eigenvalues).max(1), 1e-290)[:, None]).max(), 1e-9)
      np.testing.assert_array_equal((signs != 0) & (signs != np.sign(cases.wanted(eigenvalues))), False)
      self.assertFalse((signs[cases.SEMIDEFINITE] < 0).any())
      # One slightly negative eigenvalue of 1e-3 beside others of 1 is seen as such.
      self.assertEqual(signs[cases.NAMES.index('one slightly negative'), 0], -1)
      # The pairs are what they say: recomputed with NumPy.
      vectors = np.concatenate([found.smallest.vectors, found.largest.vectors], 1)
      rests = vectors @ matrices - values[..., None] * vectors
      self.assertTrue((np.linalg.norm(rests, axis=-1) <= residuals).all())
      np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, rtol=1e-12)
      if not dense_below:
        # Three starts, four steps of them at least: zero, multiples and few eigenvalues are done by then.
        np.testing.assert_array_equal(found.products[:5], 12)

  @pytest.mark.slow
  def test_restarts_reach_what_the_basis_does_not_hold(self):
    with jax.enable_x64(True):
      # 80 dimensions, 24 vectors: 1e-9 is not reached within one basis, which holds 24 of 80 directions.
      matrices = cases.matrices(80, 1)[0][[6, 8]]
      found = search(matrices, keys_for(matrices), tolerance=1e-9, basis_size=24)
      values, residuals, _, converged = cases.joined(found)
      self.assertTrue(converged.all())
      self.assertTrue((np.asarray(found.products) > 24).all())
      truth = cases.wanted(np.linalg.eigvalsh(matrices))
      self.assertTrue((np.abs(values - truth) <= residuals).all())

  def test_products_are_counted_and_limited_and_end_where_nothing_is_finite(self):
    calls = []
    diagonal = jnp.linspace(0.0, 1.0, 300)

    @jax.jit
    def search(scale, key):
      def product(vector):
        io_callback(lambda: calls.append(1), None)
        return scale * diagonal * vector

      return eigenpairs(Operator(product, diagonal), key, tolerance=1e-6, max_products=9)

    found = jax.block_until_ready(search(1.0, jax.random.key(0)))
    self.assertEqual(int(found.products), 9)
    self.assertLen(calls, 9)
    self.assertFalse(found.largest.converged[0])
    self.assertGreater(found.largest.residuals[0], 1e-6)
    found = search(jnp.nan, jax.random.key(0))
    self.assertLess(int(found.products), 6)
    self.assertFalse(found.largest.converged[0])
    self.assertEqual(int(found.largest.signs[0]), 0)

  def test_layers_are_diagonal_blocks(self):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(7, 7))
    matrix = (matrix + matrix.T).astype(np.float32)
    like = {'a': {'w': jnp.zeros((2, 1)), 'b': jnp.zeros(1)}, 'c': jnp.zeros(4)}

    def product(tree):
      flat = jnp.concatenate([tree['a']['b'], tree['a']['w'].ravel(), tree['c']])
      image = matrix @ flat
      return {'a': {'b': image[:1], 'w': image[1:3].reshape(2, 1)}, 'c': image[3:]}

    parts = layers(Operator(product, like))
    self.assertEqual(list(parts), ['a', 'c'])
    # One entry of the matrix each, times 1.
    np.testing.assert_array_equal(dense(parts['a']), matrix[:3, :3])
    np.testing.assert_array_equal(dense(parts['c']), matrix[3:, 3:])
    whole = layers(Operator(lambda v: 2 * v, jnp.zeros(3)))
    np.testing.assert_array_equal(dense(whole['']), 2 * np.eye(3))


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'num_largest': 4}, r'num_largest must be a whole number in \[0, 3\]'),
    ({'num_largest': 0}, 'num_largest or num_smallest must be at least 1'),
    ({'tolerance': 0.0}, 'tolerance must be a real number'),
    ({'num_smallest': 1, 'max_products': 1}, 'max_products must be a whole number >= 2'),
    ({'num_starts': 0}, 'num_starts'),
    ({'basis_size': 2}, 'basis_size must be a whole number >= 3'),
    ({'dense_below': -1}, 'dense_below'),
  ],
)
def test_refuses(arguments, message):
  with pytest.raises(InputError, match=message):
    eigenpairs(Operator(lambda v: v, jnp.zeros(3)), jax.random.key(0), **arguments)


@pytest.mark.parametrize('like', [jnp.zeros(3, int), (), jnp.zeros(3, jnp.bfloat16), jnp.zeros((0,))])
def test_refuses_what_is_no_space_of_floats(like):
  with pytest.raises(InputError, match=r'operator\.like'):
    dense(Operator(lambda v: v, like))
