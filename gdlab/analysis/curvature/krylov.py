r"""A Krylov subspace with its image, extended and restarted: Rayleigh-Ritz that is robust to breakdown.

matfree's Lanczos takes its eigenvalues from the recurrence's coefficients, which are wrong once the subspace is
invariant: NaN, or values that are not eigenvalues. Here the basis Q is kept together with its image A Q, so that the
projected matrix $Q^\top A Q$ and the residuals are those of the stored vectors: Ritz values lie within the spectrum. A
direction that is lost in rounding is replaced by a new random one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdlab.analysis.curvature.matrix import columns
from gdlab.analysis.curvature.operators import Flat
from gdlab.core.types import Array, Key

_LOST = 50  # units of rounding of A: a remainder smaller than that is noise


class Basis(NamedTuple):
  """Up to m orthonormal vectors and their images; rows beyond `used` are 0.

  Attributes:
    vectors: float[m, d], Q.
    images: float[m, d], A Q.
    projected: float[m, m], entry (i, j) is q_i . A q_j; not symmetric, by the rounding of the products.
    used: int32[], the number of vectors.
  """

  vectors: Array
  images: Array
  projected: Array
  used: Array


def empty(flat: Flat, size: int) -> Basis:
  """A basis without vectors, of capacity `size`."""
  rows = jnp.zeros((size, flat.size), flat.dtype)
  return Basis(rows, rows, jnp.zeros((size, size), flat.dtype), jnp.int32(0))


def grown(flat: Flat, basis: Basis, candidate: Array, key: Key) -> Basis:
  """The basis extended by the part of `candidate` orthogonal to it, or by a random vector if that part is lost."""
  vector = _new_direction(flat, basis, candidate, key)
  image = flat.product(vector)
  vectors = basis.vectors.at[basis.used].set(vector)
  images = basis.images.at[basis.used].set(image)
  projected = basis.projected.at[:, basis.used].set(times(vectors, image))
  projected = projected.at[basis.used].set(times(images, vector))
  return Basis(vectors, images, projected, basis.used + 1)


def complete(flat: Flat) -> Basis:
  """The unit vectors and the whole matrix: d products and d x d numbers, for small d."""
  images = columns(flat)
  return Basis(jnp.eye(flat.size, dtype=flat.dtype), images, images.T, jnp.int32(flat.size))


def ritz(basis: Basis) -> tuple[Array, Array]:
  """Ritz values ascending, float[m], and the coefficients of their vectors, float[m, m] by columns.

  Only the first `used` are valid: the unused ones are larger than all others.
  """
  size = basis.projected.shape[0]
  unused = jnp.arange(size) >= basis.used
  # Of size 1, so that what marks the unused does not swallow the others, and nothing underflows.
  unit = _size(basis.projected)
  scaled = basis.projected / unit
  # Frobenius' norm bounds every Ritz value; the unused rows and columns are 0.
  beyond = 2 * jnp.linalg.norm(scaled) + 1
  values, vectors = jnp.linalg.eigh((scaled + scaled.T) / 2 + jnp.diag(jnp.where(unused, beyond, 0)))
  return unit * values, vectors


def residuals(basis: Basis, values: Array, coefficients: Array) -> Array:
  r"""$\|A v - \theta v\| / \|v\|$ for the vectors with the given coefficients, float[k]."""
  vectors, images = times(coefficients.T, basis.vectors), times(coefficients.T, basis.images)
  lengths = jnp.maximum(jnp.linalg.norm(vectors, axis=1), jnp.finfo(vectors.dtype).tiny)
  return norms(images - values[:, None] * vectors) / lengths


def combined(basis: Basis, coefficients: Array) -> Array:
  """The unit vectors with the given coefficients, float[k, d]."""
  vectors = times(coefficients.T, basis.vectors)
  return vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)


def rounding(basis: Basis) -> Array:
  """A bound on the rounding of the products, float[]: their asymmetry, and some units in the last place."""
  asymmetry = basis.projected - basis.projected.T
  eps = jnp.finfo(basis.projected.dtype).eps
  return _norm(asymmetry) + 8 * eps * _norm(basis.projected) + underflow(basis)


def underflow(basis: Basis) -> Array:
  """The error of an image whose entries below the smallest normal number become 0, float[]."""
  return jnp.sqrt(basis.vectors.shape[1]) * jnp.finfo(basis.vectors.dtype).tiny


def norms(rows: Array) -> Array:
  """The Euclidean norm of each row, float[k], also where its square underflows or overflows."""
  units = jax.vmap(_size)(rows)
  return units * jnp.linalg.norm(rows / units[:, None], axis=1)


def compressed(basis: Basis, coefficients: Array) -> Basis:
  """The full basis reduced to the Ritz vectors with the given coefficients, float[m, l]."""
  size, kept = coefficients.shape
  below = (0, size - kept)
  projected = times(coefficients.T, times(basis.projected, coefficients))
  return Basis(
    vectors=jnp.pad(times(coefficients.T, basis.vectors), (below, (0, 0))),
    images=jnp.pad(times(coefficients.T, basis.images), (below, (0, 0))),
    projected=jnp.pad(projected, (below, below)),
    used=jnp.int32(kept),
  )


def orthogonal_to(rows: Array, vector: Array) -> Array:
  """The part of a vector that is orthogonal to orthonormal rows; zero rows have no effect."""
  return vector - times(times(rows, vector), rows)


def _new_direction(flat: Flat, basis: Basis, candidate: Array, key: Key) -> Array:
  unit = jnp.maximum(_size(basis.projected), _size(candidate))
  candidate = candidate / unit
  left = orthogonal_to(basis.vectors, candidate)
  scale = jnp.maximum(jnp.linalg.norm(basis.projected / unit), jnp.linalg.norm(candidate))
  lost = jnp.linalg.norm(left) <= _LOST * jnp.finfo(flat.dtype).eps * scale
  # As data: the checker of key reuse takes the select that vmap makes of a cond for a second use of the key.
  data, kind = jax.random.key_data(key), jax.random.key_impl(key)

  def fresh() -> Array:
    return jax.random.normal(jax.random.wrap_key_data(data, impl=kind), (flat.size,), flat.dtype)

  left = jax.lax.cond(lost, fresh, lambda: left)
  for _ in range(2):  # Once is not enough where little is left (Kahan and Parlett).
    left = orthogonal_to(basis.vectors, left / jnp.linalg.norm(left))
  return left / jnp.linalg.norm(left)


def _norm(matrix: Array) -> Array:
  return norms(matrix.reshape(1, -1))[0]


def _size(array: Array) -> Array:
  """The largest absolute entry, or 1 if there is none but 0."""
  largest = jnp.max(jnp.abs(array))
  return jnp.where(largest > 0, largest, 1)


def times(left: Array, right: Array) -> Array:
  """The matrix product in full precision."""
  # On a GPU the default precision would cut the factors to ten bits.
  return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)
