"""Dtypes to compute in: half precision is for storage, not for sums, squares and random draws."""

from typing import Any

import jax
import jax.numpy as jnp

from gdlab.core.types import PyTree


def wide(leaf: Any, least: Any = jnp.float32) -> jnp.dtype:
  """The leaf's dtype, promoted to at least `least`; `float` means JAX's default float."""
  return jnp.promote_types(jnp.result_type(leaf), jnp.result_type(least))


def widened(tree: PyTree, least: Any = jnp.float32) -> PyTree:
  """Promotes the dtype of every leaf to at least `least`, see `wide`."""
  return jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(wide(leaf, least)), tree)
