"""End points at one training loss: of every run the place where it comes to that loss once its jumping is cooled."""

from typing import NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from gdlab.analysis.blocks import full_loss_and_gradient
from gdlab.core.types import Problem


class EndPoint(NamedTuple):
  """Where a run is compared with others.

  Attributes:
    params: float[P], after the cooling.
    loss: training loss there.
    updates: of cooling.
    reached: whether the loss came to the target.
    place: of the record that cooling started from.
  """

  params: np.ndarray
  loss: float
  updates: int
  reached: bool
  place: int


def end_point(problem: Problem, points: np.ndarray, start: int, target: float, options) -> EndPoint:
  """The end point of one run.

  Full batch at a small rate cools. A mini-batch is still jumping about when its training loss first comes to the
  target; cooled from there it falls below, and full batch does not, so that the two would not be equally trained. So
  cooling starts at the last earlier record that is still above the target after `cooling_updates` of it, and goes on
  until the loss is at the target. The losses of end points differ by one update of cooling at most.

  Args:
    problem: its training loss counts.
    points: float[step, P], the parameters at the records of a run.
    start: the record where the run's own training loss first is at the target, else its last.
    target: the loss.
    options: `cooling_rate`, `cooling_updates` and, where the loss will not come down, `cooling_limit`.
  """
  rate, least = options.cooling_rate, options.cooling_updates
  for place in range(start, -1, -1):
    # No loss is below 0: so many updates exactly.
    params, loss, updates = _cool(problem, points[place], rate, 0.0, least)
    if not float(loss) <= target:
      break
  params, loss, more = _cool(problem, params, rate, target, max(0, options.cooling_limit - least))
  return EndPoint(
    np.asarray(params), float(loss), int(updates) + int(more), bool(float(loss) <= target), place
  )


@jax.jit
def _cool(problem: Problem, point, rate: float, target: float, most: int):
  """Parameters from a vector after updates of full batch, until the loss is at the target but at most so many.

  Returns:
    The parameters as a vector, their loss, and the number of updates.
  """
  params = ravel_pytree(problem.init(jax.random.key(0))[0])[1](point)
  measure = full_loss_and_gradient(problem, (), jax.random.key(0))

  def update(carry):
    params, _, grad, count = carry
    params = jax.tree.map(lambda value, slope: value - rate * slope, params, grad)
    return params, *measure(params), count + 1

  going = lambda carry: (carry[1] > target) & (carry[3] < most)
  params, loss, _, count = jax.lax.while_loop(going, update, (params, *measure(params), 0))
  return ravel_pytree(params)[0], loss, count
