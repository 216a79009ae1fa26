"""Keskar's sharpness: the highest loss in a small box about the parameters, in all directions or a random subspace."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree

from gdlab.analysis.blocks import BLOCK, Losses, evaluation_losses, full_loss_and_gradient
from gdlab.core.arguments import checked
from gdlab.core.dtypes import widened
from gdlab.core.errors import InputError, check_count, check_real, shown
from gdlab.core.types import Array, Key, Problem, PyTree

_START = (
  0.01  # of the box: where the search begins, for at a stationary point it could not begin at the centre
)
_SCALE = 1e-6  # of the largest slope: a coordinate whose slope is above this share goes to its bound at once


class KeskarSharpness(NamedTuple):
  """The sharpness of a point, as numbers on the host.

  Attributes:
    sharpness: $100 (f_{max} - f) / (1 + f)$, in percent.
    loss: f, at the parameters.
    highest: f_max, the highest loss found, at least f; infinite if the loss was not finite somewhere in the box.
    evaluations: the number of evaluations of the loss and its gradient.
  """

  sharpness: float
  loss: float
  highest: float
  evaluations: int


@checked('epsilon', 'subspace', 'num_iterations', 'num_starts', 'block_size')
def keskar_sharpness(
  problem: Problem,
  params: PyTree,
  model_state: PyTree,
  key: Key,
  *,
  epsilon: float = 1e-3,
  subspace: int | None = None,
  num_iterations: int = 10,
  num_starts: int = 1,
  block_size: int = BLOCK,
  losses: Losses = evaluation_losses,
) -> KeskarSharpness:
  r"""The sharpness of Keskar et al., by bounded quasi-Newton ascent. A host function: it runs SciPy's L-BFGS-B.

  $$\phi = 100\, \frac{\max_{z \in C} f(\theta + Az) - f(\theta)}{1 + f(\theta)}, \qquad
  C = \{ z : |z_i| \le \epsilon (|(A^+\theta)_i| + 1) \},$$

  with A the identity, or a random basis of a subspace (orthonormal, so that $A^+ = A^\top$). The search is for a local
  maximum, from a random point within 1 % of the box. It is scaled by the box and by the slope at the start, as the
  solver's own tolerances would stop it at once where the loss is flat. Where the loss is convex every iteration leads
  to the corner that the slope points to. For a quadratic with a diagonal Hessian that is the maximum; for other convex
  functions it may be a lower corner, and finding the highest is NP-hard: of several starts the best is kept.

  It is not scale-invariant: rescaling a ReLU layer changes the sharpness but not the function (Dinh et al. 2017, arXiv
  1703.04933); `adaptive_sharpness` is. Costs one gradient-equivalent per evaluation, usually 1 to 2 times
  `num_iterations` in all, and with a subspace the memory of that many copies of the parameters. It cannot run inside
  a compiled function and so cannot be a probe: record the parameters
  (`lambda problem, state: ravel_pytree(state.params)[0]`) and measure afterwards, or use `sam_sharpness` as a probe.

  Args:
    problem: whose training examples are used.
    params: the parameters theta; half precision is widened first, as a small perturbation would be lost in rounding.
    model_state: the model's other state, `()` if it has none; it is not advanced.
    key: for the subspace and the starts, and the randomness of the forward pass for `training_losses`.
    epsilon: > 0; 1e-3 and 5e-4 in the paper.
    subspace: its dimension (100 in the paper), at most that of the parameters; None for all directions.
    num_iterations: of the solver, >= 1; 10 in the paper.
    num_starts: >= 1.
    block_size: examples at once, >= 1.
    losses: which loss, see `gdlab.analysis.blocks`.

  Raises:
    InputError: an argument out of range, or a loss f <= -1 at the parameters.

  Source: Keskar, Mudigere, Nocedal, Smelyanskiy and Tang 2017, On large-batch training for deep learning,
  arXiv 1609.04836, metric 2.1; Byrd, Lu, Nocedal and Zhu 1995, SIAM Journal on Scientific Computing 16 (the solver).
  """
  check_real('epsilon', epsilon, above=0)
  check_count('num_iterations', num_iterations)
  check_count('num_starts', num_starts)
  check_count('block_size', block_size)
  params = widened(params)
  point = ravel_pytree(params)[0]
  if not jnp.isfinite(point).all():
    raise InputError(f'params must be finite, got {shown(params)}')
  if subspace is not None:
    check_count('subspace', subspace, maximum=point.size)
  basis_key, start_key, loss_key = jax.random.split(key, 3)
  basis = None if subspace is None else _random_basis(basis_key, point.size, subspace, point.dtype)
  coordinates = np.asarray(point if basis is None else basis.T @ point, np.float64)
  bounds = epsilon * (np.abs(coordinates) + 1)

  def look(scaled: np.ndarray) -> tuple[float, np.ndarray]:
    value, slope = _look(
      problem, params, model_state, loss_key, basis, jnp.asarray(bounds * scaled), block_size, losses
    )
    return float(value), np.asarray(slope, np.float64) * bounds

  loss = look(np.zeros(bounds.size))[0]
  if loss <= -1:
    raise InputError(
      f'problem must have a loss above -1 at params, for the sharpness is relative to 1 + f, got {loss}'
    )
  seed = jax.random.bits(start_key, (4,)).tolist()
  starts = _START * np.random.default_rng(seed).uniform(-1, 1, (num_starts, bounds.size))
  climbs = [_climb(look, start, num_iterations) for start in starts]
  highest = max(loss, *(height for height, _ in climbs))
  evaluations = 1 + sum(count for _, count in climbs)
  return KeskarSharpness(100 * (highest - loss) / (1 + loss), loss, highest, evaluations)


def _climb(
  look: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, num_iterations: int
) -> tuple[float, int]:
  """The highest value found in the box [-1, 1]^p from a start, and the number of evaluations."""
  first, slope = look(start)
  scale = _SCALE * np.abs(slope).max()
  if not scale > 0:  # level, or not a number
    return (first if np.isfinite(first) else np.inf), 1
  heights = [first]

  def descend(scaled: np.ndarray) -> tuple[float, np.ndarray]:
    value, slope = look(scaled)
    heights.append(value)
    if not (np.isfinite(value) and np.isfinite(slope).all()):
      raise _NotFinite
    return (first - value) / scale, -slope / scale

  try:
    scipy.optimize.minimize(
      descend,
      start,
      jac=True,
      method='L-BFGS-B',
      bounds=[(-1.0, 1.0)] * start.size,
      options={'maxiter': num_iterations, 'ftol': 0.0, 'gtol': 0.0},
    )
  except _NotFinite:
    return np.inf, len(heights)
  return max(heights), len(heights)


class _NotFinite(Exception):
  """Ends the search: a loss that is not finite counts as the highest."""


def _random_basis(key: Key, size: int, dimension: int, dtype: jnp.dtype) -> Array:
  """An orthonormal basis float[size, dimension] of a random subspace."""
  return jnp.linalg.qr(jax.random.normal(key, (size, dimension), dtype))[0]


@functools.partial(jax.jit, static_argnums=(6, 7))
def _look(
  problem: Problem,
  params: PyTree,
  model_state: PyTree,
  key: Key,
  basis: Array | None,
  shift: Array,
  block_size: int,
  losses: Losses,
) -> tuple[Array, Array]:
  """The loss at the parameters moved by A z, and its gradient in z."""
  point, unravel = ravel_pytree(params)
  shift = shift.astype(point.dtype)
  moved = unravel(point + (shift if basis is None else basis @ shift))
  function = full_loss_and_gradient(problem, model_state, key, block_size=block_size, losses=losses)
  value, gradient = function(moved)
  slope = ravel_pytree(gradient)[0]
  return value, slope if basis is None else slope @ basis
