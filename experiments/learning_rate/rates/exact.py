"""Measured without training, in float64: borders of stability, exact line search, and Robbins and Monro's rates."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

import gdlab
from experiments.learning_rate.study import steps
from gdlab import problems, sampling, schedules, study, theory
from gdlab.core.types import Array, Key, Problem

METHODS = ('plain', 'heavy ball', 'Nesterov')
APART = 0.9  # of the largest eigenvalue: no other is larger, so that its direction alone is at the border
LINE_SEARCHES = 64
HALVINGS = 48  # of an interval of 8 over the largest eigenvalue: to 3e-14 of it
CURVATURES = (1.0, 0.5)  # of the noisy quadratic
DIMENSION = 8  # of streaming regression; curvature 1 in all directions, label noise of variance 1


def spectra(options, condition: int, ids) -> np.ndarray:
  """Eigenvalues [seed, d] of a condition number, the largest log-uniform in [0.1, 10]."""
  found = []
  for seed in ids:
    rng = np.random.default_rng(seed)
    inner = rng.uniform(1 / condition, APART, options.dimension - 2)
    found.append(10 ** rng.uniform(-1, 1) * np.array([1.0, *inner, 1 / condition]))
  return np.stack(found)


def starts(options, ids) -> jax.Array:
  """Random starts [seed, d]."""
  return jax.vmap(lambda key: jax.random.normal(key, (options.dimension,)))(study.keys(ids))


def _ids(config, options) -> list[int]:
  return [config.seeds.first + number for number in range(options.num_seeds)]


def trials(options) -> list[tuple[str, float]]:
  """Methods with their momenta."""
  return [('plain', 0.0), *((method, beta) for method in METHODS[1:] for beta in options.momenta)]


@steps.cell(over=lambda config: config.rates.quadratics.conditions)
@jax.enable_x64(True)
def border(config, condition, *, progress):
  """The rate from which on descent on a quadratic grows, by bisection, over the formula's, [method, seed]."""
  options, rows = config.rates.quadratics, []
  ids = _ids(config, options)
  values, first = spectra(options, condition, ids), starts(options, ids)
  for number, (method, beta) in enumerate(trials(options), 1):
    found = jax.jit(jax.vmap(functools.partial(_border, method, beta, options.updates)))(values, first)
    formula = [
      theory.largest_stable_rate(float(row[0]), momentum=beta, nesterov=method == 'Nesterov')
      for row in values
    ]
    rows.append(np.asarray(found) / np.array(formula))
    progress(number, len(trials(options)))
  names = [f'{method} {beta:g}' if beta else method for method, beta in trials(options)]
  return xr.Dataset(
    {'over_formula': (('method', 'seed'), np.stack(rows))},
    {'method': names, 'seed': ids},
  )


def _border(method: str, beta: float, updates: int, eigenvalues: Array, start: Array) -> Array:
  """A bisection of [0, 8/L]: at a rate above the border the second half of the updates makes the norm larger."""

  def grows(rate: Array) -> Array:
    optimizer = optax.sgd(rate, momentum=beta or None, nesterov=method == 'Nesterov')

    def update(_: int, carry):
      x, state = carry
      change, state = optimizer.update(eigenvalues * x, state)
      return x + change, state

    half = jax.lax.fori_loop(0, updates // 2, update, (start, optimizer.init(start)))
    whole = jax.lax.fori_loop(0, updates // 2, update, half)
    middle, end = (jnp.linalg.norm(carry[0]) for carry in (half, whole))
    return ~jnp.isfinite(end) | (end > middle)

  def halve(_: int, ends):
    low, high = ends
    middle = (low + high) / 2
    up = grows(middle)
    return jnp.where(up, low, middle), jnp.where(up, middle, high)

  low, high = jax.lax.fori_loop(0, HALVINGS, halve, (0.0 * eigenvalues[0], 8 / eigenvalues[0]))
  return (low + high) / 2


@steps.cell(over=lambda config: config.rates.quadratics.conditions)
@jax.enable_x64(True)
def cauchy(config, condition, *, progress):
  """Exact line search from the worst start and from random ones, in turned coordinates, [start, seed, step]."""
  options, found = config.rates.quadratics, []
  ids = _ids(config, options)
  values = spectra(options, condition, ids)
  worst = np.stack([theory.line_search_worst_start(row) for row in values])
  square = (options.dimension, options.dimension)
  turns = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), square))(study.keys(ids))
  for start in (worst, starts(options, ids)):
    found.append(jax.jit(jax.vmap(_line_search))(values, start, turns))
  names = ('left', 'turn', 'return')
  columns = {
    name: (('start', 'seed', 'step'), np.stack(each))
    for name, each in zip(names, zip(*found, strict=True), strict=True)
  }
  rates = ('seed', [theory.line_search_rate(float(row.max()), float(row.min())) for row in values])
  progress(1, 1)
  return xr.Dataset(columns | {'rate': rates}, {'start': ['worst', 'random'], 'seed': ids})


def _line_search(eigenvalues: Array, start: Array, turn: Array) -> tuple[Array, Array, Array]:
  """Of every step the share of f that it leaves, the cosine of its angle to the next step, and to the one after."""
  basis = jnp.linalg.qr(turn)[0]
  hessian = (basis * eigenvalues[None]) @ basis.T

  def step(x: Array, _):
    gradient = hessian @ x
    move = -(gradient @ gradient) / (gradient @ hessian @ gradient) * gradient
    after = x + move
    return after, ((after @ hessian @ after) / (x @ hessian @ x), move / jnp.linalg.norm(move))

  _, (left, moves) = jax.lax.scan(step, basis @ start, None, LINE_SEARCHES + 2)
  cosine = lambda apart: (moves[:LINE_SEARCHES] * moves[apart : LINE_SEARCHES + apart]).sum(axis=1)
  return left[:LINE_SEARCHES], cosine(1), cosine(2)


def noisy_quadratic(params: Array, key: Key) -> Array:
  """A draw of a quadratic with gradient noise of variance 1."""
  return jnp.asarray(CURVATURES) @ params**2 / 2 + jax.random.normal(key, params.shape) @ params


def regression(power: int) -> Callable[[Array, Key], Array]:
  """One example of a stream: |a (x - 1) - e|^p / p, with normal inputs a and errors e."""

  def loss(params: Array, key: Key) -> Array:
    drawn = jax.random.normal(key, (params.size + 1,))
    return jnp.abs(drawn[:-1] @ (params - 1) - drawn[-1]) ** power / power

  return loss


SQUARED = regression(2)


def noisy_problem(kind: str) -> Problem:
  """What Robbins and Monro's rates are tried on."""
  if kind == 'quadratic':
    return problems.from_function(noisy_quadratic, np.full(len(CURVATURES), 10.0), name='noisy quadratic')
  return problems.from_function(SQUARED, np.zeros(DIMENSION), name='streaming regression')


def floor(kind: str, rate: float) -> float:
  r"""The expected excess at which a constant rate stays.

  Of regression with inputs of covariance I and errors of variance 1, as $E(aa^\top)^2 = (d+2)I$:
  $E r^2 \leftarrow (1 - 2\alpha + (d+2)\alpha^2) E r^2 + \alpha^2 d$, and half the fixed point.
  """
  if kind == 'quadratic':
    moments = theory.stationary_moments(CURVATURES, 1.0, learning_rate=rate)
    return float(np.asarray(CURVATURES) @ moments.position / 2)
  return rate * DIMENSION / (2 - (DIMENSION + 2) * rate) / 2


@functools.cache
def _falling(offset: float) -> Callable[..., gdlab.Algorithm]:
  def make(exponent, learning_rate):
    rate = schedules.robbins_monro(learning_rate, exponent, offset)
    return gdlab.algorithm(sampler=sampling.single(), optimizer=optax.sgd(rate))

  return make


@steps.cell(over=lambda config: ('quadratic', 'regression'))
@jax.enable_x64(True)
def decays(config, kind, *, progress):
  """The excess over the minimum under rates that fall as powers of time."""
  options = config.rates.decays
  runs = gdlab.sweep(
    noisy_problem(kind),
    _falling(options.offset),
    {'exponent': options.exponents, 'learning_rate': [options.first_rate]},
    num_steps=options.updates,
    seeds=_ids(config, options),
    eval_every=options.updates,
    eval_steps=[options.updates // 2**power for power in range(5)],
    probes={'params': study.flat_params},
    plan=gdlab.Plan(lanes_at_once=64),  # side by side: parameters are few
    progress=progress,
  )
  least, curvature = (0.0, np.array(CURVATURES)) if kind == 'quadratic' else (1.0, 1.0)
  excess = (curvature * (runs.params - least) ** 2 / 2).sum(runs.params.dims[-1])
  return xr.Dataset({'excess': excess, 'status': runs.status}, attrs=runs.attrs).isel(learning_rate=0)
