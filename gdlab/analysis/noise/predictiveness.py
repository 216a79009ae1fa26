"""How well the gradient at a point predicts the loss and the gradient along its direction."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdlab.analysis.blocks import BLOCK, Losses, full_loss_and_gradient, training_losses
from gdlab.core.arguments import checked
from gdlab.core.dtypes import widened
from gdlab.core.errors import InputError, shown
from gdlab.core.types import Array, Key, Problem, PyTree


class Predictiveness(NamedTuple):
  r"""Loss and gradient along the gradient direction; S steps.

  Attributes:
    loss: float[], $f(\theta)$.
    grad_norm: float[], $|g|$, $g = \nabla f(\theta)$.
    losses: float[S], $f(\theta - \eta_s g)$.
    gradient_changes: float[S], $|\nabla f(\theta - \eta_s g) - g|$.
    cosines: float[S], of the angle between the two gradients; NaN where one of them is zero.
    smoothness: float[S], the change of the gradient over the length of the step, $|\nabla f(\theta - \eta_s g) - g| /
      (\eta_s |g|)$; at most L where f is L-smooth, and NaN where g is zero. Its maximum over s is the "effective
      beta-smoothness" of the paper.
  """

  loss: Array
  grad_norm: Array
  losses: Array
  gradient_changes: Array
  cosines: Array
  smoothness: Array


@checked
def gradient_predictiveness(
  problem: Problem,
  params: PyTree,
  model_state: PyTree,
  key: Key,
  steps: Array,
  *,
  block_size: int = BLOCK,
  losses: Losses = training_losses,
) -> Predictiveness:
  r"""The loss and the change of the gradient at $\theta - \eta_s g$, for a range of steps along the gradient.

  Santurkar et al. report the range of the losses and the largest change of the gradient over steps from half to four
  times the learning rate: the smaller they are, the better the gradient predicts. Computed over the whole training
  set; with BatchNorm the training loss depends on `block_size`. Costs S + 1
  gradient-equivalents and the memory of one block. As a probe:
  `lambda problem, state: gradient_predictiveness(problem, state.params, state.model_state, state.key, steps).losses`.

  Args:
    problem: whose training examples are used.
    params: the parameters theta; half precision is widened first, as a small step would be lost in rounding.
    model_state: the model's other state, `()` if it has none; it is not advanced.
    key: randomness of the forward pass; the same at every step.
    steps: float[S], the $\eta_s$, multiples of the gradient like a learning rate; not 0.
    block_size: examples at once, >= 1, static under jit.
    losses: which loss, see `gdlab.analysis.blocks`.

  Raises:
    InputError: if `steps` is not one-dimensional, is empty or holds 0 or a number that is not finite, or `block_size`
      is not a whole number >= 1.

  Source: Santurkar, Tsipras, Ilyas and Madry 2018, How does batch normalization help optimization?,
  arXiv 1805.11604, section 3.1 and figure 4.
  """
  steps = jnp.asarray(steps, jnp.result_type(float))
  if steps.ndim != 1 or not steps.size:
    raise InputError(f'steps must have the shape [S], S >= 1, got {steps.shape}')
  if not isinstance(steps, jax.core.Tracer) and not (jnp.isfinite(steps) & (steps != 0)).all():
    raise InputError(f'steps must be finite and not 0, got {shown(steps.tolist())}')

  params = widened(params)
  loss_and_gradient = full_loss_and_gradient(problem, model_state, key, block_size=block_size, losses=losses)
  loss, gradient = loss_and_gradient(params)
  norm = optax.tree.norm(gradient)

  def look(step: Array) -> tuple[Array, Array, Array]:
    moved = optax.tree.cast_like(optax.tree.add_scale(params, -step, gradient), params)
    there, other = loss_and_gradient(moved)
    change = optax.tree.norm(optax.tree.sub(other, gradient))
    lengths = norm * optax.tree.norm(other)
    return there, change, optax.tree.vdot(gradient, other) / jnp.where(lengths > 0, lengths, jnp.nan)

  there, changes, cosines = jax.lax.map(look, steps)
  moved = jnp.abs(steps) * norm
  return Predictiveness(loss, norm, there, changes, cosines, changes / jnp.where(moved > 0, moved, jnp.nan))
