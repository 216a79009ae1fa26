"""Labels through gathers and slices, whose indices may be known, unknown, or known in part."""

from typing import Any

import numpy as np

from gdlab.core.dependence.labels import BITS, Labels, Value, either, full, over, short


def gather(operand: Value, indices: Value, params: dict[str, Any], out_shape: tuple[int, ...]) -> Labels:
  """Labels of `lax.gather`: an unknown index may be any."""
  numbers, sizes = params['dimension_numbers'], params['slice_sizes']
  batch_shape = indices.shape[:-1]
  columns = _columns(indices)
  labels = operand.labels
  picked: list[tuple[int, np.ndarray]] = []  # axes of the operand that an index has picked one entry of
  for axis, size in enumerate(operand.shape):
    if labels is None:
      break
    if axis in numbers.operand_batching_dims:
      place = numbers.start_indices_batching_dims[numbers.operand_batching_dims.index(axis)]
      picked.append((axis, _along(np.arange(size), place, len(batch_shape))))
    elif axis in numbers.start_index_map and sizes[axis] < size:
      column = columns[numbers.start_index_map.index(axis)] if sizes[axis] == 1 else None
      if column is None:
        labels = over(labels, [axis])
        picked.append((axis, np.zeros((1,) * len(batch_shape), int)))
      else:
        picked.append((axis, np.clip(column, 0, size - 1)))
    elif sizes[axis] < size:
      labels = labels[
        tuple(slice(sizes[axis]) if other == axis else slice(None) for other in range(labels.ndim))
      ]
  rank = len(out_shape)
  batch_axes = [axis for axis in range(rank) if axis not in numbers.offset_dims]
  from_indices = None
  if indices.labels is not None:
    flat = np.bitwise_or.reduce(indices.labels, axis=-1)
    from_indices = _at(flat, batch_axes, rank)
  if labels is None:
    return from_indices
  dropped = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
  # What is picked comes first, shaped like the batch of indices; the other axes follow in order.
  rest = [axis for axis in range(len(operand.shape)) if axis not in [number for number, _ in picked]]
  turned = np.transpose(labels, [*(axis for axis, _ in picked), *rest])
  chosen = [index if labels.shape[axis] > 1 else np.zeros_like(index) for axis, index in picked]
  found = turned[tuple(chosen)] if picked else turned[(None,) * len(batch_shape)]
  # An axis of size 1 that was picked and not collapsed is an axis of the output.
  kept = [axis for axis in range(len(operand.shape)) if axis not in dropped]
  layout = found
  for position, axis in enumerate(kept):
    if axis not in rest:
      layout = np.expand_dims(layout, len(batch_shape) + position)
  extra = [position for position, axis in enumerate(rest) if axis in dropped]
  if extra:
    layout = np.squeeze(layout, tuple(len(batch_shape) + position for position in extra))
  offset_axes = list(numbers.offset_dims)
  return either(_at(layout, [*batch_axes, *offset_axes], rank), from_indices)


def dynamic_slice(operand: Value, starts: list[Value], sizes: tuple[int, ...]) -> Labels:
  """Labels of `lax.dynamic_slice`."""
  labels = operand.labels
  for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
    if labels is None or labels.shape[axis] == 1 or size == operand.shape[axis]:
      continue
    first = start.known()
    if first is None:
      labels = over(labels, [axis])
    else:
      begin = int(np.clip(int(first), 0, operand.shape[axis] - size))
      labels = np.take(labels, range(begin, begin + size), axis)
  return either(labels, _scalars(starts, len(sizes)))


def dynamic_update_slice(operand: Value, update: Value, starts: list[Value]) -> Labels:
  """Labels of `lax.dynamic_update_slice`; replaced entries keep their labels in addition to the new ones."""
  new = update.labels
  for axis, (start, size) in enumerate(zip(starts, update.shape, strict=True)):
    if new is None or size == operand.shape[axis]:
      continue
    first = start.known()
    if first is None:
      new = over(new, [axis])
      continue
    begin = int(np.clip(int(first), 0, operand.shape[axis] - size))
    length = [
      (begin, operand.shape[axis] - size - begin) if other == axis else (0, 0) for other in range(new.ndim)
    ]
    new = np.pad(np.repeat(new, size, axis) if new.shape[axis] == 1 else new, length)
  return either(operand.labels, new, _scalars(starts, len(operand.shape)))


def _columns(indices: Value) -> list[np.ndarray | None]:
  """Every component of the index vectors, if it is known."""
  count = indices.shape[-1]
  if indices.pieces and all(piece.shape[-1] == 1 for piece in indices.pieces):
    columns = [piece.known() for piece in indices.pieces]
    return [None if column is None else np.asarray(column)[..., 0] for column in columns]
  whole = indices.known()
  if whole is None:
    return [None] * count
  return [np.asarray(whole)[..., number] for number in range(count)]


def _scalars(starts: list[Value], rank: int) -> Labels:
  return either(*(None if start.labels is None else start.labels.reshape((1,) * rank) for start in starts))


def _along(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
  return values.reshape([-1 if number == axis else 1 for number in range(rank)])


def _at(labels: np.ndarray, axes: list[int], rank: int) -> np.ndarray:
  """Labels placed along these axes of an array of higher rank."""
  order = np.argsort(axes)
  shape = [1] * rank
  for position, axis in enumerate(axes):
    shape[axis] = labels.shape[position]
  return np.transpose(labels, order).reshape(shape)


def scatter(operand: Value, indices: Value, updates: Value, params: dict[str, Any]) -> Labels:
  """Labels of `lax.scatter` and its variants; an unknown index may be any.

  Entries keep their own labels, and gain those of the updates that may be written there and of their indices.
  """
  numbers = params['dimension_numbers']
  batch_rank, rank = len(indices.shape) - 1, len(operand.shape)
  batch_axes = [axis for axis in range(len(updates.shape)) if axis not in numbers.update_window_dims]
  new = np.transpose(full(updates.labels, updates.shape), (*batch_axes, *numbers.update_window_dims))
  if indices.labels is not None:
    where = np.bitwise_or.reduce(indices.labels, axis=-1)
    new = new | where.reshape(*where.shape, *(1,) * (new.ndim - batch_rank))
  columns = _columns(indices)
  windows = [
    axis
    for axis in range(rank)
    if axis not in (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
  ]
  picked: list[tuple[int, np.ndarray]] = []
  everywhere: list[int] = []
  for axis, size in enumerate(operand.shape):
    if axis in windows:
      if new.shape[batch_rank + windows.index(axis)] < size:  # a part of the axis, from some place on
        everywhere.append(axis)
    elif axis in numbers.operand_batching_dims:
      place = numbers.scatter_indices_batching_dims[numbers.operand_batching_dims.index(axis)]
      picked.append((axis, _along(np.arange(size), place, batch_rank)))
    else:
      found = axis in numbers.scatter_dims_to_operand_dims
      column = (
        columns[numbers.scatter_dims_to_operand_dims.index(axis)]
        if found
        else np.zeros((1,) * batch_rank, int)
      )
      if column is None:
        everywhere.append(axis)
      picked.append(
        (axis, np.zeros((1,) * batch_rank, int) if column is None else np.clip(column, 0, size - 1))
      )
  for axis in everywhere:
    if axis in windows:
      new = np.bitwise_or.reduce(new, axis=batch_rank + windows.index(axis), keepdims=True)
  shape = [1 if axis in everywhere else size for axis, size in enumerate(operand.shape)]
  order = [*(axis for axis, _ in picked), *windows]
  target = np.zeros([shape[axis] for axis in order], BITS)
  if picked:
    places = tuple(np.broadcast_to(index, indices.shape[:-1]) for _, index in picked)
    np.bitwise_or.at(target, places, new)
  else:
    target |= np.bitwise_or.reduce(new, axis=tuple(range(batch_rank)))
  put = np.transpose(target, np.argsort(order))
  return either(operand.labels, short(put))
