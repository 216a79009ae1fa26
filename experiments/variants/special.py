"""Runs made for one claim each: smoothness, the loss floor, a drifting stream, and paths on a surface."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

import gdlab
from experiments.variants.arms import descent, seeds, tuning_seeds
from experiments.variants.exact import components, logistic
from gdlab import problems, sampling
from gdlab.core.types import Problem


def smoothness(config, problem: Problem, progress) -> xr.Dataset:
  """The three variants at one learning rate, the full training loss evaluated after every update."""
  runs = []
  sizes = [1, config.mini_batch, problem.num_examples]
  for place, size in enumerate(sizes):
    make = descent(size, problem.num_examples)
    run = gdlab.run(
      problem,
      make(config.smoothness.learning_rate),
      num_steps=config.smoothness.num_updates,
      seeds=seeds(config),
      eval_every=1,
    )
    runs.append(run[['train_loss', 'batch_loss', 'status']])
    progress(place + 1, len(sizes))
  return xr.concat(runs, xr.Variable('batch_size', sizes), combine_attrs='drop_conflicts')


def floor(config, problem: Problem, progress) -> xr.Dataset:
  """Single-example descent on regularised logistic regression: the excess training loss over the minimum."""
  convex = logistic(config, problem, config.floor.l2)
  result = gdlab.sweep(
    convex,
    descent(1, convex.num_examples),
    {'learning_rate': [float(rate) for rate in config.floor.learning_rates]},
    num_steps=config.floor.epochs * convex.num_examples,
    seeds=seeds(config),
    eval_every=convex.num_examples // 2,
    progress=progress,
  )
  return result.assign(excess=result.train_loss - float(convex.known.value))


def stream(config, problem: Problem, progress) -> xr.Dataset:
  """Prequential squared errors on a stream: single-example descent against the best any full batch could do.

  Real images arrive one by one; their targets come from weights that walk at random (drift) or stay. Each
  example is predicted before it is used. Single-example descent makes one update with it. Full batch is given the
  exact least-squares solution over everything seen so far, which no number of its updates can beat.
  """
  options = config.stream
  features = components(config, problem)
  features = (features - features.mean(0)) / np.sqrt(
    np.mean(np.sum((features - features.mean(0)) ** 2, axis=1))
  )
  drifts = (0.0, float(options.drift))
  ids = [*seeds(config), *tuning_seeds(config)]
  single = np.empty((len(drifts), len(ids), len(options.learning_rates), len(features)))
  full = np.empty((len(drifts), len(ids), len(features)))
  for row, drift in enumerate(drifts):
    for place, seed in enumerate(ids):
      arrivals = problems.drifting_regression(
        features, problems.random_walk(drift), noise_std=options.noise, seed=seed
      )
      run = gdlab.sweep(
        arrivals,
        _online,
        {'learning_rate': [float(rate) for rate in options.learning_rates]},
        num_steps=len(features),
        seeds=[seed],
        record_every=1,
        eval_every=len(features),
      )
      single[row, place] = 2 * run.batch_loss.isel(seed=0, step=slice(1, None))
      inputs, targets = (np.asarray(part, np.float64) for part in arrivals.train[:2])
      full[row, place] = _refitted(inputs, targets)
      progress(row * len(ids) + place + 1, len(drifts) * len(ids))
  coordinates = {'drift': list(drifts), 'seed': ids, 'learning_rate': list(options.learning_rates)}
  dims = ('drift', 'seed', 'learning_rate', 'example')
  return xr.Dataset({'single': (dims, single), 'full': (('drift', 'seed', 'example'), full)}, coordinates)


def _online(learning_rate) -> gdlab.Algorithm:
  return gdlab.algorithm(sampler=sampling.sequential(1), optimizer=optax.sgd(learning_rate))


def _refitted(inputs: np.ndarray, targets: np.ndarray, ridge: float = 1e-3) -> np.ndarray:
  """Squared errors of predicting each target by least squares over those before it (recursive least squares)."""
  inverse = np.eye(inputs.shape[1]) / ridge
  weights = np.zeros(inputs.shape[1])
  errors = np.empty(len(inputs))
  for place, (x, y) in enumerate(zip(inputs, targets, strict=True)):
    residual = y - x @ weights
    errors[place] = residual**2
    gain = inverse @ x / (1 + x @ inverse @ x)
    weights += gain * residual
    inverse -= np.outer(gain, x @ inverse)
  return errors


def paths(config, problem: Problem, progress) -> xr.Dataset:
  """The three variants from one start on a loss surface of two parameters, and the surface itself.

  The problem is logistic regression, 'is this digit a 3 or an 8?', on the images' first two principal
  components. One learning rate, 1/L, and equally many updates for all.
  """
  labels = np.asarray(problem.train.targets)
  chosen = (labels == 3) | (labels == 8)
  images = np.asarray(problem.train.inputs)[chosen].reshape(np.sum(chosen), -1)
  images = images - images.mean(0)
  components = np.linalg.svd(images, full_matrices=False)[2][:2]
  scores = images @ components.T
  plane = problems.logistic_regression(scores, (labels[chosen] == 8).astype(np.int32), l2=1e-2)
  start = jnp.asarray(plane.known.params + np.asarray(config.paths.start), jnp.float32)
  plane = _starting_at(plane, start)
  rate = 1 / float(plane.known.smoothness)
  sizes = [1, config.mini_batch, plane.num_examples]
  tracks = []
  for place, size in enumerate(sizes):
    run = gdlab.run(
      plane,
      descent(size, plane.num_examples)(rate),
      num_steps=config.paths.num_updates,
      seeds=seeds(config),
      eval_every=1,
      probes={'params': _params},
    )
    tracks.append(run[['params', 'train_loss']])
    progress(place + 1, len(sizes))
  result = xr.concat(tracks, xr.Variable('batch_size', sizes), combine_attrs='drop_conflicts')
  axes, surface = _surface(plane, result.params.values.reshape(-1, 2))
  return (
    result.assign(
      surface=(('y', 'x'), surface),
      minimiser=('params_0', np.asarray(plane.known.params)),
      minimum=float(plane.known.value),
    )
    .assign_coords(x=axes[0], y=axes[1])
    .assign_attrs(learning_rate=rate, num_examples=plane.num_examples)
  )


def _params(problem: Problem, state: gdlab.State):
  return state.params


def _starting_at(problem: Problem, start) -> Problem:
  """The same problem with a fixed initial point."""
  return Problem(
    lambda key: (start, ()), problem.loss, problem.metrics, problem.name, problem.train, known=problem.known
  )


def _surface(problem: Problem, points: np.ndarray, size: int = 90) -> tuple[list[np.ndarray], np.ndarray]:
  """Training loss on a grid around the points of all paths."""
  low, high = np.min(points, axis=0), np.max(points, axis=0)
  margin = 0.15 * (high - low)
  x, y = (np.linspace(low[i] - margin[i], high[i] + margin[i], size) for i in range(2))
  grid = jnp.asarray(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2), jnp.float32)
  losses = jax.jit(
    lambda problem, grid: jax.lax.map(lambda p: gdlab.evaluate(problem, p)['train_loss'], grid)
  )
  return [x, y], np.asarray(losses(problem, grid)).reshape(size, size)
