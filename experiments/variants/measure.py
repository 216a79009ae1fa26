"""The cells: the arms timed, tuned and run; what holds exactly, measured; and runs that serve one claim each."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
import xarray as xr
from jax.flatten_util import ravel_pytree
from sklearn.decomposition import PCA

import gdlab
from experiments.variants import cpu_time
from experiments.variants.seen import BUDGETS, MODELS, Seen, on_digits
from experiments.variants.study import variants
from gdlab import analysis, problems, sampling, statistics, study, theory
from gdlab.core import objective
from gdlab.core.types import Algorithm, Array, Batch, Problem, Sampler


def shared(function: Callable) -> Callable:
  """Caches a function by all of the configuration but the seeds: all sets of seeds then share what is compiled."""
  cached = functools.cache(function)
  return lambda config, *rest: cached(config.model_copy(update={'seeds': None}), *rest)


@shared
def images(config) -> Problem:
  """The data set as it comes."""
  return getattr(problems, config.dataset)(problems.MLP(config.hidden))


@shared
def divided(config) -> Problem:
  """The digits with a validation set."""
  return problems.split(images(config), validation=config.validation, train=config.train)


def drawn(config, seed: int) -> Problem:
  """The images of a seed: digits are divided anew; of MNIST's training images some are drawn, the test set stays."""
  if config.dataset == 'digits':
    return problems.redraw(divided(config), seed)
  return problems.split(images(config), validation=config.validation, train=config.train, seed=seed)


def without_test(config, seed: int) -> Problem:
  """The images of a tuning seed, of which nothing is tested."""
  return dataclasses.replace(drawn(config, seed), test=None)


def raced(config, seed: int) -> Problem:
  """What V12 is about: the whole data set, or that drawn for the seed."""
  return images(config) if config.race.whole else drawn(config, seed)


@shared
def population(config) -> Problem:
  """The same on its first images only, where exact laws are tested that hold on any data."""
  problem = images(config)
  train = jax.tree.map(lambda leaf: leaf[: config.population], problem.train)
  return dataclasses.replace(problem, train=train, test=None)


@shared
def components(config, most: int) -> np.ndarray:
  """The population's images as rows [N, pixels], or their leading principal components where pixels are more."""
  images = np.asarray(population(config).train.inputs, float)
  rows = images.reshape(len(images), -1)
  return rows if rows.shape[1] <= most else PCA(most, svd_solver='full').fit_transform(rows)


@shared
def regression(config, kind: str, l2: float, wide: bool) -> Problem:
  """Linear regression, is it a 0?, or multinomial logistic regression on the population, in float64 if `wide`."""
  labels = np.asarray(population(config).train.targets)
  with jax.enable_x64(wide):
    if kind == 'linear':
      return problems.linear_regression(
        components(config, config.components), np.asarray(labels == 0, float), l2=l2
      )
    return problems.logistic_regression(components(config, config.components), labels, l2=l2)


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


def anew(data, config, kind: str, batch_size: int, rates: Iterable[float], seeds, **options) -> xr.Dataset:
  """Plain gradient descent at every rate with every seed, each with its own data."""
  make = functools.partial(data, config)
  return study.sweep_anew(
    make, descent(kind, batch_size), {'learning_rate': [*rates]}, seeds=seeds, **options
  )


def times(config, problem: Problem, sizes: dict[int, str]) -> xr.Dataset:
  """Seconds per update of batch sizes."""
  timed = {size: descent(kind, size)(0.0) for size, kind in sizes.items()}
  seconds = study.time_updates(timed, problem, 'batch_size', precision=config.timing.precision)
  attributes = {'num_examples': problem.num_examples, 'processor': cpu_time.processor()}
  return xr.Dataset({'seconds_per_update': seconds}, attrs=attributes)


@variants.cell(alone=True)  # not once: V5 and V9 are graded on it, and a repeat measures anew
def timing(config, progress):
  """Seconds per update of every arm, and the line t(B) = a + b B that is nearest in relative terms."""
  found = times(config, drawn(config, config.seeds.first), config.arms)
  seconds = found.seconds_per_update.median('round')
  per_update, per_example = cost_line(seconds.batch_size.values, seconds.values)
  return found.assign(per_update=per_update, per_example=per_example)


def cost_line(sizes: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
  """a, b >= 0 of least sum of squares of (a + b B) / t - 1."""
  relative = np.stack([1 / seconds, sizes / seconds], axis=1)
  fitted, _ = scipy.optimize.nnls(relative, np.ones(len(seconds)))
  return float(fitted[0]), float(fitted[1])


@variants.cell(alone=True, when=lambda config: config.race.whole)
def whole_timing(config, progress):
  """Seconds per update of the mini-batch and of full batch on the whole data set."""
  problem = images(config)
  return times(config, problem, {config.mini_batch: 'without', problem.num_examples: 'full'})


@variants.cell(alone=True, when=on_digits)
def powers(config, progress):
  """CPU seconds per update of powers of two and of what is beside and between them, each time in a fresh process."""
  options = config.powers
  beside = [size + side * offset for size in options.sizes for offset in options.offsets for side in (-1, 1)]
  sizes = sorted({*options.sizes, *beside, *options.between})
  seconds = cpu_time.in_processes(config, sizes, progress)
  return xr.Dataset(
    {'cpu_seconds': (('process', 'round', 'batch_size'), seconds)},
    {'batch_size': sizes},
    {'processor': cpu_time.processor()},
  )


def _race(config, name, data, rates, seeds, progress) -> xr.Dataset:
  """A variant for as many updates as its questions need, evaluated at the end of equal examples too."""
  count = data(config, config.seeds.first).num_examples
  size = {'single': 1, 'mini': config.mini_batch, 'full': count}[name]
  end = config.race.epochs * theory.updates_per_epoch(count, size)
  num_steps = max(end, config.race.min_updates)
  options = {
    'num_steps': num_steps,
    'eval_steps': [end],
    'eval_every': max(1, num_steps // config.race.evaluations),
  }
  kind = 'full' if name == 'full' else 'without'
  return anew(data, config, kind, size, rates, seeds, progress=progress, **options)


@variants.cell(over=lambda config: config.racers)
def tuning(config, name, progress):
  """A variant at every learning rate, on the tuning seeds."""
  return _race(config, name, drawn, config.race.learning_rates, config.seeds.for_tuning, progress)


@variants.cell('timing', 'tuning_{}', over=lambda config: config.racers)
def arm(config, name, clock, tuned, progress):
  """A variant on the graded seeds, at the rates that are likely to be chosen for any question."""
  view = Seen(variants, config, {'timing': clock, 'whole_timing': clock, f'tuning_{name}': tuned}, {})
  questions = ('ended', 'loss', 'accuracy') if on_digits(config) else ('accuracy',)
  rates = sorted(
    {
      rate
      for question in questions
      for rate in statistics.likely(view.chooser(question, name), config.seeds.tuning)
    }
  )
  return _race(config, name, raced, rates, config.seeds.ids, progress)


def _trade(config, data, rates: dict[int, list[float]], clock, seeds, progress) -> xr.Dataset:
  """Accuracies of batch sizes at rates of their own where time is up, by cost model and budget; 0 of failed runs."""
  view, parts = Seen(variants, config, {'timing': clock}, {}), []
  for place, (size, own) in enumerate(rates.items()):
    ends = view.ends(size)
    options = {'num_steps': max(1, int(ends.max())), 'eval_steps': np.unique(ends).tolist()}
    options['eval_every'] = options['num_steps']
    runs = anew(data, config, config.arms[size], size, own, seeds, **options).sel(step=ends)
    names = [name for name in ('validation_accuracy', 'test_accuracy') if name in runs]
    part = xr.Dataset({name: study.unless_failed(runs, name, 0.0) for name in names}).drop_vars('step')
    parts.append(part.reindex(learning_rate=[*config.trade.learning_rates]))
    progress(place + 1, len(rates))
  return xr.concat(parts, xr.Variable('batch_size', [*rates]))


@variants.cell('timing')
def trade_tuning(config, clock, progress):
  """Every batch size at every rate, on the tuning seeds."""
  rates = {size: [*config.trade.learning_rates] for size in config.arms}
  seeds = config.seeds.model_copy(update={'tuning': config.trade.tuning})
  return _trade(config, without_test, rates, clock, seeds.for_tuning, progress)


@variants.cell('timing', 'trade_tuning')
def trade(config, clock, tuned, progress):
  """Those batch sizes and rates on the graded seeds that are likely to be chosen for a budget."""
  view = Seen(variants, config, {'timing': clock, 'trade_tuning': tuned}, {})
  rates: dict[int, set[float]] = {}
  for budget, model in itertools.product(BUDGETS, MODELS):
    for size, rate in itertools.chain.from_iterable(view.pairs(budget, model)):
      rates.setdefault(size, set()).add(rate)
  seeds = config.seeds.model_copy(update={'count': config.trade.num_seeds}).ids
  own = {size: sorted(rates[size]) for size in sorted(rates)}
  counts = {'num_validation': config.validation, 'num_test': len(drawn(config, seeds[0]).test.targets)}
  return _trade(config, drawn, own, clock, seeds, progress).assign_attrs(counts)


@variants.cell(when=on_digits)
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


@variants.cell(when=on_digits)
def counts(config, progress):
  """Updates that a sampler needs until it has drawn every example, and how often it drew each."""
  cases = [(config.train, size, kind) for size, kind in config.arms.items()]
  rows = [
    counted(*case, config.seeds.first) for case in (*cases, (10_000, 128, 'without'), (32_000, 32, 'without'))
  ]
  names = ('num_examples', 'batch_size', 'updates', 'least_draws', 'most_draws')
  return xr.Dataset({name: ('case', values) for name, values in zip(names, np.transpose(rows), strict=True)})


def counted(num_examples: int, batch_size: int, kind: str, seed: int) -> tuple[int, ...]:
  """(N, B, updates until every example was drawn, fewest and most draws of one example by then)."""
  sampler = SAMPLERS[kind](batch_size)
  state, sample = sampler.init(jax.random.key(seed), num_examples), jax.jit(sampler.sample)
  draws, updates = np.zeros(num_examples, int), 0
  while draws.min() == 0:
    batch, state = sample(state)
    np.add.at(draws, np.asarray(batch.indices)[np.asarray(batch.weights) > 0], 1)
    updates += 1
  return num_examples, batch_size, updates, draws.min(), draws.max()


@variants.cell(when=on_digits)
def noise(config, progress):
  """The variance of the gradient estimate over drawn batches, and the exact trace of the covariance."""
  problem, found = population(config), []
  count = problem.num_examples
  sizes = (*(size for size in config.batch_sizes if size < count), count)
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


@variants.cell(when=on_digits)
def smoothness(config, progress):
  """The three variants at one learning rate, the full training loss evaluated after every update."""
  runs, rates = [], [config.smoothness.learning_rate]
  sizes, ids = [1, config.mini_batch, config.train], config.seeds.ids[: config.smoothness.num_seeds]
  options = {'num_steps': config.smoothness.num_updates, 'eval_every': 1}
  for place, size in enumerate(sizes):
    run = anew(drawn, config, config.arms[size], size, rates, ids, **options)
    runs.append(run[['train_loss', 'status']].isel(learning_rate=0, drop=True))
    progress(place + 1, len(sizes))
  return xr.concat(runs, xr.Variable('batch_size', sizes), combine_attrs='drop_conflicts')


@variants.cell(when=on_digits)
def floor(config, progress):
  """Single-example descent on regularised logistic regression: the excess training loss over the minimum."""
  problem = regression(config, 'logistic', config.floor.l2, False)
  options = {'num_steps': config.floor.epochs * problem.num_examples, 'eval_every': problem.num_examples // 2}
  rates, ids = config.floor.learning_rates, config.seeds.ids[: config.floor.num_seeds]
  result = gdlab.sweep(
    problem, descent('without', 1), {'learning_rate': [*rates]}, seeds=ids, progress=progress, **options
  )
  return result.assign(excess=result.train_loss - float(problem.known.value))


@variants.cell(when=on_digits)
def convex(config, progress):
  """Full batch in float64 on two strongly convex problems, at rates relative to 1/L, with the gap to the minimum."""
  kinds, rates, made = ['linear', 'logistic'], np.array([1.0, 1.9, 2.1]), []
  options = {'num_steps': config.convex.num_steps, 'eval_every': 1}
  with jax.enable_x64(True):
    for place, kind in enumerate(kinds):
      problem = regression(config, kind, config.convex.l2, True)
      known, ids = problem.known, config.seeds.ids[: config.convex.num_seeds]
      grid = {'learning_rate': [*(rates / float(known.smoothness))]}
      result = gdlab.sweep(problem, descent('full', problem.num_examples), grid, seeds=ids, **options)
      gap = result.train_loss.rename(learning_rate='rate_times_smoothness') - float(known.value)
      bound = theory.contraction_rate(1 / known.smoothness, known.smoothness, known.strong_convexity)
      made.append(xr.Dataset({'gap': gap.assign_coords(rate_times_smoothness=rates), 'bound': float(bound)}))
      progress(place + 1, len(kinds))
  return xr.concat(made, xr.Variable('problem', kinds))
