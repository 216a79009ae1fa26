"""Samplers that pass over the data in epochs: coverage, order, weights, the exact law of shuffles."""

import itertools
import math
import unittest

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from drawing import assert_independent, assert_uniform, by_epoch, draw, keys, numbered

from gdlab.sampling import reshuffle, sequential, shuffle_once, single
from gdlab.sampling.epochs import LARGEST_NETWORK, permutation, sorted_words

SAMPLERS = {'reshuffle': reshuffle, 'shuffle_once': shuffle_once, 'sequential': sequential}
# (N, B, updates per epoch counted by hand): B divides N, does not, is 1, is N; and one example.
SIZES = ((12, 4, 3), (7, 3, 3), (5, 1, 5), (6, 6, 1), (1, 1, 1))


def real(indices, weights):
  return indices[weights != 0]


class CoverageTest(parameterized.TestCase):
  @parameterized.product(name=tuple(SAMPLERS), sizes=SIZES)
  def test_an_epoch_sees_every_example_once_and_its_batches_are_means(self, name, sizes):
    num_examples, batch_size, updates = sizes
    sampler = SAMPLERS[name](batch_size)
    self.assertEqual(sampler.updates_per_epoch(num_examples), updates)
    indices, weights = draw(sampler, jax.random.key(3), num_examples, 3 * updates)
    self.assertEqual(indices.shape, (3 * updates, batch_size))
    for epoch in range(3):
      part = slice(epoch * updates, (epoch + 1) * updates)
      seen = real(indices[part], weights[part])
      np.testing.assert_array_equal(np.sort(seen), np.arange(num_examples))
    self.assertTrue(np.all((indices >= 0) & (indices < num_examples)), 'padding must hold a valid index')
    # Real examples weigh alike and sum to one; padding weighs nothing.
    last = num_examples - (updates - 1) * batch_size  # real examples in the last batch of an epoch
    for step, row in enumerate(weights):
      count = last if step % updates == updates - 1 else batch_size
      expected = np.array([1 / count] * count + [0] * (batch_size - count), weights.dtype)
      np.testing.assert_array_equal(row, expected)

  @parameterized.product(name=tuple(SAMPLERS), sizes=((7, 3), (5, 4), (9, 9)))
  def test_drop_remainder_leaves_out_what_fills_no_batch(self, name, sizes):
    num_examples, batch_size = sizes
    sampler = SAMPLERS[name](batch_size, drop_remainder=True)
    updates = num_examples // batch_size
    self.assertEqual(sampler.updates_per_epoch(num_examples), updates)
    indices, weights = draw(sampler, jax.random.key(1), num_examples, 4 * updates)
    np.testing.assert_array_equal(weights, np.full_like(weights, 1 / batch_size))
    for epoch in by_epoch(indices, updates):
      self.assertLen(set(epoch), updates * batch_size)

  def test_reshuffle_leaves_out_other_examples_each_epoch_and_shuffle_once_the_same(self):
    # 3 of 7 are left over in 30 epochs: the same 1 every time has probability 7^-29 under reshuffling.
    left_out = {}
    for name in ('reshuffle', 'shuffle_once'):
      indices, _ = draw(SAMPLERS[name](3, drop_remainder=True), jax.random.key(2), 7, 60)
      left_out[name] = [tuple(set(range(7)) - set(epoch)) for epoch in by_epoch(indices, 2)]
    self.assertGreater(len(set(left_out['reshuffle'])), 1)
    self.assertLen(set(left_out['shuffle_once']), 1)

  @parameterized.parameters((10_000, 128, 79), (32_000, 32, 1000), (60_000, 60_000, 1), (977, 1, 977))
  def test_updates_per_epoch_of_the_textbook_sizes(self, num_examples, batch_size, updates):  # V4
    for make in SAMPLERS.values():
      self.assertEqual(make(batch_size).updates_per_epoch(num_examples), updates)

  def test_a_textbook_epoch_really_ends_after_79_updates(self):  # V4, counted instead of calculated
    indices, weights = draw(reshuffle(128), jax.random.key(0), 10_000, 80)
    np.testing.assert_array_equal(np.sort(real(indices[:79], weights[:79])), np.arange(10_000))
    self.assertEqual(np.count_nonzero(weights[78]), 10_000 - 78 * 128)
    self.assertEqual(np.count_nonzero(weights[79]), 128)


class OrderTest(unittest.TestCase):
  def test_sequential_keeps_the_order_of_the_data_whatever_the_key(self):
    expected = [[0, 1, 2], [3, 4, 5], [6, 6, 6]] * 2
    for seed in (0, 1):
      indices, _ = draw(sequential(3), jax.random.key(seed), 7, 6)
      np.testing.assert_array_equal(indices, expected)

  def test_shuffle_once_repeats_its_first_epoch(self):
    indices, weights = draw(shuffle_once(3), jax.random.key(0), 20, 4 * 7)
    first = real(indices[:7], weights[:7])
    self.assertFalse(np.array_equal(first, np.arange(20)))  # by chance with probability 1/20!
    for epoch in range(1, 4):
      np.testing.assert_array_equal(indices[7 * epoch : 7 * epoch + 7], indices[:7])

  def test_reshuffle_orders_every_epoch_anew(self):
    indices, _ = draw(reshuffle(4), jax.random.key(0), 20, 50)
    epochs = by_epoch(indices, 5)
    self.assertEqual(len({tuple(epoch) for epoch in epochs}), 10)  # a repeat has probability < 10^2 / 20!

  def test_single_is_one_reshuffled_example_at_a_time(self):
    indices, weights = draw(single(), jax.random.key(5), 6, 12)
    self.assertEqual(indices.shape, (12, 1))
    np.testing.assert_array_equal(weights, np.ones((12, 1)))
    for epoch in by_epoch(indices, 6):
      np.testing.assert_array_equal(np.sort(epoch), np.arange(6))

  def test_the_law_does_not_depend_on_the_batch_size(self):
    # Epoch e of a key is the same permutation however it is cut into batches.
    whole, _ = draw(reshuffle(6), jax.random.key(9), 6, 2)
    pairs, _ = draw(reshuffle(2), jax.random.key(9), 6, 6)
    np.testing.assert_array_equal(by_epoch(pairs, 3), whole)


class LawTest(parameterized.TestCase):
  """Chi-square tests at level 1e-4, with fixed keys."""

  @parameterized.named_parameters(('reshuffle', reshuffle), ('shuffle_once', shuffle_once))
  def test_all_permutations_are_equally_likely(self, make):
    # The third epoch of 2,400 keys: 100 expected for each of the 4! orders.
    indices, _ = draw(make(4), keys(2400), 4, 3)
    assert_uniform(numbered(indices[:, 2], 4), math.factorial(4))

  def test_every_position_of_every_epoch_is_uniform(self):
    indices, _ = draw(reshuffle(2), keys(300, seed=1), 10, 10)
    epochs = by_epoch(indices, 5)
    for epoch in range(2):
      for position in range(10):
        assert_uniform(epochs[:, epoch, position], 10)

  def test_the_epochs_of_one_key_are_uniform(self):
    indices, _ = draw(reshuffle(3), jax.random.key(4), 3, 1200)
    assert_uniform(numbered(indices, 3), 6)

  def test_lanes_and_consecutive_epochs_are_uniform_and_independent(self):
    # Keys as a user splits them, and as the runner derives them by fold_in from neighbouring seed ids.
    folded = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(1200))
    orders = numbered(draw(reshuffle(3), jnp.concatenate([keys(1200), folded]), 3, 3)[0], 3)
    for lanes in (orders[:1200], orders[1200:]):
      assert_uniform(lanes, 6)
      assert_independent(lanes[:-1], lanes[1:])
      assert_independent(lanes[:, :-1], lanes[:, 1:])
      assert_independent(lanes[:, 0], lanes[:, 2])

  @parameterized.parameters(1, 2, 3, 1437, 70_000)  # of one to four rounds of sorting
  def test_a_permutation_has_every_place_once(self, count):
    with jax.debug_key_reuse(False):
      found = np.asarray(permutation(jax.random.key(3), count))
    np.testing.assert_array_equal(np.sort(found), np.arange(count))
    if count > 100:
      # Places before and after are uncorrelated: 5 standard errors of a correlation.
      self.assertLess(abs(np.corrcoef(found, np.arange(count))[0, 1]), 5 / np.sqrt(count))

  def test_the_network_sorts(self):
    # A network of comparisons sorts everything if it sorts all zeros and ones (Knuth, volume 3, 5.3.4, theorem Z).
    for count in range(1, 10):
      words = jnp.asarray(list(itertools.product((0, 1), repeat=count)), jnp.uint32)
      np.testing.assert_array_equal(jax.vmap(sorted_words)(words), np.sort(words, axis=1))

  @parameterized.parameters(17, 1437, LARGEST_NETWORK, LARGEST_NETWORK + 1)
  def test_words_of_all_sizes_are_sorted(self, count):
    words = jax.random.bits(jax.random.key(count), (count,), jnp.uint32)
    np.testing.assert_array_equal(sorted_words(words), np.sort(words))

  def test_many_rounds_are_uniform_too(self):
    # 1436 = 4 x 359, and the last place is left out of the count.
    drawn = np.asarray(
      jax.vmap(lambda key: permutation(key, 1437)[jnp.array([0, 700, 1436])])(keys(2000, seed=2))
    )
    for position in range(3):
      assert_uniform((drawn[:, position] // 359)[drawn[:, position] < 1436], 4)

  def test_a_biased_shuffle_is_found_out(self):
    # Swapping each position with any position is the classical mistake; its orders have from 8/256 to 15/256.
    rng = np.random.default_rng(0)
    orders = np.tile(np.arange(4), (2400, 1))
    for position in range(4):
      other = rng.integers(0, 4, 2400)
      rows = np.arange(2400)
      orders[rows, position], orders[rows, other] = orders[rows, other], orders[rows, position].copy()
    with self.assertRaises(AssertionError):
      assert_uniform(numbered(orders, 4), 24)

  def test_a_dependence_is_found_out(self):
    outcomes = np.random.default_rng(0).integers(0, 6, 2400)
    copied = np.where(np.arange(2400) % 5 == 0, outcomes, np.random.default_rng(1).integers(0, 6, 2400))
    with self.assertRaises(AssertionError):
      assert_independent(outcomes, copied)
