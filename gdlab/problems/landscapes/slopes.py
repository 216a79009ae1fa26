"""Landscapes with one minimum and difficult slopes: far too small on a plateau, far too large at a cliff."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize, special

from gdlab.core.arguments import checked
from gdlab.core.errors import check_count
from gdlab.core.types import Array, Known, Problem
from gdlab.problems.checks import moderate
from gdlab.problems.landscapes.base import cube, landscape
from gdlab.problems.landscapes.points import listed


@dataclasses.dataclass(frozen=True)
class Plateau:
  """See `plateau`."""

  width: float

  def __call__(self, params: Array) -> Array:
    """Returns f, float[]."""
    square = jnp.sum((params / self.width) ** 2) / 2
    return square / (1 + square)


@checked('dim', 'width')
def plateau(
  dim: int = 2, *, width: float = 1.0, start: Any = None, initial_scale: float | None = None
) -> Problem:
  r"""A pit in a plateau: far out the gradient vanishes, and descent is very slow.

  $$f(x) = \frac{s}{1 + s}, \qquad s = \frac{\lVert x \rVert^2}{2w^2}.$$

  The only stationary point is the minimum 0 at 0, with Hessian $I/w^2$; gradient flow leads there from everywhere.
  Far out f is near 1 and the gradient near $4w^2/r^3$, so that gradient flow from a distance r takes the time
  $r^4/16w^2$. The curvature lies between $-1/4w^2$ (radial, at $r = \sqrt2 w$) and $L = 1/w^2$.

  Args:
    dim: d >= 1.
    width: w in [1e-6, 1e6].
    start: initial point, float[d]; all 3w by default.
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: the loss of Geman, McClure, "Statistical methods for tomographic image reconstruction", 1987.
  """
  dim = check_count('dim', dim)
  width = moderate('width', width)
  steepest = 1 / width**2
  known = Known(
    np.zeros(dim),
    np.float64(0),
    smoothness=np.float64(steepest),
    strong_convexity=np.float64(-steepest / 4),
    stationary_points=listed(np.zeros((1, dim)), [0.0], np.full((1, dim), steepest), [np.inf]),
    box=cube(dim, -5 * width, 5 * width),
  )
  start = np.full(dim, 3 * width) if start is None else start
  return landscape('plateau', Plateau(width), known, start=start, initial_scale=initial_scale)


@dataclasses.dataclass(frozen=True)
class Cliff:
  """See `cliff`."""

  height: float
  width: float
  position: float
  curvature: float

  def __call__(self, params: Array) -> Array:
    """Returns f, float[]."""
    step = jax.nn.sigmoid((params[0] - self.position) / self.width)
    return self.curvature / 2 * jnp.sum(params**2) + self.height * step


@checked('dim')
def cliff(
  dim: int = 2,
  *,
  height: float = 2.0,
  width: float = 0.05,
  position: float = 1.0,
  curvature: float = 0.2,
  start: Any = None,
  initial_scale: float | None = None,
) -> Problem:
  r"""A shallow bowl with a steep step across it, where a single step can throw descent far away.

  $$f(x, y) = \frac k2 (x^2 + \lVert y \rVert^2) + h\,\sigma\!\left(\frac{x - p}{w}\right),
    \qquad \sigma(t) = \frac1{1 + e^{-t}}.$$

  The slope is small everywhere except near x = p, where it is $h/4w$. The only stationary point is the minimum, a
  little left of 0; gradient flow leads there from everywhere. With $c = h/(6\sqrt3\,w^2)$ the Hessian's eigenvalues
  lie between k - c and L = k + c. As in a recurrent network, gradient clipping helps.

  Args:
    dim: d >= 1, the coordinate x across the step and d - 1 coordinates y along it.
    height: h in [1e-6, 1e6], of the step.
    width: w in [1e-6, 1e6], of the step.
    position: p in [1e-6, 1e6], of the step; the minimum lies below it, to the left.
    curvature: k in [1e-6, 1e6], of the bowl.
    start: initial point, float[d]; by default x = 2p, above the step, and y = 1.
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Pascanu, Mikolov, Bengio 2013, arXiv 1211.5063, on the cliffs of recurrent networks.
  """
  dim = check_count('dim', dim)
  h, w, p, k = (
    moderate(name, number)
    for name, number in (
      ('height', height),
      ('width', width),
      ('position', position),
      ('curvature', curvature),
    )
  )

  def steps(x: float) -> tuple[float, float]:
    low, high = special.expit([(x - p) / w, (p - x) / w])
    return h / w * low * high, h / w**2 * low * high * (high - low)

  # Left of p the slope k x + h sigma'/w is increasing; at 0 it is positive, and negative where the bowl's exceeds it.
  x = float(optimize.brentq(lambda x: k * x + steps(x)[0], -2 * steps(0.0)[0] / k - 1e-300, 0.0, xtol=1e-300))
  place = np.r_[x, np.zeros(dim - 1)]
  lowest = k / 2 * x**2 + h * special.expit((x - p) / w)
  eigenvalues = np.r_[np.full(dim - 1, k), k + steps(x)[1]]
  most = h / (6 * np.sqrt(3) * w**2)
  known = Known(
    place,
    np.float64(lowest),
    smoothness=np.float64(k + most),
    strong_convexity=np.float64(k - most),
    stationary_points=listed(place[None], [lowest], eigenvalues[None], [np.inf]),
    box=np.array([[-2 * p, 3 * p]] + [[-2.5 * p, 2.5 * p]] * (dim - 1)),
  )
  start = np.r_[2 * p, np.ones(dim - 1)] if start is None else start
  return landscape('cliff', Cliff(h, w, p, k), known, start=start, initial_scale=initial_scale)
