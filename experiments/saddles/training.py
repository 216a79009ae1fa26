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
from experiments.saddles.seeds import TUNING_IDS, keys, tuning_seeds
from gdlab import analysis, problems, sampling, statistics
from gdlab.core.types import Key, Problem, PyTree

OPTIMIZERS = {'SGD': optax.sgd, 'Adam': optax.adam}
CONTROL = 'SGD, small start'  # next to the saddle at the origin: what has to be found near it
ARMS = ('SGD', 'Adam', CONTROL)
DATASETS = {'digits': problems.digits, 'mnist': problems.mnist}
WIDEST = 0.4  # the largest gradient of the page's definitions of near, as a share of the usual start's
NUM_USUAL = 32


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
  made = DATASETS[config.training.dataset](model)
  if arm == CONTROL:
    return dataclasses.replace(made, init=SmallStart(made.init, float(config.training.small_scale)))
  return made


def rates(config, arm: str) -> list[float]:
  """Those that an arm tries."""
  options = config.training
  return [float(rate) for rate in (options.adam_rates if arm == 'Adam' else options.sgd_rates)]


def training_seeds(config, arm: str) -> list[int]:
  """The first so many seeds of each set; fewer for the control, which no claim is about."""
  options = config.training
  count = options.num_control_seeds if arm == CONTROL else options.num_seeds
  return [first + place for first in config.first_seeds for place in range(count)]


def training(config, arm: str, progress) -> xr.Dataset:
  """An arm tuned, run with the study's seeds, and measured at short equal intervals until it fits.

  The gradient is looked at in every record. The curvature, which costs a hundred times as much, where the gradient is
  small enough to count as near a saddle by any definition on the page, and in one record of many for its course. Both
  are those of the whole training loss, in float64, the sign of the curvature certified by the residual.
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
    every = options.record_every
    run = gdlab.run(
      problem,
      make(rate),
      num_steps=every * max(1, round(1.25 * float(fits.sel(learning_rate=rate).max()) / every)),
      seeds=training_seeds(config, arm),
      eval_every=every,
      probes={'params': _flat},
    )
    usual = usual_gradient(config)
    # With the usual start for the control too: one loss, and so one program.
    measured = _measured(problem_of(config, 'SGD'), run, options, usual, progress)
  kept = run[['train_loss', 'status']].assign(measured)
  return kept.assign(tuning=fits.rename(seed='tuning_seed')).assign_attrs(
    run.attrs, learning_rate=rate, num_parameters=int(run.params.shape[-1]), usual_gradient=usual
  )


def usual_gradient(config) -> float:
  """The mean gradient norm at usual starts, none of which a seed of the study starts at: the unit of gradients."""
  problem = problem_of(config, 'SGD')
  starts = [ravel_pytree(problem.init(key)[0])[0] for key in keys(range(TUNING_IDS, TUNING_IDS + NUM_USUAL))]
  return float(np.mean(_norms(problem, jnp.stack(starts))))


def fitted(runs: xr.Dataset, target: float) -> xr.DataArray:
  """Updates until the training loss is at a target; all there were where it never is, diverged runs among them."""
  loss = runs.train_loss.transpose('learning_rate', 'seed', 'step')
  crossing = statistics.first_crossing(loss.step.values, loss.values, target)
  return loss.isel(step=0, drop=True).copy(data=crossing.time)


def _flat(problem: Problem, state: gdlab.State):
  return ravel_pytree(state.params)[0]


def _measured(problem: Problem, run: xr.Dataset, options, usual: float, progress) -> dict:
  """Gradient norm, extreme eigenvalues and the certain sign of the lowest, [seed, step]; NaN where not looked at."""
  points = run.params.transpose('seed', 'step', ...).values
  loss = run.train_loss.transpose('seed', 'step').values
  # Until it fits, that record left out; all of them where it never does.
  wanted = (np.cumsum(loss <= options.target_loss, axis=1) == 0) & np.isfinite(points).all(axis=-1)
  values = np.full((4, *wanted.shape), np.nan)
  for seed, row in enumerate(points):
    values[0, seed] = np.where(wanted[seed], _norms(problem, jnp.asarray(row)), np.nan)
  even = np.zeros(wanted.shape[1], bool)
  even[evenly(wanted.shape[1], options.num_curvatures)] = True
  places = np.argwhere(wanted & (even | (values[0] <= WIDEST * usual)))
  for number, (seed, step) in enumerate(places):
    values[1:, seed, step] = _curvatures(problem, points[seed, step])
    progress(number + 1, len(places))
  names = ('full_grad_norm', 'lowest', 'highest', 'sign')
  return {name: (('seed', 'step'), value) for name, value in zip(names, values, strict=True)}


def evenly(num_records: int, count: int) -> np.ndarray:
  """The records whose curvature is looked at whatever the gradient is."""
  return np.arange(0, num_records, max(1, num_records // count))


@jax.jit
def _norms(problem: Problem, points):
  """The norm of the whole gradient at each point, float[k]."""
  key = jax.random.key(0)
  example, model_state = problem.init(key)
  gradient, unravel = analysis.full_gradient(problem, model_state, key), ravel_pytree(example)[1]
  return jax.lax.map(lambda flat: optax.tree.norm(gradient(unravel(flat))), points)


@jax.jit
def _curvatures(problem: Problem, flat):
  """What the training loss is at a point: lowest and highest eigenvalue, sign of the lowest."""
  key = jax.random.key(0)
  example, model_state = problem.init(key)
  params = ravel_pytree(example)[1](flat)
  operator = analysis.hessian(problem, params, model_state, key)
  pairs = analysis.eigenpairs(operator, key, num_largest=1, num_smallest=1, tolerance=0.02, max_products=80)
  smallest, largest = pairs.smallest, pairs.largest
  return jnp.stack([smallest.values[0], largest.values[0], smallest.signs[0].astype(flat.dtype)])
