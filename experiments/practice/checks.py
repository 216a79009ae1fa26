"""P4 and P5: gradients against finite differences, and networks that have to fit a few examples."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import linen as nn
from jax.flatten_util import ravel_pytree

import gdlab
from experiments.practice.costs import Perceptron, digits, widened
from experiments.practice.seen import BROKEN, DIRECTIONS, HIDDEN, SOUND, WRONG
from experiments.practice.settings import FITTED
from experiments.practice.study import practice
from gdlab import analysis, problems
from gdlab.core.types import Array, Problem

DIFFERENCED = 64  # images, by which the gradient is checked
STEPS = 10.0 ** -np.arange(0.5, 9.1, 0.25)  # of differences, relative to the norm of the parameters


@functools.cache
def scaled(loss: Any) -> Callable:
  """The loss with a gradient that is too large by a share of itself."""

  def wrong(*arguments: Any) -> tuple[Array, Any]:
    losses, state = loss(*arguments)
    return losses + WRONG * (losses - jax.lax.stop_gradient(losses)), state

  return wrong


@jax.jit
def errors_of(problem: Problem, params: Any, keys: Array) -> Array:
  """Errors of central and forward differences along unit directions, of what a direction sees of the gradient."""
  flat, unravel = ravel_pytree(params)
  value = analysis.full_loss(problem, (), jax.random.key(0), losses=analysis.training_losses)
  loss = lambda x: value(unravel(x))
  slope, steps = jax.grad(loss)(flat), jnp.linalg.norm(flat) * STEPS

  def along(key: Array) -> Array:
    way = jax.random.normal(key, flat.shape)
    way /= jnp.linalg.norm(way)

    def at(step: Array) -> Array:
      ahead, here, behind = loss(flat + step * way), loss(flat), loss(flat - step * way)
      found = jnp.stack([(ahead - behind) / (2 * step), (ahead - here) / step])
      return jnp.abs(found - way @ slope) / (jnp.linalg.norm(slope) / jnp.sqrt(flat.size))

    return jax.lax.map(at, steps).T

  return jax.lax.map(along, keys)  # [direction, kind, step]


@practice.cell()
@jax.enable_x64(True)
def differences(config, *, progress):
  """Errors of differences by step, geometric means over directions, of a right gradient and of one planted wrong.

  And what `gdlab.check_gradients` finds: the order, and how many of the two it misjudges.
  """
  model, ids = Perceptron(HIDDEN, jnp.float64, nn.tanh), config.few_ids
  errors, orders, misjudged = [], [], []
  for done, seed in enumerate(ids, 1):
    right, key = (
      widened(digits(model, config, seed), DIFFERENCED),
      jax.random.fold_in(jax.random.key(0), seed),
    )
    loss: Any = right.loss
    both = right, dataclasses.replace(right, loss=scaled(loss))
    params = jax.tree.map(lambda leaf: leaf.astype(float), right.init(key)[0])
    keys = jax.random.split(key, DIRECTIONS)
    rows = [np.maximum(errors_of(problem, params, keys), 1e-300) for problem in both]
    errors.append(np.exp(np.log(rows).mean(axis=1)))
    passes, fails = (gdlab.check_gradients(problem, params, key=key) for problem in both)
    orders.append(np.median([leaf.order for leaf in passes.leaves]))
    misjudged.append((not passes.right) + fails.right)
    progress(done, len(ids))
  coords = {'seed': ids, 'gradient': ['right', 'wrong'], 'kind': ['central', 'forward'], 'step': STEPS}
  columns = {
    'error': ([*coords], np.array(errors)),
    'order': ('seed', orders),
    'misjudged': ('seed', misjudged),
  }
  return xr.Dataset(columns, coords)


def planted(config: Any, name: str, seed: int) -> Problem:
  """A sound problem or a broken one, by its name in `SOUND` or `BROKEN`."""
  models: dict[str, nn.Module] = {fault: Perceptron(HIDDEN, fault=fault) for fault in BROKEN}
  models |= {
    'deep': Perceptron(3 * HIDDEN, activation=nn.tanh),
    'two': Perceptron((2,)),
    'cnn': problems.CNN((8,)),
  }
  problem = digits(models.get(name, Perceptron(HIDDEN)), config, seed)
  inputs, targets = problem.train
  targets = jax.random.permutation(jax.random.key(seed), targets) if name == 'shuffled' else targets
  train = problem.train._replace(inputs=inputs * (255 if name == 'unscaled' else 1), targets=targets)
  return dataclasses.replace(problem, train=train)


@practice.cell(over=lambda config: [*SOUND, *BROKEN])
def overfit(config, name, *, progress):
  """Whether networks fit a few examples, by `gdlab.overfit_small`."""
  ids, found = config.some_ids, []
  for done, seed in enumerate(ids, 1):
    verdict = gdlab.overfit_small(planted(config, name, seed), seed=seed, num_examples=FITTED)
    found.append((verdict.fits, verdict.accuracy, verdict.steps))
    progress(done, len(ids))
  columns = zip(('fits', 'accuracy', 'steps'), np.transpose(found).astype(float), strict=True)
  return xr.Dataset({name: ('seed', values) for name, values in columns}, {'seed': ids})
