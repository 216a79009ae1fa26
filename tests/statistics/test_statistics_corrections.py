"""Corrections for many claims: against their definitions, published adjusted values and error rates."""

import itertools

import numpy as np
import pytest
import scipy.stats

from gdlab import statistics
from gdlab.core.errors import InputError

# Wright 1992, Biometrics 48, example: fifteen p-values of Benjamini and Hochberg 1995.
P_VALUES = [
  0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0,
]  # fmt: skip


def test_benjamini_and_hochbergs_own_example():
  # Section 3.2 of the paper: four rejections at q = 0.05, where Bonferroni (and Holm) make three.
  assert (statistics.benjamini_hochberg(P_VALUES) <= 0.05).sum() == 4
  assert (statistics.holm(P_VALUES) <= 0.05).sum() == 3


def test_holm_is_the_closure_of_bonferroni():
  # A claim is rejected by the closed procedure if every set of claims that holds it is, by Bonferroni: its adjusted
  # p-value is the largest of min(p) |set| over those sets.
  values = np.random.default_rng(0).uniform(size=6) ** 3
  expected = [
    max(
      min(1, len(chosen) * values[list(chosen)].min())
      for size in range(1, 7)
      for chosen in itertools.combinations(range(6), size)
      if place in chosen
    )
    for place in range(6)
  ]
  np.testing.assert_allclose(statistics.holm(values), expected, rtol=1e-15)


def test_the_error_rates_are_kept():
  # Ten claims, five of them true effects of 3 standard errors. Holm: the chance of any false one is at most 0.1;
  # Benjamini and Hochberg: the expected share is 0.1 * 5/10 exactly for independent tests (their theorem 1).
  rng, trials = np.random.default_rng(1), 4000
  z = rng.normal(size=(trials, 10)) + 3 * (np.arange(10) < 5)
  p_values = scipy.stats.norm.sf(z)
  any_false = np.mean([(statistics.holm(row) <= 0.1)[5:].any() for row in p_values])
  shares = []
  for row in p_values:
    rejected = statistics.benjamini_hochberg(row) <= 0.1
    shares.append(rejected[5:].sum() / max(1, rejected.sum()))
  # Holm is at least Bonferroni over the five: 1 - 0.99^5 = 0.049.
  assert 0.049 - 4 * np.sqrt(0.05 / trials) < any_false < 0.1 + 4 * np.sqrt(0.09 / trials)
  assert abs(np.mean(shares) - 0.05) < 4 * np.std(shares) / np.sqrt(trials)


def test_simultaneous_intervals_hold_together():
  assert statistics.simultaneous(0.95, 10) == pytest.approx(0.995)
  assert statistics.simultaneous(0.9, 1) == pytest.approx(0.9)


@pytest.mark.parametrize('function', [statistics.holm, statistics.benjamini_hochberg])
@pytest.mark.parametrize('values', [[0.5, np.nan], [-0.1], [1.1], [], [[0.5]]])
def test_refuses(function, values):
  with pytest.raises(InputError, match=r'p_values must have one dimension and lie in \[0, 1\]'):
    function(values)
