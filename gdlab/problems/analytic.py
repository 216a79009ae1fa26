"""What problems without a Flax model share: initial points, and losses that leave examples unmixed.

All are frozen dataclasses, equal when their constants are, so that a problem built twice compiles once.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gdlab.core.types import Array, Key, PyTree
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
    """Returns the losses, float[B], and the state as it came."""
    return self.losses(params, examples), model_state


@dataclasses.dataclass(frozen=True)
class PointwiseMetrics:
  """`Problem.metrics` from named functions `(params, examples) -> float[B]`."""

  functions: tuple[tuple[str, Callable[[PyTree, PyTree], Array]], ...]

  def __call__(self, params: PyTree, model_state: PyTree, examples: PyTree) -> dict[str, Array]:
    """Returns each metric, float[B], by name."""
    return {name: function(params, examples) for name, function in self.functions}
