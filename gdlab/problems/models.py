"""Two Linen models, each in a form that is fast on a CPU: a multilayer perceptron and a small CNN.

Both take images [B, H, W] or [B, H, W, C] or flat inputs [B, D], and compute in JAX's default float.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from gdlab.errors import InputError, check_count, check_real
from gdlab.problems.products import dot_general
from gdlab.types import Array


class MLP(nn.Module):
  r"""A multilayer perceptron on flattened inputs: Dense, [BatchNorm], activation, [Dropout], ..., Dense.

  Weights are drawn as Flax draws them, $N(0, 1/\text{fan-in})$ truncated at two standard deviations (LeCun et
  al., "Efficient BackProp", 1998); biases start at 0.

  Attributes:
    features: width of each hidden layer, whole numbers >= 1; none makes the model linear.
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
      train: whether BatchNorm uses the batch's statistics and Dropout drops.
      mask: bool[B], False on examples that BatchNorm must not count.
    """
    x = inputs.reshape(inputs.shape[0], -1)
    for width in self.features:
      x = _dense(width)(x)
      x = _norm_and_activation(self, x, train, mask)
      x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
    return _dense(self.num_outputs)(x)


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
    shifted = [padded[:, i : i + height, j : j + width] for i in range(size) for j in range(size)]
    return _dense(self.features)(jnp.concatenate(shifted, axis=-1))


class CNN(nn.Module):
  """A small CNN: blocks of PatchConv, [BatchNorm], activation, 2x2 max pooling; then Dense.

  Pooling is a reshape and a maximum, which needs no window primitive: a last odd row or column is left out,
  and equal maxima share the gradient. After LeNet-5 (LeCun et al., "Gradient-based learning applied to
  document recognition", 1998).

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
      train: whether BatchNorm uses the batch's statistics and Dropout drops.
      mask: bool[B], False on examples that BatchNorm must not count.
    """
    x = _as_images(inputs)
    if min(x.shape[1:3]) < 2 ** len(self.features):
      raise InputError(
        f'images must be at least {2 ** len(self.features)} pixels wide and high for '
        f'{len(self.features)} blocks, got inputs of shape {inputs.shape}'
      )
    for channels in self.features:
      x = PatchConv(channels, self.kernel_size)(x)
      x = _max_pool(_norm_and_activation(self, x, train, mask))
    x = nn.Dropout(self.dropout_rate, deterministic=not train)(x.reshape(x.shape[0], -1))
    return _dense(self.num_outputs)(x)


def _norm_and_activation(model: MLP | CNN, x: Array, train: bool, mask: Array | None) -> Array:
  if model.batch_norm:
    if mask is not None:
      mask = mask.reshape(-1, *[1] * (x.ndim - 1))
    # Without force_float32_reductions the statistics have the parameters' type, in float64 too.
    norm = nn.BatchNorm(not train, param_dtype=_param_dtype(), force_float32_reductions=False)
    x = norm(x, mask=mask)
  return model.activation(x)


def _max_pool(x: Array) -> Array:
  """Maxima over 2x2 blocks: [B, H, W, C] to [B, H//2, W//2, C]."""
  batch, height, width, channels = x.shape[0], x.shape[1] // 2, x.shape[2] // 2, x.shape[3]
  blocks = x[:, : 2 * height, : 2 * width].reshape(batch, height, 2, width, 2, channels)
  return blocks.max(axis=(2, 4))


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
  """Checks what both models share; returns the features as a tuple, since a list has no hash."""
  check_count('num_outputs', num_outputs)
  check_real('dropout_rate', dropout_rate, below=1.0)
  if dropout_rate < 0:
    raise InputError(f'dropout_rate must be a real number in [0, 1), got {dropout_rate}')
  return tuple(check_count(f'features[{i}]', width) for i, width in enumerate(features))


def _dense(width: int) -> nn.Dense:
  return nn.Dense(width, param_dtype=_param_dtype(), dot_general=dot_general)


def _param_dtype() -> Any:
  return jnp.result_type(float)
