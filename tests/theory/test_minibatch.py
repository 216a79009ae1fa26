"""The variance of a mini-batch mean against all batches of a small population, one by one."""

import itertools

import numpy as np
from absl.testing import parameterized

from gdlab import theory
from gdlab.core.errors import InputError

N = 5


class MeanVarianceTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.vectors = np.random.default_rng(0).normal(size=(N, 3)) + 10
    self.mean = self.vectors.mean(axis=0)
    self.variance = np.sum((self.vectors - self.mean) ** 2) / N

  def enumerated(self, batches):
    means = self.vectors[np.array(list(batches))].mean(axis=1)
    return np.mean(np.sum((means - self.mean) ** 2, axis=-1))

  # Sums of up to 5**4 squares, each to a few eps of values of size 10 about a mean: 1e-13 leaves a margin of
  # 10 over the rounding seen in the subtraction (10 eps / 1), and any wrong factor is off by more than 1 %.
  @parameterized.parameters(range(1, N))
  def test_with_replacement(self, batch_size):
    exact = self.enumerated(itertools.product(range(N), repeat=batch_size))
    np.testing.assert_allclose(theory.mean_variance(self.variance, batch_size), exact, rtol=1e-13)

  @parameterized.parameters(range(1, N))
  def test_without_replacement(self, batch_size):
    exact = self.enumerated(itertools.combinations(range(N), batch_size))
    np.testing.assert_allclose(theory.mean_variance(self.variance, batch_size, N), exact, rtol=1e-13)

  def test_whole_population_has_none(self):
    self.assertEqual(theory.mean_variance(self.variance, N, N), 0)
    self.assertEqual(theory.mean_variance(0.0, 1, 1), 0)

  def test_array_of_batch_sizes(self):
    sizes = np.array([1, 2, 5])
    each = [theory.mean_variance(self.variance, int(size), N) for size in sizes]
    np.testing.assert_array_equal(theory.mean_variance(self.variance, sizes, N), each)

  @parameterized.parameters(
    ((1.0, 0), 'batch_size'),
    ((1.0, 2.5), 'batch_size'),
    ((1.0, [1, -1]), 'batch_size'),
    ((1.0, 6, 5), 'at most num_examples=5'),
    ((1.0, 1, 0), 'num_examples'),
    ((-1.0, 2), 'variance must be >= 0'),
    (([1.0, 2.0], [1, 2, 3]), 'broadcast'),
  )
  def test_refuses(self, arguments, message):
    with self.assertRaisesRegex(InputError, message):
      theory.mean_variance(*arguments)


class UpdatesPerEpochTest(parameterized.TestCase):
  # The first three are claim V4's own numbers.
  @parameterized.parameters((10_000, 10_000, 1), (10_000, 128, 79), (32_000, 32, 1000), (7, 1, 7), (1, 1, 1))
  def test_values(self, num_examples, batch_size, expected):
    self.assertEqual(theory.updates_per_epoch(num_examples, batch_size), expected)

  @parameterized.parameters(1, 2, 7, 12)
  def test_counts_the_batches_of_a_pass(self, num_examples):
    for batch_size in range(1, num_examples + 1):
      starts = range(0, num_examples, batch_size)
      self.assertEqual(theory.updates_per_epoch(num_examples, batch_size), len(starts), batch_size)

  @parameterized.parameters((5, 6), (5, 0), (0, 1), (5, 2.0))
  def test_refuses(self, num_examples, batch_size):
    with self.assertRaisesRegex(InputError, 'must be a whole number'):
      theory.updates_per_epoch(num_examples, batch_size)
