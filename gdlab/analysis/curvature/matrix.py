"""Operators as matrices, for a few hundred parameters."""

import jax
import jax.numpy as jnp

from gdlab.analysis.curvature.operators import Flat, Operator, flattened
from gdlab.core.arguments import checked
from gdlab.core.types import Array

_AT_ONCE = 16  # columns at once


@checked
def dense(operator: Operator) -> Array:
  """The operator's matrix in the raveled parameters, symmetrised; d products, so for small d.

  Args:
    operator: of d parameters.

  Returns:
    float[d, d], rows and columns in the order of `jax.flatten_util.ravel_pytree`.

  Raises:
    InputError: if it is not an operator on float arrays.
  """
  images = columns(flattened(operator))
  return (images + images.T) / 2


def columns(flat: Flat) -> Array:
  """float[d, d], row i the image of the unit vector i, not symmetrised."""

  def image(index: Array) -> Array:
    return flat.product((jnp.arange(flat.size) == index).astype(flat.dtype))

  return jax.lax.map(image, jnp.arange(flat.size), batch_size=min(_AT_ONCE, flat.size))
