"""Corrections for multiple testing: adjusted p-values, and the confidence of simultaneous intervals."""

import numpy as np
import numpy.typing as npt
import scipy.stats

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real
from gdlab.statistics.intervals import floats


@checked
def holm(p_values: npt.ArrayLike) -> np.ndarray:
  r"""Holm's adjusted p-values: rejecting those at most $\alpha$ has a familywise error rate of at most $\alpha$.

  With $p_{(1)} \le \dots \le p_{(m)}$ the adjusted value is $\max_{j \le i} \min(1, (m - j + 1) p_{(j)})$, whatever
  the dependence between the claims.

  Example:
    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])

  Args:
    p_values: float[m] in [0, 1], one per claim; of all claims that were tested, not only of significant ones.

  Returns:
    float[m], in the order given.

  Raises:
    InputError: if a p-value is not in [0, 1] (such as NaN), or there is none.

  Source: Holm 1979, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6.
  """
  values = _checked(p_values)
  order = np.argsort(values, kind='stable')
  scaled = values[order] * np.arange(values.size, 0, -1)
  adjusted = np.empty_like(values)
  adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
  return adjusted


@checked
def benjamini_hochberg(p_values: npt.ArrayLike) -> np.ndarray:
  r"""Benjamini and Hochberg's adjusted p-values: rejecting those at most q has a false discovery rate of at most q.

  $\min_{j \ge i} \min(1, m p_{(j)} / j)$, by `scipy.stats.false_discovery_control`; for claims that are independent
  or positively dependent, such as several arms against one baseline.

  Example:
    >>> benjamini_hochberg([0.01, 0.04, 0.03])
    array([0.03, 0.04, 0.04])

  Args:
    p_values: float[m] in [0, 1], one per claim.

  Returns:
    float[m], in the order given.

  Raises:
    InputError: as `holm`.

  Source: Benjamini and Hochberg 1995, Controlling the false discovery rate, J. R. Statist. Soc. B 57.
  """
  return scipy.stats.false_discovery_control(_checked(p_values))


@checked('confidence', 'num_claims')
def simultaneous(confidence: float, num_claims: int) -> float:
  r"""The confidence that each of m intervals needs for all of them to hold at once, $1 - (1 - c) / m$ (Bonferroni).

  For claims that are judged by intervals, not by p-values: `bootstrap(..., confidence=simultaneous(0.95, 13))`.

  Args:
    confidence: c in (0, 1), that all intervals hold.
    num_claims: m >= 1.

  Raises:
    InputError: if an argument is out of range.
  """
  check_real('confidence', confidence, above=0, below=1)
  return 1 - (1 - confidence) / check_count('num_claims', num_claims)


def _checked(p_values: npt.ArrayLike) -> np.ndarray:
  values = floats('p_values', p_values)
  if values.ndim != 1 or not values.size or not ((values >= 0) & (values <= 1)).all():
    raise InputError(f'p_values must have one dimension and lie in [0, 1], got {values.tolist()}')
  return values
