"""Classification margins, plain and divided by the product of the layers' norms."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.dtypes import widened
from gdlab.core.errors import InputError, shown
from gdlab.core.leaves import as_matrices, leaf_kinds
from gdlab.core.types import Array, PyTree


class Margins(NamedTuple):
  """Q quantiles over examples of the classification margin.

  Attributes:
    output: float[Q], of the margin itself.
    spectral: float[Q], of the margin over the product of the layers' spectral norms.
    frobenius: float[Q], of the margin over the product of their Frobenius norms.
  """

  output: Array
  spectral: Array
  frobenius: Array


@checked
def output_margins(outputs: Array, labels: Array) -> Array:
  r"""The margin of every example, $z_y - \max_{j \ne y} z_j$: above 0 where it is classified correctly.

  Example:
    >>> import jax.numpy as jnp
    >>> output_margins(jnp.array([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]]), jnp.array([0, 2])).tolist()
    [1.0, -4.0]

  Args:
    outputs: float[n, C], the model's outputs z (logits), C >= 2.
    labels: int[n], in [0, C).

  Returns:
    float[n].

  Raises:
    InputError: if the arguments are not of these forms; inside jit the range of labels is not checked.
  """
  outputs, labels = jnp.asarray(outputs), jnp.asarray(labels)
  if outputs.ndim != 2 or outputs.shape[1] < 2:
    raise InputError(f'outputs must have the shape [n, C], C >= 2, got {outputs.shape}')
  if labels.shape != outputs.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
    raise InputError(
      f'labels must be whole numbers of shape {outputs.shape[:1]}, got {labels.dtype}{list(labels.shape)}'
    )
  num_classes = outputs.shape[1]
  if not isinstance(labels, jax.core.Tracer) and ((labels < 0) | (labels >= num_classes)).any():
    raise InputError(f'labels must lie in [0, {num_classes}), got some from {labels.min()} to {labels.max()}')
  is_own = jax.nn.one_hot(labels, num_classes, dtype=bool)
  own = jnp.sum(jnp.where(is_own, outputs, 0), axis=1)
  return own - jnp.max(jnp.where(is_own, -jnp.inf, outputs), axis=1)


@checked('quantiles')
def margins(
  outputs: Array,
  labels: Array,
  params: PyTree,
  *,
  kinds: PyTree | None = None,
  quantiles: Sequence[float] = (0.1, 0.5, 0.9),
) -> Margins:
  r"""Quantiles of the margins, plain and divided by $\prod_l \|W_l\|$, spectral and Frobenius.

  For 1-Lipschitz activations the product bounds the Lipschitz constant of the network. For layers without biases the
  quotient is invariant to rescaling of ReLU layers and to multiplication of the outputs.

  The layers are the kernels and the embeddings among `params`, each copy of a stack (`nn.scan`, `nnx.vmap`) a layer of
  its own, as matrices [inputs, outputs]: query [in, heads, head_dim] as [in, heads * head_dim], a convolution as
  [height * width * in, out] (whose norm is not that of the convolution as an operator). An embedding is the first
  layer of a network whose inputs are ids, a linear map of one-hot vectors. Biases and scales do not count as layers.
  Every array counts once and as it is stored. So the product serves for comparison only, and is not a bound, where an
  array is used more than once (tied embeddings, recurrent cells), where layers are parallel (query, key and value;
  LoRA), or where normalisation (BatchNorm, SpectralNorm) rescales a kernel.

  Costs one singular value decomposition of every layer, in addition to one evaluation for the outputs, about 1/3
  gradient-equivalent. As a probe:
  `lambda problem, state: margins(model.apply({'params': state.params}, problem.train.inputs), problem.train.targets,
  state.params, kinds=problem.kinds()).spectral`.

  Args:
    outputs: float[n, C], the model's outputs (logits), C >= 2.
    labels: int[n], in [0, C).
    params: the parameters of that model.
    kinds: the kind of each array: `problem.kinds()` for a problem of `from_linen` or `from_nnx`. Without it names
      decide and, for other names, two axes are a matrix [inputs, outputs]; whatever remains undecided is refused, see
      `gdlab.core.leaves.leaf_kinds`.
    quantiles: Q numbers in [0, 1], 0 for the smallest margin; static under jit.

  Returns:
    Margins; inside jit the quotients are NaN where a layer is zero.

  Raises:
    InputError: an argument out of range or of the wrong shape; `params` without a layer or, outside jit, with one of
      norm 0; an array whose kind neither `kinds` nor names decide.

  Source: Bartlett, Foster and Telgarsky 2017, Spectrally-normalized margin bounds for neural networks,
  arXiv 1706.08498; Jiang, Krishnan, Mobahi and Bengio 2019, arXiv 1810.00113 (quantiles).
  """
  levels = np.asarray(quantiles)
  is_real = levels.ndim == 1 and levels.size > 0 and levels.dtype.kind in 'iuf'
  if not is_real or not ((levels >= 0) & (levels <= 1)).all():
    raise InputError(f'quantiles must be numbers in [0, 1], at least one, got {shown(quantiles)}')
  layers = {
    name: as_matrices(leaf, kind)
    for (name, kind), leaf in zip(leaf_kinds(params, kinds), jax.tree.leaves(widened(params)), strict=True)
    if kind.kind in ('kernel', 'embedding')
  }
  if not layers:
    raise InputError('params must hold at least one kernel or embedding, got none')
  found = jnp.quantile(output_margins(outputs, labels), jnp.array(levels, jnp.result_type(float)))

  def per_norm(order: int | str) -> Array:
    # Sums of logarithms: the product over many layers could overflow where the quotient is an ordinary number.
    norms = {name: jnp.linalg.norm(copies, ord=order, axis=(1, 2)) for name, copies in layers.items()}
    logs = sum(jnp.sum(jnp.log(_nonzero(name, norm))) for name, norm in norms.items())
    return jnp.sign(found) * jnp.exp(jnp.log(jnp.abs(found)) - logs)

  return Margins(found, per_norm(2), per_norm('fro'))


def _nonzero(name: str, norms: Array) -> Array:
  """The norms, NaN for 0; outside jit a norm of 0 raises InputError."""
  if not isinstance(norms, jax.core.Tracer) and (norms == 0).any():
    raise InputError(f'{name} must not be zero (in any of its copies), got a layer of norm 0')
  return jnp.where(norms == 0, jnp.nan, norms)
