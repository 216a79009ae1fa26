"""Gradient statistics against NumPy, when they are measured, and that they cost nothing in between."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from transform_cases import plain, tree

from gdlab.transforms import gradient_statistics, statistics

FUNCTIONS = {
  'min': np.min,
  'max': np.max,
  'mean': np.mean,
  'std': np.std,
  'norm': lambda x: np.linalg.norm(x.ravel()),
}


def measure(gradient, every=1, num_steps=1):
  transform = gradient_statistics(every)
  state, update = transform.init(gradient), jax.jit(transform.update)
  for number in range(num_steps):
    scaled = jax.tree.map(lambda leaf, n=number: (n + 1) * leaf, gradient)
    passed, state = update(scaled, state)
    for one, other in zip(plain(passed), plain(scaled), strict=True):
      np.testing.assert_array_equal(one, other)
  return statistics(state)


class StatisticsTest(parameterized.TestCase):
  @parameterized.parameters(*FUNCTIONS)
  def test_leaves_and_whole_are_numpys(self, name):
    with jax.enable_x64(True):
      gradient = tree('float64')
      found = measure(gradient)
      everything = np.concatenate([leaf.ravel() for leaf in plain(gradient)])
    leaves = getattr(found.leaves, name)
    for path in (('layer', 'w'), ('scale',)):
      value, array = leaves, gradient
      for part in path:
        value, array = value[part], array[part]
      np.testing.assert_allclose(value, FUNCTIONS[name](np.asarray(array)), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(getattr(found.whole, name), FUNCTIONS[name](everything), rtol=1e-13)
    np.testing.assert_array_equal(leaves['layer']['zero_sized'], 0 if name == 'norm' else np.nan)

  def test_a_mean_far_from_zero_does_not_drown_the_deviation(self):
    gradient = {'a': 1000 + jnp.arange(4.0), 'b': 1000 + jnp.arange(4.0, 8.0)}
    # Squares would cancel to about 10^6 * 2^-24 = 0.06 of a variance of 5.25.
    np.testing.assert_allclose(measure(gradient).whole.std, np.std(np.arange(8.0)), rtol=1e-5)

  def test_half_precision_is_measured_in_float32(self):
    found = measure({'a': jnp.full(1000, 1.0, jnp.bfloat16)})
    self.assertEqual(found.whole.norm.dtype, jnp.float32)
    np.testing.assert_allclose(found.leaves.norm['a'], np.sqrt(1000), rtol=1e-6)

  @parameterized.parameters((1, 1, 0), (1, 5, 4), (3, 3, 0), (3, 4, 3), (3, 6, 3), (100, 7, 0))
  def test_it_is_measured_every_so_many_updates(self, every, num_steps, last):
    found = measure({'a': jnp.array([3.0, 4.0])}, every, num_steps)
    self.assertEqual(int(found.update), last)
    np.testing.assert_allclose(found.whole.norm, 5.0 * (last + 1), rtol=1e-6)

  def test_before_the_first_update_nothing_is_known(self):
    found = statistics(gradient_statistics().init(tree()))
    self.assertEqual(int(found.update), -1)
    self.assertTrue(all(np.isnan(leaf).all() for leaf in plain((found.leaves, found.whole))))

  def test_it_sees_what_the_chain_has_made_of_the_gradient(self):
    transform = optax.chain(optax.clip_by_global_norm(1.0), gradient_statistics(), optax.sgd(0.1))
    gradient = jnp.array([30.0, 40.0])
    _, state = transform.update(gradient, transform.init(gradient), gradient)
    np.testing.assert_allclose(statistics(state).whole.norm, 1.0, rtol=1e-6)

  def test_nan_shows_until_the_next_measurement(self):
    transform = gradient_statistics(2)
    state, found = transform.init(jnp.zeros(2)), []
    for value in (np.nan, 1.0, 1.0):
      _, state = transform.update(jnp.full(2, value), state)
      found.append(float(statistics(state).whole.mean))
    np.testing.assert_array_equal(found, [np.nan, np.nan, 1.0])

  def test_measuring_stays_a_branch_under_vmap(self):
    transform, gradient = gradient_statistics(10), jnp.ones((4, 3))

    def run(gradient):
      step = lambda state, _: (transform.update(gradient, state)[1], None)
      return statistics(jax.lax.scan(step, transform.init(gradient), length=25)[0])

    text = str(jax.make_jaxpr(jax.vmap(run))(gradient))
    self.assertIn('cond[', text)
    found = jax.jit(jax.vmap(run))(gradient * jnp.arange(1.0, 5.0)[:, None])
    self.assertEqual(found.update.tolist(), [20] * 4)
    np.testing.assert_allclose(found.whole.mean, np.arange(1.0, 5.0), rtol=1e-6)
