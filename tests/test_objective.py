"""The weighted batch loss against its definition, and that padding adds exactly nothing."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from gdlab.core.objective import batch_loss, batch_losses, take
from gdlab.core.types import Batch, Problem


def problem_of(loss, train):
  return Problem(lambda key: (jnp.zeros(2), ()), loss, lambda *args: {}, 'by hand', train)


def squares(params, model_state, examples, mask, key):
  inputs, targets = examples
  return (inputs @ params - targets) ** 2, model_state + jnp.sum(mask)


class BatchLossTest(parameterized.TestCase):
  def test_is_the_weighted_sum_of_the_losses_drawn(self):
    with jax.enable_x64(True):
      rng = np.random.default_rng(0)
      inputs, targets, params = rng.normal(size=(9, 2)), rng.normal(size=9), rng.normal(size=2)
      problem = problem_of(squares, (jnp.asarray(inputs), jnp.asarray(targets)))
      indices, weights = np.array([3, 3, 8, 0], np.int32), np.array([0.5, 0.25, 0, 2.0])
      batch = Batch(jnp.asarray(indices), jnp.asarray(weights))
      loss, model_state = batch_loss(problem, jnp.asarray(params), jnp.int32(10), batch, jax.random.key(0))
    expected = sum(w * (inputs[i] @ params - targets[i]) ** 2 for i, w in zip(indices, weights, strict=True))
    # Some ten roundings of positive terms.
    np.testing.assert_allclose(loss, expected, rtol=20 * np.finfo(float).eps)
    self.assertEqual(int(model_state), 13)  # three real slots were unmasked

  def test_the_losses_of_the_slots_are_a_by_product(self):
    inputs = jnp.array([[1.0, 2.0], [jnp.inf, 3.0], [0.5, -1.0]])
    problem, params = problem_of(squares, (inputs, jnp.array([1.0, 0.0, 2.0]))), jnp.array([1.5, 0.5])
    batch = Batch(jnp.array([2, 1, 0, 2], jnp.int32), jnp.array([0.5, 0.0, -0.25, 0.5]))
    found, (losses, model_state) = batch_losses(problem, params, jnp.int32(0), batch, jax.random.key(0))
    # 0.25 - 2 and 2.5 - 1, squared: exact in float32.
    np.testing.assert_array_equal(losses, [3.0625, 0, 2.25, 3.0625])
    loss, same_state = batch_loss(problem, params, jnp.int32(0), batch, jax.random.key(0))
    np.testing.assert_array_equal([found, loss], [2.5, 2.5])
    self.assertEqual((model_state, same_state), (3, 3))

  @parameterized.named_parameters(
    ('infinite_loss', lambda inputs, params: jnp.where(inputs[:, 0] < 0, jnp.inf, inputs @ params)),
    ('loss_nan', lambda inputs, params: jnp.where(inputs[:, 0] < 0, jnp.nan, inputs @ params)),
    # The derivative of the first factor is 0/0 on the poisoned example: a zero cotangent does not stop it.
    ('gradient_nan', lambda inputs, params: jnp.sqrt((inputs[:, 0] + 1) * params[0]) + inputs @ params),
  )
  def test_padding_adds_nothing_even_where_its_example_is_poison(self, losses):
    inputs = jnp.array([[1.0, 2.0], [-1.0, 3.0], [0.5, -1.0]])  # row 1 is poison
    loss = lambda params, model_state, examples, mask, key: (losses(examples, params), model_state)
    problem, params = problem_of(loss, inputs), jnp.array([1.5, 0.5])

    def value_and_grad(indices, weights):
      batch = Batch(jnp.array(indices, jnp.int32), jnp.array(weights))
      return jax.value_and_grad(lambda p: batch_loss(problem, p, (), batch, jax.random.key(0))[0])(params)

    poison = value_and_grad([1], [1.0])
    self.assertFalse(np.isfinite(poison[0]) and np.all(np.isfinite(poison[1])))
    padded, plain = value_and_grad([0, 1, 2, 1], [0.5, 0.0, 0.5, 0.0]), value_and_grad([0, 2], [0.5, 0.5])
    # The sums are over the same two terms; zeros in between change no bit of them.
    np.testing.assert_array_equal(padded[0], plain[0])
    np.testing.assert_array_equal(padded[1], plain[1])

  def test_take_gathers_every_leaf(self):
    tree = {'x': jnp.arange(10).reshape(5, 2), 'y': (jnp.arange(5.0),), 'none': None}
    taken = take(tree, jnp.array([4, 0, 4]))
    np.testing.assert_array_equal(taken['x'], [[8, 9], [0, 1], [8, 9]])
    np.testing.assert_array_equal(taken['y'][0], [4, 0, 4])
    self.assertIsNone(taken['none'])
