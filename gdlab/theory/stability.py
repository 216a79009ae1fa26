r"""Convergence rates of descent on quadratics: the contraction factor of each method, and its best settings."""

import math
from typing import Any, NamedTuple

import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError
from gdlab.theory.inputs import positive_number, spectrum
from gdlab.theory.linear import Floats, eigenvalues, momentum_system


class Tuning(NamedTuple):
  """Hyperparameters of one method, and `rate`, the asymptotic factor of the error per step."""

  learning_rate: float
  momentum: float
  rate: float


@checked
def spectral_radius(
  curvature: Any, learning_rate: Any, *, momentum: float = 0.0, nesterov: bool = False
) -> Floats:
  r"""The asymptotic factor of the error per step along an eigenvector of the Hessian.

  The larger modulus of the roots of $z^2 - \tau z + \delta$, with $\tau = 1 + \beta - \alpha h$ and
  $\delta = \beta$ for heavy ball, $\tau = (1 + \beta)(1 - \alpha h)$ and $\delta = \beta(1 - \alpha h)$ for
  Nesterov, in Optax's convention. Below 1 the method is stable; for h < 0 it is the factor of escape, above 1.

  Example:
    >>> spectral_radius([1.0, 0.1], 1.0)
    array([0. , 0.9])

  Args:
    curvature: h, float[...], of any sign.
    learning_rate: alpha, a number or an array that broadcasts against h.
    momentum: beta in [0, 1).
    nesterov: Nesterov's momentum instead of heavy ball.

  Returns:
    float[...].

  Raises:
    InputError: an argument out of range.
  """
  system = momentum_system(curvature, learning_rate, momentum=momentum, nesterov=nesterov)
  return np.abs(eigenvalues(system)).max(axis=-1)


@checked
def best_plain(smoothness: float, strong_convexity: float) -> Tuning:
  r"""The best constant rate of plain descent: $\alpha = \frac{2}{L + \mu}$, factor $\frac{\kappa - 1}{\kappa + 1}$.

  Args:
    smoothness: L, the largest eigenvalue.
    strong_convexity: mu in (0, L], the smallest.

  Raises:
    InputError: an argument out of range.

  Source: Polyak 1987, Introduction to Optimization, section 1.4.
  """
  large, small = _extremes(smoothness, strong_convexity)
  return Tuning(2 / (large + small), 0.0, (large - small) / (large + small))


@checked
def best_heavy_ball(smoothness: float, strong_convexity: float) -> Tuning:
  r"""The best heavy ball on quadratics.

  $$\alpha = \frac{4}{(\sqrt L + \sqrt\mu)^2}, \qquad
    \beta = \left(\frac{\sqrt\kappa - 1}{\sqrt\kappa + 1}\right)^2.$$

  The factor per step is $\sqrt\beta$, every direction critically or under-damped; $L = \mu$ gives plain descent.

  Args:
    smoothness: L, the largest eigenvalue.
    strong_convexity: mu in (0, L], the smallest.

  Raises:
    InputError: an argument out of range.

  Source: Polyak 1964, Some methods of speeding up the convergence of iteration methods.
  """
  large, small = _extremes(smoothness, strong_convexity)
  total = math.sqrt(large) + math.sqrt(small)
  rate = (math.sqrt(large) - math.sqrt(small)) / total
  return Tuning(4 / total**2, rate**2, rate)


@checked
def best_nesterov(smoothness: float, strong_convexity: float) -> Tuning:
  r"""The best Nesterov momentum with constant settings on quadratics.

  $$\alpha = \frac{4}{3L + \mu}, \qquad \beta = \frac{\sqrt{3\kappa + 1} - 2}{\sqrt{3\kappa + 1} + 2}, \qquad
    \text{factor } 1 - \frac{2}{\sqrt{3\kappa + 1}}.$$

  (The usual $\alpha = 1/L$, $\beta = (\sqrt\kappa - 1)/(\sqrt\kappa + 1)$ has the factor $1 - 1/\sqrt\kappa$.)

  Args:
    smoothness: L, the largest eigenvalue.
    strong_convexity: mu in (0, L], the smallest.

  Raises:
    InputError: an argument out of range.

  Source: Lessard, Recht and Packard 2016, arXiv 1408.3595, proposition 1.
  """
  large, small = _extremes(smoothness, strong_convexity)
  root = math.sqrt(3 * large / small + 1)
  return Tuning(4 / (3 * large + small), (root - 2) / (root + 2), 1 - 2 / root)


@checked
def line_search_rate(smoothness: float, strong_convexity: float) -> float:
  r"""The worst-case factor of f per step of steepest descent with exact line search, on a quadratic.

  $$\frac{f(x_{k+1})}{f(x_k)} \le \left(\frac{\kappa - 1}{\kappa + 1}\right)^2, \qquad \kappa = L/\mu.$$

  Args:
    smoothness: L, the largest eigenvalue.
    strong_convexity: mu in (0, L], the smallest.

  Raises:
    InputError: an argument out of range.

  Source: Nocedal and Wright 2006, Numerical Optimization, theorem 3.3 (Kantorovich's inequality).
  """
  return best_plain(smoothness, strong_convexity).rate ** 2


@checked('eigenvalues')
def line_search_worst_start(eigenvalues: Any) -> Floats:
  r"""The start from which exact line search attains `line_search_rate` at every step.

  $x_i = 1/h_i$ in one direction of the largest and one of the smallest eigenvalue, so that both have the same gradient;
  0 in all others.

  Args:
    eigenvalues: h, float[d] > 0.

  Raises:
    InputError: if they are not positive numbers in one dimension.
  """
  h = spectrum('eigenvalues', eigenvalues)
  start = np.zeros(h.size)
  for place in {int(h.argmax()), int(h.argmin())}:
    start[place] = 1 / h[place]
  return start


def _extremes(smoothness: float, strong_convexity: float) -> tuple[float, float]:
  large = positive_number('smoothness', smoothness)
  small = positive_number('strong_convexity', strong_convexity)
  if small > large:
    raise InputError(f'strong_convexity must be at most smoothness={large}, got {small}')
  return large, small
