"""The Linen and the NNX adapter train identically, and neither sees padding."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from flax_cases import (
  Bridged,
  Dropouts,
  Float64,
  N,
  batch_of,
  descend,
  images,
  linen_calm,
  linen_cnn,
  linen_net,
  loss,
  nnx_calm,
  start,
  step,
)

from gdlab.core.types import Batch
from gdlab.problems import from_nnx


class Parity(Float64):
  """Identical training from identical parameters."""

  def assert_trained_alike(self, found, expected):
    """Compares parameters, state, losses.

    Both do the same operations on the same numbers: what the compiler may reorder is rounding, 1e-16 of each
    number, amplified in 20 steps. One unit dropped otherwise in one step would show at 1e-2.
    """
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-11)
    chex.assert_trees_all_close(found[:2], expected[:2], rtol=1e-9, atol=1e-11)

  def test_linen_behind_the_bridge_trains_as_linen(self):
    linen, bridged = linen_net(), from_nnx(Bridged, images(), loss)
    params, state = start(linen)
    # The bridge puts all collections under one attribute.
    nnx_params, nnx_state = {'inner': params}, {'inner': state['batch_stats']}
    chex.assert_trees_all_equal_structs((nnx_params, nnx_state), start(bridged))
    expected = descend(linen, params, state)
    params, state, losses = descend(bridged, nnx_params, nnx_state)
    self.assert_trained_alike((params['inner'], {'batch_stats': state['inner']}, losses), expected)

  def test_nnx_written_by_hand_trains_as_linen(self):
    linen, twin = linen_calm(), nnx_calm()
    names = {'Dense_0': 'hidden', 'BatchNorm_0': 'norm', 'Dense_1': 'out'}

    def renamed(params, state):
      return {names[name]: leaf for name, leaf in params.items()}, {
        'norm': state['batch_stats']['BatchNorm_0']
      }

    chex.assert_trees_all_equal_structs(renamed(*start(linen)), start(twin))
    params, state, losses = descend(linen, *start(linen))
    found = descend(twin, *renamed(*start(linen)))
    self.assert_trained_alike(found, (*renamed(params, state), losses))

  def test_nnx_streams(self):
    problem = from_nnx(Dropouts, (np.ones((N, 4)), np.ones(N)), lambda out, _: out[:, 0].sum(-1))
    params, state = start(problem)
    train = functools.partial(problem.loss.model.train, params, state, jnp.ones((N, 4)), jnp.ones(N, bool))
    out, updated = train(jax.random.key(3))
    again, _ = train(jax.random.key(3))
    other, _ = train(jax.random.key(4))
    np.testing.assert_array_equal(out, again)
    self.assertTrue(np.all((out == 0) | (out == 2)))
    # 96 fair coins agree all at once with probability 2^-96.
    self.assertFalse(np.array_equal(out, other))
    self.assertFalse(np.array_equal(out[:, 0], out[:, 1]))
    self.assertEqual((int(state['calls']), int(updated['calls'])), (0, 1))


class Padding(Float64):
  """Slots of weight 0 change nothing, whatever they point at."""

  @parameterized.parameters(linen_calm, linen_cnn, nnx_calm)
  def test_padding_is_invisible(self, build):
    problem, key = build(), jax.random.key(1)
    params, state = start(problem)
    plain = step(params, state, batch_of(3, 1, 4, 5, 9, padding=()), key, problem)
    padded = step(params, state, batch_of(3, 1, 4, 5, 9), key, problem)
    # Sums over 5 examples in another order: some eps.
    chex.assert_trees_all_close(padded, plain, rtol=1e-10, atol=1e-13)

    # The same slots with weight show what the test would see if the mask were lost.
    _, seen, _, _ = step(params, state, batch_of(3, 1, 4, 5, 9, 0, 2, 20, padding=()), key, problem)
    moved = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), seen, plain[1])
    self.assertGreater(min(jax.tree.leaves(moved)), 1e-4)

    # Padding alone, as the last part of a split batch may be: no NaN, no gradient, no change of state.
    nothing = Batch(jnp.arange(8, dtype=jnp.int32), jnp.zeros(8))
    _, kept, value, gradient = step(params, state, nothing, key, problem)
    expected = state, jnp.zeros(()), jax.tree.map(jnp.zeros_like, gradient)
    chex.assert_trees_all_equal((kept, value, gradient), expected)
