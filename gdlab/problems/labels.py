"""Class labels out of range among the targets, which a loss silently wraps or turns into NaN."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.types import Array, Examples, PyTree
from gdlab.problems.checks import check_labels


def check_targets(name: str, examples: Examples, outputs: PyTree, loss: Callable) -> None:
  """Raises InputError for integer targets that the loss uses as labels and that are out of range.

  Where outputs and targets are one array each, integer targets with one axis less than the outputs are labels. In
  pytrees an array with the shape of labels may be something else (lengths, ids): there the loss of out-of-range values
  decides. Outputs with a single class are ignored.

  Args:
    name: of the data, in messages.
    examples: inputs and targets.
    outputs: of the model, shapes and dtypes.
    loss: `(outputs, targets) -> float[B]`.
  """
  leaves = jax.tree_util.tree_leaves_with_path(examples.targets)
  alone = len(leaves) == 1 and isinstance(outputs, jax.ShapeDtypeStruct)
  for path, leaf in leaves:
    place = f'{name}.targets{jax.tree_util.keystr(path)}'
    if not jnp.issubdtype(leaf.dtype, jnp.integer):
      continue
    for output in jax.tree.leaves(outputs):
      num_classes = output.shape[-1] if output.ndim else 1
      if output.ndim != leaf.ndim + 1 or num_classes == 1:
        continue
      if alone or _taken_for_labels(path, leaf, num_classes, examples, outputs, loss):
        check_labels(place, leaf, num_classes)


def _taken_for_labels(
  path: Any, leaf: Array, num_classes: int, examples: Examples, outputs: PyTree, loss: Callable
) -> bool:
  """Whether wrong numbers give a loss that is not finite, or the loss of the class to which they wrap."""
  host = np.asarray(leaf)
  wrong = ((host < 0) | (host >= num_classes)).reshape(len(host), -1).any(1)
  if not wrong.any():
    return False
  size = jax.tree.leaves(outputs)[0].shape[0]
  rows = np.resize(np.flatnonzero(wrong), size)
  rng = np.random.default_rng(0)
  made = jax.tree.map(lambda output: jnp.asarray(rng.normal(size=output.shape), output.dtype), outputs)

  def with_labels(labels: np.ndarray) -> np.ndarray:
    targets = jax.tree_util.tree_map_with_path(
      lambda own, values: jnp.asarray(labels, leaf.dtype) if own == path else values[rows], examples.targets
    )
    return np.asarray(loss(made, targets), float)

  labels = host[rows]
  right = np.clip(labels, 0, num_classes - 1)
  found, sound = with_labels(labels), with_labels(right)
  if np.isfinite(sound).all() and not np.isfinite(found).all():
    return True
  wrapped = np.where((labels < 0) & (labels >= -num_classes), labels + num_classes, labels)
  same = np.allclose(found, with_labels(wrapped)) and not np.array_equal(wrapped, labels)
  return same and not np.allclose(sound, with_labels((right + 1) % num_classes))
