"""Names and kinds (kernel, bias, ...) of the arrays of a parameter tree, as its problem gives them or by name."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.errors import InputError, shown
from gdlab.core.types import Array, LeafKind, PyTree

KINDS = 'kernel', 'bias', 'scale', 'embedding', 'other'
_PROJECTIONS = 'query', 'key', 'value', 'qkv', 'out'  # kernels of theirs have heads among their axes


def named(trees: Mapping[str, PyTree]) -> dict[str, Array]:
  """Every array of some trees by a unique name: its tree's name and its path, such as `params.Dense_0.kernel`.

  Raises:
    InputError: if two arrays have the same name, as those at ['a.b'] and ['a']['b'] do.
  """
  found: dict[str, Array] = {}
  for name, tree in trees.items():
    for path, leaf in jax.tree.leaves_with_path(tree):
      full = '.'.join([name, *(jax.tree_util.keystr((key,), simple=True) for key in path)])
      if full in found:
        raise InputError(
          f'arrays must have distinct names, got two at {full!r}: leave dots out of their keys'
        )
      found[full] = leaf
  return found


def kind_by_name(name: str, rank: int) -> LeafKind | None:
  """The kind that an array's name says, alone or as its last part ('attention_bias'), if its rank fits; else None.

  A kernel or embedding must have two axes, a bias or scale at most one.
  """
  kind = usual_name(name)
  if kind in ('kernel', 'embedding') and rank == 2:
    return LeafKind(kind, (1,) if kind == 'kernel' else (0,))
  if kind in ('bias', 'scale') and rank <= 1:
    return LeafKind(kind, tuple(range(rank)))
  return None


def usual_name(name: str) -> str | None:
  """The Flax name of a kind of parameter that `name` is or ends in; None for others."""
  return next((kind for kind in KINDS[:-1] if name == kind or name.endswith(f'_{kind}')), None)


def leaf_kinds(params: PyTree, kinds: PyTree | None = None) -> list[tuple[str, LeafKind]]:
  """Every array's name for messages and its kind, in the order of `jax.tree.leaves`.

  Without `kinds` the names decide: `kernel`, `bias`, `scale`, `embedding` and names that end in them. A kernel of three
  or more axes has its outputs last if the bias of the same layer has one axis of that length; one of four axes without
  a bias is taken for a convolution. Arrays with other names are kernels [inputs, outputs] if they have two axes, biases
  if they have fewer. Others are refused: shapes do not tell attention heads from the copies of a scanned layer.

  Raises:
    InputError: if `kinds` does not match `params`, or the kind of an array with two or more axes is unknown.
  """
  leaves = jax.tree.leaves_with_path(params)
  names = [f'params{jax.tree_util.keystr(path)}' for path, _ in leaves]
  if kinds is None:
    shapes = {path: np.shape(leaf) for path, leaf in leaves}
    return [(name, _guessed(name, path, shapes)) for name, path in zip(names, shapes, strict=True)]
  given: list[Any] = jax.tree.leaves(kinds)
  structure, found = (str(jax.tree.structure(tree)) for tree in (params, kinds))
  if found != structure or not all(isinstance(kind, LeafKind) for kind in given):
    raise InputError(f'kinds must be a tree of LeafKind like params, {structure:.80}, got {shown(kinds)}')
  for name, (_, leaf), kind in zip(names, leaves, given, strict=True):
    _check(name, np.shape(leaf), kind)
  return list(zip(names, given, strict=True))


def as_matrices(leaf: Array, kind: LeafKind) -> Array:
  """A kernel as one matrix per copy, [copies, product of inputs, product of outputs]."""
  inputs = [axis for axis in range(leaf.ndim) if axis not in kind.stacked + kind.outputs]
  sizes = [math.prod(leaf.shape[axis] for axis in axes) for axes in (kind.stacked, inputs, kind.outputs)]
  return jnp.transpose(leaf, (*kind.stacked, *inputs, *kind.outputs)).reshape(sizes)


def _guessed(name: str, path: Any, shapes: dict[Any, tuple[int, ...]]) -> LeafKind:
  shape = shapes[path]
  words = [jax.tree_util.keystr((key,), simple=True) for key in path]
  last, rank = words[-1] if words else '', len(shape)
  usual = usual_name(last)
  found = kind_by_name(last, rank)
  if found is not None:
    return found
  if usual is None and rank <= 2:
    return LeafKind('kernel', (1,)) if rank == 2 else LeafKind('bias', tuple(range(rank)))
  if last == 'kernel':
    bias = next((shapes[other] for other in shapes if _is_bias_beside(path, other)), None)
    if bias == shape[-1:] or (bias is None and rank == 4 and not {*words[-2:-1]} & {*_PROJECTIONS}):
      return LeafKind('kernel', (rank - 1,))
  raise InputError(
    f'kinds must be given, because the name and the shape {shape} of {name} do not say what it is (heads? copies of a '
    'scanned layer?): kinds=problem.kinds() of a problem from a Flax module, or a tree of gdlab.LeafKind like params'
  )


def _is_bias_beside(path: Any, other: Any) -> bool:
  return other[:-1] == path[:-1] and jax.tree_util.keystr(other[-1:], simple=True) == 'bias'


def _check(name: str, shape: tuple[int, ...], kind: LeafKind) -> None:
  axes = kind.outputs + kind.stacked
  if kind.kind not in KINDS or len({*axes}) < len(axes) or not all(0 <= axis < len(shape) for axis in axes):
    raise InputError(
      f'kinds must have one of {list(KINDS)} and different axes of the array, of shape {shape}, for {name}, got {kind}'
    )
  if kind.kind == 'other' and len(shape) - len(kind.stacked) >= 2:
    raise InputError(
      f"kinds must say what {name} of shape {shape} is, because its module does not (kind 'other'): give it a "
      "gdlab.LeafKind of kind 'kernel' with its outputs, or 'bias'"
    )
