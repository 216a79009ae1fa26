"""Low-rank factorization of a symmetric matrix, which is PCA with unnormalised components."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import check_count
from gdlab.core.types import Array, Known, Problem, StationaryPoints
from gdlab.problems.analytic import PointwiseLoss, PointwiseMetrics
from gdlab.problems.checks import default_float
from gdlab.problems.matrices import spectra
from gdlab.problems.starts import array_start


@checked('eigenvalues', 'rank')
def low_rank_factorization(
  eigenvalues: Any,
  rank: int,
  *,
  rotation: int | None = None,
  start: Any = None,
  initial_scale: float = 1.0,
) -> Problem:
  r"""The factorization of a symmetric matrix with given spectrum, $f(U) = \frac12 \lVert UU^\top - M \rVert_F^2$.

  $U$ is float[d, r] and $M = \sum_a \lambda_a q_a q_a^\top$. With $\nabla f = 2(UU^\top - M)U$ the stationary
  points are $U = Q_S \Lambda_S^{1/2} R$: one for every set S of at most r positive eigenvalues, up to a
  rotation R of the columns (and, where eigenvalues are equal, of their eigenvectors). Known: all of these
  with $R = [I\; 0]$, at most 4096, the larger S first. There $f = \frac12\sum_{a\notin S}\lambda_a^2$, and
  the Hessian has the eigenvalues, for $i, j \in S$ and $a \notin S$,

  - $4\lambda_i$; $2(\lambda_i+\lambda_j)$ and 0 for each pair i < j;
  - $2(\lambda_i - \lambda_a)$: negative where S left out a larger one;
  - $-2\lambda_a$ for each a and 0 for each i, $r-|S|$ times: negative where a column is unused and $\lambda_a > 0$.

  So every point except the minima has a negative eigenvalue, if no $\lambda_a$ is 0.

  Example:
    >>> points = low_rank_factorization([3.0, 2.0, 1.0], rank=1).known.stationary_points
    >>> points.values, points.index
    (array([2.5, 5. , 6.5, 7. ]), array([0, 1, 2, 3]))

  Args:
    eigenvalues: float[d], lambda, in any order; those <= 0 are in no S.
    rank: r in [1, d].
    rotation: seed of the random orthonormal eigenvectors; None for unit vectors, the largest eigenvalue first.
    start: initial U, float[d, r]; None draws it from N(0, initial_scale^2) with the run's init stream.
    initial_scale: > 0.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Ge, Jin, Zheng 2017, No Spurious Local Minima in Nonconvex Low Rank Problems, arXiv 1704.00708.
  """
  numbers = spectra.spectrum('eigenvalues', eigenvalues)
  rank = check_count('rank', rank, maximum=len(numbers))
  vectors = spectra.basis(rotation, len(numbers))
  matrix = vectors * numbers @ vectors.T
  points = _stationary_points(numbers, vectors, rank)
  return Problem(
    init=array_start(start, initial_scale, (len(numbers), rank)),
    loss=PointwiseLoss(_losses),
    metrics=PointwiseMetrics((('loss', _losses),)),
    name='low-rank factorization',
    train=jnp.asarray(matrix[None], default_float()),
    known=Known(params=points.params[0], value=points.values[0], stationary_points=points),
  )


def _losses(params: Array, examples: Array) -> Array:
  return jnp.sum(((params @ params.T)[None] - examples) ** 2, axis=(1, 2)) / 2


def _stationary_points(numbers: np.ndarray, vectors: np.ndarray, rank: int) -> StationaryPoints:
  positive = int((numbers > 0).sum())
  chosen, complete = spectra.subsets(positive, range(min(positive, rank), -1, -1))
  params, values, eigenvalues = [], [], []
  for members in chosen:
    inside, outside = numbers[list(members)], np.delete(numbers, members)
    unused = rank - len(members)
    point = np.zeros((len(numbers), rank))
    point[:, : len(members)] = vectors[:, list(members)] * np.sqrt(inside)
    pairs = (inside[:, None] + inside)[np.triu_indices(len(members), 1)]
    params.append(point)
    values.append(np.sum(outside**2) / 2)
    eigenvalues.append(
      np.concatenate(
        [
          4 * inside,
          2 * pairs,
          np.zeros(len(pairs) + len(members) * unused),
          2 * (inside[:, None] - outside).ravel(),
          np.tile(-2 * outside, unused),
        ]
      )
    )
  return spectra.stationary_points(params, values, eigenvalues, complete=complete)
