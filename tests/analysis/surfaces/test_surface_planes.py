"""Lines, planes and trajectories against closed forms and NumPy; all of them as xarray."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr

from gdlab import analysis, problems
from gdlab.core.errors import InputError
from gdlab.core.types import Problem

RNG = np.random.default_rng(0)
N, D = 2500, 3  # more than two blocks of examples, and a rest
EPS = np.finfo(np.float64).eps
A, TARGETS = RNG.normal(size=(N, D)), RNG.normal(size=(N,))
TEST = RNG.normal(size=(7, D)), RNG.normal(size=7)


def metrics(params, model_state, examples):
  residuals = examples[0] @ params['w'] + params['b'] - examples[1]
  return {'loss': residuals**2 / 2 + model_state, 'miss': jnp.abs(residuals)}


def least_squares():
  return Problem(None, None, metrics, 'least squares', (jnp.asarray(A), jnp.asarray(TARGETS)), TEST)


def truth(w, b, offset, data=(A, TARGETS)):
  residuals = data[0] @ w + b - data[1]
  return np.mean(residuals**2) / 2 + offset, np.mean(np.abs(residuals))


W, B, U, V = RNG.normal(size=D), 0.3, RNG.normal(size=(2, D)), np.array([0.5, -2.0])
PARAMS = {'w': W, 'b': np.float64(B)}
DIRECTIONS = tuple({'w': U[k], 'b': V[k]} for k in range(2))


def test_plane_is_that_of_numpy():
  with jax.enable_x64(True):
    plane = analysis.loss_plane(
      least_squares(),
      PARAMS,
      0.25,
      directions=DIRECTIONS,
      intervals=((-1.0, 2.0), (0.0, 0.5)),
      num_points=(4, 3),
    )
  assert isinstance(plane, xr.Dataset)
  assert dict(plane.sizes) == {'alpha': 4, 'beta': 3}
  np.testing.assert_allclose(plane.alpha, [-1, 0, 1, 2], atol=4 * EPS)
  np.testing.assert_allclose(plane.beta, [0, 0.25, 0.5], atol=4 * EPS)
  assert set(plane) == {'train_loss', 'train_miss', 'test_loss', 'test_miss'}
  for i, alpha in enumerate(plane.alpha.values):
    for j, beta in enumerate(plane.beta.values):
      place = W + alpha * U[0] + beta * U[1], B + alpha * V[0] + beta * V[1], 0.25
      here = plane.isel(alpha=i, beta=j)
      # Sums of N positive terms in another order, each with D + 2 roundings.
      for split, data in (('train', (A, TARGETS)), ('test', TEST)):
        loss, miss = truth(*place, data)
        np.testing.assert_allclose(here[f'{split}_loss'], loss, rtol=100 * EPS)
        np.testing.assert_allclose(here[f'{split}_miss'], miss, rtol=100 * EPS)


def test_line_is_a_row_of_the_plane_however_many_points_at_once():
  with jax.enable_x64(True):
    lines = [
      analysis.loss_line(
        least_squares(),
        PARAMS,
        0.25,
        direction=DIRECTIONS[0],
        interval=(-1.0, 2.0),
        num_points=7,
        points_at_once=n,
      )
      for n in (1, 3)
    ]
  for line in lines:
    assert isinstance(line, xr.Dataset)
    assert dict(line.sizes) == {'alpha': 7}
    expected = [truth(W + alpha * U[0], B + alpha * V[0], 0.25)[0] for alpha in line.alpha.values]
    np.testing.assert_allclose(line.train_loss, expected, rtol=100 * EPS)


def test_principal_plane_of_a_path_built_from_its_components():
  # Orthogonal directions with coordinates that are centred and uncorrelated: the shares are those of the squares.
  rng = np.random.default_rng(1)
  n, count = 30, 41
  basis = np.linalg.qr(rng.normal(size=(n, 3)))[0].T
  waves = np.linalg.qr(np.c_[np.ones(count), rng.normal(size=(count, 3))])[0][:, 1:]
  sizes = np.array([5.0, 2.0, 0.5])
  path = rng.normal(size=n) + (waves * sizes) @ basis
  gaps = np.insert(path, 10, np.nan, axis=0)
  plane = analysis.principal_plane(gaps)
  assert isinstance(plane, xr.Dataset)
  np.testing.assert_allclose(plane.explained, sizes[:2] ** 2 / np.sum(sizes**2), rtol=1e-12)
  components = plane.components.values
  np.testing.assert_allclose(np.abs(np.sum(components * basis[:2], axis=1)), np.ones(2), rtol=1e-12)
  assert ((path[-1] - path[0]) @ components.T > 0).all()
  np.testing.assert_array_equal(plane.origin, path[-1])
  np.testing.assert_allclose(plane.path, (path - path[-1]) @ components.T, atol=1e-12)
  np.testing.assert_array_equal(plane.point, np.delete(np.arange(count + 1), 10))


def test_trajectory_plane_shows_the_run_at_its_losses():
  # In two dimensions the plane leaves nothing out: at the path's coordinates the surface is the path's loss.
  with jax.enable_x64(True):
    problem = problems.landscapes.himmelblau()
    value = problems.value_fn(problem)
    step = jax.jit(lambda x: x - 0.005 * jax.grad(value)(x))
    path = [jnp.array([0.5, -1.0])]
    for _ in range(30):
      path.append(step(path[-1]))
    plane = analysis.trajectory_plane(problem, np.stack(path), path[0], num_points=(41, 31), margin=0.5)
  assert isinstance(plane, xr.Dataset)
  np.testing.assert_allclose(plane.explained.sum(), 1, rtol=1e-12)
  assert plane.train_loss.dims == ('alpha', 'beta')
  corner = plane.isel(alpha=0, beta=-1)
  place = plane.origin.values + np.array([corner.alpha, corner.beta]) @ plane.components.values
  x, y = place
  np.testing.assert_allclose(corner.train_loss, (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2, rtol=1e-12)
  # The picture holds the path, with half its extent beside it.
  extent = plane.path.values.max(axis=0) - plane.path.values.min(axis=0)
  for axis, name in enumerate(('alpha', 'beta')):
    np.testing.assert_allclose(np.ptp(plane[name].values), 2 * extent[axis], rtol=1e-12)
  with jax.enable_x64(True), pytest.raises(InputError, match='params'):
    analysis.trajectory_plane(problem, np.stack(path), jnp.zeros(3))


@pytest.mark.parametrize(
  ('path', 'message'),
  [
    (np.zeros(3), 'shape'),
    (np.zeros((5, 1)), 'shape'),
    (np.eye(2), '3 finite'),
    (np.full((5, 2), np.nan), '3 finite'),
    (np.ones((5, 2)), 'different'),
  ],
)
def test_refuses_paths(path, message):
  with pytest.raises(InputError, match=message):
    analysis.principal_plane(path)


def test_refuses_arguments():
  problem, line = problems.landscapes.booth(), np.ones(2, np.float32)
  for options, message in (
    ({'interval': (1.0, 1.0)}, 'interval'),
    ({'interval': (0.0, np.inf)}, 'interval'),
    ({'num_points': 1}, 'num_points'),
    ({'points_at_once': 0}, 'points_at_once'),
    ({'direction': np.ones(3, np.float32)}, 'direction'),
  ):
    with pytest.raises(InputError, match=message):
      analysis.loss_line(problem, line, **{'direction': line} | options)
  for options, message in (
    ({'directions': (line,)}, 'directions'),
    ({'directions': (line, {'w': line})}, r'directions\[1\]'),
    ({'intervals': ((0.0, 1.0), (1.0, 0.0))}, r'intervals\[1\]'),
    ({'num_points': (3, 1)}, r'num_points\[1\]'),
  ):
    with pytest.raises(InputError, match=message):
      analysis.loss_plane(problem, line, **{'directions': (line, line)} | options)


def test_networks_are_measured_in_evaluation_mode():
  # BatchNorm by its state and no Dropout: at the centre the metrics are those of the problem itself.
  data = RNG.normal(size=(24, 4)), RNG.integers(0, 3, 24)
  loss = optax.softmax_cross_entropy_with_integer_labels
  problem = problems.from_linen(problems.MLP((5,), 3, batch_norm=True, dropout_rate=0.5), data, loss)
  params, state = jax.jit(problem.init)(jax.random.key(0))
  direction = jax.jit(analysis.filter_direction)(jax.random.key(1), params)
  line = analysis.loss_line(problem, params, state, direction=direction, num_points=3)
  expected = jax.jit(problem.metrics)(params, state, problem.train)['loss'].mean()
  np.testing.assert_allclose(line.train_loss.sel(alpha=0), expected, rtol=1e-5)
  assert abs(line.train_loss.values[0] - expected) > 1e-2
