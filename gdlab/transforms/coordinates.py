"""Parameters updated one block after another instead of all together."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, shown
from gdlab.core.types import Array, PyTree
from gdlab.transforms.arguments import spread_prefix


class CoordinateState(NamedTuple):
  """State of `coordinate_updates`."""

  step: Array  # int32[], updates made


@checked('blocks')
def coordinate_updates(blocks: PyTree = None) -> optax.GradientTransformationExtraArgs:
  r"""Updates one block of parameters at a time, one block after another (Gauss-Seidel).

  With blocks 0 ... K-1, update t moves block $t \bmod K$ by the update u of the chain and leaves the others unchanged:

  $$\theta^{(k)}_{t+1} = \theta^{(k)}_t + [k = t \bmod K]\, u^{(k)}_t.$$

  The loop computes a new gradient for every update, so each block sees the new values of those before it; K updates
  make one sweep. Plain gradient descent moves all blocks from the same point (Jacobi).

  Last in a chain: transforms before it, such as momentum, see every gradient of every block, and a block moves by its
  accumulated update when its turn comes. If it came before momentum, the momentum would keep moving the other blocks.

  Example:
    >>> import jax.numpy as jnp, optax
    >>> descent = optax.chain(optax.sgd(0.5), coordinate_updates())
    >>> params = {'a': jnp.ones(2), 'b': jnp.ones(1)}
    >>> updates, state = descent.update(params, descent.init(params))
    >>> updates['a'].tolist(), updates['b'].tolist()
    ([-0.5, -0.5], [0.0])

  Args:
    blocks: the block of each parameter: a pytree prefix of the parameters with whole numbers as leaves, or integer
      arrays of a leaf's shape to split that leaf (`np.arange(d)`: one coordinate at a time). Every number from 0 to the
      largest must occur. None: every leaf is a block, in the order of `jax.tree.leaves`.

  Returns:
    A GradientTransformationExtraArgs. A NaN in a block has no effect until that block's turn.

  Raises:
    InputError: if `blocks` is invalid; from `init`, if it does not fit the parameters.

  Source: Wright 2015, Coordinate descent algorithms, arXiv 1502.04759.
  """
  num_blocks = None if blocks is None else _count_blocks(blocks)

  def turns(tree: PyTree) -> PyTree:
    if blocks is not None:
      return spread_prefix('blocks', blocks, tree)
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, range(len(leaves)))

  def init(params: PyTree) -> CoordinateState:
    turns(params)
    return CoordinateState(jnp.zeros((), jnp.int32))

  def update(
    updates: PyTree, state: CoordinateState, params: PyTree = None, **extra_args: Any
  ) -> tuple[PyTree, CoordinateState]:
    del params, extra_args
    period = max(1, len(jax.tree.leaves(updates))) if num_blocks is None else num_blocks
    turn = state.step % period
    moved = jax.tree.map(lambda u, own: jnp.where(own == turn, u, jnp.zeros_like(u)), updates, turns(updates))
    return moved, CoordinateState(optax.safe_increment(state.step))

  return optax.GradientTransformationExtraArgs(init, update)


def _count_blocks(blocks: PyTree) -> int:
  found: set[int] = set()
  for leaf in jax.tree.leaves(blocks):
    if isinstance(leaf, jax.core.Tracer):
      raise InputError(f'blocks must be known whole numbers >= 0, got {shown(leaf)}')
    array = np.asarray(leaf)
    if array.dtype.kind not in 'iu' or (array < 0).any():
      raise InputError(f'blocks must be whole numbers >= 0 or integer arrays of them, got {shown(leaf)}')
    found |= set(array.ravel().tolist())
  if not found:
    raise InputError(f'blocks must name at least one block, got {shown(blocks)}')
  if missing := set(range(max(found) + 1)) - found:
    raise InputError(f'blocks must hold every number from 0 to {max(found)}, got none that is {min(missing)}')
  return len(found)
