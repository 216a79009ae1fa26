"""Classic landscapes of two parameters, all of whose stationary points are known.

Locations without a closed form were found by Newton's method in float64 and are verified by the tests. The basins are
radii from which gradient flow ended in the minimum in all directions, minus a margin.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.types import Array, Known, Problem
from gdlab.problems.landscapes.base import landscape
from gdlab.problems.landscapes.points import listed, tabled

# Rows: x, y, value, eigenvalues of the Hessian, basin.
_HIMMELBLAU = (
  (3.0, 2.0, 0.0, 25.715728752538098, 82.2842712474619, 1.7),
  (3.5844283403304917, -1.8481265269644036, 0.0, 28.69067715675525, 105.41890833631604, 1.7),
  (-2.805118086952745, 3.131312518250573, 0.0, 64.84037277068418, 80.55007177893319, 2.6),
  (-3.779310253377747, -3.2831859912861696, 0.0, 70.71435474424425, 133.7856152130671, 2.9),
  (3.3851541836070207, 0.0738518798377493, 13.31192627040559, -14.13517848545049, 97.54787810260179, 0),
  (0.08667750455539634, 2.8842547011747763, 67.71915008752613, -31.706622362774336, 75.50760923823204, 0),
  (-3.0730257507643897, -0.08135304428796751, 104.01516291755811, -39.65149625621666, 72.43524806811874, 0),
  (-0.12796134673068005, -1.9537149802445766, 178.33723920192745, -50.610239320365764, 20.28404997593508, 0),
  (-0.2708445906673476, -0.9230385564799816, 181.6165215225827, -45.60522929278951, -16.066019667290867, 0),
)
_BEALE = (
  (3.0, 0.5, 0.0, 0.3014636465222469, 48.97978635347775, 2.4),
  (0.10053793732415843, -2.6445135850231245, 9.86451228475556, -0.7810271726932481, 867.752179332927, 0),
  (0.0, 1.0, 14.203125, -27.75, 27.75, 0),
)


@checked
def himmelblau(*, start: Any = (0.0, 0.0), initial_scale: float | None = None) -> Problem:
  r"""Himmelblau's function: four equal minima, four saddles, one maximum.

  $$f(x, y) = (x^2 + y - 11)^2 + (x + y^2 - 7)^2.$$

  The minima, of value 0, are (3, 2) and three without a short form. There are no other points than these nine: by
  Bezout's theorem the two cubics of its gradient have at most nine common roots.

  Args:
    start: initial point, float[2].
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Himmelblau, Applied Nonlinear Programming, 1972.
  """
  box = np.array([[-6.0, 6.0], [-6.0, 6.0]])
  known = Known(np.array([3.0, 2.0]), np.float64(0), stationary_points=tabled(_HIMMELBLAU), box=box)
  return landscape('Himmelblau', _himmelblau, known, start=start, initial_scale=initial_scale)


def _himmelblau(params: Array) -> Array:
  x, y = params
  return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


@checked
def beale(*, start: Any = (1.0, 1.0), initial_scale: float | None = None) -> Problem:
  r"""Beale's function: a curved valley, flat along its floor, with walls of the eighth order.

  $$f(x, y) = (1.5 - x + xy)^2 + (2.25 - x + xy^2)^2 + (2.625 - x + xy^3)^2.$$

  The minimum, of value 0, is (3, 1/2). There are two saddles, at (0, 1) and near (0.1005, -2.6445). Descent from the
  wrong side of them diverges to infinity along $y \to 1$.

  Args:
    start: initial point, float[2].
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Beale, On an Iterative Method for Finding a Local Minimum, Princeton, 1958; Moré, Garbow, Hillstrom,
  "Testing unconstrained optimization software", 1981, problem 5, with its start.
  """
  box = np.array([[-4.5, 4.5], [-4.5, 4.5]])
  known = Known(np.array([3.0, 0.5]), np.float64(0), stationary_points=tabled(_BEALE), box=box)
  return landscape('Beale', _beale, known, start=start, initial_scale=initial_scale)


def _beale(params: Array) -> Array:
  x, y = params
  return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


@checked
def booth(*, start: Any = (-5.0, 5.0), initial_scale: float | None = None) -> Problem:
  r"""Booth's function, a quadratic bowl whose axes are not those of the coordinates.

  $$f(x, y) = (x + 2y - 7)^2 + (2x + y - 5)^2.$$

  The minimum, of value 0, is (1, 3); L = 18, mu = 2.

  Args:
    start: initial point, float[2].
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Jamil, Yang, "A literature survey of benchmark functions", 2013, arXiv 1308.4008, function 17.
  """
  points = listed([[1.0, 3.0]], [0.0], [[2.0, 18.0]], [np.inf])
  box = np.array([[-10.0, 10.0], [-10.0, 10.0]])
  known = Known(np.array([1.0, 3.0]), np.float64(0), np.float64(18), np.float64(2), points, box)
  return landscape('Booth', _booth, known, start=start, initial_scale=initial_scale)


def _booth(params: Array) -> Array:
  x, y = params
  return (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2


_BRANIN_HILL = 10 * (1 - 1 / (8 * np.pi))


@checked
def branin(*, start: Any = (2.5, 7.5), initial_scale: float | None = None) -> Problem:
  r"""The Branin function: a parabolic valley with a wave along it, three equal minima and two saddles between them.

  $$f(x, y) = (r + y)^2 + a \cos x + 10, \quad r = -\frac{5.1}{4\pi^2} x^2 + \frac5\pi x - 6,
    \quad a = 10 - \frac{10}{8\pi}.$$

  In the box [-5, 10] x [0, 15] its stationary points are $x = k\pi$, $y = -r(k\pi)$: for odd k minima of value
  $10 - a = 5/4\pi \approx 0.3979$, for even k saddles of value $10 + a$. Outside there are infinitely many more.

  Args:
    start: initial point, float[2].
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Branin, "Widely convergent method for finding multiple solutions of simultaneous nonlinear equations",
  IBM Journal, 1972; Dixon, Szegő, Towards Global Optimisation 2, 1978.
  """
  x = np.pi * np.arange(-1, 4)
  wave = np.array([-1.0, 1.0, -1.0, 1.0, -1.0])
  slope = -5.1 / (2 * np.pi**2) * x + 5 / np.pi
  hessians = np.zeros((5, 2, 2))
  hessians[:, 0, 0] = 2 * slope**2 - _BRANIN_HILL * wave
  hessians[:, 0, 1] = hessians[:, 1, 0] = 2 * slope
  hessians[:, 1, 1] = 2
  points = listed(
    np.stack([x, 5.1 / (4 * np.pi**2) * x**2 - 5 / np.pi * x + 6], axis=-1),
    10 + _BRANIN_HILL * wave,
    np.linalg.eigvalsh(hessians),
    [4.5, 0, 2.9, 0, 2.9],
  )
  box = np.array([[-5.0, 10.0], [0.0, 15.0]])
  known = Known(points.params[0], points.values[0], stationary_points=points, box=box)
  return landscape('Branin', _branin, known, start=start, initial_scale=initial_scale)


def _branin(params: Array) -> Array:
  x, y = params
  valley = y - 5.1 / (4 * jnp.pi**2) * x**2 + 5 / jnp.pi * x - 6
  return valley**2 + _BRANIN_HILL * jnp.cos(x) + 10
