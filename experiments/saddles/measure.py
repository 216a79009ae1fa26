"""What is measured, in float64: searches, races from saddles, exits with a law, chains, training."""

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
from experiments.saddles.effects import SGD
from experiments.saddles.places import Place
from experiments.saddles.study import escape
from gdlab import analysis, problems, sampling, statistics, study, transforms
from gdlab.analysis import FoundPoints
from gdlab.core.types import Algorithm, Array, Key, Problem, State

MOST_POINTS = 64  # of a search: pairs of loss and index that are kept
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


@escape.cell(over=lambda config: config.fields.dimensions)
@jax.enable_x64(True)
def fields(config, dimension, *, progress):
  """The stationary points found of one random field per seed, in a box six length scales wide."""

  def find(seed: int) -> tuple[FoundPoints, np.ndarray]:
    field = problems.gaussian_random_field(dimension, num_features=config.fields.num_features, seed=seed)
    starts = analysis.box_starts(field.known.box, config.fields.num_starts, seed=seed)
    points = places.search(field, starts, seed)
    return points, (np.abs(points.params) <= field.known.box[:, 1]).all(axis=1)

  return _summaries(config, dimension, find, progress)


@escape.cell(over=lambda config: config.search.widths)
@jax.enable_x64(True)
def networks(config, width, *, progress):
  """The stationary points found of a network of that width, on other images for each seed; one of each value."""

  def find(seed: int) -> tuple[FoundPoints, np.ndarray]:
    problem = places.network(config.network, width, config.search.num_examples, seed)
    points = places.search(problem, places.scattered(problem, config.search.num_starts, seed), seed)
    return points, places.different(points.values)

  return _summaries(config, width * (config.network.components + 2) + 1, find, progress)


def _summaries(config: Any, dimension: int, find: Callable, progress: Any) -> xr.Dataset:
  """By seed, counts of the points to keep, and loss and index of the first so many of them in random order."""
  found = []
  for number, seed in enumerate(config.seeds.ids, 1):
    points, keep = find(seed)
    keep = keep & (np.asarray(points.certificates.undecided) == 0)
    index, values = np.asarray(points.certificates.index)[keep], points.values[keep]
    some = np.random.default_rng(0).permutation(len(index))[:MOST_POINTS]
    pairs = np.full((2, MOST_POINTS), np.nan)
    pairs[:, : len(some)] = values[some], index[some] / dimension
    counts = {'points': len(index), 'minima': (index == 0).sum(), 'maxima': (index == dimension).sum()}
    found.append(xr.Dataset(counts | {'loss': ('point', pairs[0]), 'index_share': ('point', pairs[1])}))
    progress(number, config.seeds.count)
  return xr.concat(found, xr.Variable('seed', config.seeds.ids)).assign_attrs(dimension=dimension)


@escape.cell(once=True)
@jax.enable_x64(True)
def saddles(config, *, progress):
  """Saddles of one network that runs can start at, part of the problem whatever the seeds.

  Those at which examples differ along no way down are from a search whose starts had two hidden units alike.
  """
  options, found = config.network, []
  problem = places.network(options, options.hidden, options.num_examples, seed=0)
  for number in (0, 1):
    starts = places.scattered(problem, options.num_starts, number)
    for weight in range(options.components + 2) if number else ():  # of the second unit, made like the first
      starts[:, weight * options.hidden + 1] = starts[:, weight * options.hidden]
    found.append(places.usable(problem, places.search(problem, starts, 0), options))
    progress(number + 1, 2)
  heard, silent = ([row for row in found[0] if row['heard'] == flag] for flag in (True, False))
  kinds = {'generic': heard, 'silent': silent, 'twins': [row for row in found[1] if row['deaf']]}
  rows = [row | {'kind': kind} for kind in kinds for row in places.alike(kinds[kind])[: options.num_saddles]]
  columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
  dims = ('saddle', 'parameter')
  return xr.Dataset({name: (dims[: values.ndim], values) for name, values in columns.items()})


def _race(
  config: Any, place: Place, scale: float, arms: dict[str, Sequence[float]], progress: Any
) -> xr.Dataset:
  """When each run was down by a share of the fall, [arm, rate, seed]; one that was not is censored at the horizon.

  Full batch at rate 1/L would grow by so many factors of e until then. B=1 makes so many more updates that it sees as
  many examples as the mini-batch, at rates as many times as small; at the same rates its noise would hide the way down.
  """
  options, problem, found = config.race, place.started(scale), []
  sizes = dict(zip(SGD, (1, options.mini_batch, -(-problem.num_examples // 2)), strict=True))
  horizon = min(options.most_updates, round(options.folds * place.smoothness / place.curvatures.max()))
  for number, (arm, tried) in enumerate(arms.items(), 1):
    finer = options.mini_batch if arm == 'B=1' else 1
    rates = np.array(tried) / (1 if arm == 'Adam' else place.smoothness * finer)
    runs = gdlab.sweep(
      problem,
      method(arm, sizes.get(arm, 0)),
      {'learning_rate': rates.tolist()},
      num_steps=horizon * finer,
      seeds=config.seeds.for_tuning + config.seeds.ids,
      eval_every=max(1, horizon * finer // options.evaluations),
    )
    loss = runs.train_loss.transpose('learning_rate', 'seed', 'step').values
    # A seed's saddle is the one whose loss it starts at; displaced, it differs by the displacement squared.
    which = np.abs(loss[..., :1] - place.values).argmin(axis=-1)
    fallen = (place.values[which][..., None] - loss) / place.falls[which][..., None]
    left = statistics.first_crossing(runs.step.values, -fallen, -options.drop)
    data: dict[str, Any] = {
      'updates': (('rate', 'seed'), left.time),
      'escaped': (('rate', 'seed'), ~left.censored),
    }
    data |= {'learning_rate': ('rate', rates), 'batch_size': sizes.get(arm, problem.num_examples)}
    found.append(xr.Dataset(data, {'seed': runs.seed.values}))
    progress(number, len(arms))
  return xr.concat(found, xr.Variable('arm', [*arms]))


@escape.cell('saddles', over=lambda config: config.race.places)
@jax.enable_x64(True)
def at(config, name, saddles, *, progress):
  """A race from saddles."""
  arms = ('full batch', *SGD) if name in config.race.generic else ('full batch', 'mini-batch')
  place = places.place_of(config, name, saddles)
  return _race(config, place, 0.0, dict.fromkeys(arms, config.race.multiples), progress)


@escape.cell('saddles', over=lambda config: config.race.generic)
@jax.enable_x64(True)
def near(config, name, saddles, *, progress):
  """A race from next to saddles."""
  options, place = config.race, places.place_of(config, name, saddles)
  rates = options.near_multiples, options.momentum_multiples, options.adam_rates
  arms = dict(zip(('full batch', 'momentum', 'Adam'), rates, strict=True))
  return _race(config, place, options.displacement, arms, progress)


@functools.partial(jax.jit, static_argnames=('make', 'reached', 'limit'))
def first_updates(problem, make, lanes, keys, starts, reached, goals, limit):
  """The update after which each flag of `reached(params, goal)` is first set, int[lane, seed, ...]; -1 if never.

  A run ends when all are, when it is not finite, or after so many updates. Starts (None for the problem's own) and
  goals have one row for each seed.
  """

  def one(numbers: dict[str, Array], key: Key, start: Any, goal: Any) -> Array:
    algorithm = make(**numbers)
    state = algorithm.init(key, problem, start)

    def going(carry: tuple) -> Array:
      state, steps, times = carry
      return (times < 0).any() & (steps < limit) & jnp.isfinite(state.params).all()

    def advance(carry: tuple) -> tuple:
      state, steps, times = carry
      state = algorithm.step(state, problem)[0]
      return state, steps + 1, jnp.where((times < 0) & reached(state.params, goal), steps + 1, times)

    times = jnp.where(reached(state.params, goal), 0, -1)
    return jax.lax.while_loop(going, advance, (state, 0, times))[2]

  over_seeds = jax.vmap(one, in_axes=(None, 0, 0, 0))
  return jax.vmap(over_seeds, in_axes=(0, None, None, None))(lanes, keys, starts, goals)


def _followed(params: Array, goal: tuple[Array, Array, Array]) -> Array:
  """Whether the way down from a saddle was followed for a distance."""
  saddle, way, distance = goal
  return jnp.abs(way @ (params - saddle)) >= distance


def _exits(
  keys: Key, place: Place, make: Callable, lanes: dict[str, Any], scale: float, distance: float
) -> xr.Dataset:
  """First exits from normal displacements of the saddles, [lane, seed]; `start` is how far on the way they began."""
  which = np.arange(len(keys)) % len(place.saddles)
  saddles, ways = place.saddles[which], place.ways[which]
  normal = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), saddles.shape[1:]))(keys)
  starts, goals = saddles + scale * np.asarray(normal), (saddles, ways, np.full(len(keys), distance))
  lanes = {name: np.asarray(values, float) for name, values in lanes.items()}
  updates = np.asarray(first_updates(place.problem, make, lanes, keys, starts, _followed, goals, EXIT_LIMIT))
  columns: dict[str, Any] = {name: ('lane', values) for name, values in lanes.items()}
  columns |= {'updates': (('lane', 'seed'), updates), 'escaped': (('lane', 'seed'), updates >= 0)}
  columns |= {'start': ('seed', np.abs((ways * (starts - saddles)).sum(axis=1)))}
  return xr.Dataset(columns | {'curvature': ('seed', place.curvatures[which])})


@escape.cell(over=lambda config: range(len(config.growth.cases)))
@jax.enable_x64(True)
def quadratic(config, case, *, progress):
  """Exits from a quadratic saddle at every strength alpha * gamma and momentum."""
  (dimension, curvature, scale), keys = config.growth.cases[case], study.keys(config.seeds.ids)
  grid = np.array([(s / curvature, beta) for beta in config.growth.betas for s in config.growth.strengths])
  lanes, place = {'learning_rate': grid[:, 0], 'momentum': grid[:, 1]}, places.quadratic(dimension, curvature)
  found = _exits(keys, place, method('plain'), lanes, scale, config.growth.distance)
  return found.assign_coords(seed=config.seeds.ids).assign_attrs(curvature=curvature)


@escape.cell('saddles', over=lambda config: ('pca', 'network'))
@jax.enable_x64(True)
def curved(config, name, saddles, *, progress):
  """Exits of plain descent from the saddles of problems that are not quadratic, at rates relative to 1/L."""
  options, place, keys = config.growth, places.place_of(config, name, saddles), study.keys(config.seeds.ids)
  rates = np.array(options.curved_multiples) / place.smoothness
  lanes = {'learning_rate': rates, 'momentum': 0 * rates}
  found = _exits(keys, place, method('plain'), lanes, options.curved_scale, options.curved_distance)
  return found.assign_coords(seed=config.seeds.ids)


@escape.cell()
@jax.enable_x64(True)
def scales(config, *, progress):
  """Exits of plain descent and of Adam where the loss is multiplied by a scale."""
  (dimension, curvature, start), options, found = config.growth.cases[0], config.growth, []
  place, keys = places.quadratic(dimension, curvature), study.keys(config.seeds.ids)
  rates = {'plain': 0.05 / curvature, 'Adam': options.adam_rate}
  for arm, rate in rates.items():
    lanes = {'learning_rate': [rate] * len(options.scales), 'scale': options.scales}
    found.append(_exits(keys, place, method(f'scaled {arm}'), lanes, start, options.distance))
  return xr.concat(found, xr.Variable('arm', [*rates])).assign_coords(seed=config.seeds.ids)


@escape.cell()
@jax.enable_x64(True)
def noisy(config, *, progress):
  """Mean exits from the saddle itself under Gaussian gradient noise, [batch size, strength, seed]."""
  (dimension, curvature, _), options, found = config.growth.cases[0], config.growth, []
  quiet = places.quadratic(dimension, curvature)
  place = quiet._replace(problem=problems.with_noise(quiet.problem, problems.noise.isotropic(options.noise)))
  # Several exits for each seed, whose mean is the seed's value.
  keys = jax.vmap(lambda key: jax.random.split(key, options.repeats))(study.keys(config.seeds.ids)).reshape(
    -1
  )
  lanes = {'learning_rate': np.array(options.noisy_strengths) / curvature}
  for number, size in enumerate(options.batch_sizes, 1):
    exits = _exits(
      keys, place, method('plain', size, sampling.with_replacement), lanes, 0.0, options.distance
    )
    times = np.where(exits.escaped, exits.updates, np.inf)
    found.append(times.reshape(len(times), -1, options.repeats).mean(axis=-1))
    progress(number, len(options.batch_sizes))
  coords = {
    'batch_size': [*options.batch_sizes],
    'strength': [*options.noisy_strengths],
    'seed': config.seeds.ids,
  }
  attrs = {'curvature': curvature, 'noise': options.noise}
  return xr.Dataset({'updates': ([*coords], np.stack(found))}, coords, attrs)


def _beyond(params: Array, goal: None) -> Array:
  """Which coordinates lie beyond their tubes: none can before those before it, so that one run tells of all lengths."""
  return jnp.abs(params) >= 2 * TAU


@escape.cell(over=lambda config: ('plain', 'noisy'))
@jax.enable_x64(True)
def chain(config, name, *, progress):
  """Passages of an octopus from uniform starts, [arm, rate, seed, saddle]: a long one for perturbed descent alone."""
  options, ids = config.chain, config.seeds.for_tuning + config.seeds.ids
  length, arms = (
    (options.dimension, ['plain', 'perturbed']) if name == 'plain' else (options.long, ['perturbed'])
  )
  problem, keys = problems.octopus(length, tau=TAU), study.keys(ids)  # L = gamma = 1
  rates, call = {'learning_rate': np.array(options.rates)}, (keys, None, _beyond, None, options.limit)
  found = np.stack([first_updates(problem, method(arm), rates, *call) for arm in arms])
  coords = {'arm': arms, 'learning_rate': [*options.rates], 'seed': ids, 'saddle': np.arange(1, length + 1)}
  return xr.Dataset({'passed': ([*coords], found)}, coords)


@functools.cache
def _images(dataset: str, hidden: int, scale: float) -> Problem:
  """The images with a network of one hidden layer, from Flax's start times a scale."""
  problem = getattr(problems, dataset)(problems.MLP(features=(hidden,), activation=jnp.tanh))
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


@escape.cell(over=lambda config: ('sgd', 'adam', 'sgd_small_start'))
@jax.enable_x64(True)
def training(config, arm, *, progress):
  """An arm tuned, run, and measured at short equal intervals until it fits.

  The gradient is looked at in every record; the curvature, which costs a hundred times as much, where the gradient is
  small enough to count as near a saddle. Both are those of the whole training loss. The
  unit of gradients is their mean norm at 32 usual starts.
  """
  options, control = config.training, arm == 'sgd_small_start'
  usual = _images(options.dataset, options.hidden, 1.0)
  problem = _images(options.dataset, options.hidden, options.small_scale) if control else usual
  make = method('Adam' if arm == 'adam' else 'SGD', options.batch_size)
  tuned = gdlab.sweep(
    problem,
    make,
    {'learning_rate': options.adam_rates if arm == 'adam' else options.sgd_rates},
    num_steps=options.num_updates,
    seeds=config.seeds.for_tuning,
    eval_every=max(1, options.num_updates // 100),
  ).train_loss.transpose('learning_rate', 'seed', 'step')
  fits = tuned[..., 0].copy(data=statistics.first_crossing(tuned.step, tuned, options.target_loss).time)
  rate = study.best(fits, 'learning_rate')
  longest = 1.25 * float(fits.sel(learning_rate=rate).max())
  run = gdlab.run(
    problem,
    make(rate),
    num_steps=options.record_every * max(1, round(longest / options.record_every)),
    seeds=config.seeds.ids[: options.num_control_seeds if control else options.num_seeds],
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
