"""Two Linen models, each in a form that is fast on a CPU: a multilayer perceptron and a small CNN.

Both take images [B, H, W] or [B, H, W, C] or flat inputs [B, D], and compute in JAX's default float.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from gdlab._cpu.convolution import PatchConv as PatchConv
from gdlab._cpu.convolution import QuarteredConv, greatest
from gdlab._cpu.products import dot_general, transposed
from gdlab.core.errors import InputError, check_count, check_real
from gdlab.core.types import Array


class MLP(nn.Module):
  r"""A multilayer perceptron on flattened inputs: Dense, [BatchNorm], activation, [Dropout], ..., Dense.

  Weights have Flax's default initialisation, $N(0, 1/\text{fan-in})$ truncated at two standard deviations (LeCun et
  al., "Efficient BackProp", 1998); biases are 0.

  Attributes:
    features: width of each hidden layer, whole numbers >= 1; () makes the model linear.
    num_outputs: number of outputs (classes).
    activation: elementwise function.
    batch_norm: BatchNorm before each activation (Ioffe & Szegedy 2015).
    dropout_rate: probability in [0, 1) with which a hidden unit is dropped (Srivastava et al. 2014).

  Raises:
    InputError: a width or a rate out of range.
  """

  features: Sequence[int] = (300, 100)
  num_outputs: int = 10
  activation: Callable[[Array], Array] = nn.relu
  batch_norm: bool = False
  dropout_rate: float = 0.0

  def __post_init__(self) -> None:
    self.features = _check_options(self.features, self.num_outputs, self.dropout_rate)
    super().__post_init__()

  @nn.compact
  def __call__(self, inputs: Array, *, train: bool = False, mask: Array | None = None) -> Array:
    """Returns outputs [B, num_outputs].

    Args:
      inputs: [B, ...].
      train: whether BatchNorm uses the batch's statistics and Dropout is active.
      mask: bool[B], False on examples that BatchNorm must ignore.
    """
    x = inputs.reshape(inputs.shape[0], -1)
    for width in self.features:
      x = _dense(width)(x)
      if self.batch_norm:
        x = _norm(x, -1, train, None if mask is None else mask[:, None])
      x = nn.Dropout(self.dropout_rate, deterministic=not train)(self.activation(x))
    return _dense(self.num_outputs)(x)


class CNN(nn.Module):
  """A small CNN: blocks of convolution, [BatchNorm], activation, 2x2 max pooling; then Dense.

  Convolutions have the parameters of `PatchConv` and are computed by `QuarteredConv`. A last odd row or column is
  dropped, also from the statistics of BatchNorm, and equal maxima share the gradient. After LeNet-5 (LeCun et al.,
  "Gradient-based learning applied to document recognition", 1998).

  Attributes:
    features: number of channels of each block, whole numbers >= 1.
    num_outputs: number of outputs (classes).
    kernel_size: odd height and width of the kernels.
    activation: elementwise function.
    batch_norm: BatchNorm before each activation.
    dropout_rate: probability in [0, 1) with which an input of the last layer is dropped.

  Raises:
    InputError: an option out of range; when called, images too small for the number of blocks, or flat inputs
      that are not square.
  """

  features: Sequence[int] = (16, 32)
  num_outputs: int = 10
  kernel_size: int = 3
  activation: Callable[[Array], Array] = nn.relu
  batch_norm: bool = False
  dropout_rate: float = 0.0

  def __post_init__(self) -> None:
    self.features = _check_options(self.features, self.num_outputs, self.dropout_rate)
    if check_count('kernel_size', self.kernel_size) % 2 == 0:
      raise InputError(f'kernel_size must be an odd whole number, got {self.kernel_size}')
    super().__post_init__()

  @nn.compact
  def __call__(self, inputs: Array, *, train: bool = False, mask: Array | None = None) -> Array:
    """Returns outputs [B, num_outputs].

    Args:
      inputs: [B, H, W, C], [B, H, W] or [B, H*H].
      train: whether BatchNorm uses the batch's statistics and Dropout is active.
      mask: bool[B], False on examples that BatchNorm must ignore.
    """
    x = _as_images(inputs)
    if min(x.shape[1:3]) < 2 ** len(self.features):
      raise InputError(
        f'images must be at least {2 ** len(self.features)} pixels wide and high for '
        f'{len(self.features)} blocks, got inputs of shape {inputs.shape}'
      )
    x = x.transpose(3, 1, 2, 0)
    for number, channels in enumerate(self.features):
      quarters = QuarteredConv(channels, self.kernel_size, name=f'PatchConv_{number}')(x)
      if self.batch_norm:
        quarters = list(_norm(jnp.stack(quarters), 1, train, mask))
      x = greatest(*map(self.activation, quarters))
    x = transposed(x.transpose(1, 2, 0, 3).reshape(-1, x.shape[3]))
    x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
    return _dense(self.num_outputs)(x)


def _norm(x: Array, axis: int, train: bool, mask: Array | None) -> Array:
  """Batch normalisation of the features along `axis`, for a module's own use."""
  # Without force_float32_reductions the statistics have the parameters' type, in float64 too.
  norm = nn.BatchNorm(not train, axis=axis, param_dtype=_param_dtype(), force_float32_reductions=False)
  return norm(x, mask=mask)


def _as_images(inputs: Array) -> Array:
  """Inputs as [B, H, W, C]."""
  if inputs.ndim == 4:
    return inputs
  if inputs.ndim == 3:
    return inputs[..., None]
  side = math.isqrt(inputs.shape[-1])
  if inputs.ndim != 2 or side * side != inputs.shape[-1]:
    raise InputError(f'inputs must be [B, H, W, C], [B, H, W] or [B, H*H], got shape {inputs.shape}')
  return inputs.reshape(-1, side, side, 1)


def _check_options(features: Any, num_outputs: Any, dropout_rate: Any) -> tuple[int, ...]:
  """Checks the options of both models; returns the features as a tuple, since a list is not hashable."""
  check_count('num_outputs', num_outputs)
  check_real('dropout_rate', dropout_rate, below=1.0)
  if dropout_rate < 0:
    raise InputError(f'dropout_rate must be a real number in [0, 1), got {dropout_rate}')
  return tuple(check_count(f'features[{i}]', width) for i, width in enumerate(features))


def _dense(width: int) -> nn.Dense:
  return nn.Dense(width, param_dtype=_param_dtype(), dot_general=dot_general)


def _param_dtype() -> Any:
  return jnp.result_type(float)
