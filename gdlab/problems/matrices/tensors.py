"""Orthogonal tensor decomposition: one component of a fourth-order tensor."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import check_real
from gdlab.core.types import Array, Known, Problem, StationaryPoints
from gdlab.problems.analytic import PointwiseLoss, PointwiseMetrics
from gdlab.problems.checks import default_float
from gdlab.problems.matrices import spectra
from gdlab.problems.starts import array_start


class Tensor(NamedTuple):
  """The components of an orthogonal tensor, one tensor per example."""

  weights: Array  # float[N, d], lambda
  components: Array  # float[N, d, d], the columns a_i
  penalty: Array  # float[N], beta


@checked('weights', 'penalty')
def orthogonal_tensor_decomposition(
  weights: Any,
  *,
  penalty: float | None = None,
  rotation: int | None = None,
  start: Any = None,
  initial_scale: float = 1.0,
) -> Problem:
  r"""A component of an orthogonal fourth-order tensor, with a penalty for leaving the unit sphere.

  For $T = \sum_i \lambda_i a_i^{\otimes 4}$ with orthonormal $a_i$,

  $$f(u) = -\tfrac14 T(u,u,u,u) + \tfrac\beta4 (\lVert u\rVert^2 - 1)^2, \qquad \beta > \max\lambda,$$

  which is bounded below. It has one stationary point for every nonempty set S of components, up to the signs of the
  $\langle a_i, u\rangle$: with $h = \sum_{i\in S} 1/\lambda_i$ and $c = \beta/(\beta h - 1)$,

  $$\langle a_i, u\rangle^2 = c/\lambda_i \text{ for } i \in S, \text{ else } 0; \qquad f = -c/4;$$

  the Hessian has the eigenvalues c ($d-|S|$ times), -2c ($|S|-1$ times) and $2\beta$. So the local minima are
  the components, each scaled by $\sqrt{\beta/(\beta-\lambda_i)}$, the one of largest weight lowest; the
  others are saddles of index $|S|-1$, and u = 0 is a maximum with eigenvalues $-\beta$. Known: all $2^d$ of
  them, up to signs, for d <= 12; above that 4096, the smaller S first.

  Example:
    >>> points = orthogonal_tensor_decomposition([1.0, 1.0], penalty=2.0).known.stationary_points
    >>> points.values, points.index
    (array([-0.5  , -0.5  , -0.167,  0.5  ]), array([0, 0, 1, 2]))

  Args:
    weights: lambda, float[d] > 0, in any order.
    penalty: beta >= 1.001 max lambda; 2 max lambda by default.
    rotation: seed of the random orthonormal components; None for unit vectors, the largest weight first.
    start: initial u, float[d]; None draws it from N(0, initial_scale^2) with the run's init stream.
    initial_scale: > 0.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Ge, Huang, Jin, Yuan 2015, Escaping From Saddle Points, arXiv 1503.02101, section 4, which
    constrains u to the sphere; there the points are the same except for their length.
  """
  numbers = spectra.spectrum('weights', weights, positive=True)
  penalty = 2 * numbers[0] if penalty is None else penalty
  # Nearer to the weight, rounding would decide whether f is bounded below.
  penalty = float(check_real('penalty', penalty, minimum=1.001 * numbers[0]))
  components = spectra.basis(rotation, len(numbers))
  points = _stationary_points(numbers, components, penalty)
  leaves = (numbers[None], components[None], np.array([penalty]))
  return Problem(
    init=array_start(start, initial_scale, (len(numbers),)),
    loss=PointwiseLoss(_losses),
    metrics=PointwiseMetrics((('loss', _losses),)),
    name='orthogonal tensor decomposition',
    train=Tensor(*(jnp.asarray(leaf, default_float()) for leaf in leaves)),
    known=Known(params=points.params[0], value=points.values[0], stationary_points=points),
  )


def _losses(params: Array, examples: Tensor) -> Array:
  coordinates = jnp.einsum('a,nai->ni', params, examples.components)
  tensor = jnp.sum(examples.weights * coordinates**4, axis=1)
  return -tensor / 4 + examples.penalty / 4 * (jnp.sum(params**2) - 1) ** 2


def _stationary_points(numbers: np.ndarray, components: np.ndarray, penalty: float) -> StationaryPoints:
  size = len(numbers)
  # The component of largest weight, which is the global minimum, comes first; u = 0 last.
  chosen, complete = spectra.subsets(size, [*range(1, size + 1), 0])
  params: list[np.ndarray] = []
  values: list[float] = []
  eigenvalues: list[list[float]] = []
  for members in map(list, chosen):
    if members:
      scale = penalty / (penalty * np.sum(1 / numbers[members]) - 1)
      params.append(components[:, members] @ np.sqrt(scale / numbers[members]))
      values.append(-scale / 4)
      eigenvalues.append([2 * penalty, *[scale] * (size - len(members)), *[-2 * scale] * (len(members) - 1)])
    else:
      params.append(np.zeros(size))
      values.append(penalty / 4)
      eigenvalues.append([-penalty] * size)
  return spectra.stationary_points(params, values, eigenvalues, complete=complete)
