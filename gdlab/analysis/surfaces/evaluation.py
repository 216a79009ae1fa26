"""Metrics at many points of parameter space, in one jitted evaluation."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.errors import InputError, check_count, shown
from gdlab.core.evaluation import evaluate
from gdlab.core.types import Array, Problem, PyTree


def combined(anchors: Sequence[PyTree], weights: Array) -> PyTree:
  """The leafwise sum of `weights[k] * anchors[k]`, each leaf in its own dtype; a leaf not of floats is the first's."""

  def leaf_sum(*leaves: Array) -> Array:
    if not jnp.issubdtype(leaves[0].dtype, jnp.floating):
      return leaves[0]
    terms = [weights[k].astype(leaf.dtype) * leaf for k, leaf in enumerate(leaves)]
    return functools.reduce(jnp.add, terms)

  return jax.tree.map(leaf_sum, *anchors)


@functools.partial(jax.jit, static_argnames='points_at_once')
def metrics_at(
  problem: Problem,
  anchors: Sequence[PyTree],
  states: Sequence[PyTree],
  weights: Array,
  state_weights: Array,
  *,
  points_at_once: int = 1,
) -> dict[str, Array]:
  """The means of all metrics at M combinations of parameters, each name -> float[M].

  Args:
    problem: the data and the metrics.
    anchors: K pytrees of parameters.
    states: S pytrees of model state.
    weights: float[M, K], the coefficients of `anchors`.
    state_weights: float[M, S], the coefficients of `states`.
    points_at_once: number of points evaluated in parallel.
  """

  def at(row: tuple[Array, Array]) -> dict[str, Array]:
    return evaluate(problem, combined(anchors, row[0]), combined(states, row[1]))

  return jax.lax.map(at, (weights, state_weights), batch_size=points_at_once)


def host_metrics(
  problem: Problem,
  anchors: Sequence[PyTree],
  states: Sequence[PyTree],
  weights: np.ndarray,
  state_weights: np.ndarray,
  points_at_once: int,
) -> dict[str, np.ndarray]:
  """`metrics_at` with its arguments checked and its results on the host."""
  check_count('points_at_once', points_at_once)
  arrays = [tuple(jax.tree.map(jnp.asarray, tree) for tree in trees) for trees in (anchors, states)]
  rows = jnp.asarray(weights, jnp.result_type(float)), jnp.asarray(state_weights, jnp.result_type(float))
  found = metrics_at(problem, *arrays, *rows, points_at_once=min(points_at_once, len(weights)))
  return {name: np.asarray(values) for name, values in found.items()}


def check_alike(name: str, tree: PyTree, like_name: str, like: PyTree) -> None:
  """Raises InputError unless two pytrees have the same structure and shapes."""
  shapes = [
    {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(one)}
    for one in (tree, like)
  ]
  if shapes[0] != shapes[1]:
    raise InputError(
      f'{name} must have the structure and shapes of {like_name}, {shown(shapes[1])}, got {shown(shapes[0])}'
    )


def check_interval(name: str, interval: Any) -> tuple[float, float]:
  """A pair of finite numbers, ascending."""
  pair = np.asarray(interval)
  if pair.shape != (2,) or pair.dtype.kind not in 'iuf' or not np.isfinite(pair).all() or pair[0] >= pair[1]:
    raise InputError(f'{name} must be two finite numbers, the lower first, got {shown(interval)}')
  return float(pair[0]), float(pair[1])
