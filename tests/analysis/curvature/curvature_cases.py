"""Symmetric matrices built from their eigenvalues: those on which Krylov methods break down, and plain ones."""

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.analysis.curvature import Operator

NAMES = (
  'zero',
  'identity multiple',
  'negative multiple',
  'two eigenvalues',
  'rank one',
  'condition 1e8',
  'indefinite',
  'one slightly negative',
  'triple at the top',
  'indefinite with condition 1e8',
  'low rank',
  'all fourfold',
  'lone one on a multiple',
  'large with a kernel',
)
SEMIDEFINITE = np.array([0, 1, 3, 4, 5, 8, 10, 12, 13])  # no eigenvalue below 0
ENDS = (3, 2)  # pairs asked for: largest, smallest


def spectra(size, rng):
  """[14, size], one row per name."""
  quarter = size // 4
  return np.stack(
    [
      np.zeros(size),
      np.full(size, 3.0),
      np.full(size, -2.0),
      np.r_[np.full(2, 24.0), np.full(size - 2, 2.0)],
      np.r_[np.zeros(size - 1), 5.0],
      np.logspace(-8, 0, size),
      rng.normal(size=size),
      np.r_[-1e-3, np.abs(rng.normal(size=size - 1))],
      np.r_[np.full(3, 7.0), np.linspace(0, 5, size - 3)],
      np.r_[-np.logspace(-8, 0, size // 2), np.logspace(-8, 0, size - size // 2)],
      np.r_[np.zeros(size - 5), rng.exponential(size=5)],
      np.repeat(rng.integers(-2, 3, size=quarter).astype(float), 4),
      np.r_[np.ones(size - 1), 2.0],
      np.r_[np.full(size - 1, 1e6), 0.0],
    ]
  )


def matrices(size, seed):
  """`(matrices [14, size, size], eigenvalues [14, size] ascending)` in float64."""
  rng = np.random.default_rng(seed)
  rows = spectra(size, rng)
  bases = np.linalg.qr(rng.normal(size=(len(rows), size, size)))[0]
  found = (bases * rows[:, None, :]) @ np.swapaxes(bases, 1, 2)
  return (found + np.swapaxes(found, 1, 2)) / 2, np.sort(rows, axis=1)


def operator_of(matrix):
  shape = jax.ShapeDtypeStruct(matrix.shape[:1], matrix.dtype)
  return Operator(lambda v: jnp.matmul(matrix, v, precision='highest'), shape)


def joined(found):
  """Values, residuals, signs, converged of the smallest and the largest pairs side by side, [..., 5]."""
  low, high = found.smallest, found.largest
  fields = ('values', 'residuals', 'signs', 'converged')
  return tuple(np.concatenate([getattr(low, f), getattr(high, f)], -1) for f in fields)


def wanted(eigenvalues):
  """The true counterparts of `joined`'s values."""
  high, low = ENDS
  return np.concatenate([eigenvalues[..., :low], eigenvalues[..., ::-1][..., :high]], -1)
