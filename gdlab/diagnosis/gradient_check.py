"""Automatic differentiation against finite differences, leaf by leaf, in float64."""

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gdlab.analysis.blocks import check_real_params, evenly_spaced
from gdlab.core.arguments import checked
from gdlab.core.errors import check_count, check_real
from gdlab.core.objective import batch_loss
from gdlab.core.types import Array, Key, Problem, PyTree

STEPS = 10.0 ** -np.arange(1.5, 6.6, 0.5)  # of the scan, relative to the leaf's root mean square
SPACING = 10**0.5  # ratio of successive steps


class LeafCheck(NamedTuple):
  """The gradient of one leaf compared with finite differences.

  Attributes:
    leaf: its path.
    error: the maximum over directions of |difference - derivative|, relative to the leaf's gradient norm over
      sqrt(size), at the best step of the scan with Richardson extrapolation.
    order: the order of convergence of plain central differences as the step falls, 2 where the loss is smooth; NaN
      where all of them are within rounding, as on a quadratic.
  """

  leaf: str
  error: float
  order: float


class GradientCheck(NamedTuple):
  """Whether the gradient is the derivative of the loss.

  Attributes:
    right: whether every leaf's error is within the tolerance.
    worst: the leaf with the largest error.
    leaves: all leaves.
    tolerance: for the error.
  """

  right: bool
  worst: LeafCheck
  leaves: tuple[LeafCheck, ...]
  tolerance: float

  def __str__(self) -> str:
    verdict = 'The gradient agrees' if self.right else 'The gradient DOES NOT agree'
    lines = [f'{verdict} with finite differences; worst leaf: {self.worst.leaf}']
    lines += [f'  {leaf.leaf:40} error {leaf.error:.1e}   order {leaf.order:.2f}' for leaf in self.leaves]
    return '\n'.join(lines)


@checked('num_examples', 'directions', 'tolerance')
def check_gradients(
  problem: Problem,
  params: PyTree = None,
  model_state: PyTree = None,
  *,
  key: Key,
  num_examples: int = 16,
  directions: int = 3,
  tolerance: float = 1e-6,
) -> GradientCheck:
  r"""Compares the gradient of the training loss with central differences along random directions, in float64.

  For a unit direction v within one leaf, and steps h over five decades,

  $$D_h = \frac{f(\theta + h v) - f(\theta - h v)}{2 h} = v^\top \nabla f + O(h^2), \qquad
    R_h = \frac{10 D_{h/\sqrt{10}} - D_h}{9} = v^\top \nabla f + O(h^4).$$

  As h falls, truncation falls and rounding grows, so the best step of the scan counts: a correct gradient agrees at one
  of them to many digits, a wrong one at none. If a step crosses the kink of a ReLU, a smaller one does not.

  A host function, in float64 whatever the default float; 22 losses of `num_examples` examples for each leaf and
  direction. Models that fix float32 internally reach only about 1e-3.

  Example:
    >>> import jax, gdlab
    >>> problem = gdlab.problems.quadratic([1.0, 0.1])
    >>> gdlab.check_gradients(problem, key=jax.random.key(0)).right
    True

  Args:
    problem: whose training loss is checked.
    params: the point; by default drawn by `problem.init`.
    model_state: the model's other state there; by default that of `problem.init`.
    key: for the start, the directions, and the forward pass (the same in all evaluations).
    num_examples: in the loss, >= 1, evenly spaced in the training set.
    directions: number per leaf, >= 1.
    tolerance: for the error, > 0.

  Raises:
    InputError: if an argument is out of range, or the parameters are complex.

  Source: Nocedal and Wright 2006, Numerical Optimization, section 8.1.
  """
  num_examples, directions = check_count('num_examples', num_examples), check_count('directions', directions)
  check_real('tolerance', tolerance, above=0)
  start, noise, aim = (jax.random.fold_in(key, number) for number in range(3))
  with jax.enable_x64(True), jax.debug_key_reuse(False):
    if params is None:
      params, own = problem.init(start)
      model_state = own if model_state is None else model_state
    check_real_params(params)
    params, model_state, train = (
      _wide(tree) for tree in (params, () if model_state is None else model_state, problem.train)
    )
    wide = dataclasses.replace(problem, train=train)
    flat, unravel = ravel_pytree(params)
    batch = evenly_spaced(problem.num_examples, num_examples)

    def loss(x: Array, data: Problem) -> Array:
      return batch_loss(data, unravel(x), model_state, batch, noise)[0]

    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    bounds = np.cumsum([0, *sizes])
    value, gradient = (np.asarray(found) for found in jax.jit(jax.value_and_grad(loss))(flat, wide))
    aims = _directions(aim, np.asarray(flat), bounds, directions)
    lengths = jnp.asarray(np.stack([length for _, length in aims])[:, None] * STEPS)
    vectors = jnp.asarray(np.stack([vector for vector, _ in aims]))

    def difference(vector: Array, step: Array) -> Array:
      return (loss(flat + step * vector, wide) - loss(flat - step * vector, wide)) / (2 * step)

    def scan(pair: tuple[Array, Array]) -> Array:
      vector, steps = pair
      return jax.lax.map(lambda step: difference(vector, step), steps)

    found = np.asarray(jax.jit(lambda v, s: jax.lax.map(scan, (v, s)))(vectors, lengths))

  leaves = []
  for number, path in enumerate(paths):
    own = slice(number * directions, (number + 1) * directions)
    norm = np.linalg.norm(gradient[bounds[number] : bounds[number + 1]])
    # A unit direction sees about this much of the gradient; a leaf with none is held to the loss itself.
    scale = norm / np.sqrt(sizes[number]) if norm > 0 else max(abs(float(value)), 1.0)
    exact = np.asarray(vectors[own]) @ gradient
    leaves.append(
      _check_leaf(path, found[own], exact, np.asarray(lengths[own]), float(scale), abs(float(value)))
    )
  worst = max(leaves, key=lambda leaf: leaf.error if np.isfinite(leaf.error) else np.inf)
  return GradientCheck(bool(worst.error <= tolerance), worst, tuple(leaves), float(tolerance))


def _check_leaf(
  path: str, found: np.ndarray, exact: np.ndarray, steps: np.ndarray, scale: float, value: float
) -> LeafCheck:
  plain = np.abs(found - exact[:, None])
  better = (SPACING**2 * found[:, 1:] - found[:, :-1]) / (SPACING**2 - 1)
  best = np.minimum(np.abs(better - exact[:, None]).min(1), plain.min(1))
  # Rounding of one difference: the loss to its last digits, over the step.
  rounding = 100 * np.finfo(float).eps * max(value, 1e-300) / steps
  clear = (plain[:, :-1] > rounding[:, :-1]) & (plain[:, 1:] > rounding[:, 1:])
  with np.errstate(divide='ignore', invalid='ignore'):
    orders = np.log(plain[:, :-1] / plain[:, 1:]) / np.log(SPACING)
  order = float(np.median(orders[clear])) if clear.any() else float('nan')
  return LeafCheck(path, float(best.max() / scale), order)


def _directions(key: Key, flat: np.ndarray, bounds: np.ndarray, count: int) -> list[tuple[np.ndarray, float]]:
  """Unit directions within each leaf, with the leaf's root mean square (1 where that is smaller than 0.01)."""
  rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).astype(np.uint32))
  found = []
  for low, high in itertools.pairwise(bounds):
    size = float(np.sqrt(np.mean(np.square(flat[low:high]))))
    for _ in range(count):
      vector = np.zeros_like(flat)
      vector[low:high] = rng.normal(size=high - low)
      found.append((vector / np.linalg.norm(vector), size if size > 0.01 else 1.0))
  return found


def _wide(tree: PyTree) -> PyTree:
  def widen(leaf: Any) -> Array:
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

  return jax.tree.map(widen, tree)
