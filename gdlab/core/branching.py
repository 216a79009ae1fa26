"""A conditional that stays a branch under vmap."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from gdlab.core.types import Array, PyTree


def cond_any(predicate: Array, function: Callable[..., PyTree], operand: PyTree, *args: PyTree) -> PyTree:
  """`function(operand, *args)` where `predicate` holds, `operand` elsewhere; free if it holds in no lane.

  Under vmap, `lax.cond` with a batched predicate becomes a select that runs both branches at every step. Here the
  branch runs, for all lanes, only if some lane's predicate holds, and its result is kept only in those lanes. Rare work
  that all lanes do at the same step (the permutation at an epoch's end) thus costs time only at that step, under any
  number of vmaps. Unbatched leaves of `args` (the training data) are not copied per lane.

  Args:
    predicate: bool[].
    function: `(operand, *args) -> operand'`, with the structure, shapes and dtypes of `operand`. It must not close
      over tracers, which would escape the vmap.
    operand: a pytree of arrays.
    *args: pytrees of arrays.

  Returns:
    A pytree like `operand`.
  """
  leaves, structure = jax.tree.flatten(args)

  def on_leaves(operand: PyTree, *leaves: Array) -> PyTree:
    return function(operand, *jax.tree.unflatten(structure, leaves))

  return _voted(predicate, on_leaves, operand, leaves)


def _voted(
  predicate: Array, function: Callable[..., PyTree], operand: PyTree, leaves: Sequence[Array]
) -> PyTree:
  """`cond_any` for lanes along all axes of the predicate, which lead those of `operand`; `function` is batched."""

  def vote(predicate, operand, leaves):
    def keep_where_asked(new, old):
      return jnp.where(predicate.reshape(predicate.shape + (1,) * (new.ndim - predicate.ndim)), new, old)

    def branch(operand, leaves):
      return jax.tree.map(keep_where_asked, function(operand, *leaves), operand)

    return jax.lax.cond(jnp.any(predicate), branch, lambda operand, leaves: operand, operand, leaves)

  batchable = custom_vmap(vote)

  @batchable.def_vmap
  def lanes_vote(axis_size, batched, predicate, operand, leaves):
    def broadcast(leaf, is_batched):
      return leaf if is_batched else jnp.broadcast_to(leaf, (axis_size, *leaf.shape))

    everywhere = jax.tree.map(broadcast, (predicate, operand), tuple(batched[:2]))
    axes = (0, *(0 if is_batched else None for is_batched in batched[2]))
    mapped = jax.vmap(function, axes, axis_size=axis_size)
    # Recursing makes a batchable function again, so that any number of vmaps nest.
    voted = _voted(everywhere[0], mapped, everywhere[1], leaves)
    return voted, jax.tree.map(lambda _: True, operand)

  return batchable(predicate, operand, leaves)
