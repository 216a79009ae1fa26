"""Tests of two arms, paired by seed or not: each with an effect size and its interval, not only a p-value.

| test | pairs | question | effect | standardised |
|---|---|---|---|---|
| `paired_t_test` | yes | is the mean difference 0, for Gaussian differences | mean difference | d = mean / deviation |
| `paired_permutation_test` | yes | the same, for any symmetric differences | mean difference | d = mean / deviation |
| `signed_rank_test` | yes | the same by ranks | Hodges-Lehmann shift | rank-biserial correlation |
| `sign_test` | yes | does one arm win more seeds; infinite values count | share of seeds with a > b | 2 share - 1 |
| `rank_sum_test` | no | are runs of one arm larger than runs of the other | P(a > b) + P(a = b)/2 | 2 P - 1 |
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.stats

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real, shown, unknown_name
from gdlab.statistics.intervals import Interval, floats
from gdlab.statistics.pairing import paired_differences
from gdlab.statistics.resampling import bootstrap

ALTERNATIVES = ('two-sided', 'less', 'greater')
FEW = 10_000  # outcomes that are enumerated where ties leave no table


class Comparison(NamedTuple):
  """The result of a test of two arms.

  Attributes:
    p_value: the probability of a statistic at least this extreme if there were no difference.
    statistic: of the test.
    effect: the size of the difference, with its two-sided interval; see the test.
    standardised: the effect without units; see the test.
    exact: whether the p-value comes from the exact law of the statistic, not from an approximation.
  """

  p_value: float
  statistic: float
  effect: Interval
  standardised: float
  exact: bool


@checked
def paired_t_test(a: Any, b: Any, *, alternative: str = 'two-sided', confidence: float = 0.95) -> Comparison:
  """Student's t test of the differences a - b, exact for Gaussian ones.

  Args:
    a: float[seed], as in `paired_differences`; finite except for NaN, which is excluded.
    b: of the same kind.
    alternative: of the difference: 'two-sided', 'less' or 'greater'.
    confidence: of the effect's interval, in (0, 1).

  Returns:
    The Comparison, with the t statistic, the mean difference and Cohen's d.

  Raises:
    InputError: if fewer than two pairs are left, a difference is infinite, or as `paired_differences`.

  Source: Student 1908, The probable error of a mean, Biometrika 6.
  """
  used, excluded = _differences(a, b, alternative, confidence, finite=True)
  mean, deviation = used.mean(), used.std(ddof=1)
  if np.ptp(used) == 0:  # No spread: t is infinite, or 0/0 for no difference.
    sign = float(np.sign(used[0]))
    statistic = math.copysign(math.inf, sign) if sign else 0.0
    agrees = {'two-sided': sign != 0, 'less': sign < 0, 'greater': sign > 0}[alternative]
    p_value = 0.0 if agrees else 0.5 if not sign and alternative != 'two-sided' else 1.0
    interval = Interval(used[0], used[0], used[0], confidence, used.size, excluded)
    return Comparison(p_value, statistic, interval, statistic, True)
  found = scipy.stats.ttest_1samp(used, 0, alternative=alternative)
  half = scipy.stats.t.ppf((1 + confidence) / 2, used.size - 1) * deviation / math.sqrt(used.size)
  effect = Interval(float(mean), float(mean - half), float(mean + half), confidence, used.size, excluded)
  return Comparison(float(found.pvalue), float(found.statistic), effect, float(mean / deviation), True)


@checked('num_permutations')
def paired_permutation_test(
  a: Any,
  b: Any,
  *,
  alternative: str = 'two-sided',
  confidence: float = 0.95,
  num_permutations: int = 9999,
  seed: int = 0,
) -> Comparison:
  """The permutation test of the mean difference, exact for differences of any symmetric law.

  The arms are exchanged within seeds: in all 2^n ways if these are at most `num_permutations` (by default for n <= 13),
  else in that many random ways.

  Args:
    a: as in `paired_t_test`.
    b: as in `paired_t_test`.
    alternative: as in `paired_t_test`.
    confidence: as in `paired_t_test`.
    num_permutations: largest number of permutations.
    seed: of the random permutations.

  Returns:
    The Comparison, with the mean difference as statistic and, with Student's interval (`bootstrap`), as effect; and
    Cohen's d.

  Raises:
    InputError: as `paired_t_test`.

  Source: Fisher 1935, The design of experiments, section 21.
  """
  check_count('num_permutations', num_permutations)
  used, excluded = _differences(a, b, alternative, confidence, finite=True)
  found = scipy.stats.permutation_test(
    (used,),
    lambda values, axis: values.mean(axis=axis),
    permutation_type='samples',
    vectorized=True,
    n_resamples=num_permutations,
    alternative=alternative,
    rng=np.random.default_rng(seed),
  )
  effect = bootstrap(used, confidence=confidence)._replace(excluded=excluded)
  deviation = used.std(ddof=1) if np.ptp(used) else 0.0
  mean = float(found.statistic)
  standardised = mean / deviation if deviation else math.copysign(math.inf, mean) if mean else 0.0
  return Comparison(float(found.pvalue), mean, effect, float(standardised), 2**used.size <= num_permutations)


@checked
def signed_rank_test(
  a: Any, b: Any, *, alternative: str = 'two-sided', confidence: float = 0.95
) -> Comparison:
  """Wilcoxon's signed-rank test of the differences a - b, by `scipy.stats.wilcoxon`.

  Exact up to 50 differences, with ties up to 13; zeros are left out of the p-value, as by Wilcoxon. The effect is the
  median of the means of all pairs of differences, and its interval the exact one of the same test (for differences
  without ties; conservative with ties). Differences are tied if their floats are equal: .91 - .90 and .81 - .80 are
  not, so pass whole numbers (correct examples) instead of shares where ties matter.

  Args:
    a: float[seed], as in `paired_differences`; a pair whose difference is NaN is excluded, infinite differences count.
    b: of the same kind.
    alternative: as in `paired_t_test`.
    confidence: as in `paired_t_test`.

  Returns:
    The Comparison, with the sum of the ranks of positive differences; its interval is (-inf, inf) if there are too few
    seeds for the confidence (fewer than 6 for 95 %).

  Raises:
    InputError: as `paired_t_test`, except for infinite differences.

  Source: Wilcoxon 1945, Individual comparisons by ranking methods, Biometrics Bull. 1; Hodges and Lehmann 1963,
  Estimates of location based on rank tests, Ann. Math. Statist. 34; Kerby 2014, The simple difference formula.
  """
  used, excluded = _differences(a, b, alternative, confidence, finite=False)
  effect = _shift(used, confidence)._replace(excluded=excluded)
  moved = used[used != 0]
  if not moved.size:
    return Comparison(1.0, 0.0, effect, 0.0, True)
  tied = np.unique(np.abs(moved)).size < moved.size
  exact = moved.size <= 50 if not tied else 2**moved.size <= FEW
  method: Any = 'exact' if exact else 'asymptotic'
  if tied and exact:
    method = scipy.stats.PermutationMethod(n_resamples=np.inf)
  found = scipy.stats.wilcoxon(moved, alternative=alternative, method=method)
  ranks = scipy.stats.rankdata(np.abs(moved))
  positive = float(ranks[moved > 0].sum())
  correlation = 2 * positive / ranks.sum() - 1
  return Comparison(float(found.pvalue), positive, effect, float(correlation), bool(exact))


@checked
def sign_test(a: Any, b: Any, *, alternative: str = 'two-sided', confidence: float = 0.95) -> Comparison:
  """Tests whether a > b in half of the seeds where they differ; exact for any law, by `scipy.stats.binomtest`.

  Example:
    >>> found = sign_test([3.0, 5.0, 4.0, 6.0, 9.0, 2.0], [1.0, 2.0, 3.0, 1.0, 5.0, 1.0])
    >>> found.p_value, found.effect.estimate
    (0.03125, 1.0)

  Args:
    a: as in `signed_rank_test`.
    b: as in `signed_rank_test`.
    alternative: as in `paired_t_test`.
    confidence: as in `paired_t_test`.

  Returns:
    The Comparison, with the number of seeds with a > b as statistic, and as effect their share of the seeds that
    differ, with Clopper and Pearson's interval.

  Raises:
    InputError: as `signed_rank_test`.

  Source: Arbuthnott 1710; Clopper and Pearson 1934, Biometrika 26.
  """
  used, excluded = _differences(a, b, alternative, confidence, finite=False)
  wins, moved = int((used > 0).sum()), int((used != 0).sum())
  if not moved:
    return Comparison(1.0, 0.0, Interval(np.nan, 0.0, 1.0, confidence, 0, excluded), 0.0, True)
  low, high = scipy.stats.binomtest(wins, moved).proportion_ci(confidence)
  p_value = scipy.stats.binomtest(wins, moved, alternative=alternative).pvalue
  effect = Interval(wins / moved, float(low), float(high), confidence, moved, excluded)
  return Comparison(float(p_value), float(wins), effect, 2 * wins / moved - 1, True)


@checked
def rank_sum_test(
  a: npt.ArrayLike, b: npt.ArrayLike, *, alternative: str = 'two-sided', confidence: float = 0.95
) -> Comparison:
  r"""The Wilcoxon-Mann-Whitney test of two arms that do not share their seeds, by `scipy.stats.mannwhitneyu`.

  Exact up to 50 runs per arm, with ties up to 10,000 ways to divide the runs between the arms. The effect is
  $\theta = P(a > b) + P(a = b) / 2$, with Newcombe's interval: it solves $|\hat\theta - \theta| = z \sqrt{V(\theta)}$
  and so has a width even if the arms do not overlap.

  Args:
    a: float[n]; infinite values are valid (a run that diverged or never reached a target), NaN is excluded.
    b: float[m].
    alternative: of a relative to b: 'two-sided', 'less' or 'greater'.
    confidence: as in `paired_t_test`.

  Raises:
    InputError: if an arm has no value, or an argument is out of range.

  Source: Mann and Whitney 1947, Ann. Math. Statist. 18; Newcombe 2006, Confidence intervals for an effect size measure
  based on the Mann-Whitney statistic, part 2, Statist. Med. 25 (method 5).
  """
  _check_options(alternative, confidence)
  samples = [floats(name, values) for name, values in (('a', a), ('b', b))]
  arms = [values[~np.isnan(values)] for values in samples]
  for name, values, used in zip('ab', samples, arms, strict=True):
    if values.ndim != 1 or not used.size:
      raise InputError(
        f'{name} must have one dimension and a value that is not NaN, got {values.size} of shape {values.shape}'
      )
  first, second = arms
  together = np.concatenate(arms)
  tied = np.unique(together).size < together.size
  sizes = first.size, second.size
  exact = max(sizes) <= 50 if not tied else math.comb(sum(sizes), sizes[0]) <= FEW
  method: Any = 'exact' if exact else 'asymptotic'
  if tied and exact:
    method = scipy.stats.PermutationMethod(n_resamples=np.inf)
  if np.unique(together).size == 1:
    p_value, statistic = 1.0, math.prod(sizes) / 2
  else:
    found = scipy.stats.mannwhitneyu(first, second, alternative=alternative, method=method)
    p_value, statistic = float(found.pvalue), float(found.statistic)
  share = statistic / math.prod(sizes)
  low, high = _newcombe(share, *sizes, confidence)
  excluded = sum(values.size for values in samples) - together.size
  effect = Interval(share, low, high, confidence, together.size, excluded)
  return Comparison(p_value, statistic, effect, 2 * share - 1, bool(exact))


def _check_options(alternative: str, confidence: float) -> None:
  check_real('confidence', confidence, above=0, below=1)
  if alternative not in ALTERNATIVES:
    raise unknown_name('alternative', str(alternative), ALTERNATIVES)


def _differences(
  a: Any, b: Any, alternative: str, confidence: float, *, finite: bool
) -> tuple[np.ndarray, int]:
  """The differences that are not NaN, and the number that are NaN."""
  _check_options(alternative, confidence)
  given = np.asarray(paired_differences(a, b), float)
  if given.ndim != 1:
    raise InputError(f'a and b must have one dimension, one value per seed, got shape {given.shape}')
  used = given[~np.isnan(given)]
  if used.size < 2:
    raise InputError(f'a and b must have at least two pairs that are not NaN, got {used.size}')
  if finite and not np.isfinite(used).all():
    raise InputError(
      f'a and b must differ by finite values for a mean, got {shown(used.tolist())}; sign_test and signed_rank_test '
      'need not'
    )
  return used, given.size - used.size


def _shift(used: np.ndarray, confidence: float) -> Interval:
  """The median of the means of pairs, with the interval that inverts the signed-rank test."""
  first, second = np.triu_indices(used.size)
  with np.errstate(invalid='ignore'):
    walsh = (used[first] + used[second]) / 2
  walsh = np.sort(
    np.where(np.isnan(walsh), 0.0, walsh)
  )  # an infinity of either sign: neither above nor below
  # P(W = w) under no difference: each of the ranks 1 ... n is in the sum or not.
  law = np.ones(1)
  for rank in range(1, used.size + 1):
    law = (np.append(law, np.zeros(rank)) + np.append(np.zeros(rank), law)) / 2
  place = int((np.cumsum(law) <= (1 - confidence) / 2).sum())
  low, high = (walsh[place - 1], walsh[-place]) if place else (-np.inf, np.inf)
  return Interval(float(np.median(walsh)), float(low), float(high), confidence, used.size, 0)


def _newcombe(share: float, first: int, second: int, confidence: float) -> tuple[float, float]:
  z, middle = scipy.stats.norm.ppf((1 + confidence) / 2), (first + second) / 2 - 1

  def excess(theta: float) -> float:
    weights = 1 + middle * (1 - theta) / (2 - theta) + middle * theta / (1 + theta)
    return (share - theta) ** 2 - z**2 * theta * (1 - theta) * weights / (first * second)

  # Just inside the estimate, since 0 and 1 solve the equation too where the arms do not overlap.
  low = 0.0 if share == 0 else scipy.optimize.brentq(excess, 0, share * (1 - 1e-12))
  high = 1.0 if share == 1 else scipy.optimize.brentq(excess, 1 - (1 - share) * (1 - 1e-12), 1)
  return float(low), float(high)
