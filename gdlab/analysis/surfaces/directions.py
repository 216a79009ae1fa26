"""Random directions in parameter space whose size is that of the weights, filter by filter."""

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.errors import InputError, shown
from gdlab.types import Array, Key, PyTree


def filter_direction(key: Key, params: PyTree, *, biases: bool = False) -> PyTree:
  r"""A random direction, scaled so that each of its filters has the norm of the filter it moves.

  $$d_j \leftarrow \frac{d_j}{\lVert d_j\rVert}\,\lVert\theta_j\rVert, \qquad d_j \sim N(0, I),$$

  where a filter $\theta_j$ is what feeds one output unit: the last axis of a leaf counts filters, as in Flax (a
  column of a Dense kernel [in, out]; kernel[:, :, :, j] of a convolution). A step of a given length along it then
  means the same however a ReLU or normalised layer is scaled, so that pictures of two minima compare. Jittable.
  Cost: no gradient.

  Example:
    >>> params = {'kernel': jnp.array([[3.0, 0.0], [4.0, 2.0]]), 'bias': jnp.ones(2)}
    >>> direction = filter_direction(jax.random.key(0), params)
    >>> jnp.linalg.norm(direction['kernel'], axis=0).tolist(), direction['bias'].tolist()
    ([5.0, 2.0], [0.0, 0.0])

  Args:
    key: of the random draw.
    params: float leaves.
    biases: whether leaves of at most one dimension move too (biases, scales and offsets of BatchNorm): each such
      leaf is then one filter. False leaves them where they are, as the paper's pictures do.

  Returns:
    A pytree like `params`.

  Raises:
    InputError: if a leaf is not of floats, or nothing would move: no leaf has two dimensions, and `biases` is False.

  Source: Li, Xu, Taylor, Studer, Goldstein, "Visualizing the loss landscape of neural nets", 2018, arXiv
  1712.09913. There one-dimensional leaves, where they move, move by themselves and not at random.
  """
  leaves, structure = jax.tree.flatten(params)
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
      name = f'params{jax.tree_util.keystr(path)}'
      raise InputError(f'{name} must be an array of real floats, got {jnp.result_type(leaf)} {shown(leaf)}')
  if not biases and all(np.ndim(leaf) <= 1 for leaf in leaves):
    raise InputError('biases must be True for parameters of which no leaf has two dimensions, got False')
  keys = jax.random.split(key, len(leaves))
  return jax.tree.unflatten(structure, [_scaled(k, leaf, biases) for k, leaf in zip(keys, leaves)])


def _scaled(key: Key, leaf: Array, biases: bool) -> Array:
  leaf = jnp.asarray(leaf)
  if leaf.ndim <= 1 and not biases:
    return jnp.zeros_like(leaf)
  draw = jax.random.normal(key, leaf.shape, leaf.dtype)
  axes = tuple(range(leaf.ndim - 1)) if leaf.ndim > 1 else tuple(range(leaf.ndim))

  def norm(array: Array) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(array), axis=axes, keepdims=True))

  # A Gaussian draw is 0 with probability 0 only in exact arithmetic.
  length = norm(draw)
  return draw / jnp.where(length > 0, length, 1) * norm(leaf)
