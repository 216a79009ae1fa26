"""The Ackley function: ripples around a cone."""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import check_count
from gdlab.core.types import Array, Known, Problem, StationaryPoints
from gdlab.problems.landscapes.base import cube, landscape
from gdlab.problems.landscapes.points import listed

_REACH = 5.0  # half the box's width
_STARTS = 101  # of the search, along half a side; a quarter as many find the same


@checked('dim')
def ackley(dim: int = 2, *, start: Any = None, initial_scale: float | None = None) -> Problem:
  r"""The Ackley function: a funnel with ripples, whose minimum is the tip of a cone.

  $$f(x) = 20 + e - 20 \exp\!\left(-\tfrac15 \sqrt{\tfrac1d \textstyle\sum_j x_j^2}\right)
    - \exp\!\left(\tfrac1d \textstyle\sum_j \cos 2\pi x_j\right).$$

  At its global minimum 0, at 0, f is not differentiable: $f \approx 4 |x| / \sqrt d$ there. So it is not a stationary
  point and has no Hessian: it is in `known.params`, but not in the list. The gradient returned at 0 is 0, a
  subgradient. Descent at a constant rate does not converge to it.

  The stationary points in the box $[-5, 5]^d$ are, for d <= 2, one for every combination of the ripple's 11 minima
  and 10 maxima along each axis, except that at 0: $21^d - 1$, all listed, as found by Newton's method from a fine grid.
  A minimum's basin is the largest ball found in which the gradient points away from it. For d > 2 the 20 points on the
  diagonal are listed, where f is that of one dimension, without basins.

  Args:
    dim: d >= 1.
    start: initial point, float[d]; all 2.5 by default.
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Ackley, A Connectionist Machine for Genetic Hillclimbing, 1987.
  """
  dim = check_count('dim', dim)
  known = Known(np.zeros(dim), np.float64(0), stationary_points=_points(dim), box=cube(dim, -_REACH, _REACH))
  start = np.full(dim, 2.5) if start is None else start
  return landscape('Ackley', _ackley, known, start=start, initial_scale=initial_scale)


def _ackley(params: Array) -> Array:
  square = jnp.mean(params**2)
  apart = square > 0
  # The inner where keeps sqrt'(0) = inf out of the gradient, where 0 * inf would be NaN.
  radius = jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), 0)
  # Both differences from their values at 0 as expm1, which is exact near the minimum.
  ripple = jnp.mean(-2 * jnp.sin(jnp.pi * params) ** 2)
  return -20 * jnp.expm1(-radius / 5) - jnp.e * jnp.expm1(ripple)


class _Calculus(NamedTuple):
  """The function away from 0, in NumPy float64 on the host, whatever JAX's default float."""

  values: np.ndarray  # float64[n]
  gradients: np.ndarray  # float64[n, d]
  hessians: np.ndarray  # float64[n, d, d]


def _calculus(points: np.ndarray) -> _Calculus:
  size = points.shape[-1]
  # The floor is for steps of the search that hit 0.
  radius = np.maximum(np.sqrt(np.mean(points**2, axis=-1)), 1e-9)
  sine, cosine = np.sin(2 * np.pi * points), np.cos(2 * np.pi * points)
  cone = 4 / size * np.exp(-radius / 5) / radius  # (d/dx) -20 exp(-r/5) is this times x
  wave = 2 * np.pi / size * np.exp(cosine.mean(axis=-1))
  bend = -cone * (1 / (5 * radius) + 1 / radius**2) / size
  outer = points[..., :, None] * points[..., None, :]
  own = cone[..., None] + 2 * np.pi * wave[..., None] * cosine
  return _Calculus(
    -20 * np.expm1(-radius / 5) - np.e * np.expm1(np.mean(-2 * np.sin(np.pi * points) ** 2, axis=-1)),
    cone[..., None] * points + wave[..., None] * sine,
    own[..., None] * np.eye(size)
    + bend[..., None, None] * outer
    - 2 * np.pi / size * wave[..., None, None] * sine[..., :, None] * sine[..., None, :],
  )


@functools.cache
def _points(dim: int) -> StationaryPoints:
  found = _searched(min(dim, 2)) if dim <= 2 else np.repeat(_searched(1), dim, axis=1)
  order = np.indices([2] * dim).reshape(dim, -1).T if dim <= 2 else np.array([[0] * dim, [1] * dim])
  signs = 1 - 2 * order
  permutations = (slice(None), slice(None, None, -1))
  # Images under changes of sign and exchange of axes; those that coincide drop out.
  images = np.concatenate([sign * found[:, permuted] for sign in signs for permuted in permutations])
  places = np.unique(images + 0.0, axis=0)
  values, _, hessians = _calculus(places)
  eigenvalues = np.linalg.eigvalsh(hessians)
  basins = np.array([_basin(x) if dim <= 2 and low > 0 else 0.0 for x, low in zip(places, eigenvalues[:, 0])])
  return listed(places, values, eigenvalues, basins, complete=dim <= 2)


def _searched(dim: int) -> np.ndarray:
  """All stationary points with $5 >= x_1 >= ... >= x_d >= 0$ except 0, by Newton's method with bounded steps."""
  axis = np.linspace(0, _REACH, _STARTS)
  points = np.stack(np.meshgrid(*[axis] * dim, indexing='ij'), axis=-1).reshape(-1, dim)
  points = points[(np.diff(points, axis=1) <= 0).all(axis=1) & (points[:, 0] > 0)]
  for _ in range(40):
    _, gradients, hessians = _calculus(points)
    moves = np.linalg.solve(hessians, gradients[..., None])[..., 0]
    lengths = np.linalg.norm(moves, axis=1, keepdims=True)
    points = points - moves * np.minimum(1, 0.1 / np.maximum(lengths, 1e-300))
  points = np.where(np.abs(points) < 1e-12, 0, points)
  arrived = np.linalg.norm(_calculus(points).gradients, axis=1) < 1e-12
  points = points[arrived & (points >= 0).all(axis=1) & (points <= _REACH).all(axis=1)]
  points = -np.sort(-points[points.any(axis=1)], axis=1)
  # The closest two of them are 0.08 apart.
  return points[np.unique(points.round(6), axis=0, return_index=True)[1]]


def _basin(minimum: np.ndarray) -> float:
  """The radius to which the gradient has a component away from the minimum, so that gradient flow approaches it."""
  angles = 2 * np.pi * np.arange(64) / 64
  directions = (
    np.stack([np.cos(angles), np.sin(angles)], axis=1) if len(minimum) == 2 else np.array([[1.0], [-1]])
  )
  radii = np.linspace(0.01, 1, 100)
  points = minimum + radii[:, None, None] * directions
  outwards = np.sum(_calculus(points).gradients * directions, axis=-1)
  # A margin for the directions and radii between those looked at.
  return float(0.95 * radii[(outwards <= 0).any(axis=1).argmax() - 1])
