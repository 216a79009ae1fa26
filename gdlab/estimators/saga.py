"""SAGA: a table of the last gradient of every example."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdlab.core.arguments import checked
from gdlab.core.objective import real_indices, take
from gdlab.core.types import Estimator, Problem, PyTree
from gdlab.estimators.common import summable, weighted_sum
from gdlab.estimators.per_example import example_gradients


class SagaState(NamedTuple):
  """State of `saga`."""

  table: PyTree  # leaves [N, ...], the gradient of each example when it was last drawn
  mean: PyTree  # the mean of the table, in JAX's default float or wider


@checked
def saga() -> Estimator:
  r"""Variance reduction by a table $\alpha$ of the last gradient of every example.

  $$g_t = \sum_b w_b \big(\nabla\ell_{i_b}(\theta_t) - \alpha_{i_b}\big) + \frac1N \sum_{i=1}^N \alpha_i,
    \qquad \alpha_{i_b} \leftarrow \nabla\ell_{i_b}(\theta_t).$$

  Unbiased for independent draws, including importance sampling ($\mathbb E \sum_b w_b h_{i_b}$, given the past, is the
  mean of h), and its variance vanishes near a minimum: if f is strongly convex, a constant rate converges linearly, for
  a batch of one at 1/(3L) with L the largest smoothness of an example. With N = 1 it is gradient descent.

  The table starts at zero, at no cost; for independent draws the estimate is unbiased from the first update on. (The
  paper starts from a table of gradients; its rates hold once every example has been drawn.) Epoch samplers draw
  examples that the table does not hold yet: in their first epoch the expected estimate after s examples is the gradient
  times 1 + s/N (while the parameters have hardly moved), so up to twice too long; in later epochs draws depend on the
  earlier ones of their epoch. An example drawn twice into one batch enters the mean once; if the loss is random
  (Dropout), its last slot is kept.

  Costs one gradient evaluation per example in the batch, and the memory of N copies of the parameters: meant for
  convex problems and small models. Each example has its own pass, as in `per_example`. A gradient that is not finite
  enters the table and its mean, and stays in the mean.

  Returns:
    An Estimator.

  Raises:
    InputError: from `estimate`, if the problem mixes the examples of a batch (BatchNorm, contrastive losses).

  Source: Defazio, Bach & Lacoste-Julien 2014, arXiv 1407.0202.
  """

  def init(problem: Problem, params: PyTree) -> SagaState:
    count = problem.num_examples
    table = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), params)
    return SagaState(table, jax.tree.map(jnp.zeros_like, summable(params)))

  def estimate(state, problem, params, model_state, batch, key):
    count = problem.num_examples
    info = example_gradients(problem, params, model_state, batch, key)
    old = take(state.table, real_indices(batch))
    change = jax.tree.map(jnp.subtract, summable(info.gradients), summable(old))
    estimated = jax.tree.map(jnp.add, weighted_sum(batch.weights, change), state.mean)

    # Each example drawn is entered from one slot, the last that names it.
    slots = jnp.arange(batch.indices.shape[0])
    mask = batch.weights != 0
    last = jnp.full(count, -1, slots.dtype).at[batch.indices].max(jnp.where(mask, slots, -1))
    entered = mask & (last[batch.indices] == slots)
    rows = jnp.where(entered, batch.indices, count)
    table = jax.tree.map(lambda leaf, new: leaf.at[rows].set(new, mode='drop'), state.table, info.gradients)
    shares = jnp.where(entered, 1 / count, 0)
    mean = jax.tree.map(jnp.add, state.mean, weighted_sum(shares, change))
    return optax.tree.cast_like(estimated, params), SagaState(table, mean), info

  return Estimator(init, estimate)
