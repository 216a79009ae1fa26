"""What two small batches show: for programs with operations through which labels cannot be followed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.types import Problem, PyTree

# In units of the last place: sums in another order differ by some of these, a changed example by far more.
ROUNDING = 1e3


def reaches_others(
  function: Callable[..., tuple[PyTree, PyTree]],
  problem: Problem,
  params: PyTree,
  model_state: PyTree,
  size: int,
  mask: np.ndarray | None = None,
) -> bool:
  """Whether replacing one example of a batch changes a loss of another.

  Args:
    function: `(params, model_state, examples, mask, key) -> (losses, state)`, losses a pytree of float[size].
    problem: whose examples are taken, made-up ones inside a compiled function.
    params: of these shapes.
    model_state: of these shapes.
    size: of the batches.
    mask: bool[size]; where given, only what is False there is replaced, and a changed state counts too.
  """
  # Not traced, where what asks is: the answer is needed now.
  with jax.ensure_compile_time_eval():
    params, model_state = _point(problem, params, model_state)
    batch, other = (_examples(problem.train, size, number) for number in (0, 1))
    slots = range(size) if mask is None else np.flatnonzero(~mask).tolist()
    every = jnp.ones(size, bool) if mask is None else jnp.asarray(mask)

    def others(examples: PyTree, slot: int) -> PyTree:
      losses, state = function(params, model_state, examples, every, jax.random.key(2))
      kept = jax.tree.map(lambda leaf: jnp.delete(leaf, slot, axis=0), losses)
      return kept if mask is None else (kept, state)

    def replaced(slot: int) -> PyTree:
      return jax.tree.map(lambda one, two: one.at[slot].set(two[slot]), batch, other)

    return any(_differ(others(batch, slot), others(replaced(slot), slot)) for slot in slots)


def _point(problem: Problem, params: PyTree, model_state: PyTree) -> tuple[PyTree, PyTree]:
  """Parameters away from the start, where a layer of zeros can hide what comes before it."""
  init: Any = problem.init
  if callable(init):
    params, model_state = init(jax.random.key(0))
  else:  # of a problem of one's own that is only differentiated
    params, model_state = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), (params, model_state))
  return _moved(params, jax.random.key(1)), model_state


def _examples(train: PyTree, size: int, number: int) -> PyTree:
  """A few examples, or (number 1) others; made up where the data have no values yet."""
  leaves = jax.tree.leaves(train)
  if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
    rng = np.random.default_rng(number)
    draw = lambda leaf: jnp.asarray(rng.integers(0, 2, (size, *leaf.shape[1:])), leaf.dtype)
    return _moved(jax.tree.map(draw, train), jax.random.key(4 + number))
  places = (np.arange(size) + number * size) % leaves[0].shape[0]
  found = jax.tree.map(lambda leaf: leaf[places], train)
  # Few examples come again: floats of the second lot are moved a little.
  return found if number == 0 else _moved(found, jax.random.key(3))


def _moved(tree: PyTree, key: Any) -> PyTree:
  leaves, structure = jax.tree.flatten(tree)
  keys = jax.random.split(key, max(1, len(leaves)))[: len(leaves)]
  is_float = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.inexact)
  moved = [
    leaf + 0.1 * jax.random.normal(key, leaf.shape).astype(leaf.dtype) if is_float(leaf) else leaf
    for leaf, key in zip(leaves, keys, strict=True)
  ]
  return jax.tree.unflatten(structure, moved)


def _differ(one: PyTree, two: PyTree) -> bool:
  """Whether numbers differ by more than rounding, or in where they are not finite."""

  def differ(a: Any, b: Any) -> bool:
    if not jnp.issubdtype(a.dtype, jnp.inexact):
      return not bool((a == b).all())
    tolerance = ROUNDING * float(jnp.finfo(a.dtype).eps)
    one, two = (np.asarray(x).astype(complex) for x in (a, b))
    return not np.allclose(one, two, tolerance, tolerance, equal_nan=True)

  return any(jax.tree.leaves(jax.tree.map(differ, one, two)))
