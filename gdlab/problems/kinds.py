"""The kind of each parameter array of a Flax model, from the module that owns it: rules common to Linen and NNX.

`gdlab.problems.linen_kinds` and `gdlab.problems.nnx_kinds` find the owner of every array and the shape that it has for
its owner. From these follow its kind, the axes of output units, and the axes along which copies are stacked
(`nn.scan`, `nn.vmap`, `nnx.scan`, `nnx.vmap`): those that the owner does not have.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from gdlab.core.leaves import kind_by_name
from gdlab.core.types import LeafKind

Path: TypeAlias = tuple[str, ...]
Shape: TypeAlias = tuple[int, ...]


class Role(NamedTuple):
  """The role of an array for its owner, which has one copy of it.

  Attributes:
    kind: as in LeafKind.
    outputs: the axes of output units, counted in `shape`.
    shape: for the owner.
    inert: as in LeafKind.
    surely: whether the role comes from a known class of owner, not from the array's name.
  """

  kind: str
  outputs: tuple[int, ...]
  shape: Shape
  inert: bool = False
  surely: bool = True


def other(shape: Shape) -> Role:
  """The role of an array of which nothing is known."""
  return Role('other', (), shape, surely=False)


def by_name(name: str, shape: Shape) -> Role:
  """The role by the array's name, see `kind_by_name`."""
  kind = kind_by_name(name, len(shape))
  return other(shape) if kind is None else Role(kind.kind, kind.outputs, shape, surely=False)


def all_axes(kind: str, shape: Shape) -> Role:
  """The role of a bias or a scale: each number belongs to a different unit."""
  return Role(kind, tuple(range(len(shape))), shape)


def kernel(outputs: Sequence[int], shape: Shape) -> Role:
  """The role of a kernel; axes may be counted from the end."""
  return Role('kernel', tuple(sorted(axis % len(shape) for axis in outputs)), shape)


def einsum_outputs(equation: str, rank: int) -> tuple[int, ...]:
  """The axes of the second operand that are in the result: 'nta,hab->nthb' has (0, 2)."""
  terms, result = equation.replace(' ', '').split('->')
  letters = terms.split(',')[1]
  letters = letters.replace('...', '.' * (rank - len(letters) + 3))
  return tuple(axis for axis, letter in enumerate(letters) if letter == '.' or letter in result)


def stacks(inner: Shape, outer: Shape) -> list[tuple[int, ...]]:
  """Every set of axes whose removal turns `outer` into `inner`, leading axes first."""
  extra = len(outer) - len(inner)
  if extra < 0:
    return []
  sets = itertools.combinations(range(len(outer)), extra)
  return [axes for axes in sets if tuple(n for axis, n in enumerate(outer) if axis not in axes) == inner]


def leaf_kinds(
  roles: Mapping[Path, Role],
  shapes: Mapping[Path, Shape],
  stacked: Callable[[], Mapping[Path, tuple[int, ...]]] | None = None,
) -> dict[Path, LeafKind]:
  """The kinds of all parameters, from their roles and shapes.

  Shapes alone may not decide which axis is stacked: [4, 4, 4] for an owner of [4, 4]. Then it is the leading one,
  Flax's default, if that is so for all other stacked arrays; if not, the array is 'other'.

  Args:
    roles: by path.
    shapes: of the parameters, by path.
    stacked: returns the stacked axes of paths where they are known; called if shapes do not decide.
  """
  found: dict[Path, list[tuple[int, ...]]] = {}
  for path, shape in shapes.items():
    found[path] = stacks(roles[path].shape, shape)
  if stacked is not None and any(len(sets) > 1 for sets in found.values()):
    found |= {path: [axes] for path, axes in stacked().items() if axes in found.get(path, ())}
  leading = all(axes == tuple(range(len(axes))) for sets in found.values() if len(sets) == 1 for axes in sets)

  def kind(path: Path) -> LeafKind:
    sets, role = found[path], roles[path]
    if not sets or (len(sets) > 1 and not leading):
      return LeafKind('other', ())
    stacked = sets[0]
    own = [axis for axis in range(len(shapes[path])) if axis not in stacked]
    return LeafKind(role.kind, tuple(own[axis] for axis in role.outputs), stacked, role.inert)

  return {path: kind(path) for path in shapes}
