r"""The stationary second moments of noisy descent at a constant rate on a quadratic."""

from typing import Any

import numpy as np
import scipy.linalg

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, shown
from gdlab.theory.descent import largest_stable_rate
from gdlab.theory.epochs import reshuffled_moment
from gdlab.theory.inputs import (
  momentum_factor,
  per_direction,
  positive_number,
  semidefinite,
  spectrum,
  symmetric,
)
from gdlab.theory.linear import Floats, momentum_system, stationary
from gdlab.theory.moments import Moments, batch_sizes_of_epoch, fresh_variance


@checked('eigenvalues', 'noise', 'learning_rate')
def stationary_moments(
  eigenvalues: Any,
  noise: Any,
  *,
  learning_rate: float,
  batch_size: int = 1,
  momentum: float = 0.0,
  nesterov: bool = False,
  num_examples: int | None = None,
  drop_remainder: bool = False,
  subsets_of: int | None = None,
) -> Moments:
  r"""The stationary second moments of plain descent, heavy ball and Nesterov in closed form.

  With replacement

  $$E[x^2] = \frac{\alpha\sigma^2}{B h (2 - \alpha h)}, \qquad
    \frac{\alpha\sigma^2}{B h}\,\frac{1 + \beta}{(1 - \beta)(2 + 2\beta - \alpha h)}, \qquad
    \frac{\alpha\sigma^2}{B h}\,
    \frac{(1 + \delta)((1+\beta)^2 + \beta^2) - 2\beta(1+\beta)\tau}
         {(1 - \delta)(2 + 2\beta - (1 + 2\beta)\alpha h)}$$

  for plain descent, heavy ball and Nesterov, with $\tau = (1+\beta)(1-\alpha h)$ and
  $\delta = \beta(1 - \alpha h)$. Reshuffled, they are the moments at the ends of epochs, the fixed point of the map
  over one epoch; to a relative error of about $10^{-14}/(1 - \beta)$ however small $\alpha h$ is.

  Args:
    eigenvalues: h, float[d] > 0.
    noise: sigma^2 >= 0, the variance of one example's gradient, for all directions or each, float[d].
    learning_rate: alpha > 0 and below `largest_stable_rate`.
    batch_size: B >= 1.
    momentum: beta in [0, 1).
    nesterov: Nesterov's momentum instead of heavy ball.
    num_examples: N, for batches reshuffled every epoch; None for independent draws.
    drop_remainder: as for `second_moments`.
    subsets_of: N, for batches that are each a fresh subset, as for `second_moments`.

  Returns:
    Moments with arrays float[d].

  Raises:
    InputError: an argument out of range, or a rate at which descent is not stable.
  """
  h = spectrum('eigenvalues', eigenvalues)
  variance = per_direction('noise', noise, h.size)
  alpha = _stable('learning_rate', learning_rate, float(h.max()), momentum, nesterov)
  variance = fresh_variance(variance, batch_size, num_examples, subsets_of)
  if num_examples is None:
    moment = stationary(momentum_system(h, alpha, momentum=momentum, nesterov=nesterov))
    moment = moment * variance[:, None, None]
    return Moments(moment[:, 0, 0], moment[:, 0, 1], moment[:, 1, 1])

  sizes = batch_sizes_of_epoch(num_examples, batch_size, drop_remainder)
  if num_examples == 1:
    return Moments(*np.zeros((3, h.size)))  # one example is its own mean
  moment = reshuffled_moment(alpha * h, sizes, num_examples, momentum, nesterov) * variance[:, None, None]
  return Moments(alpha**2 * moment[:, 0, 0], alpha * moment[:, 0, 1], moment[:, 1, 1])


@checked('learning_rate')
def stationary_covariance(
  hessian: Any,
  noise_covariance: Any,
  *,
  learning_rate: float,
  batch_size: int = 1,
  momentum: float = 0.0,
  nesterov: bool = False,
  subsets_of: int | None = None,
) -> Floats:
  r"""The stationary covariance of x for a Hessian and a noise covariance that need not commute.

  It is the upper left block of the solution of the discrete Lyapunov equation
  $S = A S A^\top + \frac1B b \Sigma b^\top$ of the state (x, m); for plain descent
  $S = (I - \alpha H) S (I - \alpha H) + \frac{\alpha^2}{B} \Sigma$, in the eigenvectors of H
  $S_{ij} = \frac{\alpha}{B} \Sigma_{ij} / (h_i + h_j - \alpha h_i h_j)$. With momentum the equation is
  solved numerically, with a relative error up to about $10^{-16}$ over the square of the least $\alpha h/(1 - \beta)$.

  Args:
    hessian: H, float[d, d], symmetric, positive definite.
    noise_covariance: Sigma, float[d, d], symmetric, positive semidefinite, of one example's gradient.
    learning_rate: alpha > 0 and below `largest_stable_rate`.
    batch_size: B >= 1.
    momentum: beta in [0, 1).
    nesterov: Nesterov's momentum instead of heavy ball.
    subsets_of: N, for batches that are each a fresh subset, as for `second_moments`.

  Returns:
    float[d, d].

  Raises:
    InputError: an argument out of range, or a rate at which descent is not stable.
  """
  hessian, sigma = _matrices(hessian, noise_covariance)
  size = len(hessian)
  beta = momentum_factor(momentum)
  alpha = _stable('learning_rate', learning_rate, np.linalg.eigvalsh(hessian)[-1], beta, nesterov)
  sigma = fresh_variance(sigma, batch_size, None, subsets_of)
  if beta == 0:
    h, vectors = np.linalg.eigh(hessian)
    turned = alpha * (vectors.T @ sigma @ vectors) / (h[:, None] + h - alpha * h[:, None] * h)
    return _symmetrised(vectors @ turned @ vectors.T)
  identity = np.eye(size)
  of_gradient, of_momentum = (1 + beta, beta**2) if nesterov else (1.0, beta)
  matrix = np.block(
    [
      [identity - alpha * of_gradient * hessian, -alpha * of_momentum * identity],
      [hessian, beta * identity],
    ]
  )
  noise = np.concatenate([-alpha * of_gradient * identity, identity])
  solved = scipy.linalg.solve_discrete_lyapunov(matrix, noise @ sigma @ noise.T)
  return _symmetrised(solved[:size, :size])


@checked('learning_rate', 'batch_size')
def small_rate_covariance(
  hessian: Any, noise_covariance: Any, *, learning_rate: float, batch_size: int = 1, momentum: float = 0.0
) -> Floats:
  r"""The stationary covariance S to first order in the rate: $H S + S H = \frac{\alpha}{(1 - \beta) B} \Sigma$.

  That is $\frac{\alpha}{2 (1 - \beta) B} \Sigma H^{-1}$ where H and Sigma commute. Heavy ball and Nesterov agree to
  this order.

  Args:
    hessian: H, float[d, d], symmetric, positive definite.
    noise_covariance: Sigma, float[d, d], symmetric, positive semidefinite, of one example's gradient.
    learning_rate: alpha > 0.
    batch_size: B >= 1.
    momentum: beta in [0, 1).

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Mandt, Hoffman and Blei 2017, arXiv 1704.04289, section 3.
  """
  hessian, sigma = _matrices(hessian, noise_covariance)
  rate = positive_number('learning_rate', learning_rate) / (1 - momentum_factor(momentum))
  check_count('batch_size', batch_size)
  return _symmetrised(scipy.linalg.solve_continuous_lyapunov(hessian, rate / batch_size * sigma))


def _matrices(hessian: Any, noise_covariance: Any) -> tuple[Floats, Floats]:
  hessian = symmetric('hessian', hessian)
  if np.linalg.eigvalsh(hessian)[0] <= 0:
    raise InputError(
      f'hessian must be positive definite, got least eigenvalue {np.linalg.eigvalsh(hessian)[0]}'
    )
  return hessian, semidefinite('noise_covariance', noise_covariance, len(hessian))


def _stable(name: str, value: Any, smoothness: float, momentum: float, nesterov: bool) -> float:
  border = largest_stable_rate(smoothness, momentum=momentum, nesterov=nesterov)
  if positive_number(name, value) >= border:
    raise InputError(f'{name} must lie in (0, {border}), where descent is stable, got {shown(value)}')
  return float(value)


def _symmetrised(matrix: Floats) -> Floats:
  return (matrix + matrix.T) / 2
