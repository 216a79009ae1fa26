"""The straight line between two solutions, and the loss barrier on it."""

from typing import Any

import numpy as np
import xarray as xr

from gdlab.analysis.surfaces.evaluation import check_alike, host_metrics
from gdlab.core.argument_checks import array, optional, params_of_problem, state_of_problem
from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, shown
from gdlab.core.types import SPLITS, Problem, PyTree


@checked(values=array(finite=False, empty=True), positions=optional(array()))
def barrier(values: Any, positions: Any = None) -> float:
  r"""How far a curve rises above the straight line between its ends.

  $$\max_t\ \left[f(t) - (1 - t) f(0) - t f(1)\right] \ge 0.$$

  It is 0 for a curve that is convex or straight, as usually between two solutions in one basin. A host function.

  Example:
    >>> barrier([1.0, 5.0, 2.0])
    3.5

  Args:
    values: float[M], M >= 2, along the line; no NaN, and finite at the ends.
    positions: float[M], ascending; equally spaced by default.

  Raises:
    InputError: if the values or positions are not of that form.

  Source: Frankle, Dziugaite, Roy, Carbin, "Linear mode connectivity and the lottery ticket hypothesis", 2020, arXiv
  1912.05671; relative to the line, not to the mean of the ends, after Entezari et al., arXiv 2110.06296.
  """
  heights = np.asarray(values, np.float64)
  if (
    heights.ndim != 1
    or len(heights) < 2
    or np.isnan(heights).any()
    or not np.isfinite(heights[[0, -1]]).all()
  ):
    raise InputError(
      'values must be at least two numbers in one dimension, the first and the last finite, '
      f'got {shown(values)} of shape {list(heights.shape)}'
    )
  t = np.linspace(0, 1, len(heights)) if positions is None else np.asarray(positions, np.float64)
  if t.shape != heights.shape or not (np.diff(t) > 0).all():
    raise InputError(f'positions must be {len(heights)} ascending numbers, got {shown(positions)}')
  return float(np.max(above_chord(heights, t)))


def above_chord(heights: np.ndarray, positions: np.ndarray) -> np.ndarray:
  """How far a curve is above the straight line between its ends, float[M]."""
  t = (positions - positions[0]) / (positions[-1] - positions[0])
  return heights - ((1 - t) * heights[0] + t * heights[-1])


@checked(
  'second_state',
  'num_points',
  first=params_of_problem,
  second=params_of_problem,
  first_state=state_of_problem,
  second_state=state_of_problem,
)
def interpolate(
  problem: Problem,
  first: PyTree,
  second: PyTree,
  first_state: PyTree = (),
  second_state: PyTree = (),
  *,
  num_points: int = 25,
  points_at_once: int = 1,
) -> xr.Dataset:
  r"""The loss and all metrics on the line $(1 - t)\theta_1 + t\theta_2$, with the barriers of the losses.

  In evaluation mode. The floats of the model's state are interpolated like the parameters; interpolated BatchNorm
  statistics belong to no network, which alone can cause a barrier. For networks whose hidden units can be permuted,
  `align` the second one first. A host function around one jitted evaluation.

  Cost: `num_points` evaluations of the data (about a third of a gradient each).

  Args:
    problem: the data and the metrics.
    first: theta_1, at t = 0.
    second: theta_2, at t = 1, a pytree like `first`.
    first_state: the model's other state at t = 0, `()` if it has none.
    second_state: the same at t = 1.
    num_points: >= 2 values of t in [0, 1], equally spaced.
    points_at_once: as for `loss_line`.

  Returns:
    A Dataset with dim `t`, a variable for each metric, and the numbers `train_barrier` and, with such data,
    `validation_barrier` and `test_barrier`: see `barrier`. A barrier is infinite if a loss on the line is not finite.

  Raises:
    InputError: an argument out of range, or two sets of parameters or states that differ in shape.
  """
  check_alike('second', second, 'first', first)
  check_alike('second_state', second_state, 'first_state', first_state)
  t = np.linspace(0, 1, check_count('num_points', num_points, minimum=2))
  weights = np.stack([1 - t, t], axis=-1)
  found = host_metrics(
    problem, (first, second), (first_state, second_state), weights, weights, points_at_once
  )
  barriers = {
    f'{split}_barrier': _finite_barrier(found[f'{split}_loss'])
    for split in SPLITS
    if f'{split}_loss' in found
  }
  return xr.Dataset({name: ('t', values) for name, values in found.items()} | barriers, {'t': t})


def _finite_barrier(losses: np.ndarray) -> float:
  return barrier(losses) if np.isfinite(losses).all() else np.inf
