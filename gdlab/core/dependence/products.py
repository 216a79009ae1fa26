"""Labels through products, convolutions, sorting and the linear algebra of the last axes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gdlab.core.dependence.labels import Labels, Value, either, everything, over, uniform


def dot(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Labels of `dot_general`: batch axes first, then the remaining axes of the left side, then of the right."""
  (left_sum, right_sum), (left_batch, right_batch) = params['dimension_numbers']
  rank, batch = len(shapes[0]), len(left_batch)
  left_stay = [axis for axis in range(len(inputs[0].shape)) if axis not in (*left_sum, *left_batch)]
  right_stay = [axis for axis in range(len(inputs[1].shape)) if axis not in (*right_sum, *right_batch)]
  sides = (
    (inputs[0], left_sum, (*left_batch, *left_stay), batch),
    (inputs[1], right_sum, (*right_batch, *right_stay), batch + len(left_stay)),
  )
  found: list[Labels] = []
  for value, summed, kept, first in sides:
    labels = over(value.labels, summed)
    if labels is None:
      found.append(None)
      continue
    turned = np.transpose(labels, (*kept, *summed))
    turned = turned.reshape(turned.shape[: len(kept)])
    shape = [1] * rank
    for position in range(len(kept)):
      shape[position if position < batch else first + position - batch] = turned.shape[position]
    found.append(turned.reshape(shape))
  return [either(*found)]


def convolution(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Labels of convolutions: each image depends on all of its own entries, and on all of the kernel."""
  images, kernel = inputs[0].labels, inputs[1].labels
  numbers, rank = params['dimension_numbers'], len(shapes[0])
  bits = uniform(everything([kernel]), shapes[0])
  if images is None:
    return [bits]
  batch = numbers.lhs_spec[0]
  rows = np.bitwise_or.reduce(images, axis=tuple(axis for axis in range(rank) if axis != batch))
  if params['batch_group_count'] > 1:
    return [either(uniform(everything([images]), shapes[0]), bits)]
  return [either(rows.reshape([-1 if axis == numbers.out_spec[0] else 1 for axis in range(rank)]), bits)]


def sort(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """The union along the sorted axis, over all sorted arrays."""
  return [over(either(*(value.labels for value in inputs)), [params['dimension']])] * len(shapes)


def last_axis(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Labels of `top_k`."""
  axis = params.get('axis', -1) % len(inputs[0].shape)
  return [over(inputs[0].labels, [axis])] * len(shapes)


def matrices(count: int) -> Callable[[list[Value], dict[str, Any], list[tuple[int, ...]]], list[Labels]]:
  """Functions of the last `count` axes, with any number of outputs that begin with the other axes."""

  def rule(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
    batch = len(inputs[0].shape) - count
    joint: Labels = None
    for value in inputs:
      labels = over(value.labels, range(batch, len(value.shape)))
      joint = either(joint, None if labels is None else labels.reshape(labels.shape[:batch]))
    if joint is None:
      return [None] * len(shapes)
    return [joint.reshape(*joint.shape, *(1,) * (len(shape) - batch)) for shape in shapes]

  return rule


def fourier(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Labels of `fft`."""
  return matrices(len(params['fft_lengths']))(inputs, params, shapes)


def keys(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Labels of random keys, and of numbers drawn from each: the leading axes are those of the keys."""
  shape = shapes[0]
  found: list[Labels] = []
  for value in inputs:
    front = min(len(value.shape), len(shape))
    if any(own not in (1, length) for own, length in zip(value.shape[:front], shape)):
      return mixed(inputs, params, shapes)
    labels = over(value.labels, range(front, len(value.shape)))
    found.append(
      None if labels is None else labels.reshape((*labels.shape[:front], *(1,) * (len(shape) - front)))
    )
  return [either(*found)]


def mixed(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Every output depends on every input."""
  bits = everything(value.labels for value in inputs)
  return [uniform(bits, shape) for shape in shapes]
