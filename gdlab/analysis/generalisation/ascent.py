"""SAM-type sharpness: the largest rise of the loss in a ball, plain or scaled by the parameters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdlab.analysis.blocks import BLOCK, Losses, evaluation_losses, full_loss, full_loss_and_gradient
from gdlab.core.arguments import checked
from gdlab.core.dtypes import widened
from gdlab.core.errors import check_count, check_real
from gdlab.core.types import Array, Key, Problem, PyTree


class BallSharpness(NamedTuple):
  """The rise of the loss in a ball.

  Attributes:
    sharpness: float[], the largest loss found minus that at the centre; 0 where none is higher.
    loss: float[], at the centre.
    perturbation: pytree like the parameters, in float32 or wider: the point of the largest loss minus the parameters.
  """

  sharpness: Array
  loss: Array
  perturbation: PyTree


@checked
def sam_sharpness(
  problem: Problem,
  params: PyTree,
  model_state: PyTree,
  key: Key,
  *,
  radius: float = 0.05,
  num_steps: int = 1,
  block_size: int = BLOCK,
  losses: Losses = evaluation_losses,
) -> BallSharpness:
  r"""$\max_{|\delta| \le \rho} f(\theta + \delta) - f(\theta)$, by one or more steps of ascent.

  The perturbation is $\rho\, g / |g|$ with the gradient at theta, as in SAM, and in each further step with the gradient
  at the perturbed point; the highest point is kept. Where the gradient at theta is zero the first direction is random.
  On a convex quadratic the loss rises at every step, and about its minimum the steps are power iteration: they converge
  to $\frac{\rho^2}{2} \lambda_\text{max}$. It is always a lower bound of the maximum.

  It is not scale-invariant: rescaling a ReLU layer changes the sharpness but not the function (Dinh et al. 2017, arXiv
  1703.04933); see `adaptive_sharpness`. Costs `num_steps` gradients over the training set and one loss, 4/3
  gradient-equivalents by default. As a probe:
  `lambda problem, state: sam_sharpness(problem, state.params, state.model_state, state.key).sharpness`.

  Args:
    problem: whose training examples are used.
    params: the parameters theta; half precision is widened first, as a small perturbation would be lost in rounding.
    model_state: the model's other state, `()` if it has none; it is not advanced.
    key: for the random direction, and the randomness of the forward pass for `training_losses`.
    radius: rho > 0.
    num_steps: >= 1, static under jit.
    block_size: examples at once, >= 1, static under jit.
    losses: which loss, see `gdlab.analysis.blocks`.

  Raises:
    InputError: an argument out of range.

  Source: Foret, Kleiner, Mobahi and Neyshabur 2021, Sharpness-aware minimization, arXiv 2010.01412.
  """
  params = widened(params)
  ones = optax.tree.ones_like(params)
  return _climb(problem, params, model_state, key, ones, radius, num_steps, block_size, losses)


@checked
def adaptive_sharpness(
  problem: Problem,
  params: PyTree,
  model_state: PyTree,
  key: Key,
  *,
  radius: float = 0.5,
  num_steps: int = 1,
  block_size: int = BLOCK,
  losses: Losses = evaluation_losses,
) -> BallSharpness:
  r"""$\max_{|T^{-1}\delta| \le \rho} f(\theta + \delta) - f(\theta)$ with $T = \operatorname{diag}|\theta|$.

  The ball is scaled by each parameter's size. So the sharpness is invariant to positive rescalings of the parameters
  that leave the function unchanged: one ReLU layer multiplied and the next one divided by the same number. The
  perturbation is $\rho\, T^2 g / |Tg|$, and further steps are as for `sam_sharpness`; a parameter that is 0 is not
  perturbed. (For stability in training Kwon et al. add 0.01 to $|\theta|$ and may leave biases out of T, either of
  which loses the invariance; a measurement does not need it.) Costs as much as `sam_sharpness`.

  Args:
    problem: as for `sam_sharpness`.
    params: as for `sam_sharpness`.
    model_state: as for `sam_sharpness`.
    key: as for `sam_sharpness`.
    radius: rho > 0, relative to the parameters.
    num_steps: as for `sam_sharpness`.
    block_size: as for `sam_sharpness`.
    losses: as for `sam_sharpness`.

  Raises:
    InputError: an argument out of range.

  Source: Kwon, Kim, Park and Choi 2021, ASAM: adaptive sharpness-aware minimization, arXiv 2102.11600.
  """
  params = widened(params)
  sizes = jax.tree.map(jnp.abs, params)
  return _climb(problem, params, model_state, key, sizes, radius, num_steps, block_size, losses)


def _climb(
  problem: Problem,
  params: PyTree,
  model_state: PyTree,
  key: Key,
  stretch: PyTree,
  radius: float,
  num_steps: int,
  block_size: int,
  losses: Losses,
) -> BallSharpness:
  check_real('radius', radius, above=0)
  num_steps = check_count('num_steps', num_steps)
  start_key, loss_key = jax.random.split(key)
  loss_and_gradient = full_loss_and_gradient(
    problem, model_state, loss_key, block_size=block_size, losses=losses
  )
  loss_at = full_loss(problem, model_state, loss_key, block_size=block_size, losses=losses)

  def at(perturbation: PyTree) -> PyTree:
    return optax.tree.cast_like(optax.tree.add(params, perturbation), params)

  def edge(slope: PyTree) -> PyTree:
    """The point of the ball that is furthest along T g, given T g."""
    norm = optax.tree.norm(slope)
    scaled = optax.tree.scale(radius / jnp.where(norm > 0, norm, 1), slope)
    return optax.tree.mul(stretch, scaled)

  loss, gradient = loss_and_gradient(params)
  slope = optax.tree.mul(stretch, gradient)
  random = optax.tree.mul(jax.tree.map(jnp.sign, stretch), optax.tree.random_like(start_key, slope))
  is_flat = optax.tree.norm(slope) == 0
  first = edge(jax.tree.map(lambda a, b: jnp.where(is_flat, a, b), random, slope))

  def keep(best: tuple[Array, PyTree], value: Array, perturbation: PyTree) -> tuple[Array, PyTree]:
    # A NaN counts as higher than any number: it must not pass for flat.
    higher = ~(value <= best[0]) & ~jnp.isnan(best[0])
    return jax.tree.map(lambda new, old: jnp.where(higher, new, old), (value, perturbation), best)

  def step(
    carry: tuple[PyTree, tuple[Array, PyTree]], _: None
  ) -> tuple[tuple[PyTree, tuple[Array, PyTree]], None]:
    perturbation, best = carry
    value, gradient = loss_and_gradient(at(perturbation))
    return (edge(optax.tree.mul(stretch, gradient)), keep(best, value, perturbation)), None

  reached = (first, (loss, optax.tree.zeros_like(first)))
  if num_steps > 1:
    reached, _ = jax.lax.scan(step, reached, None, length=num_steps - 1)
  last, best = reached
  highest, perturbation = keep(best, loss_at(at(last)), last)
  return BallSharpness(highest - loss, loss, perturbation)
