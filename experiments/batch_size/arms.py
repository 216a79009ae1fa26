"""What is compared: benches with data drawn anew for every seed, their arms, and what tuning chooses for an arm."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import optax
import xarray as xr
from flax import linen as nn

from gdlab import problems, study, theory
from gdlab.core.types import Examples, Problem

WRONG = 1_000_000_000  # added to seeds that draw wrong labels, apart from those that draw images
LARGEST = 2**31 - 1  # of seeds
OPTIMIZERS = {
  'sgd': optax.sgd,
  'adam': optax.adam,
  'normalised': lambda rate: optax.chain(
    optax.normalize_by_update_norm(), optax.scale_by_learning_rate(rate)
  ),
}


@dataclasses.dataclass(frozen=True)
class Bench:
  """What the arms that are compared with one another share.

  Settings are tuned and runs stopped by validation images, labelled like the training ones; labels of test images are
  right. `small` and `large` are the batch sizes of the claims. Budgets are `epochs` (equal examples) and equal
  `updates`, with 0 none. Every arm tries all `settings`, pairs of a rate and a momentum. So many as `num_seeds`
  are run. Runs are also compared at the training loss `target`, with 0 at none.
  """

  name: str
  title: str
  dataset: str
  model: nn.Module
  noise: float
  num_train: int
  num_validation: int
  small: int
  large: int
  epochs: int
  updates: int
  settings: tuple[tuple[float, float], ...]
  num_seeds: int
  target: float

  def data(self, seed: int) -> Problem:
    """The examples of a seed: training and validation with as many wrong labels each, and right ones for the test."""
    return _labelled(*self._drawing, self.noise, seed)

  @property
  def _drawing(self) -> tuple[str, nn.Module, int, int]:
    return self.dataset, self.model, self.num_train, self.num_validation


class Arm(NamedTuple):
  """One batch size on one bench; with `ghost` BatchNorm sees so many examples together, else the whole batch."""

  bench: Bench
  batch_size: int
  ghost: int = 0

  def __str__(self) -> str:
    return f'{self.bench.name}_{"ghost" if self.ghost else "b"}{self.batch_size}'

  @property
  def label(self) -> str:
    """What tables and legends call it."""
    return f'B={self.batch_size}' + (f', ghosts of {self.ghost}' if self.ghost else '')

  @property
  def epoch(self) -> int:
    """Updates of a pass over the training set."""
    return theory.updates_per_epoch(self.bench.num_train, self.batch_size)

  @property
  def budgets(self) -> dict[str, int]:
    """Updates of equal examples and, where they are asked for, of equal updates."""
    equal = {'updates': self.bench.updates} if self.bench.updates else {}
    return {'epochs': self.bench.epochs * self.epoch} | equal


@functools.cache
def _whole(dataset: str, model: nn.Module) -> Problem:
  return {'digits': problems.digits, 'mnist': problems.mnist}[dataset](model)


@functools.lru_cache(maxsize=64)
def _drawn(dataset: str, model: nn.Module, train: int, validation: int, seed: int) -> Problem:
  """Digits: all images divided anew, those of the test as well. MNIST: drawn of the training set, all test images."""
  if dataset == 'mnist':
    return problems.split(_whole(dataset, model), validation=validation, train=train, seed=seed)
  return problems.redraw(problems.split(_whole(dataset, model), validation=validation, train=train), seed)


@functools.lru_cache(maxsize=64)
def _labelled(
  dataset: str, model: nn.Module, train: int, validation: int, noise: float, seed: int
) -> Problem:
  problem = _drawn(dataset, model, train, validation, seed)
  if not noise:
    return problem

  def wrong(examples: Examples, number: int) -> Examples:
    swapped = dataclasses.replace(problem, train=examples)
    own = (WRONG + 2 * seed + number) % LARGEST  # that of tuning seeds would be above it
    return problems.with_label_noise(swapped, noise, num_classes=10, seed=own).train

  return dataclasses.replace(problem, train=wrong(problem.train, 0), validation=wrong(problem.validation, 1))


def benches(config) -> dict[str, Bench]:
  """The perceptron's on right and on wrong labels, the CNN's, and that with BatchNorm, by name."""
  mlp, normed = (problems.MLP(features=config.hidden, batch_norm=norm) for norm in (False, True))
  cnn, noise = problems.CNN(features=config.cnn.features), config.label_noise
  made = (
    ('clean', 'perceptron, right labels', mlp, 0.0, config),
    ('noisy', f'perceptron, {100 * noise:.0f} % wrong labels', mlp, noise, config),
    ('cnn', 'CNN, right labels', cnn, 0.0, config.cnn),
    ('norm', 'perceptron with BatchNorm, right labels', normed, 0.0, config.norm),
  )
  sizes = config.num_train, config.num_validation, config.small_batch, config.large_batch
  return {
    name: Bench(
      *(name, title, config.dataset, model, share, *sizes, options.epochs, getattr(options, 'updates', 0)),
      tuple((rate, momentum) for momentum in options.momenta for rate in options.learning_rates),
      getattr(options, 'num_seeds', config.seeds.count),
      getattr(config.target, name, 0.0),
    )
    for name, title, model, share, options in made
  }


def pair(bench: Bench) -> tuple[Arm, Arm]:
  """The small and the large batch of the claims."""
  return Arm(bench, bench.small), Arm(bench, bench.large)


def tuned_arms(config) -> list[Arm]:
  """All that are tuned, on the benches that the configuration's claims need."""
  asked, found = {*config.claims}, benches(config)
  needed = {
    'clean': {'G1', 'G2', 'G3', 'G8'},
    'noisy': {'G1', 'G2', 'G3', 'G8'},
    'cnn': {'G1', 'G2'},
    'norm': {'G6'},
  }
  arms = [arm for name, claims in needed.items() if claims & asked for arm in pair(found[name])]
  return arms + ([Arm(found['norm'], config.large_batch, config.norm.ghost)] if 'G6' in asked else [])


def chooser(arm: Arm, kind: str, tuned: xr.Dataset) -> Callable[[np.ndarray], Any]:
  """The number of the setting as a function of the numbers of the tuning runs: that of the best validation accuracy.

  Of `epochs` and `updates` at the end of that budget; ties go to the lower validation loss. Of `matched` where the
  training loss first comes to the bench's target, and of `fastest` by the logarithm of the updates to there: settings
  with which a run does not are left out, and if none is left the one of the least loss is taken. Of `fit` the choice is
  by training loss after equal examples, as of someone who looks at nothing else.
  """
  if kind in ('matched', 'fastest'):
    there = at_target(tuned, arm.bench.target)
    value = -there.validation_accuracy if kind == 'matched' else np.log1p(there.updates)
    least = study.unless_failed(tuned, 'train_loss', np.inf).min('step')
    return study.chooser(value.where(there.train_loss.notnull(), np.inf), 'setting', least)
  end = tuned.sel(step=arm.budgets['epochs' if kind == 'fit' else kind])
  if kind == 'fit':
    return study.chooser(study.unless_failed(end, 'train_loss', np.inf), 'setting')
  # With BatchNorm by the statistics of all training examples, see `measure.probes`.
  name = 'population.validation_' if arm.bench.name == 'norm' else 'validation_'
  loss = study.unless_failed(end, name + 'loss', np.inf)
  return study.chooser(-study.unless_failed(end, name + 'accuracy', 0.0), 'setting', loss)


def at_target(runs: xr.Dataset, target: float) -> xr.Dataset:
  """The record of each run at which its training loss first is at most the target; NaN where it never is."""
  loss = study.unless_failed(runs, 'train_loss', np.inf)
  below = loss <= target
  first = runs.drop_vars('status').isel(step=below.argmax('step')).drop_vars('step')
  return first.where(below.any('step'))


def changes(config, way: str, method: str) -> tuple[list[int], float]:
  """Batch sizes of the three stages of a way, and by what the rate is multiplied where one ends.

  A batch grows at an unchanged rate for plain descent (G7), and for others at the rate over the square root of its
  growth (G9): a normalised update is rate * g / |g|, and where noise rules |g| falls as 1/sqrt B.
  """
  factor = config.growth.factor
  grown = factor if way in ('growth', 'unscaled') else 1
  decay = {'decay': 1 / factor, 'growth': 1.0 if method == 'sgd' else factor**-0.5}
  return [config.growth.batch_size * grown**stage for stage in range(3)], decay.get(way, 1.0)
