"""Samplers without memory: the whole data set, and draws with replacement with their exact law."""

import jax
import numpy as np
from absl.testing import parameterized
from drawing import assert_independent, assert_uniform, draw, keys, numbered

from gdlab.sampling import full_batch, with_replacement


class FullBatchTest(parameterized.TestCase):
  @parameterized.parameters(1, 2, 9)
  def test_every_update_sees_every_example_in_order(self, num_examples):
    indices, weights = draw(full_batch(), jax.random.key(0), num_examples, 3)
    np.testing.assert_array_equal(indices, [np.arange(num_examples)] * 3)
    np.testing.assert_array_equal(weights, np.full((3, num_examples), 1 / num_examples, weights.dtype))
    self.assertEqual(full_batch().updates_per_epoch(num_examples), 1)


class WithReplacementTest(parameterized.TestCase):
  @parameterized.parameters((1, 1, 1), (5, 1, 5), (5, 5, 1), (7, 3, 3), (10_000, 128, 79), (32_000, 32, 1000))
  def test_an_epoch_is_ceil_n_over_b_updates_by_convention(self, num_examples, batch_size, updates):
    self.assertEqual(with_replacement(batch_size).updates_per_epoch(num_examples), updates)

  def test_weights_are_one_over_b(self):
    _, weights = draw(with_replacement(3), jax.random.key(0), 5, 4)
    np.testing.assert_array_equal(weights, np.full((4, 3), 1 / 3, weights.dtype))

  def test_a_single_example_is_drawn_over_and_over(self):
    indices, _ = draw(with_replacement(1), jax.random.key(0), 1, 5)
    np.testing.assert_array_equal(indices, np.zeros((5, 1)))

  # Below: chi-square tests at level 1e-4, with fixed keys.

  def test_all_batches_are_equally_likely(self):
    # 5^3 ordered batches, repeats among them, 48 of each expected.
    indices, _ = draw(with_replacement(3), keys(60), 5, 100)
    assert_uniform(numbered(indices, 5), 125)

  def test_draws_are_uniform_where_the_range_is_no_power_of_two(self):
    # Reducing random bits modulo N would favour small indices.
    indices, _ = draw(with_replacement(97), keys(20, seed=1), 97, 10)
    assert_uniform(indices, 97)

  def test_consecutive_updates_are_independent(self):
    indices, _ = draw(with_replacement(1), keys(50, seed=2), 6, 60)
    assert_independent(indices[:, :-1], indices[:, 1:])

  def test_lanes_are_independent(self):
    indices, _ = draw(with_replacement(1), keys(3600, seed=3), 6, 1)
    assert_uniform(indices, 6)
    assert_independent(indices[:-1], indices[1:])
