"""A thousand random trials each: no false sign, residuals that bound, intervals that hold in 95 % ± 2 %.

pytest -m slow -s tests/analysis/curvature/test_curvature_trials.py
"""

import functools

import curvature_cases as cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_curvature_eigen import search
from test_curvature_estimates import densities, estimates, smoothed

pytestmark = pytest.mark.slow
TRIALS = 1000


@pytest.mark.parametrize('double', [False, True])
@pytest.mark.parametrize('tolerance', [1e-2, 1e-4])
def test_no_false_sign_in_a_thousand_trials(double, tolerance):
  with jax.enable_x64(double):
    trials = false = beyond = 0
    for seed in range(-(-TRIALS // len(cases.NAMES))):
      matrices, eigenvalues = cases.matrices(24, seed)
      matrices = matrices.astype(np.float64 if double else np.float32)
      keys = jax.random.split(jax.random.key(seed), len(matrices))
      values, residuals, signs, _ = cases.joined(search(matrices, keys, tolerance=tolerance))
      lowest, highest = eigenvalues[:, :1], eigenvalues[:, -1:]
      false += np.sum((signs < 0) & (lowest >= 0)) + np.sum((signs > 0) & (highest <= 0))
      beyond += np.sum(np.abs(eigenvalues[:, None] - values[..., None]).min(-1) > residuals)
      trials += len(matrices)
  print(
    f'\n{trials} trials, tolerance {tolerance}, float{64 if double else 32}: {false} false signs, '
    f'{beyond} pairs beyond their residual'
  )
  assert trials >= TRIALS
  assert false == 0
  assert beyond == 0


SPECTRA = {
  'decaying': np.exp(-np.arange(60) / 10.0),
  'outliers': np.r_[np.linspace(-0.1, 0.2, 54), 5, 6, 7, 8, 9, 20],
  'indefinite': np.random.default_rng(5).normal(size=60),
}


@functools.cache
def matrix_of(name):
  basis = np.linalg.qr(np.random.default_rng(0).normal(size=(60, 60)))[0]
  matrix = (basis * SPECTRA[name]) @ basis.T
  return ((matrix + matrix.T) / 2).astype(np.float32)


@pytest.mark.parametrize('rank', [0, 8])
@pytest.mark.parametrize('name', SPECTRA)
def test_trace_and_diagonal_cover(name, rank):
  matrix = matrix_of(name)
  keys = jax.random.split(jax.random.key(7), TRIALS)
  total, entries = estimates(jnp.broadcast_to(matrix, (TRIALS, 60, 60)), keys, num_probes=16, rank=rank)
  covered = np.mean(np.abs(total.value - SPECTRA[name].sum()) <= total.half_width)
  by_entry = np.mean(np.abs(entries.value - np.diag(matrix)[None]) <= entries.half_width)
  print(f'\n{name}, rank {rank}: trace {covered:.3f}, diagonal {by_entry:.3f}')
  assert 0.93 <= covered <= 0.97
  assert 0.93 <= by_entry <= 0.97


@pytest.mark.parametrize('name', SPECTRA)
def test_density_covers(name):
  keys = jax.random.split(jax.random.key(7), TRIALS)
  matrices = jnp.broadcast_to(matrix_of(name), (TRIALS, 60, 60))
  found = densities(matrices, keys, num_probes=8, depth=24)
  truth = smoothed(found, SPECTRA[name][None])
  inside = (np.asarray(found.lower) <= truth) & (truth <= np.asarray(found.upper))
  # Where there is something to see: a tenth of one eigenvalue's kernel at least. In the empty stretches the interval
  # begins at 0 and always holds.
  seen = truth * np.asarray(found.width)[:, None] * np.sqrt(2 * np.pi) > 0.1 / 60
  covered = inside[seen].mean()
  print(f'\n{name}: density {covered:.3f} at {seen.mean():.2f} of the grid, {inside.mean():.3f} at all of it')
  assert 0.93 <= covered <= 0.97
