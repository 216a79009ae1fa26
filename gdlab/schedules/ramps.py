"""Ramps from one value to another in a number of updates: the parts of schedules.

Each is exactly `first` up to 0, and exactly `last` from `length` on; for length 0 it is `last`.
"""

import jax.numpy as jnp

from gdlab.core.types import Array


def line(elapsed: Array, first: Array, last: Array, length: Array) -> Array:
  """A straight line; between its ends bitwise equal to Optax's."""
  remaining = 1 - elapsed / _nonzero(length)
  return _held(elapsed, first, last, length, (first - last) * remaining + last)


def half_cosine(elapsed: Array, first: Array, last: Array, length: Array) -> Array:
  """Half a period of a cosine: flat at both ends."""
  share = 0.5 * (1 + jnp.cos(jnp.pi * elapsed / _nonzero(length)))
  return _held(elapsed, first, last, length, share * first + (1 - share) * last)


def _held(elapsed: Array, first: Array, last: Array, length: Array, inside: Array) -> Array:
  return jnp.where(elapsed >= length, last, jnp.where(elapsed <= 0, first, inside))


def _nonzero(length: Array) -> Array:
  """The length, or 1 for 0: the value is not used then, but must not give a NaN gradient."""
  return jnp.where(length > 0, length, 1)
