"""Metrics over lines and planes through a point of parameter space."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from gdlab.analysis.surfaces.evaluation import check_alike, check_interval, host_metrics
from gdlab.core.argument_checks import each, tree
from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, shown
from gdlab.core.types import Problem, PyTree


@checked('interval', 'num_points', direction=tree(finite=True))
def loss_line(
  problem: Problem,
  params: PyTree,
  model_state: PyTree = (),
  *,
  direction: PyTree,
  interval: tuple[float, float] = (-1.0, 1.0),
  num_points: int = 51,
  points_at_once: int = 1,
) -> xr.Dataset:
  r"""The loss and all metrics on the line $\theta + \alpha d$; a host function around one jitted evaluation.

  In evaluation mode, with `model_state` unchanged: BatchNorm uses the same statistics along the whole line.

  Cost: `num_points` evaluations of the data (about a third of a gradient each).

  Args:
    problem: the data and the metrics.
    params: theta.
    model_state: the model's other state, `()` if it has none.
    direction: d, a pytree like `params`; see `filter_direction`, and give it `kinds=problem.kinds()`.
    interval: lowest and highest alpha.
    num_points: >= 2 values of alpha, equally spaced.
    points_at_once: >= 1, number of points evaluated in parallel; more is faster on accelerators and takes more memory.

  Returns:
    A Dataset with dim `alpha` and a variable for each metric, `train_loss`, `test_loss`, ....

  Raises:
    InputError: an argument out of range, or a direction unlike `params`.
  """
  alphas = np.linspace(
    *check_interval('interval', interval), check_count('num_points', num_points, minimum=2)
  )
  check_alike('direction', direction, 'params', params)
  weights = np.stack([np.ones_like(alphas), alphas], axis=-1)
  found = host_metrics(
    problem, (params, direction), (model_state,), weights, np.ones((len(alphas), 1)), points_at_once
  )
  return xr.Dataset({name: ('alpha', values) for name, values in found.items()}, {'alpha': alphas})


@checked('directions', 'intervals', 'num_points', directions=each(tree(finite=True), length=2))
def loss_plane(
  problem: Problem,
  params: PyTree,
  model_state: PyTree = (),
  *,
  directions: Sequence[PyTree],
  intervals: Sequence[tuple[float, float]] = ((-1.0, 1.0), (-1.0, 1.0)),
  num_points: tuple[int, int] = (25, 25),
  points_at_once: int = 1,
) -> xr.Dataset:
  r"""The loss and all metrics on the plane $\theta + \alpha d_1 + \beta d_2$; a host function like `loss_line`.

  Cost: the product of `num_points` evaluations of the data (about a third of a gradient each).

  Example:
    >>> import jax, numpy as np
    >>> from gdlab.problems import landscapes
    >>> booth = landscapes.booth()
    >>> axes = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)
    >>> plane = loss_plane(booth, np.float32([1.0, 3.0]), directions=axes, num_points=(3, 3))
    >>> plane.train_loss.sel(alpha=1, beta=-1).item()
    2.0

  Args:
    problem: the data and the metrics.
    params: theta.
    model_state: the model's other state, `()` if it has none.
    directions: the pair (d1, d2), pytrees like `params`. They need not be orthogonal.
    intervals: lowest and highest alpha, lowest and highest beta.
    num_points: number of values of alpha and of beta, each >= 2.
    points_at_once: as for `loss_line`.

  Returns:
    A Dataset with dims (`alpha`, `beta`) and a variable for each metric.

  Raises:
    InputError: an argument out of range, or directions unlike `params`.
  """
  directions, intervals = _pair('directions', directions), _pair('intervals', intervals)
  for number, direction in enumerate(directions):
    check_alike(f'directions[{number}]', direction, 'params', params)
  sizes = [
    check_count(f'num_points[{k}]', n, minimum=2) for k, n in enumerate(_pair('num_points', num_points))
  ]
  axes = [
    np.linspace(*check_interval(f'intervals[{k}]', interval), size)
    for k, (interval, size) in enumerate(zip(intervals, sizes))
  ]
  grid = np.stack([np.ones(sizes), *np.meshgrid(*axes, indexing='ij')], axis=-1).reshape(-1, 3)
  found = host_metrics(
    problem, (params, *directions), (model_state,), grid, np.ones((len(grid), 1)), points_at_once
  )
  variables = {name: (('alpha', 'beta'), values.reshape(sizes)) for name, values in found.items()}
  return xr.Dataset(variables, dict(zip(('alpha', 'beta'), axes)))


def _pair(name: str, values: Any) -> tuple[Any, Any]:
  if not isinstance(values, (tuple, list)) or len(values) != 2:
    raise InputError(f'{name} must be a pair, got {type(values).__name__} {shown(values)}')
  return values[0], values[1]
