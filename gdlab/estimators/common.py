"""Shared parts of the estimators: sums over a batch, dtypes to sum in, batches in slices."""

from typing import Any

import jax
import jax.numpy as jnp

from gdlab.core.dependence import padding_reaches
from gdlab.core.dtypes import widened
from gdlab.core.errors import InputError, shown
from gdlab.core.objective import real_indices
from gdlab.core.types import Array, Batch, Estimator, Problem, PyTree


def summable(tree: PyTree) -> PyTree:
  """The tree in at least JAX's default float, as weights are: sums of many terms in half precision stop growing."""
  return widened(tree, float)


def over_largest(tree: PyTree) -> tuple[PyTree, Array]:
  """The tree divided by its largest magnitude, and that magnitude: squares then neither overflow nor underflow.

  A tree of zeros, or with a NaN, is divided by 1.
  """
  largest = jnp.zeros((), jnp.float32)
  for leaf in jax.tree.leaves(tree):
    largest = jnp.maximum(largest, jnp.max(jnp.abs(leaf), initial=0))
  largest = jnp.where(largest > 0, largest, 1)
  return jax.tree.map(lambda leaf: leaf / largest, tree), largest


def weighted_sum(weights: Array, tree: PyTree) -> PyTree:
  """The sum of weights[b] * leaf[b] over b, for every leaf [B, ...]; entries with weight 0 may be NaN or infinite."""

  def total(leaf):
    column = along_batch(weights, leaf)
    return jnp.sum(jnp.where(column != 0, column * leaf, 0), axis=0)

  return jax.tree.map(total, tree)


def along_batch(values: Array, leaf: Array) -> Array:
  """Values [B] in a shape that broadcasts against a leaf [B, ...]."""
  return values.reshape(-1, *(1,) * (leaf.ndim - 1))


def num_examples(batch: Batch) -> Array:
  """int32[], the number of examples in a batch, without padding."""
  return jnp.sum(batch.weights != 0, dtype=jnp.int32)


def split(batch: Batch, size: int) -> Batch:
  """The batch cut into slices of `size` slots: leaves of shape [number of slices, size], padded with weight 0.

  Indices of padding are replaced here, before the cut, because a slice may have no real example of its own.
  """
  missing = -batch.indices.shape[0] % size
  return Batch(
    jnp.pad(real_indices(batch), (0, missing), mode='edge').reshape(-1, size),
    jnp.pad(batch.weights, (0, missing)).reshape(-1, size),
  )


def slices(problem: Problem, params: PyTree, model_state: PyTree, batch: Batch, size: int) -> list[Batch]:
  """The batch cut into slices of `size` slots, as stacks of slices of the same shape, see `split`.

  One stack, with its last slice padded if necessary; if padding would affect the losses of real examples, a second
  stack holds the remaining slots instead.
  """
  num_slots = batch.indices.shape[0]
  size = min(size, num_slots)
  rest = num_slots % size
  if not rest or not padding_reaches(problem, params, model_state):
    return [split(batch, size)]
  whole, last = (
    jax.tree.map(lambda leaf, cut=cut: leaf[cut], batch) for cut in (slice(-rest), slice(-rest, None))
  )
  return [split(whole, size), split(last, rest)]


def check_estimator(name: str, value: Any) -> Estimator:
  """Returns `value` if it is an Estimator; raises InputError if not."""
  if not isinstance(value, Estimator):
    raise InputError(
      f'{name} must be a gdlab Estimator such as gdlab.estimators.batch_mean(), got {shown(value)}'
    )
  return value


def check_summed(name: str, value: Any) -> Estimator:
  """As `check_estimator`, for an estimator of one gradient; raises InputError for a stacked one."""
  if check_estimator(name, value).stacked:
    raise InputError(
      f'{name} must estimate one gradient, got per_example(stacked=True), which returns one per slot'
    )
  return value
