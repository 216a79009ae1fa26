"""Samplers whose orders are neither uniform nor the data's own: the exact laws of their orders."""

import itertools
import math
import unittest
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from drawing import assert_independent, assert_law, assert_uniform, by_epoch, draw, keys, numbered

from gdlab.core.errors import InputError
from gdlab.sampling import block_shuffle, paired_reversal, reshuffle, sequential, shuffle_buffer

SAMPLERS = {
  'paired_reversal': paired_reversal,
  'block_shuffle': lambda size, drop=False: block_shuffle(size, 2, drop),
  'shuffle_buffer': lambda size, drop=False: shuffle_buffer(size, 2, drop),
}


def orders(sampler, num_examples, epochs, lanes=None, seed=0):
  """The orders of some epochs of a sampler of batches of one, int[..., epochs, N]."""
  given = jax.random.key(seed) if lanes is None else keys(lanes, seed)
  return by_epoch(draw(sampler, given, num_examples, epochs * num_examples)[0], num_examples)


def buffer_law(num_examples, buffer_size):
  """Order -> probability, by the words of tf.data: a buffer, filled and drawn from until nothing is left."""
  law = {}

  def draw_one(buffer, coming, drawn, probability):
    if not buffer:
      law[tuple(drawn)] = law.get(tuple(drawn), 0) + probability
    for place, example in enumerate(buffer):
      rest = buffer[:place] + buffer[place + 1 :] + coming[:1]
      draw_one(rest, coming[1:], [*drawn, example], probability / len(buffer))

  examples = list(range(num_examples))
  draw_one(examples[:buffer_size], examples[buffer_size:], [], Fraction(1))
  return law


class CoverageTest(parameterized.TestCase):
  @parameterized.product(
    name=tuple(SAMPLERS), sizes=((12, 4, 3), (7, 3, 3), (5, 1, 5), (6, 6, 1), (3, 2, 2), (2, 1, 2))
  )
  def test_an_epoch_sees_every_example_once(self, name, sizes):
    num_examples, batch_size, updates = sizes
    sampler = SAMPLERS[name](batch_size)
    self.assertEqual(sampler.updates_per_epoch(num_examples), updates)
    indices, weights = draw(sampler, jax.random.key(3), num_examples, 4 * updates)
    for epoch in range(4):
      part = slice(epoch * updates, (epoch + 1) * updates)
      seen = indices[part][weights[part] != 0]
      np.testing.assert_array_equal(np.sort(seen), np.arange(num_examples))

  @parameterized.parameters(*SAMPLERS)
  def test_drop_remainder_leaves_out_the_end_of_an_epoch(self, name):
    sampler = SAMPLERS[name](3, True)
    self.assertEqual(sampler.updates_per_epoch(7), 2)
    kept, weights = draw(sampler, jax.random.key(1), 7, 8)
    np.testing.assert_array_equal(weights, np.full_like(weights, 1 / 3))
    whole = orders(SAMPLERS[name](1), 7, 4, seed=1)
    np.testing.assert_array_equal(by_epoch(kept, 2), whole[:, :6])

  @parameterized.parameters(*SAMPLERS)
  def test_the_order_does_not_depend_on_the_batch_size(self, name):
    whole, _ = draw(SAMPLERS[name](6), jax.random.key(9), 6, 4)
    pairs, _ = draw(SAMPLERS[name](2), jax.random.key(9), 6, 12)
    np.testing.assert_array_equal(by_epoch(pairs, 3), whole)


class PairedReversalTest(unittest.TestCase):
  def test_every_second_epoch_is_the_reverse_of_the_one_before(self):
    found = orders(paired_reversal(1), 9, 6, lanes=5)
    np.testing.assert_array_equal(found[:, 1::2], found[:, ::2, ::-1])

  def test_pairs_are_uniform_and_independent(self):
    found = numbered(orders(paired_reversal(1), 3, 6, lanes=1200), 3)
    for epoch in range(6):
      assert_uniform(found[:, epoch], 6)
    assert_independent(found[:, 0], found[:, 2])
    assert_independent(found[:, 1], found[:, 4])
    assert_independent(found[:-1, 0], found[1:, 0])


class BlockShuffleTest(parameterized.TestCase):
  @parameterized.parameters((7, 3), (6, 2), (5, 4))
  def test_orders_of_blocks_are_uniform(self, num_examples, block_size):
    blocks = [
      tuple(range(start, min(start + block_size, num_examples)))
      for start in range(0, num_examples, block_size)
    ]
    possible = {sum(order, ()): number for number, order in enumerate(itertools.permutations(blocks))}
    found = orders(block_shuffle(1, block_size), num_examples, 2, lanes=600, seed=2)
    outcomes = np.array([[possible[tuple(order)] for order in lane] for lane in found])  # no other may occur
    for epoch in range(2):
      assert_uniform(outcomes[:, epoch], math.factorial(len(blocks)))
    assert_independent(outcomes[:, 0], outcomes[:, 1])

  def test_blocks_of_one_are_a_reshuffle_and_one_block_is_the_order_of_the_data(self):
    np.testing.assert_array_equal(orders(block_shuffle(1, 1), 9, 3), orders(reshuffle(1), 9, 3))
    np.testing.assert_array_equal(orders(block_shuffle(1, 9), 9, 3), orders(sequential(1), 9, 3))

  def test_refusals(self):
    for value in (0, -1, 1.5, None, '2'):
      with self.assertRaisesRegex(InputError, r'^block_size must be a whole number >= 1, got '):
        block_shuffle(2, value)
    with self.assertRaisesRegex(InputError, r'^block_size must be .* \[1, 7\], got 8$'):
      block_shuffle(2, 8).init(jax.random.key(0), 7)


class ShuffleBufferTest(parameterized.TestCase):
  @parameterized.parameters((4, 2), (5, 3), (4, 3), (3, 3), (3, 8))
  def test_the_law_is_that_of_a_buffer(self, num_examples, buffer_size):
    law = buffer_law(num_examples, buffer_size)
    self.assertEqual(sum(law.values()), 1)
    names = {order: number for number, order in enumerate(law)}
    found = orders(shuffle_buffer(1, buffer_size), num_examples, 2, lanes=1500, seed=4)
    outcomes = np.array([[names[tuple(order)] for order in lane] for lane in found])  # no other may occur
    for epoch in range(2):
      assert_law(outcomes[:, epoch], [float(share) for share in law.values()])
    assert_independent(outcomes[:, 0], outcomes[:, 1])

  def test_a_buffer_of_one_is_the_order_of_the_data(self):
    np.testing.assert_array_equal(orders(shuffle_buffer(1, 1), 9, 3), orders(sequential(1), 9, 3))

  def test_a_buffer_that_is_not_refilled_would_be_found_out(self):
    # Blocks of two shuffled within: the mistake of a buffer that is emptied before it is filled again.
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.permuted(np.tile([a, a + 1], (1500, 1)), axis=1) for a in (0, 2)], axis=1)
    law = buffer_law(4, 2)
    names = {order: number for number, order in enumerate(law)}
    outcomes = [names[tuple(row)] for row in rows.tolist()]
    with self.assertRaises(AssertionError):
      assert_law(outcomes, [float(share) for share in law.values()])

  def test_of_a_thousand_examples_none_comes_before_the_buffer_reaches_it(self):
    found = orders(shuffle_buffer(1, 50), 1000, 1, lanes=20, seed=5)[:, 0]
    np.testing.assert_array_equal(np.sort(found), np.tile(np.arange(1000), (20, 1)))
    places = np.argsort(found, axis=1)
    early = np.arange(1000) - places
    self.assertEqual(early.max(), 49)
    # While the buffer is full an example waits a geometric number of turns: 49 turns in the mean, standard deviation
    # sqrt(50 49). Of 20 x 500 waits, each close to independent of most others, 5 standard errors; those still waiting
    # near the end of the data are left out.
    waits = 49 - early[:, 50:550]
    self.assertLess(abs(waits.mean() - 49), 5 * math.sqrt(50 * 49 / waits.size))

  def test_refusals(self):
    for value in (0, -1, 1.5, None, '2'):
      with self.assertRaisesRegex(InputError, r'^buffer_size must be a whole number >= 1, got '):
        shuffle_buffer(2, value)

  def test_the_exchanges_of_lanes_are_their_own(self):
    alone = [orders(shuffle_buffer(1, 4), 11, 2, lanes=3, seed=6)[lane] for lane in range(3)]
    for lane, key in enumerate(keys(3, 6)):
      indices, _ = draw(shuffle_buffer(1, 4), jnp.asarray(key), 11, 22)
      np.testing.assert_array_equal(by_epoch(indices, 11), alone[lane])
