"""Times to a target with censoring: against published results, closed forms, enumeration and simulation."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats

from gdlab import statistics
from gdlab.core.errors import InputError
from gdlab.statistics import Crossing

# Weeks of remission of 21 pairs of children with leukaemia (Freireich et al. 1963, Blood 21), a textbook's standard.
TREATED = Crossing(
  np.array([6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35.0]),
  np.array([1, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1], bool),
)
PLACEBO = Crossing(
  np.array([1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23.0]), np.zeros(21, bool)
)


def all_crossed(times):
  return Crossing(np.asarray(times, float), np.zeros(len(times), bool))


def test_kaplan_and_meier_on_the_standard_example():
  found = statistics.kaplan_meier(TREATED)
  # Kleinbaum and Klein, Survival Analysis, table 2.3.
  table = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448, 35: 0.448}
  shares = dict(zip(found.time, found.share.round(3), strict=True))
  assert {time: shares[time] for time in table} == table
  assert (found.at_risk[0], found.crossed[0], found.censored[0]) == (21, 3, 1)
  assert (found.crossed.sum(), found.censored.sum()) == (9, 12)


def test_the_band_is_greenwoods_on_the_scale_of_log_minus_log():
  found = statistics.kaplan_meier(TREATED, confidence=0.9)
  place = list(found.time).index(10)  # after 6, 7 and 10: n = 21, 17, 15 and d = 3, 1, 1
  share = 18 / 21 * 16 / 17 * 14 / 15
  spread = np.sqrt(3 / (21 * 18) + 1 / (17 * 16) + 1 / (15 * 14)) / np.log(share)
  z = scipy.stats.norm.ppf(0.95)
  ends = sorted(share ** np.exp(sign * z * spread) for sign in (1, -1))
  np.testing.assert_allclose((found.low[place], found.high[place]), ends, rtol=1e-12)


def test_where_the_band_is_undefined():
  nobody = statistics.kaplan_meier(Crossing([5.0, 5.0], np.array([True, True])))
  assert [*zip(nobody.time, nobody.share, nobody.low, nobody.high, strict=True)] == [(5, 1, 0, 1)]
  everybody = statistics.kaplan_meier(all_crossed([1, 2, 3]))
  assert (everybody.share[-1], everybody.low[-1]) == (0, 0)
  assert everybody.high[-1] == everybody.high[-2] < 1
  one = statistics.kaplan_meier(all_crossed([4]))
  assert (one.share[0], one.low[0], one.high[0]) == (0, 0, 1)


def test_the_log_rank_test_on_the_standard_example():
  # Chi-squared 16.79 on one degree of freedom (same book, section 2.4).
  found = statistics.log_rank_test(TREATED, PLACEBO)
  assert round(found.statistic**2, 2) == 16.79
  assert found.statistic < 0, 'the treated last longer'
  assert found.p_value == pytest.approx(scipy.stats.chi2.sf(found.statistic**2, 1))
  assert found.effect.low > 0
  assert found.standardised > 1


def test_the_log_rank_test_by_permutation_is_the_enumeration():
  a, b = Crossing([2.0, 3.0, 3.0, 7.0], np.array([0, 0, 0, 1], bool)), all_crossed([1, 3, 4, 5, 6])
  time, censored = (np.concatenate(pieces) for pieces in zip(a, b, strict=True))

  def observed_less_expected(chosen):
    mine, total = np.isin(np.arange(9), chosen), 0.0
    for end in np.unique(time[~censored]):
      crossed = (time == end) & ~censored
      total += (crossed & mine).sum() - crossed.sum() * (mine & (time >= end)).sum() / (time >= end).sum()
    return total

  law = np.array([observed_less_expected(chosen) for chosen in itertools.combinations(range(9), 4)])
  mine = observed_less_expected(range(4))
  expected = min(1, 2 * min((law <= mine + 1e-12).mean(), (law >= mine - 1e-12).mean()))
  found = statistics.log_rank_test(a, b, num_permutations=126)
  assert found.exact
  assert found.p_value == pytest.approx(expected, abs=1e-12)
  drawn = statistics.log_rank_test(a, b, num_permutations=125)
  assert not drawn.exact
  assert abs(drawn.p_value - expected) < 4 * 2 * np.sqrt(expected / 2 / 125)


def test_the_log_rank_test_keeps_its_level():
  # Six runs an arm, budgets that end at the median: the permutation test has P(p <= 0.1) <= 0.1 exactly.
  rng, trials = np.random.default_rng(0), 120
  rejected = 0
  for _ in range(trials):
    times = rng.exponential(1, 12)
    arms = [Crossing(np.minimum(part, 0.7), part > 0.7) for part in (times[:6], times[6:])]
    if not all(arm.censored.all() for arm in arms):
      rejected += statistics.log_rank_test(*arms, num_permutations=924).p_value <= 0.1
  assert 0.03 < rejected / trials < 0.1 + 4 * np.sqrt(0.09 / trials)


def test_medians_of_the_standard_example():
  # 23 weeks and 8 weeks. For the treated, censored in between, the band holds 1/2 from 13 weeks on, to no end.
  assert statistics.median_time(TREATED)[:3] == (23, 13, np.inf)
  # All 21 crossed: the order statistics 6 and 16, P(Bin(21, 1/2) < 6) = 0.0133 and P(Bin < 7) = 0.0392.
  assert statistics.median_time(PLACEBO)[:3] == (8, 4, 12)


@pytest.mark.parametrize('num', [5, 6, 9, 20])
def test_the_interval_of_the_median_covers_as_the_binomial_law_says(num):
  # Times uniform on (0, 1), budget 0.6: the interval misses if fewer than k of n are on one side of the median 1/2.
  rng, trials = np.random.default_rng(num), 600
  place = max(k for k in range(num) if scipy.stats.binom.cdf(k - 1, num, 0.5) <= 0.025)
  expected = 1 - 2 * scipy.stats.binom.cdf(place - 1, num, 0.5)
  assert expected >= 0.95
  covered = 0
  for _ in range(trials if place else 1):
    times = rng.uniform(size=num)
    found = statistics.median_time(Crossing(np.minimum(times, 0.6), times > 0.6))
    covered += found.low <= 0.5 <= found.high
  if not place:
    assert found[1:3] == (-np.inf, np.inf)
    return
  assert abs(covered / trials - expected) < 4 * np.sqrt(expected * (1 - expected) / trials) + 1e-9


def test_the_median_under_random_censoring_covers():
  # The interval is approximate: over 10,000 trials it covered 0.949. Four standard errors of 400 trials are 0.044.
  rng, trials = np.random.default_rng(3), 400
  covered = 0
  for _ in range(trials):
    times, ends = rng.exponential(1, 30), rng.exponential(2, 30)
    found = statistics.median_time(Crossing(np.minimum(times, ends), times > ends))
    covered += found.low <= np.log(2) <= found.high
  assert abs(covered / trials - 0.949) < 0.044


def test_a_run_lost_before_the_first_crossing_does_not_begin_the_interval():
  # By hand: after k of 21 crossings S = 1 - k/21, and S^exp(-z sqrt(k / (21 (21 - k))) / log S), the band's lower end,
  # is 0.519 for k = 5 and 0.472 for k = 6.
  time = np.concatenate([[0.5], np.arange(1, 22)])
  assert statistics.median_time(Crossing(time, time < 1)).low == 6


def exact_curve(time, censored):
  """(time, S just after it) in fractions, by the definition; runs censored at a time are at risk then."""
  share, curve = Fraction(1), []
  for end in sorted(set(time)):
    at_risk = sum(each >= end for each in time)
    crossed = sum(each == end and not lost for each, lost in zip(time, censored, strict=True))
    share *= 1 - Fraction(crossed, at_risk)
    curve.append((end, share))
  return curve


def exact_median(time, censored):
  return next((end for end, share in exact_curve(time, censored) if share <= Fraction(1, 2)), math.inf)


def test_a_survival_of_one_half_is_not_missed_by_rounding():
  # By hand: 9 of 15 are left after 28; 29, 30 and 32 are lost; at 34 one of 6 crosses, and 9/15 * 5/6 = 1/2.
  time = [6, 8, 11, 14, 16, 28, 29, 30, 32, 34, 37, 38, 45, 48, 49]
  crossing = Crossing(np.array(time, float), np.isin(time, [29, 30, 32, 37, 48]))
  assert statistics.median_time(crossing).estimate == 34
  curve = statistics.kaplan_meier(crossing)
  assert curve.share[list(curve.time).index(34)] == 0.5


def test_shares_and_medians_are_those_of_fractions():
  # Small whole times, so that runs tie and the curve is 1/2 somewhere in about a tenth of the samples; a float is as
  # near to the fraction as can be, hence equal to its nearest one.
  rng, at_half = np.random.default_rng(11), 0
  for _ in range(600):
    num = int(rng.integers(1, 40))
    time, ends = rng.integers(1, 60, (2, num)) if rng.random() < 0.7 else np.arange(2 * num).reshape(2, num)
    ends = ends if rng.random() < 0.7 else np.full(num, 30)
    crossing = Crossing(np.minimum(time, ends).astype(float), time > ends)
    curve = exact_curve(*(column.tolist() for column in crossing))
    found = statistics.kaplan_meier(crossing)
    assert found.share.tolist() == [float(share) for _, share in curve]
    assert statistics.median_time(crossing).estimate == exact_median(
      *(column.tolist() for column in crossing)
    )
    at_half += any(share == Fraction(1, 2) for _, share in curve)
  assert at_half >= 30, 'the property is tested where rounding can miss it'


@pytest.mark.parametrize('num', [30, 31, 44, 52])
def test_the_order_statistics_of_the_median_hold_at_their_own_level(num):
  # At the confidence 1 - 2 P(Bin(n, 1/2) < k), which a float holds exactly for n <= 52, the ends are those of rank k.
  for place in range(1, num // 2 + 1):
    tail = Fraction(sum(math.comb(num, below) for below in range(place)), 2**num)
    confidence = float(1 - 2 * tail)
    if 0 < confidence < 1 and Fraction(confidence) == 1 - 2 * tail:
      found = statistics.median_time(all_crossed(np.arange(1, num + 1)), confidence=confidence)
      assert found[1:3] == (place, num + 1 - place)


def test_nobody_got_there():
  found = statistics.median_time(Crossing(np.full(8, 9.0), np.ones(8, bool)))
  assert found[:3] == (np.inf, 9.0, np.inf)


def test_a_median_beyond_the_budget_is_covered():
  # Ten runs of median 10 log 2 = 6.9, followed to 2: 18 % cross by then, nine of ten never.
  rng = np.random.default_rng(5)
  for _ in range(50):
    times = rng.exponential(10, 10)
    found = statistics.median_time(Crossing(np.minimum(times, 2.0), times > 2.0))
    assert found.low <= 2.0
    assert found.high == np.inf


def test_arms_that_all_cross_at_one_time_are_alike():
  found = statistics.log_rank_test(all_crossed([5.0] * 3), all_crossed([5.0] * 3))
  assert (found.p_value, found.statistic) == (1.0, 0.0)


def test_the_restricted_mean_without_censoring_is_the_mean_with_its_t_interval():
  times = np.random.default_rng(4).exponential(5, 12)
  times[3] = times[7]  # a tie
  for until in (3.0, 100.0):
    found = statistics.restricted_mean(all_crossed(times), until)
    seen = np.minimum(times, until)
    interval = scipy.stats.ttest_1samp(seen, 0).confidence_interval(0.95)
    np.testing.assert_allclose(found[:3], (seen.mean(), *interval), rtol=1e-12)


def test_the_restricted_mean_with_censoring_is_the_area_and_covers():
  found = statistics.restricted_mean(TREATED, 23)
  curve = statistics.kaplan_meier(TREATED)
  grid = (np.arange(23_000) + 0.5) / 1000
  steps = np.concatenate([[1.0], curve.share])[np.searchsorted(curve.time, grid, side='right')]
  assert found.estimate == pytest.approx(steps.mean() * 23, rel=1e-9)
  # Exponential times, censored by others: the mean of min(t, 1) is 1 - 1/e.
  rng, trials = np.random.default_rng(5), 500
  covered = 0
  for _ in range(trials):
    times, ends = rng.exponential(1, 25), 1 + rng.exponential(1, 25) - rng.uniform(0, 1, 25)
    ends[0] = 9.0
    times[0] = min(times[0], 9.0)
    one = statistics.restricted_mean(Crossing(np.minimum(times, ends), times > ends), 1.0)
    covered += one.low <= 1 - np.exp(-1) <= one.high
  assert abs(covered / trials - 0.95) < 4 * np.sqrt(0.95 * 0.05 / trials)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: statistics.kaplan_meier(Crossing([], np.array([], bool))), 'at least one run'),
    (lambda: statistics.kaplan_meier(Crossing([1.0], np.array([0]))), 'dtype int'),
    (lambda: statistics.kaplan_meier(Crossing([1.0, np.inf], np.zeros(2, bool))), 'finite times >= 0'),
    (lambda: statistics.kaplan_meier(Crossing([-1.0], np.zeros(1, bool))), 'finite times >= 0'),
    (lambda: statistics.median_time(PLACEBO, confidence=1), 'confidence'),
    (lambda: statistics.restricted_mean(TREATED, 36), 'until must be at most 35'),
    (lambda: statistics.restricted_mean(TREATED, 0), 'until'),
    (
      lambda: statistics.log_rank_test(*[Crossing([1.0], np.ones(1, bool))] * 2),
      'must have a run that reached the target',
    ),
  ],
)
def test_refuses(call, message):
  with pytest.raises(InputError, match=message):
    call()
