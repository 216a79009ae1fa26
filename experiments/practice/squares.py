"""P8 and P9: penalties held against dense algebra, and ways to solve least squares against the clock."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from experiments.practice.costs import seconds
from experiments.practice.seen import L1, L2, METHODS, RATE, UPDATES, fastest
from experiments.practice.study import practice
from gdlab import analysis, problems, sampling, statistics
from gdlab.core.types import Array, Problem

OFTEN = 4  # updates between two looks at the excess loss
ROWS, COLUMNS = 64, 8  # of the least squares with penalties
PENALTIES = {'none': (0.0, 0.0), 'l1': (L1, 0.0), 'l2': (0.0, L2), 'both': (L1, L2)}


def design(seed: int, l1: float) -> tuple[np.ndarray, np.ndarray]:
  """Normal columns, made orthonormal where there is an L1 penalty, X^T X = N I, and noisy targets."""
  rng = np.random.default_rng(seed)
  inputs = rng.standard_normal((ROWS, COLUMNS))
  inputs = np.linalg.qr(inputs)[0] * np.sqrt(ROWS) if l1 else inputs
  return inputs, inputs @ rng.standard_normal(COLUMNS) + rng.standard_normal(ROWS)


def minimum(inputs: np.ndarray, targets: np.ndarray, l1: float, l2: float) -> np.ndarray:
  """In closed form: of ridge regression, or with orthonormal columns soft thresholds shrunk by 1 + l2."""
  curvature, right = inputs.T @ inputs / ROWS, inputs.T @ targets / ROWS
  if not l1:
    return np.linalg.solve(curvature + l2 * np.eye(COLUMNS), right)
  return np.sign(right) * np.maximum(np.abs(right) - l1, 0) / (1 + l2)


@jax.jit
def descended(problem: Problem, point: Array) -> tuple[Array, Array]:
  """The gradient of the training loss at a point, and where full-batch descent from there ends."""
  gradient = analysis.full_gradient(problem, (), jax.random.key(0), losses=analysis.training_losses)
  return gradient(point), jax.lax.fori_loop(0, UPDATES, lambda _, x: x - RATE * gradient(x), point)


@practice.cell()
@jax.enable_x64(True)
def penalties(config, *, progress):
  """Penalised gradients against the sum, and where full-batch descent ends against the minimum.

  `thrown` is that distance over 2 rate l1: a weight whose least-squares value b is above l1 in size goes to its
  minimum, another steps over 0 by at most rate (l1 + |b|) <= 2 rate l1, and L2 only shortens that.
  """
  dims, ids = ('penalty', 'seed'), config.few_ids
  found = {name: np.empty((len(PENALTIES), len(ids))) for name in ('gradient', 'distance', 'moved', 'thrown')}
  for at in np.ndindex(found['moved'].shape):
    (l1, l2), seed = [*PENALTIES.values()][at[0]], ids[at[1]]
    inputs, targets = design(seed, l1)
    point = np.random.default_rng(seed + 1).standard_normal(COLUMNS)
    problem = problems.with_penalty(problems.linear_regression(inputs, targets), l1=l1, l2=l2)
    gradient, end = map(np.asarray, descended(problem, jnp.asarray(point)))
    right = inputs.T @ (inputs @ point - targets) / ROWS + l1 * np.sign(point) + l2 * point
    goal, plain = (minimum(inputs, targets, *each) for each in ((l1, l2), (0.0, 0.0)))
    found['gradient'][at] = np.linalg.norm(gradient - right) / np.linalg.norm(right)
    found['distance'][at], found['moved'][at] = np.abs(end - goal).max(), np.abs(goal - plain).max()
    found['thrown'][at] = found['distance'][at] / (2 * RATE * L1)
    progress(1 + at[0] * len(ids) + at[1], found['moved'].size)
  columns = {name: (dims, values) for name, values in found.items()}
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
def conjugate_gradients(problem: Rows, target, most) -> tuple[Array, Any]:
  """From 0, on the normal equations without forming them, until the excess loss is at the target; point and steps.

  Source: Hestenes and Stiefel 1952, Methods of conjugate gradients for solving linear systems.
  """
  residual = problem.inputs.T @ problem.targets

  def step(carry: tuple) -> tuple:
    count, point, residual, way = carry
    product, square = problem.inputs.T @ (problem.inputs @ way), residual @ residual
    length = square / (way @ product)
    left = residual - length * product
    return count + 1, point + length * way, left, left + (left @ left) / square * way

  going = lambda carry: (carry[0] < most) & ~(problem.excess(carry[1]) <= target)
  count, point, *_ = jax.lax.while_loop(going, step, (0, jnp.zeros_like(residual), residual, residual))
  return point, count


@functools.partial(jax.jit, static_argnames='batch_size')
def mini_batches(problem: Rows, rate, target, most, often, *, batch_size: int) -> tuple[Array, Any]:
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


def solved(options: Any, problem: Rows, tried: Mapping[float, Sequence[float]]) -> dict[tuple, tuple]:
  """By target, multiple and method: steps, whether they come there, and a call that does as many at once.

  The rate of mini-batches is a multiple of 1 / (largest h + tr H / B), tried by target; about twice that noise throws
  them out.
  """
  found: dict[tuple, tuple] = {}
  batch_size = min(options.batch_size, len(problem.targets))
  unit = 1 / (np.linalg.eigvalsh(problem.curvature)[-1] + np.trace(problem.curvature) / batch_size)
  direct = functools.partial(normal_equations, problem)
  for target, multiples in tried.items():
    there = lambda point, target=target: bool(problem.excess(point) <= target)
    point, count = conjugate_gradients(problem, target, options.iterations)
    conjugate = int(count), there(point), functools.partial(conjugate_gradients, problem, 0.0, int(count))
    for multiple in multiples:
      descend = functools.partial(mini_batches, problem, multiple * unit, batch_size=batch_size)
      point, count = descend(target, options.updates, OFTEN)
      # An int as before: with an array the first call that is timed would be taken for a new one.
      descent = int(count), there(point), functools.partial(descend, 0.0, int(count), int(count))
      three = (1, there(direct()), direct), conjugate, descent
      found |= {(target, multiple, name): each for name, each in zip(METHODS, three, strict=True)}
  return found


def measured(
  options: Any, size: int, seed: int, tried: Mapping[float, Sequence[float]], rounds: int
) -> xr.Dataset:
  """Steps and seconds of one seed, whose calls are timed in turn, round by round: the median of the rounds counts."""
  given = {'target': [*options.targets], 'multiple': [*options.multiples], 'way': [*METHODS]}
  shape, found = [*map(len, given.values())], solved(options, rows(options, size, seed), tried)
  timed: dict[Callable, list[float]] = {call: [] for *_, call in found.values()}  # what several share, once
  for _ in range(rounds):
    for call, taken in timed.items():
      taken.append(seconds(call))
  columns = {
    'steps': np.zeros(shape, int),
    'reached': np.zeros(shape, bool),
    'seconds': np.full(shape, np.nan),
  }
  for place, (steps, there, call) in found.items():
    at = tuple(given[dim].index(value) for dim, value in zip(given, place, strict=True))
    columns['steps'][at], columns['reached'][at] = steps, there
    columns['seconds'][at] = np.median(timed[call] or np.nan)
  return xr.Dataset({name: ([*given], values) for name, values in columns.items()}, given)


@practice.cell(over=lambda config: config.squares.sizes, alone=True)
def squares(config, size, *, progress):
  """Steps and seconds to an excess loss, on tuning seeds at every multiple, counted alone, then at the likely ones."""
  options, tuned, ids = config.squares, config.few_tuned, config.few_tuned + config.few_ids
  tried, parts = dict.fromkeys(options.targets, options.multiples), []
  for done, seed in enumerate(ids, 1):
    parts.append(measured(options, size, seed, tried, options.rounds if seed not in tuned else 0))
    if done == len(tuned):
      runs = xr.concat(parts, xr.Variable('seed', tuned))
      tried = {target: sorted(statistics.likely(fastest(runs, target), done)) for target in options.targets}
    progress(done, len(ids))
  return xr.concat(parts, xr.Variable('seed', ids))
