r"""How far the linear scaling rule holds: a batch and a rate kappa times as large, on a noisy quadratic.

Per example seen, plain descent with $(\kappa B, \kappa\alpha)$ has the stationary variance
$\frac{\alpha\sigma^2}{B h (2 - \kappa\alpha h)}$ and the decay $-\frac1\kappa \ln|1 - \kappa\alpha h|$. Both keep
their value for $\kappa\alpha h \ll 1$ and are given exactly here; at $\kappa\alpha h = 2$ descent is unstable.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.optimize

from gdlab.errors import InputError
from gdlab.theory.descent import largest_stable_rate
from gdlab.theory.inputs import positive_number, spectrum
from gdlab.theory.linear import Floats


class ScalingChange(NamedTuple):
  """The relative change that linear scaling by kappa makes, for every direction; inf in the variance if unstable."""

  variance: Floats  # float[d], of the stationary variance
  decay: Floats  # float[d], of the decay of the mean per example


def linear_scaling_change(kappa: float, eigenvalues: Any, *, learning_rate: float) -> ScalingChange:
  r"""What linear scaling by kappa changes in the stationary variance and in the decay per example.

  $$\frac{2 - \alpha h}{2 - \kappa\alpha h} - 1, \qquad
    \frac{\ln|1 - \kappa\alpha h|}{\kappa\ln(1 - \alpha h)} - 1.$$

  Args:
    kappa: > 0.
    eigenvalues: h, float[d] > 0.
    learning_rate: alpha > 0 of the smaller batch, below 1/L: it falls without swinging.

  Raises:
    InputError: an argument out of range.
  """
  factor = positive_number('kappa', kappa)
  slow = _scaled(eigenvalues, learning_rate)
  fast = factor * slow
  with np.errstate(divide='ignore'):
    decay = np.log(np.abs(1 - fast)) / (factor * np.log1p(-slow)) - 1
    variance = np.where(fast < 2, (2 - slow) / np.maximum(2 - fast, 0) - 1, np.inf)
  return ScalingChange(variance, decay)


def largest_linear_scaling(eigenvalues: Any, *, learning_rate: float, tolerance: float) -> float:
  r"""The largest kappa to which variance and decay stay within a relative tolerance in every direction.

  Both change most along the largest eigenvalue L. The variance allows
  $\kappa \le \frac{2 - (2 - \alpha L)/(1 + \epsilon)}{\alpha L}$; the decay, with $\kappa\alpha L < 1$, up to the
  root of $\ln(1 - \kappa\alpha L) = (1 + \epsilon)\kappa\ln(1 - \alpha L)$. It is the decay that binds: to first order
  both change by $(\kappa - 1)\alpha L/2$, to second order the decay by more.

  Args:
    eigenvalues: h, float[d] > 0.
    learning_rate: alpha > 0 of the smaller batch, below 1/L.
    tolerance: epsilon > 0.

  Returns:
    kappa > 1; the limit of stability is `largest_stable_rate(L) / learning_rate`.

  Raises:
    InputError: an argument out of range.
  """
  slow = float(_scaled(eigenvalues, learning_rate).max())
  allowed = 1 + positive_number('tolerance', tolerance)
  by_variance = (2 - (2 - slow) / allowed) / slow

  def excess(kappa: float) -> float:
    return -np.log1p(-kappa * slow) + allowed * kappa * np.log1p(-slow)

  # Within the tolerance at kappa = 1; without bound towards 1/(alpha L), though the logarithm grows too slowly
  # for a large tolerance to be met by a float below.
  border = (1 - 1e-15) / slow
  by_decay = (
    border if excess(border) <= 0 else scipy.optimize.brentq(excess, 1.0, border, xtol=1e-12, rtol=1e-12)
  )
  return float(min(by_variance, by_decay))


def largest_linear_batch(scale: float, tolerance: float) -> float:
  r"""The batch size up to which the best rate is proportional to it, $\frac{\epsilon}{1 - \epsilon} B_\text{noise}$.

  The best rate $\epsilon_\text{max} / (1 + B_\text{noise}/B)$ falls short of the line
  $\epsilon_\text{max} B/B_\text{noise}$ by the relative amount $B/(B + B_\text{noise})$.

  Args:
    scale: B_noise > 0.
    tolerance: epsilon in (0, 1).

  Raises:
    InputError: an argument out of range.

  Source: McCandlish et al. 2018, arXiv 1812.06162, section 2.2.
  """
  if positive_number('tolerance', tolerance) >= 1:
    raise InputError(f'tolerance must lie in (0, 1), got {tolerance}')
  return positive_number('scale', scale) * tolerance / (1 - tolerance)


def _scaled(eigenvalues: Any, learning_rate: float) -> Floats:
  """The scaled eigenvalues, alpha h."""
  h = spectrum('eigenvalues', eigenvalues)
  border = largest_stable_rate(float(h.max())) / 2
  if positive_number('learning_rate', learning_rate) >= border:
    raise InputError(f'learning_rate must lie in (0, {border}), got {learning_rate}')
  return learning_rate * h
