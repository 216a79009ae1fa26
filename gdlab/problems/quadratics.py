"""A quadratic bowl with gradient noise of a chosen covariance."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real, shown
from gdlab.core.types import Array, Known, Problem, StationaryPoints
from gdlab.problems.analytic import FixedInit, NormalInit, PointwiseLoss, PointwiseMetrics
from gdlab.problems.checks import default_float, real_array, real_vector

_DEFAULT_EXAMPLES = 1024


class QuadraticExamples(NamedTuple):
  """One example per noise vector. The eigenvalues are repeated so that they are data, not constants of a program."""

  eigenvalues: Array  # float[N, d], equal rows
  noise: Array  # float[N, d], xi_i


@checked('eigenvalues', 'noise', 'num_examples', 'start', 'initial_scale')
def quadratic(
  eigenvalues: Any,
  *,
  noise: Any = 0.0,
  num_examples: int | None = None,
  start: Any = None,
  initial_scale: float = 1.0,
) -> Problem:
  r"""A quadratic with finite-sum gradient noise whose mean and covariance are exact.

  $f(x) = \frac12 \sum_j \lambda_j x_j^2$ is the mean of $\ell_i(x) = f(x) + \xi_i^\top x$ over N examples,
  $\sum_i \xi_i = 0$ and $\frac1N \sum_i \xi_i \xi_i^\top = \mathrm{diag}(\sigma^2)$, both to rounding: the
  $\xi_i$ are the rows of an orthonormal basis of N random centred columns, scaled. So the gradient of a batch
  of B examples has covariance $\mathrm{diag}(\sigma^2)/B$ with replacement, and
  $\mathrm{diag}(\sigma^2) \frac{N-B}{B(N-1)}$ without, at every x. Known: minimiser 0, value 0,
  $L = \max\lambda$, $\mu = \min\lambda$; 0 is the only stationary point unless an eigenvalue is 0.

  Example:
    >>> problem = quadratic([1.0, 10.0], noise=0.1, start=[1.0, 1.0])
    >>> problem.num_examples, float(problem.known.smoothness)
    (1024, 10.0)

  Args:
    eigenvalues: float[d] >= 0, of the diagonal Hessian.
    noise: sigma^2 >= 0, the variance of one example's gradient noise, for all directions or each, float[d].
    num_examples: N; with noise at least d + 1, by default 1024 or d + 1 if that is more; without noise, where all
      examples are equal, at least 1 and by default 1.
    start: initial point, float[d]; None draws it from N(0, initial_scale^2) with the run's init stream.
    initial_scale: > 0.

  Raises:
    InputError: an argument out of range or of the wrong shape.
  """
  curvatures = _nonnegative_vector('eigenvalues', eigenvalues)
  size = curvatures.shape[0]
  variances = _nonnegative_vector('noise', np.full(size, noise) if np.ndim(noise) == 0 else noise)
  if variances.shape != (size,):
    raise InputError(f'noise must be one variance or one per eigenvalue, ({size},), got {variances.shape}')
  noisy = bool((variances > 0).any())
  if num_examples is None:
    num_examples = max(_DEFAULT_EXAMPLES, size + 1) if noisy else 1
  num_examples = check_count('num_examples', num_examples, minimum=size + 1 if noisy else 1)
  initial_scale = float(check_real('initial_scale', initial_scale, above=0.0))
  if start is not None:
    start = real_array('start', start)
    if start.shape != (size,):
      raise InputError(f'start must have shape ({size},), one number per eigenvalue, got {start.shape}')

  vectors = _centred_orthonormal(num_examples, size) if noisy else np.zeros((num_examples, size))
  train = QuadraticExamples(
    eigenvalues=jnp.asarray(np.broadcast_to(curvatures, (num_examples, size)), default_float()),
    noise=jnp.asarray(vectors * np.sqrt(num_examples * variances), default_float()),
  )
  return Problem(
    init=NormalInit((size,), initial_scale) if start is None else FixedInit(tuple(start.tolist())),
    loss=PointwiseLoss(_losses),
    metrics=PointwiseMetrics((('loss', _losses),)),
    name='quadratic',
    train=train,
    known=_known(curvatures, 3 * initial_scale),
  )


def _known(curvatures: np.ndarray, reach: float) -> Known:
  size, single = len(curvatures), bool((curvatures > 0).all())
  points = StationaryPoints(
    params=np.zeros((1, size)),
    values=np.zeros(1),
    eigenvalues=np.sort(curvatures)[None],
    index=np.zeros(1, int),
    basin=np.full(1, np.inf if single else 0.0),
    complete=np.bool_(single),
  )
  box = np.tile([-reach, reach], (size, 1))
  return Known(np.zeros(size), np.float64(0), curvatures.max(), curvatures.min(), points, box)


def _losses(params: Array, examples: QuadraticExamples) -> Array:
  return (examples.eigenvalues / 2) @ params**2 + examples.noise @ params


def _centred_orthonormal(rows: int, columns: int) -> np.ndarray:
  """A fixed random matrix [rows, columns] with orthonormal columns that each sum to 0."""
  normal = np.random.default_rng(0).standard_normal((rows, columns))
  return np.linalg.qr(normal - normal.mean(axis=0))[0]


def _nonnegative_vector(name: str, value: Any) -> np.ndarray:
  # Rounded as they will be stored, so that the truth is that of the stored data.
  vector = real_vector(name, value).astype(default_float()).astype(np.float64)
  if (vector < 0).any():
    raise InputError(f'{name} must be numbers >= 0, got {shown(value)}')
  return vector
