r"""What is measured: descent between two valleys, escape from one, added noise, networks of many widths.

On the landscapes example i has the loss $U(x) + \xi_i x$ with $\sum_i \xi_i = 0$ and $\sum_i \xi_i^2 = N\sigma^2$. The
mean loss is U exactly, so full batch is descent on U, and a batch of B has a gradient of variance $\sigma^2/B$.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
import xarray as xr

import gdlab
from gdlab import analysis, problems, sampling, schedules, study, theory, transforms
from gdlab.core.types import Algorithm, Array, Examples, Problem, PyTree
from gdlab.host.progress import Progress

DATASETS = {'digits': problems.digits, 'mnist': problems.mnist}
IMAGES = {'digits': 1437, 'mnist': 60_000}  # for training
ARMS = ('single', 'mini', 'rescued')  # see `trap`
SCHEDULES = ('constant', 'annealed')
ORDERS = ('as they are', 'aligned')
NUM_CLASSES = 10
MOMENTUM = 0.9


@functools.cache
def landscape(name: str) -> Problem:
  """A tilted double well, a sharp good valley beside a flat poor one, or a symmetric double well."""
  if name == 'sharp':
    return problems.landscapes.two_valleys(1, curvatures=(25.0, 1.0), depths=(1.25, 1.0))
  return problems.landscapes.double_well(1, depth=1.0, tilt={'tilted': 0.45, 'symmetric': 0.0}[name])


def ridge(name: str) -> list[list[float]]:
  """The lower minimum of a landscape, the ridge, and the other minimum: place, height and curvature of each."""
  found: Any = landscape(name).known.stationary_points
  rows = np.stack([found.params[:, 0], found.values, found.eigenvalues[:, 0]], axis=1).astype(float).tolist()
  good, poor, top = sorted(rows, key=lambda row: (row[2] < 0, row[1]))
  return [good, top, poor]


def height(name: str) -> float:
  """The height of the ridge above the poor minimum."""
  _, top, poor = ridge(name)
  return top[1] - poor[1]


@functools.cache
def with_data(name: str, start: float, scale: float, variance: float, num_examples: int) -> Problem:
  """A landscape with examples, quantiles of a Gaussian of that variance; runs start from N(start, scale^2)."""
  value = problems.value_fn(landscape(name))
  draws = scipy.stats.norm.ppf((np.arange(num_examples) + 0.5) / num_examples)
  draws *= np.sqrt(variance / np.mean(draws**2))
  return problems.from_function(
    lambda params, example: value(params) + example * params[0],
    lambda key: start + scale * jax.random.normal(key, (1,)),
    data=jnp.asarray(draws, jnp.float32),
    name=f'{name} valleys with {num_examples} examples',
  )


def passages(near: float, far: float) -> optax.GradientTransformationExtraArgs:
  """Notes when the coordinate first reaches `far`, and after that `near`; last in a chain, changes nothing.

  Its state is int32[3]: updates made, the update that first reached `far` and the one that then got back, 0 before.
  """
  side = 1.0 if far > near else -1.0

  def init(params: PyTree) -> Array:
    return jnp.zeros(3, jnp.int32)

  def update(updates: PyTree, state: Array, params: PyTree = None, **extra_args):
    place, (step, reached, returned) = params[0] + updates[0], state + jnp.array([1, 0, 0])
    reached = jnp.where((reached == 0) & (side * (place - far) >= 0), step, reached)
    returned = jnp.where((reached > 0) & (returned == 0) & (side * (place - near) <= 0), step, returned)
    return updates, jnp.stack([step, reached, returned])

  return optax.GradientTransformationExtraArgs(init, update)


STATE = {'reached': 1, 'returned': 2}
PROBES = {name: lambda problem, state, at=at: state.optimizer[1][at] for name, at in STATE.items()}


@functools.cache
def descent(near: float, far: float, num_examples: int, replacement: bool) -> Callable[..., Algorithm]:
  """Plain descent, watched on its way from one minimum to the other, as a function of rate and batch size."""

  def make(learning_rate, batch_size: int) -> Algorithm:
    draw = sampling.with_replacement if replacement else sampling.reshuffle
    sampler = sampling.full_batch() if batch_size == num_examples else draw(batch_size)
    optimizer = optax.chain(optax.sgd(learning_rate), passages(near, far))
    return gdlab.algorithm(sampler=sampler, optimizer=optimizer)

  return make


# Cells that leave a valley: the landscape, whether runs start in its poor valley, and whether they draw examples with
# replacement; else they reshuffle them.
STARTS = {
  'poor': ('tilted', True, True),
  'poor_reshuffled': ('tilted', True, False),
  'good': ('tilted', False, True),
  'sharp': ('sharp', False, False),
  'sharp_replaced': ('sharp', False, True),
}


def _valley(options, name: str) -> tuple[Problem, Callable[..., Algorithm], tuple[int, ...]]:
  """The problem of a cell, descent on it, and the batch sizes tried."""
  which, poor, replacement = STARTS[name]
  near, _, far = (place for place, _, _ in ridge(which)[:: -1 if poor else 1])
  size, rate = options.mini_batch, options.learning_rate
  variance = options.temperature(size, rate) / theory.effective_temperature(rate, 1.0, size)
  problem = with_data(which, near, options.start_scale, float(variance), options.num_examples)
  sizes = (*options.batch_sizes, options.num_examples) if poor else (1, options.mini_batch)
  return problem, descent(near, far, options.num_examples, replacement), sizes


def clock(config, *, progress: Progress) -> xr.Dataset:
  """Seconds of an update on the double well at every batch size."""
  problem, make, sizes = _valley(config.valleys, 'poor')
  arms = {size: make(config.valleys.learning_rate, size) for size in sizes}
  return xr.Dataset({'seconds_per_update': study.time_updates(arms, problem, 'batch_size')})


def leave(config, name: str, *, progress: Progress) -> xr.Dataset:
  """Descent from one valley of a landscape at every batch size and rate."""
  options = config.valleys
  problem, make, sizes = _valley(options, name)
  grid = {'learning_rate': options.learning_rates, 'batch_size': sizes}
  last = options.updates + (0 if STARTS[name][1] else options.return_updates)
  own = {'eval_every': max(1, last // options.records), 'probes': PROBES, 'progress': progress}
  return gdlab.sweep(problem, make, grid, num_steps=last, seeds=config.ids(options.num_seeds), **own)


def mean_times(over: float, rate: float, num: int = 1200) -> dict[str, float]:
  r"""The mean time from one well of the symmetric landscape to the other, where the ridge is `over` times T high.

  By Kramers' formula, for T far below the ridge, and exactly, of descent as a chain, $x' = x - \alpha U'(x) +
  N(0, 2\alpha T)$: the updates until the end solve $\tau(x) = 1 + \int \tau(x')\,p(x' \mid x)\,dx'$, by the midpoint
  rule on `num` cells narrower than a step's noise, up from a wall so far behind the start that it is never reached.
  """
  (start, _, bottom), (_, _, top), (end, _, _) = ridge('symmetric')
  heat = height('symmetric') / over
  edges = np.linspace(start - 1.1 * (end - start) / 2, end, num + 1)
  x, width = (edges[1:] + edges[:-1]) / 2, abs(edges[1] - edges[0])
  law = scipy.stats.norm(x - rate * 4 * x * (x**2 - 1), np.sqrt(2 * rate * heat))
  updates = np.linalg.solve(np.eye(num) - law.pdf(x[:, None]).T * width, np.ones(num))
  order = np.argsort(x)
  kramers = 1 / float(theory.kramers_rate(bottom, -top, height('symmetric'), heat))
  return {'mean_kramers': kramers, 'mean_chain': rate * float(np.interp(start, x[order], updates[order]))}


def escape(config, batch_size: int, *, progress: Progress) -> xr.Dataset:
  """First passages at every temperature with one batch size; a single example at the main rate has the highest."""
  options, (start, _, end), least = config.escape, ridge('symmetric'), min(config.escape.barriers)
  variance = float(height('symmetric') / least / theory.effective_temperature(options.learning_rate, 1.0, 1))
  problem = with_data('symmetric', start[0], 1e-6, variance, options.num_examples)
  make = descent(start[0], end[0], options.num_examples, True)
  ids, rows = config.ids(options.num_seeds), []
  for place, over in enumerate(options.barriers):
    rate = options.learning_rate * batch_size * least / over
    known = mean_times(over, rate)
    # Streams of their own for every temperature and batch size: runs that share the draws escape together, and
    # their mean over temperatures would be hardly better than one temperature's.
    stream = 1 + len(options.barriers) * options.batch_sizes.index(batch_size) + place
    order = [seed + config.streams * stream for seed in ids]
    seeds = {'init': ids, 'order': order, 'noise': order}
    last = max(2, round(options.horizon * known['mean_chain'] / rate))
    grid = {'learning_rate': [rate], 'batch_size': [batch_size]}
    runs = gdlab.sweep(problem, make, grid, num_steps=last, seeds=seeds, eval_every=last, probes=PROBES)
    reached = runs.reached.isel(learning_rate=0, batch_size=0, step=-1).values
    values = {'time': ('seed', rate * np.where(reached, reached, last)), 'censored': ('seed', reached == 0)}
    rows.append(xr.Dataset(values | known, {'seed': ids}))
    progress(place + 1, len(options.barriers))
  return xr.concat(rows, xr.Variable('barrier', list(options.barriers)))


@functools.cache
def network(dataset: str, hidden: int, images: int | None = None, validation: bool = False) -> Problem:
  """A network with one hidden layer, on all or a few training images; for validation it is tested on others of them."""
  made = DATASETS[dataset](problems.MLP(features=(hidden,)))
  if images is None:
    return made
  parts = slice(images), slice(images, 10 * images)
  train, rest = (Examples(*(leaf[part] for leaf in made.train)) for part in parts)
  return dataclasses.replace(made, train=train, test=rest if validation else made.test)


@functools.cache
def langevin(num_steps: int) -> Callable[..., Algorithm]:
  """Full batch with Langevin noise of a temperature, constant or falling on a line to 0."""

  def make(learning_rate, level, schedule: str) -> Algorithm:
    heat = (lambda count: level * (1 - count / num_steps)) if schedule == 'annealed' else level
    optimizer = optax.chain(optax.sgd(learning_rate), transforms.langevin_noise(heat, learning_rate))
    return gdlab.algorithm(sampler=sampling.full_batch(), optimizer=optimizer)

  return make


def _noisy(config, where: str, tuning: bool, count: int, progress: Progress, **points) -> xr.Dataset:
  few, dim, last = config.dose_network, config.dose.dim, config.doses[where].updates
  problem = network(config.dataset, few.hidden, few.num_examples, tuning)
  if where == 'landscape':  # from starts three to four ripples away from its minimum in every coordinate
    problem = problems.landscapes.rastrigin(dim, start=[3.3] * dim, initial_scale=0.5)
  points |= {'seeds': config.ids(count, tuning), 'progress': progress}
  return gdlab.sweep(problem, langevin(last), num_steps=last, eval_every=last, **points)


def dose_tuning(config, where: str, *, progress: Progress) -> xr.Dataset:
  """Every level of noise at every rate, constant and annealed, with the tuning seeds."""
  options = config.doses[where]
  grid = {'schedule': SCHEDULES, 'level': options.levels, 'learning_rate': options.learning_rates}
  return _noisy(config, where, True, options.num_tuning_seeds, progress, grid=grid)


def dose(config, where: str, tuned: xr.Dataset, *, progress: Progress) -> xr.Dataset:
  """Every level at the rate that was best for it, constant and annealed."""
  frame = best_rates(tuned).rename('learning_rate').to_dataframe().reset_index()
  points = frame[['schedule', 'level', 'learning_rate']].to_dict('list')
  runs = _noisy(config, where, False, config.doses[where].num_seeds, progress, points=points)
  return runs.drop_vars('learning_rate').set_index(trial=['schedule', 'level']).unstack('trial')


def outcome(runs: xr.Dataset) -> xr.DataArray:
  """What noise is to lower: the landscape's loss, the network's test error; a failed run has the worst there is."""
  if 'test_accuracy' in runs:
    return 1 - study.unless_failed(runs.isel(step=-1), 'test_accuracy', 0.0)
  return study.unless_failed(runs.isel(step=-1), 'train_loss', np.inf)


def best_rates(tuned: xr.Dataset) -> xr.DataArray:
  """The rate of the best mean outcome, for each schedule and level."""
  return outcome(tuned).mean('seed', skipna=False).idxmin('learning_rate')


def best_rate(tuned: xr.Dataset) -> float:
  """The rate of the least mean training loss."""
  return study.best(study.unless_failed(tuned.isel(step=-1), 'train_loss', np.inf), 'learning_rate')


def stochastic(learning_rate, batch_size: int, change: int = 0) -> Algorithm:
  """Plain descent on reshuffled batches, up to the update `change` of single examples."""
  sampler = sampling.reshuffle(batch_size)
  if change:
    sampler = sampling.batch_size_schedule(batch_size, lambda step: jnp.where(step < change, 1, batch_size))
  return gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(learning_rate))


def trap_tuning(config, *, progress: Progress) -> xr.Dataset:
  """Single examples and mini-batches at every rate, with the tuning seeds, at equal examples."""
  options, problem = config.trap, network(config.dataset, config.hidden_of_trap)
  grid = {'learning_rate': options.learning_rates, 'batch_size': [1, options.batch_size]}
  end = lambda batch_size: options.epochs * theory.updates_per_epoch(problem.num_examples, batch_size)
  own = {
    'seeds': config.ids(options.num_tuning_seeds, tuning=True),
    'eval_every': 2**30,
    'progress': progress,
  }
  return gdlab.sweep(problem, stochastic, grid, num_steps=end, **own)


def trap(config, arm: str, tuned: xr.Dataset, *, progress: Progress) -> xr.Dataset:
  """Networks at the rate that was best for mini-batches, after every epoch (`step`): who gets out of a poor place?

  The arm 'rescued' changes from single examples to mini-batches, which stay in a valley but not where noise held them.
  """
  options, problem = config.trap, network(config.dataset, config.hidden_of_trap)
  sizes = [options.batch_size if arm == 'mini' else 1] * options.epochs
  sizes += [1 if arm == 'single' else options.batch_size] * options.return_epochs
  ends = np.cumsum([theory.updates_per_epoch(problem.num_examples, size) for size in sizes]).tolist()
  grid = {'learning_rate': [best_rate(tuned.sel(batch_size=options.batch_size))], 'batch_size': [sizes[-1]]}
  grid['change'] = [ends[options.epochs - 1] if arm == 'rescued' else 0]
  own = {'eval_every': ends[-1], 'eval_steps': ends[:-1], 'seeds': config.seeds.ids, 'progress': progress}
  runs = gdlab.sweep(problem, stochastic, grid, num_steps=ends[-1], **own)
  return runs.assign_coords(step=range(len(sizes) + 1))


@functools.cache
def decayed(batch_size: int, num_steps: int) -> Callable[..., Algorithm]:
  """Descent with momentum whose rate falls on a line to 0, so that runs end in a minimum and not in noise."""

  def make(learning_rate) -> Algorithm:
    optimizer = optax.sgd(schedules.linear(learning_rate, num_steps), momentum=MOMENTUM)
    return gdlab.algorithm(sampler=sampling.reshuffle(batch_size), optimizer=optimizer)

  return make


def _width(config, width: int, rates: Sequence[float], progress: Progress, **own) -> xr.Dataset:
  problem, options = network(config.dataset, width), config.widths
  last = options.epochs * theory.updates_per_epoch(problem.num_examples, options.batch_size)
  own |= {'num_steps': last, 'eval_every': last, 'progress': progress}
  return gdlab.sweep(problem, decayed(options.batch_size, last), {'learning_rate': rates}, **own)


def width_tuning(config, width: int, *, progress: Progress) -> xr.Dataset:
  """Networks of one width at every rate, with the tuning seeds."""
  return _width(config, width, config.widths.learning_rates, progress, seeds=config.seeds.for_tuning)


def width(config, width: int, tuned: xr.Dataset, *, progress: Progress) -> xr.Dataset:
  """Networks of one width at its best rate, that differ in their initial parameters alone, and what they ended with."""
  order = [config.seeds.first] * config.seeds.count
  seeds = {'init': config.seeds.ids, 'order': order, 'noise': order}
  return _width(config, width, [best_rate(tuned)], progress, seeds=seeds, keep='params')


def _networks(problem: Problem, runs: xr.Dataset) -> tuple[list[PyTree], np.ndarray]:
  """The parameters that every run ended with, and which of them have not diverged."""
  own = runs.isel(learning_rate=0)
  params = [gdlab.kept_params(problem, own.isel(seed=place))[0] for place in range(own.sizes['seed'])]
  losses = study.unless_failed(own.isel(step=-1), 'train_loss', np.inf)
  return params, np.isfinite(losses.values)


def lines(config, width: int, runs: xr.Dataset, *, progress: Progress) -> xr.Dataset:
  """The barrier on the straight line between the networks 0 and 1, 2 and 3, ..., as they are and with units aligned.

  A pair with a run that diverged has an infinite barrier.
  """
  problem, num_pairs = network(config.dataset, width), config.widths.pairs
  params, good = _networks(problem, runs.isel(seed=slice(2 * num_pairs)))
  barriers = np.full((num_pairs, len(ORDERS)), np.inf)
  for pair in np.flatnonzero(good.reshape(num_pairs, 2).all(axis=1)):
    first, second = params[2 * pair : 2 * pair + 2]
    for kind, other in enumerate((second, analysis.align(problem, first, second).params)):
      line = analysis.interpolate(problem, first, other, num_points=config.widths.points)
      barriers[pair, kind] = line.train_barrier
    progress(int(pair) + 1, num_pairs)
  return xr.Dataset({'barrier': (('pair', 'order'), barriers)}, {'order': list(ORDERS)})


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


def ensembles(config, width: int, runs: xr.Dataset, *, progress: Progress) -> xr.Dataset:
  """Scores of groups of `config.members` networks, none in two, that average their probabilities, and of their members.

  A run that diverged predicts every class alike.
  """
  problem, size = network(config.dataset, width), config.members
  params, good = _networks(problem, runs)
  chances = np.stack([_probabilities(problem, each) for each in params])
  chances = np.where(good[:, None, None], chances, 1 / NUM_CLASSES)[: len(good) // size * size]
  groups, labels = chances.reshape(-1, size, *chances.shape[1:]), np.asarray(problem.test.targets)
  members = {f'member_{name}': each.mean(axis=1) for name, each in scores(groups, labels).items()}
  values = scores(groups.mean(axis=1), labels) | members
  return xr.Dataset({name: ('ensemble', each) for name, each in values.items()})
