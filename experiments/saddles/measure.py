"""What is measured, in float64: saddles to start at, races from them, exits with a law, chains, training."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jax.flatten_util import ravel_pytree

import gdlab
from experiments.saddles import places
from experiments.saddles.effects import CURVED, NOISY, SGD
from experiments.saddles.places import Place
from experiments.saddles.study import escape
from gdlab import analysis, problems, sampling, statistics, study, transforms
from gdlab.core.errors import InputError
from gdlab.core.types import Algorithm, Array, Key, Problem, State
from gdlab.problems import landscapes

MOST_DRAWS = 20  # of images for a seed, until its network has saddles of both kinds
EXIT_LIMIT = 2_000_000  # updates
TAU = math.e  # half the width of a tube of the octopus
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
  'momentum': lambda rate: optax.sgd(rate, momentum=0.9),
  'Adam': optax.adam,
  # A draw from a small ball wherever the gradient is small: the constants of Du et al.
  'perturbed': lambda rate: transforms.perturbed_gradient_descent(rate, TAU / 100, TAU / 100, 1),
  'scaled plain': lambda rate, scale: optax.chain(optax.scale(scale), optax.sgd(rate)),
  'scaled Adam': lambda rate, scale: optax.chain(optax.scale(scale), optax.adam(rate)),
}


@functools.cache  # one function for an arm, so that all sets of seeds share its program
def method(arm: str, size: int = 0, sampler: Callable = sampling.reshuffle) -> Callable[..., Algorithm]:
  """An arm as a function of its numbers, plain descent unless its name says more; without a batch size full batch."""
  batches, optimizer = sampler(size) if size else sampling.full_batch(), OPTIMIZERS.get(arm, optax.sgd)
  return lambda learning_rate, **more: gdlab.algorithm(
    sampler=batches, optimizer=optimizer(learning_rate, **more)
  )


@escape.cell()
@jax.enable_x64(True)
def saddles(config, *, progress):
  """For each seed saddles of all kinds, from networks on images of its own: drawn until all are found."""
  options, ids, rows = config.network, config.seeds.for_tuning + config.seeds.ids, []
  names = ['network', *options.silent]
  for number, seed in enumerate(ids, 1):
    kinds: dict[str, dict[str, Any]] = {}
    for draw in range(MOST_DRAWS):
      problem = places.network(options, options.hidden, options.num_examples, (seed, draw))
      starts = places.scattered(problem, options.num_starts, (seed, draw), 1000)
      points = places.search(problem, starts, 0)
      found = places.chosen(problem, points, options, seed, [name for name in names if name not in kinds])
      kinds |= {name: row | {'draw': draw} for name, row in found.items()}
      if len(kinds) == len(names):
        break
    else:
      raise InputError(f'network.num_starts must be larger: no saddles of all kinds in {MOST_DRAWS} draws')
    values = {name: np.stack([kinds[each][name] for each in names]) for name in kinds['network']}
    columns = {name: (('kind', 'parameter')[: each.ndim], each) for name, each in values.items()}
    rows.append(xr.Dataset(columns, {'kind': names}))
    progress(number, len(ids))
  return xr.concat(rows, xr.Variable('seed', ids))


def _race(
  config: Any, place: Place, scale: float, arms: dict[str, Sequence[float]], progress: Any
) -> xr.Dataset:
  """When each run was down by a share of the fall, [arm, rate, seed]; one that was not is censored at its horizon.

  Full batch at rate 1/L would grow by so many factors of e until then. B=1 makes so many more updates that it sees as
  many examples as the mini-batch, at rates as many times as small; at the same rates its noise would hide the way down.
  Batches are drawn with replacement. Next to saddles every update is looked at: a run of momentum that passes the level
  and is thrown back has left.
  """
  options, ids, found = config.race, config.seeds.for_tuning + config.seeds.ids, []
  examples, keys = place.problem.train, study.keys(ids)
  count = jax.tree.leaves(examples)[0].shape[1]
  sizes = dict(zip(SGD, (1, options.mini_batch, count // 2), strict=True))
  horizons = np.minimum(options.most_updates, np.round(options.folds * place.smoothness / place.curvatures))
  normal = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), place.saddles.shape[1:]))(keys)
  starts, goals = place.saddles + scale * np.asarray(normal), place.values - options.drop * place.falls
  for number, (arm, tried) in enumerate(arms.items(), 1):
    finer = options.mini_batch if arm == 'B=1' else 1
    rates = np.array(tried)[:, None] / (np.ones(len(ids)) if arm == 'Adam' else place.smoothness * finer)
    make, limit = method(arm, sizes.get(arm, 0), sampling.with_replacement), options.most_updates * finer
    every = 1 if scale else max(1, limit // options.evaluations)
    call = (place.problem, make, {'learning_rate': rates}, keys, starts, _fallen, goals, limit, every)
    times = np.asarray(first_updates(*call))
    left = (times >= 0) & (times <= horizons * finer)
    columns: dict[str, Any] = {
      'updates': (('rate', 'seed'), np.where(left, times, horizons * finer)),
      'escaped': (('rate', 'seed'), left),
    }
    columns |= {'tried': ('rate', np.array(tried)), 'batch_size': sizes.get(arm, count)}
    found.append(xr.Dataset(columns, {'seed': ids}))
    progress(number, len(arms))
  return xr.concat(found, xr.Variable('arm', [*arms]))


def _fallen(problem: Problem, params: Array, goal: Array) -> Array:
  """Whether the training loss is down to a value."""
  return landscapes.value_fn(problem)(params) <= goal


@escape.cell('saddles', over=lambda config: (*NOISY, *config.network.silent, 'origin'))
@jax.enable_x64(True)
def at(config, name, saddles, *, progress):
  """A race from saddles."""
  arms = ('full batch', *SGD) if name in NOISY else ('full batch', 'mini-batch')
  place = places.place_of(config, name, saddles)
  return _race(config, place, 0.0, dict.fromkeys(arms, config.race.multiples), progress)


@escape.cell('saddles', over=lambda config: NOISY)
@jax.enable_x64(True)
def near(config, name, saddles, *, progress):
  """A race from next to saddles."""
  options, place = config.race, places.place_of(config, name, saddles)
  rates = options.near_multiples, options.momentum_multiples, options.adam_rates
  arms = dict(zip(('full batch', 'momentum', 'Adam'), rates, strict=True))
  return _race(config, place, options.displacement, arms, progress)


@functools.partial(jax.jit, static_argnames=('make', 'reached', 'every'))
def first_updates(problem, make, lanes, keys, starts, reached, goals, limit, every=1):
  """The update after which each flag of `reached(problem, params, goal)` is first set, int[lane, seed, ...]; else -1.

  A run ends when all are, when it is not finite, or after so many updates; flags are looked at every so many. The data
  of the problem, starts (None for the problem's own) and goals have one row for each seed, rates one for each lane and
  seed.
  """

  def one(numbers: dict[str, Array], train: Any, key: Key, start: Any, goal: Any) -> Array:
    algorithm, own = make(**numbers), dataclasses.replace(problem, train=train)
    state = algorithm.init(key, own, start)

    def going(carry: tuple) -> Array:
      state, steps, times = carry
      return (times < 0).any() & (steps < limit) & jnp.isfinite(state.params).all()

    def advance(carry: tuple) -> tuple:
      state, steps, times = carry
      state = jax.lax.fori_loop(0, every, lambda _, state: algorithm.step(state, own)[0], state)
      now = (times < 0) & reached(own, state.params, goal)
      return state, steps + every, jnp.where(now, steps + every, times)

    times = jnp.where(reached(own, state.params, goal), 0, -1)
    return jax.lax.while_loop(going, advance, (state, 0, times))[2]

  over_seeds = jax.vmap(one, in_axes=(0, 0, 0, 0, 0))
  return jax.vmap(over_seeds, in_axes=(0, None, None, None, None))(lanes, problem.train, keys, starts, goals)


def _followed(problem: Problem, params: Array, goal: tuple[Array, Array, Array]) -> Array:
  """Whether the way down from a saddle was followed for a distance."""
  del problem
  saddle, way, distance = goal
  return jnp.abs(way @ (params - saddle)) >= distance


def _exits(
  keys: Key, place: Place, make: Callable, lanes: dict[str, Any], scale: float, distance: float
) -> xr.Dataset:
  """First exits from normal displacements of the saddles, [lane, seed]; `start` is how far on the way they began."""
  saddles, ways, count = place.saddles, place.ways, len(keys)
  normal = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), saddles.shape[1:]))(keys)
  starts, goals = saddles + scale * np.asarray(normal), (saddles, ways, np.full(count, distance))
  # One value for each lane, or for each lane and seed.
  lanes = {name: np.asarray(values, float).reshape(len(values), -1) for name, values in lanes.items()}
  lanes = {name: np.broadcast_to(values, (len(values), count)) for name, values in lanes.items()}
  call = (place.problem, make, lanes, keys, starts, _followed, goals, EXIT_LIMIT)
  updates, dims = np.asarray(first_updates(*call)), ('lane', 'seed')
  columns: dict[str, Any] = {name: (dims, values) for name, values in lanes.items()}
  columns |= {'updates': (dims, updates), 'escaped': (dims, updates >= 0)}
  columns |= {'start': ('seed', np.abs((ways * (starts - saddles)).sum(axis=1)))}
  return xr.Dataset(columns | {'curvature': ('seed', place.curvatures)})


@escape.cell(over=lambda config: range(len(config.growth.cases)))
@jax.enable_x64(True)
def quadratic(config, case, *, progress):
  """Exits from a quadratic saddle at every strength alpha * gamma and momentum."""
  (dimension, curvature, scale), keys = config.growth.cases[case], study.keys(config.exit_ids)
  grid = np.array([(s / curvature, beta) for beta in config.growth.betas for s in config.growth.strengths])
  lanes = {'learning_rate': grid[:, 0], 'momentum': grid[:, 1]}
  place = places.quadratic(dimension, curvature, len(keys))
  found = _exits(keys, place, method('plain'), lanes, scale, config.growth.distance)
  return found.assign_coords(seed=config.exit_ids)


@escape.cell('saddles', over=lambda config: CURVED)
@jax.enable_x64(True)
def curved(config, name, saddles, *, progress):
  """Exits of plain descent from the saddles of problems that are not quadratic, at rates relative to 1/L."""
  options, place = config.growth, places.place_of(config, name, saddles)
  own = slice(config.seeds.tuning, config.seeds.tuning + len(config.exit_ids))
  place = jax.tree.map(lambda leaf: leaf[own], place)
  rates = np.array(options.curved_multiples)[:, None] / place.smoothness
  lanes, keys = {'learning_rate': rates, 'momentum': 0 * rates}, study.keys(config.exit_ids)
  found = _exits(keys, place, method('plain'), lanes, options.curved_scale, options.curved_distance)
  return found.assign_coords(seed=config.exit_ids)


@escape.cell()
@jax.enable_x64(True)
def scales(config, *, progress):
  """Exits of plain descent and of Adam where the loss is multiplied by a scale."""
  (dimension, curvature, start), options, found = config.growth.cases[0], config.growth, []
  keys = study.keys(config.exit_ids)
  place = places.quadratic(dimension, curvature, len(keys))
  rates = {'plain': 0.05 / curvature, 'Adam': options.adam_rate}
  for arm, rate in rates.items():
    lanes = {'learning_rate': [rate] * len(options.scales), 'scale': options.scales}
    found.append(_exits(keys, place, method(f'scaled {arm}'), lanes, start, options.distance))
  return xr.concat(found, xr.Variable('arm', [*rates])).assign_coords(seed=config.exit_ids)


@escape.cell()
@jax.enable_x64(True)
def noisy(config, *, progress):
  """Mean exits from the saddle itself under Gaussian gradient noise, [batch size, strength, seed]."""
  (dimension, curvature, _), options, found = config.growth.cases[0], config.growth, []
  # Several exits for each seed, whose mean is the seed's value.
  keys = jax.vmap(lambda key: jax.random.split(key, options.repeats))(study.keys(config.exit_ids)).ravel()
  place = places.quadratic(dimension, curvature, len(keys), options.noise)
  lanes = {'learning_rate': np.array(options.noisy_strengths) / curvature}
  for number, size in enumerate(options.batch_sizes, 1):
    make = method('plain', size, sampling.with_replacement)
    exits = _exits(keys, place, make, lanes, 0.0, options.distance)
    times = np.where(exits.escaped, exits.updates, np.inf)
    found.append(times.reshape(len(times), -1, options.repeats).mean(axis=-1))
    progress(number, len(options.batch_sizes))
  coords = {'batch_size': [*options.batch_sizes], 'strength': [*options.noisy_strengths]}
  coords |= {'seed': config.exit_ids}
  attrs = {'curvature': curvature, 'noise': options.noise}
  return xr.Dataset({'updates': ([*coords], np.stack(found))}, coords, attrs)


def _beyond(problem: Problem, params: Array, goal: None) -> Array:
  """Which coordinates lie beyond their tubes: none can before those before it, so that one run tells of all lengths."""
  del problem, goal
  return jnp.abs(params) >= 2 * TAU


@escape.cell(over=lambda config: ('plain', 'noisy'))
@jax.enable_x64(True)
def chain(config, name, *, progress):
  """Passages of an octopus from uniform starts, [arm, rate, seed, saddle]: a long one for perturbed descent alone."""
  options, ids = config.chain, config.seeds.for_tuning + config.seeds.ids
  length, arms = (
    (options.dimension, ['plain', 'perturbed']) if name == 'plain' else (options.long, ['perturbed'])
  )
  problem = places.stacked([problems.octopus(length, tau=TAU)] * len(ids))  # L = gamma = 1
  rates = {'learning_rate': np.tile(np.array(options.rates)[:, None], (1, len(ids)))}
  call = (study.keys(ids), None, _beyond, None, options.limit)
  found = np.stack([first_updates(problem, method(arm), rates, *call) for arm in arms])
  coords = {'arm': arms, 'learning_rate': [*options.rates], 'seed': ids, 'saddle': np.arange(1, length + 1)}
  return xr.Dataset({'passed': ([*coords], found)}, coords)


@functools.cache
def _images(dataset: str, hidden: int, depth: int, scale: float) -> Problem:
  """The images with a network of so many hidden layers, from Flax's start times a scale."""
  model = problems.MLP(features=(hidden,) * depth, activation=jnp.tanh)
  problem = getattr(problems, dataset)(model)
  return dataclasses.replace(problem, init=lambda key: (optax.tree.scale(scale, problem.init(key)[0]), ()))


@jax.jit
def _norm(problem: Problem, state: State) -> Array:
  """A probe: the norm of the gradient of the whole training loss."""
  gradient = analysis.full_gradient(problem, state.model_state, jax.random.key(0))
  return optax.tree.norm(gradient(state.params))


@jax.jit
def _curvatures(problem: Problem, flat: Array) -> Array:
  """Of the training loss at a point: lowest and highest eigenvalue, and the certain sign of the lowest."""
  key = jax.random.key(0)
  example, model_state = problem.init(key)
  operator = analysis.hessian(problem, ravel_pytree(example)[1](flat), model_state, key)
  pairs = analysis.eigenpairs(operator, key, num_largest=1, num_smallest=1, tolerance=0.02, max_products=80)
  lowest, highest = pairs.smallest, pairs.largest
  return jnp.stack([lowest.values[0], highest.values[0], lowest.signs[0].astype(flat.dtype)])


def _trained(config: Any, arm: str, depth: int, scale: float, ids: list[int], progress: Any) -> xr.Dataset:
  """An arm tuned, run, and measured at short equal intervals until it fits.

  The gradient is looked at in every record; the curvature, which costs a hundred times as much, where the gradient is
  small enough to count as near a saddle. Both are those of the whole training loss. The unit of gradients is their mean
  norm at 32 usual starts of a network of that depth.
  """
  options = config.training
  usual = _images(options.dataset, options.hidden, depth, 1.0)
  problem = _images(options.dataset, options.hidden, depth, scale)
  make = method('Adam' if arm == 'adam' else 'SGD', options.batch_size)
  tuned = gdlab.sweep(
    problem,
    make,
    {'learning_rate': options.adam_rates if arm == 'adam' else options.sgd_rates},
    num_steps=options.num_updates,
    seeds=config.seeds.for_tuning[: options.num_tuning],
    eval_every=max(1, options.num_updates // 100),
  ).train_loss.transpose('learning_rate', 'seed', 'step')
  fits = tuned[..., 0].copy(data=statistics.first_crossing(tuned.step, tuned, options.target_loss).time)
  rate = study.best(fits, 'learning_rate')
  longest = 1.25 * float(fits.sel(learning_rate=rate).max())
  run = gdlab.run(
    problem,
    make(rate),
    num_steps=options.record_every * max(1, round(longest / options.record_every)),
    seeds=ids,
    eval_every=options.record_every,
    probes={'params': study.flat_params, 'full_grad_norm': _norm},
  ).transpose('seed', 'step', ...)
  keys = study.keys(range(1_000_000, 1_000_032))  # none of which is a seed of the study
  starts = [make(rate).init(key, usual, usual.init(key)[0]) for key in keys]
  unit = float(np.mean([_norm(usual, start) for start in starts]))
  norm = run.full_grad_norm.where((run.train_loss <= options.target_loss).cumsum('step') == 0)
  found, spots = np.full((3, *norm.shape), np.nan), np.argwhere(norm.values <= options.near_gradient * unit)
  for number, spot in enumerate(map(tuple, spots), 1):
    found[:, *spot] = _curvatures(usual, run.params.values[spot])
    progress(number, len(spots))
  measured = {name: (norm.dims, values) for name, values in zip(('lowest', 'highest', 'sign'), found)}
  kept = run[['train_loss', 'status']].assign(measured | {'full_grad_norm': norm})
  return kept.assign_attrs(run.attrs, learning_rate=rate, usual_gradient=unit)


@escape.cell(over=lambda config: ('sgd', 'adam', 'control'))
@jax.enable_x64(True)
def training(config, arm, *, progress):
  """SGD and Adam from the usual start, and SGD on the network and start that are known to linger."""
  options, control = config.training, arm == 'control'
  (depth, scale), count = (
    (options.control, options.num_control_seeds) if control else ((1, 1.0), options.num_seeds)
  )
  return _trained(config, arm, depth, scale, config.seeds.ids[:count], progress)


@escape.cell(over=lambda config: range(len(config.training.grid)), once=True)
@jax.enable_x64(True)
def deeper(config, case, *, progress):
  """SGD on networks of another depth, from starts of another size: for the table alone, which is of the first set."""
  options = config.training
  depth, scale = options.grid[case]
  return _trained(config, 'sgd', depth, scale, config.seeds.ids[: options.num_grid_seeds], progress)
