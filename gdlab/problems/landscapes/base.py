"""From a function of the parameters to a Problem with one example and a given start."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_real, shown
from gdlab.core.types import Array, Key, Known, Problem, PyTree
from gdlab.problems.analytic import FixedInit, of_function
from gdlab.problems.checks import check_problem, default_float, real_array

Value = Callable[[Array], Array]  # f: float[d] -> float[]


@dataclasses.dataclass(frozen=True)
class ScatteredInit:
  """Parameters from N(point, scale^2), independent; no model state."""

  point: tuple[float, ...]
  scale: float

  def __call__(self, key: Key) -> tuple[Array, PyTree]:
    """Draws `(params, ())`."""
    point = jnp.asarray(self.point, default_float())
    return point + self.scale * jax.random.normal(key, point.shape), ()


def landscape(
  name: str, value: Value, known: Known, *, start: Any, initial_scale: float | None = None
) -> Problem:
  """A problem of one example whose loss is f itself.

  Args:
    name: of the problem, in reports.
    value: f, float[d] -> float[]; hashable, equal if its constants are, so that equal problems compile once.
    known: what is known of f; `known.box` is float[d, 2].
    start: the initial point, finite float[d].
    initial_scale: > 0: starts from N(start, initial_scale^2), drawn with the run's init stream; None: at `start`.

  Raises:
    InputError: `start` or `initial_scale` out of range or of the wrong shape.
  """
  size = len(known.box)
  given = real_array('start', start)
  if given.shape != (size,):
    raise InputError(f'start must be {size} numbers, one per parameter, got {shown(start)}')
  point = tuple(given.astype(default_float()).tolist())
  if initial_scale is not None:
    initial_scale = float(check_real('initial_scale', initial_scale, above=0.0))
  init = FixedInit(point) if initial_scale is None else ScatteredInit(point, initial_scale)
  return of_function(name, init, value, known)


def cube(size: int, low: float, high: float) -> np.ndarray:
  """The box [low, high]^size, float[size, 2]."""
  return np.tile([low, high], (size, 1)).astype(np.float64)


@checked
def value_fn(problem: Problem) -> Callable[[PyTree], Array]:
  """The function that is minimised: the mean training loss, in evaluation mode, as a function of the parameters.

  For gradients, Hessians and pictures. The training data are constants in it: inside a function that is compiled for
  many problems, pass the problem as an argument and call `value_fn` there.

  Example:
    >>> import jax
    >>> from gdlab.problems import landscapes
    >>> value = landscapes.value_fn(landscapes.booth())
    >>> jax.hessian(value)(jax.numpy.zeros(2)).tolist()
    [[10.0, 8.0], [8.0, 10.0]]

  Args:
    problem: any problem whose model has no state.

  Returns:
    `(params) -> float[]`.

  Raises:
    InputError: if `problem` is not a Problem.
  """
  check_problem(problem)
  return functools.partial(_mean_loss, problem)


def _mean_loss(problem: Problem, params: PyTree) -> Array:
  # The metric and not the loss: it needs no key, so that it is exact where losses are noisy.
  return jnp.mean(problem.metrics(params, (), problem.train)['loss'])
