"""stream: nothing is seen before it arrives, windows, uniform subsets, and that a short window tracks a drift."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from drawing import assert_independent, assert_uniform, draw, keys, numbered

import gdlab
from gdlab.core.errors import InputError
from gdlab.sampling import sequential, stream


class ArrivalTest(parameterized.TestCase):
  @parameterized.product(
    window=(None, 3, 100), arrivals=(None, 1, 5), sizes=((11, 3), (4, 1), (6, 2)), epochs=(2,)
  )
  def test_batches_come_from_the_window_of_what_has_arrived(self, window, arrivals, sizes, epochs):
    num_examples, batch_size = sizes
    sampler = stream(batch_size, window=window, arrivals_per_step=arrivals)
    arrivals = arrivals or batch_size
    updates = sampler.updates_per_epoch(num_examples)
    self.assertEqual(updates, -(-num_examples // arrivals))
    indices, weights = draw(sampler, jax.random.key(0), num_examples, epochs * updates)
    for step, (row, row_weights) in enumerate(zip(indices, weights, strict=True)):
      arrived = min((step % updates + 1) * arrivals, num_examples)
      first = 0 if window is None else max(0, arrived - window)
      real = row[row_weights != 0]
      self.assertLen(real, min(batch_size, arrived - first))
      self.assertLen(set(real), len(real))
      self.assertTrue(np.all((real >= first) & (real < arrived)), (step, row, first, arrived))
      self.assertTrue(np.all((row >= 0) & (row < num_examples)))
      np.testing.assert_array_equal(row_weights[row_weights != 0], np.float32(1) / np.float32(len(real)))

  def test_a_window_of_one_batch_is_the_newest_examples(self):
    indices, weights = draw(stream(3, window=3), jax.random.key(0), 12, 8)
    in_order, _ = draw(sequential(3), jax.random.key(0), 12, 8)
    np.testing.assert_array_equal(np.sort(indices), in_order)
    np.testing.assert_array_equal(weights, np.full((8, 3), 1 / 3, np.float32))

  def test_batch_descent_on_all_that_has_arrived(self):
    indices, weights = draw(stream(5, arrivals_per_step=1), jax.random.key(0), 5, 5)
    for step in range(5):
      np.testing.assert_array_equal(np.sort(indices[step, : step + 1]), np.arange(step + 1))
      np.testing.assert_array_equal(weights[step, step + 1 :], 0)

  def test_subsets_of_the_window_are_equally_likely_and_updates_independent(self):
    # At update 5 of each pass the window is 2 ... 6.
    indices, _ = draw(stream(2, window=5, arrivals_per_step=1), keys(1500), 7, 14)
    sets = numbered(np.sort(indices[:, 6] - 2), 5)
    assert_uniform(sets, math.comb(5, 2))
    assert_independent(sets, numbered(np.sort(indices[:, 13] - 2), 5))
    assert_independent(sets[:-1], sets[1:])


def test_a_short_window_tracks_a_moving_optimum_and_a_long_one_does_not():
  features = np.random.default_rng(0).normal(size=(600, 2))
  problem = gdlab.problems.drifting_regression(features, gdlab.problems.drifting.rotation(600))

  def error(sampler):
    descent = gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(0.2))
    state = descent.init(jax.random.key(1), problem)
    final, _ = jax.jit(lambda state: jax.lax.scan(lambda s, _: descent.step(s, problem), state, length=300))(
      state
    )
    # After 300 updates of 2 arrivals the newest example is the last.
    return np.linalg.norm(final.params - problem.train.optima[-1])

  # The optimum goes once around a circle of radius 1: their mean is its centre, at distance 1.
  assert error(stream(2, window=20)) < 0.3
  assert error(stream(2)) > 0.6


def test_window_and_arrivals_may_be_traced():
  pairs = jnp.array([[3, 1], [5, 2], [100, 4]])

  @jax.jit
  @jax.vmap
  def swept(pair):
    sampler = stream(3, window=pair[0], arrivals_per_step=pair[1])
    step = lambda state, _: sampler.sample(state)[::-1]
    return jax.lax.scan(step, sampler.init(jax.random.key(0), 7), length=9)[1]

  found = swept(pairs)
  for lane, (window, arrivals) in enumerate(pairs):
    sampler = stream(3, window=window, arrivals_per_step=arrivals)
    assert sampler.updates_per_epoch(7) == -(-7 // int(arrivals))
    indices, weights = draw(sampler, jax.random.key(0), 7, 9)
    np.testing.assert_array_equal(found.indices[lane], indices)
    np.testing.assert_array_equal(found.weights[lane], weights)
  with pytest.raises(
    InputError, match=r'^arrivals_per_step must be a known number for updates_per_epoch, got '
  ):
    jax.eval_shape(lambda a: stream(3, arrivals_per_step=a).updates_per_epoch(7), 2)


class RefusalTest(parameterized.TestCase):
  @parameterized.parameters(0, -1, 1.5, True, '3')
  def test_arrivals(self, value):
    with self.assertRaisesRegex(InputError, r'^arrivals_per_step must be a whole number in \[1, .*, got '):
      stream(2, arrivals_per_step=value)

  @parameterized.parameters(0, -1, 1.5, True, '3', 3)
  def test_windows_that_hold_no_batch(self, value):
    with self.assertRaisesRegex(InputError, r'^window must be a whole number (in \[1, .*\]|>= 4), got '):
      stream(4, window=value)
