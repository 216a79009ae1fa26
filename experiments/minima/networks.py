"""What is measured on networks: forks of one run, added noise (on a landscape as well), and networks of many widths.

Every seed has images of its own, drawn anew: what varies over seeds is a sample of data, too.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jax.flatten_util import ravel_pytree

import gdlab
from gdlab import analysis, problems, sampling, schedules, statistics, study, theory, transforms
from gdlab.core.objective import take
from gdlab.core.types import Algorithm, Array, Key, Problem, PyTree
from gdlab.host.progress import Progress

DATASETS = {'digits': problems.digits, 'mnist': problems.mnist}
IMAGES = {'digits': 1797, 'mnist': 60_000}  # that training and validation images are drawn from
HELD_OUT = 400  # images that levels and rates of noise are chosen on
SCHEDULES = ('constant', 'annealed')
FORKS = ('early', 'late')
ARMS = ('start', 'full', 'perturbed', 'mini', 'single', 'hot', 'cooled', 'other')  # see `forked`
PERTURBATION = 1e-3  # of the parameters' norm
ORDERS = ('barrier', 'aligned')  # between networks as they are, and with the hidden units of one reordered
NUM_CLASSES = 10
MOMENTUM = 0.9


@functools.cache
def whole(dataset: str, hidden: int) -> Problem:
  """A network with one hidden layer, on all images."""
  return DATASETS[dataset](problems.MLP(features=(hidden,)))


def drawn(dataset: str, hidden: int, images: int, seed: int, held_out: int = 0) -> Problem:
  """The network on so many training images drawn anew, others held out for validation, and a test set.

  Of the digits all others are for the test. MNIST has 10,000 of its own, and at least one image is held out there.
  """
  problem = whole(dataset, hidden)
  if dataset == 'mnist':
    return problems.split(problem, validation=max(1, held_out), train=images, seed=seed)
  pooled = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), problem.train, problem.test)
  places = np.split(np.arange(IMAGES[dataset]), [images, images + held_out])
  train, validation, test = (take(pooled, jnp.asarray(part)) if part.size else None for part in places)
  return problems.redraw(
    dataclasses.replace(problem, train=train, validation=validation, test=test), seed=seed
  )


def final_loss(runs: xr.Dataset) -> xr.DataArray:
  """The training loss after the last update; infinite where a run has diverged."""
  return study.unless_failed(runs.isel(step=-1), 'train_loss', np.inf)


def rate_choosers(tuned: xr.Dataset) -> dict[str, Callable[[np.ndarray], float]]:
  """The rate of the least mean training loss, as a function of the numbers of the tuning runs.

  In forks that of mini-batches and that of single examples, each its own; of networks of many widths one rate for all,
  by the mean logarithm of the loss, so that widths differ in nothing else.
  """
  losses = final_loss(tuned)
  if 'hidden' in losses.dims:
    return {'rate': study.chooser(xr.apply_ufunc(np.log, losses).mean('hidden'), 'learning_rate')}
  sizes = {'mini': losses.batch_size.values.max(), 'single': 1}
  return {arm: study.chooser(losses.sel(batch_size=size), 'learning_rate') for arm, size in sizes.items()}


def stochastic(learning_rate, batch_size: int) -> Algorithm:
  """Plain descent on reshuffled batches; of 0 examples: on all."""
  sampler = sampling.reshuffle(batch_size) if batch_size else sampling.full_batch()
  return gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(learning_rate))


def fork_tuning(config, *, progress: Progress) -> xr.Dataset:
  """Single examples and mini-batches at every rate, with the tuning seeds, at equal examples."""
  options = config.fork
  grid = {'learning_rate': options.learning_rates, 'batch_size': [1, options.batch_size]}
  end = lambda batch_size: options.tuning_epochs * theory.updates_per_epoch(options.images, batch_size)
  data = lambda seed: drawn(config.dataset, options.hidden, options.images, seed)
  seeds, own = config.ids(options.num_tuning_seeds, tuning=True), {'num_steps': end, 'eval_every': 2**30}
  return study.sweep_anew(data, stochastic, grid, seeds=seeds, progress=progress, **own)


@functools.partial(jax.jit, static_argnames='batch_size')
def descended(
  problem: Problem, params: PyTree, key: Key, rate: Array, num_steps: Array, batch_size: int
) -> PyTree:
  """The parameters after so many updates of plain descent."""
  method = stochastic(rate, batch_size)
  state = method.init(key, problem, params)
  return jax.lax.fori_loop(0, num_steps, lambda _, state: method.step(state, problem)[0], state).params


def perturbed(params: PyTree, key: Key) -> PyTree:
  """Parameters moved in a random direction by a thousandth of their norm."""
  flat, unravel = ravel_pytree(params)
  direction = jax.random.normal(key, flat.shape)
  return unravel(flat + PERTURBATION * jnp.linalg.norm(flat) / jnp.linalg.norm(direction) * direction)


def forked(problem: Problem, options, seed: int, after: int, mini: float, single: float) -> xr.Dataset:
  """Where the arms of one fork end: losses, and the barriers on the lines to the end of full batch.

  A network is trained with mini-batches for `after` updates. From there (`start`) it goes on with full batch, with full
  batch and a tiny perturbation, with mini-batches at the same rate, and with single examples, `single` at a rate of
  their own and `hot` at that of mini-batches, all for the same time (rate times updates). `cooled` goes on from `hot`
  with single examples at their own rate, for as long again; `other` is full batch from another initialisation. Each arm
  then settles on full batch, so that its end is in a valley and not held above it by noise.
  """
  key, *keys = jax.random.split(study.keys([seed])[0], 8)
  go = functools.partial(descended, problem)
  start, other = (go(problem.init(each)[0], key, mini, after, options.batch_size) for each in keys[:2])
  steps, many = options.updates, round(options.updates * mini / single)
  hot = go(start, keys[4], mini, steps, 1)
  ends = {
    'full': start,
    'perturbed': perturbed(start, keys[2]),
    'mini': go(start, keys[3], mini, steps, options.batch_size),
    'single': go(start, keys[4], single, many, 1),
    'hot': hot,
    'cooled': go(hot, keys[5], single, many, 1),
    'other': other,
  }
  still = ('full', 'perturbed', 'other')  # noise has not had its time yet
  settled = {
    arm: go(params, key, mini, options.settle + steps * (arm in still), 0) for arm, params in ends.items()
  } | {'start': start}
  lines = {
    arm: analysis.interpolate(problem, settled['full'], settled[arm], num_points=options.points)
    for arm in ARMS
    if arm != 'full'
  }
  losses = {arm: float(line.train_loss[-1]) for arm, line in lines.items()}
  losses['full'] = float(lines['start'].train_loss[0])
  values = {
    'loss': ('arm', [np.nan_to_num(losses[arm], nan=np.inf) for arm in ARMS]),
    'barrier': ('arm', [float(lines[arm].train_barrier) if arm in lines else 0.0 for arm in ARMS]),
  }
  return xr.Dataset(values, {'arm': list(ARMS)})


def fork(config, tuned: xr.Dataset, *, progress: Progress) -> xr.Dataset:
  """Forks of a network that fits little yet and of one that is trained, at all likely rates: [choice, seed, fork]."""
  options, choosers = config.fork, rate_choosers(tuned).values()
  made = [*statistics.likely(lambda runs: tuple(each(runs) for each in choosers), tuned.sizes['seed'])]
  ids, rows = config.ids(options.num_seeds), []
  for seed in ids:
    problem = drawn(config.dataset, options.hidden, options.images, seed)
    found = [
      xr.concat([forked(problem, options, seed, after, *rates) for rates in made], 'choice')
      for after in (options.early, options.late)
    ]
    rows.append(xr.concat(found, xr.Variable('fork', list(FORKS))))
    progress(len(rows), len(ids))
  rates = {
    name: ('choice', [each[k] for each in made]) for k, name in enumerate(('mini_rate', 'single_rate'))
  }
  return xr.concat(rows, xr.Variable('seed', ids)).assign_coords(rates)


@functools.cache
def langevin(num_steps: int) -> Callable[..., Algorithm]:
  """Full batch with Langevin noise of a temperature, constant or falling on a line to 0."""

  def make(learning_rate, level, schedule: str) -> Algorithm:
    heat = (lambda count: level * (1 - count / num_steps)) if schedule == 'annealed' else level
    optimizer = optax.chain(optax.sgd(learning_rate), transforms.langevin_noise(heat, learning_rate))
    return gdlab.algorithm(sampler=sampling.full_batch(), optimizer=optimizer)

  return make


def _noisy(config, where: str, ids: Sequence[int], progress: Progress) -> xr.Dataset:
  """Every level of noise, constant and annealed, at one rate and as many updates: [trial, seed]."""
  options, few = config.doses[where], config.dose_network
  table = [*zip(*itertools.product(SCHEDULES, options.levels), strict=True)]
  points = {'schedule': list(table[0]), 'level': list(table[1])}
  points['learning_rate'] = [options.learning_rate] * len(table[0])
  own = {'points': points, 'num_steps': options.updates, 'eval_every': options.updates, 'progress': progress}
  if where == 'landscape':  # from starts three to four ripples away from its minimum in every coordinate
    problem = problems.landscapes.rastrigin(config.dose.dim, start=[3.3] * config.dose.dim, initial_scale=0.5)
    return gdlab.sweep(problem, langevin(options.updates), seeds=ids, **own)
  data = lambda seed: drawn(config.dataset, few.hidden, few.num_examples, seed, HELD_OUT)
  return study.sweep_anew(data, langevin(options.updates), seeds=ids, **own)


def dose_tuning(config, where: str, *, progress: Progress) -> xr.Dataset:
  """Every level with the tuning seeds, on which an arm's level is chosen."""
  return _noisy(config, where, config.ids(config.doses[where].num_tuning_seeds, tuning=True), progress)


def dose(config, where: str, *, progress: Progress) -> xr.Dataset:
  """Every level with the graded seeds."""
  return _noisy(config, where, config.ids(config.doses[where].num_seeds), progress)


def outcome(runs: xr.Dataset, images: str = 'test') -> xr.DataArray:
  """What noise is to lower: the landscape's loss, or the network's error; a failed run has the worst there is."""
  if 'test_accuracy' in runs:
    return 1 - study.unless_failed(runs.isel(step=-1), f'{images}_accuracy', 0.0)
  return final_loss(runs)


def trial_chooser(tuned: xr.Dataset, schedule: str, levels: Sequence[float]) -> Callable[[np.ndarray], int]:
  """The trial of the least mean among a schedule's at some levels; of equal ones that of the least noise."""
  mine = (tuned.schedule == schedule) & np.isin(tuned.level, levels)
  return study.chooser(outcome(tuned, 'validation').isel(trial=np.flatnonzero(mine.values)), 'trial')


def dose_choosers(tuned: xr.Dataset) -> dict[str, Callable[[np.ndarray], int]]:
  """How the trial of every arm of N4 is chosen.

  The best level is chosen among all but none and the largest, which it is compared with: no arm meets itself.
  """
  levels, level = np.unique(tuned.level).tolist(), tuned.level
  at = functools.partial(trial_chooser, tuned)
  arms = {
    'zero': at('constant', levels[:1]),
    'best': at('constant', levels[1:-1]),
    'most': at('constant', levels[-1:]),
    'annealed': at('annealed', levels[1:]),
    'most annealed': at('annealed', levels[-1:]),
  }
  same = {each: at('annealed', [each]) for each in levels[1:-1]}
  arms['best annealed'] = lambda runs: same[float(level.sel(trial=arms['best'](runs)))](runs)
  return arms


@functools.cache
def decayed(batch_size: int, num_steps: int) -> Callable[..., Algorithm]:
  """Descent with momentum whose rate falls on a line to 0, so that runs end in a minimum and not in noise."""

  def make(learning_rate) -> Algorithm:
    optimizer = optax.sgd(schedules.linear(learning_rate, num_steps), momentum=MOMENTUM)
    return gdlab.algorithm(sampler=sampling.reshuffle(batch_size), optimizer=optimizer)

  return make


def _decayed(config) -> tuple[Callable[..., Algorithm], dict[str, Any]]:
  """The method of networks of all widths, and when a run of it ends."""
  options = config.widths
  last = options.epochs * theory.updates_per_epoch(options.images, options.batch_size)
  return decayed(options.batch_size, last), {'num_steps': last, 'eval_every': last}


def width_tuning(config, *, progress: Progress) -> xr.Dataset:
  """Networks of every width at every rate, with the tuning seeds: [hidden, rate, seed]."""
  (make, own), options, groups = _decayed(config), config.widths, []
  for width in options.hidden:
    data = functools.partial(drawn, config.dataset, width, options.images)
    grid = {'learning_rate': options.learning_rates}
    groups.append(study.sweep_anew(data, make, grid, seeds=config.seeds.for_tuning, **own))
    progress(len(groups), len(options.hidden))
  return xr.concat(groups, xr.Variable('hidden', list(options.hidden)), combine_attrs='override')


def width(config, width: int, tuned: xr.Dataset, *, progress: Progress) -> xr.Dataset:
  """Networks of one width at the likely rates, a group for every draw of the data: their ends, lines, and ensemble.

  Within a group the data and their order are the same, and only initial parameters differ.
  """
  (make, own), rows = _decayed(config), []
  rates = [*statistics.likely(rate_choosers(tuned)['rate'], tuned.sizes['seed'])]
  seeds = config.ids(config.draws(width))
  for seed in seeds:
    problem = drawn(config.dataset, width, config.widths.images, seed)
    order = [seed] * config.members
    ids = {'init': config.inits(seed), 'order': order, 'noise': order}
    grid = {'learning_rate': rates}
    runs = gdlab.sweep(problem, make, grid, seeds=ids, progress=False, keep='params', **own)
    found = [group(problem, runs.sel(learning_rate=rate), config.widths.points) for rate in rates]
    rows.append(xr.concat(found, xr.Variable('learning_rate', rates)))
    progress(len(rows), len(seeds))
  return xr.concat(rows, xr.Variable('seed', seeds))


def group(problem: Problem, runs: xr.Dataset, points: int) -> xr.Dataset:
  """The ends of networks on the same data; the barriers between 0 and 1, 2 and 3, ...; all averaged as an ensemble.

  A network that diverged has infinite losses and barriers, and predicts every class alike.
  """
  params = [gdlab.kept_params(problem, runs.isel(seed=place))[0] for place in range(runs.sizes['seed'])]
  losses = final_loss(runs).values
  good = np.isfinite(losses)
  barriers = np.full((len(ORDERS), len(params) // 2), np.inf)
  for pair in np.flatnonzero(good.reshape(-1, 2).all(axis=1)):
    first, second = params[2 * pair : 2 * pair + 2]
    for kind, other in enumerate((second, analysis.align(problem, first, second).params)):
      barriers[kind, pair] = analysis.interpolate(problem, first, other, num_points=points).train_barrier
  chances = np.stack([_probabilities(problem, each) for each in params])
  chances = np.where(good[:, None, None], chances, 1 / NUM_CLASSES)
  labels = np.asarray(problem.test.targets)
  together = {f'ensemble_{name}': value for name, value in scores(chances.mean(axis=0), labels).items()}
  each = {name: ('network', values) for name, values in scores(chances, labels).items()}
  own = {'loss': ('network', losses)} | {name: ('pair', barriers[kind]) for kind, name in enumerate(ORDERS)}
  return xr.Dataset(own | each | together)


@jax.jit
def _probabilities(problem: Problem, params: PyTree) -> Array:
  """float[test example, class]: the cross-entropy of a label is minus the logarithm of its probability."""
  own = lambda label: problem.test._replace(targets=jnp.full(len(problem.test.inputs), label))
  losses = lambda label: problem.metrics(params, (), own(label))['loss']
  return jnp.exp(-jax.vmap(losses)(jnp.arange(NUM_CLASSES))).T


def scores(chances: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
  """Test error and mean negative log-likelihood of probabilities float[..., example, class]."""
  own = np.maximum(chances[..., np.arange(len(labels)), labels], 1e-30)
  return {'error': (chances.argmax(-1) != labels).mean(-1), 'nll': -np.log(own).mean(-1)}
