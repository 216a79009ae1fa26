r"""How far the scaling rules hold: a batch kappa times as large, on a noisy quadratic.

The linear rule multiplies the rate by kappa, the square-root rule for Adam by $\sqrt\kappa$.

Linear: plain descent with $(\kappa B, \kappa\alpha)$ has the stationary variance
$\frac{\alpha\sigma^2}{B h (2 - \kappa\alpha h)}$ and, per B examples, the decay
$-\frac1\kappa \ln|1 - \kappa\alpha h|$. Both are unchanged for $\kappa\alpha h \ll 1$ and are given exactly here; from
$\kappa\alpha h = 2$ on descent is unstable.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.optimize

from gdlab.core.argument_checks import array
from gdlab.core.arguments import checked
from gdlab.core.errors import InputError
from gdlab.theory.descent import largest_stable_rate
from gdlab.theory.inputs import momentum_factor, nonnegative, positive_number, spectrum
from gdlab.theory.linear import Floats, momentum_system, powers, stationary


class ScalingChange(NamedTuple):
  """The relative change under linear scaling by kappa, for every direction; the variance is inf if unstable."""

  variance: Floats  # float[d], of the stationary variance
  decay: Floats  # float[d], of the decay of the mean per example


@checked('kappa', 'eigenvalues', 'learning_rate')
def linear_scaling_change(
  kappa: float, eigenvalues: Any, *, learning_rate: float, momentum: float = 0.0, nesterov: bool = False
) -> ScalingChange:
  r"""The relative change of the stationary variance and of the decay per example under linear scaling by kappa.

  $$\frac{2 - \alpha h}{2 - \kappa\alpha h} - 1, \qquad
    \frac{\ln|1 - \kappa\alpha h|}{\kappa\ln(1 - \alpha h)} - 1$$

  for plain descent. With momentum, which is not scaled, they come from stationary moments and the `spectral_radius`.
  Once the scaled rate makes a direction oscillate, for heavy ball at $\kappa\alpha h = (1 - \sqrt\beta)^2$, its factor
  per step is $\sqrt\beta$ whatever the rate, and a larger kappa gains nothing there.

  Args:
    kappa: > 0.
    eigenvalues: h, float[d] > 0.
    learning_rate: alpha > 0 of the smaller batch: for plain descent below 1/L, where it does not oscillate; with
      momentum below `largest_stable_rate`.
    momentum: beta in [0, 1).
    nesterov: Nesterov's momentum instead of heavy ball.

  Returns:
    ScalingChange; its `decay` is below -1 where the scaled rate is not stable.

  Raises:
    InputError: an argument out of range.
  """
  factor, beta = positive_number('kappa', kappa), momentum_factor(momentum)
  if beta == 0:
    slow = _scaled(eigenvalues, learning_rate)
    fast = factor * slow
    with np.errstate(divide='ignore'):
      decay = np.log(np.abs(1 - fast)) / (factor * np.log1p(-slow)) - 1
      variance = np.where(fast < 2, (2 - slow) / np.maximum(2 - fast, 0) - 1, np.inf)
    return ScalingChange(variance, decay)

  h = spectrum('eigenvalues', eigenvalues)
  border = largest_stable_rate(float(h.max()), momentum=beta, nesterov=nesterov)
  if positive_number('learning_rate', learning_rate) >= border:
    raise InputError(f'learning_rate must lie in (0, {border}), got {learning_rate}')
  before = momentum_system(h, learning_rate, momentum=beta, nesterov=nesterov)
  after = momentum_system(h, factor * learning_rate, momentum=beta, nesterov=nesterov)
  decay = powers(after).log_modulus / (factor * powers(before).log_modulus) - 1
  ratio = stationary(after)[:, 0, 0] / (factor * stationary(before)[:, 0, 0])
  stable = factor * learning_rate * h < largest_stable_rate(1.0, momentum=beta, nesterov=nesterov)
  return ScalingChange(np.where(stable, ratio - 1, np.inf), decay)


@checked('kappa', 'signal')
def square_root_scaling_change(kappa: float, signal: Any) -> Floats:
  r"""The relative change of Adam's step per example under the square-root rule: 0 where noise dominates.

  $$\sqrt{\frac{1 + \rho}{1 + \kappa\rho}} - 1, \qquad \rho = \frac{B g^2}{\sigma^2}.$$

  Adam divides by the root of $E[\bar g^2] = g^2 + \sigma^2/B$ (for a long memory and a small epsilon). With a batch of
  $\kappa B$ and the rate $\sqrt\kappa\,\eta$ the mean step is
  $\sqrt\kappa\,\eta g/\sqrt{g^2 + \sigma^2/(\kappa B)}$, where the rule aims at $\kappa$ times the step for B. So the
  rule holds for $\kappa\rho \ll 1$; where the gradient dominates, the step is only $\sqrt\kappa$ times as large, for
  $\kappa$ times the examples.

  Args:
    kappa: > 0.
    signal: rho >= 0, float[...], of the smaller batch: the squared mean of its gradient over the variance, which is B
      over the noise scale of one parameter.

  Returns:
    float[...].

  Raises:
    InputError: an argument out of range.

  Source: Malladi et al. 2022, arXiv 2205.10287, section 4 (noise dominates the gradient); the ratio is exact.
  """
  rho = nonnegative('signal', signal)
  return np.sqrt((1 + rho) / (1 + positive_number('kappa', kappa) * rho)) - 1


@checked('b1', 'b2', 'tolerance', signal=array(minimum=0))
def largest_square_root_scaling(signal: Any, *, b1: float, b2: float, tolerance: float) -> float:
  r"""The largest kappa to which the square-root rule for Adam stays within a relative tolerance.

  The step per example allows $\kappa \le \left(\frac{1 + \rho}{(1 - \epsilon)^2} - 1\right)/\rho$. The rule also scales
  $1 - \beta_i$ to $\kappa(1 - \beta_i)$. Each average is a linear recursion, whose decay per example and variance
  change like those of descent with $\alpha h = 1 - \beta_i$: they allow the kappa of `largest_linear_scaling`.

  Args:
    signal: rho >= 0, as for `square_root_scaling_change`; the largest one decides.
    b1: beta_1 in (0, 1) of the smaller batch.
    b2: beta_2 in (0, 1).
    tolerance: epsilon in (0, 1).

  Returns:
    kappa > 1.

  Raises:
    InputError: an argument out of range.

  Source: Malladi et al. 2022, arXiv 2205.10287, definition 5.3, for the rule.
  """
  if positive_number('tolerance', tolerance) >= 1:
    raise InputError(f'tolerance must lie in (0, 1), got {tolerance}')
  rho = float(nonnegative('signal', signal).max())
  memories = [1 - momentum_factor(b1, 'b1'), 1 - momentum_factor(b2, 'b2')]
  if max(memories) >= 1:
    raise InputError(f'b1 and b2 must lie in (0, 1), got {b1} and {b2}')
  by_memory = largest_linear_scaling(memories, learning_rate=1.0, tolerance=tolerance)
  by_step = ((1 + rho) / (1 - tolerance) ** 2 - 1) / rho if rho > 0 else np.inf
  return float(min(by_memory, by_step))


@checked('tolerance')
def largest_linear_scaling(eigenvalues: Any, *, learning_rate: float, tolerance: float) -> float:
  r"""The largest kappa to which variance and decay stay within a relative tolerance in every direction.

  Both change most along the largest eigenvalue L. The variance allows
  $\kappa \le \frac{2 - (2 - \alpha L)/(1 + \epsilon)}{\alpha L}$; the decay, with $\kappa\alpha L < 1$, up to the
  root of $\ln(1 - \kappa\alpha L) = (1 + \epsilon)\kappa\ln(1 - \alpha L)$. The decay is the binding constraint: to
  first order both change by $(\kappa - 1)\alpha L/2$, to second order the decay by more.

  Args:
    eigenvalues: h, float[d] > 0.
    learning_rate: alpha > 0 of the smaller batch, below 1/L.
    tolerance: epsilon > 0.

  Returns:
    kappa > 1; descent is stable up to `largest_stable_rate(L) / learning_rate`.

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


@checked('scale', 'tolerance')
def largest_linear_batch(scale: float, tolerance: float) -> float:
  r"""The batch size to which the best rate is proportional to it, $\frac{\epsilon}{1 - \epsilon} B_\text{noise}$.

  The best rate $\epsilon_\text{max} / (1 + B_\text{noise}/B)$ is below the line $\epsilon_\text{max} B/B_\text{noise}$
  by the relative amount $B/(B + B_\text{noise})$.

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
