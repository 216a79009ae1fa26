"""Convolutions as patches and matrix products, which are fast inside a compiled loop on a CPU; XLA's own are not."""

import functools
import itertools

import jax
import jax.numpy as jnp
from flax import linen as nn

from gdlab._cpu.products import dot_general
from gdlab.core.objective import sharing_devices
from gdlab.core.types import Array


class PatchConv(nn.Module):
  """A convolution with stride 1 and zero padding ('SAME'), as patches and one matrix product.

  Equal to `flax.linen.Conv(features, (k, k))` whose kernel [k, k, C, F] is reshaped to [k*k*C, F]. XLA's
  convolution is about 7 times slower inside `lax.scan` on a CPU than outside; a matrix product is not.

  Attributes:
    features: number of output channels F.
    kernel_size: k, the odd height and width of the kernel.
  """

  features: int
  kernel_size: int = 3

  @nn.compact
  def __call__(self, images: Array) -> Array:
    """Maps [B, H, W, C] to [B, H, W, F]."""
    size, (height, width) = self.kernel_size, images.shape[1:3]
    pad = (size // 2, size // 2)
    padded = jnp.pad(images, ((0, 0), pad, pad, (0, 0)))
    shifted = [padded[:, i : i + height, j : j + width] for i, j in _places(size)]
    dense = nn.Dense(self.features, param_dtype=jnp.result_type(float), dot_general=dot_general)
    return dense(jnp.concatenate(shifted, axis=-1))


class QuarteredConv(nn.Module):
  """`PatchConv` before 2x2 pooling: the four positions of every 2x2 block as separate arrays, examples last.

  Computation on images then runs along contiguous memory, and pooling is an elementwise maximum, see
  `greatest`. One update of `CNN()` on 28x28 images at B=32 takes 0.6 of the time on a CPU.

  Attributes:
    features: as for PatchConv.
    kernel_size: as for PatchConv.
  """

  features: int
  kernel_size: int = 3

  @nn.compact
  def __call__(self, images: Array) -> list[Array]:
    """Maps [C, H, W, B] to four arrays [F, H//2, W//2, B]; a last odd row or column of the output is left out."""
    keep, size = jax.lax.optimization_barrier, self.kernel_size
    channels, (height, width) = images.shape[0], (images.shape[1] // 2, images.shape[2] // 2)
    kernel, bias = _Weights(size * size * channels, self.features, name='Dense_0')()
    phases = _phases(images, size // 2)

    def place(row: int, column: int) -> Array:
      shifted = [
        phases[i % 2][j % 2][:, i // 2 : i // 2 + height, j // 2 : j // 2 + width]
        for i, j in ((row + i, column + j) for i, j in _places(size))
      ]
      # One copy of each shift: without the barrier XLA computes places in the flat array one by one.
      outputs = _product(kernel, keep(jnp.concatenate(shifted)))
      return outputs + bias[:, None, None, None]

    return [place(row, column) for row, column in _places(2)]


@jax.custom_jvp
def greatest(*arrays: Array) -> Array:
  """Elementwise maxima; equal ones share the gradient, as they do in `jnp.max` over an axis."""
  return functools.reduce(jnp.maximum, arrays)


@greatest.defjvp
def _greatest_jvp(arrays, tangents):
  maxima = greatest(*arrays)
  reached = [array == maxima for array in arrays]
  share = jax.lax.optimization_barrier(1 / sum(each.astype(maxima.dtype) for each in reached))  # one division
  return maxima, share * sum(jnp.where(each, dot, 0) for each, dot in zip(reached, tangents, strict=True))


class _Weights(nn.Module):
  """The parameters of a Dense layer; the caller computes the product."""

  num_inputs: int
  num_outputs: int

  @nn.compact
  def __call__(self) -> tuple[Array, Array]:
    dtype = jnp.result_type(float)
    kernel = self.param('kernel', nn.initializers.lecun_normal(), (self.num_inputs, self.num_outputs), dtype)
    return kernel, self.param('bias', nn.initializers.zeros, (self.num_outputs,), dtype)


def _product(kernel: Array, patches: Array) -> Array:
  """Patches [K, H, W, B] times kernel [K, F], as [F, H, W, B]."""
  if sharing_devices() > 1:
    return jnp.einsum('kf,khwb->fhwb', kernel, patches)
  # A plain product of matrices is faster; as part of a flattened axis the batch could not be shared.
  flat = jnp.einsum('kf,kn->fn', kernel, patches.reshape(len(kernel), -1))
  return flat.reshape(-1, *patches.shape[1:])


def _places(size: int) -> list[tuple[int, int]]:
  return list(itertools.product(range(size), range(size)))


def _phases(images: Array, pad: int) -> list[list[Array]]:
  """Images [C, H, W, B], padded, by the parity of row and column: two rows of two [C, (H+2*pad)/2, .., B]."""
  keep = jax.lax.optimization_barrier
  channels, height, width, batch = images.shape
  ends = [(pad, pad + size % 2) for size in (height, width)]  # one more makes them even
  padded = jnp.pad(images, ((0, 0), *ends, (0, 0)))
  rows, columns = (size // 2 for size in padded.shape[1:3])
  apart = keep(padded.reshape(channels, rows, 2, columns, 2, batch).transpose(2, 4, 0, 1, 3, 5))
  return [[keep(apart[row, column]) for column in (0, 1)] for row in (0, 1)]
