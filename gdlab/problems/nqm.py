"""The noisy quadratic model: how the number of steps depends on batch size, momentum and preconditioning."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real
from gdlab.core.types import Array, Known, Problem, StationaryPoints
from gdlab.problems.analytic import FixedInit, NormalInit, of_function
from gdlab.problems.checks import default_float, real_array
from gdlab.problems.noise import state_dependent, with_noise


@dataclasses.dataclass(frozen=True)
class CurvatureDeviation:
  """The standard deviation of the gradient noise, sqrt(h_i)."""

  exponent: float

  def __call__(self, params: Array) -> Array:
    """Returns float[d]."""
    return jnp.sqrt(_curvatures(params, self.exponent))


@dataclasses.dataclass(frozen=True)
class PowerBowl:
  """Half the sum of h_i x_i^2."""

  exponent: float

  def __call__(self, params: Array) -> Array:
    """Returns float[]."""
    return jnp.sum(_curvatures(params, self.exponent) * params**2) / 2


@checked('dimension', 'exponent', 'num_examples', 'start', 'initial_scale')
def noisy_quadratic_model(
  dimension: int = 100,
  *,
  exponent: float = 1.0,
  num_examples: int = 1024,
  start: Any = None,
  initial_scale: float = 1.0,
) -> Problem:
  r"""A quadratic with a power-law spectrum, and gradient noise whose covariance equals its Hessian.

  $f(x) = \frac12\sum_{i=1}^d h_i x_i^2$, $h_i = i^{-q}$, and the gradient of one example is $h_i x_i + \xi_i$
  with independent $\xi_i \sim N(0, h_i)$, new at every draw, so that with B examples the variance is $h_i/B$; see
  `gdlab.problems.noise.with_noise`. The paper takes q = 1, $d = 10^4$ and $\mathbb E x_i^2 = 1$ at the start,
  and counts the steps to f = 0.01. Known: minimiser 0, value 0, L = 1, $\mu = d^{-q}$.

  No array is larger than the batch's noise, [B, d].

  Example:
    >>> problem = noisy_quadratic_model(1000)
    >>> float(problem.known.strong_convexity)
    0.001

  Args:
    dimension: d >= 1.
    exponent: q >= 0; the condition number is d^q, and d^-q must not underflow (below 1e-38 in float32).
    num_examples: N >= 1, all equal; batches drawn without replacement have at most N.
    start: initial point, float[d]; None draws it from N(0, initial_scale^2) with the run's init stream.
    initial_scale: > 0.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Zhang et al. 2019, Which Algorithmic Choices Matter at Which Batch Sizes?, arXiv 1907.04164.
  """
  dimension = check_count('dimension', dimension)
  num_examples = check_count('num_examples', num_examples)
  initial_scale = float(check_real('initial_scale', initial_scale, above=0.0))
  # A curvature that underflows would be no curvature.
  most = None if dimension == 1 else -np.log(np.finfo(default_float()).tiny) / np.log(dimension)
  exponent = float(check_real('exponent', exponent, minimum=0, maximum=most))
  if start is not None:
    start = real_array('start', start)
    if start.shape != (dimension,):
      raise InputError(f'start must have shape ({dimension},), one number per dimension, got {start.shape}')
  bowl = PowerBowl(exponent)
  curvatures = np.arange(1.0, dimension + 1) ** -bowl.exponent
  origin = np.zeros(dimension)
  problem = of_function(
    'noisy quadratic model',
    NormalInit((dimension,), initial_scale) if start is None else FixedInit(tuple(start.tolist())),
    bowl,
    Known(
      params=origin,
      value=np.float64(0),
      smoothness=curvatures[0],
      strong_convexity=curvatures[-1],
      stationary_points=StationaryPoints(
        params=origin[None],
        values=np.zeros(1),
        eigenvalues=curvatures[None, ::-1].copy(),
        index=np.zeros(1, int),
        basin=np.full(1, np.inf),
        complete=np.bool_(True),
      ),
    ),
  )
  noise = state_dependent(CurvatureDeviation(bowl.exponent))
  return dataclasses.replace(with_noise(problem, noise, num_examples=num_examples), name=problem.name)


def _curvatures(params: Array, exponent: float) -> Array:
  """h_i, computed and not stored: as data they would be repeated for every example."""
  return jnp.arange(1, params.shape[0] + 1, dtype=params.dtype) ** -exponent
