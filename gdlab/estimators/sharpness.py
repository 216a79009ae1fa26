"""SAM: the gradient at the nearby point where the loss is highest, to first order."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from gdlab.core.arguments import checked
from gdlab.core.errors import check_real
from gdlab.core.types import Estimator, PyTree
from gdlab.estimators.common import over_largest, summable
from gdlab.estimators.plain import batch_mean, no_state


@checked('rho')
def sam(rho: Any, *, adaptive: bool = False) -> Estimator:
  r"""Sharpness-aware minimisation: the batch's gradient at a point uphill, $\nabla f_B(\theta + \epsilon)$.

  $$\epsilon = \rho\, \frac{g}{\lVert g \rVert}, \qquad \text{adaptive:}\quad
    \epsilon = \rho\, \frac{T^2 g}{\lVert T g \rVert},\ T = \operatorname{diag}|\theta|, \qquad
    g = \nabla f_B(\theta),$$

  the step of steepest ascent within a ball of radius $\rho$ around the parameters, or (adaptive) an ellipsoid scaled by
  each of them, which makes the estimate invariant to rescaling of weights. Where $g$ (or $Tg$) is zero, so is
  $\epsilon$: at a critical point the estimate is finite. With `rho=0` it is `batch_mean()`. Both passes use the same
  examples and key. For m-sharpness, one perturbation for every m examples: `microbatched(m, sam(rho))`.

  Costs 2 gradient evaluations per example in the batch. The loss and the model's state (BatchNorm's statistics) are
  those of the first pass, at the parameters themselves. A gradient that is not finite gives NaN.

  Args:
    rho: the radius, >= 0, in units of the parameters (adaptive: relative to them); may be traced.
    adaptive: whether to scale the perturbation by the parameters. The paper adds a small constant to T; here a
      parameter at zero is not perturbed.

  Returns:
    An Estimator.

  Raises:
    InputError: if `rho` is not a finite number >= 0.

  Source: Foret et al. 2021, arXiv 2010.01412; adaptive: Kwon et al. 2021, arXiv 2102.11600.
  """
  rho = check_real('rho', rho, minimum=0)
  plain = batch_mean()

  def estimate(state, problem, params, model_state, batch, key):
    gradient, _, info = plain.estimate(state, problem, params, model_state, batch, key)
    uphill = _ascent(summable(gradient), summable(params), rho, adaptive)
    moved = optax.tree.cast_like(jax.tree.map(jnp.add, summable(params), uphill), params)
    gradient, _, again = plain.estimate(state, problem, moved, model_state, batch, jax.random.clone(key))
    evaluations = info.gradient_evaluations + again.gradient_evaluations
    return gradient, state, info._replace(gradient_evaluations=evaluations)

  return Estimator(no_state, estimate)


def _ascent(gradient: PyTree, params: PyTree, rho: Any, adaptive: bool) -> PyTree:
  """The perturbation epsilon, a pytree like the gradient."""
  # Only directions matter. At every step by the largest entry: squares must neither overflow nor vanish.
  scaled, _ = over_largest(gradient)
  if adaptive:
    stretch, _ = over_largest(jax.tree.map(jnp.abs, params))
    scaled, _ = over_largest(jax.tree.map(jnp.multiply, stretch, scaled))
  norm = optax.tree.norm(scaled)
  # A norm that is NaN gives the factor 0, and 0 * NaN is NaN again.
  factor = jnp.where(norm > 0, rho / jnp.where(norm > 0, norm, 1), 0)
  direction = optax.tree.scale(factor, scaled)
  return jax.tree.map(lambda d, p: jnp.abs(p) * d, direction, params) if adaptive else direction
