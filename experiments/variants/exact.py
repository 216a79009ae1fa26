"""What holds exactly: one rule, the law of the variance, means of gradients, counts, rates on convex problems."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

import gdlab
from experiments.variants.arms import arms, descent, seeds
from gdlab import analysis, problems, sampling, theory
from gdlab.core import objective
from gdlab.core.types import Batch, Problem, Sampler


def identities(config, problem: Problem, progress) -> xr.Dataset:
  """Errors of the identities V1 and V3 in float64, relative to the size of what is compared."""
  names = ('one_rule_in_order', 'one_rule_shuffled', 'mean_of_gradients', 'sum_of_losses')
  errors = np.empty((config.num_seeds, len(names)))
  with jax.enable_x64(True):
    wide = jax.tree.map(
      lambda leaf: leaf.astype(float) if leaf.dtype.kind == 'f' else leaf, population(config, problem)
    )
    for place, seed in enumerate(seeds(config)):
      errors[place] = [*_one_rule(wide, seed), *_means(wide, seed, config.mini_batch)]
      progress(place + 1, config.num_seeds)
  return xr.Dataset(
    {'error': (('seed', 'identity'), errors)}, {'seed': seeds(config), 'identity': list(names)}
  )


def _one_rule(problem: Problem, seed: int, num_steps: int = 20) -> list[float]:
  """How far N examples in order, and N shuffled ones, end from full batch after some steps."""
  count = problem.num_examples
  ends = [_end(sampler, problem, seed, num_steps) for sampler in _full_batches(count)]
  return [_distance(end, ends[0]) for end in ends[1:]]


@functools.cache
def _full_batches(num_examples: int) -> tuple[Sampler, ...]:
  """Three samplers whose batch is all the data: as it is, in order, shuffled."""
  return sampling.full_batch(), sampling.sequential(num_examples), sampling.reshuffle(num_examples)


@functools.partial(jax.jit, static_argnames=('sampler', 'num_steps'))
def _end(sampler: Sampler, problem: Problem, seed: int, num_steps: int):
  """The parameters after some steps."""
  algorithm = gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(0.1))
  state = algorithm.init(jax.random.key(seed), problem)
  return jax.lax.fori_loop(0, num_steps, lambda _, state: algorithm.step(state, problem)[0], state).params


@functools.partial(jax.jit, static_argnames='batch_size')
def _mean_gradients(problem: Problem, key, batch_size: int):
  """A batch's gradient, the mean of its examples' gradients, and the gradient of their summed loss over B."""
  stream = gdlab.streams(key)
  params, model_state = problem.init(stream.init)
  indices = jax.random.permutation(stream.order, problem.num_examples)[:batch_size]

  def gradient(weights):
    batch = Batch(indices, weights)
    return jax.grad(lambda p: objective.batch_loss(problem, p, model_state, batch, stream.noise)[0])(params)

  each = analysis.per_example_gradients(problem, params, model_state, stream.noise, indices)
  of_sum = gradient(jnp.ones(batch_size))
  return (
    gradient(jnp.full(batch_size, 1 / batch_size)),
    jax.tree.map(lambda leaf: leaf.mean(axis=0), each),
    jax.tree.map(lambda leaf: leaf / batch_size, of_sum),
  )


def _means(problem: Problem, seed: int, batch_size: int) -> list[float]:
  whole, mean, scaled = _mean_gradients(problem, jax.random.key(seed), batch_size)
  return [_distance(mean, whole), _distance(scaled, whole)]


def _distance(a, b) -> float:
  """The Euclidean distance of two trees relative to the norm of the second."""
  return float(optax.tree.norm(optax.tree.sub(a, b)) / optax.tree.norm(b))


def counts(config, problem: Problem, progress) -> xr.Dataset:
  """Updates that a sampler needs until it has drawn every example, and how often it drew each."""
  cases = [(problem.num_examples, size) for size in arms(config, problem.num_examples)] + [
    (10_000, 128),
    (32_000, 32),
  ]
  rows = []
  for place, (num_examples, batch_size) in enumerate(cases):
    maker = sampling.full_batch() if batch_size == num_examples else sampling.reshuffle(batch_size)
    rows.append(_counted(maker, num_examples))
    progress(place + 1, len(cases))
  updates, least, most = np.transpose(rows)
  return xr.Dataset(
    {'updates': ('case', updates), 'least_draws': ('case', least), 'most_draws': ('case', most)},
    {'num_examples': ('case', [n for n, _ in cases]), 'batch_size': ('case', [b for _, b in cases])},
  )


def _counted(sampler: Sampler, num_examples: int) -> tuple[int, int, int]:
  """(updates until every example was drawn, fewest and most draws of one example by then)."""
  state = sampler.init(jax.random.key(0), num_examples)
  sample = jax.jit(sampler.sample)
  draws = np.zeros(num_examples, int)
  updates = 0
  while draws.min() == 0:
    batch, state = sample(state)
    np.add.at(draws, np.asarray(batch.indices)[np.asarray(batch.weights) > 0], 1)
    updates += 1
  return updates, draws.min(), draws.max()


def noise(config, problem: Problem, progress) -> xr.Dataset:
  """The variance of the gradient estimate over drawn batches, and the exact trace of the covariance."""
  drawn_from = population(config, problem)
  count = drawn_from.num_examples
  sizes = [size for size in arms(config, problem.num_examples) if size < count] + [count]
  makers = {'with': sampling.with_replacement, 'without': sampling.reshuffle}
  samplers = [[make(size) for size in sizes] for make in makers.values()]
  values = np.empty((config.num_seeds, len(makers), len(sizes)))
  traces = np.empty(config.num_seeds)
  for place, seed in enumerate(seeds(config)):
    stream = gdlab.streams(jax.random.key(seed))
    gram, traces[place] = _centred_gram(drawn_from, stream.init)
    keys = jax.random.split(stream.order, config.noise.num_batches)
    values[place] = [[_mean_square(gram, keys, sampler) for sampler in row] for row in samplers]
    progress(place + 1, config.num_seeds)
  return xr.Dataset(
    {'variance': (('seed', 'replacement', 'batch_size'), values), 'covariance_trace': ('seed', traces)},
    {'seed': seeds(config), 'replacement': list(makers), 'batch_size': sizes},
    {'num_examples': count},
  )


@jax.jit
def _centred_gram(problem: Problem, key):
  """Inner products of the centred per-example gradients at the initial parameters, [N, N], and their trace / N."""
  params, model_state = problem.init(key)
  gradients = analysis.per_example_gradients(problem, params, model_state, jax.random.fold_in(key, 1))
  gradients = jnp.concatenate(
    [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(gradients)], axis=1
  )
  centred = gradients - gradients.mean(axis=0, keepdims=True)
  gram = centred @ centred.T
  return gram, jnp.trace(gram) / gram.shape[0]


@functools.partial(jax.jit, static_argnames='sampler')
def _mean_square(gram, keys, sampler: Sampler):
  """The mean over drawn batches of the squared distance of their gradient from the full one."""

  def square(key):
    batch, _ = sampler.sample(sampler.init(key, gram.shape[0]))
    weights = jnp.zeros(gram.shape[0]).at[batch.indices].add(batch.weights)
    return weights @ gram @ weights

  return jnp.mean(jax.lax.map(square, keys, batch_size=100))


def population(config, problem: Problem) -> Problem:
  """The problem on its first images only, where exact laws are tested that hold on any data."""
  count = min(config.population, problem.num_examples)
  train = jax.tree.map(lambda leaf: leaf[:count], problem.train)
  return dataclasses.replace(problem, train=train, test=None)


def components(config, problem: Problem) -> np.ndarray:
  """The population's images as rows [N, pixels], or their leading principal components where pixels are more."""
  drawn_from = population(config, problem)
  rows = np.asarray(drawn_from.train.inputs, float).reshape(drawn_from.num_examples, -1)
  if rows.shape[1] <= config.components:
    return rows
  centred = rows - rows.mean(axis=0)
  return centred @ np.linalg.svd(centred, full_matrices=False)[2][: config.components].T


def logistic(config, problem: Problem, l2: float) -> Problem:
  """Multinomial logistic regression on the population's images."""
  labels = np.asarray(population(config, problem).train.targets)
  return problems.logistic_regression(components(config, problem), labels, l2=l2)


def convex(config, problem: Problem, progress) -> xr.Dataset:
  """Full batch in float64 on two strongly convex problems, at rates relative to 1/L, with the gap to the minimum."""
  rows = []
  with jax.enable_x64(True):
    for number, kind in enumerate(('linear', 'logistic')):
      if kind == 'linear':
        one_class = np.asarray(population(config, problem).train.targets == 0, float)
        target = problems.linear_regression(components(config, problem), one_class, l2=config.convex.l2)
      else:
        target = logistic(config, problem, config.convex.l2)
      known = target.known
      result = gdlab.sweep(
        target,
        descent(target.num_examples, target.num_examples),
        {'learning_rate': [rate / float(known.smoothness) for rate in (1.0, 1.9, 2.1)]},
        num_steps=config.convex.num_steps,
        seeds=seeds(config)[: config.convex.num_seeds],
        eval_every=1,
        progress=functools.partial(_half, progress, number),
      )
      gap = (result.train_loss - float(known.value)).assign_coords(learning_rate=[1.0, 1.9, 2.1])
      bound = theory.contraction_rate(1 / known.smoothness, known.smoothness, known.strong_convexity)
      rows.append(
        xr.Dataset(
          {
            'gap': gap.rename(learning_rate='rate_times_smoothness'),
            'bound': float(bound),
            'smoothness': float(known.smoothness),
            'strong_convexity': float(known.strong_convexity),
          },
          attrs=result.attrs,
        )
      )
  return xr.concat(rows, xr.Variable('problem', ['linear', 'logistic']), combine_attrs='drop_conflicts')


def _half(progress, number: int, done: int, total: int) -> None:
  """Progress of the first (0) or second (1) of two equal halves."""
  progress(number * total + done, 2 * total)
