"""Estimates from per-example gradients: returned in addition to their sum, or clipped one by one."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gdlab.core.arguments import checked
from gdlab.core.dependence import one_by_one
from gdlab.core.errors import check_real
from gdlab.core.objective import ascent, batch_loss, real_indices
from gdlab.core.types import Array, Batch, EstimateInfo, Estimator, Key, Problem, PyTree
from gdlab.estimators.common import along_batch, num_examples, over_largest, summable, weighted_sum
from gdlab.estimators.plain import no_state


@checked
def per_example(stacked: bool = False) -> Estimator:
  r"""The gradient of the batch's loss as the sum of those of its examples, $\sum_b w_b \nabla\ell_{i_b}(\theta)$.

  For samplers and statistics that need per-example gradients, `EstimateInfo.gradients`. Equal to `batch_mean()` to
  rounding. Each slot of the batch has its own forward pass and key; problems that mix the examples of a batch
  (BatchNorm, contrastive losses) are refused. Floats of the model's state after the passes are averaged over the
  examples; other leaves are those of the first.

  Costs one gradient evaluation per example in the batch, and the memory of B copies of the parameters;
  `microbatched(size, per_example())` has the activations of only `size` examples in memory. A gradient that is not
  finite is passed on.

  Args:
    stacked: pass per-example gradients to the optimizer, leaves [B, ...], row b being $B w_b \nabla\ell_{i_b}$: for
      optimizers that take and average them, such as `optax.contrib.dpsgd`. (With unequal weights the optimizer sees,
      and clips, gradients of weighted losses.)

  Returns:
    An Estimator.

  Raises:
    InputError: from `estimate`, if the problem mixes the examples of a batch.

  Source: Goodfellow 2015, Efficient per-example gradient computations, arXiv 1510.01799.
  """

  def estimate(state, problem, params, model_state, batch, key):
    info = example_gradients(problem, params, model_state, batch, key)
    if stacked:
      shares = batch.weights * batch.weights.shape[0]
      rows = jax.tree.map(lambda leaf: along_batch(shares, leaf) * leaf, summable(info.gradients))
      return optax.tree.cast_like(rows, params), state, info
    total = weighted_sum(batch.weights, summable(info.gradients))
    return optax.tree.cast_like(total, params), state, info

  return Estimator(no_state, estimate, stacked)


@checked('max_norm')
def per_example_clipped(max_norm: Any) -> Estimator:
  r"""The weighted sum of per-example gradients, each scaled down to a Euclidean norm of at most `max_norm`.

  $$\sum_b w_b\, g_b \min(1, C / \lVert g_b \rVert), \qquad g_b = \nabla\ell_{i_b}(\theta).$$

  Biased, but no single example can move the parameters far. With $C = \infty$ it is `per_example()` to rounding. The
  noise of DP-SGD is left to an Optax transformation.

  Cost, memory and the model's state are as for `per_example`; `microbatched(size, per_example_clipped(C))` bounds the
  memory of activations. `EstimateInfo.gradients` are those before clipping. An entry that is NaN or infinite in the
  gradient of one example makes the estimate NaN.

  Args:
    max_norm: C > 0, up to infinity; may be traced.

  Returns:
    An Estimator.

  Raises:
    InputError: if `max_norm` is not a number above 0; from `estimate`, if the problem mixes the examples of a batch.

  Source: Abadi et al. 2016, arXiv 1607.00133.
  """
  if isinstance(max_norm, jax.core.Tracer) or not np.array_equal(max_norm, math.inf):
    check_real('max_norm', max_norm, above=0.0)

  def clip(gradient: PyTree) -> PyTree:
    # Not optax.clip_by_global_norm, whose squares overflow float32 from a norm of 2e19 on.
    scaled, largest = over_largest(gradient)
    norm = optax.tree.norm(scaled)
    fits = norm <= max_norm / largest
    factor = jnp.where(fits, 1, max_norm / jnp.where(fits, 1, norm))
    return jax.tree.map(lambda whole, part: jnp.where(fits, whole, factor * part), gradient, scaled)

  def estimate(state, problem, params, model_state, batch, key):
    info = example_gradients(problem, params, model_state, batch, key)
    clipped = jax.vmap(clip)(summable(info.gradients))
    return optax.tree.cast_like(weighted_sum(batch.weights, clipped), params), state, info

  return Estimator(no_state, estimate)


def example_gradients(
  problem: Problem, params: PyTree, model_state: PyTree, batch: Batch, key: Key
) -> EstimateInfo:
  """Losses and gradients of every slot, each in its own pass, 0 on padding; slot b uses fold_in(key, b)."""
  one_by_one('a per-example gradient', problem, params, model_state)
  mask = batch.weights != 0

  def alone(index: Array, slot: Array) -> tuple[PyTree, Array, PyTree]:
    def objective(params):
      one = Batch(index[None], jnp.ones(1))
      return batch_loss(problem, params, model_state, one, jax.random.fold_in(key, slot))

    (loss, new_state), gradient = jax.value_and_grad(objective, has_aux=True)(params)
    return ascent(gradient), loss, new_state

  slots = jnp.arange(batch.indices.shape[0])
  gradients, losses, states = jax.vmap(alone)(real_indices(batch), slots)
  gradients = jax.tree.map(lambda leaf: jnp.where(along_batch(mask, leaf), leaf, 0), gradients)
  return EstimateInfo(
    loss=jnp.sum(jnp.where(mask, batch.weights * losses, 0)),
    model_state=_averaged(mask, states, model_state),
    gradient_evaluations=num_examples(batch),
    losses=jnp.where(mask, losses, 0),
    gradients=gradients,
  )


def _averaged(mask: Array, states: PyTree, before: PyTree) -> PyTree:
  """The mean of floats over real examples, other leaves from the first; `before` if all slots are padding."""
  shares = mask / jnp.maximum(1, jnp.sum(mask))

  def combined(after: Array, before: Array) -> Array:
    if jnp.issubdtype(before.dtype, jnp.floating):
      new = weighted_sum(shares, after).astype(before.dtype)
    else:
      new = after[jnp.argmax(mask)]
    return jnp.where(jnp.any(mask), new, before)

  return jax.tree.map(combined, states, before)
