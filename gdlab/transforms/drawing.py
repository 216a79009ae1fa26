"""Keys and random draws of the transforms that add noise, and sums that keep the dtype of the updates."""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gdlab.core.dtypes import wide
from gdlab.core.types import Array, Key, PyTree


def own_key(seed: Any, salt: int, params: PyTree) -> Key:
  """The key that a transform carries: `salt` makes two kinds of noise with equal seeds independent.

  The paths of the parameters do so for two transforms of a kind on different parts of them (`optax.partition`).
  """
  # Not the default generator: draws of `rbg` depend on what else is under the same vmap.
  is_key = isinstance(seed, jax.Array) and jax.dtypes.issubdtype(seed.dtype, jax.dtypes.prng_key)
  key = jax.random.fold_in(seed if is_key else jax.random.key(seed, impl='threefry2x32'), salt)
  paths = ' '.join(jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params))
  # Not Python's hash, which differs between processes.
  return jax.random.fold_in(key, zlib.crc32(paths.encode()))


def draw_key(carried: Key, count: Array, key: Key | None) -> Key:
  """The key of one update: from the carried key, and from `key` if the caller passes one.

  Every transform of a chain gets the same `key`; the carried keys make their draws independent.
  """
  own = jax.random.fold_in(carried, count)
  return own if key is None else jax.random.fold_in(key, jax.random.bits(own, dtype=jnp.uint32))


def standard_normals(key: Key, tree: PyTree) -> PyTree:
  """Independent N(0, 1) like `tree`, in at least float32: JAX's bfloat16 normals are cut off at 2.9 deviations.

  Real and imaginary parts of complex numbers are N(0, 1) each.
  """
  return optax.tree.random_like(key, tree, sampler=_normal)


def _normal(key: Key, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
  drawn = jax.random.normal(key, shape, wide(dtype))
  # JAX shares a variance of 1 between the two parts.
  return drawn * jnp.sqrt(2).astype(jnp.real(drawn).dtype) if jnp.iscomplexobj(drawn) else drawn


def plus(updates: PyTree, change: PyTree) -> PyTree:
  """The sum, rounded once, in the dtypes of `updates`."""
  return jax.tree.map(lambda u, c: (u + c).astype(jnp.result_type(u)), updates, change)


def plus_normals(updates: PyTree, key: Key, deviations: PyTree) -> PyTree:
  """Updates with independent normal noise; `deviations` is a pytree like them, of scalars or arrays."""
  drawn = standard_normals(key, updates)
  return plus(updates, jax.tree.map(lambda deviation, normal: deviation * normal, deviations, drawn))
