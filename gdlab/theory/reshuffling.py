r"""The error floors of descent at a constant rate, with replacement and reshuffled.

With replacement the floor of $E\|x - x^*\|^2$ is of first order in the rate. Reshuffled it is of second order, through
a bias of the mean, where the examples' Hessians and gradients at the minimum are correlated; for noise independent of
x (equal Hessians) there is no bias and the floor is of third order.
"""

from typing import Any

import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count
from gdlab.theory.inputs import as_floats, nonnegative_number, positive_number, symmetric
from gdlab.theory.linear import Floats
from gdlab.theory.moments import batch_sizes_of_epoch
from gdlab.theory.stationary import stationary_moments


@checked('eigenvalues')
def loss_floor(
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
) -> float:
  r"""The stationary loss $\frac12 \sum_i h_i E[x_i^2]$ of descent on a quadratic with additive noise, exactly.

  For small rates it is $\frac{\alpha}{4B} \sum_i \sigma_i^2$ for plain descent with replacement, and
  $\frac{\alpha^3 K (K^2 - 1)}{48 (N - 1)} \sum_i h_i^2\sigma_i^2$ reshuffled, at the ends of epochs of K = N/B updates.
  Where B does not divide N the examples of the short last batch have more weight than others, the noise of an epoch
  does not sum to 0, and the floor is of first order in the rate again; also with `drop_remainder`.

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

  Raises:
    InputError: an argument out of range.
  """
  found = stationary_moments(
    eigenvalues,
    noise,
    learning_rate=learning_rate,
    batch_size=batch_size,
    momentum=momentum,
    nesterov=nesterov,
    num_examples=num_examples,
    drop_remainder=drop_remainder,
    subsets_of=subsets_of,
  )
  return float(as_floats('eigenvalues', eigenvalues) @ found.position / 2)


@checked('hessian', 'product', 'learning_rate', 'num_examples', 'batch_size')
def reshuffled_bias(
  hessian: Any, product: Any, *, learning_rate: float, num_examples: int, batch_size: int = 1
) -> Floats:
  r"""The stationary mean of reshuffled descent relative to the minimum, to first order in the rate.

  At the ends of epochs of K updates of B examples each

  $$E[x] - x^* \approx -\frac{\alpha}{2}\,\frac{K - 1}{N - 1}\, H^{-1}\, \frac1N \sum_{i=1}^N H_i g_i$$

  with the examples' Hessians $H_i$ and gradients $g_i$ at the minimum: two different batches of one epoch are
  negatively correlated, so that the mean of $\bar H_k \bar g_j$ over $j < k$ is not 0. The square of the bias is the
  leading term of the floor of $E\|x - x^*\|^2$ in $\alpha$. With replacement there is no bias on a quadratic.

  Args:
    hessian: H, float[d, d], the mean of the H_i, positive definite.
    product: float[d], the mean of H_i g_i; for linear regression of x_i |x_i|^2 times the residual.
    learning_rate: alpha > 0.
    num_examples: N >= 2.
    batch_size: B in [1, N], a divisor of N.

  Returns:
    float[d].

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: the expansion of one epoch's map to second order in alpha; compare HaoChen and Sra 2019, arXiv 1806.10077.
  """
  curvature, vector = symmetric('hessian', hessian), as_floats('product', product)
  if vector.shape != (len(curvature),):
    raise InputError(f'product must have shape ({len(curvature)},), got {vector.shape}')
  if np.linalg.eigvalsh(curvature)[0] <= 0:
    raise InputError(
      f'hessian must be positive definite, got least eigenvalue {np.linalg.eigvalsh(curvature)[0]}'
    )
  check_count('num_examples', num_examples, minimum=2)
  sizes = batch_sizes_of_epoch(num_examples, batch_size)
  if sizes[-1] != batch_size:
    raise InputError(f'batch_size must divide num_examples={num_examples}, got {batch_size}')
  rate = positive_number('learning_rate', learning_rate)
  return -rate / 2 * (len(sizes) - 1) / (num_examples - 1) * np.linalg.solve(curvature, vector)


@checked('noise')
def replacement_bound(
  steps: int,
  *,
  learning_rate: float,
  smoothness: float,
  strong_convexity: float,
  noise: float,
  start: float,
) -> float:
  r"""A bound on $E\|x_t - x^*\|^2$ for single examples drawn with replacement.

  $$(1 - \alpha\mu)^t \|x_0 - x^*\|^2 + \frac{2\alpha\sigma_*^2}{\mu}, \qquad \alpha \le \frac{1}{2L}.$$

  Args:
    steps: t >= 0 updates.
    learning_rate: alpha in (0, 1/(2L)].
    smoothness: L, of every example's loss; all are convex.
    strong_convexity: mu in (0, L], of the mean loss.
    noise: sigma_*^2, the mean over the examples of the squared norm of the gradient at the minimum.
    start: |x_0 - x^*|^2.

  Raises:
    InputError: an argument out of range.

  Source: Gower et al. 2019, arXiv 1901.09401, theorem 3.1.
  """
  left, floor = _bound_parts(steps, learning_rate, smoothness, strong_convexity, start, 0.5)
  return left + floor * nonnegative_number('noise', noise)


@checked('epochs', 'noise', 'num_examples')
def reshuffled_bound(
  epochs: int,
  *,
  learning_rate: float,
  smoothness: float,
  strong_convexity: float,
  noise: float,
  start: float,
  num_examples: int,
) -> float:
  r"""A bound on $E\|x - x^*\|^2$ after whole epochs of single examples, reshuffled or shuffled once.

  $$(1 - \alpha\mu)^{NT} \|x_0 - x^*\|^2 + \frac{\alpha^2 L N \sigma_*^2}{2\mu}, \qquad \alpha \le \frac1L.$$

  Args:
    epochs: T >= 0.
    learning_rate: alpha in (0, 1/L].
    smoothness: L, of every example's loss.
    strong_convexity: mu in (0, L], of every example's loss.
    noise: sigma_*^2, the mean over the examples of the squared norm of the gradient at the minimum.
    start: |x_0 - x^*|^2.
    num_examples: N >= 2.

  Raises:
    InputError: an argument out of range.

  Source: Mishchenko, Khaled and Richtarik 2020, arXiv 2006.05988, theorem 1 and proposition 1.
  """
  check_count('epochs', epochs, minimum=0)
  check_count('num_examples', num_examples, minimum=2)
  steps = epochs * num_examples
  left, floor = _bound_parts(steps, learning_rate, smoothness, strong_convexity, start, 1.0)
  return left + floor * learning_rate * smoothness * num_examples / 4 * nonnegative_number('noise', noise)


def _bound_parts(
  steps: int, learning_rate: float, smoothness: float, strong_convexity: float, start: float, largest: float
) -> tuple[float, float]:
  """The part of the bound that remains of the start, and 2 alpha / mu."""
  check_count('steps', steps, minimum=0)
  alpha, large = positive_number('learning_rate', learning_rate), positive_number('smoothness', smoothness)
  small = positive_number('strong_convexity', strong_convexity)
  if alpha * large > largest:
    raise InputError(f'learning_rate must lie in (0, {largest / large}], got {learning_rate}')
  if small > large:
    raise InputError(f'strong_convexity must be at most smoothness={large}, got {small}')
  return (1 - alpha * small) ** steps * nonnegative_number('start', start), 2 * alpha / small
