"""The search beyond 64 parameters, where its steps come from Krylov methods; and a point on a continuum."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdlab import analysis, problems
from gdlab.core.types import Problem

pytestmark = pytest.mark.slow
D, NEGATIVE, C = 72, 4, 0.5


@dataclasses.dataclass(frozen=True)
class Rotated:
  """½ Σ λ_j y_j² + c/4 Σ_{λ_j<0} y_j⁴ with y = Qx; the data is Q with λ below it."""

  def __call__(self, params, model_state, examples):
    basis, spectrum = examples[0, :-1], examples[0, -1]
    y = basis @ params
    return {'loss': (spectrum @ y**2 / 2 + C / 4 * jnp.sum(jnp.where(spectrum < 0, y**4, 0)))[None]}


def test_finds_saddles_of_a_rotated_landscape():
  rng = np.random.default_rng(0)
  basis = np.linalg.qr(rng.normal(size=(D, D)))[0]
  spectrum = np.concatenate([-np.array([0.5, 1.0, 1.5, 2.0]), rng.uniform(0.5, 5.0, D - NEGATIVE)])
  with jax.enable_x64(True):
    data = jnp.asarray(np.vstack([basis, spectrum])[None])
    problem = Problem(None, None, Rotated(), 'rotated', data)
    starts = rng.normal(size=(24, D)) @ basis
    found = analysis.find_stationary_points(problem, starts, (), jax.random.key(0), at_once=8)
  assert found.starts['stationary'] == 24
  y = found.params @ basis.T
  wells = np.sqrt(-spectrum[:NEGATIVE] / C)
  at_ridge = np.abs(y[:, :NEGATIVE]) < 1e-9
  in_well = np.abs(np.abs(y[:, :NEGATIVE]) - wells) < 1e-9
  assert (at_ridge | in_well).all()
  assert np.abs(y[:, NEGATIVE:]).max() < 1e-9
  np.testing.assert_array_equal(found.certificates.index, at_ridge.sum(axis=1))
  assert len(set(found.certificates.index.tolist())) >= 3


def test_points_on_a_continuum_are_degenerate_with_the_index_of_what_is_decided():
  # Two columns: every point but 0 is one of a family, turned by rotations of the columns.
  with jax.enable_x64(True):
    problem = problems.matrices.low_rank_factorization([3.0, 2.0, 1.0], rank=2)
    starts = np.random.default_rng(1).normal(size=(64, 3, 2))
    found = analysis.find_stationary_points(problem, starts, (), jax.random.key(0))
  known = problem.known.stationary_points
  taken = found.starts['stationary'] + found.starts['degenerate']
  assert taken >= 60, found.starts
  for value, index, undecided, eigenvalues in zip(
    found.values, found.certificates.index, found.certificates.undecided, found.certificates.eigenvalues
  ):
    near = np.argmin(np.abs(known.values - value))
    assert abs(known.values[near] - value) < 1e-12
    np.testing.assert_allclose(eigenvalues, known.eigenvalues[near], atol=1e-9)
    assert index == known.index[near]
    assert undecided == (np.abs(known.eigenvalues[near]) < 1e-12).sum()
  assert len(set(found.certificates.index.tolist())) >= 3
