"""The confidence interval of a ratio of two estimates whose denominator may be close to zero."""

import jax.numpy as jnp
import scipy.stats

from gdlab.core.errors import check_real
from gdlab.core.types import Array


def student_quantile(confidence: float, degrees: int) -> float:
  """The two-sided quantile of Student's distribution; a host function of two static numbers.

  Args:
    confidence: in (0, 1), static under jit.
    degrees: of freedom, >= 1.

  Raises:
    InputError: `confidence` out of range.
  """
  check_real('confidence', confidence, above=0, below=1)
  return float(scipy.stats.t.ppf((1 + confidence) / 2, degrees))


def ratio_interval(
  numerator: Array, denominator: Array, covariance: Array, quantile: float
) -> tuple[Array, Array]:
  r"""Fieller's interval of a ratio r >= 0 of two means: all r for which $S - rD$ does not differ from 0 significantly.

  $\{ r \ge 0 : (S - rD)^2 \le q^2 (v_{SS} - 2 r v_{SD} + r^2 v_{DD}) \}$. Unlike the delta method's interval it
  keeps its level when D is close to 0: it is then unbounded above.

  Args:
    numerator: float[], S, of a quantity >= 0; an estimate below 0 is taken as 0, which can only widen the interval.
    denominator: float[], D, of a quantity >= 0; an estimate below 0 is taken as 0.
    covariance: float[2, 2], of the estimates (S, D).
    quantile: q > 0.

  Returns:
    `(low, high)`, 0 <= low <= high, which contain S / D; high is infinite where D does not differ from 0 significantly.

  Source: Fieller 1954, Some problems in interval estimation, Journal of the Royal Statistical Society B 16.
  """
  numerator, denominator = jnp.maximum(numerator, 0), jnp.maximum(denominator, 0)
  square = quantile**2 * covariance
  a = denominator**2 - square[1, 1]
  b = numerator * denominator - square[0, 1]
  c = numerator**2 - square[0, 0]
  root = jnp.sqrt(jnp.maximum(b**2 - a * c, 0))
  # c / (b + root) is the lower root without cancellation, and the only positive one where a < 0 < c.
  low = jnp.where((c > 0) & (b + root > 0), c / jnp.where(b + root > 0, b + root, 1), 0)
  high = jnp.where(a > 0, (b + root) / jnp.where(a > 0, a, 1), jnp.inf)
  return low, high
