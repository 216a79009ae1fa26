"""Gradient and Hessian of the whole training loss as functions of a flat vector, and Newton's step from them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gdlab.analysis.blocks import Losses, full_gradient
from gdlab.core.types import Array, Key, Problem, PyTree

Gradient = Callable[[Array], Array]  # float[d] -> float[d]
_COLUMNS = 64  # Hessian-vector products side by side


def flat_gradient(
  problem: Problem, params: PyTree, model_state: PyTree, key: Key, *, block_size: int, losses: Losses
) -> tuple[Array, Gradient]:
  """The parameters as a vector, and the gradient as a function of such vectors."""
  flat, unravel = ravel_pytree(params)
  # As plain numbers: a key that solvers select among, inside a vmapped loop, counts as used twice.
  impl, numbers = jax.random.key_impl(key), jax.random.key_data(key)

  def at(x: Array) -> Array:
    restored = jax.random.wrap_key_data(numbers, impl=impl)
    gradient = full_gradient(problem, model_state, restored, block_size=block_size, losses=losses)
    return ravel_pytree(gradient(unravel(x)))[0].astype(x.dtype)

  return flat, at


class Local(NamedTuple):
  """A function at a point, to second order.

  Attributes:
    gradient: float[d].
    values: float[d], the Hessian's eigenvalues, ascending.
    vectors: float[d, d], its eigenvectors, in columns.
    matrix: float[d, d], the Hessian; the identity where something is not finite.
    asymmetry: float[], the norm of its antisymmetric part before symmetrisation, a measure of its rounding.
    finite: bool[].
  """

  gradient: Array
  values: Array
  vectors: Array
  matrix: Array
  asymmetry: Array
  finite: Array


def hessian(gradient: Gradient, x: Array) -> tuple[Array, Array, Array]:
  """The gradient float[d], the symmetrised Hessian float[d, d], and the norm of its antisymmetric part."""

  def column(direction: Array) -> tuple[Array, Array]:
    return jax.jvp(gradient, (x,), (direction,))

  eye = jnp.eye(x.size, dtype=x.dtype)
  if x.size <= _COLUMNS:
    g, matrix = jax.vmap(column, out_axes=(None, 0))(eye)
  else:
    g, matrix = gradient(x), jax.lax.map(lambda row: column(row)[1], eye, batch_size=_COLUMNS)
  return g, (matrix + matrix.T) / 2, jnp.linalg.norm(matrix - matrix.T) / 2


def look(gradient: Gradient, x: Array) -> Local:
  """Gradient and Hessian at x with its eigenvectors."""
  g, matrix, asymmetry = hessian(gradient, x)
  finite = jnp.isfinite(matrix).all() & jnp.isfinite(g).all()
  # LAPACK does not end well on NaN.
  matrix = jnp.where(finite, matrix, jnp.eye(x.size, dtype=x.dtype))
  values, vectors = jnp.linalg.eigh(matrix)
  return Local(g, values, vectors, matrix, asymmetry, finite)


def newton_step(values: Array, vectors: Array, g: Array) -> Array:
  r"""The shortest $\delta$ with least $\lVert H\delta - g\rVert$, from the eigenpairs of H; rounding counts as 0."""
  return vectors @ (inverted(values) * (vectors.T @ g))


def inverted(values: Array) -> Array:
  """1/lambda, and 0 where lambda is within rounding of 0."""
  kept = jnp.abs(values) > rounding(values)
  return jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)


def rounding(values: Array) -> Array:
  """A bound on the rounding error of an eigenvalue, from all of them."""
  return 10 * values.size * jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(values))
