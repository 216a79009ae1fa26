"""Whether model, loss, metrics and data fit together: each misfit in one line, with the shapes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.dependence import follow
from gdlab.errors import InputError, shown
from gdlab.problems.checks import check_labels
from gdlab.problems.flags import Flags
from gdlab.types import Examples, PyTree

# Shapes are checked on a batch of such a size, one that another axis will hardly have by chance.
PROBE_SIZES = (7, 8, 12)


def batch_of(tree: PyTree, size: int = PROBE_SIZES[0]) -> PyTree:
  """Shapes and dtypes of a batch of `size` examples like those in `tree`."""
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype), tree)


def arrays(tree: PyTree) -> str:
  """Dtypes and shapes, for messages: `float32[7, 3]`."""

  def one(leaf: Any) -> str:
    return f'{leaf.dtype}{list(leaf.shape)}'

  leaves = jax.tree.leaves(tree)
  return one(leaves[0]) if len(leaves) == 1 else shown(jax.tree.map(one, tree)).replace("'", '')


def complaint(error: Exception) -> str:
  """The first line of what JAX or Flax says, on one line of bounded length."""
  text = ' '.join(str(error).split('--------------------')[0].split())
  return f'{type(error).__name__}: {text}' if len(text) <= 300 else f'{type(error).__name__}: {text[:297]}...'


def evaluated_shapes(
  name: str, model: Any, params: PyTree, model_state: PyTree, inputs: PyTree, flags: Flags
) -> tuple[int, PyTree]:
  """A batch size that the model takes, and its outputs for it; raises InputError if it takes none.

  Returns:
    `(size, outputs)`, shapes and dtypes.
  """
  first: Exception = RuntimeError()
  for size in PROBE_SIZES:
    batch = batch_of(inputs, size)
    try:
      return size, jax.eval_shape(model.evaluate, params, model_state, batch)
    except InputError:
      raise
    except Exception as error:
      first = first if size > PROBE_SIZES[0] else error
  hint = " (its call is given mask, bool[B]; flags={'mask': None} leaves that out)" if flags.mask else ''
  raise InputError(
    f'module {name} does not take a batch of inputs {arrays(batch_of(inputs))}{hint}: {complaint(first)}'
  ) from first


def check_params(params: PyTree) -> None:
  """Raises InputError for parameters that have no derivative."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
      raise InputError(
        f'params{jax.tree_util.keystr(path)} must be floats, got {leaf.dtype}{list(leaf.shape)}: numbers that are not '
        "trained belong in another collection, such as self.variable('constants', ...)"
      )


def check_targets(name: str, examples: Examples, outputs: PyTree) -> None:
  """Integer targets with one axis less than the outputs are class labels; a single class is none."""
  targets = examples.targets
  if not (isinstance(targets, jax.Array) and jnp.issubdtype(targets.dtype, jnp.integer)):
    return
  if isinstance(outputs, jax.ShapeDtypeStruct) and outputs.ndim == targets.ndim + 1 and outputs.shape[-1] > 1:
    check_labels(f'{name}.targets', targets, outputs.shape[-1])


def check_function(label: str, function: Callable, inputs: PyTree, outputs: PyTree, targets: PyTree) -> None:
  """Raises InputError unless a loss or a metric gives one number per example, and no pairs by broadcasting."""
  size = jax.tree.leaves(inputs)[0].shape[0]
  given = f'outputs {arrays(outputs)} (of inputs {arrays(inputs)}) and targets {arrays(targets)}'
  try:
    found = jax.eval_shape(function, outputs, targets)
  except Exception as error:
    raise InputError(f'{label} cannot take {given}{_hint(outputs, targets)}: {complaint(error)}') from error
  shape = jax.tree.map(jnp.shape, found)
  if shape != (size,):
    raise InputError(
      f'{label} must return one number per example, shape ({size},) for a batch of {size}, got shape {shape} for '
      f'{given}{_hint(outputs, targets)}'
    )
  if not jnp.issubdtype(found.dtype, jnp.floating) and found.dtype != bool and label == 'loss':
    raise InputError(f'loss must return floats, got {found.dtype} for {given}')
  pairs = _pairs(outputs, targets)
  if pairs and _mixes(function, outputs, targets):
    raise InputError(
      f'{label} sets every output against every target: {given} broadcast to {list(pairs)}; give targets the shape of '
      'the outputs'
    )


def _pairs(outputs: PyTree, targets: PyTree) -> tuple[int, ...]:
  """The shape that both broadcast to, if they are one array each and it is neither's; else ()."""
  both = (outputs, targets)
  if not all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in both):
    return ()
  try:
    shape = np.broadcast_shapes(outputs.shape, targets.shape)
  except ValueError:
    return ()
  return () if shape in (outputs.shape, targets.shape) else shape


def _mixes(function: Callable, outputs: PyTree, targets: PyTree) -> bool:
  size = outputs.shape[0]
  own = np.asarray([1 << slot for slot in range(size)], np.uint16)
  labels = follow(function, (outputs, targets), (own, own)).labels
  return bool((labels & ~own).any())


def _hint(outputs: PyTree, targets: PyTree) -> str:
  """What is most often wrong where class labels were meant."""
  both = (outputs, targets)
  if not all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in both):
    return ''
  if targets.ndim == outputs.ndim and targets.shape[-1] == 1 and outputs.shape[-1] > 1:
    return f' (class labels have one axis less than the outputs: shape {list(targets.shape[:-1])})'
  if outputs.ndim > 2 and targets.ndim == 1:
    return ' (one output for each example is [B, ...]: does the module flatten its inputs?)'
  if targets.ndim == outputs.ndim - 1 and not jnp.issubdtype(targets.dtype, jnp.integer):
    return ' (class labels are integers)'
  return ''
