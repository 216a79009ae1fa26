r"""Exact second moments of descent on a quadratic with additive gradient noise, step by step.

$f(x) = \frac12 \sum_i h_i x_i^2$; one example's gradient is $h_i x_i + \xi_i$ with noise of mean zero over the data
and variance $\sigma_i^2$, independent of x. Everything here is exact for every rate, stable or not.
"""

from typing import Any, NamedTuple

import numpy as np

from gdlab.core.argument_checks import real
from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count
from gdlab.theory.inputs import as_floats, nonnegative_number, per_direction, semidefinite, symmetric
from gdlab.theory.linear import Floats, System, momentum_system
from gdlab.theory.minibatch import mean_variance


class Moments(NamedTuple):
  """Second moments of position x and momentum m, one number for every direction; Optax's `trace` is m."""

  position: Floats  # float[..., d], E[x^2]
  cross: Floats  # float[..., d], E[x m]
  momentum: Floats  # float[..., d], E[m^2]


@checked('num_examples', 'batch_size')
def batch_sizes_of_epoch(num_examples: int, batch_size: int, drop_remainder: bool = False) -> list[int]:
  """The sizes of the batches of one pass over N examples in batches of B: the last may be short.

  Args:
    num_examples: N >= 1.
    batch_size: B in [1, N].
    drop_remainder: leave out a short last batch.

  Raises:
    InputError: if either is out of range.
  """
  check_count('num_examples', num_examples)
  check_count('batch_size', batch_size, maximum=num_examples)
  full, rest = divmod(num_examples, batch_size)
  return [batch_size] * full + ([rest] if rest and not drop_remainder else [])


@checked('eigenvalues', 'noise', 'num_steps', 'initial')
def second_moments(
  eigenvalues: Any,
  noise: Any,
  *,
  learning_rate: Any,
  num_steps: int,
  batch_size: int = 1,
  momentum: float = 0.0,
  nesterov: bool = False,
  initial: Any = 1.0,
  num_examples: int | None = None,
  drop_remainder: bool = False,
  subsets_of: int | None = None,
) -> Moments:
  r"""The second moments of plain descent, heavy ball or Nesterov after every step, exactly.

  With state $s = (x, m)$ and $s_{t+1} = A s_t + b\,\bar\xi_t$ (Optax's convention, see `momentum_system`), noise
  drawn afresh at every step gives

  $$E[s s^\top] \leftarrow A\,E[s s^\top]\,A^\top + \frac{\sigma^2}{B}\, b b^\top.$$

  Reshuffled, batches j and k of one epoch have
  $\mathrm{Cov}(\bar\xi_j, \bar\xi_k) = \frac{\sigma^2}{N-1}\left(\frac{N}{B_j}\delta_{jk} - 1\right)$, and different
  epochs are independent. So within an epoch, with P the recursion above for independent noise of variance
  $\frac{\sigma^2 N}{(N-1) B_j}$ and the response $v \leftarrow A v + b$, v = 0 at the epoch's start, to noise that
  is the same at every step,

  $$E[s s^\top] = P - \frac{\sigma^2}{N-1} v v^\top.$$

  At the ends of epochs the two nearly cancel for small rates: the difference is exact to some $10^{-16}$ of P.
  `stationary_moments` has no such cancellation.

  Example:
    >>> found = second_moments([1.0, 0.1], 0.5, learning_rate=0.1, num_steps=100, batch_size=4)
    >>> found.position.shape
    (101, 2)

  Args:
    eigenvalues: h, float[d], of the Hessian; any sign.
    noise: sigma^2 >= 0, the variance of one example's gradient, for all directions or each, float[d]; of the
      population (divided by N) where num_examples is given.
    learning_rate: alpha, a number, or a schedule float[num_steps].
    num_steps: T >= 0.
    batch_size: B >= 1.
    momentum: beta in [0, 1); the momentum starts at 0.
    nesterov: Nesterov's momentum instead of heavy ball.
    initial: E[x_0^2] >= 0, for all directions or each, float[d].
    num_examples: N >= B, for batches that are reshuffled every epoch as by `gdlab.sampling.reshuffle`, the last
      batch of an epoch short where B does not divide N; None for independent draws.
    drop_remainder: leave the short batch out.
    subsets_of: N >= B, for batches that are drawn independently, each uniform among the subsets of B of N examples: of
      variance $\frac{\sigma^2}{B}\frac{N-B}{N-1}$ (`mean_variance`); not together with num_examples.

  Returns:
    Moments with arrays float[T + 1, d].

  Raises:
    InputError: an argument out of range or of the wrong shape.
  """
  h = as_floats('eigenvalues', eigenvalues)
  if h.ndim != 1 or h.size == 0:
    raise InputError(f'eigenvalues must have shape [d] with d >= 1, got {h.shape}')
  variance, squares = per_direction('noise', noise, h.size), per_direction('initial', initial, h.size)
  check_count('num_steps', num_steps, minimum=0)
  rates = _schedule(learning_rate, num_steps)
  variance = fresh_variance(variance, batch_size, num_examples, subsets_of)
  sizes = [1]
  if num_examples is not None:
    sizes = batch_sizes_of_epoch(num_examples, batch_size, drop_remainder)
  independent, shared = _noise_parts(variance, sizes, num_examples)

  sides = momentum_system(h, 0.0, momentum=momentum, nesterov=nesterov)
  moment = np.zeros((h.size, 2, 2))
  moment[:, 0, 0] = squares
  response = np.zeros((h.size, 2))
  found = [moment]
  system = sides
  for step in range(num_steps):
    if step == 0 or rates[step] != rates[step - 1]:
      system = momentum_system(h, rates[step], momentum=momentum, nesterov=nesterov)
    update = step % len(sizes)
    if update == 0:
      moment, response = found[-1], np.zeros((h.size, 2))
    moment, response = advance(system, moment, response, independent[update])
    found.append(moment - shared[:, None, None] * outer(response))
  path = np.stack(found)
  return Moments(path[..., 0, 0], path[..., 0, 1], path[..., 1, 1])


def fresh_variance(
  variance: Floats, batch_size: int, num_examples: int | None, subsets_of: int | None
) -> Floats:
  """The variance of a batch's mean where batches are independent; that of one example where they are reshuffled."""
  check_count('batch_size', batch_size)
  if num_examples is None:
    if subsets_of is not None:
      check_count('subsets_of', subsets_of)
    return variance * mean_variance(1.0, batch_size, subsets_of)
  if subsets_of is not None:
    raise InputError(f'subsets_of must be None with num_examples={num_examples}, got {subsets_of}')
  return variance


def advance(system: System, moment: Floats, response: Floats, variance: Any) -> tuple[Floats, Floats]:
  """One step of a second moment float[..., 2, 2] under fresh noise, and of the response to constant noise."""
  matrix = system.matrix
  pushed = np.asarray(variance)[..., None, None] * outer(system.noise)
  moved = matrix @ moment @ np.swapaxes(matrix, -1, -2) + pushed
  return moved, (matrix @ response[..., None])[..., 0] + system.noise


def outer(vector: Floats) -> Floats:
  """The matrix v v^T of the last axis."""
  return vector[..., :, None] * vector[..., None, :]


def _noise_parts(variance: Floats, sizes: list[int], num_examples: int | None) -> tuple[list[Floats], Floats]:
  """The variance of the independent part of each batch of an epoch, and that of the shared part."""
  if num_examples is None:
    return [variance], np.zeros_like(variance)
  # One example alone has no noise: its mean is zero.
  shared = variance / (num_examples - 1) if num_examples > 1 else np.zeros_like(variance)
  return [shared * num_examples / size for size in sizes], shared


def _schedule(learning_rate: Any, num_steps: int) -> Floats:
  rates = as_floats('learning_rate', learning_rate)
  if rates.shape not in ((), (num_steps,)):
    raise InputError(f'learning_rate must be a number or have shape ({num_steps},), got {rates.shape}')
  return np.broadcast_to(rates, (num_steps,))


@checked('hessian', 'noise_covariance', 'num_steps', 'batch_size', 'initial', learning_rate=real(minimum=0))
def covariance_path(
  hessian: Any,
  noise_covariance: Any,
  *,
  learning_rate: float,
  num_steps: int,
  batch_size: int = 1,
  initial: Any = None,
) -> Floats:
  r"""The full second moment $E[x x^\top]$ of plain descent after every step, for noise of any covariance.

  $S \leftarrow (I - \alpha H) S (I - \alpha H) + \frac{\alpha^2}{B} \Sigma$, draws with replacement.

  Args:
    hessian: H, float[d, d], symmetric.
    noise_covariance: Sigma, float[d, d], symmetric, positive semidefinite, of one example's gradient.
    learning_rate: alpha >= 0, constant.
    num_steps: T >= 0.
    batch_size: B >= 1.
    initial: E[x_0 x_0^T], float[d, d], positive semidefinite; the identity by default.

  Returns:
    float[T + 1, d, d].

  Raises:
    InputError: an argument out of range or of the wrong shape.
  """
  hessian = symmetric('hessian', hessian)
  size = len(hessian)
  sigma = semidefinite('noise_covariance', noise_covariance, size)
  alpha = nonnegative_number('learning_rate', learning_rate)
  check_count('num_steps', num_steps, minimum=0)
  check_count('batch_size', batch_size)
  found = [np.eye(size) if initial is None else semidefinite('initial', initial, size)]
  kept = np.eye(size) - alpha * hessian
  for _ in range(num_steps):
    found.append(kept @ found[-1] @ kept + alpha**2 / batch_size * sigma)
  return np.stack(found)
