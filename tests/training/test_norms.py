"""The norm of the diagnostics: every element once, whatever the shapes, and no overflow in half precision."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdlab._cpu.norms import FEWEST, MOST, norm

SHAPES = {
  'scalar': (),
  'none': (0, 7),
  'few': (FEWEST,),
  'one more': (FEWEST + 1,),
  'odd axes': (49, 1, 301),
  'powers of two': (128, 128),
  'one long row': (1, 5000),
  'largest that is halved': (MOST // 2, 2),
  'too large for it': (MOST // 2 + 1, 2),
}


@pytest.mark.parametrize('shape', SHAPES.values(), ids=SHAPES)
def test_every_element_counts_once(shape):
  # Sums of small whole numbers are exact in any order, so an element left out or counted twice shows.
  values = np.random.default_rng(0).integers(-8, 9, shape)
  total = np.sum(values**2)
  assert total < 2**24
  chex.assert_trees_all_equal(jax.jit(norm)(jnp.asarray(values, jnp.float32)), np.sqrt(np.float32(total)))


def test_leaves_are_added_up():
  tree = {'a': jnp.full((300,), 2.0), 'b': [jnp.full((5, 80), -1.0), jnp.asarray(3 + 4j)]}
  assert norm(tree) == np.sqrt(np.float32(1200 + 400 + 25))
  assert norm(()) == 0


def test_half_precision_does_not_overflow():
  values = jnp.full((40, 40), 300.0, jnp.float16)  # its square is beyond float16
  assert norm(values) == 40 * 300
  assert norm(values).dtype == jnp.float32


def test_under_vmap_each_lane_has_its_own():
  lanes = jnp.asarray(np.random.default_rng(1).integers(-8, 9, (3, 17, 33)), jnp.float32)
  chex.assert_trees_all_equal(jax.vmap(norm)(lanes), jnp.stack([norm(lane) for lane in lanes]))


def test_what_is_not_finite_is_seen():
  for value in (np.nan, np.inf):
    assert not np.isfinite(norm(jnp.zeros((301, 3)).at[300, 2].set(value)))
