"""The cells: the arms timed, tuned and run; what holds exactly, measured; and runs that serve one claim each."""

import dataclasses
import functools
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jax.flatten_util import ravel_pytree
from sklearn.decomposition import PCA

import gdlab
from experiments.variants.study import Seen, variants
from gdlab import analysis, problems, sampling, study, theory
from gdlab.core import objective
from gdlab.core.types import Algorithm, Array, Batch, Problem, Sampler


def shared(function: Callable) -> Callable:
  """Caches a function by all of the configuration but the seeds: all sets of seeds then share what is compiled."""
  cached = functools.cache(function)
  return lambda config, *rest: cached(config.model_copy(update={'seeds': None}), *rest)


@shared
def images(config) -> Problem:
  """The problem that the arms solve."""
  return getattr(problems, config.dataset)(problems.MLP(config.hidden))


@shared
def population(config) -> Problem:
  """The same on its first images only, where exact laws are tested that hold on any data."""
  problem = images(config)
  train = jax.tree.map(lambda leaf: leaf[: config.population], problem.train)
  return dataclasses.replace(problem, train=train, test=None)


@shared
def components(config) -> np.ndarray:
  """The population's images as rows [N, pixels], or their leading principal components where pixels are more."""
  images = np.asarray(population(config).train.inputs, float)
  rows, most = images.reshape(len(images), -1), config.components
  return rows if rows.shape[1] <= most else PCA(most, svd_solver='full').fit_transform(rows)


@shared
def regression(config, kind: str, l2: float, wide: bool) -> Problem:
  """Linear regression, is it a 0?, or multinomial logistic regression on the population, in float64 if `wide`."""
  labels = np.asarray(population(config).train.targets)
  with jax.enable_x64(wide):
    if kind == 'linear':
      return problems.linear_regression(components(config), np.asarray(labels == 0, float), l2=l2)
    return problems.logistic_regression(components(config), labels, l2=l2)


# What an update's batch is drawn by: all of the data, the next examples, and random ones without and with replacement.
SAMPLERS: dict[str, Callable[[int], Sampler]] = {
  'full': lambda count: sampling.full_batch(),
  'in_order': sampling.sequential,
  'without': sampling.reshuffle,
  'with': sampling.with_replacement,
}


@functools.cache
def descent(kind: str, batch_size: int) -> Callable[..., Algorithm]:
  """Plain gradient descent as a function of its learning rate."""
  sampler = SAMPLERS[kind](batch_size)
  return lambda learning_rate: gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(learning_rate))


def sweep(problem, kind: str, batch_size: int, rates: Iterable[float], seeds, **options) -> xr.Dataset:
  """Plain gradient descent at every rate with every seed."""
  grid = {'learning_rate': list(rates)}
  return gdlab.sweep(problem, descent(kind, batch_size), grid, seeds=seeds, **options)


def arms(config) -> dict[int, str]:
  """Batch size -> sampler, full batch last."""
  return config.arms(images(config).num_examples)


@variants.cell(alone=True)  # not once: V5 and V10 are graded on it, and a repeat measures anew
def timing(config, progress):
  """Seconds per update of every arm, of powers of two and of their neighbours."""
  problem, offset = images(config), config.timing.offset
  near = {power + side: 'without' for power in config.timing.powers for side in (-offset, 0, offset)}
  timed = {size: descent(kind, size)(0.0) for size, kind in sorted({**near, **arms(config)}.items())}
  seconds = study.time_updates(timed, problem, 'batch_size', precision=config.timing.precision)
  return xr.Dataset({'seconds_per_update': seconds}, attrs={'num_examples': problem.num_examples})


def _run(config, size, cells, rates, ids, progress):
  """One arm for as many updates as its budgets need, evaluated at their ends too."""
  view, kinds = Seen(variants, config, cells, {}), ('examples', 'time')
  ends = [view.budget(kind, size) for kind in kinds]
  options = {'num_steps': max(*ends, config.min_updates), 'eval_steps': ends, 'progress': progress}
  options['eval_every'] = max(1, ends[0] // config.evaluations)
  rates = rates or sorted({view.rate(kind, size) for kind in kinds})
  return sweep(images(config), arms(config)[size], size, rates, ids, **options)


@variants.cell('timing', over=lambda config: [*arms(config)])
def tuning(config, size, clock, progress):
  """One arm at every learning rate, on the tuning seeds."""
  return _run(config, size, {'timing': clock}, config.learning_rates, config.seeds.for_tuning, progress)


@variants.cell('timing', 'tuning_{}', over=lambda config: [*arms(config)])
def arm(config, size, clock, tuned, progress):
  """One arm on the graded seeds, at the rates that were best at equal examples and at equal time."""
  return _run(config, size, {'timing': clock, f'tuning_{size}': tuned}, (), config.seeds.ids, progress)


@variants.cell()
def identities(config, progress):
  """Errors of the identities V1 and V3 in float64, relative to the size of what is compared."""
  ids, rows = config.seeds.ids, []
  with jax.enable_x64(True):
    widened = lambda leaf: leaf.astype(float) if leaf.dtype.kind == 'f' else leaf
    problem = jax.tree.map(widened, population(config))
    for place, key in enumerate(map(jax.random.key, ids)):
      ends = [end(problem, key, kind) for kind in ('full', 'in_order', 'without')]
      rows.append(ends + mean_gradients(problem, key, config.mini_batch))
      progress(place + 1, len(ids))
    full, in_order, shuffled, whole, mean, scaled = np.swapaxes(jax.device_get(rows), 0, 1)
  pairs = {
    'one_rule_in_order': (in_order, full),
    'one_rule_shuffled': (shuffled, full),
    'mean_of_gradients': (mean, whole),
    'sum_of_losses': (scaled, whole),
  }
  errors = [np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1) for a, b in pairs.values()]
  return xr.Dataset({'error': (('identity', 'seed'), errors)}, {'identity': [*pairs], 'seed': ids})


@functools.partial(jax.jit, static_argnames='kind')
def end(problem: Problem, key, kind: str) -> Array:
  """The parameters after 20 updates whose batch is all the data."""
  algorithm = descent(kind, problem.num_examples)(0.1)
  state, step = algorithm.init(key, problem), lambda _, state: algorithm.step(state, problem)[0]
  return ravel_pytree(jax.lax.fori_loop(0, 20, step, state).params)[0]


@functools.partial(jax.jit, static_argnames='batch_size')
def mean_gradients(problem: Problem, key, batch_size: int) -> list[Array]:
  """A batch's gradient, the mean of its examples' gradients, and the gradient of their summed loss over B."""
  stream = gdlab.streams(key)
  params, model_state = problem.init(stream.init)
  indices = jax.random.permutation(stream.order, problem.num_examples)[:batch_size]

  def gradient(weights):
    batch = Batch(indices, weights)
    return jax.grad(lambda p: objective.batch_loss(problem, p, model_state, batch, stream.noise)[0])(params)

  each = analysis.per_example_gradients(problem, params, model_state, stream.noise, indices)
  mean = jax.tree.map(lambda leaf: leaf.mean(axis=0), each)
  whole, summed = gradient(jnp.full(batch_size, 1 / batch_size)), gradient(jnp.ones(batch_size))
  return [ravel_pytree(tree)[0] for tree in (whole, mean, optax.tree.scale(1 / batch_size, summed))]


@variants.cell(once=True)
def counts(config, progress):
  """Updates that a sampler needs until it has drawn every example, and how often it drew each."""
  full = images(config).num_examples
  cases = [(full, size, kind) for size, kind in arms(config).items()]
  rows = [counted(*case) for case in (*cases, (10_000, 128, 'without'), (32_000, 32, 'without'))]
  names = ('num_examples', 'batch_size', 'updates', 'least_draws', 'most_draws')
  return xr.Dataset({name: ('case', values) for name, values in zip(names, np.transpose(rows), strict=True)})


def counted(num_examples: int, batch_size: int, kind: str) -> tuple[int, ...]:
  """(N, B, updates until every example was drawn, fewest and most draws of one example by then)."""
  sampler = SAMPLERS[kind](batch_size)
  state, sample = sampler.init(jax.random.key(0), num_examples), jax.jit(sampler.sample)
  draws, updates = np.zeros(num_examples, int), 0
  while draws.min() == 0:
    batch, state = sample(state)
    np.add.at(draws, np.asarray(batch.indices)[np.asarray(batch.weights) > 0], 1)
    updates += 1
  return num_examples, batch_size, updates, draws.min(), draws.max()


@variants.cell()
def noise(config, progress):
  """The variance of the gradient estimate over drawn batches, and the exact trace of the covariance."""
  problem, found = population(config), []
  count = problem.num_examples
  sizes = (*(size for size in arms(config) if size < count), count)
  for place, key in enumerate(map(jax.random.key, config.seeds.ids)):
    found.append(jax.device_get(gradient_noise(problem, key, sizes, config.noise.num_batches)))
    progress(place + 1, config.seeds.count)
  values, traces = (np.asarray(part, float) for part in zip(*found, strict=True))
  return xr.Dataset(
    {'variance': (('seed', 'replacement', 'batch_size'), values), 'covariance_trace': ('seed', traces)},
    {'seed': config.seeds.ids, 'replacement': ['with', 'without'], 'batch_size': [*sizes]},
    {'num_examples': count},
  )


@functools.partial(jax.jit, static_argnames=('sizes', 'num_batches'))
def gradient_noise(problem: Problem, key, sizes: tuple[int, ...], num_batches: int) -> tuple[Array, Array]:
  """Variances by replacement and batch size at the initial parameters, and the exact trace of the covariance."""
  stream = gdlab.streams(key)
  params, model_state = problem.init(stream.init)
  gradients = analysis.per_example_gradients(problem, params, model_state, jax.random.fold_in(stream.init, 1))
  rows = jax.vmap(lambda gradient: ravel_pytree(gradient)[0])(gradients)
  centred = rows - rows.mean(axis=0, keepdims=True)
  gram, keys = centred @ centred.T, jax.random.split(stream.order, num_batches)
  drawn = [[mean_square(gram, keys, SAMPLERS[kind](size)) for size in sizes] for kind in ('with', 'without')]
  return jnp.asarray(drawn), jnp.trace(gram) / gram.shape[0]


def mean_square(gram: Array, keys: Array, sampler: Sampler) -> Array:
  """The mean over drawn batches of the squared distance of their gradient from the full one."""

  def square(key):
    batch, _ = sampler.sample(sampler.init(key, gram.shape[0]))
    weights = jnp.zeros(gram.shape[0]).at[batch.indices].add(batch.weights)
    return weights @ gram @ weights

  return jnp.mean(jax.lax.map(square, keys, batch_size=100))


@variants.cell()
def smoothness(config, progress):
  """The three variants at one learning rate, the full training loss evaluated after every update."""
  problem, runs = images(config), []
  sizes, rates = [1, config.mini_batch, problem.num_examples], [config.smoothness.learning_rate]
  options = {'seeds': config.seeds.ids, 'num_steps': config.smoothness.num_updates, 'eval_every': 1}
  for place, size in enumerate(sizes):
    run = sweep(problem, arms(config)[size], size, rates, **options)
    runs.append(run[['train_loss', 'status']].isel(learning_rate=0, drop=True))
    progress(place + 1, len(sizes))
  return xr.concat(runs, xr.Variable('batch_size', sizes), combine_attrs='drop_conflicts')


@variants.cell()
def floor(config, progress):
  """Single-example descent on regularised logistic regression: the excess training loss over the minimum."""
  problem = regression(config, 'logistic', config.floor.l2, False)
  options = {'num_steps': config.floor.epochs * problem.num_examples, 'eval_every': problem.num_examples // 2}
  rates, ids = config.floor.learning_rates, config.seeds.ids
  result = sweep(problem, 'without', 1, rates, ids, progress=progress, **options)
  return result.assign(excess=result.train_loss - float(problem.known.value))


@variants.cell()
def convex(config, progress):
  """Full batch in float64 on two strongly convex problems, at rates relative to 1/L, with the gap to the minimum."""
  kinds, rates, made = ['linear', 'logistic'], np.array([1.0, 1.9, 2.1]), []
  options = {'num_steps': config.convex.num_steps, 'eval_every': 1}
  with jax.enable_x64(True):
    for place, kind in enumerate(kinds):
      problem = regression(config, kind, config.convex.l2, True)
      known, ids = problem.known, config.seeds.ids[: config.convex.num_seeds]
      result = sweep(problem, 'full', problem.num_examples, rates / float(known.smoothness), ids, **options)
      gap = result.train_loss.rename(learning_rate='rate_times_smoothness') - float(known.value)
      bound = theory.contraction_rate(1 / known.smoothness, known.smoothness, known.strong_convexity)
      made.append(xr.Dataset({'gap': gap.assign_coords(rate_times_smoothness=rates), 'bound': float(bound)}))
      progress(place + 1, len(kinds))
  return xr.concat(made, xr.Variable('problem', kinds))


@variants.cell()
def stream(config, progress):
  """Squared errors on a stream, each example predicted before it is used; full batch is refitted to all before it."""
  options, features = config.stream, components(config)
  features = features - features.mean(0)
  features = features / np.sqrt(np.mean(np.sum(features**2, axis=1)))
  rates, drifts = [*options.learning_rates], [0.0, options.drift]
  ids, count = config.seeds.ids + config.seeds.for_tuning, len(features)
  single, full = np.empty((2, len(ids), len(rates), count)), np.empty((2, len(ids), count))
  for row, place in np.ndindex(full.shape[:2]):
    walk, seed = problems.random_walk(drifts[row]), ids[place]
    arrivals = problems.drifting_regression(features, walk, noise_std=options.noise, seed=seed)
    run = sweep(arrivals, 'in_order', 1, rates, [seed], num_steps=count, record_every=1, eval_every=count)
    single[row, place] = 2 * run.batch_loss.isel(seed=0, step=slice(1, None))
    full[row, place] = refitted(np.asarray(arrivals.train.inputs), np.asarray(arrivals.train.targets))
    progress(row * len(ids) + place + 1, 2 * len(ids))
  dims = ('drift', 'seed', 'learning_rate', 'example')
  return xr.Dataset(
    {'single': (dims, single), 'full': ((*dims[:2], dims[3]), full)},
    {'drift': drifts, 'seed': ids, 'learning_rate': rates},
  )


def refitted(inputs: np.ndarray, targets: np.ndarray, ridge: float = 1e-3) -> np.ndarray:
  """Squared errors of predicting each target by least squares over those before it (recursive least squares)."""
  inputs, targets = inputs.astype(float), targets.astype(float)
  inverse, weights = np.eye(inputs.shape[1]) / ridge, np.zeros(inputs.shape[1])
  errors = np.empty(len(inputs))
  for place, (x, y) in enumerate(zip(inputs, targets, strict=True)):
    residual = y - x @ weights
    errors[place] = residual**2
    gain = inverse @ x / (1 + x @ inverse @ x)
    weights += gain * residual
    inverse -= np.outer(gain, x @ inverse)
  return errors
