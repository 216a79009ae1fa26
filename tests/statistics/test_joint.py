"""Intervals of several effects at once, against Student's and Sidak's, and what each of several looks may spend."""

import itertools

import numpy as np
import pytest
import scipy.stats

from gdlab import InputError, statistics
from gdlab.statistics import joint_intervals, spent


def half_width(values, confidence=0.95):
  found = joint_intervals(values, confidence=confidence)[0]
  return (found.high - found.low) / 2 / values[:, 0].std(ddof=1) * len(values) ** 0.5


def test_one_effect_has_students_interval():
  values = np.random.default_rng(0).normal(size=(12, 1))
  [found] = joint_intervals(values, confidence=0.9)
  theirs = statistics.bootstrap(values[:, 0], confidence=0.9)
  np.testing.assert_allclose(found[:3], theirs[:3], rtol=1e-12)
  assert found.num == 12


def test_effects_that_are_one_another_count_once():
  values = np.random.default_rng(0).normal(size=(12, 1)) * [1.0, -2.0, 5.0]
  # Of 20,000 draws the quantile's standard error is 0.15 % in level, 1.3 % in t at 11 degrees of freedom.
  np.testing.assert_allclose(half_width(values), scipy.stats.t.ppf(0.975, 11), rtol=0.04)


def test_independent_effects_have_sidaks_level():
  values = np.linalg.qr(np.random.default_rng(0).normal(size=(400, 6)))[0]
  values = np.linalg.qr(values - values.mean(axis=0))[0][:, :5]  # centred, and without correlations
  sidak = scipy.stats.t.ppf((1 + 0.95 ** (1 / 5)) / 2, 399)
  np.testing.assert_allclose(half_width(values), sidak, rtol=0.02)


@pytest.mark.parametrize('correlation', [0.0, 0.5, 0.9])
def test_all_intervals_hold_at_once(correlation, monkeypatch):
  monkeypatch.setattr('gdlab.statistics.joint.NUM_DRAWS', 2000)
  rng, count, misses = np.random.default_rng(1), 500, 0
  shared = np.sqrt(correlation)
  for _ in range(count):
    values = shared * rng.normal(size=(16, 1)) + np.sqrt(1 - correlation) * rng.normal(size=(16, 6))
    misses += any(found.low > 0 or found.high < 0 for found in joint_intervals(values))
  # 5 % are to be expected; four standard errors of the count above.
  assert misses <= 25 + 4 * np.sqrt(count * 0.05 * 0.95)


def test_an_effect_without_spread_is_exact_and_costs_nothing():
  values = np.random.default_rng(0).normal(size=(8, 1))
  alone = joint_intervals(values)[0]
  with_exact = joint_intervals(np.hstack([values, np.full((8, 1), 0.1)]))
  assert with_exact[0] == alone
  assert with_exact[1][:3] == pytest.approx((0.1, 0.1, 0.1), abs=1e-16)


@pytest.mark.parametrize(
  ('values', 'confidence'),
  [([[1.0]], 0.95), ([1.0, 2.0], 0.95), ([[1.0], [np.nan]], 0.95), ([[1.0], [2.0]], 1.0)],
)
def test_refuses(values, confidence):
  with pytest.raises(InputError):
    joint_intervals(values, confidence=confidence)


def test_looks_spend_all_of_the_error_and_no_more():
  looks = [0, 16, 32, 48, 64]
  parts = [spent(0.05, now, before, 64) for before, now in itertools.pairwise(looks)]
  assert sum(parts) == pytest.approx(0.05, rel=1e-12)
  assert parts == pytest.approx([0.0125] * 4)
  with pytest.raises(InputError, match='seeds'):
    spent(0.05, 65, 16, 64)
