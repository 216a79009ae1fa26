"""The cells that train networks. Every seed has examples of its own."""

import dataclasses
import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from flax import linen as nn
from jax.flatten_util import ravel_pytree

import gdlab
from experiments.methods import arms
from experiments.methods.arms import data, descent, numbers
from experiments.methods.study import BETAS, KINDS, asked, methods
from gdlab import problems, sampling, study, transforms
from gdlab.core.types import Key, Problem, PyTree


def at_all_rates(config, draw, make, grid, updates: int, evaluations: int, progress) -> xr.Dataset:
  """Losses and accuracies at every rate, on the tuning seeds and on those that are graded."""
  runs = study.sweep_anew(
    draw,
    make,
    grid,
    seeds=[*config.seeds.for_tuning, *config.seeds.ids],
    progress=progress,
    num_steps=updates,
    eval_every=max(1, updates // evaluations),
  )
  kinds = ('train', 'validation', 'test', 'status')
  kept = runs[[name for name in runs if str(name).startswith(kinds)]]
  return kept.squeeze([name for name in grid if name != 'learning_rate'], drop=True)


@methods.cell(over=arms.entries, when=asked('M2', 'M4', 'M5', 'M6', 'M10'))
def race(config, name: str, progress):
  """One arm on one bench."""
  bench, arm = name.split('_', 1)
  draw, (size, updates) = functools.partial(data, config, bench), arms.budget(config, bench)
  make, grid = descent(arm, size, updates), arms.grid(config, arm)
  return at_all_rates(config, draw, make, grid, updates, config.race.evaluations, progress)


@methods.cell(over=lambda config: ('heavy_ball', 'rmsprop', 'adam'), when=asked('M8'))
def overfit(config, arm: str, progress):
  """The perceptron on few images for long."""
  options = config.overfit
  draw = functools.partial(data, config, 'mlp', train=options.examples)
  make = descent(arm, min(config.race.batch_size, options.examples), options.updates)
  return at_all_rates(config, draw, make, arms.grid(config, arm), options.updates, 80, progress)


@methods.cell(when=asked('M7'))
def sizes(config, progress):
  """Root mean squares of gradients and updates of every parameter in the second half of a run on the perceptron."""
  size, updates = arms.budget(config, 'mlp')
  found, measured = [], {'adam': 1e-3, 'plain': 0.1}
  for place, (name, rate) in enumerate(measured.items()):
    rule = arms.ARMS[name].make(rate, **{key: jnp.asarray(value) for key, (value,) in numbers(name).items()})
    kept = optax.chain(optax.snapshot('gradient', lambda gradient: gradient), rule)
    method = gdlab.algorithm(sampler=sampling.reshuffle(size), optimizer=kept)
    run, keys = jax.jit(functools.partial(_sizes, method, updates)), study.keys(config.seeds.ids)
    found.append(
      [run(data(config, 'mlp', seed), key) for seed, key in zip(config.seeds.ids, keys, strict=True)]
    )
    progress(place + 1, len(measured))
  return xr.Dataset(
    {'rms': (('rule', 'seed', 'kind', 'parameter'), np.asarray(found, float))},
    {'rule': [*measured], 'seed': config.seeds.ids, 'kind': ['gradient', 'update']},
  )


def _sizes(method, updates: int, problem: Problem, key: Key):
  def step(carry, number):
    state, sums = carry
    new, _ = method.step(state, problem)
    gradient = ravel_pytree(optax.tree.get(new.optimizer, 'gradient'))[0]
    moved = ravel_pytree(new.params)[0] - ravel_pytree(state.params)[0]
    late = number >= updates // 2
    return (new, sums + late * jnp.stack([gradient, moved]) ** 2), None

  start = method.init(key, problem)
  sums = jnp.zeros((2, ravel_pytree(start.params)[0].size))
  (_, sums), _ = jax.lax.scan(step, (start, sums), jnp.arange(updates))
  return jnp.sqrt(sums / (updates - updates // 2))


@methods.cell(over=lambda config: ('together', 'after'), when=asked('M9'))
def layers(config, order: str, progress):
  """Full batch on the perceptron at every rate: all layers together, or one after another with gradients anew."""
  draw, options = functools.partial(data, config, 'mlp'), config.order
  names = sorted(jax.eval_shape(draw(config.seeds.first).init, jax.random.key(0))[0])
  blocks = {name: place if order == 'after' else 0 for place, name in enumerate(names)}

  def make(learning_rate):
    optimizer = optax.chain(optax.sgd(learning_rate), transforms.coordinate_updates(blocks))
    return gdlab.algorithm(sampler=sampling.full_batch(), optimizer=optimizer)

  updates = options.sweeps * (1 + max(blocks.values()))
  return at_all_rates(config, draw, make, {'learning_rate': [*options.rates]}, updates, 1, progress)


class Ungated(nn.Module):
  """Embedding, a ReLU network whose recurrent weights are `gain` times orthogonal, Dense."""

  vocabulary_size: int
  width: int
  gain: float

  @nn.compact
  def __call__(self, ids):
    x = nn.Embed(self.vocabulary_size, self.width)(ids)
    start = nn.initializers.orthogonal(self.gain)
    cell = nn.SimpleCell(self.width, activation_fn=nn.relu, recurrent_kernel_init=start)
    return nn.Dense(self.vocabulary_size)(nn.RNN(cell)(x))


CLIPS = {
  'none': optax.identity(),
  'norm': optax.clip_by_global_norm(1.0),
  'value': optax.clip(0.1),
  'adaptive': optax.adaptive_grad_clip(0.1),
}


@methods.cell(over=lambda config: [*CLIPS], when=asked('M11'))
def explosion(config, clip: str, progress):
  """Plain descent on an ungated recurrent network at every rate, with one way of clipping or with none."""
  options, race = config.explosion, config.race
  whole = arms.text(
    config.text, functools.partial(Ungated, width=options.width, gain=options.gain), race.context
  )
  draw = lambda seed: arms.drawn(whole, race.text_train, race.text_held_out, race.text_held_out, seed)

  def make(learning_rate):
    optimizer = optax.chain(CLIPS[clip], optax.sgd(learning_rate))
    return gdlab.algorithm(sampler=sampling.reshuffle(race.text_batch_size), optimizer=optimizer)

  return at_all_rates(config, draw, make, {'learning_rate': [*options.rates]}, options.updates, 1, progress)


@functools.cache
def word_pairs(text: str, count: int) -> np.ndarray:
  """Ids of successive words, int[n, 2], where both are among the commonest; 0 is the commonest."""
  source = problems.read_text(None if text == 'excerpt' else arms.shakespeare_path())
  words = ''.join(letter if letter.isalpha() else ' ' for letter in source.lower()).split()
  names, counts = np.unique(words, return_counts=True)
  place = {name: number for number, name in enumerate(names[np.argsort(-counts, kind='stable')][:count])}
  ids = np.asarray([place.get(word, -1) for word in words])
  pairs = np.stack([ids[:-1], ids[1:]], axis=1)
  return pairs[(pairs >= 0).all(axis=1)]


@functools.lru_cache(maxsize=16)
def bigrams(text: str, words: int, width: int, count: int, model: str, balanced: bool, seed: int) -> Problem:
  """Pairs of words drawn as they occur, or so that every next word is as likely."""
  every = word_pairs(text, words)
  weights = 1 / np.bincount(every[:, 1])[every[:, 1]] if balanced else np.ones(len(every))
  rows = np.random.default_rng(seed).choice(len(every), size=count, p=weights / weights.sum())
  transformer = problems.Transformer(words, width=width, num_layers=1, num_heads=2, max_context=1)
  table = nn.Embed(words, words, embedding_init=nn.initializers.zeros)  # a row of logits for each word
  chosen, module = every[rows].astype(np.int32), table if model == 'linear' else transformer
  return problems.from_linen(module, (chosen[:, :1], chosen[:, 1:]), _next_loss, name='bigrams')


def _next_loss(logits, ids):
  return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, ids), axis=-1)


@methods.cell(over=lambda config: ['_'.join(kind) for kind in KINDS], when=asked('M12'))
def pairs(config, name: str, progress):
  """Full batch or Adam on bigrams as they occur or balanced, at every rate."""
  options, (model, kind, arm) = config.classes, name.split('_')
  sizes = options.words, config.race.width, options.pairs
  draw = functools.partial(bigrams, config.text, *sizes, model, kind == 'balanced')
  rates = options.network if (model, arm) == ('transformer', 'plain') else getattr(options, arm)
  grid = {'learning_rate': [*rates], **numbers(arm)}
  return at_all_rates(config, draw, descent(arm), grid, options.updates, 50, progress)


@methods.cell(when=asked('M13'))
def border(config, progress):
  """Full-batch Adam on a tanh network and 20 points: the preconditioned sharpness over its border, by beta_1."""
  options = config.border
  inputs = np.linspace(-1, 1, 20)[:, None]
  targets = np.polynomial.chebyshev.chebval(inputs, [0, 0, 0, 0, 0, 1])
  module = problems.MLP((options.hidden,), num_outputs=1, activation=jnp.tanh)
  problem = problems.from_linen(module, (inputs, targets), _square, name='Chebyshev')

  def make(learning_rate, b1, b2):
    return gdlab.algorithm(sampler=sampling.full_batch(), optimizer=optax.adam(learning_rate, b1=b1, b2=b2))

  run = gdlab.sweep(
    problem,
    make,
    {'b1': [*BETAS], 'learning_rate': [options.rate], 'b2': [options.b2]},
    num_steps=options.updates,
    seeds=config.seeds.ids,
    eval_every=max(1, options.updates // 100),
    probes={'sharpness': functools.partial(preconditioned_sharpness, options.b2)},
    progress=progress,
  )
  return run.squeeze(['learning_rate', 'b2'], drop=True)[['sharpness', 'train_loss', 'status']]


def _square(outputs, targets):
  return jnp.sum((outputs - targets) ** 2, axis=-1) / 2


def preconditioned_sharpness(b2: float, problem: Problem, state: gdlab.State):
  """The largest eigenvalue of P^-1/2 H P^-1/2, where Adam divides by P = sqrt(v / (1 - b2^t)) + eps; dense."""
  flat, unravel = ravel_pytree(state.params)
  mean_loss = lambda point: jnp.mean(problem.metrics(unravel(point), (), problem.train)['loss'])
  second = ravel_pytree(optax.tree.get(state.optimizer, 'nu'))[0]
  scale = (jnp.sqrt(second / (1 - b2 ** jnp.maximum(state.step, 1))) + 1e-8) ** -0.5
  return jnp.linalg.eigvalsh(jnp.outer(scale, scale) * jax.hessian(mean_loss)(flat))[-1]


@functools.cache
def in_half(init: Callable[[Key], tuple[PyTree, PyTree]]) -> Callable[[Key], tuple[PyTree, PyTree]]:
  """A problem's start in bfloat16: parameters, gradients and what the optimizer keeps then are."""
  half = lambda leaf: leaf.astype(jnp.bfloat16)
  return lambda key: (jax.tree.map(half, init(key)[0]), init(key)[1])


SMALL = [*itertools.product(('float32', 'bfloat16'), ('small', 'middle', 'large', 'fixed'))]


@methods.cell(over=lambda config: ['_'.join(kind) for kind in SMALL], when=asked('M14'))
def small(config, name: str, progress):
  """Adam on the digits at equal examples: beta_2 has the half-life in examples of the largest batch, or is `fixed`."""
  options, (dtype, kind) = config.small, name.split('_')
  size = options.batch_sizes[{'middle': 1, 'large': 2}.get(kind, 0)]
  b2 = options.b2 if kind == 'fixed' else options.b2 ** (size / options.batch_sizes[-1])
  whole, updates = digits(config.race.hidden), options.epochs * options.examples // size

  def draw(seed):
    problem = arms.drawn(whole, options.examples, 1437 - options.examples, 360, seed)
    return dataclasses.replace(problem, init=in_half(problem.init)) if dtype == 'bfloat16' else problem

  grid = {'learning_rate': [*options.learning_rates], 'b2': [b2]}
  runs = at_all_rates(config, draw, descent('adam', size, updates), grid, updates, 1, progress)
  return runs.assign_attrs(batch_size=size, b2=b2)


@functools.cache
def digits(hidden: tuple[int, ...]) -> Problem:
  """The digits, which `small` has whatever the images of the rest are."""
  return problems.digits(problems.MLP(hidden))
