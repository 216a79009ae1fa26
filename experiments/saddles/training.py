"""Training from the usual start: how much of it is spent where the gradient is small and the curvature downhill."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jax.flatten_util import ravel_pytree

import gdlab
from experiments.saddles.seeds import tuning_seeds
from gdlab import analysis, problems, sampling, statistics
from gdlab.types import Key, Problem, PyTree

OPTIMIZERS = {'SGD': optax.sgd, 'Adam': optax.adam}
ARMS = ('SGD', 'Adam', 'SGD, small start')  # the last is a contrast: a start next to the saddle at the origin


def cell_name(arm: str) -> str:
  """Of the arm's cell."""
  return f'training_{arm.lower().replace(", ", "_").replace(" ", "_")}'


@dataclasses.dataclass(frozen=True)
class SmallStart:
  """Another start, so many times as small."""

  init: Callable[[Key], tuple[PyTree, PyTree]]
  scale: float

  def __call__(self, key: Key) -> tuple[PyTree, PyTree]:
    """Draws `(params, model_state)`."""
    params, model_state = self.init(key)
    return jax.tree.map(lambda leaf: self.scale * leaf, params), model_state


@functools.cache
def maker(arm: str, batch_size: int):
  """The optimizer of an arm with mini-batches, as a function of its rate."""
  optimizer = OPTIMIZERS[arm.partition(',')[0]]
  return lambda learning_rate: gdlab.algorithm(
    sampler=sampling.reshuffle(batch_size), optimizer=optimizer(learning_rate)
  )


def problem_of(config, arm: str) -> Problem:
  """The images with a network of one hidden layer, from Flax's start or from a small multiple of it."""
  model = problems.MLP(features=(config.training.hidden,), activation=jnp.tanh)
  made = {'digits': problems.digits, 'mnist': problems.mnist}[config.training.dataset](model)
  if arm.endswith('small start'):
    return dataclasses.replace(made, init=SmallStart(made.init, float(config.training.small_scale)))
  return made


def rates(config, arm: str) -> list[float]:
  """Those that an arm tries."""
  options = config.training
  return [float(rate) for rate in (options.adam_rates if arm == 'Adam' else options.sgd_rates)]


def training_seeds(config) -> list[int]:
  """The first so many seeds of each set."""
  return [first + place for first in config.first_seeds for place in range(config.training.num_seeds)]


def training(config, arm: str, progress) -> xr.Dataset:
  """An arm tuned, run with the study's seeds, and measured at evenly spread records until it fits.

  The curvature is that of the whole training loss, in float64, its sign certified by the residual.
  """
  options = config.training
  with jax.enable_x64(True):
    problem = problem_of(config, arm)
    make = maker(arm, options.batch_size)
    tuned = gdlab.sweep(
      problem,
      make,
      {'learning_rate': rates(config, arm)},
      num_steps=options.num_updates,
      seeds=tuning_seeds(config),
      eval_every=max(1, options.num_updates // 100),
    )
    fits = fitted(tuned, options.target_loss)
    rate = float(fits.mean('seed').idxmin('learning_rate'))
    horizon = int(fits.sel(learning_rate=rate).max())
    every = max(1, horizon // options.num_records)
    run = gdlab.run(
      problem,
      make(rate),
      num_steps=every * round(1.25 * options.num_records),
      seeds=training_seeds(config),
      eval_every=every,
      probes={'params': _flat},
    )
    measured = _measured(problem, run, options.target_loss, progress)
  kept = run[['train_loss', 'status']].assign(measured)
  return kept.assign(tuning=fits.rename(seed='tuning_seed')).assign_attrs(
    run.attrs, learning_rate=rate, num_parameters=int(run.params.shape[-1])
  )


def fitted(runs: xr.Dataset, target: float) -> xr.DataArray:
  """Updates until the training loss is at a target; all there were where it never is, diverged runs among them."""
  loss = runs.train_loss.transpose('learning_rate', 'seed', 'step')
  crossing = statistics.first_crossing(loss.step.values, loss.values, target)
  return loss.isel(step=0, drop=True).copy(data=crossing.time)


def _flat(problem: Problem, state: gdlab.State):
  return ravel_pytree(state.params)[0]


def _measured(problem: Problem, run: xr.Dataset, target: float, progress) -> dict:
  """Gradient norm, extreme eigenvalues and the certain sign of the lowest, [seed, step]; NaN after the fit."""
  points = run.params.transpose('seed', 'step', ...).values
  loss = run.train_loss.transpose('seed', 'step').values
  # Until it fits, that record left out; all of them where it never does.
  wanted = np.cumsum(loss <= target, axis=1) == 0
  values = np.full((4, *wanted.shape), np.nan)
  places = np.argwhere(wanted & np.isfinite(points).all(axis=-1))
  for number, (seed, step) in enumerate(places):
    values[:, seed, step] = _look(problem, points[seed, step])
    progress(number + 1, len(places))
  names = ('full_grad_norm', 'lowest', 'highest', 'sign')
  return {name: (('seed', 'step'), value) for name, value in zip(names, values, strict=True)}


@jax.jit
def _look(problem: Problem, flat):
  """What the training loss is at a point: gradient norm, lowest and highest eigenvalue, sign of the lowest."""
  key = jax.random.key(0)
  example, model_state = problem.init(key)
  params = ravel_pytree(example)[1](flat)
  gradient = analysis.full_gradient(problem, model_state, key)(params)
  operator = analysis.hessian(problem, params, model_state, key)
  pairs = analysis.eigenpairs(operator, key, num_largest=1, num_smallest=1, tolerance=0.02, max_products=80)
  return (
    optax.tree.norm(gradient),
    pairs.smallest.values[0],
    pairs.largest.values[0],
    pairs.smallest.signs[0].astype(flat.dtype),
  )
