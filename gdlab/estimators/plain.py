"""The plain estimate: the gradient of the batch's weighted mean loss, in one pass or in slices."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdlab.core.arguments import checked
from gdlab.core.dependence import padding_reaches
from gdlab.core.errors import InputError, check_count, shown
from gdlab.core.objective import ascent, batch_losses
from gdlab.core.types import EstimateInfo, Estimator
from gdlab.estimators.common import check_summed, num_examples, slices, summable


class BatchMeanState(NamedTuple):
  """The empty state of estimators without state."""


def no_state(problem, params) -> BatchMeanState:
  """`Estimator.init` of estimators without state."""
  del problem, params
  return BatchMeanState()


@checked
def batch_mean() -> Estimator:
  r"""The gradient of the batch's loss, $\nabla_\theta \sum_i w_i \ell_i(\theta)$, in one pass.

  Costs one gradient evaluation per example in the batch. A gradient that is not finite is passed on.

  Returns:
    An Estimator.

  Source: Bottou, Curtis and Nocedal 2018, Optimization methods for large-scale machine learning, arXiv 1606.04838.
  """

  def estimate(state, problem, params, model_state, batch, key):
    def objective(params):
      return batch_losses(problem, params, model_state, batch, key)

    (loss, (losses, model_state)), gradient = jax.value_and_grad(objective, has_aux=True)(params)
    return ascent(gradient), state, EstimateInfo(loss, model_state, num_examples(batch), losses)

  return Estimator(no_state, estimate)


@checked('size', 'estimator')
def microbatched(size: int, estimator: Estimator | None = None) -> Estimator:
  """The estimate as a sum over slices of at most `size` examples, one after another.

  With `batch_mean()`, the default, or `per_example_clipped` the result is the same to rounding, with the activations
  of `size` examples in memory instead of B. With `sam(rho)` this is m-sharpness: every slice has its own perturbation
  (Foret et al. 2021, section 4.1).

  Models that mix the examples of a batch see one slice at a time: BatchNorm normalises within the slice and
  updates its statistics once per slice; Dropout draws a fresh mask for each slice.

  Args:
    size: examples per slice, a whole number in [1, B]. The last slice is padded if `size` does not divide B.
    estimator: the estimator on a slice, without state; `batch_mean()` by default.

  Returns:
    An Estimator.

  Raises:
    InputError: if `size` is not a whole number >= 1 or `estimator` not an Estimator of one gradient; from `init`, if it
      has state; from `estimate`, if `size` is above B.

  Source: Huang et al. 2019, GPipe, arXiv 1811.06965, for micro-batches; Foret et al. 2021, arXiv 2010.01412, for
    m-sharpness.
  """
  size = check_count('size', size)
  inner = batch_mean() if estimator is None else check_summed('estimator', estimator)

  def init(problem, params):
    state = inner.init(problem, params)
    if jax.tree.leaves(state):
      raise InputError(
        f'estimator must carry no state from slice to slice, as batch_mean() and sam(0.05) do not, '
        f'got one with {shown(type(state).__name__)}'
      )
    return state

  def estimate(state, problem, params, model_state, batch, key):
    batch_size = batch.indices.shape[0]
    # A batch cut to its real examples may be smaller than a slice.
    if size > batch_size and not padding_reaches(problem, params, model_state):
      raise InputError(f'size must be a whole number in [1, {batch_size}] (the batch size), got {size}')

    def accumulate(carry, numbered):
      number, piece = numbered
      total, model_state = carry
      piece_key = jax.random.fold_in(key, number)
      gradient, _, info = inner.estimate(state, problem, params, model_state, piece, piece_key)
      total = jax.tree.map(jnp.add, total, summable(gradient))
      return (total, info.model_state), info._replace(model_state=())

    carry = (jax.tree.map(jnp.zeros_like, summable(params)), model_state)
    number, stacks = 0, []
    for stack in slices(problem, params, model_state, batch, size):
      numbers = number + jnp.arange(stack.indices.shape[0])
      carry, infos = jax.lax.scan(accumulate, carry, (numbers, stack))
      number += stack.indices.shape[0]
      stacks.append(infos)
    total, model_state = carry
    losses, gradients = jax.tree.map(
      lambda *leaves: jnp.concatenate([leaf.reshape(-1, *leaf.shape[2:]) for leaf in leaves])[:batch_size],
      *((infos.losses, infos.gradients) for infos in stacks),
    )
    evaluations = jnp.asarray(sum(jnp.sum(infos.gradient_evaluations, dtype=jnp.int32) for infos in stacks))
    loss = jnp.asarray(sum(jnp.sum(infos.loss) for infos in stacks))
    info = EstimateInfo(loss, model_state, evaluations, losses, gradients)
    return optax.tree.cast_like(total, params), state, info

  return Estimator(init, estimate)
