"""The sampled noise scales: unbiased by enumeration, their errors by brute force, their intervals by their level."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from absl.testing import parameterized
from noise_cases import LeastSquares

from gdlab import analysis, problems
from gdlab.analysis.gradients import example_loss
from gdlab.analysis.noise.intervals import ratio_interval
from gdlab.analysis.noise.scale import from_sample
from gdlab.core.errors import InputError


def squares_of(case, indices):
  """Squared norms of the mean gradients of batches of examples, indices [..., B]."""
  return (case.gradients[indices].mean(-2) ** 2).sum(-1)


def leave_one_out(gradients):
  """(tr Sigma, |G|^2) without each of the examples, [n, 2]."""
  found = []
  for i in range(len(gradients)):
    rest = np.delete(gradients, i, axis=0)
    trace = rest.var(axis=0, ddof=1).sum()
    found.append([trace, rest.mean(0) @ rest.mean(0) - trace / len(rest)])
  return np.array(found)


class SampledNoiseScaleTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(jax.enable_x64(True))

  def test_unbiased_over_all_samples(self):
    # All 12^3 samples of three with replacement: the mean of the estimates is their expectation.
    case = LeastSquares(12, 2)
    loss = example_loss(case.problem, (), jax.random.key(0))
    triples = jnp.array(list(itertools.product(range(12), repeat=3)))
    found = jax.jit(jax.vmap(lambda indices: from_sample(loss, case.params, indices, 2, 2.0)))(triples)
    np.testing.assert_allclose(found.covariance_trace.mean(), case.trace, rtol=1e-12)
    np.testing.assert_allclose(found.gradient_square.mean(), case.square, rtol=1e-11)

  def test_errors_and_interval_of_one_sample(self):
    case, indices = LeastSquares(), jnp.arange(60) * 3
    quantile = scipy.stats.t.ppf(0.975, 59)
    loss = example_loss(case.problem, (), jax.random.key(0))
    found = jax.jit(lambda p: from_sample(loss, p, indices, 8, quantile))(case.params)
    rows = case.gradients[np.asarray(indices)]
    trace = rows.var(axis=0, ddof=1).sum()
    square = rows.mean(0) @ rows.mean(0) - trace / 60
    out = leave_one_out(rows)
    covariance = 59 / 60 * (out - out.mean(0)).T @ (out - out.mean(0))
    expected = [trace, covariance[0, 0] ** 0.5, square, covariance[1, 1] ** 0.5, trace / square]
    np.testing.assert_allclose(found[:5], expected, rtol=1e-11)
    for end in (found.low, found.high):  # the ends are where S - rD is as far from 0 as the level allows
      spread = covariance[0, 0] - 2 * end * covariance[0, 1] + end**2 * covariance[1, 1]
      np.testing.assert_allclose(abs(trace - end * square), quantile * spread**0.5, rtol=1e-9)
    self.assertTrue(found.low < found.scale < found.high)

  def test_two_batches_are_unbiased_over_all_pairs_of_200(self):
    case = LeastSquares(200)
    pairs = np.stack(np.meshgrid(np.arange(200), np.arange(200), indexing='ij'), -1).reshape(-1, 2)
    found = analysis.two_batch_noise_scale(squares_of(case, pairs[:, :1]), squares_of(case, pairs), 1, 2)
    # Means of 40,000 terms of up to 1e4.
    np.testing.assert_allclose(found.covariance_trace, case.trace, rtol=1e-10)
    np.testing.assert_allclose(found.gradient_square, case.square, rtol=1e-10)
    np.testing.assert_allclose(found.scale, case.scale, rtol=1e-10)

  def test_two_batch_squares(self):
    # Their expectations are |G|^2 + tr Sigma / B; four standard errors.
    case = LeastSquares(200)
    small, large = jax.jit(
      lambda params, key: analysis.two_batch_squares(
        case.problem, params, (), key, small_size=4, large_size=16, num_pairs=2000
      )
    )(case.params, jax.random.key(3))
    for found, size in ((small, 4), (large, 16)):
      error = found.std() / found.size**0.5
      self.assertLess(abs(found.mean() - case.square - case.trace / size), 4 * error)
    self.assertLess(abs(np.corrcoef(small, large)[0, 1]), 4 / 2000**0.5)

  def test_samples_on_the_noisy_quadratic(self):
    # Closed form: tr Sigma = 3, |G|^2 = 14; 1000 samples of 32, so four standard errors of a mean of 1000, and the
    # coverage of 95 % intervals within four standard errors, 2.8 %.
    problem = problems.quadratic([1.0, 2.0, 3.0], noise=[1.0, 0.5, 1.5], num_examples=200)
    point, keys = jnp.ones(3), jax.random.split(jax.random.key(5), 1000)
    sample = lambda key: analysis.sampled_noise_scale(problem, point, (), key, num_examples=32)
    found = jax.jit(jax.vmap(sample))(keys)
    for values, truth in ((found.covariance_trace, 3.0), (found.gradient_square, 14.0)):
      self.assertLess(abs(values.mean() - truth), 4 * values.std() / 1000**0.5)
    covered = ((found.low <= 3 / 14) & (found.high >= 3 / 14)).mean()
    self.assertLess(abs(covered - 0.95), 0.028)

  def test_an_interval_open_above_and_one_that_reaches_zero(self):
    covariance = jnp.array([[1.0, 0.2], [0.2, 4.0]])
    for square in (1.0, 0.0, -1.0):  # |G|^2 is not told from 0
      low, high = ratio_interval(jnp.asarray(10.0), jnp.asarray(square), covariance, 2.0)
      self.assertEqual(high, np.inf)
      spread = 1 - 0.4 * low + 4 * low**2
      np.testing.assert_allclose(10 - low * max(square, 0), 2 * spread**0.5, rtol=1e-12)
    low, high = ratio_interval(jnp.asarray(1.0), jnp.asarray(10.0), covariance, 2.0)
    self.assertEqual(low, 0)
    np.testing.assert_allclose(10 * high - 1, 2 * (1 - 0.4 * high + 4 * high**2) ** 0.5, rtol=1e-12)

  def test_no_interval_is_empty(self):
    # Estimates of either sign with covariances of all correlations: the interval holds the ratio of what is >= 0.
    rng = np.random.default_rng(6)
    estimates, factors = rng.normal(size=(2, 2000)), 10.0 ** rng.uniform(-2, 0, (2000, 1, 1))
    roots = factors * rng.normal(size=(2000, 2, 2))
    find = jax.jit(jax.vmap(ratio_interval, (0, 0, 0, None)))
    low, high = map(np.asarray, find(*estimates, roots @ roots.swapaxes(1, 2), 2.0))
    top, bottom = np.maximum(estimates, 0)
    self.assertTrue(((low >= 0) & (low <= high)).all())
    # Roots of a quadratic whose discriminant is rounded by eps: sqrt(eps) at worst.
    self.assertTrue((low * bottom <= top * (1 + 1e-7)).all())
    divided = bottom > 0
    self.assertTrue((top[divided] <= high[divided] * bottom[divided] * (1 + 1e-7)).all())
    self.assertTrue((high[~divided] == np.inf).all())
    negative = analysis.two_batch_noise_scale(np.array([1, 1.01, 0.99]), np.array([3, 3, 3.01]), 1, 4)
    self.assertLess(negative.covariance_trace, 0)
    self.assertEqual(negative.low, 0)
    self.assertBetween(negative.high, 0, 0.1)

  @parameterized.parameters(
    ({'num_examples': 2}, 'num_examples.*>= 3, got 2'),
    ({'block_size': 0}, 'block_size'),
    ({'confidence': 1.0}, 'confidence'),
  )
  def test_refusals(self, options, message):
    case = LeastSquares()
    with self.assertRaisesRegex(InputError, message):
      analysis.sampled_noise_scale(case.problem, case.params, (), jax.random.key(0), **options)

  @parameterized.parameters(
    ((np.ones(3), np.ones(3), 2, 2), 'large_size.*>= 3, got 2'),
    ((np.ones(3), np.ones(2), 1, 2), r'\(3,\) and \(2,\)'),
    ((np.ones(1), np.ones(1), 1, 2), 'K >= 2'),
    ((np.ones(3), np.ones(3), 0, 2), 'small_size'),
  )
  def test_two_batch_refusals(self, arguments, message):
    with self.assertRaisesRegex(InputError, message):
      analysis.two_batch_noise_scale(*arguments)
