r"""What is measured on landscapes: descent between two valleys, and escape from one.

On the landscapes example i has the loss $U(x) + \xi_i x$ with $\sum_i \xi_i = 0$ and $\sum_i \xi_i^2 = N\sigma^2$. The
mean loss is U exactly, so full batch is descent on U, and a batch of B has a gradient of variance $\sigma^2/B$.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
import xarray as xr

import gdlab
from gdlab import problems, sampling, theory
from gdlab.core.types import Algorithm, Array, Problem, PyTree
from gdlab.host.progress import Progress


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
  'good': ('tilted', False, True),
  'sharp': ('sharp', False, False),
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
