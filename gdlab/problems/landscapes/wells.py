"""Two wells with a ridge between them: a tilted double well, and a narrow valley next to a wide one."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import optimize

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real, shown
from gdlab.core.types import Array, Known, Problem
from gdlab.problems.checks import moderate
from gdlab.problems.landscapes.base import landscape
from gdlab.problems.landscapes.points import polished, product, profile


@dataclasses.dataclass(frozen=True)
class DoubleWell:
  """See `double_well`."""

  depth: float
  tilt: float
  stiffness: float

  def __call__(self, params: Array) -> Array:
    """Returns f, float[]."""
    x = params[0]
    return self.depth * (x**2 - 1) ** 2 + self.tilt * x + self.stiffness / 2 * jnp.sum(params[1:] ** 2)


@checked('dim', 'depth', 'tilt', 'stiffness')
def double_well(
  dim: int = 2,
  *,
  depth: float = 1.0,
  tilt: float = 0.0,
  stiffness: float = 1.0,
  start: Any = None,
  initial_scale: float | None = None,
) -> Problem:
  r"""A tilted double well along the first coordinate, a bowl along all others.

  $$f(x, y) = D (x^2 - 1)^2 + t x + \frac k2 \lVert y \rVert^2.$$

  The two minima and the saddle between them are at y = 0 and the three roots of $4Dx(x^2 - 1) + t$, which are real
  for $|t| < 8D/3\sqrt3$. The barrier out of a well is the difference of two listed values; without tilt it is D, with
  curvatures 8D in the wells and -4D on the ridge. The Hessian's smallest eigenvalue is -4D.

  Example:
    >>> points = double_well(1, depth=2.0).known.stationary_points
    >>> points.params.tolist(), (points.values[2] - points.values[0]).tolist()
    ([[-1.0], [1.0], [0.0]], 2.0)

  Args:
    dim: d >= 1, the coordinate x and d - 1 coordinates y.
    depth: D in [1e-6, 1e6].
    tilt: t in the open interval above; > 0 makes the left well the deeper one.
    stiffness: k in [1e-6, 1e6].
    start: initial point, float[d]; by default x = -1.5 and y = 1.
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.
  """
  dim = check_count('dim', dim)
  depth = moderate('depth', depth)
  steepest = 8 * depth / np.sqrt(27)
  tilt = float(check_real('tilt', tilt, above=-steepest, below=steepest))
  stiffness = moderate('stiffness', stiffness)
  slope, curvature = np.poly1d([4 * depth, 0, -4 * depth, tilt]), np.poly1d([12 * depth, 0, -4 * depth])
  # Viète's three real roots of x^3 - x + t/4D.
  angles = (np.arccos(-tilt / steepest) - 2 * np.pi * np.arange(3)) / 3
  roots = np.sort(polished(2 / np.sqrt(3) * np.cos(angles), slope, curvature))
  along = profile(roots, depth * (roots**2 - 1) ** 2 + tilt * roots, curvature(roots))
  points = product([along] + [profile([0.0], [0.0], [stiffness])] * (dim - 1))
  known = Known(
    points.params[0],
    points.values[0],
    strong_convexity=np.float64(-4 * depth),
    stationary_points=points,
    box=np.array([[-1.8, 1.8]] + [[-1.8, 1.8]] * (dim - 1)),
  )
  start = np.r_[-1.5, np.ones(dim - 1)] if start is None else start
  value = DoubleWell(depth, tilt, stiffness)
  return landscape('double well', value, known, start=start, initial_scale=initial_scale)


@dataclasses.dataclass(frozen=True)
class TwoValleys:
  """See `two_valleys`: x is stretched to u, where the wells lie at -1 and 1 and the ridge at `ridge`."""

  height: float
  ridge: float
  stretch: float
  skew: float
  bend: float
  stiffness: float

  def place(self, u: Any) -> Any:
    """The coordinate x of u, ascending; the ridge is at 0."""
    return self._unshifted(u) - self._unshifted(self.ridge)

  def __call__(self, params: Array) -> Array:
    """Returns f, float[]."""
    x = params[0] + self._unshifted(self.ridge)
    square = self.stretch**2 - self.skew**2
    u = (self.stretch * x - self.skew * jnp.sqrt(x**2 + self.bend**2 * square)) / square
    well = (u**2 - 1) ** 2 + 4 * self.ridge / 3 * (3 * u - u**3) + 8 / 3 * abs(self.ridge)
    return self.height * well + self.stiffness / 2 * jnp.sum(params[1:] ** 2)

  def _unshifted(self, u: Any) -> Any:
    return self.stretch * u + self.skew * np.sqrt(self.bend**2 + u**2)


@checked('dim', 'curvatures', 'depths', 'stiffness')
def two_valleys(
  dim: int = 2,
  *,
  curvatures: tuple[float, float] = (100.0, 1.0),
  depths: tuple[float, float] = (1.0, 1.0),
  stiffness: float = 1.0,
  start: Any = None,
  initial_scale: float | None = None,
) -> Problem:
  r"""Two adjacent valleys of given sharpness and depth, such as a narrow and a wide one.

  $$f(x, y) = h\left[(u^2 - 1)^2 + \tfrac43 r (3u - u^3) + \tfrac83 |r|\right] + \frac k2 \lVert y \rVert^2,
    \qquad x = au + b\sqrt{e^2 + u^2} + \text{const},$$

  where $u(x)$ is the (smooth, increasing) inverse. The minima are u = -1 and u = 1, the saddle is u = r, at x = 0;
  the lower minimum has value 0. The constants are chosen so that the curvatures along x at the two minima, and the
  heights of the ridge above them, are the given ones, to rounding. Away from the ridge a valley's width is proportional
  to the root of depth over curvature.

  Example:
    >>> points = two_valleys(curvatures=(100.0, 1.0), depths=(1.0, 2.0)).known.stationary_points
    >>> points.values.round(6).tolist(), points.eigenvalues[:2].max(axis=1).round(6).tolist()
    ([0.0, 1.0, 2.0], [1.0, 100.0])

  Args:
    dim: d >= 1, the coordinate x across the valleys and d - 1 coordinates y along them.
    curvatures: two numbers in [1e-6, 1e6], at the left and at the right minimum, at most a factor of
      1e6 apart.
    depths: two numbers in [1e-6, 1e6], the ridge's height above the left and above the right minimum, at most
      a factor of 1e3 apart.
    stiffness: k in [1e-6, 1e6], the curvature along y.
    start: initial point, float[d]; by default half way from the ridge to the left minimum, and y = 1.
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.
  """
  dim = check_count('dim', dim)
  sharpness, heights = _pair('curvatures', curvatures, 1e6), _pair('depths', depths, 1e3)
  stiffness = moderate('stiffness', stiffness)
  value = _solved(sharpness, heights, stiffness)
  left, right = value.place(-1.0), value.place(1.0)
  floor = min(-heights)
  along = profile(
    [left, 0.0, right],
    [-heights[0] - floor, -floor, -heights[1] - floor],
    [sharpness[0], _ridge_curvature(value), sharpness[1]],
  )
  points = product([along] + [profile([0.0], [0.0], [stiffness])] * (dim - 1))
  across = [1.8 * left, 1.6 * right]
  reach = np.sqrt(3 * heights.max() / stiffness)
  known = Known(
    points.params[0],
    points.values[0],
    stationary_points=points,
    box=np.array([across] + [[-reach, reach]] * (dim - 1)),
  )
  start = np.r_[left / 2, np.ones(dim - 1)] if start is None else start
  return landscape('two valleys', value, known, start=start, initial_scale=initial_scale)


def _solved(curvatures: np.ndarray, depths: np.ndarray, stiffness: float) -> TwoValleys:
  # Over h, the depths are m(r) +- 8r/3 with m = 1 + 2r^2 - r^4/3: their ratio fixes r in (-1, 1), their sum then h.
  imbalance = (depths[0] - depths[1]) / depths.sum()

  def mean(r: float) -> float:
    return 1 + 2 * r**2 - r**4 / 3

  ridge = float(optimize.brentq(lambda r: 8 * r / 3 - imbalance * mean(r), -1, 1, xtol=1e-16))
  height = float(depths.sum() / 2 / mean(ridge))
  # In u the curvatures are 8h(1 +- r), so dx/du at -1 and 1 must be these; b/sqrt(1 + e^2) is half their difference.
  widths = np.sqrt(8 * height * np.array([1 + ridge, 1 - ridge]) / curvatures)
  mean_width, half_gap = widths.mean(), np.diff(widths).item() / 2
  # Any sine between |gap|/mean and 1 keeps |b| < a, so that u(x) is increasing; this one is half way.
  sine = (1 + abs(half_gap) / mean_width) / 2
  bend = np.sqrt(1 / sine**2 - 1)
  return TwoValleys(height, ridge, float(mean_width), float(half_gap / sine), float(bend), stiffness)


def _ridge_curvature(value: TwoValleys) -> float:
  r = value.ridge
  stretched = value.stretch + value.skew * r / np.sqrt(value.bend**2 + r**2)
  return 4 * value.height * (r**2 - 1) / stretched**2


def _pair(name: str, values: Any, most: float) -> np.ndarray:
  if not (isinstance(values, (tuple, list, np.ndarray)) and len(values) == 2):
    raise InputError(f'{name} must be two numbers, for the left and the right valley, got {shown(values)}')
  pair = np.array([moderate(name, value) for value in values])
  if pair.max() > most * pair.min():
    raise InputError(f'{name} must be at most a factor of {most:g} apart, got {shown(values)}')
  return pair
