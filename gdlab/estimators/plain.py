"""The plain estimate: the gradient of the batch's weighted mean loss, in one pass or in pieces."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdlab.errors import InputError, check_count
from gdlab.objective import batch_loss, real_indices
from gdlab.types import Batch, EstimateInfo, Estimator


class BatchMeanState(NamedTuple):
  """State of the plain estimators: nothing is carried."""


def batch_mean() -> Estimator:
  r"""The gradient of the batch's loss, $\nabla_\theta \sum_i w_i \ell_i(\theta)$, in one pass.

  Costs one gradient evaluation per example in the batch.

  Returns:
    An Estimator.
  """

  def init(problem, params) -> BatchMeanState:
    del problem, params
    return BatchMeanState()

  def estimate(state, problem, params, model_state, batch, key):
    def objective(params):
      return batch_loss(problem, params, model_state, batch, key)

    (loss, model_state), gradient = jax.value_and_grad(objective, has_aux=True)(params)
    evaluations = jnp.sum(batch.weights != 0, dtype=jnp.int32)
    return gradient, state, EstimateInfo(loss, model_state, evaluations)

  return Estimator(init, estimate)


def microbatched(size: int) -> Estimator:
  """The gradient of the batch's loss as a sum over slices of at most `size` examples, one after another.

  Equal to `batch_mean()` to rounding, with the activations of `size` examples in memory instead of B. Models that
  mix the examples of a batch see one slice at a time: BatchNorm normalises within the slice and updates its
  statistics once per slice; Dropout draws a fresh mask for each slice.

  Args:
    size: examples per slice, a whole number in [1, B]. The last slice is padded where it does not divide B.

  Returns:
    An Estimator.

  Raises:
    InputError: if `size` is not a whole number >= 1; from `estimate`, if it is above B.
  """
  size = check_count('size', size)
  whole = batch_mean()

  def estimate(state, problem, params, model_state, batch, key):
    batch_size = batch.indices.shape[0]
    if size > batch_size:
      raise InputError(f'size must be a whole number in [1, {batch_size}] (the batch size), got {size}')
    slices = _split(batch, size)

    def accumulate(carry, numbered):
      number, piece = numbered
      total, loss, model_state, evaluations = carry
      piece_key = jax.random.fold_in(key, number)
      gradient, _, info = whole.estimate(state, problem, params, model_state, piece, piece_key)
      total = jax.tree.map(jnp.add, total, gradient)
      carry = (total, loss + info.loss, info.model_state, evaluations + info.gradient_evaluations)
      return carry, None

    loss_dtype = jax.eval_shape(lambda: batch_loss(problem, params, model_state, batch, key)[0]).dtype
    start = (jax.tree.map(jnp.zeros_like, params), jnp.zeros((), loss_dtype), model_state, jnp.int32(0))
    numbers = jnp.arange(slices.indices.shape[0])
    (gradient, loss, model_state, evaluations), _ = jax.lax.scan(accumulate, start, (numbers, slices))
    return gradient, state, EstimateInfo(loss, model_state, evaluations)

  return Estimator(whole.init, estimate)


def _split(batch: Batch, size: int) -> Batch:
  """The batch cut into slices of `size` slots: leaves of shape [number of slices, size], padded with weight 0.

  A slice can be padding alone, with no real example of its own to point at, so that is done here for all slices.
  """
  missing = -batch.indices.shape[0] % size
  return Batch(
    jnp.pad(real_indices(batch), (0, missing), mode='edge').reshape(-1, size),
    jnp.pad(batch.weights, (0, missing)).reshape(-1, size),
  )
