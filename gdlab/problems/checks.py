"""Checks of data. Each raises InputError with argument, value and what is allowed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from gdlab.core.errors import InputError, check_real, shown
from gdlab.core.types import SPLITS, Array, Examples, Problem, PyTree

_SMALLEST, _LARGEST = 1e-6, 1e6
_WHOLE = 2**24  # float32 has all whole numbers up to here


def default_float() -> np.dtype:
  """JAX's default float type: float32, or float64 under `jax.enable_x64(True)`."""
  return np.dtype(jnp.result_type(float))


def as_array(name: str, value: Any) -> Array:
  """Returns `value` as an array with a leading axis N >= 1 of finite numbers.

  Floats of any width become JAX's default float; integers and booleans keep their kind.

  Args:
    name: the argument's name in messages.
    value: a NumPy or JAX array, or anything that `numpy.asarray` accepts.

  Raises:
    InputError: not a rectangular array of real numbers, no example in it, or not all finite.
  """
  check_unmasked(name, value)
  try:
    array = np.asarray(value)
  except ValueError as error:
    raise InputError(f'{name} must be a rectangular array of numbers, got {shown(value)}: {error}') from None
  floating = jnp.issubdtype(array.dtype, jnp.floating)
  if not (floating or jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == bool):
    raise InputError(f'{name} must have a float, integer or boolean dtype, got {array.dtype}')
  if array.ndim == 0:
    raise InputError(f'{name} must have a leading axis of examples, got the scalar {value!r}')
  if array.shape[0] == 0:
    raise InputError(f'{name} must hold at least one example, got an array of shape {array.shape}')
  if floating:
    _check_rounding(name, array)
    array = array.astype(default_float(), copy=False)
    if not (finite := np.isfinite(array)).all():
      index = tuple(int(i) for i in np.argwhere(~finite)[0])
      raise InputError(f'{name} must be finite, got {array[index]} at index {index}')
  check_whole(name, array)
  # Not asarray, which on a CPU may share memory that the caller goes on writing to.
  return jnp.array(array)


def check_unmasked(name: str, value: Any) -> None:
  """Raises InputError for an array with masked entries, which JAX would use as numbers."""
  if isinstance(value, np.ma.MaskedArray) and (count := int(np.ma.count_masked(value))):
    raise InputError(
      f'{name} must be a plain array, got a masked one with {count} masked entries: fill them or drop the examples'
    )


def check_whole(name: str, array: np.ndarray) -> None:
  """Raises InputError for whole numbers that would overflow JAX's integer dtype."""
  if not jnp.issubdtype(array.dtype, jnp.integer):
    return
  stored = jax.dtypes.canonicalize_dtype(array.dtype)
  limits = np.iinfo(stored)
  if (wrong := array[(array < limits.min) | (array > limits.max)]).size:
    raise InputError(
      f'{name} must fit {stored}, whole numbers in [{limits.min}, {limits.max}], got {wrong.flat[0]}: number ids '
      'from 0, or enable jax_enable_x64'
    )


def _check_rounding(name: str, array: np.ndarray) -> None:
  """Raises InputError for large numbers whose differences would be lost in float32, such as ids and time stamps."""
  if array.dtype.itemsize <= default_float().itemsize or not np.isfinite(array).all():
    return
  largest, spread = np.abs(array).max(axis=0), np.ptp(array, axis=0)
  with np.errstate(over='ignore'):
    moved = np.abs(array - array.astype(default_float())).max(axis=0)
  lost = (largest > _WHOLE) & (spread > 0) & (moved > 0.01 * spread)
  if lost.any():
    index = np.unravel_index(int(np.argmax(lost)), lost.shape)
    raise InputError(
      f'{name} must keep its differences in {default_float()}, got values of {largest[index]:.6g} that differ by '
      f'{spread[index]:.3g} at most: subtract an offset, or enable jax_enable_x64'
    )


def real_array(name: str, value: Any) -> np.ndarray:
  """Returns finite real numbers of any shape as float64; unlike `as_array`, it does not round to JAX's default float.

  Raises:
    InputError: not a rectangular array of real numbers, or not all finite in JAX's default float.
  """
  try:
    array = np.asarray(value)
  except ValueError:
    array = np.empty(0, object)
  if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
    raise InputError(f'{name} must be a rectangular array of real numbers, got {shown(value)}')
  with np.errstate(over='ignore'):
    stored = array.astype(default_float())
  if not (finite := np.isfinite(stored)).all():
    index = tuple(int(i) for i in np.argwhere(~finite)[0])
    raise InputError(f'{name} must be finite, got {stored[index]} at index {index}')
  return array.astype(np.float64)


def real_vector(name: str, value: Any) -> np.ndarray:
  """Returns one or more finite real numbers as float64[d]; raises InputError for anything else."""
  vector = real_array(name, value)
  if vector.ndim != 1 or not vector.size:
    raise InputError(f'{name} must be one or more numbers in one dimension, got {shown(value)}')
  return vector


def as_pair(name: str, data: Any) -> Examples:
  """Returns a pair (inputs, targets) as Examples, its parts unchecked; raises InputError if it is not a pair."""
  if not (isinstance(data, (tuple, list)) and len(data) == 2):
    raise InputError(f'{name} must be a pair (inputs, targets), got {shown(data)}')
  return Examples(*data)


def as_examples(name: str, data: Any) -> Examples:
  """Returns a pair (inputs, targets) of pytrees of arrays as Examples whose leaves share the leading axis N.

  Args:
    name: the argument's name in messages.
    data: Examples, or any pair.

  Raises:
    InputError: not a pair, a leaf refused by `as_array`, or leaves of different length.
  """
  examples = as_pair(name, data)
  if not jax.tree.leaves(examples.inputs):
    raise InputError(f'{name}.inputs must hold at least one array, got {shown(examples.inputs)}')
  return as_data(name, examples, 'as many inputs as targets')


def as_data(name: str, data: PyTree, what: str = 'arrays of one length') -> PyTree:
  """Returns a pytree of arrays, as `as_array` makes them, that share the leading axis N.

  Args:
    name: the argument's name in messages.
    data: a pytree; lists of numbers, and lists of these, are arrays.
    what: the requirement, in the message for leaves of different length.

  Raises:
    InputError: no leaf, a leaf refused by `as_array`, or leaves of different length.
  """
  pairs, treedef = jax.tree_util.tree_flatten_with_path(data, is_leaf=_is_table)
  if not pairs:
    raise InputError(f'{name} must hold at least one array, got {shown(data)}')
  leaves = [as_array(f'{name}{jax.tree_util.keystr(path)}', leaf) for path, leaf in pairs]
  lengths = {f'{name}{jax.tree_util.keystr(path)}': leaf.shape[0] for (path, _), leaf in zip(pairs, leaves)}
  if len(set(lengths.values())) != 1:
    found = ', '.join(f'{leaf} has {length}' for leaf, length in lengths.items())
    raise InputError(f'{name} must hold {what}, but {found}')
  return jax.tree_util.tree_unflatten(treedef, leaves)


def _is_table(node: Any) -> bool:
  return isinstance(node, list) and all(isinstance(entry, int | float) or _is_table(entry) for entry in node)


def check_alike(name: str, held_out: PyTree, train: PyTree) -> None:
  """Raises InputError unless held-out examples have the structure, shapes and dtypes of training examples."""
  one = [jax.tree.map(lambda leaf: (leaf.shape[1:], str(leaf.dtype)), data) for data in (held_out, train)]
  if one[0] != one[1]:
    raise InputError(f'{name} must hold examples like those of the training data, {one[1]}, got {one[0]}')


def check_labels(name: str, labels: Array, num_classes: int) -> None:
  """Raises InputError unless all integer `labels` lie in [0, num_classes)."""
  host = np.asarray(labels)
  wrong = host[(host < 0) | (host >= num_classes)]
  if wrong.size:
    advice = (
      'replace labels that mark ignored entries by valid ones, and give the loss a mask among the targets'
      if wrong[0] < 0
      else 'pass regression targets as floats'
    )
    raise InputError(
      f'{name} must be labels in [0, {num_classes - 1}], one for each of the {num_classes} outputs, '
      f'got {wrong[0]} ({advice})'
    )


def as_rows(data: tuple[Any, Any], inputs_name: str, targets_name: str) -> Examples:
  """Returns inputs float[N, d] with d >= 1 and targets [N]; raises InputError for anything else."""
  inputs, targets = as_array(inputs_name, data[0]), as_array(targets_name, data[1])
  if inputs.ndim != 2 or inputs.shape[1] == 0:
    raise InputError(f'{inputs_name} must have shape [N, d] with d >= 1, got {inputs.shape}')
  if targets.shape != inputs.shape[:1]:
    raise InputError(
      f'{targets_name} must have shape {inputs.shape[:1]}, one per row of {inputs_name}, got {targets.shape}'
    )
  return Examples(inputs.astype(default_float()), targets)


def nonnegative(name: str, value: Any) -> float:
  """Returns `value` as a float if it is a finite real number >= 0; raises InputError if not."""
  return float(check_real(name, value, minimum=0))


def moderate(name: str, value: Any) -> float:
  """Returns a constant of a landscape in [1e-6, 1e6], whose powers stay in float32's range."""
  return float(check_real(name, value, minimum=_SMALLEST, maximum=_LARGEST))


def moderate_or_zero(name: str, value: Any) -> float:
  """The same, or 0."""
  return 0.0 if nonnegative(name, value) == 0 else moderate(name, value)


def hashable(name: str, value: PyTree) -> None:
  """Raises InputError if `value` cannot be hashed: a problem's functions are keys of compilation caches."""
  try:
    hash(value)
  except TypeError as error:
    reason = str(error).split('\n')[0]
    raise InputError(f'{name} must be hashable (tuples for arrays), got {shown(value)}: {reason}') from None


def check_problem(problem: object) -> None:
  """Raises InputError unless `problem` is a Problem."""
  refuse_module(problem)
  if not isinstance(problem, Problem):
    raise InputError(f'problem must be a gdlab Problem such as gdlab.problems.digits(), got {shown(problem)}')
  for split in SPLITS:
    for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(problem, split)):
      if isinstance(leaf, np.ndarray):  # what JAX holds already has changed already
        check_unmasked(f'problem.{split}{jax.tree_util.keystr(path)}', leaf)
        check_whole(f'problem.{split}{jax.tree_util.keystr(path)}', leaf)


def refuse_module(problem: object) -> None:
  """Raises InputError for a Flax module or a class of modules, callable like a function that makes problems."""
  kind = problem if isinstance(problem, type) else type(problem)
  for module, adapter in (
    (linen.Module, 'from_linen(module, ...)'),
    (nnx.Module, 'from_nnx(make_module, ...)'),
  ):
    if issubclass(kind, module):
      raise InputError(
        f'problem must be a gdlab Problem, such as gdlab.problems.{adapter} makes of a Flax module, data and a loss, '
        f'got the module {shown(problem)}'
      )
