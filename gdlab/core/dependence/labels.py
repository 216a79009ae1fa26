"""Labels on the entries of an array: for each entry a bit field of the inputs that it depends on.

Arrays of labels are compressed: an axis along which all labels are equal has length 1, so that the labels of a batch of
images are [B, 1, 1, 1] for any size of the images. `None` means no labels, as for parameters.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Labels: TypeAlias = np.ndarray | None
BITS = np.uint32


def of_examples(size: int) -> np.ndarray:
  """A label for each example of a batch of at most 32, uint32[size]."""
  return BITS(1) << np.arange(size, dtype=BITS)


class Value(NamedTuple):
  """What is known about one array of a program.

  Attributes:
    shape: its shape.
    labels: those of its entries, of the same rank, every axis of full length or 1; None if there are none.
    known: returns the array itself, or None if it is unknown before the program runs.
    pieces: for a concatenation along the last axis, its parts: index vectors are built this way.
  """

  shape: tuple[int, ...]
  labels: Labels
  known: Callable[[], Any] = lambda: None
  pieces: 'tuple[Value, ...]' = ()


def either(*labels: Labels) -> Labels:
  """The union of labels of arrays that broadcast."""
  present = [array for array in labels if array is not None]
  if not present:
    return None
  union = present[0]
  for array in present[1:]:
    union = np.bitwise_or(union, array)
  return union


def over(labels: Labels, axes: Iterable[int]) -> Labels:
  """The union along axes, which are kept with length 1."""
  axes = tuple(axes)
  if labels is None or not axes:
    return labels
  return np.bitwise_or.reduce(labels, axis=axes, keepdims=True)


def everything(labels: Iterable[Labels]) -> int:
  """The union of all labels of all arrays."""
  found = 0
  for array in labels:
    if array is not None:
      found |= int(np.bitwise_or.reduce(array, axis=None))
  return found


def uniform(bits: int, shape: Sequence[int]) -> Labels:
  """The same label on every entry of an array."""
  return np.full((1,) * len(shape), bits, BITS) if bits else None


def full(labels: Labels, shape: Sequence[int]) -> np.ndarray:
  """Labels at full length, read-only."""
  if labels is None:
    return np.broadcast_to(BITS(0), tuple(shape))
  return np.broadcast_to(labels, tuple(shape))


def short(labels: np.ndarray) -> Labels:
  """Labels with every axis along which they are equal reduced to length 1; None if there are none."""
  if not labels.any():
    return None
  for axis in range(labels.ndim):
    first = np.take(labels, [0], axis)
    if labels.shape[axis] > 1 and (labels == first).all():
      labels = first
  return labels


def reshaped(labels: Labels, shape: Sequence[int], new_shape: Sequence[int]) -> Labels:
  """The labels of a reshaped array."""
  if labels is None:
    return None
  if labels.size == 1 or not math.prod(new_shape):
    return uniform(everything([labels]), new_shape)
  # Axes in front that both have may stay as they are where everything behind them is short.
  front = 0
  while front < min(len(shape), len(new_shape)) and shape[front] == new_shape[front]:
    front += 1
  if all(length == 1 for length in labels.shape[front:]):
    return labels.reshape(*labels.shape[:front], *(1,) * (len(new_shape) - front))
  return short(full(labels, shape).reshape(new_shape))


def raised(labels: Labels, rank: int) -> Labels:
  """Labels of a scalar as those of an array of this rank; other labels unchanged."""
  return labels if labels is None or labels.ndim == rank else labels.reshape((1,) * rank)
