"""The dtypes in which schedules compute with their hyperparameters, which may be tracers."""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax.numpy as jnp

from gdlab.core.types import Array

Schedule: TypeAlias = Callable[[Any], Any]  # Optax's: (count int32[]) -> float[]


def floats(*values: Any) -> tuple[Array, ...]:
  """The numbers as floats of one dtype: the widest among JAX's default float and their own."""
  types = [jnp.result_type(float), *(jnp.result_type(value) for value in values)]
  dtype = functools.reduce(jnp.promote_types, types)
  return tuple(jnp.asarray(value, dtype) for value in values)


def exact(value: Any) -> Array:
  """An integer unchanged, any other number as by `floats`: a comparison must not round a count."""
  return jnp.asarray(value) if jnp.issubdtype(jnp.result_type(value), jnp.integer) else floats(value)[0]
