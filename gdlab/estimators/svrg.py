"""SVRG: a periodic full gradient, and corrections to it from batches in between."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdlab.core.argument_checks import at_most_int32
from gdlab.core.arguments import checked
from gdlab.core.branching import cond_any
from gdlab.core.errors import check_count
from gdlab.core.objective import ascent, batch_loss
from gdlab.core.types import Array, Batch, Estimator, Key, Known, Problem, PyTree
from gdlab.estimators.common import slices, summable
from gdlab.estimators.plain import batch_mean

_FULL = 0x73767267  # folds the full gradient's key apart from those of slices and examples


class SvrgState(NamedTuple):
  """State of `svrg`."""

  step: Array  # int32[], updates so far
  snapshot: PyTree  # parameters where the last full gradient was taken
  gradient: PyTree  # the full gradient there, in JAX's default float or wider


@checked('block_size', period=at_most_int32)
def svrg(period: Any, *, block_size: int = 1024) -> Estimator:
  r"""Stochastic variance-reduced gradient.

  $$g_t = \nabla f_B(\theta_t) - \nabla f_B(\tilde\theta) + \nabla f(\tilde\theta),$$

  with $f_B = \sum_b w_b \ell_{i_b}$ the batch's loss, $f$ the mean loss over the training set and $\tilde\theta$ the
  parameters at the snapshot, taken before the first update and then every `period` updates (the paper's option I).
  Both batch gradients use the same examples and key. Unbiased, and its variance vanishes as $\theta_t$ and
  $\tilde\theta$ approach a minimum: if f is strongly convex, a constant rate converges linearly, for a batch of one
  with a rate of about 0.1/L and a period of a few N, with L the largest smoothness of an example. With `period=1` it is
  the full gradient to rounding.

  The full gradient is over all N examples, including those that a `stream` has not shown yet or has dropped: for
  streams use `storm`, which needs only the batch.

  Costs 2 gradient evaluations per example in the batch, and N at a snapshot. The model's state is advanced only by the
  pass at $\theta_t$. With Dropout the full gradient uses one mask per example. A gradient that is not finite is passed
  on; a full gradient that is not finite, until the next snapshot.

  Args:
    period: updates between snapshots, a whole number >= 1; may be traced.
    block_size: examples whose activations are in memory at once in a full gradient, >= 1. A model that mixes
      examples (BatchNorm) sees one such block at a time.

  Returns:
    An Estimator.

  Raises:
    InputError: if an argument is out of range.

  Source: Johnson & Zhang 2013, Accelerating Stochastic Gradient Descent using Predictive Variance Reduction.
  """
  period = check_count('period', period, traced=True)
  block_size = check_count('block_size', block_size)
  plain = batch_mean()

  def init(problem: Problem, params: PyTree) -> SvrgState:
    # Not `params` itself: an array that is in a state twice cannot be donated.
    nothing, no_gradient = (jax.tree.map(jnp.zeros_like, tree) for tree in (params, summable(params)))
    return SvrgState(jnp.zeros((), jnp.int32), nothing, no_gradient)

  def renewed(kept, problem, params, model_state, key):
    del kept
    return params, full_gradient(problem, params, model_state, key, block_size)

  def estimate(state, problem, params, model_state, batch, key):
    snapshot, mean = cond_any(
      state.step % period == 0,
      renewed,
      (state.snapshot, state.gradient),
      dataclasses.replace(
        problem, validation=None, test=None, known=Known()
      ),  # what a full gradient needs, and no more
      params,
      model_state,
      jax.random.fold_in(key, _FULL),
    )
    here, _, info = plain.estimate((), problem, params, model_state, batch, key)
    there, _, again = plain.estimate((), problem, snapshot, model_state, batch, jax.random.clone(key))
    corrected = jax.tree.map(lambda h, t, m: h - t + m, summable(here), summable(there), mean)
    evaluations = info.gradient_evaluations + again.gradient_evaluations
    evaluations += jnp.where(state.step % period == 0, problem.num_examples, 0)
    info = info._replace(gradient_evaluations=evaluations.astype(jnp.int32))
    return optax.tree.cast_like(corrected, params), SvrgState(state.step + 1, snapshot, mean), info

  return Estimator(init, estimate)


def full_gradient(problem: Problem, params: PyTree, model_state: PyTree, key: Key, block_size: int) -> PyTree:
  """The gradient of the mean loss over the training set, computed block by block.

  In JAX's default float or wider. Block j uses fold_in(key, j); the model's state is not advanced.
  """
  count = problem.num_examples
  everything = Batch(jnp.arange(count, dtype=jnp.int32), jnp.full(count, 1 / count))

  def add(total, numbered):
    number, block = numbered

    def objective(params):
      return batch_loss(problem, params, model_state, block, jax.random.fold_in(key, number))[0]

    return jax.tree.map(jnp.add, total, summable(ascent(jax.grad(objective)(params)))), None

  total, number = jax.tree.map(jnp.zeros_like, summable(params)), 0
  for blocks in slices(problem, params, model_state, everything, block_size):
    numbers = number + jnp.arange(blocks.indices.shape[0])
    total, _ = jax.lax.scan(add, total, (numbers, blocks))
    number += blocks.indices.shape[0]
  return total
