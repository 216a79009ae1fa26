"""What is measured of a landscape: its surface, its stationary points, and where five methods go."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jax.flatten_util import ravel_pytree

import gdlab
from gdlab import problems, sampling
from gdlab.host.progress import Progress
from gdlab.study import flat_params

GRID = 121  # points of the surface along each side
CURVATURES = 256  # points of the box at which the unit of the rates is measured
MOMENTUM = 0.9


class Scales(NamedTuple):
  """Units in which rates are tried, so that one list of them serves every landscape.

  Attributes:
    curvature: the median over the box of the Hessian's largest eigenvalue in absolute value.
    width: of the box, along its shorter side.
    slope: the median over the box of the gradient's norm.
  """

  curvature: float
  width: float
  slope: float


def descent(rate, scales: Scales) -> optax.GradientTransformation:
  """Plain gradient descent; the rate's unit is 1 / curvature."""
  return optax.sgd(rate / scales.curvature)


def heavy_ball(rate, scales: Scales) -> optax.GradientTransformation:
  """Polyak's momentum."""
  return optax.sgd(rate / scales.curvature, momentum=MOMENTUM)


def nesterov(rate, scales: Scales) -> optax.GradientTransformation:
  """Nesterov's momentum."""
  return optax.sgd(rate / scales.curvature, momentum=MOMENTUM, nesterov=True)


def adam(rate, scales: Scales) -> optax.GradientTransformation:
  """Adam, whose steps have the length of its rate; the rate's unit is the width of the box."""
  return optax.adam(rate * scales.width)


def noisy_descent(rate, scales: Scales) -> optax.GradientTransformation:
  """Plain descent; `measure` gives it noisy gradients."""
  return optax.sgd(rate / scales.curvature)


METHODS: tuple[Callable[..., optax.GradientTransformation], ...] = (
  descent,
  heavy_ball,
  nesterov,
  adam,
  noisy_descent,
)


def measure(config, problem: gdlab.Problem, progress: Progress) -> xr.Dataset:
  """The surface on a grid, and each method's path at the best of the rates it tried.

  All methods try equally many rates; the best is that with the lowest mean loss over the last tenth of the updates.
  """
  scales, (lowest, highest) = _scales(problem), config.rates
  variance = (config.noise * scales.slope) ** 2 / 2
  noisy = problems.with_noise(problem, problems.noise.isotropic(variance), num_examples=1)

  def make_algorithm(optimizer, rate):
    return gdlab.algorithm(sampler=sampling.full_batch(), optimizer=optimizer(rate, scales))

  tried = gdlab.sweep(
    lambda optimizer: noisy if optimizer is noisy_descent else problem,
    make_algorithm,
    {'optimizer': METHODS, 'rate': np.geomspace(lowest, highest, config.num_rates).tolist()},
    num_steps=config.num_updates,
    seeds=[config.seed],
    eval_every=1,
    probes={'params': flat_params},
    progress=progress,
  ).isel(seed=0, drop=True)
  lasting = (tried.status != gdlab.DIVERGED).all('step')
  ends = tried.train_loss.where(lasting).isel(step=slice(-max(1, config.num_updates // 10), None))
  last = ends.mean('step', skipna=False).fillna(np.inf)
  chosen = tried[['params', 'train_loss', 'status']].isel(rate=last.argmin('rate'))
  chosen = chosen.assign_coords(optimizer=[method.__name__ for method in METHODS])
  return chosen.assign_attrs(tried.attrs, **scales._asdict(), noise=float(np.sqrt(variance))).merge(
    _drawing(problem)
  )


def _of_flat(problem: gdlab.Problem) -> tuple[Callable, Callable]:
  """The loss of float[2], and the function that shapes such a vector as parameters."""
  _, shape = ravel_pytree(problem.init(jax.random.key(0))[0])
  value = problems.value_fn(problem)
  return (lambda flat: value(shape(flat))), shape


def _scales(problem: gdlab.Problem) -> Scales:
  value, _ = _of_flat(problem)
  low, high = np.asarray(problem.known.box).T
  points = jnp.asarray(np.random.default_rng(0).uniform(low, high, (CURVATURES, 2)), jnp.result_type(float))
  curvatures = np.abs(np.linalg.eigvalsh(jax.jit(jax.vmap(jax.hessian(value)))(points))).max(1)
  slopes = np.linalg.norm(jax.jit(jax.vmap(jax.grad(value)))(points), axis=1)
  return Scales(float(np.median(curvatures)), float((high - low).min()), float(np.median(slopes)))


def _drawing(problem: gdlab.Problem) -> xr.Dataset:
  """The surface, and the stationary points as rows."""
  value, _ = _of_flat(problem)
  (x_low, x_high), (y_low, y_high) = np.asarray(problem.known.box)
  x, y = np.linspace(x_low, x_high, GRID), np.linspace(y_low, y_high, GRID)
  grid = jnp.asarray(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2), jnp.result_type(float))
  surface = np.asarray(jax.jit(jax.vmap(value))(grid)).reshape(GRID, GRID)
  drawing = xr.Dataset({'surface': (('y', 'x'), surface)}, {'x': x, 'y': y})
  points = problem.known.stationary_points
  if points is None or not len(points.values):
    return drawing
  leaves = [
    np.asarray(leaf, np.float64).reshape(len(points.values), -1) for leaf in jax.tree.leaves(points.params)
  ]
  return drawing.assign(
    point=(('number', 'parameter'), np.concatenate(leaves, 1)),
    value=('number', np.asarray(points.values)),
    eigenvalues=(('number', 'parameter'), np.asarray(points.eigenvalues)),
    index=('number', np.asarray(points.index)),
    complete=bool(points.complete),
  )


def cell(config, name: str, make: Callable[[], gdlab.Problem]) -> Callable[..., xr.Dataset]:
  """What measures one landscape, made when it is measured."""
  return functools.partial(_measure_made, config, name, make)


def _measure_made(config, name: str, make: Callable[[], gdlab.Problem], *, progress: Progress) -> xr.Dataset:
  return measure(config, make(), progress).assign_attrs(landscape=name)
