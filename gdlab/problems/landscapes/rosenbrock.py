"""The Rosenbrock valley in two or more dimensions."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import check_count
from gdlab.core.types import Array, Known, Problem, StationaryPoints
from gdlab.problems.landscapes.base import cube, landscape
from gdlab.problems.landscapes.points import listed

# For 4 <= d <= 7, found by Newton's method in float64.
_SECOND_MINIMUM = {
  4: (-0.7756592265653526, 0.6130933654850433, 0.38206284633839305, 0.14597201855219455),
  5: (-0.9620510206947501, 0.9357393959767101, 0.8807136041943205, 0.7778776758544064, 0.605093678592653),
  6: (
    *(-0.9865749795709937, 0.9833982288361818, 0.9721066700530919),
    *(0.947437436826436, 0.8986511848517296, 0.8075739520354175),
  ),
  7: (
    *(-0.9917225725614055, 0.9935553935033712, 0.9921733215946921, 0.986898762690314),
    *(0.975164756608873, 0.9514319827049926, 0.9052228177139535),
  ),
}
_SADDLE = {
  4: (-0.6561246357194459, 0.4431200409715723, 0.2043122482283643, 0.04174349477612876),
  5: (
    -0.5574683158988487,
    0.3247400428337761,
    0.11656732144533982,
    0.0233543964642982,
    0.0005454278342116243,
  ),
  6: (
    *(-0.5554197271790324, 0.322493274297445, 0.11520700409890454),
    *(0.02350277040503076, 0.01044790120466494, 0.0001091586395824391),
  ),
  7: (
    *(-0.5553769767605887, 0.32244648022243266, 0.1151787997526527, 0.023506126928869393),
    *(0.010656973479399591, 0.010013436716574878, 0.00010026891487684989),
  ),
}


@checked('dim')
def rosenbrock(dim: int = 2, *, start: Any = None, initial_scale: float | None = None) -> Problem:
  r"""The Rosenbrock function: a long curved valley with steep walls and a nearly flat floor.

  $$f(x) = \sum_{j=1}^{d-1} \left[100 (x_{j+1} - x_j^2)^2 + (1 - x_j)^2\right].$$

  The global minimum, of value 0, is (1, ..., 1). For d = 2 and 3 there is no other stationary point, so that gradient
  flow leads there from everywhere; for d = 4 to 7 there are two more, a minimum near (-1, 1, ..., 1) and a saddle, all
  listed. For larger d, where there are more, only the global minimum is listed, without a basin.

  Args:
    dim: d >= 2.
    start: initial point, float[d]; the customary (-1.2, 1, -1.2, 1, ...) by default.
    initial_scale: > 0: starts from N(start, initial_scale^2) instead, drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Rosenbrock, "An automatic method for finding the greatest or least value of a function", 1960; Kok,
  Sandrock, "Locating and characterizing the stationary points of the extended Rosenbrock function", 2009.
  """
  dim = check_count('dim', dim, minimum=2)
  known = Known(np.ones(dim), np.float64(0), stationary_points=_points(dim), box=cube(dim, -2, 2))
  start = np.resize([-1.2, 1.0], dim) if start is None else start
  return landscape('Rosenbrock', _rosenbrock, known, start=start, initial_scale=initial_scale)


def _rosenbrock(params: Array) -> Array:
  return jnp.sum(100 * (params[1:] - params[:-1] ** 2) ** 2 + (1 - params[:-1]) ** 2)


def _points(dim: int) -> StationaryPoints:
  places, basin, complete = [np.ones(dim)], [np.inf], True
  if dim in _SADDLE:
    places += [np.array(_SECOND_MINIMUM[dim]), np.array(_SADDLE[dim])]
    basin = [0.5, 0.1, 0.0]
  elif dim > max(_SADDLE):
    basin, complete = [0.0], False
  values = [np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2) for x in places]
  return listed(places, values, [np.linalg.eigvalsh(_hessian(x)) for x in places], basin, complete=complete)


def _hessian(x: np.ndarray) -> np.ndarray:
  diagonal = np.zeros_like(x)
  diagonal[:-1] = 1200 * x[:-1] ** 2 - 400 * x[1:] + 2
  diagonal[1:] += 200
  beside = np.diag(-400 * x[:-1], 1)
  return np.diag(diagonal) + beside + beside.T
