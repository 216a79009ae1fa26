r"""Shampoo: each axis of a gradient preconditioned by its own matrix, with exact roots."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdlab.core.arguments import checked
from gdlab.core.dtypes import widened
from gdlab.core.errors import check_count, check_real
from gdlab.core.types import Array, PyTree


class ShampooState(NamedTuple):
  """State of `shampoo`."""

  factors: (
    PyTree  # for each leaf a tuple with one [d, d] or (for long axes) [d] per axis; in at least float32
  )


@checked('decay', 'eps', 'max_size')
def shampoo(
  *, decay: Any = 1.0, eps: Any = 1e-6, max_size: int = 1024
) -> optax.GradientTransformationExtraArgs:
  r"""Preconditions each axis of every gradient by its own matrix: Shampoo in its simplest exact form.

  For a gradient $G_t$ with k axes, with $G_t^{(i)}$ its matricisation along axis i,

  $$L^{(i)}_t = \beta L^{(i)}_{t-1} + G_t^{(i)} G_t^{(i)\dagger}, \qquad L^{(i)}_0 = 0, \qquad
    u_t = G_t \times_1 (L^{(1)}_t + \epsilon I)^{-1/2k} \cdots \times_k (L^{(k)}_t + \epsilon I)^{-1/2k}.$$

  For a matrix and $\beta = 1$ it is $(L + \epsilon I)^{-1/4} G (R + \epsilon I)^{-1/4}$ with $L = \sum G G^\dagger$ and
  $R = \sum G^\dagger G$; for a vector full-matrix AdaGrad; for a single number AdaGrad. Roots are computed at every
  update, by `eigh`. It is first in a chain: momentum and the learning rate follow.

  Departure from the paper: sums may decay, and for an axis longer than `max_size` only the diagonal of its matrix is
  kept. What large implementations add (grafting of another method's step length, blocks, infrequent roots) is left out.

  Example:
    >>> import jax.numpy as jnp, optax
    >>> descent = optax.chain(shampoo(eps=0.0001), optax.trace(0.9), optax.scale_by_learning_rate(0.1))
    >>> params = {'w': jnp.eye(2)}
    >>> updates, state = descent.update({'w': jnp.diag(jnp.array([3.0, -0.5]))}, descent.init(params))
    >>> updates['w'].round(3).tolist()  # for a diagonal gradient the signs
    [[-0.1, 0.0], [0.0, 0.1]]

  Args:
    decay: beta in [0, 1]: 1 sums over all gradients, as in the paper and AdaGrad. Below 1 the sum is over about
      $1/(1-\beta)$ of them, and updates are $\sqrt{1-\beta}$ times as long as with their mean.
    eps: epsilon > 0.
    max_size: longer axes use a diagonal; a matrix takes d^2 numbers and its root about d^3 operations.

  Returns:
    A GradientTransformationExtraArgs. Updates have the gradients' dtypes. A NaN makes all of its leaf NaN.

  Raises:
    InputError: if an argument is out of range.

  Source: Gupta, Koren and Singer 2018, Shampoo: preconditioned stochastic tensor optimization, arXiv 1802.09568.
  """
  check_real('decay', decay, minimum=0, maximum=1)
  check_real('eps', eps, above=0)
  check_count('max_size', max_size)

  def init(params: PyTree) -> ShampooState:
    def factors(leaf: Array) -> tuple[Array, ...]:
      sizes = _shape(leaf)
      return tuple(jnp.zeros((d, d) if d <= max_size else (d,), leaf.dtype) for d in sizes)

    return ShampooState(jax.tree.map(factors, widened(params)))

  def update(
    updates: PyTree, state: ShampooState, params: PyTree = None, **extra_args: Any
  ) -> tuple[PyTree, ShampooState]:
    del params, extra_args
    structure: Any  # PyTreeDef has no types of its own
    leaves, structure = jax.tree.flatten(updates)
    moved, factors = [], []
    for leaf, old in zip(leaves, structure.flatten_up_to(state.factors), strict=True):
      wide = widened(leaf)
      tensor = wide.reshape(wide.shape or (1,))
      new = tuple(
        (decay * factor + _product(tensor, axis, factor.ndim == 1)).astype(factor.dtype)
        for axis, factor in enumerate(old)
      )
      for axis, factor in enumerate(new):
        tensor = _apply_root(factor, tensor, axis, eps, -1 / (2 * len(new)))
      moved.append(tensor.reshape(leaf.shape).astype(leaf.dtype))
      factors.append(new)
    return jax.tree.unflatten(structure, moved), ShampooState(jax.tree.unflatten(structure, factors))

  return optax.GradientTransformationExtraArgs(init, update)


def _shape(leaf: Array) -> tuple[int, ...]:
  """The axes to precondition: a single number is a vector of length 1; a leaf without entries has none."""
  return (leaf.shape or (1,)) if leaf.size else ()


def _product(tensor: Array, axis: int, diagonal: bool) -> Array:
  """The matricisation along an axis times its adjoint, or the diagonal of this product."""
  rows = jnp.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)
  return jnp.sum(jnp.abs(rows) ** 2, axis=1) if diagonal else rows @ rows.conj().T


def _apply_root(factor: Array, tensor: Array, axis: int, eps: Any, power: float) -> Array:
  """The tensor times a power of (factor + eps I) along an axis."""
  moved = jnp.moveaxis(tensor, axis, -1)
  if factor.ndim == 1:
    moved = moved * jnp.broadcast_to((factor.real + eps) ** power, moved.shape)
  else:
    values, vectors = jnp.linalg.eigh(factor)
    # Rounding may leave eigenvalues of a singular matrix a little below 0.
    scales = (jnp.maximum(values, 0) + eps) ** power
    turned = moved @ vectors.conj()
    moved = (turned * jnp.broadcast_to(scales, turned.shape)) @ vectors.T
  return jnp.moveaxis(moved, -1, axis).astype(tensor.dtype)
