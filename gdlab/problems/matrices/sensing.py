"""Matrix sensing: a low-rank matrix from random linear measurements."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count
from gdlab.core.types import Array, Known, Problem, StationaryPoints
from gdlab.problems.analytic import PointwiseLoss, PointwiseMetrics
from gdlab.problems.checks import default_float
from gdlab.problems.matrices import spectra
from gdlab.problems.starts import array_start


class Measurements(NamedTuple):
  """One example per measurement."""

  matrices: Array  # float[N, d, d], A_i
  targets: Array  # float[N], <A_i, M>


@checked('eigenvalues', 'dimension', 'num_measurements', 'rank', 'seed')
def matrix_sensing(
  eigenvalues: Any,
  *,
  dimension: int,
  num_measurements: int,
  rank: int | None = None,
  seed: int = 0,
  start: Any = None,
  initial_scale: float = 1.0,
) -> Problem:
  r"""Recovery of a positive semidefinite matrix of low rank from random linear measurements, without noise.

  $\ell_i(U) = \frac12 (\langle A_i, UU^\top\rangle - y_i)^2$, $y_i = \langle A_i, M\rangle$, U float[d, r],
  with independent N(0, 1) entries of the $A_i$ and the given nonzero eigenvalues of $M$ in a random basis.
  The expectation of $\ell_i$ over measurements is the loss of `low_rank_factorization`, whose stationary points are
  all known; with more than about $dr$ measurements the finite sum has no spurious local minimum either, with
  high probability.

  Known, for the finite sum: the global minimum 0 at a $U^*$ with $U^* U^{*\top} = M$, unique up to a rotation
  of the columns where the measurements suffice, with Hessian $\frac1N\sum_i v_i v_i^\top$,
  $v_i = (A_i + A_i^\top)U^*$; and the saddle U = 0 with Hessian
  $-\frac1N\sum_i y_i(A_i + A_i^\top)$, r times.

  Example:
    >>> problem = matrix_sensing([2.0, 1.0], dimension=5, num_measurements=100)
    >>> problem.num_examples, problem.known.stationary_points.index
    (100, array([0, 6]))

  Args:
    eigenvalues: float[k] > 0, the nonzero eigenvalues of M.
    dimension: d >= k.
    num_measurements: N >= 1.
    rank: r in [k, d]; k by default.
    seed: of the measurements and of M's eigenvectors.
    start: initial U, float[d, r]; None draws it from N(0, initial_scale^2) with the run's init stream.
    initial_scale: > 0.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Bhojanapalli, Neyshabur, Srebro 2016, Global Optimality of Local Search for Low Rank Matrix
    Recovery, arXiv 1605.07221.
  """
  numbers = spectra.spectrum('eigenvalues', eigenvalues, positive=True)
  dimension = check_count('dimension', dimension)
  if dimension < len(numbers):
    raise InputError(f'dimension must be at least the {len(numbers)} eigenvalues, got {dimension}')
  rank = len(numbers) if rank is None else rank
  rank = check_count('rank', rank, minimum=len(numbers), maximum=dimension)
  num_measurements = check_count('num_measurements', num_measurements)
  rng = np.random.default_rng(check_count('seed', seed, minimum=0))

  solution = np.zeros((dimension, rank))
  vectors = np.linalg.qr(rng.standard_normal((dimension, len(numbers))))[0]
  solution[:, : len(numbers)] = vectors * np.sqrt(numbers)
  # Rounded as they will be stored, so that the truth is that of the stored data.
  matrices = rng.standard_normal((num_measurements, dimension, dimension)).astype(default_float())
  exact = matrices.astype(np.float64)
  targets = np.einsum('nab,ab->n', exact, solution @ solution.T)
  points = _stationary_points(exact, targets, solution)
  return Problem(
    init=array_start(start, initial_scale, (dimension, rank)),
    loss=PointwiseLoss(_losses),
    metrics=PointwiseMetrics((('loss', _losses),)),
    name='matrix sensing',
    train=Measurements(jnp.asarray(matrices), jnp.asarray(targets, default_float())),
    known=Known(params=solution, value=np.float64(0), stationary_points=points),
  )


def _losses(params: Array, examples: Measurements) -> Array:
  found = jnp.einsum('nab,ab->n', examples.matrices, params @ params.T)
  return (found - examples.targets) ** 2 / 2


def _stationary_points(matrices: np.ndarray, targets: np.ndarray, solution: np.ndarray) -> StationaryPoints:
  symmetric = matrices + matrices.transpose(0, 2, 1)
  rows = (symmetric @ solution).reshape(len(targets), -1)
  at_solution = np.linalg.eigvalsh(rows.T @ rows / len(targets))
  # Semidefinite: what is not above rounding is one of the zeros of its symmetry.
  at_solution = np.where(
    at_solution > len(at_solution) * np.finfo(float).eps * at_solution[-1], at_solution, 0.0
  )
  at_zero = np.linalg.eigvalsh(-np.tensordot(targets, symmetric, 1) / len(targets))
  return spectra.stationary_points(
    [solution, np.zeros_like(solution)],
    [0.0, np.mean(targets**2) / 2],
    [at_solution, np.repeat(at_zero, solution.shape[1])],
    complete=False,
  )
