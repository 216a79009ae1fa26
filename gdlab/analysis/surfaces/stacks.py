"""Stacks of Dense layers in a tree of parameters: which leaves belong to which hidden layer."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError
from gdlab.core.types import PyTree

Path = tuple[str, ...]
_HINT = "name the Dense layers in order, e.g. layers=('hidden', 'out')"


class DenseStack(NamedTuple):
  """The arrays that belong to each layer of a network of L Dense layers.

  Attributes:
    kernels: the paths of the L kernels [in, out], from the input to the output.
    biases: the paths of the L biases, None for a layer without a bias.
    norms: for each of the L - 1 hidden layers the paths of its normalisation's leaves [width], of parameters (0, path)
      and of model state (1, path).
    widths: the numbers of units of the L - 1 hidden layers.
  """

  kernels: tuple[Path, ...]
  biases: tuple[Path | None, ...]
  norms: tuple[tuple[tuple[int, Path], ...], ...]
  widths: tuple[int, ...]


@checked
def dense_stack(
  params: PyTree, model_state: PyTree = (), *, layers: Sequence[str] | None = None
) -> DenseStack:
  """Finds the stack of Dense layers, with or without BatchNorm between them, in a tree of parameters.

  Both Linen's and NNX's parameters: nested dictionaries with `kernel` [in, out] and `bias` [out]. Shapes do not show
  residual connections or layers used twice; `align` detects them by testing a permutation.

  Args:
    params: of the network.
    model_state: its other state, `()` if it has none.
    layers: the Dense layers from input to output, by their path ('hidden', 'encoder/out'); None takes them in the
      order of their names, numbers counting as numbers ('Dense_2' before 'Dense_10').

  Raises:
    InputError: if the parameters are not such a stack: another kind of layer, widths that do not chain, or
      normalisation whose layer is not clear.
  """
  leaves = {(0, path): shape for path, shape in shapes_of('params', params).items()}
  leaves |= {(1, path): shape for path, shape in shapes_of('model_state', model_state).items()}
  found = sorted(
    (p[:-1] for (kind, p), shape in leaves.items() if kind == 0 and p[-1] == 'kernel' and len(shape) == 2),
    key=_natural,
  )
  chosen = found if layers is None else [tuple(name.split('/')) for name in layers]
  if not chosen or sorted(chosen) != sorted(found):
    raise InputError(f'layers must be the Dense layers {_named(found)}, each once, got {_named(chosen)}')
  kernels = tuple((*path, 'kernel') for path in chosen)
  biases = tuple((*path, 'bias') if (0, (*path, 'bias')) in leaves else None for path in chosen)
  shapes = [leaves[0, kernel] for kernel in kernels]
  for one, other, path in zip(shapes, shapes[1:], chosen[1:]):
    if one[1] != other[0]:
      raise InputError(
        f'{"/".join(path)} takes {other[0]} inputs, the layer before it gives {one[1]}: {_HINT}'
      )
  for bias, shape in zip(biases, shapes):
    if bias is not None and leaves[0, bias] != shape[1:]:
      raise InputError(f'{"/".join(bias)} must have shape {shape[1:]}, got {leaves[0, bias]}')
  widths = tuple(shape[1] for shape in shapes[:-1])
  dense = {(0, path) for path in (*kernels, *biases)}
  return DenseStack(
    kernels, biases, _norms({k: v for k, v in leaves.items() if k not in dense}, widths), widths
  )


def leaf_at(tree: PyTree, path: Path) -> Any:
  """The leaf at a path of names; keys that are numbers are compared as text."""
  for name in path:
    tree = tree[next(key for key in tree if str(key) == name)]
  return tree


def with_leaves(tree: PyTree, replaced: dict[Path, Any]) -> PyTree:
  """The tree with some leaves replaced, by their paths."""
  return jax.tree_util.tree_map_with_path(lambda path, leaf: replaced.get(_names(path), leaf), tree)


def _norms(
  leaves: dict[tuple[int, Path], tuple[int, ...]], widths: tuple[int, ...]
) -> tuple[tuple[tuple[int, Path], ...], ...]:
  """Which normalisation belongs to which hidden layer: the i-th by name to the i-th, if widths agree."""
  units: dict[Path, list[tuple[int, Path]]] = {}
  for kind, path in leaves:
    shape = leaves[kind, path]
    if len(shape) != 1 or path[-1] not in ('scale', 'bias', 'mean', 'var'):
      raise InputError(
        f'{"/".join(path)} of shape {shape} belongs to no Dense layer nor its normalisation: '
        'only stacks of Dense layers can be aligned'
      )
    # Linen's state has the name of its collection in front.
    name = path[1:-1] if kind == 1 and path[0] == 'batch_stats' else path[:-1]
    units.setdefault(name, []).append((kind, path))
  if not units:
    return ((),) * len(widths)
  ordered = [tuple(units[name]) for name in sorted(units, key=_natural)]
  if len(ordered) != len(widths) or any(
    leaves[leaf] != (width,) for unit, width in zip(ordered, widths) for leaf in unit
  ):
    names = _named(sorted(units, key=_natural))
    raise InputError(f'normalisation must follow each hidden layer, of widths {widths}, or none, got {names}')
  return tuple(ordered)


def shapes_of(name: str, tree: PyTree) -> dict[Path, tuple[int, ...]]:
  """The shape of every array by its path; raises InputError unless the tree is nested dictionaries."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  if not all(path and isinstance(key, jax.tree_util.DictKey) for path, _ in leaves for key in path or [()]):
    raise InputError(f'{name} must be nested dictionaries, as Flax has them, got {type(tree).__name__}')
  return {_names(path): np.shape(leaf) for path, leaf in leaves}


def _names(path: Any) -> Path:
  return tuple(str(key.key) for key in path)


def _natural(path: Path) -> list[tuple[int, Any]]:
  """Sorts 'Dense_2' before 'Dense_10'."""
  parts = [part for part in re.split(r'(\d+)', '/'.join(path)) if part]
  return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def _named(paths: Sequence[Path]) -> str:
  return str(['/'.join(path) for path in paths])
