"""Labels through operations that move entries: transposes, reshapes, slices, padding."""

from typing import Any

import numpy as np

from gdlab.core.dependence.labels import Labels, Value, either, full, raised, reshaped, short


def transpose(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Permuted axes."""
  labels = inputs[0].labels
  return [None if labels is None else np.transpose(labels, params['permutation'])]


def reshape(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """The same entries in another shape; the entries keep their order."""
  return [reshaped(inputs[0].labels, inputs[0].shape, shapes[0])]


def broadcast(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """New axes, along which all labels are equal."""
  labels = inputs[0].labels
  if labels is None:
    return [None]
  shape = [1] * len(shapes[0])
  for axis, place in enumerate(params['broadcast_dimensions']):
    shape[place] = labels.shape[axis]
  return [labels.reshape(shape)]


def cut(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Labels of `slice`."""
  labels = inputs[0].labels
  if labels is None:
    return [None]
  strides = params['strides'] or (1,) * labels.ndim
  ranges = zip(params['start_indices'], params['limit_indices'], strides, labels.shape, strict=True)
  return [labels[tuple(slice(None) if length == 1 else slice(*where) for *where, length in ranges)]]


def parts(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Labels of `split`."""
  labels, axis = inputs[0].labels, params['axis']
  if labels is None or labels.shape[axis] == 1:
    return [labels] * len(shapes)
  return list(np.split(labels, np.cumsum(params['sizes'])[:-1], axis))


def reverse(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Labels of `rev`."""
  labels = inputs[0].labels
  return [None if labels is None else np.flip(labels, params['dimensions'])]


def pad(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Padding at the edges and between entries, or cropping by negative padding."""
  labels = inputs[0].labels
  edge = raised(inputs[1].labels, len(shapes[0]))
  if labels is not None:
    for axis, (low, high, gap) in enumerate(params['padding_config']):
      if labels.shape[axis] == 1 or low == high == gap == 0:
        continue
      size = inputs[0].shape[axis]
      spread = np.zeros(
        [size + (size - 1) * gap if n == axis else k for n, k in enumerate(labels.shape)], labels.dtype
      )
      spread[tuple(slice(None, None, gap + 1) if n == axis else slice(None) for n in range(labels.ndim))] = (
        labels
      )
      wide = np.pad(
        spread, [(max(low, 0), max(high, 0)) if n == axis else (0, 0) for n in range(labels.ndim)]
      )
      labels = np.take(wide, range(max(-low, 0), wide.shape[axis] - max(-high, 0)), axis)
  return [either(labels, edge)]


def concatenate(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Concatenation along an existing axis."""
  axis = params['dimension']
  if all(value.labels is None for value in inputs):
    return [None]
  pieces = []
  lengths = [
    max(1 if value.labels is None else value.labels.shape[other] for value in inputs)
    for other in range(len(shapes[0]))
  ]
  for value in inputs:
    shape = [value.shape[axis] if other == axis else length for other, length in enumerate(lengths)]
    pieces.append(full(value.labels, shape))
  return [short(np.concatenate(pieces, axis))]


def stack(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Stacking along a new axis."""
  axis = params['axis']
  if all(value.labels is None for value in inputs):
    return [None]
  shape = inputs[0].shape
  lengths = [
    max(1 if v.labels is None else v.labels.shape[other] for v in inputs) for other in range(len(shape))
  ]
  return [short(np.stack([full(value.labels, lengths) for value in inputs], axis))]


def unstack(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Every item along an axis, which is removed."""
  labels, axis = inputs[0].labels, params['axis']
  if labels is None:
    return [None] * len(shapes)
  items = np.moveaxis(labels, axis, 0)
  return [items[number if len(items) > 1 else 0] for number in range(len(shapes))]


def tile(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Repetition of the array."""
  labels = inputs[0].labels
  if labels is None:
    return [None]
  repeats = [1 if length == 1 else count for length, count in zip(labels.shape, params['reps'], strict=True)]
  return [np.tile(labels, repeats)]
