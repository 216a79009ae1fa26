"""Whether a point is stationary, and its index, each with a certificate."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gdlab.analysis.blocks import BLOCK, Losses, evaluation_losses
from gdlab.analysis.stationary.local import (
  Gradient,
  Local,
  flat_gradient,
  hessian,
  inverted,
  look,
  newton_step,
  rounding,
)
from gdlab.core.argument_checks import array
from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_real, shown
from gdlab.core.types import Array, Key, Problem, PyTree

STATIONARY, DEGENERATE, GRADIENT_FLAT, UNCERTIFIED, UNCONVERGED, AT_INFINITY, NOT_FINITE = range(7)
STATIONARY_MEANINGS = (
  'stationary',
  'degenerate',
  'gradient_flat',
  'uncertified',
  'unconverged',
  'at_infinity',
  'not_finite',
)  # names of the codes above, in order

MAX_DENSE = 2000  # parameters at most: the Hessian is held as a matrix
_CHECKS = 3  # Newton steps that have to contract
_SLOWEST = 0.9  # ratio of the lengths of successive Newton steps; near a root of order m it is 1 - 1/m


class SignCount(NamedTuple):
  """How many eigenvalues are certainly negative, certainly positive, or undecided; int[...] each."""

  negative: Array
  positive: Array
  undecided: Array


class StationaryPoint(NamedTuple):
  """The classification of a point, with its certificate.

  Attributes:
    status: int32[], a code whose name is in STATIONARY_MEANINGS: 0 stationary, with an invertible Hessian; 1 stationary
      to the tolerance, with a singular one (the index then counts the decided eigenvalues only); all others are not
      accepted: 2 gradient-flat, a stationary point of the gradient's norm only; 3 the gradient is small, but Newton's
      method finds no stationary point nearby; 4 the gradient is not small; 5 the search left its region, or Newton's
      steps keep lowering a small gradient without getting shorter; 6 not finite.
    grad_norm: float[], of the gradient at the point.
    radius: float[], the certified stationary point lies within this distance.
    eigenvalues: float[d], of the Hessian at the point, ascending.
    bounds: float[d], the eigenvalue at the stationary point itself is within this distance of the one here.
    index: int32[], how many eigenvalues are negative by more than their bound.
    undecided: int32[], how many are within their bound of 0.
    flatness: float[], |Hg| / (|H| |g|) in [0, 1]; near 0 where the gradient is in the Hessian's kernel.
  """

  status: Array
  grad_norm: Array
  radius: Array
  eigenvalues: Array
  bounds: Array
  index: Any
  undecided: Array
  flatness: Array


@checked(eigenvalues=array(finite=False), bounds=array(finite=False))
def count_signs(eigenvalues: Any, bounds: Any) -> SignCount:
  """Counts the certain signs of eigenvalues; jittable.

  For the lowest k eigenpairs of a large Hessian, with their residuals as bounds: the number of negative ones is the
  index if it is below k and none is undecided, else a lower bound of it.

  Example:
    >>> [int(count) for count in count_signs([-2.0, -0.1, 0.3], [0.2, 0.2, 0.2])]
    [1, 1, 1]

  Args:
    eigenvalues: float[..., k].
    bounds: float[..., k] or float[], >= 0: how far each may be from the true eigenvalue.

  Raises:
    InputError: if shapes do not fit, or a bound is below 0; inside jit values are not checked.
  """
  values, within = jnp.asarray(eigenvalues), jnp.asarray(bounds)
  if not isinstance(within, jax.core.Tracer) and (within < 0).any():
    raise InputError(f'bounds must be numbers >= 0, got {shown(bounds)}')
  if within.shape not in ((), values.shape):
    raise InputError(f'bounds must have the shape of eigenvalues {values.shape} or none, got {within.shape}')
  within = jnp.broadcast_to(within, values.shape)
  negative, positive = (jnp.sum(sign, axis=-1) for sign in (values < -within, values > within))
  return SignCount(negative, positive, values.shape[-1] - negative - positive)


@checked('tol', 'flat_tol')
def classify_stationary(
  problem: Problem,
  params: PyTree,
  model_state: PyTree,
  key: Key,
  *,
  tol: Any = 1e-6,
  flat_tol: Any = 1e-3,
  block_size: int = BLOCK,
  losses: Losses = evaluation_losses,
) -> StationaryPoint:
  r"""Whether a point is stationary, and its index, with certificates; dense, for up to 2000 parameters.

  A small gradient is not enough: far out on a plateau, and where the gradient lies in the Hessian's kernel, it is
  small without a stationary point nearby. A point is accepted if $\lVert g\rVert \le$ `tol` and, with
  $\delta = H^{+} g$ (Newton's step, the shortest one where H is singular), one of these holds:

  1. Kantorovich's condition $\lVert H^{-1}(H(x - 2\delta) - H(x))\rVert \le \frac12$ (and the same at $x - \delta$):
     the Hessian hardly changes over the distance that Newton's method has to go, so that there is one stationary
     point within $2\lVert\delta\rVert$. Its Lipschitz constant is sampled along the step, not proven.
  2. Three Newton steps that each solve for at least half of the gradient, halve it, and shrink by a factor <= 0.9: the
     point is then degenerate, a root of higher order.
  3. Kantorovich's condition on the complement of H's kernel, and a gradient of which Newton's step solves for half, or
     that is within the rounding of x times |H|: a point on a continuum of stationary points. The rest of the gradient,
     in the kernel, must not be a slope. It is one if three Newton steps along it, with the curvature that a product
     measures there, each halve it but do not all get shorter. (A slope below that rounding along a direction without
     curvature cannot be detected.)

  An eigenvalue counts for the index only where it exceeds its bound: the residual of its eigenvector, the Hessian's
  rounding, and twice the Hessian's change from here to the stationary point.

  Jittable and vmappable over params and keys; as a probe `lambda problem, state: classify_stationary(problem,
  state.params, state.model_state, key).index`. Cost: 6 Hessians and 4 products, about 12 (d + 1)
  gradient-equivalents for d parameters.

  Example:
    >>> from gdlab.problems import landscapes
    >>> with jax.enable_x64(True):
    ...   six_hump_camel, key = landscapes.six_hump_camel(), jax.random.key(0)
    ...   point = jax.jit(classify_stationary)(six_hump_camel, jnp.zeros(2), (), key)
    >>> STATIONARY_MEANINGS[point.status], int(point.index)
    ('stationary', 1)

  Args:
    problem: whose training loss it is.
    params: the point, of d <= 2000 numbers; use float64 for meaningful certificates.
    model_state: the model's other state, `()` if it has none.
    key: randomness of the forward pass, for `training_losses`.
    tol: > 0, the largest gradient norm, in units of the loss per unit of the parameters, so it scales with the loss:
      about 1e-6 times a typical gradient norm elsewhere.
    flat_tol: in (0, 1), the largest `flatness` of a gradient-flat point.
    block_size: examples at once, >= 1, static under jit.
    losses: which loss, see `gdlab.analysis.blocks`.

  Raises:
    InputError: an argument out of range, or too many parameters.

  Source: Kantorovich's theorem, as in Deuflhard, Newton Methods for Nonlinear Problems, 2004, theorem 2.1; Frye, Simon,
  Wadia, Ligeralde, DeWeese, Bouchard, "Critical point-finding methods reveal gradient-flat regions of deep network
  losses", 2021, arXiv 2003.10397.
  """
  check_real('tol', tol, above=0.0)
  check_real('flat_tol', flat_tol, above=0.0, below=1.0)
  x, gradient = flat_gradient(problem, params, model_state, key, block_size=block_size, losses=losses)
  check_size(x.size)
  return judged(gradient, x, tol, flat_tol, jnp.zeros((), x.dtype))


def check_size(size: int) -> None:
  """Raises InputError for parameters too many for a dense Hessian."""
  if size > MAX_DENSE:
    raise InputError(
      f'params must have at most {MAX_DENSE} numbers for a dense Hessian, got {size}; '
      'for more, count_signs on the lowest eigenpairs'
    )


def judged(gradient: Gradient, x: Array, tol: Any, flat_tol: Any, scale: Array) -> StationaryPoint:
  """Classifies the point x; `scale` is the size of the Hessian nearby, for `flatness` where it vanishes."""
  way, steps = _newton_way(gradient, x)
  here, step = jax.tree.map(lambda leaf: leaf[0], way), steps[0]
  norms, lengths = jnp.linalg.norm(way.gradient, axis=1), jnp.linalg.norm(steps, axis=1)
  eps, grad_norm, size = jnp.finfo(x.dtype).eps, norms[0], jnp.max(jnp.abs(here.values))
  ratio = lengths[1] / jnp.where(lengths[0] > 0, lengths[0], 1)

  # Whether each step accounts for half the gradient, halves it, and is shorter than the one before.
  rest = way.gradient - jnp.einsum('kij,kj->ki', way.matrix, steps)
  solves = jnp.linalg.norm(rest, axis=1) <= norms / 2
  lowers = (way.finite & solves)[:-1] & (norms[1:] <= norms[:-1] / 2)
  shrinks = lengths[1:] <= _SLOWEST * lengths[:-1]
  contracts = ((lowers & shrinks) | (norms[:-1] == 0)).all()
  runs_off = lowers.all() & ~shrinks.any()
  slopes, strides = _kernel_way(gradient, x, here)
  falls = (slopes[1:] <= slopes[:-1] / 2).all()
  ends = (strides[1:] <= _SLOWEST * strides[:-1]).all()
  descends = falls & ~ends

  # The distance at which the stationary point lies: 2|delta| by Kantorovich; else the sum of a geometric series.
  reach = 1 / (1 - jnp.clip(ratio, 0.5, _SLOWEST)).astype(x.dtype)
  points = jnp.stack([x - 2 * step, x - reach * step])
  beyond = jax.lax.map(lambda point: hessian(gradient, point)[1], points)
  changes = jnp.stack([way.matrix[1], *beyond]) - here.matrix[None]
  inverse = inverted(here.values)[:, None] * here.vectors.T
  little = jnp.linalg.norm(inverse @ changes[:2], axis=(1, 2)) <= 0.5  # False for NaN

  regular = jnp.all(jnp.abs(here.values) > rounding(here.values))
  at_rounding = grad_norm <= 4 * jnp.sqrt(x.size) * eps * size * jnp.linalg.norm(x)
  certified = regular & little.all() & way.finite[1]
  degenerate = contracts | (little.all() & ~regular & (solves[0] | at_rounding) & ~descends)

  residuals = jnp.linalg.norm(here.matrix @ here.vectors - here.vectors * here.values[None], axis=0)
  rounded = here.asymmetry + (x.size + 16) * eps * jnp.linalg.norm(here.matrix)
  bounds = residuals + rounded + 2 * jnp.max(jnp.linalg.norm(changes[1:], axis=(1, 2)))
  signs = count_signs(here.values, bounds)
  against = jnp.maximum(size, scale) * grad_norm
  flatness = jnp.linalg.norm(here.matrix @ here.gradient) / jnp.where(against > 0, against, 1)
  small = grad_norm <= tol
  verdicts = (
    (~here.finite, NOT_FINITE),
    (small & certified, STATIONARY),
    (small & degenerate, DEGENERATE),
    (small & (runs_off | descends), AT_INFINITY),
    ((grad_norm > 0) & (flatness <= flat_tol), GRADIENT_FLAT),
    (small, UNCERTIFIED),
  )
  conditions, codes = zip(*verdicts)
  status = jnp.select(list(conditions), [jnp.int32(code) for code in codes], jnp.int32(UNCONVERGED))
  # Where the curvature is below the Hessian's rounding, and yet measured.
  beside = jnp.where(falls & ends, 2 * strides[0], 0)
  radius = jnp.where(certified, 2.0, reach) * lengths[0] + beside
  return StationaryPoint(
    status, grad_norm, radius, here.values, bounds, signs.negative, signs.undecided, flatness
  )


def _newton_way(gradient: Gradient, x: Array) -> tuple[Local, Array]:
  """The function at successive Newton steps from x, and these steps; leading axis _CHECKS + 1."""

  def advance(point: Array, _: None) -> tuple[Array, tuple[Local, Array]]:
    local = look(gradient, point)
    step = newton_step(local.values, local.vectors, local.gradient)
    return point - step, (local, step)

  return jax.lax.scan(advance, x, None, length=_CHECKS + 1)[1]


def _kernel_way(gradient: Gradient, x: Array, here: Local) -> tuple[Array, Array]:
  """Slopes along the part of the gradient in the Hessian's kernel at x, at Newton steps on that line, and the lengths.

  The curvature comes from a product: as an eigenvalue it is lost in the rounding of the largest one. Leading axis
  _CHECKS + 1; zeros where there is no such part.
  """
  inside = jnp.abs(here.values) <= rounding(here.values)
  part = here.vectors @ jnp.where(inside, here.vectors.T @ here.gradient, 0)
  size = jnp.linalg.norm(part)
  along = part / jnp.where(size > 0, size, 1)

  def advance(point: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
    g, product = jax.jvp(gradient, (point,), (along,))
    slope, bend = along @ g, along @ product
    stride = slope / jnp.where(bend == 0, jnp.inf, bend)
    return point - stride * along, (jnp.abs(slope), jnp.abs(stride))

  return jax.lax.scan(advance, x, None, length=_CHECKS + 1)[1]
