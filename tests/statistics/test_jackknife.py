"""Jackknife intervals: by hand, and how often they cover."""

import numpy as np
import pytest
import scipy.stats

import gdlab
from gdlab import statistics


def test_of_a_mean_it_is_students_interval():
  values = np.asarray([1.0, 4.0, 2.0, 8.0, 5.0])
  found = statistics.jackknife(lambda runs: values[runs].mean(), 5)
  expected = statistics.bootstrap(values)
  np.testing.assert_allclose(found[:3], expected[:3], rtol=1e-12)
  assert (found.num, found.confidence) == (5, 0.95)


def test_by_hand_on_the_scale_of_logarithms():
  a, b = np.asarray([2.0, 4.0, 6.0]), np.asarray([1.0, 2.0, 1.0])
  found = statistics.jackknife(lambda runs: a[runs].sum() / b[runs].sum(), 3, scale='log', confidence=0.9)
  others = np.log([10 / 3, 8 / 2, 6 / 3])
  error = np.sqrt(2 / 3 * np.sum((others - others.mean()) ** 2))
  half = scipy.stats.t.ppf(0.95, 2) * error
  np.testing.assert_allclose(found[:3], [3, 3 * np.exp(-half), 3 * np.exp(half)], rtol=1e-12)


def ratio(rng, num):
  a, b = 3 + rng.standard_normal(num), 2 + 0.5 * rng.standard_normal(num)
  return lambda runs: a[runs].mean() / b[runs].mean()


def slope(rng, num):
  x = np.log([1.0, 2.0, 4.0, 8.0])
  y = -1.0 * x + 0.3 * rng.standard_normal((num, 4)) + 0.5 * rng.standard_normal((num, 1))
  return lambda runs: np.polyfit(x, y[runs].mean(axis=0), 1)[0]


def correlation(rng, num):
  """Of five values of each run."""
  a = rng.standard_normal((num, 5))
  b = 0.6 * a + 0.8 * rng.standard_normal((num, 5))
  return lambda runs: np.corrcoef(a[runs].ravel(), b[runs].ravel())[0, 1]


@pytest.mark.parametrize(
  ('draw', 'truth', 'scale'), [(ratio, 1.5, 'log'), (slope, -1, 'plain'), (correlation, 0.6, 'fisher')]
)
@pytest.mark.parametrize('num', [8, 16, 32])
def test_it_covers_at_its_level(draw, truth, scale, num):
  rng, studies = np.random.default_rng(num), 1000
  hits = 0
  for _ in range(studies):
    found = statistics.jackknife(draw(rng, num), num, scale=scale)
    hits += found.low <= truth <= found.high
  # Between 94 and 96 %, as the docstring promises, and what chance makes of a thousand.
  low, high = scipy.stats.binom(studies, 0.94).ppf(1e-4), scipy.stats.binom(studies, 0.96).ppf(1 - 1e-4)
  assert low <= hits <= high, hits / studies


def test_an_end_beyond_all_floats_is_infinite():
  found = statistics.jackknife(lambda runs: np.exp(300 * runs.mean()), 3, scale='log')
  half = scipy.stats.t.ppf(0.975, 2) * np.sqrt(2 / 3 * 2) * 150  # 745; the largest float is exp(709.8)
  np.testing.assert_allclose(found[:3], [np.exp(300), np.exp(300 - half), np.inf], rtol=1e-12)


def test_what_is_not_finite_has_no_bounds():
  values = np.asarray([1.0, np.inf, 2.0, 3.0])
  found = statistics.jackknife(lambda runs: values[runs].mean(), 4)
  assert (found.low, found.high) == (-np.inf, np.inf)
  assert statistics.jackknife(lambda runs: 1.0, 2)[1:3] == (-np.inf, np.inf)
  found = statistics.jackknife(lambda runs: 1.0, 4, scale='fisher')
  assert (found.low, found.high) == (-np.inf, np.inf)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: statistics.jackknife(len, 0), 'num must be a whole number >= 1'),
    (lambda: statistics.jackknife(len, 5, scale='logit'), "unknown scale 'logit'"),
    (lambda: statistics.jackknife(len, 5, confidence=1.0), 'confidence'),
  ],
)
def test_refuses(call, message):
  with pytest.raises(gdlab.InputError, match=message):
    call()
