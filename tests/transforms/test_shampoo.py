"""Shampoo against dense float64 matrices: a step by hand, Kronecker factors, axes of every number, long axes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

from gdlab.transforms import shampoo

EPS = 1e-3


def power(matrix, exponent):
  """A power of a Hermitian positive definite matrix by its eigenvalues, in NumPy."""
  values, vectors = np.linalg.eigh(matrix)
  return (vectors * values**exponent) @ vectors.conj().T


def updates(gradients, **options):
  """All updates, float64."""
  with jax.enable_x64(True):
    transform = shampoo(eps=EPS, **options)
    state, found = transform.init(jnp.asarray(gradients[0])), []
    for gradient in gradients:
      update, state = transform.update(jnp.asarray(gradient), state)
      found.append(np.asarray(update))
  return found


class ShampooTest(parameterized.TestCase):
  def test_a_step_by_hand(self):
    # G = [[3, 0], [0, 4]]: L = R = diag(9, 16), so that each entry g is divided by (g^2 + eps)^(1/4) twice.
    (found,) = updates([np.diag([3.0, 4.0])])
    np.testing.assert_allclose(found, np.diag([3 / np.sqrt(9 + EPS), 4 / np.sqrt(16 + EPS)]), rtol=1e-14)
    # G = [[2, 2], [0, 0]]: L = diag(8, 0), R = [[4, 4], [4, 4]] of eigenvalue 8 along (1, 1): G / sqrt(8 + eps).
    (found,) = updates([np.array([[2.0, 2.0], [0.0, 0.0]])])
    np.testing.assert_allclose(found, np.array([[2, 2], [0, 0]]) / np.sqrt(8 + EPS), rtol=1e-13, atol=1e-14)

  @parameterized.parameters(1.0, 0.9)
  def test_it_is_the_kronecker_preconditioner_of_dense_matrices(self, decay):
    """vec(U) = (L^-1/4 kron R^-1/4) vec(G), rows of G one after another."""
    draws = np.random.default_rng(0).normal(size=(4, 3, 5))
    left, right = np.zeros((3, 3)), np.zeros((5, 5))
    for gradient, found in zip(draws, updates(draws, decay=decay), strict=True):
      left, right = decay * left + gradient @ gradient.T, decay * right + gradient.T @ gradient
      roots = [power(factor + EPS * np.eye(len(factor)), -1 / 4) for factor in (left, right)]
      # eigh is known to eps times the largest eigenvalue, some 30; the smallest, EPS, is 3e4 times less.
      np.testing.assert_allclose(found.ravel(), np.kron(*roots) @ gradient.ravel(), atol=1e-10)

  def test_a_vector_has_full_matrix_adagrad_and_a_number_adagrad(self):
    draws = np.random.default_rng(1).normal(size=(3, 4))
    total = np.zeros((4, 4))
    for gradient, found in zip(draws, updates(draws), strict=True):
      total += np.outer(gradient, gradient)
      np.testing.assert_allclose(found, power(total + EPS * np.eye(4), -1 / 2) @ gradient, atol=1e-10)
    numbers = draws[:, 0]
    expected = numbers / np.sqrt(np.cumsum(numbers**2) + EPS)
    np.testing.assert_allclose(updates(numbers), expected, rtol=1e-13)

  def test_three_axes_have_sixth_roots(self):
    gradient = np.random.default_rng(2).normal(size=(2, 3, 4))
    expected = gradient
    for axis, size in enumerate(gradient.shape):
      rows = np.moveaxis(gradient, axis, 0).reshape(size, -1)
      root = power(rows @ rows.T + EPS * np.eye(size), -1 / 6)
      expected = np.moveaxis(np.tensordot(root, expected, (1, axis)), 0, axis)
    np.testing.assert_allclose(updates([gradient])[0], expected, atol=1e-12)

  def test_complex_gradients_have_hermitian_factors(self):
    real, imaginary = np.random.default_rng(3).normal(size=(2, 3, 2))
    gradient = real + 1j * imaginary
    left, right = (
      power(rows @ rows.conj().T + EPS * np.eye(len(rows)), -1 / 4) for rows in (gradient, gradient.conj().T)
    )
    np.testing.assert_allclose(updates([gradient])[0], left @ gradient @ right, atol=1e-12)

  def test_a_long_axis_keeps_the_diagonal(self):
    gradient = np.random.default_rng(4).normal(size=(2, 3))
    left = power(gradient @ gradient.T + EPS * np.eye(2), -1 / 4)
    scale = (np.sum(gradient**2, axis=0) + EPS) ** (-1 / 4)
    np.testing.assert_allclose(updates([gradient], max_size=2)[0], left @ gradient * scale, atol=1e-12)
    state = shampoo(max_size=2).init({'w': jnp.zeros((2, 3)), 'none': jnp.zeros((0, 3))})
    self.assertEqual(
      jax.tree.map(jnp.shape, state.factors['w'], is_leaf=lambda x: hasattr(x, 'shape')), ((2, 2), (3,))
    )
    self.assertEqual(state.factors['none'], ())

  def test_the_scale_of_gradients_does_not_count_and_rotations_turn_updates(self):
    """But for eps: shampoo of c Q G is Q times that of G."""
    draws = np.random.default_rng(5).normal(size=(3, 3, 3))
    turn = np.linalg.qr(draws[0] + np.eye(3))[0]
    with jax.enable_x64(True):
      transform = shampoo(eps=1e-12)
      found = []
      for factor in (np.eye(3), 7 * turn):
        state = transform.init(jnp.zeros((3, 3)))
        for gradient in draws:
          update, state = transform.update(jnp.asarray(factor @ gradient), state)
        found.append(np.asarray(update))
    np.testing.assert_allclose(found[1], turn @ found[0], atol=1e-9)

  def test_it_descends_in_a_chain_with_a_traced_rate(self):
    """An ill-conditioned matrix quadratic: plain descent at its border 2 / L leaves (1 - 2/1000)^200 = 0.67."""
    scales = jnp.outer(jnp.array([1.0, 1e-2]), jnp.array([1.0, 1e-1]))
    loss = lambda w: 0.5 * jnp.sum(scales * (w - 1) ** 2)

    @jax.jit
    def farthest(rate):
      tx = optax.chain(shampoo(), optax.scale_by_learning_rate(rate))

      def step(carry, _):
        w, state = carry
        update, state = tx.update(jax.grad(loss)(w), state)
        return (w + update, state), None

      start = jnp.zeros((2, 2))
      return jnp.max(jnp.abs(jax.lax.scan(step, (start, tx.init(start)), length=200)[0][0] - 1))

    found = jax.vmap(farthest)(jnp.array([0.0, 0.5]))
    self.assertEqual(float(found[0]), 1)
    self.assertLess(float(found[1]), 0.5)
