"""The layers of a model for the diagnosis: which arrays count as layers, and the units of each."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.types import Array, LeafKind, Problem, PyTree

KINDS = ('kernel', 'embedding')  # of leaves that are layers


class Layer(NamedTuple):
  """A parameter array with the weights of a layer, or of stacked copies of one.

  Attributes:
    leaf: its number among the leaves.
    path: its path, as text.
    outputs: the axes of its units.
    stacked: the axes along which copies are stacked.
    copies: number of copies.
  """

  leaf: int
  path: str
  outputs: tuple[int, ...]
  stacked: tuple[int, ...]
  copies: int


def layers_of(problem: Problem, params: PyTree) -> list[Layer]:
  """The layers: kernels and embeddings that the loss depends on, by `problem.kinds`.

  Without `kinds`, or if none of the leaves is one: the leaves with at least two axes, the last one counting units, or
  all leaves if there are none.

  Args:
    problem: with its `kinds`.
    params: its parameters, or their shapes.
  """
  leaves = [
    (number, jax.tree_util.keystr(path), jnp.shape(leaf))
    for number, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(params))
  ]
  if problem.kinds is not None:
    kinds = jax.tree.leaves(problem.kinds(), is_leaf=lambda kind: isinstance(kind, LeafKind))
    named = [
      Layer(number, path, kind.outputs, kind.stacked, int(np.prod([shape[axis] for axis in kind.stacked])))
      for (number, path, shape), kind in zip(leaves, kinds, strict=True)
      if kind.kind in KINDS and not kind.inert
    ]
    if named:
      return named
  chosen = [leaf for leaf in leaves if len(leaf[2]) >= 2] or leaves
  return [Layer(number, path, (len(shape) - 1,) if shape else (), (), 1) for number, path, shape in chosen]


def layer_names(problem: Problem) -> list[str]:
  """The names of the rows of `diagnosis_layers`: the path of each layer, with the number of the copy in a stack."""
  params = jax.eval_shape(problem.init, jax.random.key(0))[0]
  return [
    layer.path if not layer.stacked else f'{layer.path}, copy {copy + 1} of {layer.copies}'
    for layer in layers_of(problem, params)
    for copy in range(layer.copies)
  ]


def units_of(layer: Layer, leaf: Array) -> Array:
  """The leaf of a layer as [copies, units, inputs of a unit]."""
  inputs = [axis for axis in range(leaf.ndim) if axis not in layer.stacked + layer.outputs]
  units = int(np.prod([leaf.shape[axis] for axis in layer.outputs]))
  return leaf.transpose(*layer.stacked, *layer.outputs, *inputs).reshape(layer.copies, units, -1)


def along_copies(layer: Layer, leaf: Array, values: Array) -> Array:
  """One value per copy, [copies], in a shape that broadcasts with the leaf."""
  shape = [leaf.shape[axis] if axis in layer.stacked else 1 for axis in range(leaf.ndim)]
  # The copies are counted in the order of `stacked`, which need not be that of the axes.
  counted = values.reshape([leaf.shape[axis] for axis in layer.stacked])
  return counted.transpose(np.argsort(layer.stacked)).reshape(shape)
