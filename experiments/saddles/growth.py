"""First exits from saddles whose growth is known: for the laws of momentum, of Adam and of the escape time itself."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

import gdlab
from experiments.saddles import places
from experiments.saddles.seeds import keys, study_seeds
from gdlab import problems, sampling
from gdlab.core.types import Algorithm, Problem
from gdlab.problems import noise as noises

LIMIT = 2_000_000  # updates
EXITS = ('start', 'updates', 'escaped')


@functools.partial(jax.jit, static_argnames='make')
def first_exits(
  problem: Problem, make: Callable[..., Algorithm], lanes, seeds, starts, centres, ways, distance
):
  """First updates at which the way down has been followed for a distance, and where on it runs began.

  Args:
    problem: what is descended.
    make: the algorithm, of one lane's numbers.
    lanes: name -> float[k].
    seeds: key[n].
    starts: float[n, d].
    centres: float[n, d], the saddles.
    ways: float[n, d], unit vectors along which the distance is taken.
    distance: float[].

  Returns:
    `(start float[k, n], updates int[k, n], escaped bool[k, n])`; a run that has not escaped by `LIMIT` updates, or is
    not finite before, is censored.
  """

  def one(numbers, key, start, centre, way):
    algorithm = make(**numbers)
    state = algorithm.init(key, problem, start)

    def along(state):
      return jnp.abs(way @ (state.params - centre))

    def inside(carry):
      state, steps = carry
      return (along(state) < distance) & (steps < LIMIT)  # NaN is not inside

    last, steps = jax.lax.while_loop(
      inside, lambda carry: (algorithm.step(carry[0], problem)[0], carry[1] + 1), (state, 0)
    )
    return along(state), steps, along(last) >= distance

  over_seeds = jax.vmap(one, in_axes=(None, 0, 0, 0, 0))
  return jax.vmap(over_seeds, in_axes=(0, None, None, None, None))(lanes, seeds, starts, centres, ways)


def near(ids, centres: np.ndarray, scale: float) -> np.ndarray:
  """Points at normal distances from the centres [n, d], by seed."""
  normal = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), centres.shape[1:]))(keys(ids))
  return centres + scale * np.asarray(normal)


def heavy_ball(learning_rate, momentum) -> Algorithm:
  """Full batch with heavy-ball momentum; at 0 plain descent."""
  return gdlab.algorithm(sampler=sampling.full_batch(), optimizer=optax.sgd(learning_rate, momentum=momentum))


def scaled_plain(learning_rate, scale) -> Algorithm:
  """Plain descent on the loss times a scale."""
  return gdlab.algorithm(
    sampler=sampling.full_batch(), optimizer=optax.chain(optax.scale(scale), optax.sgd(learning_rate))
  )


def scaled_adam(learning_rate, scale) -> Algorithm:
  """Adam on the loss times a scale."""
  return gdlab.algorithm(
    sampler=sampling.full_batch(), optimizer=optax.chain(optax.scale(scale), optax.adam(learning_rate))
  )


@functools.cache
def drawn(batch_size: int) -> Callable[..., Algorithm]:
  """Plain descent with batches drawn with replacement."""
  return lambda learning_rate: gdlab.algorithm(
    sampler=sampling.with_replacement(batch_size), optimizer=optax.sgd(learning_rate)
  )


def saddle(dimension: int, curvature: float) -> Problem:
  """A quadratic with one way down, the first coordinate."""
  rest = np.geomspace(0.1, 1.0, dimension - 1)
  return problems.landscapes.strict_saddle([-curvature, *rest], start=np.zeros(dimension))


def quadratic(config, case: int, progress) -> xr.Dataset:
  """Exits from a quadratic saddle at every strength alpha * gamma and momentum."""
  dimension, curvature, scale = config.growth.cases[case]
  grid = np.array([(s / curvature, beta) for beta in config.growth.betas for s in config.growth.strengths])
  with jax.enable_x64(True):
    lanes = {'learning_rate': jnp.asarray(grid[:, 0]), 'momentum': jnp.asarray(grid[:, 1])}
    result = _exits(config, saddle(dimension, curvature), scale, heavy_ball, lanes)
  progress(1, 1)
  return result.assign_attrs(dimension=dimension, curvature=curvature, scale=scale)


def scales(config, progress) -> xr.Dataset:
  """Exits of plain descent and of Adam where the loss is multiplied by a scale."""
  dimension, curvature, scale = config.growth.cases[0]
  found = []
  arms = {'plain': (scaled_plain, 0.05 / curvature), 'Adam': (scaled_adam, config.growth.adam_rate)}
  with jax.enable_x64(True):
    problem = saddle(dimension, curvature)
    for place, (make, rate) in enumerate(arms.values()):
      numbers = jnp.asarray([float(number) for number in config.growth.scales])
      lanes = {'learning_rate': jnp.full(len(numbers), float(rate)), 'scale': numbers}
      found.append(_exits(config, problem, scale, make, lanes))
      progress(place + 1, len(arms))
  return xr.concat(found, xr.Variable('arm', list(arms)), combine_attrs='drop_conflicts').assign_attrs(
    curvature=curvature, dimension=dimension, start_scale=scale
  )


def noisy(config, progress) -> xr.Dataset:
  """Mean exits from the saddle itself under Gaussian gradient noise, [batch size, strength, seed]."""
  options, ids, found = config.growth, study_seeds(config), []
  dimension, curvature, _ = options.cases[0]
  strengths = [float(strength) for strength in options.noisy_strengths]
  with jax.enable_x64(True):
    problem = problems.with_noise(saddle(dimension, curvature), noises.isotropic(options.noise))
    # Several exits for each seed, whose mean is the seed's value.
    repeated = jax.vmap(lambda key: jax.random.split(key, options.repeats))(keys(ids)).reshape(-1)
    zeros = np.zeros((len(repeated), dimension))
    lanes = {'learning_rate': jnp.asarray(strengths) / curvature}
    for place, size in enumerate(options.batch_sizes):
      _, updates, escaped = first_exits(
        problem, drawn(size), lanes, repeated, zeros, zeros, _first(zeros), options.distance
      )
      updates = np.where(escaped, updates, np.inf).reshape(len(strengths), len(ids), -1)
      found.append(updates.mean(axis=-1))
      progress(place + 1, len(options.batch_sizes))
  return xr.Dataset(
    {'updates': (('batch_size', 'strength', 'seed'), np.stack(found))},
    {'batch_size': list(options.batch_sizes), 'strength': strengths, 'seed': ids},
    {'curvature': curvature, 'noise': options.noise, 'dimension': dimension},
  )


def curved(config, name: str, found: xr.Dataset, *, progress) -> xr.Dataset:
  """Exits of plain descent from the saddles of problems that are not quadratic, at rates relative to 1/L."""
  options, ids = config.growth, study_seeds(config)
  with jax.enable_x64(True):
    place = places.place(config, name, found)
    which = np.arange(len(ids)) % len(place.saddles)
    rates = np.asarray(options.curved_multiples) / place.smoothness
    lanes = {'learning_rate': jnp.asarray(rates), 'momentum': jnp.zeros(len(rates))}
    centres, ways = place.saddles[which], place.ways[which]
    starts = near(ids, centres, options.curved_scale)
    exits = first_exits(
      place.problem, heavy_ball, lanes, keys(ids), starts, centres, ways, options.curved_distance
    )
  progress(1, 1)
  return _table(exits, lanes, ids).assign(curvature=('seed', place.curvatures[which]))


def _exits(config, problem: Problem, scale: float, make, lanes) -> xr.Dataset:
  """Exits of all study seeds from a saddle at the origin along the first coordinate."""
  ids = study_seeds(config)
  centres = np.zeros((len(ids), len(problem.known.box)))
  starts = near(ids, centres, scale)
  exits = first_exits(
    problem, make, lanes, keys(ids), starts, centres, _first(centres), config.growth.distance
  )
  return _table(exits, lanes, ids)


def _table(exits, lanes, ids) -> xr.Dataset:
  """Exits [lane, seed] with the lanes' numbers."""
  columns = {name: (('lane', 'seed'), np.asarray(values)) for name, values in zip(EXITS, exits, strict=True)}
  return xr.Dataset(
    columns | {name: ('lane', np.asarray(values)) for name, values in lanes.items()}, {'seed': ids}
  )


def _first(points: np.ndarray) -> np.ndarray:
  """The first coordinate's direction, for each point."""
  return np.broadcast_to(np.eye(points.shape[1])[0], points.shape)
