"""The rank correlation of two quantities."""

import math

import numpy as np
import numpy.typing as npt
import scipy.stats

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError
from gdlab.statistics.intervals import floats


@checked('x', 'y')
def rank_correlation(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
  r"""Spearman's correlation of n pairs: Pearson's correlation of their ranks, where ties share their mean rank.

  It is undefined, and NaN, if x or y is constant, if there are fewer than two pairs, or if a value is NaN. `bootstrap`
  over seeds then leaves such a seed out and counts it.

  Example:
    >>> rank_correlation([1, 2, 3, 4], [10, 30, 20, 40]), rank_correlation([1, 2, 3], [5, 5, 5])
    (0.8, nan)

  Args:
    x: float[n]; infinite values have the first or last rank.
    y: float[n].

  Returns:
    In [-1, 1], or NaN.

  Raises:
    InputError: if they are not of one dimension and the same length.

  Source: Spearman 1904, The proof and measurement of association between two things, Amer. J. Psychol. 15. As
  `scipy.stats.spearmanr`, without its p-value and warning.
  """
  x, y = floats('x', x), floats('y', y)
  if x.ndim != 1 or x.shape != y.shape:
    raise InputError(f'x and y must be of one dimension and the same length, got {x.shape} and {y.shape}')
  if np.isnan(x).any() or np.isnan(y).any():
    return math.nan
  # Ranks are whole numbers or halves with the mean (n + 1) / 2, so that those of a constant are 0 exactly.
  a, b = (scipy.stats.rankdata(values) - (values.size + 1) / 2 for values in (x, y))
  size = math.sqrt((a @ a) * (b @ b))
  return min(1.0, max(-1.0, float(a @ b) / size)) if size else math.nan
