"""Parts of problems without a Flax model: initial points, losses that do not mix examples, and landscapes.

All are frozen dataclasses, equal if their constants are, so that a problem built twice compiles once.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from gdlab.core.types import Array, Key, Known, Problem, PyTree
from gdlab.problems.checks import default_float


@dataclasses.dataclass(frozen=True)
class NormalInit:
  """Independent parameters from N(0, scale^2); no model state."""

  shape: tuple[int, ...]
  scale: float

  def __call__(self, key: Key) -> tuple[Array, PyTree]:
    """Draws `(params, ())`."""
    return self.scale * jax.random.normal(key, self.shape), ()


@dataclasses.dataclass(frozen=True)
class FixedInit:
  """One initial point whatever the key; no model state."""

  point: tuple[float, ...]

  def __call__(self, key: Key) -> tuple[Array, PyTree]:
    """Returns `(params, ())`."""
    return jnp.asarray(self.point, default_float()), ()


@dataclasses.dataclass(frozen=True)
class PointwiseLoss:
  """`Problem.loss` from `(params, examples) -> float[B]`: no state, no randomness, nothing to mask."""

  losses: Callable[[PyTree, PyTree], Array]

  def __call__(
    self, params: PyTree, model_state: PyTree, examples: PyTree, mask: Array, key: Key
  ) -> tuple[Array, PyTree]:
    """Returns the losses, float[B], and the state unchanged."""
    return self.losses(params, examples), model_state


@dataclasses.dataclass(frozen=True)
class PointwiseMetrics:
  """`Problem.metrics` from named functions `(params, examples) -> float[B]`."""

  functions: tuple[tuple[str, Callable[[PyTree, PyTree], Array]], ...]

  def __call__(self, params: PyTree, model_state: PyTree, examples: PyTree) -> dict[str, Array]:
    """Returns each metric, float[B], by name."""
    return {name: function(params, examples) for name, function in self.functions}


@dataclasses.dataclass(frozen=True)
class SameForAll:
  """Per-example losses that are all f(params), computed once."""

  value: Callable[[PyTree], Array]

  def __call__(self, params: PyTree, examples: PyTree) -> Array:
    """Returns float[B]."""
    return jnp.broadcast_to(self.value(params), jax.tree.leaves(examples)[0].shape[:1])


def of_function(
  name: str,
  init: Callable[[Key], tuple[PyTree, PyTree]],
  value: Callable[[PyTree], Array],
  known: Known,
  metrics: Mapping[str, Callable[[PyTree], Array]] | None = None,
) -> Problem:
  """A problem of one example whose loss is f itself.

  Args:
    name: of the problem, in reports.
    init: see Problem.
    value: f, `(params) -> float[]`; hashable, equal if its constants are, so that equal problems compile once.
    known: what is known of f.
    metrics: further functions of the parameters, by name.
  """
  functions = {'loss': value, **dict(sorted((metrics or {}).items()))}
  return Problem(
    init=init,
    loss=PointwiseLoss(SameForAll(value)),
    metrics=PointwiseMetrics(tuple((label, SameForAll(function)) for label, function in functions.items())),
    name=name,
    train=jnp.zeros(1, default_float()),
    known=known,
  )
