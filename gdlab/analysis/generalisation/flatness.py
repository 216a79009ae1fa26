"""Flatness: how much the loss rises on average under a random perturbation of the parameters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdlab.analysis.blocks import BLOCK, Losses, evaluation_losses, full_loss
from gdlab.core.arguments import checked
from gdlab.core.dtypes import widened
from gdlab.core.errors import check_count, check_real
from gdlab.core.types import Array, Key, Problem, PyTree


class Flatness(NamedTuple):
  """The mean rise of the loss under random perturbation.

  Attributes:
    rise: float[], unbiased; it can be below 0.
    standard_error: float[], over the pairs of perturbations.
    loss: float[], without perturbation.
  """

  rise: Array
  standard_error: Array
  loss: Array


@checked('sigma', 'num_pairs')
def flatness(
  problem: Problem,
  params: PyTree,
  model_state: PyTree,
  key: Key,
  *,
  sigma: float = 0.01,
  relative: bool = False,
  num_pairs: int = 16,
  block_size: int = BLOCK,
  losses: Losses = evaluation_losses,
) -> Flatness:
  r"""$E f(\theta + \sigma s \odot \xi) - f(\theta)$ over Gaussian $\xi \sim N(0, I)$.

  With $s = 1$ it is $\frac{\sigma^2}{2} \operatorname{tr} H$ to second order, and exactly on a quadratic; with
  $s = |\theta|$ (`relative`) it is invariant to rescaling of ReLU layers. Every perturbation is taken with both signs,
  so that the first-order term cancels. Costs one loss and two for every pair, each about 1/3 gradient-equivalent: 11 by
  default. As a probe:
  `lambda problem, state: flatness(problem, state.params, state.model_state, state.key).rise`.

  Args:
    problem: whose training examples are used.
    params: the parameters theta; half precision is widened first, as a small perturbation would be lost in rounding.
    model_state: the model's other state, `()` if it has none; it is not advanced.
    key: for the perturbations, and the randomness of the forward pass for `training_losses`.
    sigma: > 0, the standard deviation of the perturbation.
    relative: whether sigma is relative to the size of each parameter, static under jit.
    num_pairs: >= 2, static under jit.
    block_size: examples at once, >= 1, static under jit.
    losses: which loss, see `gdlab.analysis.blocks`.

  Raises:
    InputError: an argument out of range.

  Source: Neyshabur, Bhojanapalli, McAllester and Srebro 2017, Exploring generalization in deep learning,
  arXiv 1706.08947 (expected sharpness); Jiang et al. 2020, Fantastic generalization measures, arXiv 1912.02178
  (relative to the size of the parameters).
  """
  check_real('sigma', sigma, above=0)
  num_pairs = check_count('num_pairs', num_pairs, minimum=2)
  params = widened(params)
  draw_key, loss_key = jax.random.split(key)
  loss_at = full_loss(problem, model_state, loss_key, block_size=block_size, losses=losses)
  loss = loss_at(params)

  def rise(number: Array) -> Array:
    noise = optax.tree.scale(sigma, optax.tree.random_like(jax.random.fold_in(draw_key, number), params))
    if relative:
      noise = optax.tree.mul(jax.tree.map(jnp.abs, params), noise)
    above = loss_at(optax.tree.cast_like(optax.tree.add(params, noise), params))
    below = loss_at(optax.tree.cast_like(optax.tree.sub(params, noise), params))
    return ((above - loss) + (below - loss)) / 2

  rises = jax.lax.map(rise, jnp.arange(num_pairs))
  return Flatness(jnp.mean(rises), jnp.std(rises, ddof=1) / num_pairs**0.5, loss)
