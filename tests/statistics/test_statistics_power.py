"""Power: against published tables, simulation, and the inverse of itself."""

import numpy as np
import pytest
import scipy.stats

from gdlab import statistics
from gdlab.core.errors import InputError


@pytest.mark.parametrize(
  # G*Power 3.1, t test of matched pairs, two-sided.
  ('effect', 'num_seeds', 'significance', 'expected'),
  [(0.5, 34, 0.05, 0.8077775), (0.8, 15, 0.05, 0.8213105)],
)
def test_published_power(effect, num_seeds, significance, expected):
  power = statistics.paired_power(effect, num_seeds, significance=significance)
  assert power == pytest.approx(expected, abs=1e-6)
  assert statistics.paired_power(-effect, num_seeds) == pytest.approx(power, rel=1e-12)


def test_without_an_effect_the_power_is_the_level():
  assert statistics.paired_power(0, 7, significance=0.03) == pytest.approx(0.03, rel=1e-9)


def test_power_is_the_share_of_studies_that_see_the_effect():
  rng, trials = np.random.default_rng(0), 40_000
  for effect, num_seeds in ((0.7, 5), (1.5, 4)):
    p_values = scipy.stats.ttest_1samp(rng.normal(effect, 1, (num_seeds, trials)), 0).pvalue
    expected = statistics.paired_power(effect, num_seeds)
    assert abs((p_values <= 0.05).mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / trials)


@pytest.mark.parametrize('effect', [-3.0, 1.0, 0.31, 0.02])
def test_seeds_needed_are_the_fewest(effect):
  num = statistics.seeds_needed(effect, power=0.9, significance=0.01)
  assert statistics.paired_power(effect, num, significance=0.01) >= 0.9
  assert num == 2 or statistics.paired_power(effect, num - 1, significance=0.01) < 0.9


def test_the_smallest_effect_has_the_power():
  for num_seeds in (2, 5, 100):
    effect = statistics.smallest_effect(num_seeds, power=0.6)
    assert statistics.paired_power(effect, num_seeds) == pytest.approx(0.6, abs=1e-8)


def test_simulated_power_of_an_exact_test():
  # The sign test over 8 seeds rejects at 0.05 for 0, 1, 7 or 8 wins, 7 of 8 having p = 0.0703: so 0 and 8 only.
  # With P(win) = Phi(1) = 0.8413 the power is 0.8413^8 + 0.1587^8 = 0.2510. A p-value at the level rejects.
  rng = np.random.default_rng(1)

  def sign(sample):
    return scipy.stats.binomtest(int((sample > 0).sum()), len(sample)).pvalue

  found = statistics.simulated_power(
    sign, lambda size: rng.normal(1, 1, size), 8, num_trials=1000, confidence=0.9999
  )
  win = scipy.stats.norm.cdf(1)
  assert found.low < win**8 + (1 - win) ** 8 < found.high
  level = statistics.simulated_power(
    sign, lambda size: rng.normal(1, 1, size), 8, num_trials=500, significance=2 / 2**8, confidence=0.9999
  )
  assert level.low < win**8 + (1 - win) ** 8 < level.high


def test_simulated_power_of_two_samples():
  # Against the t test's closed form for two samples of 10 at distance 1: noncentrality sqrt(5), 18 degrees of freedom.
  rng = np.random.default_rng(2)
  draws = (lambda size: rng.normal(1, 1, size), lambda size: rng.normal(0, 1, size))
  found = statistics.simulated_power(scipy.stats.ttest_ind, draws, 10, num_trials=4000, confidence=0.9999)
  border = scipy.stats.t.isf(0.025, 18)
  expected = scipy.stats.nct.sf(border, 18, np.sqrt(5)) + scipy.stats.nct.cdf(-border, 18, np.sqrt(5))
  assert found.low < expected < found.high
  assert (found.num, found.confidence) == (4000, 0.9999)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: statistics.paired_power(0.5, 1), 'num_seeds must be a whole number >= 2'),
    (lambda: statistics.paired_power(np.nan, 5), 'effect'),
    (lambda: statistics.seeds_needed(0), 'effect must differ from 0'),
    (lambda: statistics.seeds_needed(1e-5), '10,000,000 seeds'),
    (lambda: statistics.seeds_needed(1, power=0.05), 'power'),
    (lambda: statistics.smallest_effect(5, significance=0), 'significance'),
    (lambda: statistics.simulated_power(scipy.stats.wilcoxon, np.zeros, 5, num_trials=0), 'num_trials'),
  ],
)
def test_refuses(call, message):
  with pytest.raises(InputError, match=message):
    call()
