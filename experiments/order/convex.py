"""Strongly convex problems in float64, one example at a time, many runs side by side (O2, O3, O5, O6)."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from sklearn.decomposition import PCA

import gdlab
from experiments.order import exact
from experiments.order.study import CONSTRUCTED, EIGHTHS, FLOORS, LIE, QUADRATIC, REDUCED, order
from gdlab import estimators, problems, sampling, study
from gdlab.core.types import Algorithm, Array, Estimator, Problem, Sampler

BIASED = (1.0, 2.0)  # features of the construction whose curvatures and gradients are correlated


def sampler(name: str, batch_size: int, count: int, size: int = 1) -> Sampler:
  """The order of a name such as 'buffer of 10 %', or the draws of an estimator; for so many examples and parameters."""
  kind, _, share = name.partition(' of ')
  some = max(1, round(count * float(share.rstrip(' %')) / 100)) if share else 1
  made: dict[str, Callable[[], Sampler]] = {
    'importance': lambda: sampling.adaptive_importance(batch_size, sampling.gradient_norm),
    'reshuffled': lambda: sampling.reshuffle(batch_size),
    'shuffled once': lambda: sampling.shuffle_once(batch_size),
    'GraB': lambda: sampling.grab(batch_size, like=jnp.zeros(size)),
    'paired reversal': lambda: sampling.paired_reversal(batch_size),
    'blocks': lambda: sampling.block_shuffle(batch_size, some),
    'buffer': lambda: sampling.shuffle_buffer(batch_size, some),
  }
  made |= dict.fromkeys(('sequential', 'sorted', 'unsorted'), lambda: sampling.sequential(batch_size))
  made |= dict.fromkeys(('with replacement', *REDUCED), lambda: sampling.with_replacement(batch_size))
  return made[kind]()


@functools.cache
def descent(name: str, count: int, size: int) -> Callable[[Array], Algorithm]:
  """Descent by single examples in an order of this name, or with an estimator of this name, by its rate."""
  svrg = lambda: estimators.svrg(2 * count)
  made: dict[str, Callable[[], Estimator]] = {'SVRG': svrg, 'SAGA': estimators.saga}
  made |= dict.fromkeys(('importance', 'GraB'), estimators.per_example)
  own, estimator = sampler(name, 1, count, size), made.get(name, estimators.batch_mean)()
  return lambda rate: gdlab.algorithm(sampler=own, estimator=estimator, optimizer=optax.sgd(rate))


@functools.partial(jax.jit, static_argnames=('make', 'keep'))
def _lanes(problem: Problem, starts, keys, rates, epochs, make, keep: int) -> tuple[Array, Array]:
  """Squared distances from the minimum after each of the last `keep` epochs, and where each run ends."""

  def lane(problem, start, rate, key):
    algorithm, best = make(rate), problem.known.params

    def epoch(number, carry):
      state, squares = carry
      step = lambda _, state: algorithm.step(state, problem)[0]
      state = jax.lax.fori_loop(0, problem.num_examples, step, state)
      place = number - (epochs - keep)
      square = jnp.sum((state.params - best) ** 2)
      return state, squares.at[jnp.where(place >= 0, place, keep)].set(square, mode='drop')

    start = algorithm.init(key, problem, params=start), jnp.zeros(keep)
    state, squares = jax.lax.fori_loop(0, epochs, epoch, start)
    return squares, state.params

  by_order = jax.vmap(lane, (None, None, None, 0))
  by_rate = jax.vmap(by_order, (None, None, 0, None))
  return jax.vmap(by_rate, (0, 0, None, 0))(problem, starts, rates, keys)


def lanes(
  name: str, each: Sequence[Problem], starts, ids: Sequence[int], rates, epochs: int, *, keep=1, num_orders=1
) -> tuple[np.ndarray, np.ndarray]:
  """Runs on one problem of known minimum for each seed, from float[seed, d], at every rate, in several orders.

  Returns squared distances from the minimum after the last `keep` epochs, float[seed, rate, order, keep], and ends,
  float[seed, rate, order, d].
  """
  problem = jax.tree.map(lambda *leaves: jnp.stack([*map(jnp.asarray, leaves)]), *each)
  starts = jnp.asarray(starts)
  make = descent(name, each[0].num_examples, starts.shape[-1])
  keys = jax.vmap(lambda key: jax.random.split(key, num_orders))(study.keys(ids))
  squares, ends = _lanes(problem, starts, keys, jnp.asarray(rates), jnp.int32(epochs), make, keep)
  return np.asarray(squares), np.asarray(ends)


@functools.cache
def pool(components: int) -> tuple[np.ndarray, np.ndarray]:
  """All digits as leading principal components of mean square norm 1 and an intercept, and whether they are above 4."""
  train = problems.digits().train
  images = np.asarray(train.inputs, float).reshape(len(train.targets), -1)
  rows = PCA(components, svd_solver='full').fit_transform(images)
  rows /= np.sqrt(np.mean(np.sum(rows**2, axis=1)))
  return np.column_stack([rows, np.ones(len(rows))]), np.asarray(train.targets) > 4


def smoothness(options) -> float:
  """L: no digit's loss has a larger curvature anywhere."""
  rows, _ = pool(options.components)
  return float(np.max(np.sum(rows**2, axis=1)) / 4 + options.l2)


def logistic(options, seed, count: int, layout: str = 'drawn') -> Problem:
  """Is the digit above 4? Logistic regression on digits drawn for the seed, in the order drawn or by class.

  Both classes have half of the examples. 'sorted': one class after the other; 'alternating': in turn.
  """
  rows, above = pool(options.components)
  rng = np.random.default_rng(seed)
  halves = [rng.permutation(np.flatnonzero(above == side))[: count // 2] for side in (False, True)]
  turns = np.stack(halves, axis=1).ravel()
  chosen = {'sorted': np.concatenate(halves), 'alternating': turns, 'drawn': rng.permutation(turns)}[layout]
  return problems.logistic_regression(rows[chosen], above[chosen].astype(int), l2=options.l2)


def _minima(each: Sequence[Problem]) -> np.ndarray:
  return np.stack([np.asarray(problem.known.params) for problem in each])


def _floors(config, names, each, ids, rates, unit: float, num_orders: int, progress) -> xr.DataArray:
  """Mean squared distance from the minimum at the ends of pairs of epochs, from there on: float[order, rate, seed].

  `each(name)` are the problems of an order; in `unit` epochs the distance falls by e at the smallest rate.
  """
  options, found = config.floors, []
  keep = 2 * int(np.ceil(options.average * unit / 2))
  epochs = keep + 2 * int(np.ceil(options.settle * unit / 2))
  for number, name in enumerate(names):
    mine = each(name)
    given = (name, mine, _minima(mine), ids, rates, epochs)
    squares = lanes(*given, keep=keep, num_orders=num_orders)[0].mean(axis=2)
    found.append(squares[..., 1::2].mean(axis=-1).T)
    progress(number + 1, len(names))
  coords = {'order': [*names], 'learning_rate': np.asarray(rates), 'seed': [*ids]}
  return xr.DataArray(np.stack(found), coords, ('order', 'learning_rate', 'seed'))


@order.cell()
def logistic_floors(config, progress):
  """The floors of all orders on logistic regression."""
  options, ids = config.floors, config.seeds.ids
  with jax.enable_x64(True):
    rates = np.asarray(options.multiples) / smoothness(config.convex)
    layout = lambda name: 'sorted' if name == 'sorted' or name.startswith('buffer') else 'drawn'
    each = lambda name: [logistic(config.convex, seed, options.num_examples, layout(name)) for seed in ids]
    unit = 1 / (rates[0] * config.convex.l2 * options.num_examples)  # the penalty is the least curvature
    floors = _floors(config, FLOORS, each, ids, rates, unit, options.num_orders, progress)
  return xr.Dataset({'floor': floors}, attrs={'smoothness': smoothness(config.convex)})


@order.cell()
def quadratic_floors(config, progress):
  """Floors where the noise of an example does not depend on x, and what they are exactly."""
  options, ids = config.floors, config.seeds.ids
  with jax.enable_x64(True):
    same = problems.quadratic([1.0], noise=1.0, num_examples=options.num_examples)
    rates, unit = options.rates, 1 / (options.rates[0] * options.num_examples)
    each = lambda name: [same] * len(ids)
    floors = _floors(config, QUADRATIC, each, ids, rates, unit, options.quadratic_orders, progress)
  law = [[exact.floor(name, rate, options.num_examples) for rate in rates] for name in QUADRATIC]
  return xr.Dataset({'floor': floors, 'exact': (('order', 'learning_rate'), law)})


def constructed(name: str, count: int) -> Problem:
  """Least squares in one variable with the minimum 0: equal curvatures and gradients 1 and -1, sorted; or 'biased'.

  There half of the curvatures are 1 and half 4, with gradients 1 and -1, so that one goes with the other.
  """
  first, second = BIASED if name == 'biased' else (1.0, 1.0)
  features = np.repeat([first, second], count // 2)
  targets = np.repeat([1 / first, -1 / second], count // 2)
  return problems.linear_regression(features[:, None], targets)


@order.cell()
def published(config, progress):
  """E x^2 after k epochs over n examples at the rate c / (lambda n k), from the minimum on, along n and along k."""
  options, ids = config.published, config.seeds.ids
  points, squares, law = list[tuple[int, int]](), list[np.ndarray](), list[float]()
  with jax.enable_x64(True):
    for number, name in enumerate(CONSTRUCTED):
      grid = options.biased if name == 'biased' else options.equal
      points += [(size, grid.at_epochs) for size in grid.sizes]
      points += [(grid.at_size, each) for each in grid.epochs]
      for count, epochs in points[len(law) :]:
        problem = constructed(name, count)
        rate = options.constant / (count * epochs * float(problem.known.smoothness))
        sampled = 'reshuffled' if name == 'biased' else name
        given = (sampled, [problem] * len(ids), np.zeros((len(ids), 1)), ids, [rate], epochs)
        squares.append(lanes(*given, num_orders=options.num_orders)[0].mean(axis=(1, 2, 3)))
        law.append(np.nan if name == 'biased' else exact.after(name, rate, count, epochs))
      progress(number + 1, len(CONSTRUCTED))
  dims, shape = ('order', 'along', 'point'), (len(CONSTRUCTED), 2, len(options.equal.sizes))
  sizes, passes = zip(*points, strict=True)
  named = {'n': sizes, 'k': passes, 'exact': law}
  found = xr.Dataset({name: (dims, np.reshape(each, shape)) for name, each in named.items()})
  square = (*dims, 'seed'), np.reshape(squares, (*shape, len(ids)))
  return found.assign(square=square).assign_coords(
    {'order': [*CONSTRUCTED], 'along': ['n', 'k'], 'seed': ids}
  )


@order.cell()
def reduced(config, progress):
  """SGD, SVRG and SAGA at the same rates: squared distance from the minimum after every pass, from 0 on."""
  options, ids, found = config.reduced, config.seeds.ids, []
  with jax.enable_x64(True):
    rates = np.asarray(options.multiples) / smoothness(config.convex)
    each = [logistic(config.convex, seed, options.num_examples) for seed in ids]
    for number, name in enumerate(REDUCED):
      given = (name, each, np.zeros_like(_minima(each)), ids, rates, options.passes)
      squares = lanes(*given, keep=options.passes, num_orders=options.num_orders)[0]
      found.append(squares.mean(axis=2))
      progress(number + 1, len(REDUCED))
  coords = {'estimator': [*REDUCED], 'seed': ids, 'multiple': [*options.multiples]}
  coords |= {'passes': np.arange(1, options.passes + 1)}
  values = {'square': (('estimator', 'seed', 'multiple', 'passes'), np.stack(found))}
  return xr.Dataset(values, coords, {'smoothness': smoothness(config.convex)})


def between_orders(*given, num_orders: int) -> np.ndarray:
  """The variance of the ends of `lanes` between orders, without bias: float[seed, rate]."""
  return lanes(*given, num_orders=num_orders)[1].var(axis=2, ddof=1).sum(axis=-1)


def small_regression(seed: int, count: int) -> Problem:
  """Least squares in two variables on data drawn for the seed, scaled so that no example's curvature is above 1."""
  rng = np.random.default_rng(seed)
  features = rng.standard_normal((count, 2))
  features /= np.max(np.linalg.norm(features, axis=1))
  return problems.linear_regression(features, rng.standard_normal(count))


@order.cell()
def pairs(config, progress):
  """The variance between orders after two epochs, reshuffled or the second the reverse of the first."""
  options, ids, names = config.pairs, config.seeds.ids, ('reshuffled', 'paired reversal')
  rates = np.asarray(options.rates)
  variance, law, larger = np.empty((3, len(names), len(ids), len(rates)))
  with jax.enable_x64(True):
    small = [small_regression(seed, options.num_examples) for seed in ids]
    digits = [logistic(config.convex, seed, options.num_digits) for seed in ids]
    # Both start where every coordinate is 1 away from the minimum.
    near, far = _minima(small) + 1, _minima(digits) + 1
    for number, name in enumerate(names):
      variance[number] = between_orders(name, small, near, ids, rates, 2, num_orders=options.num_orders)
      scaled = rates / smoothness(config.convex)
      larger[number] = between_orders(name, digits, far, ids, scaled, 2, num_orders=options.num_orders)
      for row, (problem, start) in enumerate(zip(small, near, strict=True)):
        data = np.asarray(problem.train.inputs), np.asarray(problem.train.targets)
        paired = name == 'paired reversal'
        law[number, row] = [exact.spread_between_orders(*data, rate, start, paired) for rate in rates]
      progress(number + 1, len(names))
  dims = ('order', 'seed', 'rate')
  values = {'variance': (dims, variance), 'exact': (dims, law), 'logistic': (dims, larger)}
  return xr.Dataset(values, {'order': [*names], 'seed': ids, 'rate': rates})


@order.cell()
def blocks(config, progress):
  """The variance between orders after one epoch, blocks and reshuffled, by how data lie: means over draws of data."""
  options, ids, found = config.blocks, config.seeds.ids, []
  draws = [(seed, draw) for seed in ids for draw in range(options.num_draws)]
  keys = [seed * options.num_draws + draw for seed, draw in draws]
  with jax.enable_x64(True):
    rates = [options.multiple / smoothness(config.convex)]
    for number, layout in enumerate(LIE):
      each = [logistic(config.convex, draw, options.num_examples, layout) for draw in draws]
      given = (each, _minima(each), keys, rates, 1)
      both = (between_orders(name, *given, num_orders=options.num_orders) for name in ('reshuffled', EIGHTHS))
      found.append([variance.reshape(len(ids), -1).mean(axis=1) for variance in both])
      progress(number + 1, len(LIE))
  coords = {'layout': [*LIE], 'order': ['reshuffled', 'blocks'], 'seed': ids}
  return xr.Dataset({'variance': (('layout', 'order', 'seed'), np.stack(found))}, coords)
