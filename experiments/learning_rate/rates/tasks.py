"""What is trained under schedules, and the schedules: all fixed ones in one program, a row of a table for each."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gdlab
from experiments.learning_rate.rates import exact
from gdlab import problems, sampling, schedules
from gdlab.core.types import Algorithm, Examples, Problem, State

WRONG = 1_000_000_000  # added to seeds that draw wrong labels, apart from those that draw images
TASKS = ('regression', 'logistic', 'network')
ARMS = ('fixed', 'plateau', 'schedule-free', 'Prodigy')
DIMENSION = 16  # of the regression
# By the number of updates T, from 1 at the start.
SCHEDULES: dict[str, Callable[[int], Callable[[Any], Any]]] = {
  'constant': lambda last: optax.constant_schedule(1.0),
  '1/sqrt t': lambda last: schedules.robbins_monro(1.0, 0.5),
  'cooldown': lambda last: schedules.constant_then_linear(1.0, last, 0.2),
  'cosine': lambda last: schedules.cosine(1.0, last),
  'linear': lambda last: schedules.linear(1.0, last),
  'step': lambda last: schedules.step_decay(1.0, 0.1, boundaries=(last // 2, 3 * last // 4)),
  'exponential': lambda last: schedules.exponential_per_epoch(1.0, 0.01, last, staircase=False),
  'linear, for T/2': lambda last: schedules.linear(1.0, last // 2),
  'linear, for 2T': lambda last: schedules.linear(1.0, 2 * last),
}
BOUNDED = ('constant', '1/sqrt t', 'cooldown', 'cosine', 'linear')  # that L14 ranks
FIXED = (*BOUNDED, 'step', 'exponential')  # made for the right horizon
ABSOLUTE = exact.regression(1)


def ids(config) -> list[int]:
  """The graded seeds of training."""
  return config.seeds.ids[: config.rates.num_seeds]


def for_tuning(config) -> list[int]:
  """Its tuning seeds."""
  return config.seeds.for_tuning[: config.rates.num_tuning]


def factors(num_steps: int) -> np.ndarray:
  """All schedules, float32[schedule, step]."""
  return np.stack(
    [jax.vmap(make(num_steps))(jnp.arange(num_steps)) * jnp.ones(num_steps) for make in SCHEDULES.values()]
  )


@functools.lru_cache(maxsize=64)
def task(
  name: str, dataset: str, train: int, validation: int, noise: float, hidden: tuple, seed: int
) -> Problem:
  """A stream of regression with absolute errors, or images drawn anew for a seed, some of their labels wrong."""
  if name == 'regression':
    return problems.from_function(ABSOLUTE, np.zeros(DIMENSION), num_draws=1024, name='absolute regression')
  given = whole(dataset, hidden if name == 'network' else ())
  drawn = problems.redraw(problems.split(given, validation=validation, train=train), seed)
  return problems.with_label_noise(drawn, noise, num_classes=10, seed=WRONG + seed)


@functools.cache
def whole(dataset: str, hidden: tuple[int, ...], scale: float = 1.0) -> Problem:
  """All images, their values multiplied by a number."""
  given = {'digits': problems.digits, 'mnist': problems.mnist}[dataset](problems.MLP(features=hidden))
  if scale == 1:
    return given
  scaled = lambda examples: Examples(scale * examples.inputs, examples.targets)
  return dataclasses.replace(given, train=scaled(given.train), test=scaled(given.test))


@functools.cache
def method(arm: str, batch_size: int, num_steps: int, patience: int, metric: str) -> Callable[..., Algorithm]:
  """An arm as a function of its rate and, of `fixed`, of the number of its schedule."""
  sampler, rows = sampling.reshuffle(batch_size), factors(num_steps)

  def fixed(schedule, learning_rate):
    row = jnp.asarray(rows)[jnp.asarray(schedule, jnp.int32)]
    return gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(lambda count: learning_rate * row[count]))

  def free(learning_rate):
    optimizer = {
      'plateau': lambda: optax.chain(
        optax.sgd(learning_rate), schedules.reduce_on_plateau(0.1, patience, metric=metric)
      ),
      'schedule-free': lambda: optax.contrib.schedule_free_sgd(learning_rate),
      'Prodigy': lambda: optax.contrib.prodigy(learning_rate),
    }[arm]()
    return gdlab.algorithm(sampler=sampler, optimizer=optimizer)

  return fixed if arm == 'fixed' else free


def scale(problem: Problem, state: State) -> jax.Array:
  """A probe: by what a plateau rule multiplies the updates."""
  del problem
  return optax.tree.get(state.optimizer, 'scale')
