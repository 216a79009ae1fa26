r"""How long descent takes to leave a strict saddle, along a direction of negative curvature $-\gamma$.

On a quadratic $x_{t+1}$ is linear in the state, so the growth is exact: plain descent multiplies x by
$1 + \alpha\gamma$ at every step, momentum by more, and gradient noise adds a variance that grows at the same rate.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, shown
from gdlab.theory.inputs import nonnegative, nonnegative_number, positive, positive_number, together
from gdlab.theory.linear import Floats, Powers, System, momentum_system, powers, scaled_power, stationary
from gdlab.theory.stability import spectral_radius


@checked('distance', 'start', 'curvature')
def continuous_escape_time(distance: Any, start: Any, curvature: float) -> Floats:
  r"""The time gradient flow takes to leave, $\frac1\gamma \ln(\Delta/\delta_0)$; divide by the rate for steps.

  Args:
    distance: Delta > 0, a number or an array.
    start: delta_0 > 0, the distance at time 0.
    curvature: gamma > 0, the modulus of the negative eigenvalue.

  Raises:
    InputError: an argument out of range.
  """
  far, near = together(distance=positive('distance', distance), start=positive('start', start))
  return np.maximum(np.log(far / near), 0) / positive_number('curvature', curvature)


@checked('curvature', 'learning_rate')
def escape_growth(
  curvature: Any, learning_rate: Any, *, momentum: float = 0.0, nesterov: bool = False
) -> Floats:
  r"""The asymptotic growth factor per step of the distance from a saddle.

  $1 + \alpha\gamma$ for plain descent; with momentum the larger root of $z^2 - \tau z + \delta$,
  $\tau = 1 + \beta + \alpha\gamma$ and $\delta = \beta$ for heavy ball, $\tau = (1 + \beta)(1 + \alpha\gamma)$ and
  $\delta = \beta(1 + \alpha\gamma)$ for Nesterov: about $1 + \frac{\alpha\gamma}{1 - \beta}$ for small rates.

  Args:
    curvature: gamma > 0, a number or an array.
    learning_rate: alpha > 0.
    momentum: beta in [0, 1).
    nesterov: Nesterov's momentum instead of heavy ball.

  Raises:
    InputError: an argument out of range.

  Source: O'Neill and Wright 2019, arXiv 1706.07993, for heavy ball.
  """
  gamma, alpha = positive('curvature', curvature), positive('learning_rate', learning_rate)
  return spectral_radius(-gamma, alpha, momentum=momentum, nesterov=nesterov)


@checked('distance', 'start', 'noise')
def escape_steps(
  distance: Any,
  start: Any,
  *,
  curvature: float,
  learning_rate: float,
  momentum: float = 0.0,
  nesterov: bool = False,
  noise: float = 0.0,
  batch_size: int = 1,
) -> np.ndarray:
  r"""The first step with $E[x_T^2] \ge \Delta^2$, exactly, from $x_0 = \delta_0$ and no momentum.

  Plain descent without noise: $T = \lceil \ln(\Delta/\delta_0) / \ln(1 + \alpha\gamma) \rceil$. With noise

  $$E[x_T^2] = \delta_0^2 a^{2T} + q\,(a^{2T} - 1), \qquad a = 1 + \alpha\gamma, \quad
    q = \frac{\alpha\sigma^2}{B\gamma(2 + \alpha\gamma)},$$

  so that $T = \lceil \tfrac12 \ln\frac{\Delta^2 + q}{\delta_0^2 + q} / \ln a \rceil$, finite
  even from $\delta_0 = 0$.
  With momentum both roots of the recursion are used. Counts above about $10^{14}$ have a relative error of a few
  $10^{-16}$.

  Example:
    >>> escape_steps(1.0, [1e-2, 1e-4], curvature=1.0, learning_rate=0.1)
    array([49, 97])

  Args:
    distance: Delta > 0, a number or an array.
    start: delta_0 >= 0, a number or an array; above 0 without noise.
    curvature: gamma > 0, the modulus of the negative eigenvalue.
    learning_rate: alpha > 0.
    momentum: beta in [0, 1).
    nesterov: Nesterov's momentum instead of heavy ball.
    noise: sigma^2 >= 0, the variance of one example's gradient in this direction.
    batch_size: B >= 1, drawn with replacement.

  Returns:
    int64[...].

  Raises:
    InputError: an argument out of range, or more than 2^62 steps.
  """
  outer, inner = together(distance=positive('distance', distance), start=nonnegative('start', start))
  variance = nonnegative_number('noise', noise)
  if variance == 0 and (inner == 0).any():
    raise InputError('start must be > 0 without noise (from the saddle itself nothing moves), got 0')
  spread = _Spread(curvature, learning_rate, momentum, nesterov, variance, batch_size)

  def escaped(steps: int, near: float, far: float) -> bool:
    response, added, log_scale = spread(steps)
    # In logarithms, which do not overflow.
    with np.errstate(divide='ignore'):
      return bool(np.log(np.hypot(response * near, math.sqrt(added))) + log_scale >= math.log(far))

  pairs = zip(inner.ravel(), outer.ravel(), strict=True)
  steps = [_first(functools.partial(escaped, near=near, far=far)) for near, far in pairs]
  return np.array(steps, np.int64).reshape(outer.shape)


@checked('steps', 'distance', 'start', 'noise')
def escaped_probability(
  steps: int,
  distance: Any,
  start: Any,
  *,
  curvature: float,
  learning_rate: float,
  noise: float,
  batch_size: int = 1,
  momentum: float = 0.0,
  nesterov: bool = False,
) -> Floats:
  r"""The probability that $|x_T| \ge \Delta$ under Gaussian gradient noise, exactly.

  $x_T$ is normal: $x_T \sim N(\delta_0 w_T, v_T)$, where `escape_steps` has $E[x_T^2] = \delta_0^2 w_T^2 + v_T$. It is
  a lower bound for the probability that the first exit was at or before T, and close to it where $\Delta^2 \gg q$,
  as x hardly ever returns from there.

  Args:
    steps: T >= 0.
    distance: Delta > 0, a number or an array.
    start: delta_0 >= 0, a number or an array.
    curvature: gamma > 0, the modulus of the negative eigenvalue.
    learning_rate: alpha > 0.
    noise: sigma^2 > 0, the variance of one example's gradient in this direction.
    batch_size: B >= 1, drawn with replacement.
    momentum: beta in [0, 1).
    nesterov: Nesterov's momentum instead of heavy ball.

  Returns:
    float[...].

  Raises:
    InputError: an argument out of range.
  """
  check_count('steps', steps, minimum=0)
  far, near = together(distance=positive('distance', distance), start=nonnegative('start', start))
  variance = positive_number('noise', noise)
  spread = _Spread(curvature, learning_rate, momentum, nesterov, variance, batch_size)
  response, added, log_scale = spread(steps)
  outside, mean = far if log_scale == 0 else np.exp(np.log(far) - log_scale), near * response
  if added == 0:
    return (mean >= outside).astype(float)
  with np.errstate(over='ignore'):
    above, below = (np.divide(side - mean, math.sqrt(added)) for side in (outside, -outside))
  return scipy.special.ndtr(-above) + scipy.special.ndtr(below)


@checked('distance', 'noise', 'batch_size')
def mean_escape_steps(
  distance: Any,
  *,
  curvature: float,
  learning_rate: float,
  noise: float,
  batch_size: int = 1,
  momentum: float = 0.0,
  nesterov: bool = False,
) -> Floats:
  r"""The mean escape time of noisy descent from the saddle itself, for $\Delta^2 \gg q$.

  For large T $|x_T| \approx a^T |Z|$, a the factor of `escape_growth` and $Z \sim N(0, q)$, with q as in `escape_steps`
  for plain descent and, with momentum, $q = \frac{(\ell^\top b)^2}{a^2 - 1}\frac{\sigma^2}{B}$ for the left
  eigenvector $\ell$ of A to the eigenvalue a, scaled so that $x_T \approx a^T \ell^\top s_0$ without noise. As
  $E[\ln|Z|] = \frac12 (\ln q - \gamma_E - \ln 2)$, for a continuous T,

  $$E[T] \approx \frac{\ln\Delta - \frac12(\ln q - \gamma_E - \ln 2)}{\ln a}.$$

  The first whole step after it is half a step later on average. It neglects about $\frac{q}{2\Delta^2 \ln a}$ steps,
  the effect of the noise in the last steps before the exit.

  Args:
    distance: Delta, a number or an array, at least $\sqrt{10 q}$, where 3 % of the time is neglected.
    curvature: gamma > 0, the modulus of the negative eigenvalue.
    learning_rate: alpha > 0.
    noise: sigma^2 > 0, the variance of one example's Gaussian gradient noise in this direction.
    batch_size: B >= 1, drawn with replacement.
    momentum: beta in [0, 1); the momentum starts at 0.
    nesterov: Nesterov's momentum instead of heavy ball.

  Returns:
    float[...].

  Raises:
    InputError: an argument out of range.
  """
  check_count('batch_size', batch_size)
  sigma, far = positive_number('noise', noise), positive('distance', distance)
  system, found = _unstable(curvature, learning_rate, momentum, nesterov)
  growth, matrix = float(found.log_modulus), system.matrix
  other = float(found.smaller)
  weights = np.array([matrix[0, 0] - other, matrix[0, 1]]) / (math.exp(growth) - other)
  spread = float(weights @ system.noise) ** 2 / math.expm1(2 * growth) * sigma / batch_size
  if (far**2 < 10 * spread).any():
    raise InputError(
      f'distance must be at least {math.sqrt(10 * spread):.6g}, where noise hardly decides any more, '
      f'got {shown(distance)}'
    )
  typical = (math.log(spread) - np.euler_gamma - math.log(2)) / 2
  return (np.log(far) - typical) / growth


@checked('learning_rate', 'smoothness', 'curvature')
def octopus_gap_ratio(learning_rate: float, smoothness: float, curvature: float) -> float:
  r"""The limit of the ratio of successive passage times between the saddles of an octopus, for plain descent.

  $$1 + \frac{-\ln|1 - 2\eta L|}{\ln(1 + 2\eta\gamma)},$$

  which at $\eta = 1/(4L)$ is $1 + \ln 2/\ln(1 + 2\eta\gamma)$. While descent stays near earlier saddles the coordinate
  of the next shrinks by the factor $|1 - 2\eta L|$ per step, and must then grow back by $1 + 2\eta\gamma$ per step
  before descent can leave. So the time T_k of the k-th passage obeys $T_{k+1} = r T_k + \text{const}$.

  Args:
    learning_rate: eta in (0, 1/(2L)) or (1/(2L), 1/L).
    smoothness: L > 0, of the quadratic $L x^2$ across a tube.
    curvature: gamma > 0, of $-\gamma x^2$ along a tube.

  Raises:
    InputError: an argument out of range.

  Source: Du et al. 2017, arXiv 1705.10412, section 4.
  """
  gamma, steep = positive_number('curvature', curvature), positive_number('smoothness', smoothness)
  eta = positive_number('learning_rate', learning_rate)
  if eta * steep >= 1 or eta * steep == 0.5:
    raise InputError(f'learning_rate must lie in (0, {1 / steep}) and not be {0.5 / steep}, got {eta}')
  return 1 - math.log(abs(1 - 2 * eta * steep)) / math.log1p(2 * eta * gamma)


class _Spread:
  """The response w to the start and the variance v of the accumulated noise, over powers of the growth factor."""

  def __init__(
    self,
    curvature: float,
    learning_rate: float,
    momentum: float,
    nesterov: bool,
    noise: float,
    batch_size: int,
  ):
    check_count('batch_size', batch_size)
    self._system, self._powers = _unstable(curvature, learning_rate, momentum, nesterov)
    self._variance = noise / batch_size
    self._limit = stationary(self._system)
    self._drift = curvature * learning_rate * (1 + momentum if nesterov else 1)

  def __call__(self, steps: int) -> tuple[float, float, float]:
    """(w over |z|^T, v over |z|^2T, ln |z|^T), z the growth factor."""
    if steps * float(self._powers.log_modulus) < 1:
      response, squares = self._doubled(steps)
      return response, squares * self._variance, 0.0
    first, second, log_scale = scaled_power(self._powers, steps, 0)
    row = np.stack([first, second])
    squares = self._limit[0, 0] * np.exp(-2 * log_scale) - row @ self._limit @ row
    return float(first), float(squares) * self._variance, float(log_scale)

  def _doubled(self, steps: int) -> tuple[float, float]:
    """For few steps, where a difference of stationary moments would cancel: sums of terms of one sign, by doubling."""
    noise = np.outer(self._system.noise, self._system.noise)
    change = self._system.matrix - np.eye(2)
    # What is small in A - I, as it is before 1 is added to it.
    change[0, 0] = self._drift
    grown, squares = np.zeros((2, 2)), np.zeros((2, 2))  # A^t - I, and the sum of A^j b b^T A^jT for j < t
    for digit in f'{steps:b}':
      squares = squares + _moved(grown, squares)
      grown = 2 * grown + grown @ grown
      if digit == '1':
        squares = noise + _moved(change, squares)
        grown = grown + change + change @ grown
    return 1 + float(grown[0, 0]), float(squares[0, 0])


def _moved(change: Floats, moment: Floats) -> Floats:
  """(I + D) S (I + D)^T."""
  half = moment + change @ moment
  return half + half @ change.T


def _unstable(
  curvature: float, learning_rate: float, momentum: float, nesterov: bool
) -> tuple[System, Powers]:
  gamma, alpha = positive_number('curvature', curvature), positive_number('learning_rate', learning_rate)
  system = momentum_system(-gamma, alpha, momentum=momentum, nesterov=nesterov)
  found = powers(system)
  if not found.log_modulus > 1e-18:
    raise InputError(f'learning_rate * curvature must be above 1e-18, got {alpha * gamma}')
  return system, found


def _first(reached: Callable[[int], bool]) -> int:
  """The least count >= 0 from which on a monotone condition holds."""
  if reached(0):
    return 0
  high = 1
  while not reached(high):
    high *= 2
    if high > 2**62:
      raise InputError('learning_rate * curvature must be larger: escape takes more than 2**62 steps')
  low = high // 2
  while high - low > 1:
    middle = (low + high) // 2
    low, high = (low, middle) if reached(middle) else (middle, high)
  return high
