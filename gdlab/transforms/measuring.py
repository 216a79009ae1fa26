"""Statistics of gradients during training: minimum, maximum, mean, deviation and norm, per leaf and overall."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdlab.core.argument_checks import at_most_int32
from gdlab.core.arguments import checked
from gdlab.core.branching import cond_any
from gdlab.core.dtypes import widened
from gdlab.core.errors import InputError, check_count
from gdlab.core.types import Array, PyTree
from gdlab.transforms.arguments import only_state


class Statistics(NamedTuple):
  """Five statistics of an array, or a pytree of each; in float32 or wider.

  Attributes:
    min: the smallest entry.
    max: the largest.
    mean: the mean over the entries.
    std: the population standard deviation of the entries (divisor n).
    norm: the Euclidean norm.
  """

  min: PyTree
  max: PyTree
  mean: PyTree
  std: PyTree
  norm: PyTree


class GradientStatistics(NamedTuple):
  """The result of `statistics`.

  Attributes:
    update: int32[], the update (from 0) measured last; -1 before the first.
    leaves: Statistics of pytrees like the parameters, one number for every leaf.
    whole: Statistics of numbers, over all parameters together.
  """

  update: Array
  leaves: Statistics
  whole: Statistics


class GradientStatisticsState(NamedTuple):
  """State of `gradient_statistics`."""

  step: Array  # int32[], updates made
  measured: GradientStatistics


@checked(every=at_most_int32)
def gradient_statistics(every: Any = 1) -> optax.GradientTransformationExtraArgs:
  r"""Measures the updates that pass through, every k updates, and does not change them.

  First in a chain it sees the gradients, elsewhere the output of the transforms before it. `statistics` reads the
  measurement. Between measurements nothing is computed, also under vmap. For other measurements, `optax.snapshot` takes
  any function of the updates, at every update.

  Example:
    >>> import jax.numpy as jnp, optax
    >>> descent = optax.chain(gradient_statistics(), optax.sgd(0.1))
    >>> gradient = {'w': jnp.array([3.0, -4.0]), 'b': jnp.array(0.0)}
    >>> _, state = descent.update(gradient, descent.init(gradient))
    >>> found = statistics(state)
    >>> float(found.leaves.min['w']), float(found.whole.norm)
    (-4.0, 5.0)

  Args:
    every: k >= 1, a whole number; updates 0, k, 2k, ... are measured.

  Returns:
    A GradientTransformationExtraArgs. A leaf without entries has norm 0 and NaN elsewhere, and does not count in
    `whole`. A NaN gradient passes through and gives NaN until the next measurement.

  Raises:
    InputError: if `every` is out of range; from `init`, for complex parameters.

  Source: Chan, Golub and LeVeque 1983, Algorithms for computing the sample variance, for the whole from its leaves.
  """
  check_count('every', every, traced=True)

  def init(params: PyTree) -> GradientStatisticsState:
    unknown = jax.tree.map(lambda number: jnp.full_like(number, jnp.nan), _measure(params))
    return GradientStatisticsState(
      jnp.zeros((), jnp.int32), GradientStatistics(jnp.full((), -1, jnp.int32), *unknown)
    )

  def update(
    updates: PyTree, state: GradientStatisticsState, params: PyTree = None, **extra_args: Any
  ) -> tuple[PyTree, GradientStatisticsState]:
    del params, extra_args
    due = state.step % every == 0
    measured = cond_any(due, _refresh, state.measured, state.step, updates)
    return updates, GradientStatisticsState(optax.safe_increment(state.step), measured)

  return optax.GradientTransformationExtraArgs(init, update)


@checked
def statistics(opt_state: PyTree) -> GradientStatistics:
  """The last measurement of `gradient_statistics`, from anywhere in an optimizer state; NaN before the first.

  Args:
    opt_state: the state of an optimizer with exactly one `gradient_statistics`.

  Raises:
    InputError: if there is none or more than one.
  """
  return only_state(opt_state, GradientStatisticsState, 'gradient_statistics').measured


def _refresh(measured: GradientStatistics, count: Array, updates: PyTree) -> GradientStatistics:
  return GradientStatistics(count, *_measure(updates))


def _measure(tree: PyTree) -> tuple[Statistics, Statistics]:
  """Statistics per leaf, and those of all entries, pooled from these."""
  if any(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(tree)):
    raise InputError('gradient_statistics measures real gradients, got complex ones, which have no order')
  tree = widened(tree)
  leaves, structure = jax.tree.flatten(tree)
  rows = [_of_array(leaf) for leaf in leaves]
  columns = ([row[field] for row in rows] for field in range(len(Statistics._fields)))
  per_leaf = Statistics(*(jax.tree.unflatten(structure, column) for column in columns))
  return per_leaf, _pooled([(leaf.size, row) for leaf, row in zip(leaves, rows) if leaf.size], tree)


def _of_array(array: Array) -> Statistics:
  norm = jnp.sqrt(jnp.sum(array**2))
  if not array.size:
    return Statistics(*5 * [jnp.full((), jnp.nan, array.dtype)])._replace(norm=norm)
  return Statistics(jnp.min(array), jnp.max(array), jnp.mean(array), jnp.std(array), norm)


def _pooled(parts: list[tuple[int, Statistics]], tree: PyTree) -> Statistics:
  norm = jnp.asarray(optax.tree.norm(tree))
  if not parts:
    return Statistics(*5 * [jnp.full((), jnp.nan, norm.dtype)])._replace(norm=norm)
  each = Statistics(*(jnp.stack(column) for column in zip(*(row for _, row in parts))))
  share = jnp.asarray([size for size, _ in parts], each.mean.dtype) / sum(size for size, _ in parts)
  mean = jnp.sum(share * each.mean)
  variance = jnp.sum(share * (each.std**2 + (each.mean - mean) ** 2))
  return Statistics(jnp.min(each.min), jnp.max(each.max), mean, jnp.sqrt(variance), norm)
