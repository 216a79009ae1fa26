r"""The gradient noise scale: the batch size that balances steps against examples, and the best rate for it.

For a step of size epsilon along a gradient of B examples, $E[L] = L - \epsilon|G|^2 + \frac{\epsilon^2}{2}
(G^\top H G + \mathrm{tr}(H\Sigma)/B)$, with true gradient G, Hessian H and covariance Sigma of one example's gradient.

Source: McCandlish, Kaplan, Amodei et al. 2018, An empirical model of large-batch training, arXiv 1812.06162.
"""

from typing import Any

import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, shown
from gdlab.theory.inputs import as_floats, positive, positive_number, semidefinite, symmetric
from gdlab.theory.linear import Floats


@checked
def simple_noise_scale(gradient: Any, covariance: Any) -> float:
  r"""$B_\text{simple} = \mathrm{tr}\,\Sigma / |G|^2$, the noise scale where the Hessian is a multiple of the identity.

  Example:
    >>> simple_noise_scale([3.0, 4.0], [[50.0, 0.0], [0.0, 50.0]])
    4.0

  Args:
    gradient: G, float[d], not zero.
    covariance: Sigma, float[d, d], symmetric, positive semidefinite.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: McCandlish et al. 2018, section 2.2.
  """
  slope, sigma = _checked(gradient, covariance)
  return float(np.trace(sigma) / (slope @ slope))


@checked('hessian')
def noise_scale(gradient: Any, covariance: Any, hessian: Any) -> float:
  r"""$B_\text{noise} = \mathrm{tr}(H\Sigma) / (G^\top H G)$.

  The batch size at which noise is half of the second-order term of the loss after a step.

  Args:
    gradient: G, float[d].
    covariance: Sigma, float[d, d], symmetric, positive semidefinite.
    hessian: H, float[d, d], symmetric, with positive curvature along G.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: McCandlish et al. 2018, section 2.2.
  """
  slope, sigma = _checked(gradient, covariance)
  curvature = symmetric('hessian', hessian, slope.size)
  return float(np.trace(curvature @ sigma)) / _curvature_along(slope, curvature)


@checked('hessian')
def largest_useful_rate(gradient: Any, hessian: Any) -> float:
  r"""The best step along the true gradient, $\epsilon_\text{max} = |G|^2 / (G^\top H G)$.

  Args:
    gradient: G, float[d].
    hessian: H, float[d, d], symmetric, with positive curvature along G.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: McCandlish et al. 2018, section 2.2.
  """
  slope = _gradient(gradient)
  return float(slope @ slope) / _curvature_along(slope, symmetric('hessian', hessian, slope.size))


@checked('batch_size', 'largest', 'scale')
def best_rate(batch_size: Any, largest: float, scale: float) -> Floats:
  r"""The best rate of one step for each batch size, $\epsilon(B) = \frac{\epsilon_\text{max}}{1 + B_\text{noise}/B}$.

  It is proportional to B for $B \ll B_\text{noise}$ and constant beyond; the loss falls by
  $\frac{|G|^2}{2} \epsilon(B)$.

  Args:
    batch_size: B > 0, a number or an array.
    largest: epsilon_max > 0.
    scale: B_noise > 0.

  Raises:
    InputError: an argument out of range.

  Source: McCandlish et al. 2018, section 2.2.
  """
  return positive_number('largest', largest) / (
    1 + positive_number('scale', scale) / positive('batch_size', batch_size)
  )


@checked('batch_size')
def steps_for_batch(batch_size: Any, fewest_steps: float, fewest_examples: float) -> Floats:
  r"""Steps to a goal with batches of B, $S = S_\text{min}(1 + B_\text{crit}/B)$; see `critical_batch_size`.

  Args:
    batch_size: B > 0, a number or an array.
    fewest_steps: S_min > 0, the limit of large batches.
    fewest_examples: E_min > 0, the limit of small batches.

  Raises:
    InputError: an argument out of range.

  Source: McCandlish et al. 2018, section 2.3.
  """
  critical = critical_batch_size(fewest_steps, fewest_examples)
  return fewest_steps * (1 + critical / positive('batch_size', batch_size))


@checked('batch_size')
def examples_for_batch(batch_size: Any, fewest_steps: float, fewest_examples: float) -> Floats:
  r"""Examples to a goal with batches of B: $E = B S = E_\text{min}(1 + B/B_\text{crit})$.

  Args:
    batch_size: B > 0, a number or an array.
    fewest_steps: S_min > 0.
    fewest_examples: E_min > 0.

  Raises:
    InputError: an argument out of range.

  Source: McCandlish et al. 2018, section 2.3.
  """
  critical = critical_batch_size(fewest_steps, fewest_examples)
  return fewest_examples * (1 + positive('batch_size', batch_size) / critical)


@checked('steps', 'fewest_steps', 'fewest_examples')
def examples_for_steps(steps: Any, fewest_steps: float, fewest_examples: float) -> Floats:
  r"""Examples to a goal within S steps, E from $(S/S_\text{min} - 1)(E/E_\text{min} - 1) = 1$.

  Args:
    steps: S > S_min, a number or an array.
    fewest_steps: S_min > 0.
    fewest_examples: E_min > 0.

  Raises:
    InputError: an argument out of range.

  Source: McCandlish et al. 2018, section 2.3.
  """
  count, fewest = positive('steps', steps), positive_number('fewest_steps', fewest_steps)
  if (count <= fewest).any():
    raise InputError(f'steps must be above fewest_steps={fewest}, got {shown(steps)}')
  return positive_number('fewest_examples', fewest_examples) * (1 + 1 / (count / fewest - 1))


@checked('fewest_steps', 'fewest_examples')
def critical_batch_size(fewest_steps: float, fewest_examples: float) -> float:
  r"""$B_\text{crit} = E_\text{min}/S_\text{min}$, where steps and examples are both twice their minimum.

  Args:
    fewest_steps: S_min > 0.
    fewest_examples: E_min > 0.

  Raises:
    InputError: an argument out of range.

  Source: McCandlish et al. 2018, section 2.3.
  """
  return positive_number('fewest_examples', fewest_examples) / positive_number('fewest_steps', fewest_steps)


def _checked(gradient: Any, covariance: Any) -> tuple[Floats, Floats]:
  slope = _gradient(gradient)
  sigma = semidefinite('covariance', covariance, slope.size)
  return slope, sigma


def _gradient(gradient: Any) -> Floats:
  slope = as_floats('gradient', gradient)
  if slope.ndim != 1 or not slope.any():
    raise InputError(f'gradient must have shape [d] and not be zero, got {shown(gradient)}')
  return slope


def _curvature_along(slope: Floats, curvature: Floats) -> float:
  along = float(slope @ curvature @ slope)
  if along <= 0:
    raise InputError(f'hessian must have positive curvature along the gradient, got G^T H G = {along}')
  return along
