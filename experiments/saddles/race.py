"""Methods that start at the same saddles, each at every rate it tries: which leave, and after how many updates."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import optax
import xarray as xr

import gdlab
from experiments import clock
from experiments.saddles import places
from experiments.saddles.seeds import study_seeds, tuning_seeds
from gdlab import sampling, transforms
from gdlab.core.types import Algorithm

AT = ('full batch', 'B=1', 'mini-batch', 'large batch', 'perturbed', 'Langevin')
KEPT = (
  'full batch',
  'mini-batch',
  'Langevin',
)  # where batches have no noise along the steepest way down, or none
NEAR = ('full batch', 'momentum', 'Adam')
BETA = 0.9


class Start(NamedTuple):
  """What a group of arms has in common: where they start, and who they are."""

  place: str
  displaced: bool

  @property
  def name(self) -> str:
    """Of the cell."""
    return f'{"near" if self.displaced else "at"}_{self.place}'

  @property
  def arms(self) -> tuple[str, ...]:
    """The methods compared; fewer at saddles where batches are silent along the steepest way down."""
    if self.displaced:
      return NEAR
    return AT if self.place in places.KINDS['generic'] else KEPT


def starts(config) -> list[Start]:
  """All that are compared: at every saddle, and next to the generic ones."""
  at = [Start(name, False) for kind in places.KINDS for name in config.race[kind]]
  return at + [Start(name, True) for name in config.race.generic]


def batch_sizes(config, num_examples: int) -> dict[str, int]:
  """The batch size of each arm that draws one."""
  return {'B=1': 1, 'mini-batch': config.race.mini_batch, 'large batch': -(-num_examples // 2)}


@functools.cache  # one function for one arm, so that its program is compiled once
def maker(arm: str, batch_size: int, radius: float, temperature: float) -> Callable[..., Algorithm]:
  """The arm as a function of its learning rate."""
  sampler = sampling.reshuffle(batch_size) if batch_size else sampling.full_batch()
  optimizers = {
    'momentum': lambda rate: optax.sgd(rate, momentum=BETA),
    'Adam': optax.adam,
    # The gradient of a step of the radius, at most: what is smaller may be a saddle.
    'perturbed': lambda rate: transforms.perturbed_gradient_descent(rate, radius, radius, 20),
    'Langevin': lambda rate: optax.chain(optax.sgd(rate), transforms.langevin_noise(temperature, rate)),
  }
  optimizer = optimizers.get(arm, optax.sgd)
  return lambda learning_rate: gdlab.algorithm(sampler=sampler, optimizer=optimizer(learning_rate))


def rates(config, start: Start, arm: str, smoothness: float) -> list[float]:
  """The rates that an arm tries, equally many for all: in units of 1/L, but for Adam."""
  options = config.race
  if arm == 'Adam':
    return [float(rate) for rate in options.adam_rates]
  multiples = options.multiples
  if start.displaced:
    multiples = options.momentum_multiples if arm == 'momentum' else options.near_multiples
  return [float(multiple) / smoothness / finer(config, arm) for multiple in multiples]


def finer(config, arm: str) -> int:
  """How many times as many updates an arm makes as the others, at rates as many times as small.

  B=1 sees as many examples as the mini-batch arm, and goes as far; at the same rate its noise would hide the way down.
  """
  return config.race.mini_batch if arm == 'B=1' else 1


def num_updates(config, place: places.Place) -> int:
  """Updates in which full batch at rate 1/L grows by so many factors of e along the steepest of the ways down."""
  return min(config.race.most_updates, round(config.race.folds * place.smoothness / place.curvatures.max()))


def race(config, start: Start, saddles: xr.Dataset, *, progress) -> xr.Dataset:
  """All arms from one kind of start: when each run was down by a share of the fall, float[arm, rate, seed].

  Runs that diverge or stay are censored at the horizon. Tuning seeds are those from `TUNING_IDS`.
  """
  ids = tuning_seeds(config) + study_seeds(config)
  with jax.enable_x64(True):
    place = places.place(config, start.place, saddles)
    problem = places.starting(place, config.race.displacement if start.displaced else 0.0)
    horizon = num_updates(config, place)
    sizes = batch_sizes(config, problem.num_examples)
    columns = []
    for number, arm in enumerate(start.arms):
      make = maker(arm, sizes.get(arm, 0), config.race.radius, config.race.temperature)
      runs = gdlab.sweep(
        problem,
        make,
        {'learning_rate': rates(config, start, arm, place.smoothness)},
        num_steps=horizon * finer(config, arm),
        seeds=ids,
        eval_every=max(1, horizon * finer(config, arm) // config.race.evaluations),
      )
      columns.append(summarised(runs, place, config.race.drop))
      progress(number + 1, len(start.arms))
  sized = [sizes.get(arm, problem.num_examples) for arm in start.arms]
  return (
    xr.concat(columns, xr.Variable('arm', list(start.arms)), combine_attrs='drop')
    .assign(batch_size=('arm', sized), horizon=('arm', [horizon * finer(config, arm) for arm in start.arms]))
    .assign_attrs(
      num_examples=problem.num_examples,
      smoothness=float(place.smoothness),
      curvature=float(place.curvatures.max()),
      num_parameters=place.saddles.shape[1],
      num_saddles=len(place.saddles),
    )
  )


def summarised(runs: xr.Dataset, place: places.Place, drop: float) -> xr.Dataset:
  """When runs had fallen by a share of what there is to fall, and their loss then, in units of that."""
  loss = runs.train_loss.transpose('learning_rate', 'seed', 'step')
  first = loss.isel(step=0).values
  # A seed's saddle is the one whose loss it starts at; displaced, it differs by the displacement squared.
  which = np.abs(first[..., None] - place.values).argmin(axis=-1)
  fallen = (place.values[which][..., None] - loss.values) / place.falls[which][..., None]
  crossing = gdlab.statistics.first_crossing(runs.step.values, -fallen, -drop)
  curve = (
    np.linspace(0, loss.sizes['step'] - 1, 101).round().astype(int)
  )  # the same shares of the horizon for all
  dims = ('rate', 'seed')
  return xr.Dataset(
    {
      'learning_rate': ('rate', runs.learning_rate.values),
      'updates': (dims, crossing.time),
      'escaped': (dims, ~crossing.censored),
      'diverged': (
        dims,
        (runs.status.isel(step=-1) == gdlab.DIVERGED).transpose(*runs.learning_rate.dims, 'seed').values,
      ),
      'saddle': (dims, which),
      'fallen': ((*dims, 'time'), fallen[..., curve]),
    },
    {'seed': runs.seed.values, 'time': np.linspace(0, 1, 101)},
  )


def timing(config, saddles: xr.Dataset, *, progress) -> xr.Dataset:
  """Seconds of one update on the network, for all arms, in turn within each repeat."""
  repeats, updates = config.race.timing_repeats, config.race.timing_updates
  with jax.enable_x64(True):
    place = places.place(config, 'network', saddles)
    problem = places.starting(place, config.race.displacement)
    sizes = batch_sizes(config, problem.num_examples)
    arms = list(dict.fromkeys((*AT, *NEAR)))
    timers = [
      clock.loop_timer(
        maker(arm, sizes.get(arm, 0), config.race.radius, config.race.temperature)(0.01 / finer(config, arm)),
        problem,
      )
      for arm in arms
    ]
    for timer in timers:
      timer(1)  # compiles
    seconds = clock.in_turn(timers, [updates] * len(timers), repeats, progress)
  return xr.Dataset({'seconds': (('repeat', 'arm'), seconds)}, {'arm': arms})
