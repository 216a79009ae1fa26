"""Functions of two parameters as one problem, so that one program serves all: the data is the function's number."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.types import Problem
from gdlab.problems import landscapes

ARGUMENTS = {
  'strict_saddle': [{'eigenvalues': [1.0, -0.25]}, {'eigenvalues': [-2.0, -0.5], 'confinement': 1.0}]
} | {
  'monkey_saddle': [{}, {'confinement': 1.5}],
  'degenerate_saddle': [{}, {'confinement': 0.6}],
  'double_well': [{}, {'tilt': -1.5}],
  'two_valleys': [{}, {'curvatures': (400.0, 0.5), 'depths': (3.0, 1.0)}],
}
# Ackley's minimum is a cone's tip; its stationary points are not listed.
KNOWN = [
  (name, getattr(landscapes, name)(**arguments))
  for name in sorted(set(landscapes.__all__) - {'value_fn', 'ackley'})
  for arguments in ARGUMENTS.get(name, [{}])
]

SLOPE = 0.1
# No stationary point anywhere; where the gradient is smallest, or dies away, it is not 0.
WITHOUT: dict[str, Callable] = {
  # |f'|^2 is least on the line x = 0, where the gradient (SLOPE, 0) is in the Hessian's kernel.
  'inflection': lambda p: p[0] ** 3 / 3 + SLOPE * p[0] + p[1] ** 2 / 2,
  'rotated inflection': lambda p: (p[0] + p[1]) ** 3 / 3 + SLOPE * (p[0] + p[1]) + (p[0] - p[1]) ** 4,
  'ramp': lambda p: SLOPE * p[0] + p[1] ** 2,
  'to infinity, exponentially': lambda p: jnp.exp(-p[0]) + p[1] ** 2,
  'to infinity, as a power': lambda p: jnp.sqrt(1 + p[0] ** 2) - p[0] + p[1] ** 2 / 2,
  # Before the gradient is below the tolerance, the slope's curvature is below the rounding of the other one.
  'to infinity, stiff': lambda p: jnp.exp(-p[0]) + 1e6 * (p[1] - 1) ** 2 / 2,
  'to infinity, stiff and turned': lambda p: jnp.exp(-p[0] - p[1]) + 1e3 * (p[1] - p[0] - 1) ** 2 / 2,
}


@dataclasses.dataclass(frozen=True)
class Numbered:
  """`Problem.metrics` of the function whose number the data is."""

  functions: tuple[Callable, ...]

  def __call__(self, params, model_state, examples):
    value = jax.lax.switch(examples[0], self.functions, params)
    return {'loss': jnp.broadcast_to(value, examples.shape)}


_FUNCTIONS = tuple([problem.metrics.functions[0][1].value for _, problem in KNOWN] + list(WITHOUT.values()))
_METRICS = Numbered(_FUNCTIONS)


def numbered(number: int) -> Problem:
  return Problem(
    init=None, loss=None, metrics=_METRICS, name='numbered', train=jnp.full(1, number, jnp.int32)
  )


def without(name: str) -> Problem:
  return numbered(len(KNOWN) + list(WITHOUT).index(name))


_ALONE = {name: WITHOUT[name] for name in ('inflection', 'ramp', 'to infinity, exponentially')} | {
  'plateau': landscapes.plateau().metrics.functions[0][1].value
}
_FEW = Numbered(tuple(_ALONE.values()))


def alone(name: str) -> Problem:
  """A few of the functions, in a program that compiles faster."""
  number = jnp.full(1, list(_ALONE).index(name), jnp.int32)
  return Problem(init=None, loss=None, metrics=_FEW, name=name, train=number)


def inside(points: np.ndarray, box: np.ndarray) -> np.ndarray:
  """Which points lie in a box, to rounding: bool[K]."""
  slack = 1e-9 * (box[:, 1] - box[:, 0])
  return ((points >= box[:, 0] - slack) & (points <= box[:, 1] + slack)).all(axis=1)
