"""The cells whose answers are known exactly, or nearly so: quadratics, two wells, classes of one-hot inputs, orders."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

import gdlab
from experiments.methods.arms import ARMS, BETA, descent
from experiments.methods.study import asked, methods
from gdlab import problems, sampling, study, theory
from gdlab.theory import linear

METHODS = {
  'plain': theory.best_plain,
  'heavy_ball': theory.best_heavy_ball,
  'nesterov': theory.best_nesterov,
  'plain_rate': lambda large, small: theory.best_plain(large, small)._replace(momentum=BETA),
}


@methods.cell(when=asked('M1'))
def quadratic(config, progress):
  """Updates to the tolerance at the best rate and momentum, float64; `plain_rate` is plain descent's with beta .9.

  `missed` counts runs that the closed form does not have at the tolerance first after the same number of updates, and
  `path` is the way along the steepest direction in units of the start's distance along it.
  """
  options, found = config.quadratic, []
  with jax.enable_x64(True):
    keys = study.keys(config.seeds.ids)
    for place, condition in enumerate(options.conditions):
      curvatures = np.geomspace(1 / condition, 1.0, options.dimension)
      problem = problems.quadratic(curvatures)
      for name, best in METHODS.items():
        tuning, nesterov = best(1.0, 1 / condition), name == 'nesterov'
        run = _descend(problem, keys, tuning.learning_rate, tuning.momentum, options.tolerance, nesterov)
        *run, starts = map(np.asarray, run)
        found.append((*run, _missed(curvatures, tuning, nesterov, options.tolerance, run[0], starts)))
      progress(place + 1, len(options.conditions))
  names = ('updates', 'path', 'missed')
  values = np.asarray(found, float).reshape(len(options.conditions), len(METHODS), len(names), -1)
  return xr.Dataset(
    {name: (('condition', 'rule', 'seed'), values[:, :, place]) for place, name in enumerate(names)},
    {'condition': [*options.conditions], 'rule': [*METHODS], 'seed': config.seeds.ids},
  )


@functools.partial(jax.jit, static_argnames='nesterov')
@functools.partial(jax.vmap, in_axes=(None, 0, None, None, None, None))
def _descend(problem, key, rate, momentum, tolerance, nesterov):
  """Runs gdlab's own update until the distance is the tolerance times that at the start."""
  method = gdlab.algorithm(
    sampler=sampling.full_batch(), optimizer=optax.sgd(rate, momentum=momentum, nesterov=nesterov)
  )
  start = method.init(key, problem)
  length = jnp.linalg.norm(start.params)

  def more(carry):
    return (jnp.linalg.norm(carry[0].params) > tolerance * length) & (carry[0].step < 1_000_000)

  def step(carry):
    state, path = carry
    new, _ = method.step(state, problem)
    return new, path + jnp.abs(new.params[-1] - state.params[-1])

  state, path = jax.lax.while_loop(more, step, (start, jnp.zeros(())))
  return state.step, path / jnp.abs(start.params[-1]), start.params


def _missed(curvatures, tuning, nesterov: bool, tolerance: float, counts, starts) -> list[bool]:
  """Whether the powers of the recursion's matrix cross the tolerance elsewhere than the run did."""
  system = linear.momentum_system(
    curvatures, tuning.learning_rate, momentum=tuning.momentum, nesterov=nesterov
  )
  powers, missed = linear.powers(system), []
  for count, start in zip(counts, starts, strict=True):
    after, before = (
      np.linalg.norm(linear.power(powers, int(count) - back, 0)[0] * start) / np.linalg.norm(start)
      for back in (0, 1)
    )
    # Rounding of a run of thousands of steps, some 1e-13 of the start, is far below 1e-4 of the tolerance.
    missed.append(not after <= tolerance * (1 + 1e-4) or not before > tolerance * (1 - 1e-4))
  return missed


@methods.cell(when=asked('M3'))
def valleys(config, progress):
  """Heavy ball down the outer slope of the shallower of two wells, and where each run has come to rest.

  Trials are beta .9, beta .99 at the same rate, and beta .99 at the same rate over 1 - beta.
  """
  options = config.valleys
  problem = problems.landscapes.double_well(1, tilt=options.tilt, start=[1.5], initial_scale=0.2)
  trials = {'learning_rate': [options.rate, options.rate, options.rate / 10], 'momentum': [BETA, 0.99, 0.99]}
  ids = range(config.seeds.first, config.seeds.first + options.num_starts)
  run = gdlab.sweep(
    problem,
    descent('heavy_ball'),
    points=trials,
    num_steps=options.updates,
    seeds=ids,
    eval_every=options.updates,
    probes={'place': lambda problem, state: state.params[0]},
    progress=progress,
  )
  run = run.assign_coords(trial=['usual', 'equal', 'effective'])
  points: Any = problem.known.stationary_points
  return run[['place', 'status']].assign_attrs(ridge=float(points.params[2, 0]))


def _one_hot(params):
  """The mean loss of classes with shares 1 / k, normalised; one column of logits for each input."""
  return jnp.sum(_shares(params.shape[0]) * _class_losses(params))


def _class_losses(params):
  return jax.nn.logsumexp(params, axis=0) - jnp.diagonal(params)


def _shares(count: int):
  weights = 1 / np.arange(1.0, count + 1)
  return weights / weights.sum()


@functools.partial(jax.jit, static_argnames=('name', 'steps'))
def _class_curves(name: str, rate, own, steps: int, problem):
  """The losses of the classes before every update, float[steps, class]."""
  method = descent(name)(rate, **own)
  step = lambda state, _: (method.step(state, problem)[0], _class_losses(state.params))
  return jax.lax.scan(step, method.init(jax.random.key(0), problem), length=steps)[1]


@methods.cell(once=True, when=asked('M12'))
def one_hot(config, progress):
  """The first update after which each class is at the loss: gradient descent, sign descent, Adam; float64."""
  options, size, found = config.classes, config.classes.count, []
  with jax.enable_x64(True):
    longest = float(theory.class_time(_shares(size)[-1], options.loss, num_classes=size))
    rates = {'plain': options.flow_rate, 'sign': options.sign_rate, 'adam': options.sign_rate}
    problem = problems.from_function(_one_hot, np.zeros((size, size)))
    for place, (name, rate) in enumerate(rates.items()):
      steps = int(1.1 * longest / rate) if name == 'plain' else int(10 / rate)
      below = np.asarray(_class_curves(name, rate, ARMS[name].numbers, steps, problem)) <= options.loss
      found.append(np.where(below.any(axis=0), below.argmax(axis=0), np.nan))
      progress(place + 1, len(rates))
  columns = {'updates': (('rule', 'share'), np.asarray(found))}
  return xr.Dataset(columns, {'rule': [*rates], 'share': _shares(size)})


@methods.cell(when=asked('M9'))
def orders(config, progress):
  """Whether two parameters converge when updated together, and one after another: spectral radii of random systems.

  Of one loss, a positive definite matrix; of a game, where each of two parameters goes down its own loss, one whose
  couplings are any. Own curvatures are from 0.05 to 1, rates uniform below 4 over the matrix's norm: of one loss, twice
  the border of stability of updating together.
  """
  del progress
  rng, count, found = np.random.default_rng(config.seeds.first), config.order.draws, {}
  for kind in ('loss', 'game'):
    own = np.exp(rng.uniform(np.log(0.05), 0, (count, 2)))
    coupled = rng.normal(size=(count, 2))
    if kind == 'loss':  # below the geometric mean of the own curvatures, either way
      coupled = (rng.uniform(-1, 1, count) * np.sqrt(own.prod(axis=1)))[:, None].repeat(2, axis=1)
    field = np.stack([own[:, 0], coupled[:, 0], coupled[:, 1], own[:, 1]], axis=1).reshape(-1, 2, 2)
    rates = rng.uniform(0, 4, count) / np.linalg.norm(field, ord=2, axis=(1, 2))
    found[kind] = [radius(field, rates, sequential) < 1 for sequential in (False, True)]
  return xr.Dataset(
    {'converges': (('kind', 'order', 'draw'), np.asarray([*found.values()]))},
    {'kind': [*found], 'order': ['together', 'after']},
  )


def radius(field: np.ndarray, rates: np.ndarray, sequential: bool) -> np.ndarray:
  """The spectral radius of a sweep z -> z - rate * field z, the second parameter after the first or together."""
  step = rates[:, None, None] * field
  moved = np.eye(2) - step
  if sequential:  # the second row acts on the first parameter as it then is
    moved[:, 1] = np.array([0.0, 1.0]) - step[:, 1, 1:] * [0.0, 1.0] - step[:, 1, :1] * moved[:, 0]
  return np.abs(np.linalg.eigvals(moved)).max(axis=1)
