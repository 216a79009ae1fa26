"""Landscapes of any dimension with many minima."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import check_count
from gdlab.core.types import Array, Known, Problem, StationaryPoints
from gdlab.problems.landscapes.base import cube, landscape
from gdlab.problems.landscapes.points import Profile, listed, polished, product, profile, tabled

_STYBLINSKI_SLOPE = np.array([2.0, 0.0, -16.0, 2.5])
_RASTRIGIN = 10.0


@checked('dim')
def styblinski_tang(dim: int = 2, *, start: Any = None, initial_scale: float | None = None) -> Problem:
  r"""The Styblinski-Tang function, a sum of equal tilted double wells: 2^d minima.

  $$f(x) = \frac12 \sum_j (x_j^4 - 16 x_j^2 + 5 x_j).$$

  Its stationary points are the 3^d combinations of the roots of $2x^3 - 16x + 5/2$ (2 minima, 1 maximum), all
  listed up to d = 7; above that one of each index. The global minimum is $\approx -39.166\,d$ at
  $x_j \approx -2.9035$. The Hessian's smallest eigenvalue anywhere is -16, its largest is unbounded.

  Args:
    dim: d >= 1.
    start: initial point, float[d]; zeros by default, near the maximum.
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Styblinski, Tang, "Experiments in nonconvex optimization", Neural Networks 3, 1990.
  """
  dim = check_count('dim', dim)
  slope, curvature = np.poly1d(_STYBLINSKI_SLOPE), np.poly1d(_STYBLINSKI_SLOPE).deriv()
  roots = polished(np.sort(slope.roots.real), slope, curvature)
  one = profile(roots, (roots**4 - 16 * roots**2 + 5 * roots) / 2, curvature(roots))
  points = product([one] * dim)
  known = Known(
    points.params[0],
    points.values[0],
    strong_convexity=np.float64(-16),
    stationary_points=points,
    box=cube(dim, -5, 5),
  )
  start = np.zeros(dim) if start is None else start
  return landscape('Styblinski-Tang', _styblinski_tang, known, start=start, initial_scale=initial_scale)


def _styblinski_tang(params: Array) -> Array:
  return jnp.sum(params**4 - 16 * params**2 + 5 * params) / 2


@checked('dim')
def rastrigin(dim: int = 2, *, start: Any = None, initial_scale: float | None = None) -> Problem:
  r"""The Rastrigin function: a bowl with a deep ripple on every coordinate.

  $$f(x) = 10 d + \sum_j \left(x_j^2 - 10 \cos 2\pi x_j\right).$$

  Its 21^d stationary points in the box $[-5.12, 5.12]^d$ combine the 11 minima and 10 maxima of one coordinate, near
  integers and half-integers; all are listed for d <= 2, above that one of each index. The global minimum is 0 at 0.
  $L = 2 + 40\pi^2$, and the Hessian's smallest eigenvalue anywhere is $2 - 40\pi^2$.

  Args:
    dim: d >= 1.
    start: initial point, float[d]; all 3.3 by default.
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Mühlenbein, Schomisch, Born, "The parallel genetic algorithm as function optimizer", 1991.
  """
  dim = check_count('dim', dim)
  ripple = 2 * np.pi * _RASTRIGIN
  # With one maximum beyond the box on either side, where the basins of the outermost minima end.
  roots = polished(
    np.arange(-11, 12) / 2,
    lambda x: 2 * x + ripple * np.sin(2 * np.pi * x),
    lambda x: 2 + 2 * np.pi * ripple * np.cos(2 * np.pi * x),
  )
  wave = np.cos(2 * np.pi * roots)
  one = profile(roots, _RASTRIGIN + roots**2 - _RASTRIGIN * wave, 2 + 2 * np.pi * ripple * wave)
  points = product([Profile(*(part[1:-1] for part in one))] * dim)
  known = Known(
    np.zeros(dim),
    np.float64(0),
    smoothness=np.float64(2 + 2 * np.pi * ripple),
    strong_convexity=np.float64(2 - 2 * np.pi * ripple),
    stationary_points=points,
    box=cube(dim, -5.12, 5.12),
  )
  start = np.full(dim, 3.3) if start is None else start
  return landscape('Rastrigin', _rastrigin, known, start=start, initial_scale=initial_scale)


def _rastrigin(params: Array) -> Array:
  # 10 (1 - cos) as a square of a sine, which is exact near the minimum at 0.
  return jnp.sum(params**2 + 2 * _RASTRIGIN * jnp.sin(jnp.pi * params) ** 2)


# Two dimensions: x, y, value, eigenvalues of the Hessian, basin. Each stands for its mirror images in both axes too.
_GRIEWANK = (
  (0.0, 0.0, 0.0, 0.5005, 1.0005, 2.4),
  (
    *(3.1400226338955397, 4.438444480920714, 0.0073960403341151075),
    *(0.5004969212526114, 1.0004938425780627, 2.4),
  ),
  (
    *(1.5723679104393218, 2.2225533025787545, 1.001851785452283),
    *(-0.7066047627614879, 0.7076066160937818, 0),
  ),
  (
    *(4.710820534479318, 2.218110408756954, 1.0067816553099953),
    *(-0.7066067206861486, 0.7076011791812208, 0),
  ),
  (3.1431642363549055, 0.0, 2.0024686354182357, -0.9994987650640604, -0.4994993825320301, 0),
  (0.0, 4.447330275764382, 2.004939741946562, -0.9994950553011296, -0.4994975276505647, 0),
)


@checked('dim')
def griewank(dim: int = 2, *, start: Any = None, initial_scale: float | None = None) -> Problem:
  r"""The Griewank function: a very wide bowl with a ripple that couples all coordinates.

  $$f(x) = 1 + \frac1{4000} \sum_j x_j^2 - \prod_j \cos\frac{x_j}{\sqrt j}.$$

  The global minimum is 0 at 0, with the Hessian's eigenvalues $1/j + 1/2000$. The box is [-5, 5]^d, at the scale of the
  ripple; searches customarily start in [-600, 600]^d. The list has the 3 stationary points in one dimension and all 17
  in two; in more dimensions those 17, padded with zeros, which is incomplete, without basins.

  Args:
    dim: d >= 1.
    start: initial point, float[d]; all 4 by default.
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Griewank, "Generalized descent for global optimization", JOTA 34, 1981.
  """
  dim = check_count('dim', dim)
  known = Known(np.zeros(dim), np.float64(0), stationary_points=_griewank_points(dim), box=cube(dim, -5, 5))
  start = np.full(dim, 4.0) if start is None else start
  return landscape('Griewank', _griewank, known, start=start, initial_scale=initial_scale)


def _griewank_points(dim: int) -> StationaryPoints:
  if dim == 1:
    roots = polished([-np.pi, 0, np.pi], lambda x: x / 2000 + np.sin(x), lambda x: 1 / 2000 + np.cos(x))
    # The minima beyond the maxima are outside the box; between these all flows to 0.
    return product([profile(roots, roots**2 / 4000 + 1 - np.cos(roots), 1 / 2000 + np.cos(roots))])
  # A dict drops the images that coincide because a coordinate is 0.
  images = {(s * x, t * y): rest for x, y, *rest in _GRIEWANK for s in (1, -1) for t in (1, -1)}
  plane = tabled([(*place, *rest) for place, rest in images.items()])
  if dim == 2:
    return plane
  # Along another coordinate j the slope vanishes at 0; the curvature is 1/2000 + (the product of cosines) / j.
  waves = np.prod(np.cos(plane.params / np.sqrt([1, 2])), axis=1)
  more = 1 / 2000 + waves[:, None] / np.arange(3, dim + 1)
  return listed(
    np.pad(plane.params, ((0, 0), (0, dim - 2))),
    plane.values,
    np.concatenate([plane.eigenvalues, more], axis=1),
    np.zeros(len(more)),
    complete=False,
  )


def _griewank(params: Array) -> Array:
  scales = jnp.sqrt(jnp.arange(1, params.shape[0] + 1, dtype=params.dtype))
  return 1 + jnp.sum(params**2) / 4000 - jnp.prod(jnp.cos(params / scales))
