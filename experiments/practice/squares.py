"""P8 and P9: penalties held against dense algebra, and ways to solve least squares against the clock."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

import gdlab
from experiments.practice.seen import L1, L2, METHODS, RATE, UPDATES
from experiments.practice.study import practice
from gdlab import analysis, problems, sampling, study
from gdlab.core.types import Algorithm, Array, Problem

OFTEN = 4  # updates between two looks at the excess loss
ROWS, COLUMNS = 64, 8  # of the least squares with penalties
PENALTIES = ('none', 'l1', 'l2', 'both')


def weights(name: str) -> dict[str, float]:
  """l1 and l2 of a penalty."""
  return {each: value * (name in (each, 'both')) for each, value in (('l1', L1), ('l2', L2))}


def design(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Normal columns, made orthonormal where there is an L1 penalty, X^T X = N I, and noisy targets."""
  rng = np.random.default_rng(seed)
  inputs = rng.standard_normal((ROWS, COLUMNS))
  inputs = np.linalg.qr(inputs)[0] * np.sqrt(ROWS) if name in ('l1', 'both') else inputs
  return inputs, inputs @ rng.standard_normal(COLUMNS) + rng.standard_normal(ROWS)


def minimum(inputs: np.ndarray, targets: np.ndarray, l1: float, l2: float) -> np.ndarray:
  """In closed form: of ridge regression, or with orthonormal columns soft thresholds shrunk by 1 + l2."""
  curvature, right = inputs.T @ inputs / ROWS, inputs.T @ targets / ROWS
  if not l1:
    return np.linalg.solve(curvature + l2 * np.eye(COLUMNS), right)
  return np.sign(right) * np.maximum(np.abs(right) - l1, 0) / (1 + l2)


def penalised(name: str, seed: int) -> Problem:
  """Least squares with a penalty."""
  return problems.with_penalty(problems.linear_regression(*design(name, seed)), **weights(name))


def gradient_error(seed: int) -> float:
  """The relative error of the gradient with both penalties against the sum, by dense algebra."""
  (inputs, targets), (l1, l2) = design('both', seed), weights('both').values()
  point, key = np.random.default_rng(seed + 1).standard_normal(COLUMNS), jax.random.key(0)
  problem = penalised('both', seed)
  found = analysis.full_gradient(problem, (), key, losses=analysis.training_losses)(jnp.asarray(point))
  right = inputs.T @ (inputs @ point - targets) / ROWS + l1 * np.sign(point) + l2 * point
  return float(np.linalg.norm(found - right) / np.linalg.norm(right))


def whole_batch(learning_rate: Any) -> Algorithm:
  """Full-batch descent."""
  return gdlab.algorithm(sampler=sampling.full_batch(), optimizer=optax.sgd(learning_rate))


@practice.cell()
@jax.enable_x64(True)
def penalties(config, *, progress):
  """Penalised gradients against the sum, and where full-batch descent ends against the minimum.

  `thrown` is that distance over 2 rate l1: a weight whose least-squares value b is above l1 in size goes to its
  minimum, another steps over 0 by at most rate (l1 + |b|) <= 2 rate l1, and L2 only shortens that.
  """
  ids, found = config.few_ids, []
  given = {'num_steps': UPDATES, 'eval_every': UPDATES, 'seeds': ids}
  given |= {'probes': {'params': study.flat_params}}
  for done, name in enumerate(PENALTIES, 1):
    data, rates = functools.partial(penalised, name), {'learning_rate': [RATE]}
    runs = study.sweep_anew(data, whole_batch, rates, **given).isel(learning_rate=0, step=-1)
    goals, plain = (
      np.array([minimum(*design(name, seed), **weights(each)) for seed in ids]) for each in (name, 'none')
    )
    pairs = runs.params.transpose('seed', ...).values - goals, goals - plain
    found.append([np.abs(pair).max(axis=1) for pair in pairs])
    progress(done, len(PENALTIES))
  distance, moved = np.swapaxes(found, 0, 1)
  columns: dict[str, Any] = {'distance': distance, 'moved': moved}
  columns['thrown'] = distance / (2 * RATE * L1)
  columns = {name: (('penalty', 'seed'), values) for name, values in columns.items()}
  columns['gradient'] = 'seed', [gradient_error(seed) for seed in ids]
  return xr.Dataset(columns, {'penalty': [*PENALTIES], 'seed': ids})


class Rows(NamedTuple):
  """A least-squares problem, with what says how far from its minimum a point is: H = X^T X / N."""

  inputs: Array  # float[N, d]
  targets: Array  # float[N]
  curvature: Array  # float[d, d]
  best: Array  # float[d]

  def excess(self, point: Array) -> Array:
    """f(w) less the minimum, of that of w = 0; exact for a quadratic."""
    apart = point - self.best
    return (apart @ (self.curvature @ apart)) / (self.best @ (self.curvature @ self.best))


def rows(options: Any, size: int, seed: int) -> Rows:
  """Normal inputs, of variances from 1 to 1 / condition in equal ratios; half of the targets' variance is noise."""
  rng, count = np.random.default_rng(seed), options.ratio * size
  variances = options.condition ** -np.linspace(0, 1, size)
  inputs = rng.standard_normal((count, size), np.float32) * np.sqrt(variances, dtype=np.float32)
  signal = rng.standard_normal(size)
  targets = inputs @ signal + np.sqrt(signal**2 @ variances) * rng.standard_normal(count)
  wide = inputs.astype(float)
  curvature, right = wide.T @ wide / count, wide.T @ targets.astype(np.float32) / count
  found = inputs, targets, curvature, np.linalg.solve(curvature, right)
  return Rows(*(jnp.asarray(each, jnp.float32) for each in found))


@jax.jit
def normal_equations(problem: Rows) -> Array:
  """The minimiser, by Cholesky's decomposition of X^T X."""
  inputs, targets = problem[:2]
  return jax.scipy.linalg.solve(inputs.T @ inputs, inputs.T @ targets, assume_a='pos')


@jax.jit
def conjugate_gradients(problem: Rows, count: Array) -> Array:
  """From 0, on the normal equations without forming them: two products with X for a step."""
  inputs, targets = problem[:2]
  product = lambda way: inputs.T @ (inputs @ way)
  return jax.scipy.sparse.linalg.cg(product, inputs.T @ targets, tol=0.0, maxiter=count)[0]


@functools.partial(jax.jit, static_argnames='batch_size')
def mini_batches(problem: Rows, rate, target, most, often, *, batch_size: int) -> tuple[Array, Array]:
  """Plain descent from 0 on reshuffled mini-batches until the excess loss, seen so often, is at the target.

  Returns the point and the updates, at most so many.
  """
  sampler = sampling.reshuffle(batch_size)

  def update(_: Any, carry: tuple) -> tuple:
    point, order = carry
    batch, order = sampler.sample(order)
    inputs = problem.inputs[batch.indices]
    residual = batch.weights * (inputs @ point - problem.targets[batch.indices])
    return point - rate * (inputs.T @ residual), order

  going = lambda carry: (carry[0] < most) & ~(problem.excess(carry[1][0]) <= target)
  on = lambda carry: (carry[0] + often, jax.lax.fori_loop(0, often, update, carry[1]))
  start = jnp.zeros_like(problem.best), sampler.init(jax.random.key(0), len(problem.targets))
  count, (point, _) = jax.lax.while_loop(going, on, (0, start))
  return point, count


def solved(options: Any, problem: Rows) -> list[tuple[int, bool, Callable]]:
  """By target, multiple and method: steps, whether they come there, and a call that does as many at once.

  The rate of mini-batches is a multiple of 1 / (largest h + tr H / B); about twice that noise throws them out.
  """
  found: list[tuple[int, bool, Callable]] = []
  batch_size = min(options.batch_size, len(problem.targets))
  most = options.epochs * len(problem.targets) // batch_size
  unit = 1 / (np.linalg.eigvalsh(problem.curvature)[-1] + np.trace(problem.curvature) / batch_size)
  direct = functools.partial(normal_equations, problem)
  for target in options.targets:
    there = lambda point, target=target: bool(problem.excess(point) <= target)
    counts = range(1, options.iterations + 1)
    count = next((each for each in counts if there(conjugate_gradients(problem, each))), 0)
    conjugate = functools.partial(conjugate_gradients, problem, count or options.iterations)
    for multiple in options.multiples:
      descend = functools.partial(mini_batches, problem, multiple * unit, batch_size=batch_size)
      point, taken = descend(target, most, OFTEN)
      again = functools.partial(descend, 0.0, taken, taken)
      found += [(1, there(direct()), direct), (count or options.iterations, count > 0, conjugate)]
      found.append((int(taken), there(point), again))
  return found


def seconds(call: Callable) -> float:
  """That a call takes."""
  started = time.perf_counter()
  jax.block_until_ready(call())
  return time.perf_counter() - started


@practice.cell(over=lambda config: config.squares.sizes, alone=True)
def squares(config, size, *, progress):
  """Steps and seconds to an excess loss by target, multiple and method; tuning seeds are counted, not timed.

  The calls of a seed are timed in turn, round by round, and the median of the rounds counts.
  """
  options, parts, ids = config.squares, [], config.few_tuned + config.few_ids
  given = {'target': [*options.targets], 'multiple': [*options.multiples], 'way': [*METHODS]}
  for done, seed in enumerate(ids, 1):
    steps, reached, calls = zip(*solved(options, rows(options, size, seed)), strict=True)
    timed: dict[Callable, list[float]] = {call: [] for call in calls}  # what targets and rates share, once
    for _ in range(options.rounds if seed in config.few_ids else 0):
      for call, taken in timed.items():
        taken.append(seconds(call))
    taken = [np.median(timed[call] or np.nan) for call in calls]
    shape, columns = [*map(len, given.values())], {'steps': steps, 'reached': reached, 'seconds': taken}
    columns = {name: ([*given], np.reshape(values, shape)) for name, values in columns.items()}
    parts.append(xr.Dataset(columns, given))
    progress(done, len(ids))
  return xr.concat(parts, xr.Variable('seed', ids))
