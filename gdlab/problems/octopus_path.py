"""The octopus of Du et al.: a chain of saddles that gradient descent needs exponentially long to pass."""

import dataclasses
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real
from gdlab.core.types import Array, Key, Known, Problem, PyTree, StationaryPoints
from gdlab.problems.analytic import FixedInit, of_function
from gdlab.problems.checks import moderate, real_array

_ALL_SIGNS = 10  # dimensions up to which all 2^(d+1) - 1 stationary points are listed


@dataclasses.dataclass(frozen=True)
class UniformInit:
  """Independent parameters, uniform on [0, scale); no model state."""

  shape: tuple[int, ...]
  scale: float

  def __call__(self, key: Key) -> tuple[Array, PyTree]:
    """Draws `(params, ())`."""
    return self.scale * jax.random.uniform(key, self.shape), ()


@dataclasses.dataclass(frozen=True)
class Octopus:
  """The function of `octopus`."""

  smoothness: float
  gamma: float
  tau: float

  def __call__(self, params: Array) -> Array:
    """Returns f, float[]."""
    smoothness, gamma, tau = self.smoothness, self.gamma, self.tau
    distance = jnp.abs(params)
    # Squares of params, not of distance: the derivative of |x| at 0 is 0, and with it the Hessian would be.
    square = params**2
    first, last = distance <= tau, distance >= 2 * tau
    # A point of the shoulder for the branches not taken too: elsewhere the polynomials could overflow.
    shoulder = jnp.where(first | last, 1.5 * tau, distance)
    s, v = (shoulder - tau) / tau, (shoulder - 2 * tau) / tau

    opened = jnp.where(first, 0.0, jnp.where(last, 1.0, 1 + v**3 * (10 + 15 * v + 6 * v**2)))
    g1 = -gamma * shoulder**2 + tau**2 * s**3 * (
      (10 * gamma - 14 * smoothness) / 3 + (5 * smoothness - 3 * gamma) / 2 * s
    )
    nu = _drop(smoothness, gamma, tau)
    bowl = smoothness * (distance - 4 * tau) ** 2 - nu
    tube = jnp.where(first, -gamma * square, jnp.where(last, bowl, g1))

    # Tube i is open as far as the coordinates before i have passed their shoulders.
    ahead = jnp.concatenate([jnp.ones(1, opened.dtype), jnp.cumprod(opened)[:-1]])
    return jnp.sum((1 - ahead) * smoothness * square + ahead * tube)


@checked('dimension', 'start', 'initial_scale')
def octopus(
  dimension: int,
  *,
  smoothness: float = 1.0,
  gamma: float = 1.0,
  tau: float = math.e,
  start: Any = None,
  initial_scale: float = 1.0,
) -> Problem:
  r"""A chain of d saddles that gradient descent needs time exponential in d to pass, with noise polynomial time.

  With $a_j = |x_j|$, tube i is where $a_j \ge 2\tau$ for $j < i$ and $a_j \le \tau$ for $j > i$. There

  $$f(x) = \sum_{j<i} L(a_j - 4\tau)^2 - (i-1)\nu + \begin{cases}
    -\gamma a_i^2 + \sum_{j>i} L a_j^2 & a_i \le \tau, \\
    g_1(a_i) + g_2(a_i) a_{i+1}^2 + \sum_{j>i+1} L a_j^2 & \tau \le a_i \le 2\tau,
  \end{cases}$$

  $$g_1(u) = -\gamma u^2 + \tfrac{10\gamma-14L}{3\tau}(u-\tau)^3 + \tfrac{5L-3\gamma}{2\tau^2}(u-\tau)^4,
    \qquad g_2(u) = -\gamma - (L+\gamma)(10 v^3 + 15 v^4 + 6 v^5), \quad v = \tfrac{u-2\tau}{\tau},$$

  $\nu = 4L\tau^2 - g_1(2\tau) = 4L\tau^2 + \tfrac{13}{6}(L+\gamma)\tau^2$, and after the last tube
  $\sum_j L(a_j-4\tau)^2 - d\nu$. The paper defines f in the tubes only; here it is extended to

  $$f(x) = \sum_i (1-W_i) L a_i^2 + W_i h(a_i), \qquad W_i = \prod_{j<i} w(a_j), \quad
    w = \tfrac{L-g_2}{L+\gamma},$$

  with h the part of f in tube i that depends on $a_i$ only, $-\gamma a^2$, then $g_1$, then $L(a-4\tau)^2-\nu$, and w
  rising from 0 to 1 on $[\tau, 2\tau]$. It is twice continuously differentiable on all of $\mathbb R^d$.

  Known: all stationary points. Those are, for k = 0 ... d, the $2^k$ points whose first k coordinates are
  $\pm 4\tau$ and the others 0: a saddle of index 1 with eigenvalues $-2\gamma$, 2L (d-1 times), and for k = d
  a minimum with eigenvalues 2L. There are no others: where $W_i = 1$ the derivative in $a_i$ vanishes only at 0
  and $4\tau$, as $h' < 0$ between 0 and $2\tau$ and $h(a) \le L a^2$; and where $a_i = 0$ all later coordinates have
  the bowl $L a_j^2$. Up to 10 dimensions all are listed, above that those without a negative coordinate, whose changes
  of sign give the others. The basin of a minimum is the ball of radius $4\tau$: there no coordinate changes its sign,
  and the saddles' stable manifolds lie where a coordinate is 0.

  Example:
    >>> problem = octopus(2)
    >>> problem.known.stationary_points.index
    array([1, 1, 1, 0, 0, 0, 0])

  Args:
    dimension: d >= 1.
    smoothness: L in [1e-6, 1e6]; half the curvature of the bowls. The paper's learning rate is 1/(4L).
    gamma: in [1e-6, 1e6]; near a saddle the escaping coordinate grows by the factor 1 + 2 rate gamma per step.
    tau: in [1e-6, 1e6], the half width of a tube.
    start: initial point, float[d]; None draws it uniformly from [0, initial_scale)^d with the run's init
      stream.
    initial_scale: > 0.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Du et al. 2017, Gradient Descent Can Take Exponential Time to Escape Saddle Points, arXiv
    1705.10412. At that rate a later coordinate halves at every step and underflows in float32 after 150; use x64.
  """
  dimension = check_count('dimension', dimension)
  initial_scale = float(check_real('initial_scale', initial_scale, above=0.0))
  constants = {'smoothness': smoothness, 'gamma': gamma, 'tau': tau}
  function = Octopus(**{name: moderate(name, value) for name, value in constants.items()})
  if start is not None:
    start = real_array('start', start)
    if start.shape != (dimension,):
      raise InputError(f'start must have shape ({dimension},), one number per dimension, got {start.shape}')
  points = _stationary_points(dimension, function)
  return of_function(
    'octopus',
    UniformInit((dimension,), initial_scale) if start is None else FixedInit(tuple(start.tolist())),
    function,
    Known(
      params=points.params[-1],
      value=points.values[-1],
      stationary_points=points,
      box=np.tile([-6 * function.tau, 6 * function.tau], (dimension, 1)),
    ),
  )


def _drop(smoothness: float, gamma: float, tau: float) -> float:
  """Nu, the drop of f from each tube to the next."""
  return 4 * smoothness * tau**2 + 13 / 6 * (smoothness + gamma) * tau**2


def _stationary_points(dimension: int, function: Octopus) -> StationaryPoints:
  signs = (-1.0, 1.0) if dimension <= _ALL_SIGNS else (1.0,)
  passed = np.array(
    [
      [*pattern, *[0.0] * (dimension - k)]
      for k in range(dimension + 1)
      for pattern in itertools.product(signs, repeat=k)
    ]
  )
  count = np.abs(passed).sum(axis=1).astype(int)
  index = (count < dimension).astype(int)
  eigenvalues = np.full(passed.shape, 2 * function.smoothness)
  eigenvalues[index == 1, 0] = -2 * function.gamma
  # At a saddle the coordinates not yet passed are 0; each one passed has won nu.
  values = -count * _drop(function.smoothness, function.gamma, function.tau)
  return StationaryPoints(
    params=4 * function.tau * passed,
    values=values,
    eigenvalues=eigenvalues,
    index=index,
    basin=np.where(index == 0, 4 * function.tau, 0.0),
    complete=np.bool_(True),
  )
