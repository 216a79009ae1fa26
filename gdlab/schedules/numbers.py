"""Hyperparameters of schedules, which may be tracers: their checks, and the types that are computed in."""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax.numpy as jnp

from gdlab.core.types import Array

Schedule: TypeAlias = Callable[[Any], Any]  # Optax's: (count int32[]) -> float[]


def floats(*values: Any) -> tuple[Array, ...]:
  """The numbers as floats of one type: JAX's default one, or the widest among them where that is wider."""
  types = [jnp.result_type(float), *(jnp.result_type(value) for value in values)]
  dtype = functools.reduce(jnp.promote_types, types)
  return tuple(jnp.asarray(value, dtype) for value in values)


def exact(value: Any) -> Array:
  """An integer as it is, any other number as one of `floats`: compared with a count, it must not round it."""
  return jnp.asarray(value) if jnp.issubdtype(jnp.result_type(value), jnp.integer) else floats(value)[0]
