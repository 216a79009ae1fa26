"""Shares with exact intervals, and the bootstrap that draws runs whole."""

import numpy as np
import pytest
import scipy.stats

import gdlab
from gdlab import statistics


@pytest.mark.parametrize(('count', 'num'), [(0, 8), (3, 8), (8, 8), (19, 20)])
def test_a_share_has_the_interval_of_clopper_and_pearson(count, num):
  found = statistics.share(np.arange(num) < count)
  assert found.estimate == count / num
  # By the quantiles of the beta distribution that the interval is defined by.
  low = scipy.stats.beta.ppf(0.025, count, num - count + 1) if count else 0.0
  high = scipy.stats.beta.ppf(0.975, count + 1, num - count) if count < num else 1.0
  np.testing.assert_allclose([found.low, found.high], [low, high], rtol=1e-9, atol=1e-12)
  assert (found.num, found.excluded, found.confidence) == (num, 0, 0.95)


def test_no_runs_say_nothing():
  found = statistics.share(np.zeros(0, bool))
  assert np.isnan(found.estimate)
  assert (found.low, found.high, found.num) == (0, 1, 0)


@pytest.mark.parametrize('flags', [[0.5, 1.0], [1, 0], np.zeros((2, 2), bool)])
def test_shares_are_of_flags(flags):
  with pytest.raises(gdlab.InputError, match='flags must be bool with one dimension'):
    statistics.share(flags)


def test_the_difference_covers_what_is_paired_and_what_is_not():
  first, second = np.arange(20) < 15, np.arange(20) < 5
  found = statistics.share_difference(first, second)
  a, b = (statistics.share(flags, confidence=0.975) for flags in (first, second))
  assert (found.estimate, found.low, found.high) == (0.5, a.low - b.high, a.high - b.low)
  rng = np.random.default_rng(0)
  for shared in (0.0, 1.0):  # independent runs, and runs that agree as far as they can
    hits = 0
    for _ in range(400):
      common, own = rng.random(20), rng.random(20)
      drawn = common < 0.7, np.where(shared, common, own) < 0.3
      interval = statistics.share_difference(*drawn)
      hits += interval.low <= 0.4 <= interval.high
    assert hits >= scipy.stats.binom(400, 0.95).ppf(0.001)
