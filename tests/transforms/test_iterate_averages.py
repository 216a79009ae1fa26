"""Averages of the iterates against the sums that define them, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from transform_cases import plain, scan, tree

from gdlab.core.errors import InputError
from gdlab.transforms import average_iterates, averaged_params, exponential_weights, uniform_weights

STEPS = 9


@pytest.fixture(autouse=True)
def _float64(x64):
  pass


def averages(weights, updates, start=0.0, dtype=float):
  """The iterates and their average after each update, float[STEPS]."""
  transform = average_iterates(weights)

  def step(carry, update):
    x, state = carry
    update, state = transform.update(update, state, x)
    x = optax.apply_updates(x, update)
    return (x, state), (x, averaged_params(state))

  x = jnp.asarray(start, dtype)
  return jax.lax.scan(step, (x, transform.init(x)), jnp.asarray(updates, dtype))[1]


def draws():
  return np.random.default_rng(0).normal(size=STEPS)


# Sums of at most 9 terms near 1: 10 roundings.
CLOSE = {'rtol': 0, 'atol': 10 * np.finfo(float).eps}


class AverageTest(parameterized.TestCase):
  @parameterized.parameters(0, 1, 4, 20)
  def test_uniform_weights_give_the_mean_of_the_tail(self, start):
    iterates, found = averages(uniform_weights(start), draws(), start=5.0)
    iterates = np.asarray(iterates)
    np.testing.assert_allclose(iterates, 5 + draws().cumsum(), **CLOSE)
    expected = [iterates[min(start, t) : t + 1].mean() if t >= start else iterates[t] for t in range(STEPS)]
    np.testing.assert_allclose(found, expected, **CLOSE)

  @parameterized.parameters(0.0, 0.5, 0.99, 1 - 1e-9)
  def test_exponential_weights_give_the_debiased_moving_average(self, decay):
    iterates, found = averages(exponential_weights(decay), draws(), start=5.0)
    iterates = np.asarray(iterates)
    expected = [np.average(iterates[: t + 1], weights=decay ** np.arange(t, -1, -1.0)) for t in range(STEPS)]
    np.testing.assert_allclose(found, expected, rtol=1e-7 if decay > 0.999 else 1e-14)

  @parameterized.parameters(0.99, 0.9999, 1 - 1e-6, 1 - 1e-8)
  def test_exponential_weights_keep_their_digits_in_float32(self, decay):
    with jax.enable_x64(False):
      counts = jnp.array([0, 1, 9, 999, 100_000], jnp.int32)
      found = exponential_weights(decay)(counts)
    self.assertEqual(found.dtype, jnp.float32)
    gap = 1 - decay
    expected = gap / -np.expm1((np.asarray(counts) + 1.0) * np.log1p(-gap))
    # Roundings of the gap, of log1p (2), of the product, of expm1 (2, not steeper than its argument), of the ratio.
    np.testing.assert_allclose(found, expected, rtol=8 * np.finfo(np.float32).eps)

  def test_they_differ_from_one_another(self):
    kinds = (uniform_weights(), uniform_weights(3), exponential_weights(0.5))
    found = [float(averages(kind, draws())[1][-1]) for kind in kinds]
    self.assertGreater(np.abs(np.diff([*found, found[0]])).min(), 1e-3)

  @parameterized.parameters('float32', 'bfloat16', 'float64')
  def test_constant_iterates_are_their_own_average_exactly(self, dtype):
    for weights in (uniform_weights(), uniform_weights(3), exponential_weights(0.9)):
      iterates, found = averages(weights, np.zeros(STEPS), start=1 / 3, dtype=dtype)
      np.testing.assert_array_equal(plain(found)[0], plain(iterates)[0])

  def test_bfloat16_iterates_are_averaged_in_float32(self):
    # In bfloat16 1 + 1/256 is 1: the mean of 1 and 257/256 would be lost.
    updates = np.array([1.0, 1 / 128, 0.0, 0.0])
    _, found = averages(uniform_weights(), updates, dtype='bfloat16')
    self.assertEqual(found.dtype, jnp.float32)
    np.testing.assert_allclose(found, [1, 1 + 1 / 256, 1 + 2 / 384, 1 + 3 / 512], rtol=1e-7)

  def test_it_is_read_from_anywhere_in_any_dtype(self):
    params = tree('bfloat16')
    transform = optax.inject_hyperparams(
      lambda rate: optax.chain(optax.clip(1.0), optax.masked(optax.adam(rate), True), average_iterates())
    )(0.1)
    state = transform.init(params)
    found = averaged_params(state, like=params)
    self.assertEqual(
      jax.tree.map(lambda leaf: leaf.dtype, found), jax.tree.map(lambda leaf: leaf.dtype, params)
    )
    for one, other in zip(plain(found), plain(params), strict=True):
      np.testing.assert_array_equal(one, other)
    grads = jax.tree.map(lambda leaf: leaf[None], tree('bfloat16', seed=1))
    path, _, state = jax.jit(lambda: scan(transform, params, grads))()
    for one, other in zip(plain(averaged_params(state)), plain(path), strict=True):
      # XLA may leave out the rounding of an iterate to bfloat16 on its way into the average.
      np.testing.assert_allclose(one, other[0], rtol=2**-8)

  def test_parameters_that_are_not_averaged_are_those_of_like(self):
    params = {'a': jnp.ones(3, 'float32'), 'b': {'c': jnp.full(2, 5.0, 'bfloat16')}}
    state = optax.masked(average_iterates(), {'a': True, 'b': False}).init(params)
    found = averaged_params(state, like=jax.tree.map(lambda leaf: 2 * leaf, params))
    for one, other in zip(plain(found), ([1, 1, 1], [10, 10]), strict=True):
      np.testing.assert_array_equal(one, other)
    self.assertIsInstance(averaged_params(state)['b'], optax.MaskedNode)

  def test_a_nan_before_the_tail_is_forgotten_and_one_in_it_stays(self):
    transform = average_iterates(uniform_weights(1))
    x, state = jnp.zeros(()), transform.init(jnp.zeros(()))
    found = []
    for iterate in (np.nan, 2.0, 4.0, np.nan, 6.0):
      _, state = transform.update(jnp.asarray(iterate), state, x)
      found.append(float(averaged_params(state)))
    np.testing.assert_array_equal(found, [np.nan, 2.0, 3.0, np.nan, np.nan])

  def test_params_are_needed(self):
    transform = average_iterates()
    with self.assertRaisesRegex(InputError, 'average_iterates needs the parameters.*got params None'):
      transform.update(jnp.zeros(2), transform.init(jnp.zeros(2)))

  def test_averaging_takes_noise_out_of_descent(self):
    """Polyak and Juditsky: on a quadratic the average of n iterates has variance sigma^2 / (h^2 n)."""
    h, rate, steps, lanes = 0.5, 0.4, 2000, 2000

    def run(key):
      transform = optax.chain(optax.sgd(rate), average_iterates())

      def step(carry, noise):
        x, state = carry
        updates, state = transform.update(h * x + noise, state, x)
        return (x + updates, state), None

      noise = jax.random.normal(key, (steps,))
      state = jax.lax.scan(step, (jnp.zeros(()), transform.init(jnp.zeros(()))), noise)[0][1]
      return averaged_params(state)

    found = np.asarray(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), lanes)))
    # Exactly: x_t responds to each noise by -rate * kept^k, so its sum over n does by -(1 - kept^k) / h.
    kept = 1 - rate * h
    expected = np.sum((1 - kept ** np.arange(1, steps + 1)) ** 2) / (h * steps) ** 2
    np.testing.assert_allclose(expected, 1 / (h**2 * steps), rtol=0.01)
    self.assertLess(abs(found.var() - expected), 3 * expected * np.sqrt(2 / lanes))
