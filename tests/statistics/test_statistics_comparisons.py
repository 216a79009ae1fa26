"""Tests of two arms against enumeration by hand, SciPy and published results; intervals by their coverage."""

import itertools

import numpy as np
import pytest
import scipy.stats

from gdlab import statistics
from gdlab.core.errors import InputError

# Hamilton depression scale of nine patients before and after (Hollander and Wolfe 1973, p. 29): V = 40, p = 0.039.
BEFORE = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
AFTER = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])


def exchanges(differences):
  """The differences under all exchanges of the two arms within seeds."""
  return np.array(list(itertools.product([1, -1], repeat=len(differences)))) * np.abs(differences)


def two_sided(law, observed):
  """Twice the smaller tail; the sums compared are exact to rounding of 1e-12."""
  return min(1, 2 * min(np.mean(law >= observed - 1e-12), np.mean(law <= observed + 1e-12)))


def test_the_paired_t_test_is_scipys_and_its_interval_that_of_the_mean():
  found = statistics.paired_t_test(BEFORE, AFTER)
  expected = scipy.stats.ttest_rel(BEFORE, AFTER)
  np.testing.assert_allclose(found[:2], (expected.pvalue, expected.statistic), rtol=1e-12)
  np.testing.assert_allclose(found.effect[1:3], expected.confidence_interval(0.95), rtol=1e-12)
  np.testing.assert_allclose(found.standardised, expected.statistic / 3, rtol=1e-12)
  less = statistics.paired_t_test(BEFORE, AFTER, alternative='less')
  np.testing.assert_allclose(less.p_value, 1 - expected.pvalue / 2, rtol=1e-12)


@pytest.mark.parametrize(
  ('shift', 'alternative', 'p_value'),
  [(0, 'two-sided', 1), (0, 'less', 0.5), (2, 'two-sided', 0), (2, 'less', 1), (2, 'greater', 0)],
)
def test_differences_without_spread(shift, alternative, p_value):
  found = statistics.paired_t_test([1.0 + shift, 3.0 + shift], [1.0, 3.0], alternative=alternative)
  assert found.p_value == p_value
  assert found.effect == (shift, shift, shift, 0.95, 2, 0)


def test_the_permutation_test_is_the_enumeration_of_all_exchanges():
  differences = BEFORE - AFTER
  found = statistics.paired_permutation_test(BEFORE, AFTER)
  assert found.exact
  assert found.p_value == pytest.approx(
    two_sided(exchanges(differences).mean(axis=1), differences.mean()), abs=1e-12
  )
  assert found.effect == statistics.bootstrap(differences)
  # At random: the share of 2,000 exchanges has a standard error of at most 0.0112 times two tails.
  drawn = statistics.paired_permutation_test(BEFORE[:7], AFTER[:7], num_permutations=100)
  assert not drawn.exact
  truth = two_sided(exchanges(differences[:7]).mean(axis=1), differences[:7].mean())
  assert abs(drawn.p_value - truth) < 4 * 2 * np.sqrt(truth / 2 / 100)


@pytest.mark.parametrize('zeros_and_ties', [False, True])
def test_the_signed_rank_test_is_the_enumeration_of_all_signs(zeros_and_ties):
  differences = np.array([0.0, 1, 1, 2, -2, 3, 4, -1, 0]) if zeros_and_ties else BEFORE - AFTER
  moved = differences[differences != 0]
  ranks = scipy.stats.rankdata(np.abs(moved))
  positive = ranks[moved > 0].sum()
  law = np.array(list(itertools.product([0, 1], repeat=moved.size))) @ ranks
  found = statistics.signed_rank_test(differences, np.zeros_like(differences))
  assert (found.statistic, found.exact) == (positive, True)
  assert found.p_value == pytest.approx(two_sided(law, positive), abs=1e-12)
  assert found.standardised == pytest.approx((positive - (ranks.sum() - positive)) / ranks.sum())
  if not zeros_and_ties:
    assert (found.statistic, round(found.p_value, 5)) == (40, 0.03906)


def test_the_interval_of_the_shift_inverts_the_signed_rank_test():
  # A shift is in the interval exactly if the differences less the shift pass the test at the level.
  differences = np.random.default_rng(0).normal(0.4, 1, 9)
  found = statistics.signed_rank_test(differences, np.zeros(9), confidence=0.9).effect
  pairs = [(x + y) / 2 for x, y in itertools.combinations_with_replacement(differences, 2)]
  assert found.estimate == pytest.approx(np.median(pairs))
  borders = np.sort(pairs)
  accepted = [
    shift
    for shift in (borders[1:] + borders[:-1]) / 2
    if scipy.stats.wilcoxon(differences - shift, method='exact').pvalue > 0.1
  ]
  assert min(accepted) > found.low > max(border for border in borders if border < min(accepted)) - 1e-12
  assert max(accepted) < found.high < min(border for border in borders if border > max(accepted)) + 1e-12


def test_five_seeds_are_too_few_for_ranks_at_95_percent():
  found = statistics.signed_rank_test([1.0, 2.0, 3.0, 4.0, 5.0], np.zeros(5))
  assert found.p_value == 2 / 2**5
  assert found.effect[1:3] == (-np.inf, np.inf)
  assert statistics.signed_rank_test([1.0, 2, 3, 4, 5], np.zeros(5), confidence=0.9).effect.low == 1


def test_the_sign_test_counts_seeds_and_keeps_infinite_ones():
  found = statistics.sign_test([np.inf, 2, 3, 4, 1, np.nan], [1.0, 1, 1, 1, 1, 1])
  # 4 of 4 that differ: p = 2 / 2^4, and the lower end solves low^4 = 0.025.
  assert found.p_value == pytest.approx(1 / 8)
  np.testing.assert_allclose(found.effect[:3], (1, 0.025**0.25, 1), rtol=1e-12)
  assert (found.effect.num, found.effect.excluded, found.standardised) == (4, 1, 1)
  same = statistics.sign_test([1.0, 2.0], [1.0, 2.0])
  assert (same.p_value, same.effect.low, same.effect.high) == (1, 0, 1)


@pytest.mark.parametrize('tied', [False, True])
def test_the_rank_sum_test_is_the_enumeration_of_all_divisions(tied):
  a = np.array([1.0, 2, 2, 5, np.inf]) if tied else np.array([1.1, 2.5, 2.6, 5.2, 9.0])
  b = np.array([0.0, 2, 3, 1]) if tied else np.array([0.3, 2.4, 1.7, 1.0])
  together = np.concatenate([a, b])

  def wins(first, second):
    return np.mean([(x > y) + (x == y) / 2 for x in first for y in second])

  law = []
  for chosen in itertools.combinations(range(9), 5):
    rest = [place for place in range(9) if place not in chosen]
    law.append(wins(together[list(chosen)], together[rest]))
  found = statistics.rank_sum_test(a, b)
  assert found.exact
  assert found.effect.estimate == pytest.approx(wins(a, b))
  assert found.p_value == pytest.approx(two_sided(np.array(law), wins(a, b)), abs=1e-12)


def test_arms_that_do_not_overlap_still_have_an_interval():
  found = statistics.rank_sum_test(np.arange(8) + 100.0, np.arange(8.0))
  assert (found.effect.estimate, found.effect.high, found.standardised) == (1, 1, 1)
  # The low end solves (1 - t)^2 = z^2 t (1 - t) V(t) / 64, where V has the 7 of n* = (8 + 8)/2 - 1.
  low, z = found.effect.low, scipy.stats.norm.ppf(0.975)
  factor = 1 + 7 * (1 - low) / (2 - low) + 7 * low / (1 + low)
  assert (1 - low) ** 2 == pytest.approx(z**2 * low * (1 - low) * factor / 64, rel=1e-9)


def test_coverage_of_the_chance_to_be_above():
  # Two Gaussians at distance s: P(a > b) = Phi(s / sqrt 2). The interval is approximate: over 3,000 trials these two
  # covered 0.953 and 0.955. Four binomial standard errors of 400 trials are 0.044.
  rng, trials = np.random.default_rng(0), 400
  for shift, sizes in ((0.0, (8, 8)), (1.5, (10, 6))):
    truth = scipy.stats.norm.cdf(shift / np.sqrt(2))
    covered = 0
    for _ in range(trials):
      found = statistics.rank_sum_test(rng.normal(shift, 1, sizes[0]), rng.normal(0, 1, sizes[1])).effect
      covered += found.low <= truth <= found.high
    assert abs(covered / trials - 0.95) < 0.044


@pytest.mark.parametrize(
  ('test', 'arguments', 'message'),
  [
    (statistics.paired_t_test, ([1.0, np.inf], [0.0, 1.0]), 'finite values for a mean'),
    (statistics.paired_permutation_test, ([1.0, np.nan], [0.0, 1.0]), 'at least two pairs.*got 1'),
    (statistics.sign_test, ([[1.0]], [[1.0]]), 'one dimension'),
    (statistics.rank_sum_test, ([np.nan], [1.0]), 'a must have one dimension and a value'),
    (statistics.rank_sum_test, ([1.0], [[1.0]]), 'b must have one dimension'),
  ],
)
def test_refuses_values(test, arguments, message):
  with pytest.raises(InputError, match=message):
    test(*arguments)


def test_refuses_options():
  with pytest.raises(InputError, match="unknown alternative 'lesser'; did you mean 'less'"):
    statistics.sign_test([1.0, 2.0], [0.0, 0.0], alternative='lesser')
  with pytest.raises(InputError, match='confidence'):
    statistics.rank_sum_test([1.0], [0.0], confidence=95)
  with pytest.raises(InputError, match='num_permutations'):
    statistics.paired_permutation_test([1.0, 2.0], [0.0, 0.0], num_permutations=0)
