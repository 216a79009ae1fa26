"""Saddles of several kinds, alone or with a confinement that gives runs a minimum to converge to."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, shown
from gdlab.core.types import Array, Known, Problem
from gdlab.problems.checks import default_float, moderate_or_zero, real_vector
from gdlab.problems.landscapes.base import cube, landscape
from gdlab.problems.landscapes.points import listed, product, profile


@dataclasses.dataclass(frozen=True)
class StrictSaddle:
  """See `strict_saddle`."""

  eigenvalues: tuple[float, ...]
  confinement: float

  def __call__(self, params: Array) -> Array:
    """Returns f, float[]."""
    curvatures = jnp.asarray(self.eigenvalues)
    quartic = jnp.where(curvatures < 0, self.confinement, 0.0)
    return curvatures @ params**2 / 2 + quartic @ params**4 / 4


@checked('eigenvalues', 'confinement')
def strict_saddle(
  eigenvalues: Any, *, confinement: float = 0.0, start: Any = None, initial_scale: float | None = None
) -> Problem:
  r"""A saddle at 0 with a given spectrum without zeros.

  $$f(x) = \frac12 \sum_j \lambda_j x_j^2 + \frac c4 \sum_{\lambda_j < 0} x_j^4.$$

  With c = 0 it is a quadratic, unbounded below, whose only stationary point is 0; along a negative direction
  descent at rate $\alpha$ grows by the factor $1 + \alpha|\lambda_j|$ per step. With c > 0 each of the k
  negative directions has two wells $x_j = \pm\sqrt{|\lambda_j|/c}$ of curvature $2|\lambda_j|$ and depth
  $\lambda_j^2/4c$: $3^k$ stationary points, of which $2^k$ are minima, all of the same value; all are listed up to
  k = 7, above that one of each index, including 0. The Hessian's smallest eigenvalue anywhere is
  $\min_j \lambda_j$, its largest $\max_j \lambda_j$ for c = 0 and otherwise unbounded.

  Example:
    >>> points = strict_saddle([1.0, -0.25], confinement=1.0).known.stationary_points
    >>> points.params.tolist(), points.index.tolist()
    ([[0.0, -0.5], [0.0, 0.5], [0.0, 0.0]], [0, 0, 1])

  Args:
    eigenvalues: lambda, float[d], none of them 0 and at least one negative.
    confinement: c, 0 or in [1e-6, 1e6].
    start: initial point, float[d]; by default 1 along positive directions and 0.01 along negative ones.
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.
  """
  curvatures = real_vector('eigenvalues', eigenvalues).astype(default_float()).astype(np.float64)
  if (curvatures == 0).any() or not (curvatures < 0).any():
    raise InputError(
      f'eigenvalues must be numbers, none of them 0 and at least one negative, got {shown(eigenvalues)}'
    )
  c = moderate_or_zero('confinement', confinement)

  def along(curvature: float) -> Any:
    if curvature > 0 or c == 0:
      return profile([0.0], [0.0], [curvature])
    reach, depth = np.sqrt(-curvature / c), curvature**2 / (4 * c)
    return profile([-reach, 0, reach], [-depth, 0, -depth], [-2 * curvature, curvature, -2 * curvature])

  profiles = [along(curvature) for curvature in curvatures]
  points = product(profiles)
  reach = 1.5 * max(1.0, *(one.locations.max() for one in profiles))
  known = Known(
    points.params[0] if c else None,
    points.values[0] if c else None,
    smoothness=None if c else curvatures.max(),
    strong_convexity=curvatures.min(),
    stationary_points=points,
    box=cube(len(curvatures), -reach, reach),
  )
  start = np.where(curvatures > 0, 1.0, 0.01) if start is None else start
  value = StrictSaddle(tuple(curvatures.tolist()), c)
  return landscape('strict saddle', value, known, start=start, initial_scale=initial_scale)


@dataclasses.dataclass(frozen=True)
class MonkeySaddle:
  """See `monkey_saddle`."""

  confinement: float

  def __call__(self, params: Array) -> Array:
    """Returns f, float[]."""
    x, y = params
    return x**3 - 3 * x * y**2 + self.confinement / 4 * (x**2 + y**2) ** 2


@checked('confinement')
def monkey_saddle(
  confinement: float = 0.0, *, start: Any = (1.0, 0.01), initial_scale: float | None = None
) -> Problem:
  r"""The monkey saddle, with three descent directions and no curvature at 0.

  $$f(x, y) = x^3 - 3xy^2 + \frac c4 (x^2 + y^2)^2 = r^3 \cos 3\theta + \frac c4 r^4.$$

  At 0 the Hessian vanishes: its index is 0, but 0 is not a minimum. With c = 0 there is no other stationary point and f
  is unbounded below. With c > 0 the three descent directions end at $r = 3/c$, $\cos 3\theta = -1$, in minima of value
  $-27/4c^3$ with eigenvalues $9/c$ and $27/c$; the basin of each is a sector of 120 degrees.

  Args:
    confinement: c, 0 or in [1e-6, 1e6].
    start: initial point, float[2]; by default it first moves towards the saddle.
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.
  """
  c = moderate_or_zero('confinement', confinement)
  params, values, eigenvalues, basin = [[0.0, 0.0]], [0.0], [[0.0, 0.0]], [0.0]
  if c:
    radius = 3 / c
    height = radius * np.sqrt(3) / 2  # also the distance from a minimum to the border of its sector
    params += [[-radius, 0.0], [radius / 2, height], [radius / 2, -height]]
    values += [-27 / (4 * c**3)] * 3
    eigenvalues += [[9 / c, 27 / c]] * 3
    basin += [height] * 3
  # Minima first: the degenerate point has their index.
  points = listed(params, values, eigenvalues, basin)
  known = Known(
    points.params[0] if c else None,
    points.values[0] if c else None,
    stationary_points=points,
    box=cube(2, -1.5 * 3 / c, 1.5 * 3 / c) if c else cube(2, -1.5, 1.5),
  )
  return landscape('monkey saddle', MonkeySaddle(c), known, start=start, initial_scale=initial_scale)


@dataclasses.dataclass(frozen=True)
class DegenerateSaddle:
  """See `degenerate_saddle`."""

  confinement: float

  def __call__(self, params: Array) -> Array:
    """Returns f, float[]."""
    x, y = params
    return x**2 / 2 - y**4 / 4 + self.confinement / 6 * y**6


@checked('confinement')
def degenerate_saddle(
  confinement: float = 0.0, *, start: Any = (1.0, 0.1), initial_scale: float | None = None
) -> Problem:
  r"""A saddle whose descent direction has no curvature: second derivatives cannot distinguish it from a minimum.

  $$f(x, y) = \frac12 x^2 - \frac14 y^4 + \frac c6 y^6.$$

  At 0 the Hessian has the eigenvalues 0 and 1 and index 0. Gradient flow leaves it by $\dot y = y^3$: from a
  distance $y_0$ that takes the time $1/2y_0^2$, for a strict saddle $\log(1/y_0)$. With c = 0 there is no
  other stationary point and f is unbounded below; with c > 0 there are two minima at $y = \pm 1/\sqrt c$ of value
  $-1/12c^2$ with eigenvalues 1 and $2/c$.

  Args:
    confinement: c, 0 or in [1e-6, 1e6].
    start: initial point, float[2].
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.
  """
  c = moderate_or_zero('confinement', confinement)
  reach = 1 / np.sqrt(c) if c else 1.0
  down = profile([0.0], [0.0], [0.0])
  if c:
    down = profile([-reach, 0, reach], np.array([-1, 0, -1]) / (12 * c**2), [2 / c, 0, 2 / c])
  points = product([profile([0.0], [0.0], [1.0]), down])
  known = Known(
    points.params[0] if c else None,
    points.values[0] if c else None,
    stationary_points=points,
    box=np.array([[-1.5, 1.5], [-1.5 * reach, 1.5 * reach]]),
  )
  return landscape('degenerate saddle', DegenerateSaddle(c), known, start=start, initial_scale=initial_scale)
