"""Initial points that are arrays of any shape, or trees of them: fixed, or drawn at random."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.errors import InputError, check_real, shown
from gdlab.core.types import Array, Key, PyTree
from gdlab.problems.analytic import NormalInit
from gdlab.problems.checks import check_unmasked, default_float, real_array


@dataclasses.dataclass(frozen=True)
class FixedArrays:
  """One array, or a tuple of arrays, whatever the key; no model state."""

  arrays: tuple[Any, ...]  # nested tuples of floats
  several: bool

  def __call__(self, key: Key) -> tuple[PyTree, PyTree]:
    """Returns `(params, ())`."""
    arrays = tuple(jnp.asarray(array, default_float()) for array in self.arrays)
    return arrays if self.several else arrays[0], ()


@dataclasses.dataclass(frozen=True)
class NormalArrays:
  """A tuple of arrays of independent draws from N(0, scale^2); no model state."""

  shapes: tuple[tuple[int, ...], ...]
  scale: float

  def __call__(self, key: Key) -> tuple[tuple[Array, ...], PyTree]:
    """Draws `(params, ())`."""
    keys = jax.random.split(key, len(self.shapes))
    return tuple(self.scale * jax.random.normal(k, shape) for k, shape in zip(keys, self.shapes)), ()


@dataclasses.dataclass(frozen=True)
class FixedTree:
  """One pytree of arrays whatever the key; no model state. Stored as bytes, which are hashable."""

  leaves: tuple[tuple[bytes, tuple[int, ...], Any], ...]  # contents, shape, dtype
  structure: Any

  @classmethod
  def of(cls, name: str, tree: PyTree) -> 'FixedTree':
    """The start at a pytree of floats; raises InputError for masked arrays and for values not finite in JAX's dtype."""
    pairs, structure = jax.tree_util.tree_flatten_with_path(tree)
    leaves = []
    for path, leaf in pairs:
      check_unmasked(f'{name}{jax.tree_util.keystr(path)}', leaf)
      array = np.asarray(leaf)
      with np.errstate(over='ignore'):
        stored = array.astype(jax.dtypes.canonicalize_dtype(array.dtype))
      if not (finite := np.isfinite(stored)).all():
        index = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise InputError(
          f'{name}{jax.tree_util.keystr(path)} must be finite, got {array[index]} at index {index}'
        )
      leaves.append((array.tobytes(), array.shape, array.dtype))
    return cls(tuple(leaves), structure)

  def __call__(self, key: Key) -> tuple[PyTree, PyTree]:
    """Returns `(params, ())`."""
    arrays = [jnp.asarray(np.ndarray(shape, dtype, data)) for data, shape, dtype in self.leaves]
    return jax.tree.unflatten(self.structure, arrays), ()


@dataclasses.dataclass(frozen=True)
class DrawnTree:
  """A pytree that a function draws from the key; no model state."""

  draw: Callable[[Key], PyTree]

  def __call__(self, key: Key) -> tuple[PyTree, PyTree]:
    """Returns `(params, ())`, without the weak types of Python's numbers, which loops would widen."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), self.draw(key)), ()


def array_start(start: Any, initial_scale: float, shape: tuple[int, ...]) -> FixedArrays | NormalInit:
  """The initial array: `start` if it is given, else independent draws from N(0, initial_scale^2)."""
  initial_scale = float(check_real('initial_scale', initial_scale, above=0.0))
  if start is None:
    return NormalInit(shape, initial_scale)
  return FixedArrays((_as_tuples('start', start, shape),), several=False)


def arrays_start(
  start: Any, initial_scale: float, shapes: tuple[tuple[int, ...], ...]
) -> FixedArrays | NormalArrays:
  """The same for a tuple of arrays."""
  initial_scale = float(check_real('initial_scale', initial_scale, above=0.0))
  if start is None:
    return NormalArrays(shapes, initial_scale)
  if not isinstance(start, (tuple, list)) or len(start) != len(shapes):
    raise InputError(f'start must be a tuple of {len(shapes)} arrays of shapes {shapes}, got {shown(start)}')
  arrays = (_as_tuples(f'start[{i}]', array, shape) for i, (array, shape) in enumerate(zip(start, shapes)))
  return FixedArrays(tuple(arrays), several=True)


def _as_tuples(name: str, value: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
  array = real_array(name, value).astype(default_float())
  if array.shape != shape:
    raise InputError(f'{name} must have shape {shape}, got {array.shape}')
  return _nested(array.tolist())


def _nested(part: Any) -> Any:
  return tuple(map(_nested, part)) if isinstance(part, list) else part
