"""Convolutions of any stride as patches and a matrix product, which are fast inside a compiled loop on a CPU."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gdlab._cpu.products import product
from gdlab.core.types import Array

MOST_BYTES = 2**26  # of patches: where they are larger, copying them takes longer than XLA's convolution


def conv_general_dilated(
  inputs: Array,
  kernel: Array,
  strides: Sequence[int],
  padding: Any,
  lhs_dilation: Sequence[int] | None = None,
  rhs_dilation: Sequence[int] | None = None,
  dimension_numbers: Any = None,
  feature_group_count: int = 1,
  **options: Any,
) -> Array:
  """`jax.lax.conv_general_dilated` for `flax.nnx.Conv(conv_general_dilated=...)`, by patches on a CPU.

  XLA's convolution is 5 to 7 times slower inside a compiled loop on a CPU than outside; a matrix product is not. Inputs
  [B, *spatial, C] and a kernel [*window, C, F] give [B, *spatial', F]. Transposed and grouped convolutions, layouts
  other than Flax's, those with a given precision and very large ones are left to XLA.
  """
  rank = kernel.ndim - 2
  last = (0, rank + 1, *range(1, rank + 1))
  usual = isinstance(dimension_numbers, jax.lax.ConvDimensionNumbers) and (
    dimension_numbers.lhs_spec == dimension_numbers.out_spec == last
    and dimension_numbers.rhs_spec == (rank + 1, rank, *range(rank))
  )
  plain = feature_group_count == 1 and all(value is None for value in options.values())
  plain = plain and all(each == 1 for each in lhs_dilation or ())
  if jax.default_backend() == 'cpu' and usual and plain:
    dilation = tuple(rhs_dilation or (1,) * rank)
    window = [(size - 1) * each + 1 for size, each in zip(kernel.shape[:rank], dilation, strict=True)]
    pads = padding
    if isinstance(padding, str):
      pads = jax.lax.padtype_to_pads(inputs.shape[1:-1], window, strides, padding)
    patches = _patches(inputs, kernel.shape[:rank], window, dilation, strides, pads)
    if patches is not None:
      outputs = product(patches.reshape(-1, patches.shape[-1]), kernel.reshape(-1, kernel.shape[-1]))
      return outputs.reshape(*patches.shape[:-1], kernel.shape[-1])
  return jax.lax.conv_general_dilated(
    inputs,
    kernel,
    strides,
    padding,
    lhs_dilation=lhs_dilation,
    rhs_dilation=rhs_dilation,
    dimension_numbers=dimension_numbers,
    feature_group_count=feature_group_count,
    **options,
  )


def _patches(
  inputs: Array,
  shape: Sequence[int],
  window: Sequence[int],
  dilation: Sequence[int],
  strides: Sequence[int],
  pads: Sequence[tuple[int, int]],
) -> Array | None:
  """The inputs of each output, [B, *spatial', K * C] for K places of the window; None if too large or empty."""
  batch, *spatial, channels = inputs.shape
  sizes = [
    (size + sum(pad) - reach) // stride + 1
    for size, pad, reach, stride in zip(spatial, pads, window, strides, strict=True)
  ]
  elements = batch * math.prod(sizes) * math.prod(shape) * channels
  negative = any(pad < 0 for both in pads for pad in both)
  if min(batch, *sizes) < 1 or negative or not 0 < elements * inputs.dtype.itemsize <= MOST_BYTES:
    return None
  padded = jnp.pad(inputs, ((0, 0), *pads, (0, 0)))

  def shifted(place: Sequence[int]) -> Array:
    cuts = [
      slice(number * each, number * each + (size - 1) * stride + 1, stride)
      for number, each, size, stride in zip(place, dilation, sizes, strides, strict=True)
    ]
    return padded[(slice(None), *cuts)]

  return jnp.concatenate([shifted(place) for place in itertools.product(*map(range, shape))], axis=-1)
