"""A layer's matrix product whose weight gradient is fast on a CPU."""

from typing import Any

import jax
import jax.numpy as jnp

from gdlab.types import Array

FEWEST_ROWS = 8  # below it there is nothing to gain
NARROW = 4  # outputs are few if there are this many times more inputs


@jax.custom_jvp
def product(inputs: Array, kernel: Array) -> Array:
  r"""$Y = X W$ for $X$ [B, K] and $W$ [K, M], the product inside a Dense layer.

  Left to itself, XLA's CPU backend computes the weight gradient $X^\top \delta$ from matrices that both lie the
  wrong way. The tangent of $W$ is written here so that its transpose starts from a transposed copy: of $X$, or of
  $\delta$ if that is far the smaller. One update of a 64-128-128-10 network takes 5 % less time at B=32 and 15 %
  less at B=256. Derivatives of all orders and in both modes are those of the plain product.
  """
  return inputs @ kernel


@product.defjvp
def _product_jvp(primals, tangents):
  (inputs, kernel), (inputs_dot, kernel_dot) = primals, tangents
  return product(inputs, kernel), product(inputs_dot, kernel) + _along_kernel(inputs, kernel_dot)


def _along_kernel(inputs: Array, kernel_dot: Array) -> Array:
  """`inputs @ kernel_dot`. The barriers keep XLA from folding the transpositions back into the product."""
  keep = jax.lax.optimization_barrier
  if NARROW * kernel_dot.shape[1] < kernel_dot.shape[0]:
    return keep(jnp.einsum('mk,bk->mb', keep(kernel_dot.T), inputs)).T
  return jnp.einsum('kb,km->bm', keep(inputs.T), kernel_dot)


def dot_general(
  inputs: Array, kernel: Array, dimension_numbers: Any, precision: Any = None, **options
) -> Array:
  """`jax.lax.dot_general` for `flax.linen.Dense(dot_general=...)`, by `product` on a CPU where it helps."""
  usual = dimension_numbers == (((inputs.ndim - 1,), (0,)), ((), ()))
  rows = inputs.size // max(1, inputs.shape[-1])
  plain = precision is None and not any(options.values())
  if jax.default_backend() != 'cpu' or not usual or not plain or rows < FEWEST_ROWS:
    return jax.lax.dot_general(inputs, kernel, dimension_numbers, precision, **options)
  flat = product(inputs.reshape(rows, inputs.shape[-1]), kernel)
  return flat.reshape(*inputs.shape[:-1], kernel.shape[-1])
