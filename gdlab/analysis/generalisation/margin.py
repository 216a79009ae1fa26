"""Classification margins, and the same over the product of the layers' norms."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.errors import InputError, shown
from gdlab.floats import widened
from gdlab.types import Array, PyTree


class Margins(NamedTuple):
  """Quantiles over examples of the classification margin, Q of them.

  Attributes:
    output: float[Q], of the margin itself.
    spectral: float[Q], of the margin over the product of the layers' spectral norms.
    frobenius: float[Q], of the margin over the product of their Frobenius norms.
  """

  output: Array
  spectral: Array
  frobenius: Array


def output_margins(outputs: Array, labels: Array) -> Array:
  r"""The margin of every example, $z_y - \max_{j \ne y} z_j$: above 0 where it is classified rightly.

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
    InputError: if the arguments are not of these forms. Inside jit the range of labels is unknown and not checked.
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


def margins(
  outputs: Array, labels: Array, params: PyTree, *, quantiles: Sequence[float] = (0.1, 0.5, 0.9)
) -> Margins:
  r"""Quantiles of the margins, plain and divided by $\prod_l \|W_l\|$, spectral and Frobenius.

  The product bounds by how much a network of layers with 1-Lipschitz activations can stretch its inputs, and for
  layers without biases the quotient does not change when a ReLU layer is rescaled or the outputs are multiplied. The
  layers are the leaves of `params` with two axes or more, each as a matrix whose columns are its last axis (the kernel
  of a convolution so reshaped has not the norm of the convolution as an operator). Costs one singular value
  decomposition of every layer beside the outputs, which are one evaluation, about 1/3 gradient-equivalent. As a probe:
  `lambda problem, state: margins(model.apply({'params': state.params}, problem.train.inputs), problem.train.targets,
  state.params).spectral`.

  Args:
    outputs: float[n, C], the model's outputs (logits), C >= 2.
    labels: int[n], in [0, C).
    params: the parameters that gave them.
    quantiles: Q numbers in [0, 1], 0 for the smallest margin; static under jit.

  Raises:
    InputError: an argument out of range or of the wrong shape; `params` without a matrix.

  Source: Bartlett, Foster and Telgarsky 2017, Spectrally-normalized margin bounds for neural networks,
  arXiv 1706.08498; Jiang, Krishnan, Mobahi and Bengio 2019, arXiv 1810.00113 (quantiles).
  """
  levels = np.asarray(quantiles)
  is_real = levels.ndim == 1 and levels.size > 0 and levels.dtype.kind in 'iuf'
  if not is_real or not ((levels >= 0) & (levels <= 1)).all():
    raise InputError(f'quantiles must be numbers in [0, 1], at least one, got {shown(quantiles)}')
  matrices = [leaf.reshape(-1, leaf.shape[-1]) for leaf in jax.tree.leaves(widened(params)) if leaf.ndim >= 2]
  if not matrices:
    raise InputError('params must hold at least one array with two axes or more, got none')
  found = jnp.quantile(output_margins(outputs, labels), jnp.array(levels, jnp.result_type(float)))

  def per_norm(order: int | str) -> Array:
    # Sums of logarithms: the product over many layers could overflow where the quotient is an ordinary number.
    logs = sum(jnp.log(jnp.linalg.norm(matrix, ord=order)) for matrix in matrices)
    return jnp.sign(found) * jnp.exp(jnp.log(jnp.abs(found)) - logs)

  return Margins(found, per_norm(2), per_norm('fro'))
