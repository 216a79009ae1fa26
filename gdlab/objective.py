"""The weighted batch loss: the one function that every gradient estimate differentiates."""

import jax
import jax.numpy as jnp

from gdlab.types import Array, Batch, Key, Problem, PyTree


def take(examples: PyTree, indices: Array) -> PyTree:
  """The examples at `indices`, gathered along the leading axis of every leaf."""
  return jax.tree.map(lambda leaf: leaf[indices], examples)


def real_indices(batch: Batch) -> Array:
  """The batch's indices with padding pointed at the first real example, if there is one.

  Whatever example the padding names could have an infinite derivative, and a cotangent of 0 times that is NaN.
  """
  mask = batch.weights != 0
  return jnp.where(mask, batch.indices, batch.indices[jnp.argmax(mask)])


def batch_loss(
  problem: Problem, params: PyTree, model_state: PyTree, batch: Batch, key: Key
) -> tuple[Array, PyTree]:
  r"""The batch's estimate of the mean training loss, $\sum_i w_i \ell_i(\theta)$.

  Args:
    problem: whose training examples and per-example loss are used.
    params: the parameters theta.
    model_state: the model's other state, `()` if it has none.
    batch: indices and weights; slots of weight 0 are masked out of the model.
    key: randomness of the forward pass (Dropout).

  Returns:
    `(loss float[], model_state)`.
  """
  mask = batch.weights != 0
  examples = take(problem.train, real_indices(batch))
  losses, model_state = problem.loss(params, model_state, examples, mask, key)
  # where, not only the product: 0 * inf on a padding slot would be NaN.
  return jnp.sum(jnp.where(mask, batch.weights * losses, 0)), model_state
