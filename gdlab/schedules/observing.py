"""Passes the metrics of evaluations to the parts of an optimizer's state that use them."""

from collections.abc import Mapping
from typing import Any

import jax

from gdlab.core.arguments import checked
from gdlab.core.types import Array, PyTree


@checked
def observe(opt_state: PyTree, metrics: Mapping[str, Array]) -> PyTree:
  """Passes the metrics of an evaluation to an optimizer's state.

  Every node of the tree with a method `observe(metrics) -> node` is replaced by its result; nodes inside it are not
  visited. All other leaves are returned as the same objects. `gdlab.run` does this at every evaluation, including the
  one before the first update; in your own loop, call it after each evaluation.

  Example:
    >>> import jax.numpy as jnp, optax, gdlab
    >>> optimizer = optax.chain(optax.adam(1e-3), gdlab.schedules.reduce_on_plateau(0.5, patience=1))
    >>> state = optimizer.init(jnp.zeros(3))
    >>> for loss in (1.0, 2.0):
    ...   state = observe(state, {'test_loss': loss})
    >>> float(optax.tree.get(state, 'scale'))
    0.5

  Args:
    opt_state: the state of any Optax transformation.
    metrics: name -> float[], as `gdlab.evaluate` returns them.

  Returns:
    The state with the same structure, shapes and dtypes.
  """
  return jax.tree.map(
    lambda node: node.observe(metrics) if _listens(node) else node, opt_state, is_leaf=_listens
  )


def _listens(node: Any) -> bool:
  return callable(getattr(node, 'observe', None))
