"""The distance of the parameters from their initial values."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdlab.analysis.surfaces.evaluation import check_alike
from gdlab.core.arguments import checked
from gdlab.core.dtypes import widened
from gdlab.core.types import Array, PyTree


class Distance(NamedTuple):
  """Euclidean distances.

  Attributes:
    total: float[], over all parameters.
    relative: float[], `total` over the norm of the initial parameters; NaN where that is zero.
    layers: path of the layer -> float[]; a layer is the innermost container of parameters, such as `Dense_0`, and a
      parameter outside any container is a layer by itself. The copies of a stack (`nn.scan`) are one layer here.
  """

  total: Array
  relative: Array
  layers: dict[str, Array]


@checked('initial')
def distance_from_init(params: PyTree, initial: PyTree) -> Distance:
  r"""$|\theta - \theta_0|$, as a whole and by layer.

  Costs no gradient. As a probe, for runs that all start at `start` (otherwise take `problem.init` of the run's own
  key): `lambda problem, state: distance_from_init(state.params, start).total`.

  Example:
    >>> import jax.numpy as jnp
    >>> initial = {'Dense_0': {'kernel': jnp.ones((2, 2)), 'bias': jnp.zeros(2)}, 'scale': jnp.zeros(())}
    >>> params = {'Dense_0': {'kernel': jnp.ones((2, 2)), 'bias': jnp.array([3.0, 0.0])}, 'scale': jnp.array(4.0)}
    >>> found = distance_from_init(params, initial)
    >>> float(found.total), {name: float(value) for name, value in found.layers.items()}
    (5.0, {'Dense_0': 3.0, 'scale': 4.0})

  Args:
    params: theta.
    initial: theta_0, of the same structure and shapes.

  Raises:
    InputError: if they differ in structure or shapes.

  Source: Nagarajan and Kolter 2019, Generalization in deep networks: the role of distance from initialization,
  arXiv 1901.01672.
  """
  check_alike('initial', initial, 'params', params)
  moved = optax.tree.sub(widened(params), widened(initial))
  squares: dict[str, Array] = {}
  for path, leaf in jax.tree.leaves_with_path(moved):
    layer = jax.tree_util.keystr(path[:-1] or path, simple=True, separator='/')
    squares[layer] = squares.get(layer, 0) + jnp.sum(jnp.real(leaf * jnp.conj(leaf)))
  total, start = optax.tree.norm(moved), optax.tree.norm(widened(initial))
  relative = total / jnp.where(start > 0, start, jnp.nan)
  return Distance(total, relative, {name: jnp.sqrt(square) for name, square in squares.items()})
