r"""Escape over a barrier: Kramers' rates, and the exact mean first passage time to compare them with.

Overdamped Langevin dynamics is $dx = -U'(x)\,dt + \sqrt{2T}\,dW$. It approximates stochastic gradient descent of rate
alpha, with $t = \alpha k$ after k steps and temperature $T = \alpha\sigma^2/(2B)$.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, shown
from gdlab.theory.inputs import (
  finite_number,
  nonnegative,
  nonnegative_number,
  positive,
  positive_number,
  symmetric,
  together,
)
from gdlab.theory.linear import Floats
from gdlab.theory.passage import integrated


@checked('learning_rate', 'noise', 'batch_size')
def effective_temperature(learning_rate: Any, noise: Any, batch_size: Any = 1) -> Floats:
  r"""The temperature of stochastic gradient descent, $T = \frac{\alpha\sigma^2}{2B}$, in $dx = -U' dt + \sqrt{2T} dW$.

  One step adds noise of variance $\alpha^2\sigma^2/B$ in the time $\alpha$, and $2T$ is the variance per unit of time.

  Args:
    learning_rate: alpha > 0, a number or an array.
    noise: sigma^2 > 0, the variance of one example's gradient.
    batch_size: B > 0.

  Raises:
    InputError: an argument out of range.

  Source: Mandt, Hoffman and Blei 2017, arXiv 1704.04289; Jastrzebski et al. 2017, arXiv 1711.04623.
  """
  alpha, variance, size = together(
    learning_rate=positive('learning_rate', learning_rate),
    noise=positive('noise', noise),
    batch_size=positive('batch_size', batch_size),
  )
  return alpha * variance / (2 * size)


@checked('well', 'top')
def kramers_rate(well: Any, top: Any, barrier: Any, temperature: Any) -> Floats:
  r"""The rate of escape from a well in one dimension, overdamped, for $T \ll \Delta U$.

  $$k = \frac{\sqrt{U''(a)\,|U''(b)|}}{2\pi} e^{-\Delta U/T}$$

  The mean time to the bottom of the next well is $1/k$, up to a relative error of order $T/\Delta U$;
  `mean_first_passage_time` gives that time exactly.

  Example:
    >>> float(kramers_rate(8.0, 4.0, 1.0, 0.2))  # U = (x^2 - 1)^2
    0.006066

  Args:
    well: U''(a) > 0, the curvature at the bottom.
    top: |U''(b)| > 0, the modulus of the curvature at the top of the barrier.
    barrier: Delta U = U(b) - U(a) >= 0.
    temperature: T > 0.

  Returns:
    float[...], per unit of time.

  Raises:
    InputError: an argument out of range.

  Source: Kramers 1940; Hanggi, Talkner and Borkovec 1990, Rev. Mod. Phys. 62, section IV.
  """
  bottom, above, rise, heat = together(
    well=positive('well', well), top=positive('top', top), **_heights(barrier, temperature)
  )
  return np.sqrt(bottom) * np.sqrt(above) / (2 * math.pi) * np.exp(-rise / heat)


@checked('well', 'top', 'friction')
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
    top: |U''(b)| > 0, the modulus of the curvature at the top of the barrier.
    barrier: Delta U >= 0.
    temperature: T > 0.
    friction: lambda > 0, per unit of time.

  Returns:
    float[...], per unit of time.

  Raises:
    InputError: an argument out of range.

  Source: Kramers 1940; Hanggi, Talkner and Borkovec 1990, section IV.
  """
  bottom, above, rise, heat, damping = together(
    well=positive('well', well),
    top=positive('top', top),
    **_heights(barrier, temperature),
    friction=positive('friction', friction),
  )
  half, fast = damping / 2, np.sqrt(above)
  # The difference of the roots, written so that it does not cancel at strong friction.
  slowed = fast / (np.sqrt(half**2 + fast**2) + half)
  return slowed * np.sqrt(bottom) / (2 * math.pi) * np.exp(-rise / heat)


@checked('well', 'saddle', 'barrier', 'temperature')
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
  scaled = nonnegative_number('barrier', barrier) / positive_number('temperature', temperature)
  return float(-above[0] / (2 * math.pi) * np.exp(logs - scaled))


@checked('potential', 'temperature', 'wall')
def mean_first_passage_time(
  potential: Callable[[float], float], temperature: float, *, start: float, end: float, wall: float
) -> float:
  r"""The mean time overdamped Langevin dynamics takes from one point to another in one dimension, exactly.

  $$\tau = \frac1T \int_{\text{start}}^{\text{end}} g(y)\,dy, \qquad
    g(y) = \int_{\text{wall}}^{y} e^{(U(y) - U(z))/T}\,dz$$

  for a reflecting wall behind the start; for a confining potential put it where $e^{-U/T}$ is negligible. The relative
  error of Kramers' formula is `kramers_rate(...) * mean_first_passage_time(...) - 1`. A host function: it integrates
  cell by cell, with some tens of evaluations of U for every rise or fall of U by a few T.

  Args:
    potential: U, a smooth function of one number. Features narrower than 1/1000 of the interval may be missed.
    temperature: T > 0.
    start: the first point.
    end: the point to be reached, on either side of the start.
    wall: the reflecting wall, finite; at the start or, seen from the end, behind it.

  Returns:
    The mean time, to a relative error of about 1e-9, or of the rounding of U/T where that is larger; inf beyond
    float64.

  Raises:
    InputError: an argument out of range, a wall between start and end, or a potential that is not finite somewhere
      between wall and end or rises and falls by more than 3e5 T in all.

  Source: Hanggi, Talkner and Borkovec 1990, section VII.
  """
  heat = positive_number('temperature', temperature)
  begin, finish, reflecting = (
    finite_number(name, value) for name, value in (('start', start), ('end', end), ('wall', wall))
  )
  if not callable(potential):
    raise InputError(f'potential must be a function of one number, got {shown(potential)}')
  if begin == finish:
    return 0.0
  sign = 1.0 if finish > begin else -1.0
  # Mirrored, if need be, so that the end lies above.
  low, first, last = sign * reflecting, sign * begin, sign * finish
  if not low <= first:
    raise InputError(f'wall must not lie between start={begin} and end={finish}, got {reflecting}')

  def scaled(points: Floats) -> Floats:
    places = (sign * points).ravel().tolist()
    heights = [potential(place) for place in places]
    if not all(isinstance(height, float) and math.isfinite(height) for height in heights):
      heights = [
        finite_number(f'potential({place:.6g})', height)
        for place, height in zip(places, heights, strict=True)
      ]
    with np.errstate(over='ignore'):
      found = np.array(heights).reshape(points.shape) / heat
    if not np.isfinite(found).all():
      raise InputError(f'temperature must not be so small that potential / temperature overflows, got {heat}')
    return found

  log_inner = -math.inf  # the logarithm of g: a barrier behind the start may lift it beyond float64
  if low < first:
    for cell in integrated(scaled, low, first):
      log_inner = np.logaddexp(log_inner + cell.rise, cell.log_inner)
  log_time = -math.inf
  for cell in integrated(scaled, first, last):
    log_time = np.logaddexp(np.logaddexp(log_time, log_inner + cell.log_outer), cell.log_double)
    log_inner = np.logaddexp(log_inner + cell.rise, cell.log_inner)
  with np.errstate(over='ignore'):
    return float(np.exp(log_time - math.log(heat)))


def _heights(barrier: Any, temperature: Any) -> dict[str, Floats]:
  return {
    'barrier': nonnegative('barrier', barrier),
    'temperature': positive('temperature', temperature),
  }
