"""Intervals against exact enumeration, known laws and simulation; pairing by seed; slopes; crossings."""

import itertools
import math

import chex
import numpy as np
import scipy.stats
import xarray as xr
from absl.testing import parameterized

from gdlab import statistics
from gdlab.core.errors import InputError

UNBOUNDED = (-np.inf, np.inf)


def by_seed(values, seeds):
  return xr.DataArray(values, dims='seed', coords={'seed': seeds})


# Of 95 % intervals by Student's t: exact for Gaussian values; of the others over a million samples by NumPy alone, as
# the docstring says. A standard error is then 0.0003.
COVERAGES = {
  ('gaussian', 3): 0.95,
  ('gaussian', 5): 0.95,
  ('gaussian', 8): 0.95,
  ('gaussian', 12): 0.95,
  ('gaussian', 16): 0.95,
  ('gaussian', 20): 0.95,
  ('gaussian', 32): 0.95,
  ('uniform', 3): 0.9227,
  ('uniform', 12): 0.9471,
  ('skewed', 5): 0.9325,
  ('skewed', 20): 0.9416,
  ('exponential', 8): 0.8945,
  ('exponential', 32): 0.9285,
}


def draw(law, size, rng):
  """Samples of a law, and its mean."""
  return {
    'gaussian': (lambda: 3 + 2 * rng.standard_normal(size), 3.0),
    'uniform': (lambda: rng.random(size), 0.5),
    'skewed': (lambda: rng.standard_gamma(4, size), 4.0),
    'exponential': (lambda: rng.standard_exponential(size), 1.0),
  }[law]


class MeanTest(parameterized.TestCase):
  @parameterized.parameters(*COVERAGES)
  def test_coverage_of_the_mean(self, law, num):
    # Four binomial standard errors of 3,000 samples are 0.016 at 0.95. A bootstrap covers 0.89 of Gaussians at n = 8.
    trials, expected = 3000, COVERAGES[law, num]
    sample, mean = draw(law, (trials, num), np.random.default_rng(num))
    found = [statistics.bootstrap(values) for values in sample()]
    covered = np.mean([interval.low <= mean <= interval.high for interval in found])
    self.assertLess(abs(covered - expected), 4 * math.sqrt(expected * (1 - expected) / trials))

  @parameterized.parameters(2, 3, 11)
  def test_is_scipys_interval_of_the_mean(self, num):
    values = np.random.default_rng(num).normal(size=num)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.9)
    found = statistics.bootstrap(values, confidence=0.9)
    np.testing.assert_allclose(found[:3], (values.mean(), *expected), rtol=1e-12)
    self.assertEqual(found, statistics.bootstrap(values, method='t', confidence=0.9))
    self.assertEqual((found.confidence, found.num), (0.9, num))

  def test_is_the_interval_of_the_paired_t_test(self):
    a, b = np.random.default_rng(9).normal(size=(2, 7))
    found, tested = statistics.paired_interval(a, b), statistics.paired_t_test(a, b).effect
    np.testing.assert_allclose(found, tested, rtol=1e-12)

  def test_other_statistics_are_resampled(self):
    values = np.random.default_rng(10).normal(size=9)
    expected = scipy.stats.bootstrap(
      (values,), np.median, n_resamples=500, method='BCa', rng=np.random.default_rng(3)
    ).confidence_interval
    found = statistics.bootstrap(values, np.median, num_resamples=500, seed=3)
    self.assertEqual(found[1:3], tuple(expected))

  def test_squares_beyond_the_largest_float_say_nothing_of_the_spread(self):
    self.assertEqual(statistics.bootstrap([1e300, 2e300, 3e300])[:3], (2e300, *UNBOUNDED))


class BootstrapTest(parameterized.TestCase):
  def test_coverage_of_the_bootstrap_of_the_mean_of_gaussians(self):
    # The bootstrap interval of a mean is near mean +- z s sqrt((n-1)/n) / sqrt(n), with s the usual standard
    # deviation, so it covers with probability P(|t_{n-1}| < z sqrt((n-1)/n)): 0.929 here, where a 90 %
    # interval would cover 0.875. Four binomial standard errors of 1000 trials are 0.033.
    n, trials = 20, 1000
    z = scipy.stats.norm.ppf(0.975)
    expected = 2 * scipy.stats.t.cdf(z * math.sqrt((n - 1) / n), n - 1) - 1
    rng = np.random.default_rng(1)
    intervals = [
      statistics.bootstrap(rng.normal(3, 2, n), method='bca', num_resamples=999) for _ in range(trials)
    ]
    covered = np.mean([interval.low <= 3 <= interval.high for interval in intervals])
    self.assertLess(abs(covered - expected), 4 * math.sqrt(expected * (1 - expected) / trials))

  def test_skewed_values_get_a_skewed_interval(self):
    # BCa's reason to be: for an exponential sample the upper arm of the mean's interval is the longer one.
    interval = statistics.bootstrap(scipy.stats.expon.ppf((np.arange(30) + 0.5) / 30), method='bca')
    self.assertGreater(interval.high - interval.estimate, 1.2 * (interval.estimate - interval.low))

  @parameterized.parameters(0.8, 0.92)
  def test_infinite_values_give_the_percentiles_of_the_exact_bootstrap_law(self, confidence):
    # The 5**5 equally likely resamples of [1, 2, 3, 4, inf] give the exact law of the median. Its steps are
    # at 0.058, 0.317, 0.683 and 0.942, at least 0.018 from the ends asked for (0.1 and 0.9; 0.04 and 0.96):
    # with 9999 resamples that is 9 standard errors, so the same steps are hit.
    values = [1.0, 2.0, 3.0, 4.0, np.inf]
    law = np.sort([np.median(resample) for resample in itertools.product(values, repeat=5)])
    exact = [law[int(tail * law.size)] for tail in ((1 - confidence) / 2, (1 + confidence) / 2)]
    interval = statistics.bootstrap(values, np.median, confidence=confidence)
    self.assertEqual((interval.estimate, interval.low, interval.high), (3.0, *exact))

  def test_one_infinite_value_makes_the_mean_infinite_but_not_its_low_end(self):
    interval = statistics.bootstrap([*range(19), np.inf])
    self.assertEqual((interval.estimate, interval.high), (np.inf, np.inf))
    self.assertBetween(interval.low, 0, 18)

  @parameterized.parameters(
    ([2.5] * 7, 2.5), ([np.inf] * 3, np.inf), ([0.0, 0.0], 0.0), ([0.1] * 13, np.mean([0.1] * 13))
  )
  def test_equal_values_give_an_interval_without_width(self, values, value):
    interval = statistics.bootstrap(values)
    self.assertEqual(interval, (value, value, value, 0.95, len(values), 0))

  def test_ties_that_leave_the_jackknife_without_spread(self):
    # Leaving one out never moves this median, where BCa divides 0 by 0. It moves under resampling only if
    # at least 4 of 7 draws are the one odd value: P = 0.01, inside neither tail of a 95 % interval.
    interval = statistics.bootstrap([1, 1, 1, 1, 1, 1, 5], np.median)
    self.assertEqual(interval[:3], (1, 1, 1))

  @parameterized.parameters(
    ([4.0], 4.0, 1, 0), ([np.nan, 4.0], 4.0, 1, 1), ([], np.nan, 0, 0), ([np.nan], np.nan, 0, 1)
  )
  def test_one_value_or_none_says_nothing_of_the_spread(self, values, estimate, num, excluded):
    interval = statistics.bootstrap(values)
    np.testing.assert_equal(interval, (estimate, *UNBOUNDED, 0.95, num, excluded))

  def test_nan_is_left_out_and_counted(self):
    values = np.random.default_rng(2).normal(size=12)
    with_nan = statistics.bootstrap(np.insert(values, [0, 5, 12], np.nan))
    self.assertEqual(with_nan, statistics.bootstrap(values)._replace(excluded=3))

  def test_undefined_statistic_is_unbounded(self):
    interval = statistics.bootstrap([1.0, np.inf, -np.inf])
    self.assertTrue(math.isnan(interval.estimate))
    self.assertEqual(interval[1:3], UNBOUNDED)

  def test_statistic_undefined_on_some_resamples_is_unbounded(self):
    # One resample in 9 of three values is constant.
    interval = statistics.bootstrap(
      [1.0, 2.0, 4.0], lambda sample: np.mean(sample) if np.ptp(sample) else np.nan
    )
    self.assertEqual(interval[:3], (7 / 3, *UNBOUNDED))

  def test_statistic_without_axis_equals_one_with(self):
    values = np.random.default_rng(3).normal(size=9)
    without = statistics.bootstrap(values, lambda sample: np.mean(sample), num_resamples=500)
    chex.assert_trees_all_close(
      without, statistics.bootstrap(values, method='bca', num_resamples=500), rtol=1e-12
    )

  def test_seed_decides_the_resampling(self):
    values = np.random.default_rng(4).normal(size=9)
    found = [statistics.bootstrap(values, np.median, seed=seed) for seed in (5, 5, 6)]
    self.assertEqual(found[0], found[1])
    self.assertNotEqual(found[0], found[2])

  @parameterized.parameters(
    ({'values': [[1.0, 2.0]]}, r'one dimension.*\(1, 2\)'),
    ({'values': ['a', 'b']}, 'values must be real numbers'),
    ({'values': np.ma.masked_greater([1.0, 2.0, 9.0], 5)}, 'values must have no masked values'),
    ({'values': [1.0, 2.0], 'method': 'BCa'}, "unknown method 'BCa'. Known: bca, t"),
    ({'values': [1.0, 2.0], 'method': 't', 'statistic': np.median}, "method='t' is of statistic=numpy.mean"),
    ({'values': [1.0, 2.0], 'confidence': 95}, 'confidence'),
    ({'values': [1.0, 2.0], 'num_resamples': 0}, 'num_resamples'),
  )
  def test_refuses(self, arguments, message):
    with self.assertRaisesRegex(InputError, message):
      statistics.bootstrap(**arguments)


class PairedTest(parameterized.TestCase):
  def test_matched_by_seed_id_not_by_place(self):
    a = by_seed([1.0, 2.0, 3.0], [10, 11, 12])
    b = by_seed([0.3, 0.1, 0.2], [12, 10, 11])
    differences = statistics.paired_differences(a, b)
    np.testing.assert_allclose(differences, [0.9, 1.8, 2.7], rtol=1e-15)
    np.testing.assert_array_equal(differences.seed, [10, 11, 12])

  def test_other_dimensions_are_kept(self):
    a = xr.DataArray(
      np.arange(6.0).reshape(2, 3), dims=('seed', 'step'), coords={'seed': [0, 1], 'step': [1, 2, 3]}
    )
    differences = statistics.paired_differences(a, a.isel(seed=[1, 0]).transpose())
    self.assertEqual(differences.dims, ('seed', 'step'))
    np.testing.assert_array_equal(differences, 0)
    with self.assertRaisesRegex(InputError, 'another coordinate than seed'):
      statistics.paired_differences(a, a.assign_coords(step=[1, 2, 4]))

  @parameterized.parameters(
    (by_seed([1.0, 2.0], [0, 1]), by_seed([1.0, 2.0], [0, 7]), r'\[1, 7\]'),
    (by_seed([1.0, 2.0], [0, 1]), np.ones(2), 'both carry seed ids'),
    (by_seed([1.0, 2.0], [0, 0]), by_seed([1.0, 2.0], [0, 0]), 'each seed once'),
    (xr.DataArray([1.0], dims='seed'), by_seed([1.0], [0]), "a must have a dimension 'seed'"),
    (by_seed([1.0], [0]), by_seed([1.0], [0]).expand_dims('step'), 'same dimensions'),
    (np.ones(1), np.ones(3), 'same shape'),
  )
  def test_refuses_what_cannot_be_paired(self, a, b, message):
    with self.assertRaisesRegex(InputError, message):
      statistics.paired_differences(a, b)

  def test_unsigned_counts_do_not_wrap_around_and_flags_can_be_subtracted(self):
    counts = by_seed(np.array([3, 5], np.uint32), [0, 1]), by_seed(np.array([4, 1], np.uint32), [0, 1])
    self.assertEqual(statistics.paired_differences(*counts).values.tolist(), [-1, 4])
    flags = by_seed([True, False, True], [0, 1, 2]), by_seed([True, True, False], [0, 1, 2])
    self.assertEqual(statistics.paired_differences(*flags).values.tolist(), [0, -1, 1])

  def test_pairing_removes_what_the_arms_share(self):
    # Both arms share a seed effect of scale 100; their difference is 1 with noise of scale 0.1.
    rng = np.random.default_rng(6)
    shared, noise = 100 * rng.normal(size=16), 0.1 * rng.normal(size=16)
    interval = statistics.paired_interval(shared + 1 + noise, shared)
    self.assertBetween(interval.low, 0.85, 1)
    self.assertBetween(interval.high, 1, 1.15)

  def test_two_diverged_runs_are_excluded(self):
    interval = statistics.paired_interval([np.inf, 2.0, 3.0], [np.inf, 1.0, 2.0])
    self.assertEqual(interval, (1.0, 1.0, 1.0, 0.95, 2, 1))

  def test_log_ratio_is_a_geometric_mean_and_inverts(self):
    rng = np.random.default_rng(7)
    a, b = rng.lognormal(1, 0.5, 15), rng.lognormal(0, 0.5, 15)
    ratio = statistics.paired_log_ratio(by_seed(a, range(15)), by_seed(b[::-1], range(15)[::-1]))
    self.assertAlmostEqual(ratio.estimate, scipy.stats.gmean(a / b), delta=1e-12)
    self.assertBetween(ratio.estimate, ratio.low, ratio.high)
    expected = scipy.stats.ttest_1samp(np.log(a / b), 0).confidence_interval(0.95)
    np.testing.assert_allclose(ratio[1:3], np.exp(expected), rtol=1e-12)
    inverse = statistics.paired_log_ratio(b, a)
    chex.assert_trees_all_close(inverse[:3], (1 / ratio.estimate, 1 / ratio.high, 1 / ratio.low), rtol=1e-12)

  def test_log_ratio_keeps_the_meaning_of_zero_and_infinity(self):
    self.assertEqual(statistics.paired_log_ratio([0.0, 0.0], [1.0, 2.0])[:3], (0, 0, 0))
    self.assertEqual(statistics.paired_log_ratio([np.inf, np.inf], [1.0, 2.0])[:3], (np.inf,) * 3)
    self.assertEqual(statistics.paired_log_ratio([2.0], [1.0]), (2.0, 0.0, np.inf, 0.95, 1, 0))
    self.assertEqual(statistics.paired_log_ratio([0.0, 3.0, 3.0], [0.0, 1.0, 1.0]).excluded, 1)
    apart = statistics.paired_log_ratio([1e-200, 1e200], [1.0, 1.0])  # 0 ± 5851 in logs
    self.assertEqual(apart[1:3], (0, np.inf))
    with self.assertRaisesRegex(InputError, 'a ratio needs values >= 0, got a minimum of -1.0'):
      statistics.paired_log_ratio([-1.0, 1.0], [1.0, 1.0])


class SlopeTest(parameterized.TestCase):
  def test_power_laws_are_recovered(self):
    x = np.array([1.0, 2.0, 8.0, 64.0])
    powers = np.array([-1.0, -1.5, 0.25])
    slopes, interval = statistics.loglog_slope(x, 3 * x ** powers[:, None])
    # Logs of size up to 6 carry rounding of 6 eps each; the slope divides by a spread of about 3.
    np.testing.assert_allclose(slopes, powers, atol=50 * np.finfo(float).eps)
    self.assertAlmostEqual(interval.estimate, powers.mean(), delta=1e-14)

  def test_is_the_least_squares_line(self):
    rng = np.random.default_rng(8)
    x, y = rng.lognormal(size=6), rng.lognormal(size=(3, 6))
    expected = [scipy.stats.linregress(np.log(x), np.log(row)).slope for row in y]
    np.testing.assert_allclose(statistics.loglog_slope(x, y)[0], expected, rtol=1e-12)

  def test_a_run_that_diverged_is_excluded(self):
    slopes, interval = statistics.loglog_slope([1, 2], [[1, 2], [1, np.inf], [np.nan, 1], [1, 2]])
    np.testing.assert_allclose(slopes, [1, np.nan, np.nan, 1], rtol=1e-15)
    self.assertEqual((interval.num, interval.excluded), (2, 2))

  def test_the_axes_of_a_dataarray_are_told_by_name(self):
    # As many seeds as sizes, so that the shape does not tell them apart.
    y = xr.DataArray([[1.0, 2.0], [1.0, 8.0]], dims=('seed', 'size'))
    np.testing.assert_allclose(statistics.loglog_slope([1, 2], y.T)[0], [1, 3], rtol=1e-14)

  @parameterized.parameters(
    ([1.0, 1.0], [[1.0, 2.0]], 'two different'),
    ([0.0, 1.0], [[1.0, 2.0]], 'two different positive'),
    ([1.0, 2.0], [[0.0, 2.0]], 'y must be positive.*0.0'),
    ([1.0, 2.0], [1.0, 2.0], r'\[seed, k\]'),
    ([1.0, 2.0, 3.0], [[1.0, 2.0]], r'\[seed, k\]'),
  )
  def test_refuses(self, x, y, message):
    with self.assertRaisesRegex(InputError, message):
      statistics.loglog_slope(x, y)


class CrossingTest(parameterized.TestCase):
  VALUES = ((3.0, 2.0, 1.0, 2.0), (1.0, 5.0, 5.0, 5.0), (3.0, 3.0, 3.0, 3.0), (3.0, np.nan, np.nan, np.nan))

  def test_first_time_at_or_below_and_censoring(self):
    crossing = statistics.first_crossing([0, 10, 20, 30], self.VALUES, 2.0)
    np.testing.assert_array_equal(crossing.time, [10, 0, 30, 30])
    np.testing.assert_array_equal(crossing.censored, [False, False, True, True])

  def test_each_run_on_its_own_clock(self):
    clocks = np.arange(1, 5) * np.array([1.0, 2.0, 3.0, 4.0])[:, None]
    crossing = statistics.first_crossing(clocks, self.VALUES, 2.0)
    np.testing.assert_array_equal(crossing.time, [2, 2, 12, 16])

  def test_a_run_that_ended_early_is_censored_at_its_own_end(self):
    clocks = [[0, 10, 20, 20], [0, 10, 10, 10], [0, 10, 20, 30], [0, 5, 5, 5]]
    crossing = statistics.first_crossing(clocks, self.VALUES, 2.0)
    np.testing.assert_array_equal(crossing.time, [10, 0, 30, 5])
    np.testing.assert_array_equal(crossing.censored, [False, False, True, True])

  def test_the_axes_of_a_dataarray_are_told_by_name(self):
    values = xr.DataArray([[3.0, 1.0], [1.0, 3.0]], dims=('seed', 'step'))
    np.testing.assert_array_equal(statistics.first_crossing([10, 20], values.T, 2.0).time, [20, 10])

  def test_single_run(self):
    self.assertEqual(statistics.first_crossing([1, 2], [5.0, 1.0], 2.0), (2, False))

  @parameterized.parameters(
    ([1, 2, 3], [1.0, 2.0], 'times must have shape'),
    ([], [], 'times must have shape'),
    ([2, 1], [1.0, 2.0], 'never decrease'),
    ([np.nan], [1.0], 'finite'),
    ([1, np.inf], [2.0, 1.0], 'finite'),
  )
  def test_refuses(self, times, values, message):
    with self.assertRaisesRegex(InputError, message):
      statistics.first_crossing(times, values, 1.0)


def test_what_is_known_exactly_has_no_width():
  assert statistics.exactly(79, num=3) == (79.0, 79.0, 79.0, 1.0, 3, 0)
