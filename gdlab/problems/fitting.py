"""Whether model, loss, metrics and data fit together: each mismatch is reported in one line, with the shapes."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.dependence import follow, of_examples, trace
from gdlab.core.errors import InputError, shown
from gdlab.core.types import Examples, PyTree
from gdlab.problems.flags import mode_named

# Shapes are checked on batches of two sizes, as another axis may have the length of one by chance; models that need an
# even, a divisible or a larger number of examples get another pair.
PROBE_SIZES = (7, 11), (8, 12), (16, 32)


def batch_of(tree: PyTree, size: int = PROBE_SIZES[0][0]) -> PyTree:
  """Shapes and dtypes of a batch of `size` examples like those in `tree`."""
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype), tree)


def arrays(tree: PyTree) -> str:
  """Dtypes and shapes, for messages: `float32[7, 3]`."""

  def one(leaf: Any) -> str:
    return f'{leaf.dtype}{list(leaf.shape)}'

  leaves = jax.tree.leaves(tree)
  return one(leaves[0]) if len(leaves) == 1 else shown(jax.tree.map(one, tree)).replace("'", '')


def complaint(error: Exception) -> str:
  """The beginning of an error of JAX or Flax, on one line of bounded length."""
  text = ' '.join(str(error).split('--------------------')[0].split())
  return f'{type(error).__name__}: {text}' if len(text) <= 300 else f'{type(error).__name__}: {text[:297]}...'


@contextlib.contextmanager
def in_one_line(what: str) -> Iterator[None]:
  """Turns any exception of a user's module into an InputError of one line that begins with `what`."""
  try:
    yield
  except InputError:
    raise
  except Exception as error:
    raise InputError(f'{what}: {complaint(error)}') from error


def fitting_shapes(
  name: str, model: Any, at: tuple[PyTree, PyTree], train: Examples, functions: Mapping[str, Callable]
) -> dict[int, PyTree]:
  """Checks by abstract evaluation that model, loss and metrics take batches.

  Args:
    name: the module's, for messages.
    model: see `gdlab.problems.adapters.Model`.
    at: its parameters and state, shapes and dtypes.
    train: training examples.
    functions: loss and metrics by name, `(outputs, targets) -> float[B]`.

  Returns:
    Batch size -> the outputs in evaluation mode, shapes and dtypes, for two sizes.

  Raises:
    InputError: if no pair of batch sizes in PROBE_SIZES works.
  """
  hint = (
    " (its call is given mask, bool[B]; flags={'mask': None} leaves that out)" if model.flags.mask else ''
  )

  def outputs_for(size: int) -> PyTree:
    batch = batch_of(train, size)
    what = f'module {name} does not take a batch of inputs {arrays(batch.inputs)}{hint}'
    with in_one_line(what), mode_named(name, model.flags):
      outputs = jax.eval_shape(model.evaluate, *at, batch.inputs)
    for label, function in functions.items():
      check_function(label, function, batch.inputs, outputs, batch.targets)
    return outputs

  complaints = []
  for sizes in PROBE_SIZES:
    try:
      return {size: outputs_for(size) for size in sizes}
    except InputError as error:
      complaints.append(error)
  raise complaints[0]


def check_params(params: PyTree) -> None:
  """Raises InputError for parameters that are not floats or complex."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
      raise InputError(
        f'params{jax.tree_util.keystr(path)} must be floats, got {leaf.dtype}{list(leaf.shape)}: numbers that are not '
        "trained belong in another collection, such as self.variable('constants', ...)"
      )


def check_function(label: str, function: Callable, inputs: PyTree, outputs: PyTree, targets: PyTree) -> None:
  """Raises InputError unless a loss or a metric gives one number per example, without broadcasting to pairs."""
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
  pair = _pair(outputs, targets)
  if pair and _mixes(function, size, outputs, targets):
    raise InputError(
      f'{label} sets every example against every other: in {given}, {pair} would be broadcast to pairs; give both one '
      'shape'
    )


def _pair(outputs: PyTree, targets: PyTree) -> str:
  """The shapes, in words, of two arrays that differ only in axes of length 1 and broadcast to a third shape; or ''."""
  leaves = jax.tree.leaves((outputs, targets))
  for one, two in itertools.combinations(leaves, 2):
    bare = [[length for length in leaf.shape if length != 1] for leaf in (one, two)]
    if bare[0] == bare[1] and one.shape != two.shape:
      try:
        joint = np.broadcast_shapes(one.shape, two.shape)
      except ValueError:
        continue
      if joint not in (one.shape, two.shape):
        return f'{list(one.shape)} and {list(two.shape)}'
  return ''


def _mixes(function: Callable, size: int, outputs: PyTree, targets: PyTree) -> bool:
  own = of_examples(size)
  labels = follow(trace(function, (outputs, targets)), (outputs, targets), (own, own)).labels
  return bool((labels & ~own).any())


def _hint(outputs: PyTree, targets: PyTree) -> str:
  """The most common mistake with class labels that fits these shapes, in words; or ''."""
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
