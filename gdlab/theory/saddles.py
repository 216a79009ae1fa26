r"""How long descent takes to leave a strict saddle, along a direction of negative curvature $-\gamma$.

There $x_{t+1}$ is linear in the state, so the growth is exact: plain descent multiplies x by $1 + \alpha\gamma$ at
every step, momentum by more, and gradient noise adds a variance that grows at the same rate.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special

from gdlab.errors import InputError, check_count
from gdlab.theory.inputs import nonnegative, nonnegative_number, positive, positive_number
from gdlab.theory.linear import Floats, Powers, momentum_system, power, powers, stationary
from gdlab.theory.stability import spectral_radius


def continuous_escape_time(distance: Any, start: Any, curvature: float) -> Floats:
  r"""The time gradient flow takes to leave, $\frac1\gamma \ln(\Delta/\delta_0)$; steps are time over the rate.

  Args:
    distance: Delta > 0, a number or an array.
    start: delta_0 > 0, the distance at time 0.
    curvature: gamma > 0, the modulus of the negative eigenvalue.

  Raises:
    InputError: an argument out of range.
  """
  ratio = positive('distance', distance) / positive('start', start)
  return np.maximum(np.log(ratio), 0) / positive_number('curvature', curvature)


def escape_growth(
  curvature: Any, learning_rate: Any, *, momentum: float = 0.0, nesterov: bool = False
) -> Floats:
  r"""The factor per step at which descent leaves a saddle in the long run.

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
  With momentum both roots of the recursion are used.

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
    InputError: an argument out of range.
  """
  outer, inner = np.broadcast_arrays(positive('distance', distance), nonnegative('start', start))
  if nonnegative_number('noise', noise) == 0 and (inner == 0).any():
    raise InputError('start must be > 0 without noise (from the saddle itself nothing moves), got 0')
  check_count('batch_size', batch_size)
  gamma, alpha = positive_number('curvature', curvature), positive_number('learning_rate', learning_rate)
  system = momentum_system(-gamma, alpha, momentum=momentum, nesterov=nesterov)
  found = powers(system)
  if found.log_modulus <= 0:
    raise InputError(f'learning_rate * curvature must be above the rounding of 1, got {alpha * gamma}')
  limit = stationary(system) * (noise / batch_size)

  def escaped(steps: int, near: float, far: float) -> bool:
    response, other = power(found, steps, 0)
    with np.errstate(over='ignore', invalid='ignore'):
      grown = (response * near) ** 2
      if noise > 0:
        row = np.stack([response, other])
        grown = grown + limit[0, 0] - row @ limit @ row
      return not grown < far**2  # what has overflowed is out

  pairs = zip(inner.ravel(), outer.ravel(), strict=True)
  steps = [_first(functools.partial(escaped, near=near, far=far)) for near, far in pairs]
  return np.array(steps, np.int64).reshape(outer.shape)


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

  $x_T$ is normal: $x_T \sim N(\delta_0 w_T, v_T)$, w and v as in `escape_steps`. It is a lower bound for the
  probability that the first exit was at or before T, and close to it where $\Delta^2 \gg q$: who is out then hardly
  ever comes back.

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
  check_count('batch_size', batch_size)
  far, near = positive('distance', distance), nonnegative('start', start)
  gamma, alpha = positive_number('curvature', curvature), positive_number('learning_rate', learning_rate)
  system = momentum_system(-gamma, alpha, momentum=momentum, nesterov=nesterov)
  row = np.stack(_row(powers(system), steps))
  limit = stationary(system) * (positive_number('noise', noise) / batch_size)
  # Rounding may take the variance at T = 0, an exact 0, below it.
  spread = math.sqrt(max(float(limit[0, 0] - row @ limit @ row), 0.0))
  with np.errstate(divide='ignore'):
    above, below = (np.divide(side - near * row[0], spread) for side in (far, -far))
  return scipy.special.ndtr(-above) + scipy.special.ndtr(below)


def mean_escape_steps(
  distance: Any, *, curvature: float, learning_rate: float, noise: float, batch_size: int = 1
) -> Floats:
  r"""The mean escape time of noisy plain descent from the saddle itself, for $\Delta^2 \gg q$.

  Far out $|x_T| \approx a^T |Z|$ with $Z \sim N(0, q)$ and q as in `escape_steps`, and
  $E[\ln|Z|] = \frac12 (\ln q - \gamma_E - \ln 2)$; so, with time between the steps,

  $$E[T] \approx \frac{\ln\Delta - \frac12(\ln q - \gamma_E - \ln 2)}{\ln a}.$$

  The first whole step past it is half a step later on average.

  Args:
    distance: Delta > 0, a number or an array.
    curvature: gamma > 0, the modulus of the negative eigenvalue.
    learning_rate: alpha > 0.
    noise: sigma^2 > 0, the variance of one example's Gaussian gradient noise in this direction.
    batch_size: B >= 1, drawn with replacement.

  Returns:
    float[...].

  Raises:
    InputError: an argument out of range.
  """
  check_count('batch_size', batch_size)
  gamma, alpha = positive_number('curvature', curvature), positive_number('learning_rate', learning_rate)
  sigma = positive_number('noise', noise)
  spread = alpha * sigma / (batch_size * gamma * (2 + alpha * gamma))
  typical = (math.log(spread) - np.euler_gamma - math.log(2)) / 2
  return (np.log(positive('distance', distance)) - typical) / math.log1p(alpha * gamma)


def octopus_gap_ratio(learning_rate: float, smoothness: float, curvature: float) -> float:
  r"""The limit of the ratio of successive passage times between the saddles of an octopus, for plain descent.

  $$1 + \frac{-\ln|1 - 2\eta L|}{\ln(1 + 2\eta\gamma)},$$

  which at $\eta = 1/(4L)$ is $1 + \ln 2/\ln(1 + 2\eta\gamma)$. While the descent waits at earlier saddles the
  coordinate of the next shrinks by $|1 - 2\eta L|$ at every step; that has to be grown back by $1 + 2\eta\gamma$ per
  step before it can leave. So the time T_k of the k-th passage obeys $T_{k+1} = r T_k + \text{const}$.

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


def _row(found: Powers, steps: int) -> tuple[float, float]:
  first, second = power(found, steps, 0)
  return float(first), float(second)


def _first(reached: Callable[[int], bool]) -> int:
  """The least count >= 0 at which a condition holds that goes on holding."""
  if reached(0):
    return 0
  high = 1
  while not reached(high):
    high *= 2
  low = high // 2
  while high - low > 1:
    middle = (low + high) // 2
    low, high = (low, middle) if reached(middle) else (middle, high)
  return high
