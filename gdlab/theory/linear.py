r"""Linear recursions of two states per direction: momentum and averaging on a quadratic.

Along an eigenvector of the Hessian a method of two states (position and momentum, or position and average) is

$$s_{t+1} = A s_t + b\,\xi_t, \qquad s_t \in \mathbb{R}^2,$$

with noise xi of the gradient. Its powers and its stationary second moment are closed forms of the trace and the
determinant of A.
"""

from typing import Any, NamedTuple

import numpy as np

from gdlab.theory.inputs import as_floats, momentum_factor, together

Floats = np.ndarray


class System(NamedTuple):
  r"""One linear recursion per direction.

  Attributes:
    matrix: float[..., 2, 2], A.
    noise: float[..., 2], b.
    gap: float[...], $\det(I - A) = (1 - z_1)(1 - z_2)$, given separately because 1 - tr A + det A would cancel.
  """

  matrix: Floats
  noise: Floats
  gap: Floats


def momentum_system(
  curvature: Any, learning_rate: Any, *, momentum: float = 0.0, nesterov: bool = False
) -> System:
  r"""Descent on $\frac12 h x^2$ with state (x, m), in Optax's convention.

  $m' = \beta m + g$ and $x' = x - \alpha m'$, or $x' = x - \alpha(g + \beta m')$ with `nesterov`; g = h x + xi.
  With $\beta = 0$ both are plain descent.

  Args:
    curvature: h, float[...], of any sign.
    learning_rate: alpha, a number or an array that broadcasts against h.
    momentum: beta in [0, 1).
    nesterov: Nesterov's momentum instead of heavy ball.
  """
  h, alpha = together(
    curvature=as_floats('curvature', curvature), learning_rate=as_floats('learning_rate', learning_rate)
  )
  beta = momentum_factor(momentum)
  # The step is -alpha (of_gradient g + of_momentum m).
  of_gradient, of_momentum = (1 + beta, beta**2) if nesterov else (1.0, beta)
  matrix = np.stack(
    [
      np.stack([1 - alpha * of_gradient * h, -alpha * of_momentum], axis=-1),
      np.stack([h, np.full(h.shape, beta)], axis=-1),
    ],
    axis=-2,
  )
  noise = np.stack([-alpha * of_gradient, np.ones(h.shape)], axis=-1)
  return System(matrix, noise, alpha * h)


def average_system(curvature: Any, learning_rate: Any, decay: float) -> System:
  r"""Plain descent with state (x, y), y the exponential moving average $y' = \rho y + (1 - \rho) x'$.

  Args:
    curvature: h, float[...].
    learning_rate: alpha, a number or an array that broadcasts against h.
    decay: rho in [0, 1).
  """
  h, alpha = together(
    curvature=as_floats('curvature', curvature), learning_rate=as_floats('learning_rate', learning_rate)
  )
  rho = momentum_factor(decay, 'averaging')
  kept = 1 - alpha * h
  matrix = np.stack(
    [
      np.stack([kept, np.zeros(h.shape)], axis=-1),
      np.stack([(1 - rho) * kept, np.full(h.shape, rho)], axis=-1),
    ],
    axis=-2,
  )
  noise = np.stack([-alpha, -(1 - rho) * alpha], axis=-1)
  return System(matrix, noise, alpha * h * (1 - rho))


def determinant(system: System) -> Floats:
  """The determinant of A, float[...]."""
  a = system.matrix
  return a[..., 0, 0] * a[..., 1, 1] - a[..., 0, 1] * a[..., 1, 0]


def eigenvalues(system: System) -> Floats:
  """The two eigenvalues of A, complex[..., 2], the larger in modulus first.

  The smaller is the determinant over the larger: the other sign of the root would cancel.
  """
  half, det = (system.matrix[..., 0, 0] + system.matrix[..., 1, 1]) / 2, determinant(system)
  root = np.emath.sqrt(half**2 - det)
  larger = half + np.where(half < 0, -root, root)
  safe = np.where(larger == 0, 1, larger)
  return np.stack([larger, np.where(larger == 0, 0, det / safe)], axis=-1).astype(complex)


def stationary(system: System) -> Floats:
  r"""The second moment S of the state that solves $S = A S A^\top + b b^\top$, float[..., 2, 2].

  Both states are ARMA(2, 1) processes, $(1 - \tau L + \delta L^2)\,s = (\theta_0 + \theta_1 L)\,\xi$, whose
  covariance is

  $$\frac{(1 + \delta)(\theta_0\phi_0 + \theta_1\phi_1) + \tau(\theta_0\phi_1 + \theta_1\phi_0)}
         {(1 - \delta)(1 + \delta - \tau)(1 + \delta + \tau)}.$$

  Where A is not stable S is not a moment, but $S_t = S + A^t (S_0 - S) A^{t\top}$ still holds. It is infinite or NaN
  where a product of two eigenvalues is 1.

  Source: Brockwell and Davis 1991, Time Series: Theory and Methods, section 3.3.
  """
  a, b = system.matrix, system.noise
  trace, det = a[..., 0, 0] + a[..., 1, 1], determinant(system)
  later = np.stack(
    [
      a[..., 0, 1] * b[..., 1] - a[..., 1, 1] * b[..., 0],
      a[..., 1, 0] * b[..., 0] - a[..., 0, 0] * b[..., 1],
    ],
    axis=-1,
  )
  both = (b + later)[..., :, None] * (b + later)[..., None, :]
  same = b[..., :, None] * b[..., None, :] + later[..., :, None] * later[..., None, :]
  # 1 + delta is gap + tau: so the small gap is never the difference of large numbers.
  above = system.gap[..., None, None] * same + trace[..., None, None] * both
  below = (1 - det) * system.gap * (2 * trace + system.gap)
  with np.errstate(divide='ignore', invalid='ignore'):
    return above / below[..., None, None]


class Powers(NamedTuple):
  """What `power` needs to compute a power of A; see `powers`."""

  system: System
  det: Floats
  smaller: Floats  # float[...], det over the larger modulus; 0 where both eigenvalues are
  log_modulus: Floats  # float[...], of the larger eigenvalue
  negative: Floats  # bool[...], whether that one is real and below 0
  log_ratio: Floats  # float[...], of the moduli of the smaller and the larger real eigenvalue
  opposite: Floats  # bool[...], whether real eigenvalues differ in sign
  angle: Floats  # float[...], of complex eigenvalues; 0 where they are real
  separation: Floats  # float[...], 1 - z2/z1 for real ones, sin(angle) for complex ones


def powers(system: System) -> Powers:
  """The quantities of a system that every `power` of it uses."""
  half, det = (system.matrix[..., 0, 0] + system.matrix[..., 1, 1]) / 2, determinant(system)
  inner = half**2 - det
  root = np.sqrt(np.abs(inner))
  is_complex = inner < 0
  modulus = np.where(is_complex, np.sqrt(np.abs(det)), np.abs(half) + np.where(is_complex, 0.0, root))
  angle = np.where(is_complex, np.arctan2(root, half), 0.0)
  with np.errstate(divide='ignore', invalid='ignore'):
    log_modulus = np.log(modulus)
    # For z1 near 1 the logarithm of the rounded number would lose 1 - z1 = det(I - A) / (1 - z2).
    smaller = np.where(modulus == 0, 0.0, det / modulus)
    away = np.where(is_complex | (half < 0), np.inf, system.gap / (1 - smaller))
    near = (np.abs(away) < 0.5) & (smaller < 0.999)
    log_modulus = np.where(near, np.log1p(-np.where(near, away, 0.0)), log_modulus)
    # z2/z1 = 1 - separation: its logarithm for a small separation must not be that of a rounded ratio.
    apart = np.where(modulus == 0, 0.0, 2 * root / modulus)
    log_ratio = np.where(apart < 1, np.log1p(-np.minimum(apart, 1.0)), np.log(np.abs(1 - apart)))
  separation = np.where(is_complex, np.sin(angle), apart)
  return Powers(system, det, smaller, log_modulus, half < 0, log_ratio, apart > 1, angle, separation)


def power(found: Powers, exponent: int, row: int) -> tuple[Floats, Floats]:
  r"""One row of $A^T$, two float[...], for T >= 0; +-inf beyond float64.

  $A^T = u_T A - \delta u_{T-1} I$, $u_T = (z_1^T - z_2^T)/(z_1 - z_2)$ (Cayley and Hamilton).
  """
  first, second, log_scale = scaled_power(found, exponent, row)
  with np.errstate(over='ignore', invalid='ignore'):
    scale = np.exp(log_scale)
    # What is 0 exactly stays 0, however large the rest is.
    return np.where(first == 0, 0.0, first * scale), np.where(second == 0, 0.0, second * scale)


def scaled_power(found: Powers, exponent: int, row: int) -> tuple[Floats, Floats, Floats]:
  """`power` divided by the growth of the larger eigenvalue, and the logarithm of that growth, three float[...]."""
  if exponent == 0:
    one, zero = np.ones(found.det.shape), np.zeros(found.det.shape)
    return (one, zero, zero) if row == 0 else (zero, one, zero)
  now = _quotient(found, exponent)
  before = np.zeros(found.det.shape)
  if exponent > 1 and found.det.any():
    before = found.smaller * _quotient(found, exponent - 1)
  matrix = found.system.matrix
  first, second = now * matrix[..., row, 0], now * matrix[..., row, 1]
  # An eigenvalue 0 has no growth: A itself, and then nothing.
  log_scale = (exponent - 1) * found.log_modulus if exponent > 1 else np.zeros(found.det.shape)
  return (first - before, second, log_scale) if row == 0 else (first, second - before, log_scale)


def _quotient(found: Powers, exponent: int) -> Floats:
  """u_T over |z_1|^(T-1), T >= 1.

  Each kind of eigenvalues is computed only if some direction has it: most of the time is spent here.
  """
  with np.errstate(divide='ignore', invalid='ignore'):
    mantissa = np.ones(found.det.shape)
    if found.det.any():  # else z2 = 0 everywhere, as for plain descent
      mantissa = -np.expm1(exponent * found.log_ratio)
      if found.opposite.any() and exponent % 2:
        mantissa = np.where(found.opposite, 1 + np.exp(exponent * found.log_ratio), mantissa)
      if found.angle.any():
        mantissa = np.where(found.angle > 0, np.sin(exponent * found.angle), mantissa)
    mantissa = np.where(found.separation == 0, float(exponent), mantissa / found.separation)
  if exponent % 2 == 0 and found.negative.any():
    mantissa = np.where(found.negative & (found.angle == 0), -mantissa, mantissa)
  return mantissa
