"""A conditional that stays a branch under vmap."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from gdlab.types import Array, PyTree


def cond_any(predicate: Array, function: Callable[..., PyTree], operand: PyTree, *args: PyTree) -> PyTree:
  """`function(operand, *args)` where `predicate` holds, `operand` elsewhere; free when it holds in no lane.

  Under vmap `lax.cond` with a batched predicate becomes a select that runs both branches at every step. Here the
  lanes vote instead: if any of them needs the branch it is taken for all and kept where it was asked for, and
  otherwise nothing runs. Rare work that falls due in all lanes at the same step (the permutation at an epoch's
  end) is so paid only when it is due, however many vmaps are around it.

  Args:
    predicate: bool[].
    function: `(operand, *args) -> operand'`, with the structure, shapes and dtypes of `operand`. All it uses
      must come in as arguments: a closed-over tracer would escape the vmap.
    operand: a pytree of arrays.
    *args: pytrees of arrays.

  Returns:
    A pytree like `operand`.
  """

  def voted(predicate, operand, args):
    mapped = function
    for _ in range(predicate.ndim):
      mapped = jax.vmap(mapped)

    def keep_where_asked(new, old):
      return jnp.where(predicate.reshape(predicate.shape + (1,) * (new.ndim - predicate.ndim)), new, old)

    def branch(operand, args):
      return jax.tree.map(keep_where_asked, mapped(operand, *args), operand)

    return jax.lax.cond(jnp.any(predicate), branch, lambda operand, args: operand, operand, args)

  batchable = custom_vmap(voted)

  @batchable.def_vmap
  def lanes_vote(axis_size, batched, predicate, operand, args):
    def broadcast(leaf, is_batched):
      return leaf if is_batched else jnp.broadcast_to(leaf, (axis_size, *leaf.shape))

    everything = jax.tree.map(broadcast, (predicate, operand, args), tuple(batched))
    # Recursing into the batchable function lets any number of vmaps nest.
    return batchable(*everything), jax.tree.map(lambda _: True, operand)

  return batchable(predicate, operand, args)
