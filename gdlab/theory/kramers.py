r"""Escape over a barrier: Kramers' rates, and the exact mean first passage time to hold them against.

Overdamped Langevin dynamics is $dx = -U'(x)\,dt + \sqrt{2T}\,dW$. Stochastic gradient descent of rate alpha is
near it with $t = \alpha k$ after k steps and temperature $T = \alpha\sigma^2/(2B)$.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.integrate

from gdlab.errors import InputError
from gdlab.theory.inputs import nonnegative, positive, positive_number, symmetric
from gdlab.theory.linear import Floats


def effective_temperature(learning_rate: Any, noise: Any, batch_size: Any = 1) -> Floats:
  r"""The temperature of stochastic gradient descent, $T = \frac{\alpha\sigma^2}{2B}$, in $dx = -U' dt + \sqrt{2T} dW$.

  One step adds noise of variance $\alpha^2\sigma^2/B$ in the time $\alpha$, and $2T$ is variance per time.

  Args:
    learning_rate: alpha > 0, a number or an array.
    noise: sigma^2 > 0, the variance of one example's gradient.
    batch_size: B > 0.

  Raises:
    InputError: an argument out of range.

  Source: Mandt, Hoffman and Blei 2017, arXiv 1704.04289; Jastrzebski et al. 2017, arXiv 1711.04623.
  """
  return (
    positive('learning_rate', learning_rate)
    * positive('noise', noise)
    / (2 * positive('batch_size', batch_size))
  )


def kramers_rate(well: Any, top: Any, barrier: Any, temperature: Any) -> Floats:
  r"""The rate of escape from a well in one dimension, overdamped, for $T \ll \Delta U$.

  $$k = \frac{\sqrt{U''(a)\,|U''(b)|}}{2\pi} e^{-\Delta U/T}$$

  The mean time to the bottom of the next well is $1/k$, up to a relative error of order $T/\Delta U$ that
  `mean_first_passage_time` gives exactly.

  Example:
    >>> float(kramers_rate(8.0, 4.0, 1.0, 0.2))  # U = (x^2 - 1)^2
    0.006066

  Args:
    well: U''(a) > 0, the curvature at the bottom.
    top: |U''(b)| > 0, the modulus of the curvature on top of the barrier.
    barrier: Delta U = U(b) - U(a) >= 0.
    temperature: T > 0.

  Returns:
    float[...], per unit of time.

  Raises:
    InputError: an argument out of range.

  Source: Kramers 1940; Hanggi, Talkner and Borkovec 1990, Rev. Mod. Phys. 62, section IV.
  """
  attempts = np.sqrt(positive('well', well) * positive('top', top)) / (2 * math.pi)
  return attempts * np.exp(-_heights(barrier, temperature))


def kramers_rate_underdamped(well: Any, top: Any, barrier: Any, temperature: Any, friction: Any) -> Floats:
  r"""The rate of escape with inertia, for moderate to strong friction and $T \ll \Delta U$.

  $$k = \frac{\sqrt{\lambda^2/4 + \omega_b^2} - \lambda/2}{\omega_b}\,\frac{\omega_a}{2\pi} e^{-\Delta U/T}, \qquad
    \omega_a = \sqrt{U''(a)}, \quad \omega_b = \sqrt{|U''(b)|},$$

  for $dx = v\,dt$, $dv = -U'(x)\,dt - \lambda v\,dt + \sqrt{2\lambda T}\,dW$ (unit mass). For
  $\lambda \to \infty$ it is `kramers_rate` over lambda, for $\lambda \to 0$ the rate of transition state theory, an
  upper bound: below $\lambda\,I_b \approx T$, with I_b the action at the top, the slow exchange of energy makes the
  true rate smaller.

  Args:
    well: U''(a) > 0, the curvature at the bottom.
    top: |U''(b)| > 0, the modulus of the curvature on top of the barrier.
    barrier: Delta U >= 0.
    temperature: T > 0.
    friction: lambda > 0, per unit of time.

  Returns:
    float[...], per unit of time.

  Raises:
    InputError: an argument out of range.

  Source: Kramers 1940; Hanggi, Talkner and Borkovec 1990, section IV.
  """
  half, fast = positive('friction', friction) / 2, np.sqrt(positive('top', top))
  # The difference of the roots, written so that it does not cancel at strong friction.
  slowed = fast / (np.sqrt(half**2 + fast**2) + half)
  return slowed * np.sqrt(positive('well', well)) / (2 * math.pi) * np.exp(-_heights(barrier, temperature))


def eyring_kramers_rate(well: Any, saddle: Any, barrier: float, temperature: float) -> float:
  r"""The rate of escape from a well over one saddle in d dimensions, overdamped, for $T \ll \Delta U$.

  $$k = \frac{|\lambda_-|}{2\pi} \sqrt{\frac{\det H_a}{|\det H_b|}}\; e^{-\Delta U/T}$$

  with lambda_- the only negative eigenvalue at the saddle. Rates over several saddles add.

  Args:
    well: H_a, float[d, d], the Hessian at the minimum, positive definite.
    saddle: H_b, float[d, d], the Hessian at the saddle, with one negative and no zero eigenvalue.
    barrier: Delta U >= 0.
    temperature: T > 0.

  Returns:
    The rate per unit of time.

  Raises:
    InputError: an argument out of range, or a Hessian of another index.

  Source: Eyring 1935, Kramers 1940; Bovier, Eckhoff, Gayrard and Klein 2004, J. Eur. Math. Soc. 6.
  """
  bottom = np.linalg.eigvalsh(symmetric('well', well))
  above = np.linalg.eigvalsh(symmetric('saddle', saddle, len(bottom)))
  if bottom[0] <= 0:
    raise InputError(f'well must be positive definite, got least eigenvalue {bottom[0]}')
  if (above < 0).sum() != 1 or (above == 0).any():
    raise InputError(f'saddle must have exactly one negative and no zero eigenvalue, got {above}')
  logs = (np.log(bottom).sum() - np.log(np.abs(above)).sum()) / 2
  return float(-above[0] / (2 * math.pi) * np.exp(logs - _heights(barrier, temperature)))


def mean_first_passage_time(
  potential: Callable[[float], float], temperature: float, *, start: float, end: float, wall: float
) -> float:
  r"""The mean time overdamped Langevin dynamics takes from one point to another in one dimension, exactly.

  $$\tau = \frac1T \int_{\text{start}}^{\text{end}} e^{U(y)/T} \int_{\text{wall}}^{y} e^{-U(z)/T}\,dz\,dy$$

  for a reflecting wall behind the start; put it where $e^{-U/T}$ is negligible for a potential that confines by itself.
  So the error of Kramers' formula is `kramers_rate(...) * mean_first_passage_time(...) - 1`.

  Args:
    potential: U, a function of one number; smooth.
    temperature: T > 0.
    start: where it starts.
    end: where the clock stops; on either side of the start.
    wall: the reflecting wall, on the other side of the start than the end, or the start itself.

  Returns:
    The mean time, to a relative error of about 1e-8.

  Raises:
    InputError: T out of range, or a wall that is not behind the start.

  Source: Gardiner 2009, Stochastic Methods, chapter 5; Hanggi, Talkner and Borkovec 1990, section VII.
  """
  heat = positive_number('temperature', temperature)
  if start == end:
    return 0.0
  sign = 1.0 if end > start else -1.0
  # Mirrored, if need be, so that the end lies above.
  low, first, last = sign * wall, sign * start, sign * end
  if not low <= first:
    raise InputError(f'wall must not lie between start={start} and end={end}, got {wall}')

  def scaled(point: float) -> float:
    return float(potential(sign * point)) / heat

  points = np.linspace(low, last, 2001)
  heights = np.array([scaled(float(point)) for point in points])
  # Relative to these the exponentials neither over- nor underflow where they matter.
  least, most = float(heights.min()), float(heights[points >= first].max())

  def density(point: float) -> float:
    return math.exp(least - scaled(point))

  def grow(point: float, integrals: np.ndarray) -> list[float]:
    return [density(point), math.exp(scaled(point) - most) * integrals[0]]

  options = {'method': 'DOP853', 'rtol': 1e-10, 'atol': 1e-14 * (last - low), 'max_step': (last - low) / 200}
  behind = 0.0
  if low < first:
    before = scipy.integrate.solve_ivp(lambda point, _: [density(point)], (low, first), [0.0], **options)
    behind = float(before.y[0, -1])
  found = scipy.integrate.solve_ivp(grow, (first, last), [behind, 0.0], **options)
  return float(found.y[1, -1]) * math.exp(most - least) / heat


def _heights(barrier: Any, temperature: Any) -> Floats:
  """Delta U / T."""
  return nonnegative('barrier', barrier) / positive('temperature', temperature)
