"""Two small Linen models of sequences: a decoder-only Transformer and a gated recurrent network.

Both map ids int[B, T] to logits [B, T, vocabulary_size], where the logits at position t depend on ids up to t only,
and compute in JAX's default float.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from gdlab._cpu.products import dot_general
from gdlab.core.errors import InputError, check_count
from gdlab.core.types import Array

_EMBEDDING_SCALE = 0.02


class Transformer(nn.Module):
  r"""A decoder-only pre-norm Transformer (as GPT-2), without Dropout.

  $x = E[\mathrm{ids}] + P$; in each layer $x \leftarrow x + \mathrm{Attention}(\mathrm{LN}(x))$, causal, and
  $x \leftarrow x + W_2\, \mathrm{gelu}(W_1 \mathrm{LN}(x))$ with 4 `width` hidden units; then logits
  $E\, \mathrm{LN}(x)$. Embeddings and positions are drawn from $N(0, 0.02^2)$, so that the first predictions are nearly
  uniform; other weights have Flax's default initialisation, biases are 0.

  Attributes:
    vocabulary_size: V, number of ids, >= 1.
    width: D >= 1, a multiple of `num_heads`.
    num_layers: >= 1.
    num_heads: >= 1.
    max_context: the longest T, >= 1, which is the number of learned positions.
    tied: whether the output layer shares the embeddings (Press & Wolf 2017); otherwise it has its own weights and
      biases.

  Raises:
    InputError: an option out of range; when called, a sequence longer than `max_context`.

  Source: A. Radford et al., "Language models are unsupervised multitask learners", 2019; A. Vaswani et al.,
  "Attention is all you need", NeurIPS 2017.
  """

  vocabulary_size: int
  width: int = 64
  num_layers: int = 2
  num_heads: int = 4
  max_context: int = 128
  tied: bool = True

  def __post_init__(self) -> None:
    for name in ('vocabulary_size', 'width', 'num_layers', 'num_heads', 'max_context'):
      check_count(name, getattr(self, name))
    if self.width % self.num_heads:
      raise InputError(f'width must be a multiple of num_heads = {self.num_heads}, got {self.width}')
    super().__post_init__()

  @nn.compact
  def __call__(self, ids: Array) -> Array:
    """Returns logits [B, T, V] for ids int[B, T]."""
    length = ids.shape[1]
    if length > self.max_context:
      raise InputError(f'sequences must not be longer than max_context = {self.max_context}, got {length}')
    small = nn.initializers.normal(_EMBEDDING_SCALE)
    embed = _embed(self.vocabulary_size, self.width)
    positions = self.param('positions', small, (self.max_context, self.width), _param_dtype())
    x = embed(ids) + positions[None, :length]
    mask = nn.make_causal_mask(ids, dtype=bool)
    for _ in range(self.num_layers):
      attention = nn.MultiHeadDotProductAttention(self.num_heads, param_dtype=_param_dtype())
      x = x + attention(_norm()(x), mask=mask)
      hidden = nn.gelu(_dense(4 * self.width)(_norm()(x)))
      x = x + _dense(self.width)(hidden)
    x = _norm()(x)
    return embed.attend(x) if self.tied else _dense(self.vocabulary_size, kernel_init=small)(x)


class GRU(nn.Module):
  """A recurrent network: embedding, one or more GRU layers, Dense.

  Attributes:
    vocabulary_size: V, number of ids, >= 1.
    width: number of embedding dimensions and of units in each layer, >= 1.
    num_layers: >= 1.

  Raises:
    InputError: an option out of range.

  Source: K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine
  translation", EMNLP 2014, with the reset gate after the product, as in Flax's `GRUCell`.
  """

  vocabulary_size: int
  width: int = 64
  num_layers: int = 1

  def __post_init__(self) -> None:
    for name in ('vocabulary_size', 'width', 'num_layers'):
      check_count(name, getattr(self, name))
    super().__post_init__()

  @nn.compact
  def __call__(self, ids: Array) -> Array:
    """Returns logits [B, T, V] for ids int[B, T]."""
    x = _embed(self.vocabulary_size, self.width)(ids)
    for _ in range(self.num_layers):
      x = nn.RNN(nn.GRUCell(self.width, param_dtype=_param_dtype()))(x)
    return _dense(self.vocabulary_size)(x)


def _embed(size: int, width: int) -> nn.Embed:
  init = nn.initializers.normal(_EMBEDDING_SCALE)
  return nn.Embed(size, width, param_dtype=_param_dtype(), embedding_init=init)


def _norm() -> nn.LayerNorm:
  # Without force_float32_reductions the statistics have the parameters' type, in float64 too.
  return nn.LayerNorm(param_dtype=_param_dtype(), force_float32_reductions=False)


def _dense(width: int, **options: Any) -> nn.Dense:
  return nn.Dense(width, param_dtype=_param_dtype(), dot_general=dot_general, **options)


def _param_dtype() -> Any:
  return jnp.result_type(float)
