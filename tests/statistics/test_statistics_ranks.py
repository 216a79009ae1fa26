"""Spearman's correlation against SciPy, by hand, and where it is undefined."""

import math

import numpy as np
import pytest
import scipy.stats

from gdlab import statistics
from gdlab.core.errors import InputError


def test_is_spearmans_with_ties_and_without():
  rng = np.random.default_rng(0)
  for num in (2, 3, 10, 200):
    x, y = rng.normal(size=(2, num))
    expected = scipy.stats.spearmanr(x, y).statistic
    assert statistics.rank_correlation(x, y) == pytest.approx(expected, abs=1e-14)
  for _ in range(50):
    x, y = rng.integers(0, 4, (2, 12))
    expected = scipy.stats.spearmanr(x, y).statistic
    assert statistics.rank_correlation(x, y) == pytest.approx(expected, abs=1e-14)


def test_by_hand():
  # 1 - 6 sum(d^2) / (n (n^2 - 1)) with d = 0, 1, 1, 0: 1 - 12/60.
  assert statistics.rank_correlation([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(0.8, abs=1e-15)
  assert statistics.rank_correlation([1, 2, 3], [-np.inf, 0, np.inf]) == 1
  assert statistics.rank_correlation([0.1, 0.2, 0.3], [3, 2, 1]) == -1


@pytest.mark.parametrize(
  ('x', 'y'),
  [
    ([1, 2, 3], [5, 5, 5]),
    ([0.1] * 7, range(7)),
    ([np.inf, np.inf], [1, 2]),
    ([1, 2, np.nan], [1, 2, 3]),
    ([1], [1]),
    ([], []),
  ],
)
def test_undefined_is_nan_in_either_order(x, y):
  assert math.isnan(statistics.rank_correlation(x, list(y)))
  assert math.isnan(statistics.rank_correlation(list(y), x))


@pytest.mark.parametrize(('x', 'y'), [([1, 2], [1]), ([[1, 2]], [[1, 2]])])
def test_refuses(x, y):
  with pytest.raises(InputError, match='one dimension and the same length'):
    statistics.rank_correlation(x, y)
