"""The Euclidean norm of a tree of arrays, for the diagnostics of an update."""

import jax
import jax.numpy as jnp

from gdlab.core.dtypes import wide
from gdlab.core.types import Array, PyTree

FEWEST, MOST = 2**8, 2**16  # elements of an array that is halved


def norm(tree: PyTree) -> Array:
  r"""$\sqrt{\sum_i |x_i|^2}$ over all elements of all leaves, 0 without any.

  In at least float32: in half precision the squares of a finite tree overflow. `optax.tree.norm` is the same sum in the
  leaves' own type, by reductions that XLA's CPU backend adds up one element after another or by a call to a library;
  for a small network and one example, either takes longer than the update's arithmetic.
  """
  return jnp.sqrt(sum((_squares(leaf) for leaf in jax.tree.leaves(tree)), start=jnp.float32(0)))


def _squares(leaf: Array) -> Array:
  values = jnp.asarray(leaf).astype(wide(leaf))
  if jax.default_backend() == 'cpu' and values.size <= MOST:
    return _total(jnp.real(values * jnp.conj(values)))
  flat = jnp.ravel(values)
  return jnp.vdot(flat, flat, precision=jax.lax.Precision.HIGHEST).real


def _total(values: Array) -> Array:
  """The sum of all elements, by adding one half of the leading axis to the other until few are left.

  Sums of halves are elementwise, so they use vector instructions and can be part of a loop that is compiled whole
  (see `use_all_cores`); a library's reduction in it would prevent that. Larger arrays gain nothing.
  """
  rest = []
  while values.size > FEWEST:
    if values.shape[0] % 2:  # the odd one out, and what is left of an axis of one
      rest.append(_total(values[-1]))
    half = values.shape[0] // 2
    values = values[:half] + values[half : 2 * half]
  return sum(rest, start=jnp.sum(values))
