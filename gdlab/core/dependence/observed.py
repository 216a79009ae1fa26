"""Tests on small batches, for programs with operations through which labels cannot be followed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.types import Problem, PyTree

# In units of the last place: sums in another order differ by some of these, a changed example by far more.
ROUNDING = 1e3
TRIALS = 4  # pairs of batches


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
    problem: the source of examples; inside a compiled function synthetic ones are used.
    params: of these shapes.
    model_state: of these shapes.
    size: the size of the batches.
    mask: bool[size]; if given, only examples with False are replaced, and a changed state counts too.
  """
  # Not traced, where what asks is: the answer is needed now.
  with jax.ensure_compile_time_eval():
    if _too_few(problem.train, size):
      return True
    params, model_state = _point(problem, params, model_state)
    slots = range(size) if mask is None else np.flatnonzero(~mask).tolist()
    every = jnp.ones(size, bool) if mask is None else jnp.asarray(mask)

    def others(examples: PyTree, slot: int) -> PyTree:
      losses, state = function(params, model_state, examples, every, jax.random.key(2))
      kept = jax.tree.map(lambda leaf: jnp.delete(leaf, slot, axis=0), losses)
      return kept if mask is None else (kept, state)

    def seen(trial: int) -> bool:
      batch, other = _examples(problem.train, size, trial)

      def replaced(slot: int) -> PyTree:
        return jax.tree.map(lambda one, two: one.at[slot].set(two[slot]), batch, other)

      return any(_differ(others(batch, slot), others(replaced(slot), slot)) for slot in slots)

    return any(map(seen, range(TRIALS)))


def _point(problem: Problem, params: PyTree, model_state: PyTree) -> tuple[PyTree, PyTree]:
  """Parameters away from the initial ones, where a layer of zeros can hide the layers before it."""
  init: Any = problem.init
  if callable(init):
    params, model_state = init(jax.random.key(0))
  else:  # of a problem of one's own that is only differentiated
    params, model_state = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), (params, model_state))
  return _moved(params, jax.random.key(1)), model_state


def _too_few(train: PyTree, size: int) -> bool:
  """Whether no test is possible: too few examples for two batches, and integers, which cannot be perturbed."""
  leaves = jax.tree.leaves(train)
  whole = any(not jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)
  return whole and leaves[0].shape[0] < 2 * size


def _examples(train: PyTree, size: int, trial: int) -> tuple[PyTree, PyTree]:
  """Two batches of examples; synthetic if the data have no values yet."""
  leaves, rng = jax.tree.leaves(train), np.random.default_rng(trial)
  if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
    draw = lambda leaf: jnp.asarray(rng.integers(0, 2, (size, *leaf.shape[1:])), leaf.dtype)
    one, two = (jax.tree.map(draw, train) for _ in range(2))
  else:
    places = np.resize(rng.permutation(leaves[0].shape[0]), (2, size))
    one, two = (jax.tree.map(lambda leaf, at=at: leaf[at], train) for at in places)
  # Few examples come again: floats of the second lot are moved a little.
  return one, _moved(two, jax.random.key(3 + trial))


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
  """Whether numbers differ by more than rounding, or in which of them are finite."""

  def differ(a: Any, b: Any) -> bool:
    if not jnp.issubdtype(a.dtype, jnp.inexact):
      return not bool((a == b).all())
    tolerance = ROUNDING * float(jnp.finfo(a.dtype).eps)
    one, two = (np.asarray(x).astype(complex) for x in (a, b))
    return not np.allclose(one, two, tolerance, tolerance, equal_nan=True)

  return any(jax.tree.leaves(jax.tree.map(differ, one, two)))
