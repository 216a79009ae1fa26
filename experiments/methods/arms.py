"""What is compared: benches with examples drawn anew for every seed, and the arms with what they try."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gdlab
from gdlab import problems, sampling, schedules, transforms
from gdlab.core.errors import check_count
from gdlab.core.objective import take
from gdlab.core.types import Algorithm, Problem

BETA, B2 = 0.9, 0.999


class Arm(NamedTuple):
  """A method as a function of its traced numbers, and the name of the rates that it tries.

  All numbers are traced, as a beta_2 near 1 is less exact as a constant of the program; see `gdlab.sweep`.
  """

  make: Callable[..., optax.GradientTransformation]
  rates: str
  numbers: Mapping[str, float]
  scheduled: bool = False


def _shampoo(rate, decay):
  return optax.chain(
    transforms.shampoo(decay=decay, max_size=64), optax.trace(BETA), optax.scale_by_learning_rate(rate)
  )


ARMS = {
  'plain': Arm(optax.sgd, 'plain', {}),
  'heavy_ball': Arm(optax.sgd, 'momentum', {'momentum': BETA}),
  'nesterov': Arm(functools.partial(optax.sgd, nesterov=True), 'momentum', {'momentum': BETA}),
  'adagrad': Arm(optax.adagrad, 'adagrad', {}),
  'rmsprop': Arm(optax.rmsprop, 'adam', {'decay': 0.9}),
  'adam': Arm(optax.adam, 'adam', {'b2': B2}),
  'adamw': Arm(functools.partial(optax.adamw, weight_decay=0.01), 'adam', {'b2': B2}),
  'lion': Arm(functools.partial(optax.lion, weight_decay=0.0), 'sign', {'b2': 0.99}),
  'sign': Arm(optax.sign_sgd, 'sign', {}),
  'muon': Arm(optax.contrib.muon, 'matrix', {'beta': 0.95}),
  'shampoo': Arm(_shampoo, 'matrix', {'decay': 0.99}),
  'heavy_ball_cosine': Arm(optax.sgd, 'momentum', {'momentum': BETA}, scheduled=True),
  'adam_cosine': Arm(optax.adam, 'adam', {'b2': B2}, scheduled=True),
}
BENCHES = {
  'mlp': 'images, perceptron',
  'cnn': 'images, CNN',
  'transformer': 'text, transformer',
  'gru': 'text, GRU',
}
IMAGES, TEXTS = ('mlp', 'cnn'), ('transformer', 'gru')
ASKED = ('plain', 'heavy_ball', 'adam')  # by claims, on every bench; all are compared on the perceptron
ON = {
  'mlp': tuple(ARMS),
  'cnn': (*ASKED, 'heavy_ball_cosine', 'adam_cosine'),
  'transformer': ASKED,
  'gru': (*ASKED, 'rmsprop'),
}


def entries(config: Any) -> list[str]:
  """All that are compared, `bench_arm`."""
  del config
  return [f'{bench}_{arm}' for bench, names in ON.items() for arm in names]


def budget(config: Any, bench: str) -> tuple[int, int]:
  """Batch size and updates."""
  race = config.race
  return (race.batch_size, race.updates) if bench in IMAGES else (race.text_batch_size, race.text_updates)


@functools.cache
def descent(name: str, batch_size: int = 0, updates: int = 1) -> Callable[..., Algorithm]:
  """An arm as `gdlab.sweep` takes it, a function of the rate and of its own numbers; full batch without a size."""
  arm, sampler = ARMS[name], sampling.reshuffle(batch_size) if batch_size else sampling.full_batch()

  def make(learning_rate, **numbers) -> Algorithm:
    rate = schedules.cosine(learning_rate, updates) if arm.scheduled else learning_rate
    return gdlab.algorithm(sampler=sampler, optimizer=arm.make(rate, **numbers))

  return make


def grid(config: Any, arm: str) -> dict[str, list[float]]:
  """What an arm tries: its rates, and its own numbers at one value each."""
  return {'learning_rate': [*getattr(config.race, ARMS[arm].rates)]} | numbers(arm)


def numbers(arm: str) -> dict[str, list[float]]:
  """The arm's own numbers."""
  return {name: [value] for name, value in ARMS[arm].numbers.items()}


@functools.cache
def _images(name: str, model: Any) -> Problem:
  """Digits as they are; MNIST averaged over 2 x 2 pixels."""
  if name == 'digits':
    return problems.digits(model)
  whole = problems.mnist()

  def half(examples):
    images = np.asarray(examples.inputs).reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))
    return images, np.asarray(examples.targets)

  loss = optax.softmax_cross_entropy_with_integer_labels
  return problems.from_linen(
    model, half(whole.train), loss, test=half(whole.test), metrics={'accuracy': _hits}, name='mnist'
  )


def _hits(logits, labels):
  return (jnp.argmax(logits, axis=-1) == labels).astype(logits.dtype)


@functools.cache
def text(name: str, model: Any, context: int) -> Problem:
  """Windows of a text, of a model made of the number of characters; `functools.partial` of equal things is another."""
  return {'excerpt': problems.character_lm, 'shakespeare': problems.shakespeare}[name](model, context=context)


@functools.cache
def _models(race: Any) -> dict[str, Any]:
  """The networks of the benches."""
  return {
    'mlp': problems.MLP(race.hidden),
    'cnn': problems.CNN(race.features),
    'transformer': functools.partial(
      problems.Transformer, width=race.width, num_heads=2, max_context=race.context
    ),
    'gru': functools.partial(problems.GRU, width=race.width, num_layers=2),
  }


def shakespeare_path() -> pathlib.Path:
  """Where `gdlab.problems.shakespeare` looks."""
  return pathlib.Path(os.environ.get('GDLAB_DATA', ''), 'tinyshakespeare', 'input.txt')


def drawn(problem: Problem, train: int, validation: int, test: int, seed: int) -> Problem:
  """So many examples of the training set, others for validation, and some of the test set, as the seed draws them."""
  rng = np.random.default_rng(seed)
  count = jax.tree.leaves(problem.test)[0].shape[0]
  check_count('examples to train on and validate with', train + validation, maximum=problem.num_examples)
  check_count('examples to test with', test, maximum=count)
  order, held_out = rng.permutation(problem.num_examples), rng.permutation(count)[:test]
  parts = {
    'train': take(problem.train, jnp.asarray(order[:train])),
    'validation': take(problem.train, jnp.asarray(order[train : train + validation])),
    'test': take(problem.test, jnp.asarray(held_out)),
  }
  return dataclasses.replace(problem, **parts)


def data(config: Any, bench: str, seed: int, train: int | None = None) -> Problem:
  """The examples of a seed on a bench; with `train` so many to train on."""
  race, model = config.race, _models(config.race)[bench]
  if bench in IMAGES:
    return drawn(_images(config.images, model), train or race.train, race.validation, race.test, seed)
  held_out = race.text_held_out
  return drawn(text(config.text, model, race.context), race.text_train, held_out, held_out, seed)
