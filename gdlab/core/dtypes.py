"""Floats wide enough to compute in: half precision is for what is kept, not for sums, squares and draws."""

from typing import Any

import jax
import jax.numpy as jnp

from gdlab.core.types import PyTree


def wide(leaf: Any, least: Any = jnp.float32) -> jnp.dtype:
  """The dtype to compute in: that of the leaf, at least `least`; `float` stands for JAX's default float."""
  return jnp.promote_types(jnp.result_type(leaf), jnp.result_type(least))


def widened(tree: PyTree, least: Any = jnp.float32) -> PyTree:
  """Every leaf in at least `least`, see `wide`; one that is so already may be the same array."""
  return jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(wide(leaf, least)), tree)
