"""What is measured at the edge of stability: a network that climbs to it, flows beside it, a model of it, batches."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jax.flatten_util import ravel_pytree

import gdlab
from experiments.learning_rate.study import steps
from gdlab import analysis, problems, sampling, study, theory
from gdlab.core.types import Algorithm, Array, Problem, PyTree, State

METHODS = ('plain', 'Polyak', 'Nesterov')


def network_loss(activation: Callable[[Array], Array], params: PyTree, example: PyTree) -> Array:
  """Half the squared error of a network of one hidden layer."""
  hidden = activation(example['inputs'] @ params['into'] + params['bias'])
  return jnp.sum((hidden @ params['out'] + params['shift'] - example['targets']) ** 2) / 2


tanh_loss = functools.partial(network_loss, jnp.tanh)


def drawn(key: Array, inputs: int, hidden: int, outputs: int, scale: float, last: float = 1.0) -> PyTree:
  """Normal weights, their standard deviation a scale over the root of the number of inputs; no shift at first."""
  into, bias, out = jax.random.split(key, 3)
  return {
    'into': scale * jax.random.normal(into, (inputs, hidden)) / np.sqrt(inputs),
    'bias': scale * jax.random.normal(bias, (hidden,)) / np.sqrt(inputs),
    'out': last * jax.random.normal(out, (hidden, outputs)) / np.sqrt(hidden),
    'shift': jnp.zeros(outputs),
  }


@functools.cache
def chebyshev(points: int, degree: int, hidden: int) -> Problem:
  """Chebyshev's polynomial on equidistant points, to be fitted by a network of tanh units that starts small."""
  inputs = np.linspace(-1, 1, points)
  data = {'inputs': inputs[:, None], 'targets': np.cos(degree * np.arccos(inputs))[:, None]}
  return problems.from_function(
    tanh_loss, lambda key: drawn(key, 1, hidden, 1, 0.5), data=data, name='Chebyshev'
  )


@functools.cache
def descent(
  momentum: float | None = None, nesterov: bool = False, batch_size: int | None = None
) -> Callable[..., Algorithm]:
  """SGD as a function of its learning rate, with all examples or so many drawn anew."""
  sampler = sampling.full_batch() if batch_size is None else sampling.reshuffle(batch_size)
  return lambda learning_rate: gdlab.algorithm(
    sampler=sampler, optimizer=optax.sgd(learning_rate, momentum, nesterov)
  )


def rates(config: Any, method: str, borders: Any) -> list[float]:
  """The learning rates that are at the border of stability at these sharpnesses."""
  momentum = 0.0 if method == 'plain' else config.climb.momentum
  return [
    theory.largest_stable_rate(each, momentum=momentum, nesterov=method == 'Nesterov') for each in borders
  ]


def sharpness(problem: Problem, state: State) -> Array:
  """A probe: the largest eigenvalue of the Hessian of the whole training loss."""
  return analysis.sharpness(problem, state.params, (), jax.random.key(0)).values[0]


@steps.cell(over=lambda config: METHODS)
@jax.enable_x64(True)
def climb(config, method, *, progress):
  """The sharpness along full-batch training, and the loss at every update: [border, seed, step]."""
  options = config.edge.climb
  borders = [*options.borders, options.control] if method == 'plain' else [*options.borders]
  momentum = () if method == 'plain' else (options.momentum, method == 'Nesterov')
  runs = gdlab.sweep(
    chebyshev(options.points, options.degree, options.hidden),
    descent(*momentum),
    {'learning_rate': rates(config.edge, method, borders)},
    num_steps=options.updates,
    seeds=config.seeds.ids,
    eval_every=options.every,
    record_every=1 if method == 'plain' else options.every,
    probes={'sharpness': sharpness, 'params': study.flat_params},
    progress=progress,
  ).rename(learning_rate='border')
  runs = runs.assign_coords(border=borders)
  looked, name = runs.isel(step=runs.step % options.every == 0), [*runs.params.dims][-1]
  found = looked[['sharpness', 'train_loss', 'status']].rename(step='record')
  start = runs.params.sel(step=0, drop=True).isel(border=0, drop=True).rename({name: 'parameter'})
  losses = {'loss': runs.batch_loss.sel(step=slice(1, None))} if method == 'plain' else {}
  return found.assign(losses | {'start': start})


@steps.cell('climb_plain')
@jax.enable_x64(True)
def flow(config, climbed, *, progress):
  """The central flow from the same starts at the same rates: [border, seed, record]."""
  options = config.edge.climb
  problem = chebyshev(options.points, options.degree, options.hidden)
  unravel = ravel_pytree(problem.init(jax.random.key(0))[0])[1]
  loss = analysis.full_loss(problem, (), jax.random.key(0))

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(0, None, 0))
  def flows(start: Array, rate: Array, key: Array) -> tuple[Array, ...]:
    found = theory.central_flow(
      loss,
      unravel(start),
      rate,
      key,
      num_updates=options.updates,
      record_every=options.every,
      substeps=options.substeps,
    )
    return found.sharpness, found.variance, found.loss, found.mean_loss

  starts, found = climbed.start.transpose('seed', 'parameter').values, []
  for rate in rates(config.edge, 'plain', options.borders):
    found.append(np.stack(flows(starts, rate, study.keys(config.seeds.ids))))
    progress(len(found), len(options.borders))
  coords = {'border': [*options.borders], 'seed': config.seeds.ids, 'record': climbed.record.values}
  names = ('sharpness', 'variance', 'loss', 'mean_loss')
  return xr.Dataset(
    {name: ([*coords], part) for name, part in zip(names, np.stack(found, axis=1), strict=True)}, coords
  )


def edge_loss(options: Any) -> Callable[[PyTree], Array]:
  """The model of two variables: sharpness 2/rate + b y, and a push a along y."""
  border = 2 / options.learning_rate
  return lambda w: 0.5 * (border + options.rise * w['y']) * w['x'] ** 2 - options.push * w['y']


@steps.cell()
@jax.enable_x64(True)
def model(config, *, progress):
  """Means over the updates of descent on the model with noise in the slope along x, [noise, seed], and its flow."""
  options = config.edge.model
  rate, loss = options.learning_rate, edge_loss(config.edge.model)

  def update(at: tuple[Array, Array], noise: Array) -> tuple[tuple[Array, Array], Array]:
    slope, gap = jax.grad(loss)({'x': at[0], 'y': at[1]}), options.rise * at[1]
    square = at[0] ** 2
    seen = jnp.stack([square, loss({'x': at[0], 'y': at[1]}), gap * square, gap**2 * square])
    return (at[0] - rate * (slope['x'] + noise), at[1] - rate * slope['y']), seen

  def block(carry: tuple[Any, Array], key: Array) -> tuple[tuple[Any, Array], Array]:
    at, noise = carry
    at, seen = jax.lax.scan(update, at, noise * jax.random.normal(key, (1000,)))
    return (at, noise), seen.mean(axis=0)

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(0, None))
  def means(key: Array, noise: Array) -> tuple[Array, Array]:
    start = jnp.sqrt(2 * options.push / options.rise), jnp.zeros(())
    first, rest = jax.random.split(key)
    _, path = jax.lax.scan(update, start, noise * jax.random.normal(first, (1000,)))
    _, seen = jax.lax.scan(block, (start, noise), jax.random.split(rest, options.updates // 1000))
    return seen.mean(axis=0), path[:, 0]

  noises, found, paths = [options.little, *options.noises], [], []
  for noise in noises:
    with jax.debug_key_reuse(False):  # it takes the keys of a scan under vmap for used
      seen, path = means(study.keys(config.seeds.ids), noise)
    found.append(np.asarray(seen))
    paths.append(np.asarray(path[0]))
    progress(len(found), len(noises))
  begin = {'x': np.array(0.0), 'y': np.array(-0.1)}
  predicted = theory.central_flow(loss, begin, rate, jax.random.key(0), num_updates=1000, record_every=1000)
  names = ('square', 'loss', 'gap_square', 'gap2_square')
  coords = {'noise': noises, 'seed': config.seeds.ids}
  columns: dict[str, Any] = {
    name: ([*coords], part) for name, part in zip(names, np.moveaxis(np.stack(found), -1, 0), strict=True)
  }
  columns['path'] = (('noise', 'update'), np.stack(paths))
  flows = {'variance': float(predicted.variance[-1]), 'mean_loss': float(predicted.mean_loss[-1])}
  return xr.Dataset(columns, coords, flows)
