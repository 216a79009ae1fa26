"""Checks of the arguments of transforms. Tracers have no value yet and pass, so that they can be swept."""

from typing import Any

import jax
import numpy as np

from gdlab.core.errors import InputError, check_count, check_real, shown
from gdlab.core.types import PyTree


def number_or_schedule(name: str, value: Any) -> Any:
  """Returns a schedule, `(count) -> number`, or a number >= 0 or a tracer; else raises InputError."""
  return value if callable(value) else check_real(name, value, minimum=0)


def check_seed(seed: Any) -> Any:
  """Returns `seed` if it is a whole number >= 0, one key of `jax.random.key`, or a tracer of either."""
  if isinstance(seed, jax.Array):
    kinds = (jax.dtypes.prng_key, np.integer)
    if seed.ndim or not any(jax.dtypes.issubdtype(seed.dtype, kind) for kind in kinds):
      raise InputError(f'seed must be a whole number >= 0 or one key of jax.random.key, got {shown(seed)}')
    return seed
  return check_count('seed', seed, minimum=0)


def spread_prefix(name: str, prefix: PyTree, tree: PyTree) -> PyTree:
  """Returns a pytree like `tree` with the leaves of `prefix`, each a scalar or of its leaf's shape.

  Raises:
    InputError: if `prefix` is not a pytree prefix of `tree`, or a leaf has neither of these shapes.
  """
  try:
    full = jax.tree.map(lambda value, part: jax.tree.map(lambda _: value, part), prefix, tree)
  except ValueError as error:
    raise InputError(
      f'{name} must be a pytree prefix of the parameters, got {shown(prefix)}: {str(error).splitlines()[0]}'
    ) from None

  def check(path: Any, leaf: Any, value: Any) -> Any:
    if np.shape(value) not in ((), np.shape(leaf)):
      where = jax.tree_util.keystr(path)
      raise InputError(
        f'{name}{where} must be a scalar or have shape {np.shape(leaf)}, got {np.shape(value)}'
      )
    return value

  return jax.tree_util.tree_map_with_path(check, tree, full)


def only_state(opt_state: PyTree, kind: type, maker: str) -> Any:
  """The only node of type `kind` anywhere in an optimizer state, chained, wrapped or vmapped.

  Raises:
    InputError: if there is none, or more than one.
  """
  nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, kind))
  found = [node for node in nodes if isinstance(node, kind)]
  if len(found) != 1:
    raise InputError(f'opt_state must hold the state of exactly one {maker}, got {len(found)} of them')
  return found[0]
