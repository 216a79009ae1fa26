"""The two camels and the Müller-Brown surface: wells with saddles of known height between them.

Locations were found by Newton's method in float64 and are verified by the tests. The basins are radii from which
gradient flow ended in the minimum in all directions, minus a margin.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.types import Array, Known, Problem
from gdlab.problems.landscapes.base import landscape
from gdlab.problems.landscapes.points import listed, tabled

# Rows: x, y, value, eigenvalues of the Hessian, basin. Each stands for its mirror image (-x, -y) too.
_SIX_HUMPS = (
  (0.08984201310031806, -0.7126564030207396, -1.0316284534898774, 7.682251413369076, 16.493195232227734, 0.6),
  (1.703606714969981, -0.7960835686726251, -0.2154638243837187, 18.81713863516047, 22.697515006928892, 0.5),
  (1.6071047529201974, 0.5686514548841314, 2.1042503103112575, 7.121512120207152, 10.021602516183243, 0.25),
  (1.1092053368047865, -0.7682680925095399, 0.5437186009781853, -7.9026191199873885, 20.366739739128, 0),
  (1.638067984189779, 0.2286740690443941, 2.2293571975307134, -5.545775017246522, 12.436664436358413, 0),
  (1.2960702671671092, 0.6050843880386585, 2.2294708180298595, -6.1771821269674145, 9.637588488012842, 0),
  (1.2302298765166524, 0.16233458445899493, 2.496295351023577, -8.014907156539834, -5.953724166834649, 0),
)
_MUELLER_BROWN = (
  (-0.5582236346330243, 1.4417258418046686, -146.69951720995402, 410.5311346928893, 4068.1989550264852, 0.48),
  (
    0.6234994049308764,
    0.028037758528685664,
    -108.16672411685236,
    543.8361890186194,
    3005.3958645326757,
    0.39,
  ),
  (
    -0.050010822998206056,
    0.4666941048719721,
    -80.76781812965903,
    221.03747287232125,
    1479.1970220128346,
    0.23,
  ),
  (0.21248658200066198, 0.2929883251073678, -72.2489401123252, -735.2472621113646, 510.8865654725472, 0),
  (-0.8220015587327322, 0.6243128028148713, -40.664843508657405, -750.8626628392775, 490.24070805963095, 0),
)


def _mirrored(rows: tuple[tuple[float, ...], ...]) -> list[tuple[float, ...]]:
  return [(sign * x, sign * y, *rest) for x, y, *rest in rows for sign in (1, -1)]


@checked
def six_hump_camel(*, start: Any = (0.5, 1.0), initial_scale: float | None = None) -> Problem:
  r"""The six-hump camel: six minima in three pairs, two maxima, seven saddles.

  $$f(x, y) = \left(4 - 2.1 x^2 + \tfrac13 x^4\right) x^2 + xy + (4y^2 - 4) y^2.$$

  Two minima are global, of value -1.0316, at ±(0.0898, -0.7127). There are no other points than these fifteen: by
  Bezout's theorem a quintic and a cubic have at most fifteen common roots.

  Args:
    start: initial point, float[2].
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Dixon, Szegő, Towards Global Optimisation 2, 1978.
  """
  centre, root = (0.0, 0.0, 0.0), np.sqrt(65.0)  # the Hessian at 0 is [[8, 1], [1, -8]]
  points = tabled([*_mirrored(_SIX_HUMPS), (*centre, -root, root, 0.0)])
  box = np.array([[-2.0, 2.0], [-1.25, 1.25]])
  known = Known(points.params[0], points.values[0], stationary_points=points, box=box)
  return landscape('six-hump camel', _six_hump_camel, known, start=start, initial_scale=initial_scale)


def _six_hump_camel(params: Array) -> Array:
  x, y = params
  return (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (4 * y**2 - 4) * y**2


@checked
def three_hump_camel(*, start: Any = (-2.0, -2.0), initial_scale: float | None = None) -> Problem:
  r"""The three-hump camel: three minima in a row and the two saddles between them.

  $$f(x, y) = 2x^2 - 1.05 x^4 + \tfrac16 x^6 + xy + y^2.$$

  The global minimum 0 is at 0. All stationary points have $y = -x/2$ and $x (x^4 - 4.2 x^2 + 3.5) = 0$.

  Args:
    start: initial point, float[2].
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Jamil, Yang, "A literature survey of benchmark functions", 2013, arXiv 1308.4008, function 29.
  """
  squares = 2.1 + np.sqrt(2.1**2 - 3.5) * np.array([1, -1])
  outer, inner = np.sqrt(squares)
  x = np.array([0, outer, -outer, inner, -inner])
  hessians = np.ones((5, 2, 2))
  hessians[:, 0, 0] = 4 - 12.6 * x**2 + 5 * x**4
  hessians[:, 1, 1] = 2
  values = 1.75 * x**2 - 1.05 * x**4 + x**6 / 6
  points = listed(
    np.stack([x, -x / 2], axis=-1), values, np.linalg.eigvalsh(hessians), [1.0, 0.55, 0.55, 0, 0]
  )
  box = np.array([[-2.5, 2.5], [-2.5, 2.5]])
  known = Known(np.zeros(2), np.float64(0), stationary_points=points, box=box)
  return landscape('three-hump camel', _three_hump_camel, known, start=start, initial_scale=initial_scale)


def _three_hump_camel(params: Array) -> Array:
  x, y = params
  return 2 * x**2 - 1.05 * x**4 + x**6 / 6 + x * y + y**2


_HEIGHTS = (-200.0, -100.0, -170.0, 15.0)
_QUADRATICS = ((-1.0, 0.0, -10.0), (-1.0, 0.0, -10.0), (-6.5, 11.0, -6.5), (0.7, 0.6, 0.7))
_CENTRES = ((1.0, 0.0), (0.0, 0.5), (-0.5, 1.5), (-1.0, 1.0))


@checked
def mueller_brown(*, start: Any = (-0.7, 0.6), initial_scale: float | None = None) -> Problem:
  r"""The Müller-Brown surface of chemistry: three wells in a curved row, and two saddles between them.

  $$f(x, y) = \sum_{k=1}^4 A_k \exp\!\left(a_k (x - x_k)^2 + b_k (x - x_k)(y - y_k) + c_k (y - y_k)^2\right)$$

  with the published constants. The minima are -146.70 at (-0.558, 1.442), -108.17 at (0.623, 0.028) and -80.77 at
  (-0.050, 0.467), the saddles -40.66 at (-0.822, 0.624) and -72.25 at (0.212, 0.293); a barrier is the difference. The
  list is complete in the box. The eigenvalues reach 4000: descent at rates above 5e-4 does not converge in the deepest
  well, and outside the box the walls grow exponentially.

  Args:
    start: initial point, float[2].
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Müller, Brown, "Location of saddle points and minimum energy paths by a constrained simplex optimization
  procedure", Theoretica Chimica Acta 53, 1979.
  """
  points = tabled(_MUELLER_BROWN)
  box = np.array([[-1.5, 1.2], [-0.2, 2.0]])
  known = Known(points.params[0], points.values[0], stationary_points=points, box=box)
  return landscape('Müller-Brown', _mueller_brown, known, start=start, initial_scale=initial_scale)


def _mueller_brown(params: Array) -> Array:
  x, y = (params[None] - jnp.asarray(_CENTRES)).T
  a, b, c = jnp.asarray(_QUADRATICS).T
  return jnp.asarray(_HEIGHTS) @ jnp.exp(a * x**2 + b * x * y + c * y**2)
