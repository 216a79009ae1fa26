"""Labels through elementwise operations, and through sums and maxima along axes."""

from typing import Any

import numpy as np

from gdlab.core.dependence.labels import BITS, Labels, Value, either, full, over, raised, short


def elementwise(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """The union of the labels at the same index, with scalars broadcast."""
  rank = len(shapes[0])
  return [either(*(raised(value.labels, rank) for value in inputs))] * len(shapes)


def product(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Labels of a product or a logical and: factors of a known 0 (a mask) do not count."""
  labels = []
  for own, other in (inputs, inputs[::-1]):
    passed = raised(own.labels, len(shapes[0]))
    factor = other.known() if passed is not None and other.labels is None else None
    if factor is not None and not np.all(nonzero := np.asarray(factor) != 0):
      passed = short(np.where(nonzero, full(passed, shapes[0]), BITS(0)))
    labels.append(passed)
  return [either(*labels)]


def select(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Labels of `select_n`: where the selected case is known, only that case."""
  which, *cases = inputs
  rank = len(shapes[0])
  labels = [raised(case.labels, rank) for case in cases]
  known = which.known() if which.labels is None and any(case is not None for case in labels) else None
  if known is None:
    return [either(raised(which.labels, rank), *labels)]
  chosen = np.asarray(known).astype(int)
  taken = np.zeros(shapes[0], BITS)
  for number, case in enumerate(labels):
    taken = np.where(chosen == number, full(case, shapes[0]), taken)
  return [short(taken)]


def per_input(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Labels of outputs that are the inputs."""
  return [value.labels for value in inputs]


def reduction(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Sums, maxima, argmax: the union along the reduced axes."""
  axes = params['axes'] if 'axes' in params else params['dimensions']
  labels = over(either(*(value.labels for value in inputs[: len(shapes)])), axes)
  return [None if labels is None else np.squeeze(labels, tuple(axes))] * len(shapes)


def cumulative(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Cumulative sums: the union of all earlier entries."""
  axis = params['axis']
  labels = inputs[0].labels
  if labels is None or labels.shape[axis] == 1:
    return [labels]
  turned = np.flip(labels, axis) if params['reverse'] else labels
  summed = np.bitwise_or.accumulate(turned, axis)
  return [np.flip(summed, axis) if params['reverse'] else summed]


def windows(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Pooling: the union along every axis that has a window."""
  labels = either(*(value.labels for value in inputs if len(value.shape) == len(shapes[0])))
  sizes = params['window_dimensions']
  strides = params.get('window_strides', (1,) * len(sizes))
  return [over(labels, [axis for axis, size in enumerate(sizes) if size > 1 or strides[axis] > 1])] * len(
    shapes
  )


def bitcast(inputs: list[Value], params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Labels]:
  """Elementwise if words keep their width; otherwise a last axis of word parts is added or removed."""
  labels, rank = inputs[0].labels, len(shapes[0])
  if labels is None or labels.ndim == rank:
    return [labels]
  return [labels[..., None] if labels.ndim < rank else np.bitwise_or.reduce(labels, axis=-1)]
