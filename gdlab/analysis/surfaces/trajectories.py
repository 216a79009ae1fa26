"""The principal plane of a run's path: principal components of its parameters, and the loss on that plane."""

from typing import Any

import jax
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree

from gdlab.analysis.surfaces.planes import loss_plane
from gdlab.core.argument_checks import array
from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_real, shown
from gdlab.core.types import Problem, PyTree


@checked(path=array(finite=False, empty=True))
def principal_plane(path: Any) -> xr.Dataset:
  r"""The plane with the largest variance of the parameters along a run, through its last point.

  It is spanned by the two leading right singular vectors of the path about its mean. The rest of the variance is not
  visible: report the shares. Even a random walk in many dimensions has about 61 % and 15 % of its variance in the first
  two components.

  A host function; cost: an SVD of [T, n], no gradient.

  Args:
    path: float[T, n], T >= 3 points of n >= 2 parameters, as the probe
      `lambda problem, state: ravel_pytree(state.params)[0]` records them. Rows that are not finite (NaN between
      evaluations) are left out.

  Returns:
    A Dataset: `components` (component, parameter), orthonormal, with the sign for which the path's last coordinate is
    not below its first; `explained` (component), shares of the variance; `origin` (parameter), the last point; `path`
    (point, component), the path's coordinates relative to it; `point`, the row numbers in the argument.

  Raises:
    InputError: if the path is not of that form, or its points are all equal.

  Source: Li et al. 2018, arXiv 1712.09913, section 7; Antognini, Sohl-Dickstein, "PCA of high dimensional random
  walks with comparison to neural network training", 2018, arXiv 1806.08805, for the random walk.
  """
  points = np.asarray(path, np.float64)
  if points.ndim != 2 or points.shape[1] < 2:
    raise InputError(f'path must be of shape [points, parameters >= 2], got {list(points.shape)}')
  kept = np.flatnonzero(np.isfinite(points).all(axis=1))
  points = points[kept]
  if len(points) < 3:
    raise InputError(f'path must hold at least 3 finite points, got {len(points)}')
  _, lengths, components = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
  if lengths[0] == 0:
    raise InputError('path must hold different points, got one point only')
  components = components[:2]
  components *= np.where(components @ (points[-1] - points[0]) < 0, -1.0, 1.0)[:, None]
  return xr.Dataset(
    {
      'components': (('component', 'parameter'), components),
      'explained': ('component', lengths[:2] ** 2 / np.sum(lengths**2)),
      'origin': ('parameter', points[-1]),
      'path': (('point', 'component'), (points - points[-1]) @ components.T),
    },
    {'component': [1, 2], 'point': kept},
  )


@checked('margin', path=array(finite=False, empty=True))
def trajectory_plane(
  problem: Problem,
  path: Any,
  params: PyTree,
  model_state: PyTree = (),
  *,
  num_points: tuple[int, int] = (25, 25),
  margin: float = 0.25,
  points_at_once: int = 1,
) -> xr.Dataset:
  """The loss and all metrics on the path's principal plane, with the path's coordinates in it; a host function.

  The metrics are those of points on the plane; the path itself lies off it, by the variance not `explained`.

  Cost: as for `loss_plane`.

  Args:
    problem: the data and the metrics.
    path: as for `principal_plane`.
    params: parameters of the same structure (their values do not matter).
    model_state: the model's other state, `()` if it has none; usually that of the last point.
    num_points: number of values along each component, each >= 2.
    margin: > 0, how far the plane extends beyond the path, as a share of the path's extent.
    points_at_once: as for `loss_line`.

  Returns:
    The Dataset of `principal_plane` with a variable for each metric, dims (`alpha`, `beta`): the coordinates along
    the first and the second component, in the units of the parameters.

  Raises:
    InputError: as for `principal_plane`; if `params` does not have n parameters; an argument out of range.
  """
  check_real('margin', margin, above=0.0)
  plane = principal_plane(path)
  flat, unravel = ravel_pytree(params)
  if flat.size != plane.sizes['parameter']:
    raise InputError(f'params must have {plane.sizes["parameter"]} parameters, got {shown(flat.size)}')
  low, high = plane['path'].values.min(axis=0), plane['path'].values.max(axis=0)
  # A path along one line only still gets a picture of some width.
  extent = np.maximum(high - low, 1e-3 * (high - low).max())
  pytrees = [
    unravel(jax.numpy.asarray(row, flat.dtype)) for row in (plane.origin.values, *plane.components.values)
  ]
  surface = loss_plane(
    problem,
    pytrees[0],
    model_state,
    directions=pytrees[1:],
    intervals=list(zip(low - margin * extent, high + margin * extent)),
    num_points=num_points,
    points_at_once=points_at_once,
  )
  return plane.assign(surface.data_vars)
