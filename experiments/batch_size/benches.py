"""The benches of the study: a data set split in three, a model, the batch sizes tried on it and their budgets."""

import dataclasses
import functools
from typing import NamedTuple

from gdlab import problems, sampling
from gdlab.core.errors import check_count, unknown_name
from gdlab.core.types import Examples, Problem, Sampler

TUNING_IDS = 1_000_000  # seeds for tuning start here, far from the study's
PROBLEMS = {'digits': problems.digits, 'mnist': problems.mnist}


class Data(NamedTuple):
  """A data set split.

  Attributes:
    problem: its training examples are the study's; test labels are right.
    validation: the examples that settings are tuned and runs are stopped by, labelled like those of training.
    alike: the test examples labelled like those of training: what a gap or a stopped loss is compared on.
  """

  problem: Problem
  validation: Examples
  alike: Examples


class Arm(NamedTuple):
  """One batch size on one bench.

  Attributes:
    name: of its cells.
    label: what tables and legends call it.
    batch_size: B.
    ghost: examples that BatchNorm sees together; 0 for the whole batch.
  """

  name: str
  label: str
  batch_size: int
  ghost: int = 0


class Bench(NamedTuple):
  """Arms that are compared with one another.

  Attributes:
    name: of its cells.
    title: what the page calls it.
    data: the problem.
    arms: the batch sizes.
    epochs: equal examples: passes over the training set.
    updates: equal updates.
    rates: learning rates, each tried with each momentum.
    momenta: with which every rate is tried.
    num_seeds: of each set that run on it, the first so many.
  """

  name: str
  title: str
  data: Data
  arms: tuple[Arm, ...]
  epochs: int
  updates: int
  rates: tuple[float, ...]
  momenta: tuple[float, ...]
  num_seeds: int

  @property
  def settings(self) -> tuple[tuple[float, float], ...]:
    """Every rate with every momentum."""
    return tuple((rate, momentum) for momentum in self.momenta for rate in self.rates)

  @property
  def num_examples(self) -> int:
    """Of the training set."""
    return self.data.problem.num_examples

  def budgets(self, batch_size: int) -> dict[str, int]:
    """Updates at equal examples and at equal updates."""
    per_epoch = -(-self.num_examples // batch_size)
    return {'epochs': self.epochs * per_epoch, 'updates': self.updates}

  def arm(self, name: str) -> Arm:
    """The arm of that name."""
    return next(arm for arm in self.arms if arm.name == name)


def benches(config) -> dict[str, Bench]:
  """The perceptron on right and on wrong labels, the CNN, and BatchNorm."""
  hidden, noise = tuple(config.hidden), config.label_noise
  mlp, normed = (problems.MLP(features=hidden, batch_norm=norm) for norm in (False, True))
  cnn = problems.CNN(features=tuple(config.cnn.features))
  wrong = f'{100 * noise:.0f} % wrong labels'
  labels = wrong if config.norm.wrong_labels else 'right labels'
  made = (
    _bench(config, 'clean', 'perceptron, right labels', make_data(config, mlp, 0.0), config),
    _bench(config, 'noisy', f'perceptron, {wrong}', make_data(config, mlp, noise), config),
    _bench(config, 'cnn', 'CNN, right labels', make_data(config, cnn, 0.0), config.cnn),
    _bench(
      config,
      'norm',
      f'perceptron with BatchNorm, {labels}',
      make_data(config, normed, noise if config.norm.wrong_labels else 0.0),
      config.norm,
      config.norm.ghost,
    ),
  )
  return {bench.name: bench for bench in made}


def _bench(config, name: str, title: str, data: Data, options, ghost: int = 0) -> Bench:
  full = data.problem.num_examples
  arms = [
    Arm(f'b{size}', 'full batch' if size == full else f'B={size}', size)
    for size in dict.fromkeys((*(size for size in options.batch_sizes if size < full), full))
  ]
  if ghost:
    arms.append(Arm(f'ghost{full}', f'full batch, ghosts of {ghost}', full, ghost))
  rates, momenta = tuple(config.learning_rates), tuple(options.momenta)
  return Bench(
    name, title, data, tuple(arms), options.epochs, options.updates, rates, momenta, options.num_seeds
  )


@functools.cache
def _split(dataset: str, model, noise: float, num_train: int, num_validation: int) -> Data:
  whole = PROBLEMS[dataset](model)
  alike = whole.test
  if noise:
    swapped = dataclasses.replace(whole, train=whole.test)
    alike = problems.with_label_noise(swapped, noise, num_classes=10, seed=1).train
    whole = problems.with_label_noise(whole, noise, num_classes=10)
  inputs, targets = whole.train
  check_count('num_train', num_train, minimum=2, maximum=len(targets) - num_validation)
  end = num_train + num_validation
  train = Examples(inputs[:num_train], targets[:num_train])
  validation = Examples(inputs[num_train:end], targets[num_train:end])
  return Data(dataclasses.replace(whole, train=train), validation, alike)


def make_data(config, model, noise: float) -> Data:
  """The data set split: the first training images train, the next validate; the test images stay as they are.

  Wrong labels are spread over both, as in data that one has; those of the test images are right, and a second copy of
  them has as many wrong ones.
  """
  if config.dataset not in PROBLEMS:
    raise unknown_name('dataset', config.dataset, PROBLEMS)
  return _split(config.dataset, model, float(noise), config.num_train, config.num_validation)


def sampler(batch_size: int, num_examples: int) -> Sampler:
  """Full batch or reshuffled mini-batches."""
  return sampling.full_batch() if batch_size == num_examples else sampling.reshuffle(batch_size)


def seeds(config, count: int | None = None) -> list[int]:
  """The ids of both sets of the study's seeds, or of the first so many of each."""
  return [first + place for first in config.first_seeds for place in range(count or config.num_seeds)]


def tuning_seeds(config) -> list[int]:
  """The ids of the seeds that settings are tuned with."""
  return list(range(TUNING_IDS, TUNING_IDS + config.num_tuning_seeds))
