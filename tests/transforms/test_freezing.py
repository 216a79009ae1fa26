"""An optimizer that freezes: before, at and after the first gradient that is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from transform_cases import CASES, assert_close, gradients, plain, scan, tree

from gdlab.transforms import freeze_non_finite, freeze_status, langevin_noise


def momentum():
  return optax.sgd(0.1, momentum=0.9)


class FreezeTest(parameterized.TestCase):
  def test_finite_gradients_make_it_the_inner_optimizer(self):
    params, grads = tree(), gradients(CASES['freeze_non_finite'], 6)
    found = jax.jit(lambda: scan(freeze_non_finite(optax.adam(0.1)), params, grads))()
    expected = jax.jit(lambda: scan(optax.adam(0.1), params, grads))()
    assert_close(found[:2], expected[:2])
    assert_close(found[2].inner, expected[2])
    self.assertEqual([x.item() for x in freeze_status(found[2])], [False, 6])

  @parameterized.parameters(np.nan, np.inf, -np.inf)
  def test_it_stops_for_good(self, bad):
    params, grads = tree(), gradients(CASES['freeze_non_finite'], 6)
    grads['layer']['w'] = grads['layer']['w'].at[3, 1, 2].set(bad)
    path, updates, state = jax.jit(lambda: scan(freeze_non_finite(momentum()), params, grads))()
    good = jax.jit(lambda: scan(momentum(), params, jax.tree.map(lambda leaf: leaf[:3], grads)))()
    assert_close(jax.tree.map(lambda leaf: leaf[:3], path), good[0])
    for leaf in plain(updates):
      np.testing.assert_array_equal(leaf[3:], np.zeros_like(leaf[3:]))
    # Momentum and all are as after the last good update.
    assert_close(state.inner, good[2])
    self.assertEqual([x.item() for x in freeze_status(state)], [True, 3])

  def test_an_update_that_overflows_freezes_too(self):
    frozen = freeze_non_finite(optax.scale(1e30))
    updates, state = frozen.update(jnp.array([1e30, 1.0]), frozen.init(jnp.zeros(2)))
    np.testing.assert_array_equal(updates, np.zeros(2))
    self.assertEqual([x.item() for x in freeze_status(state)], [True, 0])

  def test_lanes_freeze_by_themselves(self):
    transform = optax.chain(freeze_non_finite(momentum()), optax.scale(2.0))

    def run(gradients):
      step = lambda state, gradient: transform.update(gradient, state)[::-1]
      state, updates = jax.lax.scan(step, transform.init(gradients[0]), gradients)
      return updates, freeze_status(state)

    steady = jnp.ones((4, 2))
    broken = steady.at[1, 0].set(jnp.nan)
    updates, status = jax.jit(jax.vmap(run))(jnp.stack([steady, broken]))
    self.assertEqual(status.frozen.tolist(), [False, True])
    self.assertEqual(status.updates.tolist(), [4, 1])
    np.testing.assert_allclose(updates[0, :, 0], -0.2 * np.cumsum(0.9 ** np.arange(4)), rtol=1e-6)
    np.testing.assert_allclose(updates[1, :, 0], [-0.2, 0, 0, 0], rtol=1e-6)

  def test_a_key_in_the_inner_state_is_kept_and_extra_arguments_reach_it(self):
    transform = freeze_non_finite(langevin_noise(0.5, 1.0))
    zero, state = jnp.zeros(3), transform.init(jnp.zeros(3))
    update = jax.jit(transform.update)
    first = update(zero, state)[0]
    self.assertFalse(np.allclose(first, update(zero, state, key=jax.random.key(1))[0]))
    _, after = update(jnp.array([0.0, jnp.nan, 0.0]), state)
    assert_close(after.inner, state.inner)

  def test_apply_if_finite_goes_on(self):
    """The contrast that the documentation draws."""
    skipping, freezing = optax.apply_if_finite(optax.sgd(1.0), 1), freeze_non_finite(optax.sgd(1.0))
    bad, good = jnp.array([jnp.nan]), jnp.ones(1)
    found = []
    for transform in (skipping, freezing):
      state, seen = transform.init(good), []
      for gradient in (bad, good, bad, bad):
        updates, state = transform.update(gradient, state)
        seen.append(float(updates[0]))
      found.append(seen)
    np.testing.assert_array_equal(found[0], [0, -1, 0, np.nan])
    np.testing.assert_array_equal(found[1], [0, 0, 0, 0])
