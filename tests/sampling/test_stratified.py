"""stratified: allocation by hand, the law of random subsets, unbiased, the closed form of its variance."""

import functools
import itertools
import math
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from drawing import assert_independent, assert_mean, assert_uniform, draw, estimates, keys, numbered

from gdlab.core.errors import InputError
from gdlab.sampling import stratified
from gdlab.sampling.strata import allocation
from gdlab.sampling.subsets import subset

LABELS = np.array([7, 2, 7, 7, -1, 2, 7, 7, 7, -1, 2, 7])  # 2 of -1, 3 of 2, 7 of 7
RNG = np.random.default_rng(0)
GRADIENTS = RNG.normal(size=(12, 3)) + 3 * (LABELS == 2)[:, None]


def sizes(labels, batch_size):
  """{class: b_c}."""
  classes, counts = np.unique(labels, return_counts=True)
  return dict(zip(classes.tolist(), allocation(counts, batch_size).tolist(), strict=True))


def variance(gradients, labels, batch_size):
  """tr Cov of the sum over classes of N_c/N times the mean of a uniform subset of it."""
  total = 0.0
  for label, size in sizes(labels, batch_size).items():
    members = gradients[labels == label]
    if size < len(members):
      spread = np.trace(np.atleast_2d(np.cov(members.T)))
      total += (len(members) / len(labels)) ** 2 * spread / size * (1 - size / len(members))
  return total


class AllocationTest(parameterized.TestCase):
  @parameterized.parameters(
    ((6, 3, 3), 4, (2, 1, 1)),  # proportional exactly
    ((5, 3, 2), 3, (1, 1, 1)),  # quotas 1.5, 0.9, 0.6
    ((50, 30, 20), 7, (4, 2, 1)),  # quotas 3.5, 2.1, 1.4: the largest remainder is the first's
    ((97, 2, 1), 10, (8, 1, 1)),  # quotas 9.7, 0.2, 0.1: at least one each, from the large one
    ((4, 4), 8, (4, 4)),
    ((1, 1, 1), 3, (1, 1, 1)),
    ((9,), 5, (5,)),
  )
  def test_by_hand(self, counts, batch_size, expected):
    np.testing.assert_array_equal(allocation(np.array(counts), batch_size), expected)

  def test_every_size_fits_its_class(self):
    for counts in itertools.product(range(1, 6), repeat=3):
      for batch_size in range(3, sum(counts) + 1):
        found = allocation(np.array(counts), batch_size)
        assert found.sum() == batch_size
        assert np.all((found >= 1) & (found <= counts)), (counts, batch_size, found)


class SubsetTest(parameterized.TestCase):
  @parameterized.parameters((5, 2, 2), (5, 3, 4), (4, 1, 3), (5, 4, 4))
  def test_all_sets_are_equally_likely(self, population, size, slots):
    drawn = jax.jit(jax.vmap(functools.partial(subset, slots=slots), (0, None, None)))
    found = np.asarray(drawn(keys(1000, seed=population + size), jnp.int32(population), jnp.int32(size)))
    self.assertEqual((found.shape, found.dtype), ((1000, slots), np.int32))
    np.testing.assert_array_equal(found[:, size:], -1)
    assert_uniform(numbered(np.sort(found[:, :size], axis=1), population), math.comb(population, size))

  def test_all_of_them_and_none_of_them(self):
    found = np.asarray(subset(jax.random.key(0), jnp.int32(9), jnp.int32(9), 12))
    np.testing.assert_array_equal(np.sort(found[:9]), np.arange(9))
    np.testing.assert_array_equal(found[9:], -1)
    np.testing.assert_array_equal(subset(jax.random.key(0), jnp.int32(9), jnp.int32(0), 2), [-1, -1])


class StratifiedTest(parameterized.TestCase):
  @parameterized.parameters(3, 4, 7, 12)
  def test_every_batch_has_its_share_of_every_class(self, batch_size):
    sampler = stratified(batch_size, LABELS)
    indices, weights = draw(sampler, jax.random.key(1), 12, 40)
    self.assertEqual(sampler.updates_per_epoch(12), -(-12 // batch_size))
    for row, row_weights in zip(indices, weights, strict=True):
      self.assertLen(set(row), batch_size)  # without replacement
      for label, size in sizes(LABELS, batch_size).items():
        mine = LABELS[row] == label
        self.assertEqual(np.count_nonzero(mine), size)
        expected = np.float32(np.count_nonzero(label == LABELS) / 12 / size)
        np.testing.assert_array_equal(row_weights[mine], expected)

  def test_weights_make_each_example_count_once(self):
    # E[sum of weights on example i] = b_c/N_c * N_c/(N b_c) = 1/N: exact, with the allocation of any size.
    for batch_size in (3, 5, 10):
      _, weights = draw(stratified(batch_size, LABELS), jax.random.key(0), 12, 1)
      per_class = [
        size / np.count_nonzero(label == LABELS) for label, size in sizes(LABELS, batch_size).items()
      ]
      slots = np.repeat(per_class, list(sizes(LABELS, batch_size).values()))
      np.testing.assert_allclose(weights[0] * slots, 1 / 12, rtol=2 * np.finfo(np.float32).eps)

  def test_all_subsets_of_a_class_are_equally_likely_and_classes_and_updates_independent(self):
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    indices, _ = draw(stratified(4, labels), keys(60), 8, 40)
    first = numbered(np.sort(indices[..., :2]), 8)
    second = numbered(np.sort(indices[..., 2:]), 8)
    assert_uniform(first, 6)
    assert_uniform(second, 6)
    assert_independent(first, second)
    assert_independent(first[:, :-1], first[:, 1:])
    assert_independent(first[:-1], first[1:])

  @parameterized.parameters(3, 4, 7)
  def test_the_estimate_is_unbiased_with_the_closed_form_of_its_variance(self, batch_size):
    found = estimates(*draw(stratified(batch_size, LABELS), keys(60, seed=7), 12, 150), GRADIENTS).reshape(
      -1, 3
    )
    mean = GRADIENTS.mean(axis=0)
    for number in range(3):
      assert_mean(found[:, number], mean[number])
    assert_mean(np.sum((found - mean) ** 2, axis=1), variance(GRADIENTS, LABELS, batch_size))

  def test_the_whole_data_set_has_no_variance(self):
    found = estimates(*draw(stratified(12, LABELS), jax.random.key(0), 12, 5), GRADIENTS)
    np.testing.assert_allclose(found, np.tile(GRADIENTS.mean(axis=0), (5, 1)), rtol=1e-5)

  def test_in_proportion_it_is_never_worse_than_with_replacement(self):
    for seed in range(50):
      rng = np.random.default_rng(seed)
      # Also with classes that mean nothing.
      labels, gradients = np.repeat([0, 1, 2], [6, 3, 3]), rng.normal(size=(12, 2))
      with_replacement = np.trace(np.cov(gradients.T, bias=True)) / 4
      self.assertLessEqual(variance(gradients, labels, 4), with_replacement * (1 + 1e-12))


class EnumerationTest(parameterized.TestCase):
  @parameterized.parameters((5, 2, 2), (5, 3, 4), (4, 4, 4), (3, 1, 2))
  def test_every_subset_comes_of_as_many_of_the_draws(self, population, size, slots):
    draws = all_draws(population, size, slots)
    one = lambda drawn: subset(drawn, jnp.int32(population), jnp.int32(size), slots)
    with mock.patch.object(jax.random, 'randint', lambda drawn, *args: drawn):
      found = np.asarray(jax.vmap(one)(draws))
    _, counts = np.unique(np.sort(found[:, :size], axis=1), axis=0, return_counts=True)
    self.assertLen(counts, math.comb(population, size))
    self.assertLen(set(counts.tolist()), 1)

  def test_the_mean_over_all_draws_is_the_full_gradient(self):
    labels, values = np.array([1, 0, 1, 1, 0, 1, 1]), GRADIENTS[:7]  # 2 and 5, of which 1 and 3 are drawn
    sampler = stratified(4, labels)
    self.assertEqual(sizes(labels, 4), {0: 1, 1: 3})
    pairs = itertools.product(all_draws(2, 1, 3), all_draws(5, 3, 3))
    with jax.enable_x64(True):

      def sample(drawn):
        with (
          mock.patch.object(jax.random, 'split', return_value=drawn),
          mock.patch.object(jax.random, 'randint', lambda own, *args: own),
        ):
          return sampler.sample(sampler.init(jax.random.key(0), 7))[0]

      batches = jax.jit(jax.vmap(sample))(jnp.asarray(list(pairs)))
    found = estimates(batches.indices, batches.weights, values)
    # Sums of some 100 terms below 10, each rounded a few times.
    np.testing.assert_allclose(found.mean(axis=0), values.mean(axis=0), rtol=0, atol=1e-12)
    self.assertGreater(found.std(axis=0).min(), 0.1)


def all_draws(population, size, slots):
  """Every outcome of the numbers that `subset` draws, int32[outcomes, slots]; one value where a slot is not used."""
  ranges = [range(population - size + slot + 1 if slot < size else 1) for slot in range(slots)]
  return np.array(list(itertools.product(*ranges)), np.int32)


class RefusalTest(parameterized.TestCase):
  @parameterized.parameters(
    (np.array([0.0, 1.0]), 'whole numbers .* got float64'),
    (np.array([[0, 1]]), r'shape \[N\] .* \(1, 2\)$'),
    (np.zeros(0, int), r'N >= 1, .* \(0,\)$'),
    (np.array([True, False]), 'whole numbers .* got bool'),
    (None, 'whole numbers'),
    ([[0], [1, 2]], 'known whole numbers'),
  )
  def test_labels(self, labels, message):
    with self.assertRaisesRegex(InputError, f'^labels must .*{message}'):
      stratified(1, labels)

  def test_labels_that_are_traced(self):
    with self.assertRaisesRegex(InputError, '^labels must be an array of known whole numbers, got '):
      jax.eval_shape(lambda labels: stratified(1, labels).init(jax.random.key(0), 3), jnp.zeros(3, int))

  def test_fewer_slots_than_classes(self):
    with self.assertRaisesRegex(InputError, r'^batch_size must be .* \[3, 12\], .* 3 classes, got 2$'):
      stratified(2, LABELS)

  def test_another_number_of_labels_than_examples(self):
    with self.assertRaisesRegex(InputError, '^labels must have .* 11 examples, got 12$'):
      stratified(4, LABELS).init(jax.random.key(0), 11)
