"""Random directions in parameter space with the norm of the weights, filter by filter."""

import jax
import jax.numpy as jnp

from gdlab.core.arguments import checked
from gdlab.core.dtypes import wide
from gdlab.core.errors import InputError, shown
from gdlab.core.leaves import leaf_kinds
from gdlab.core.types import Array, Key, LeafKind, PyTree


@checked
def filter_direction(
  key: Key, params: PyTree, *, biases: bool = False, kinds: PyTree | None = None
) -> PyTree:
  r"""A random direction, scaled so that each of its filters has the norm of the corresponding filter of the parameters.

  $$d_j \leftarrow \frac{d_j}{\lVert d_j\rVert}\,\lVert\theta_j\rVert, \qquad d_j \sim N(0, I),$$

  where a filter $\theta_j$ is the weights of one output unit: a column of a Dense kernel [in, out]; kernel[:, :, :, j]
  of a convolution; query[:, h, j] of attention, one for every head h and dimension j; a row of an embedding; each of
  these in every copy of a stack (`nn.scan`, `nnx.vmap`). A step of a given length along it then has the same effect
  whatever the scale of a ReLU or normalised layer, so that plots of two minima are comparable. Jittable. Cost: no
  gradient.

  Example:
    >>> params = {'kernel': jnp.array([[3.0, 0.0], [4.0, 2.0]]), 'bias': jnp.ones(2)}
    >>> direction = filter_direction(jax.random.key(0), params)
    >>> jnp.linalg.norm(direction['kernel'], axis=0).tolist(), direction['bias'].tolist()
    ([5.0, 2.0], [0.0, 0.0])

  Args:
    key: of the random draw.
    params: float leaves.
    biases: whether biases and scales vary too (also those of attention and normalisation): each such leaf is then one
      filter, in every copy of a stack. With False the direction is 0 there, as in the paper's figures.
    kinds: the kind of each array: `problem.kinds()` for a problem of `from_linen` or `from_nnx`. Without it names
      decide and, for other names, rank: one axis is a bias, two are [inputs, outputs]; whatever remains undecided is
      refused, see `gdlab.core.leaves.leaf_kinds`.

  Returns:
    A pytree like `params`.

  Raises:
    InputError: if a leaf is not of floats, if neither `kinds` nor names decide the kind of a leaf, or if the direction
      would be 0: there are only biases and scales, and `biases` is False.

  Source: Li, Xu, Taylor, Studer, Goldstein, "Visualizing the loss landscape of neural nets", 2018, arXiv
  1712.09913. There the direction of a one-dimensional leaf, unless 0, is the leaf itself and not random.
  """
  leaves, structure = jax.tree.flatten(params)
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
      name = f'params{jax.tree_util.keystr(path)}'
      raise InputError(f'{name} must be an array of real floats, got {jnp.result_type(leaf)} {shown(leaf)}')
  found = [kind for _, kind in leaf_kinds(params, kinds)]
  if not biases and not any(map(_has_filters, found)):
    raise InputError('biases must be True for parameters without a kernel or an embedding, got False')
  keys = jax.random.split(key, len(leaves))
  return jax.tree.unflatten(
    structure, [_scaled(*each, biases) for each in zip(keys, leaves, found, strict=True)]
  )


def _has_filters(kind: LeafKind) -> bool:
  return kind.kind in ('kernel', 'embedding')


def _scaled(key: Key, leaf: Array, kind: LeafKind, biases: bool) -> Array:
  leaf = jnp.asarray(leaf)
  if not (biases or _has_filters(kind)):
    return jnp.zeros_like(leaf)
  # In half precision the squares of ordinary numbers overflow or vanish.
  weights = leaf.astype(wide(leaf))
  draw = jax.random.normal(key, leaf.shape, weights.dtype)
  kept = kind.stacked + kind.outputs if _has_filters(kind) else kind.stacked
  axes = tuple(axis for axis in range(leaf.ndim) if axis not in kept)

  def norm(array: Array) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(array), axis=axes, keepdims=True))

  # A Gaussian draw is 0 with probability 0 only in exact arithmetic.
  length = norm(draw)
  return (draw / jnp.where(length > 0, length, 1) * norm(weights)).astype(leaf.dtype)
