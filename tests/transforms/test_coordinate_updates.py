"""Block after block: whose turn it is, Gauss-Seidel by hand, and where it converges while Jacobi does not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from transform_cases import tree

from gdlab.transforms import coordinate_updates


def moves(transform, params, num_steps):
  """For each update which leaves move, and the updates of ones."""
  state, found = transform.init(params), []
  update = jax.jit(transform.update)
  for _ in range(num_steps):
    updates, state = update(jax.tree.map(jnp.ones_like, params), state)
    found.append(updates)
  return found


class TurnsTest(parameterized.TestCase):
  def test_leaves_take_turns_in_the_order_of_the_tree(self):
    params = {'b': jnp.zeros(2), 'a': (jnp.zeros(()), jnp.zeros((0,)), jnp.zeros((1, 2)))}
    found = moves(coordinate_updates(), params, 5)
    # Four blocks: a[0], a[1] (which is empty), a[2], b.
    sums = [[float(u.sum()) for u in jax.tree.leaves(updates)] for updates in found]
    self.assertEqual(sums, [[1, 0, 0, 0], [0] * 4, [0, 0, 2, 0], [0, 0, 0, 2], [1, 0, 0, 0]])

  def test_blocks_by_prefix_and_within_a_leaf(self):
    params = {'a': {'w': jnp.zeros(2), 'b': jnp.zeros(1)}, 'c': jnp.zeros(3)}
    found = moves(coordinate_updates({'a': 1, 'c': np.array([0, 2, 0])}), params, 4)
    rows = [np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(updates)]).tolist() for updates in found]
    expected = [[0, 0, 0, 1, 0, 1], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0], [0, 0, 0, 1, 0, 1]]
    self.assertEqual(rows, expected)

  def test_one_block_is_plain_descent(self):
    params = tree()
    for updates in moves(coordinate_updates(0), params, 3):
      jax.tree.map(lambda u: np.testing.assert_array_equal(u, np.ones(u.shape)), updates)

  def test_a_nan_waits_for_its_turn(self):
    transform = coordinate_updates(np.arange(2))
    gradient = jnp.array([1.0, jnp.nan])
    first, state = transform.update(gradient, transform.init(gradient))
    second, _ = transform.update(gradient, state)
    np.testing.assert_array_equal(first, [1.0, 0.0])
    np.testing.assert_array_equal(second, [0.0, np.nan])


class GaussSeidelTest(parameterized.TestCase):
  # Positive definite with eigenvalues 0.1, 0.1, 2.8.
  HESSIAN = np.full((3, 3), 0.9) + 0.1 * np.eye(3)
  TARGET = np.array([1.0, -2.0, 0.5])

  def run_descent(self, rate, transform, num_steps):
    gradient = jax.grad(lambda x: x @ jnp.asarray(self.HESSIAN) @ x / 2 - jnp.asarray(self.TARGET) @ x)
    chained = optax.chain(optax.sgd(rate), transform)

    def step(carry, _):
      x, state = carry
      updates, state = chained.update(gradient(x), state)
      return (x + updates, state), x + updates

    return np.asarray(jax.lax.scan(step, (jnp.zeros(3), chained.init(jnp.zeros(3))), length=num_steps)[1])

  def test_each_block_sees_the_others_where_they_have_moved_to(self):
    with jax.enable_x64(True):
      found = self.run_descent(0.7, coordinate_updates(np.arange(3)), 12)
    x = np.zeros(3)
    for number in range(12):
      own = number % 3
      x[own] -= 0.7 * (self.HESSIAN[own] @ x - self.TARGET[own])
      np.testing.assert_allclose(found[number], x, rtol=0, atol=1e-13)

  def test_one_after_another_converges_where_all_together_diverges(self):
    with jax.enable_x64(True):
      solution = np.linalg.solve(self.HESSIAN, self.TARGET)
      # Rate 1 is the exact step in each coordinate: Gauss-Seidel converges on every positive definite matrix.
      apart = self.run_descent(1.0, coordinate_updates(np.arange(3)), 900)
      together = self.run_descent(1.0, optax.identity(), 30)
    lower, upper = np.tril(self.HESSIAN), np.triu(self.HESSIAN, 1)
    factor = np.abs(np.linalg.eigvals(np.linalg.solve(lower, -upper))).max()
    self.assertLess(factor, 1)
    np.testing.assert_allclose(apart[-1], solution, atol=100 * factor**300 + 1e-12)
    # The mode of eigenvalue 2.8 grows by 1.8 a step.
    errors = np.linalg.norm(together - solution, axis=1)
    np.testing.assert_allclose(errors[-1] / errors[-2], 1.8, rtol=1e-6)
