"""STORM: momentum whose average is corrected to the current point."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdlab.core.arguments import checked
from gdlab.core.branching import cond_any
from gdlab.core.errors import check_real
from gdlab.core.objective import real_indices, take
from gdlab.core.types import Array, Estimator, Known, Problem, PyTree
from gdlab.estimators.common import summable
from gdlab.estimators.plain import batch_mean


class StormState(NamedTuple):
  """State of `storm`."""

  step: Array  # int32[], updates so far
  params: PyTree  # before the last update
  gradient: PyTree  # the last estimate, in JAX's default float or wider


@checked('a')
def storm(a: Any) -> Estimator:
  r"""Stochastic recursive momentum: variance reduction without full gradients.

  $$d_t = \nabla f_{B_t}(\theta_t) + (1 - a)\big(d_{t-1} - \nabla f_{B_t}(\theta_{t-1})\big), \qquad
    d_1 = \nabla f_{B_1}(\theta_1),$$

  with $f_B = \sum_b w_b \ell_{i_b}$ the batch's loss: an exponential moving average of gradients, whose past is
  corrected to the current point by the difference of two gradients of the same batch with the same key. With `a = 1` it
  is `batch_mean()`; with `a = 0` the recursion of SARAH. The paper's $a_t = c\,\eta_t^2$ follows the rate $\eta_t$;
  give it as a schedule.

  Costs 2 gradient evaluations per example in the batch, 1 at the first update. The model's state is advanced only by
  the pass at $\theta_t$. A gradient that is not finite stays in the average.

  Args:
    a: weight of the new gradient, in [0, 1], may be traced; or an Optax schedule `(update) -> a`.

  Returns:
    An Estimator.

  Raises:
    InputError: if `a` is neither a schedule nor a number in [0, 1].

  Source: Cutkosky & Orabona 2019, arXiv 1905.10018.
  """
  if not callable(a):
    check_real('a', a, minimum=0, maximum=1)
  plain = batch_mean()

  def init(problem: Problem, params: PyTree) -> StormState:
    # Not `params` itself: an array that is in a state twice cannot be donated.
    nothing, no_gradient = (jax.tree.map(jnp.zeros_like, tree) for tree in (params, summable(params)))
    return StormState(jnp.zeros((), jnp.int32), nothing, no_gradient)

  def change(kept, problem, params, model_state, batch, key):
    """The last estimate minus this batch's gradient at the last parameters."""
    gradient, _, _ = plain.estimate((), problem, params, model_state, batch, key)
    return jax.tree.map(jnp.subtract, kept, summable(gradient))

  def estimate(state, problem, params, model_state, batch, key):
    gradient, _, info = plain.estimate((), problem, params, model_state, batch, key)
    # The branch is given the batch's examples, gathered once for both passes, and not the training set.
    drawn = dataclasses.replace(
      problem, train=take(problem.train, real_indices(batch)), validation=None, test=None, known=Known()
    )
    slots = batch._replace(indices=jnp.arange(batch.indices.shape[0], dtype=batch.indices.dtype))
    memory = cond_any(
      state.step > 0,
      change,
      state.gradient,  # zero before the first update
      drawn,
      state.params,
      model_state,
      slots,
      jax.random.clone(key),
    )
    kept = 1 - (a(state.step) if callable(a) else a)
    averaged = jax.tree.map(lambda g, m: g + kept * m, summable(gradient), memory)
    evaluations = info.gradient_evaluations * jnp.where(state.step > 0, 2, 1)
    info = info._replace(gradient_evaluations=evaluations.astype(jnp.int32))
    return optax.tree.cast_like(averaged, params), StormState(state.step + 1, params, averaged), info

  return Estimator(init, estimate)
