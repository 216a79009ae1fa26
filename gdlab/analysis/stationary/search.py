"""The search for stationary points of any index from many starts, with each candidate classified."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.stats import qmc

from gdlab.analysis.blocks import BLOCK, Losses, evaluation_losses, full_loss
from gdlab.analysis.stationary.classification import (
  AT_INFINITY,
  DEGENERATE,
  STATIONARY,
  STATIONARY_MEANINGS,
  StationaryPoint,
  check_size,
  judged,
)
from gdlab.analysis.stationary.descent import descend
from gdlab.analysis.stationary.local import flat_gradient
from gdlab.core.argument_checks import array, tree
from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real, shown
from gdlab.core.types import Array, Key, Problem, PyTree


class FoundPoints(NamedTuple):
  """The K distinct stationary points that were found, sorted by index and then by value; NumPy on the host.

  Attributes:
    params: a pytree like the parameters, every leaf with a leading axis K.
    values: float[K], the loss there.
    certificates: StationaryPoint with a leading axis K: status, index, eigenvalues with their bounds, ....
    hits: int[K], from how many starts each was reached. Points with few hits suggest that others were missed.
    starts: name in STATIONARY_MEANINGS -> the number of starts with that result.
    ends: StationaryPoint with a leading axis of all S starts.
    end_params: the end point of each of the S starts, leading axis S.
  """

  params: PyTree
  values: np.ndarray
  certificates: StationaryPoint
  hits: np.ndarray
  starts: dict[str, int]
  ends: StationaryPoint
  end_params: PyTree


@checked('count', 'seed', box=array(finite=False, empty=True))
def box_starts(box: Any, count: int, *, seed: int = 0) -> np.ndarray:
  """Starts distributed evenly over a box, float64[count, d]: a scrambled Halton sequence; a host function.

  Args:
    box: float[d, 2], lowest and highest value of each parameter, as in `Known.box`.
    count: the number of starts, >= 1.
    seed: of the scrambling, >= 0.

  Raises:
    InputError: if the box is not of that form or not finite, or an argument is out of range.
  """
  edges = np.asarray(box, np.float64)
  is_box = edges.ndim == 2 and edges.shape[1] == 2 and np.isfinite(edges).all()
  if not is_box or not (edges[:, 0] < edges[:, 1]).all():
    raise InputError(f'box must be finite float[d, 2], the lowest value before the highest, got {shown(box)}')
  rng = np.random.default_rng(check_count('seed', seed, minimum=0))
  points = qmc.Halton(len(edges), rng=rng).random(check_count('count', count))
  return qmc.scale(points, edges[:, 0], edges[:, 1])


@checked
def seek_stationary(
  problem: Problem,
  params: PyTree,
  model_state: PyTree,
  key: Key,
  *,
  tol: Any = 1e-9,
  flat_tol: Any = 1e-3,
  reach: Any = 1e3,
  max_steps: int = 200,
  newton_steps: int = 60,
  block_size: int = BLOCK,
  losses: Losses = evaluation_losses,
) -> tuple[PyTree, StationaryPoint]:
  r"""The stationary point, of any index, that is reached from one start; jittable and vmappable over starts.

  First damped least squares lower $\frac12\lVert\nabla f\rVert^2$, then Newton's method finishes. Up to 64 parameters
  the steps are solved with the Hessian's eigenvectors, above that by Krylov methods on Hessian-vector products
  (conjugate gradients, GMRES). The end is classified as by `classify_stationary`: a search that ends at a minimum of
  the gradient's norm where the gradient is not 0 is gradient-flat, one that diverges is at infinity, and neither counts
  as found.

  Cost, per step: d + 1 gradient-equivalents and an eigendecomposition of [d, d] up to 64 parameters. Above that at most
  100 Hessian-vector products for a damped step and 200 for a Newton step, about 200 and 400 gradient-equivalents; under
  `vmap` every step costs both, 600. Then `classify_stationary`.

  Args:
    problem: whose training loss it is.
    params: the start.
    model_state: the model's other state, `()` if it has none.
    key: randomness of the forward pass, for `training_losses`.
    tol: > 0, the largest gradient norm of a stationary point, in units of the loss per unit of the parameters. Scale it
      with the loss: if it is too small, rounding keeps the gradient above it and points are missed; if it is too large,
      the search ends far from the points.
    flat_tol: in (0, 1): the end is gradient-flat if |Hg| is at most this times |g| times the largest curvature seen.
    reach: > 0, the largest distance from the start.
    max_steps: >= 1, of the first part.
    newton_steps: >= 1, of the second part.
    block_size: examples at once, >= 1, static under jit.
    losses: which loss, see `gdlab.analysis.blocks`.

  Returns:
    `(params, StationaryPoint)`.

  Raises:
    InputError: an argument out of range, or parameters that are not float64, or too many.

  Source: McIver, Komornicki, "Structure of transition states in organic reactions", 1972, for the gradient's norm; Frye
  et al. 2021, arXiv 2003.10397, for its use on networks and the points to refuse.
  """
  _check_options(tol, flat_tol, reach, max_steps, newton_steps)
  _, unravel = ravel_pytree(params)
  start, gradient = flat_gradient(problem, params, model_state, key, block_size=block_size, losses=losses)
  if start.dtype != jnp.float64:
    raise InputError(f'params must be float64 (jax.enable_x64), got {start.dtype}')
  check_size(start.size)
  # Degenerate points are approached slowly: the gradient is lowered further than asked.
  way = descend(gradient, start, tol / 100, reach, max_steps, newton_steps)
  end = way.x
  point = judged(gradient, end, tol, flat_tol, way.scale)
  left = ~(jnp.linalg.norm(end - start) <= reach) & jnp.isfinite(end).all()
  return unravel(end), point._replace(status=jnp.where(left, jnp.int32(AT_INFINITY), point.status))


@checked('merge', 'at_once', starts=tree())
def find_stationary_points(
  problem: Problem,
  starts: PyTree,
  model_state: PyTree,
  key: Key,
  *,
  merge: float = 1e-6,
  at_once: int = 256,
  tol: float = 1e-9,
  flat_tol: float = 1e-3,
  reach: float = 1e3,
  max_steps: int = 200,
  newton_steps: int = 60,
  block_size: int = BLOCK,
  losses: Losses = evaluation_losses,
) -> FoundPoints:
  """The distinct stationary points, of any index, reached from many starts; a host function around one jitted search.

  The search cannot tell whether it has found all: add starts until few points have few `hits`. On a continuum of
  stationary points every start may find a different one.

  Cost: that of `seek_stationary` for each start.

  Example:
    >>> from gdlab.problems import landscapes
    >>> with jax.enable_x64(True):
    ...   well = landscapes.double_well()
    ...   starts = box_starts(well.known.box, 16)
    ...   found = find_stationary_points(well, starts, (), jax.random.key(0))
    >>> found.certificates.index.tolist(), sorted(found.params[:, 0].round(9).tolist())
    ([0, 0, 1], [-1.0, 0.0, 1.0])

  Args:
    problem: whose training loss it is.
    starts: a pytree like the parameters, every leaf with a leading axis S >= 1, in float64; see `box_starts`.
    model_state: the model's other state, `()` if it has none.
    key: randomness of the forward pass, for `training_losses`.
    merge: >= 0: ends closer than this times (1 + |x|), in addition to the radii of their certificates, are one point.
    at_once: >= 1, number of starts evaluated in parallel.
    tol: as for `seek_stationary`.
    flat_tol: as for `seek_stationary`.
    reach: as for `seek_stationary`.
    max_steps: as for `seek_stationary`.
    newton_steps: as for `seek_stationary`.
    block_size: as for `seek_stationary`.
    losses: as for `seek_stationary`.

  Raises:
    InputError: as for `seek_stationary`; starts without a common leading axis.
  """
  # Here too: inside the jitted search they are tracers.
  _check_options(tol, flat_tol, reach, max_steps, newton_steps)
  check_real('merge', merge, minimum=0.0)
  starts = jax.tree.map(np.asarray, starts)
  lengths = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(starts)}
  if len(lengths) != 1 or 0 in lengths:
    raise InputError(f'starts must have one leading axis, of all starts, got leading sizes {sorted(lengths)}')
  count, block = lengths.pop(), check_count('at_once', at_once)
  pieces = []
  for first in range(0, count, block):
    # Always as many starts, so that how many there are does not shape the program.
    rows = np.minimum(np.arange(first, first + block), count - 1)
    piece = _search_block(
      problem,
      jax.tree.map(lambda leaf, rows=rows: leaf[rows], starts),
      model_state,
      key,
      {'tol': tol, 'flat_tol': flat_tol, 'reach': reach},
      limits=(max_steps, newton_steps, block_size),
      losses=losses,
    )
    pieces.append(jax.tree.map(np.asarray, piece))
  ends, points, values = jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *pieces)
  flat = np.concatenate([leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(ends)], axis=1)
  chosen, hits = _distinct(flat, points, merge)
  order = np.lexsort((values[chosen], points.index[chosen]))
  chosen, hits = chosen[order], hits[order]
  counts = np.bincount(points.status, minlength=len(STATIONARY_MEANINGS)).tolist()
  return FoundPoints(
    params=jax.tree.map(lambda leaf: leaf[chosen], ends),
    values=values[chosen],
    certificates=jax.tree.map(lambda leaf: leaf[chosen], points),
    hits=hits,
    starts=dict(zip(STATIONARY_MEANINGS, counts)),
    ends=points,
    end_params=ends,
  )


def _check_options(tol: Any, flat_tol: Any, reach: Any, max_steps: Any, newton_steps: Any) -> None:
  for name, number in (('tol', tol), ('reach', reach)):
    check_real(name, number, above=0.0)
  check_real('flat_tol', flat_tol, above=0.0, below=1.0)
  for name, count in (('max_steps', max_steps), ('newton_steps', newton_steps)):
    check_count(name, count)


@functools.partial(jax.jit, static_argnames=('limits', 'losses'))
def _search_block(
  problem: Problem,
  starts: PyTree,
  model_state: PyTree,
  key: Key,
  tolerances: dict[str, Array],
  *,
  limits: tuple[int, int, int],
  losses: Losses,
) -> tuple[PyTree, StationaryPoint, Array]:
  max_steps, newton_steps, block_size = limits
  value = full_loss(problem, model_state, key, block_size=block_size, losses=losses)

  def one(start: PyTree) -> tuple[PyTree, StationaryPoint, Array]:
    end, point = seek_stationary(
      problem,
      start,
      model_state,
      key,
      max_steps=max_steps,
      newton_steps=newton_steps,
      block_size=block_size,
      losses=losses,
      **tolerances,
    )
    return end, point, value(end)

  return jax.vmap(one)(starts)


def _distinct(flat: np.ndarray, points: StationaryPoint, merge: float) -> tuple[np.ndarray, np.ndarray]:
  """The best converged end of each distinct point, and how many ends belong to it."""
  taken = np.flatnonzero((points.status == STATIONARY) | (points.status == DEGENERATE))
  chosen: list[int] = []
  hits: list[int] = []
  for end in taken[np.argsort(points.radius[taken], kind='stable')]:
    near = np.linalg.norm(flat[chosen] - flat[end], axis=1)
    within = merge * (1 + np.linalg.norm(flat[end])) + points.radius[chosen] + points.radius[end]
    same = np.flatnonzero(near <= within)
    if same.size:
      hits[same[np.argmin(near[same])]] += 1
    else:
      chosen.append(int(end))
      hits.append(1)
  return np.array(chosen, int), np.array(hits, int)
