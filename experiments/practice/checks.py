"""P4 and P5: gradients against finite differences, and networks that have to fit a few examples."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import linen as nn
from jax.flatten_util import ravel_pytree

import gdlab
from experiments.practice.costs import Convolutions, Perceptron, digits, widened
from experiments.practice.seen import BROKEN, SOUND, WRONG
from experiments.practice.study import practice
from gdlab import analysis
from gdlab.core.types import Array, Problem

DIFFERENCED = 64  # images, by which the gradient is checked
STEPS = 10.0 ** -np.arange(0.5, 9.1, 0.25)  # of differences, relative to the norm of the parameters


@dataclasses.dataclass(frozen=True)
class Scaled:
  """A loss whose gradient is larger than its derivative by a share of itself."""

  loss: Callable
  share: float

  def __call__(self, *arguments: Any) -> tuple[Array, Any]:
    """As the loss."""
    losses, state = self.loss(*arguments)
    return losses + self.share * (losses - jax.lax.stop_gradient(losses)), state


def gradients(config: Any, seed: int) -> dict[str, Problem]:
  """A few images and a smooth network in float64, with its gradient and with one that is planted wrong."""
  right = widened(digits(Perceptron(config.checks.hidden, jnp.float64, nn.tanh), config, seed))
  few = jax.tree.map(lambda leaf: leaf[:DIFFERENCED], right.train)
  right = dataclasses.replace(right, train=few)
  return {'right': right, 'wrong': dataclasses.replace(right, loss=Scaled(right.loss, WRONG))}


@jax.jit
def errors_of(problem: Problem, params: Any, keys: Array) -> Array:
  """Errors of central and forward differences along unit directions, of what a direction sees of the gradient."""
  flat, unravel = ravel_pytree(params)
  value = analysis.full_loss(problem, (), keys[0], losses=analysis.training_losses)
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
  """Errors of differences by step, geometric means over directions, of a right gradient and of a wrong one."""
  ids, found = config.some_ids, []
  for done, seed in enumerate(ids, 1):
    key, both = jax.random.fold_in(jax.random.key(0), seed), gradients(config, seed)
    params = jax.tree.map(lambda leaf: leaf.astype(float), both['right'].init(key)[0])
    keys = jax.random.split(key, config.checks.directions)
    rows = [np.maximum(errors_of(problem, params, keys), 1e-300) for problem in both.values()]
    found.append(np.exp(np.log(rows).mean(axis=1)))
    progress(done, len(ids))
  coords = {'seed': ids, 'gradient': ['right', 'wrong'], 'kind': ['central', 'forward'], 'step': STEPS}
  return xr.Dataset({'error': ([*coords], np.array(found))}, coords)


@practice.cell()
def gradient_checks(config, *, progress):
  """The order that `gdlab.check_gradients` finds, and how many of a right and a wrong gradient it misjudges."""
  ids, orders, wrong = config.few_ids, [], []
  for done, seed in enumerate(ids, 1):
    key = jax.random.fold_in(jax.random.key(0), seed)
    with jax.enable_x64(True):
      both = gradients(config, seed).values()
      right, planted = (gdlab.check_gradients(problem, key=key) for problem in both)
    orders.append(np.median([leaf.order for leaf in right.leaves]))
    wrong.append((not right.right) + planted.right)
    progress(done, len(ids))
  return xr.Dataset({'order': ('seed', orders), 'misjudged': ('seed', wrong)}, {'seed': ids})


def planted(config: Any, name: str, seed: int) -> Problem:
  """A sound problem or a broken one, by its name in `SOUND` or `BROKEN`."""
  hidden = config.checks.hidden
  models = {fault: Perceptron(hidden, fault=fault) for fault in BROKEN}
  models |= {'deep': Perceptron(3 * tuple(hidden), activation=nn.tanh), 'two': Perceptron((2,))}
  model = Convolutions((8,)) if name == 'cnn' else models.get(name, Perceptron(hidden))
  problem = digits(model, config, seed)
  inputs, targets = problem.train
  targets = jax.random.permutation(jax.random.key(seed), targets) if name == 'shuffled' else targets
  train = problem.train._replace(inputs=inputs * (255 if name == 'unscaled' else 1), targets=targets)
  return dataclasses.replace(problem, train=train)


@practice.cell(over=lambda config: [*SOUND, *BROKEN])
def overfit(config, name, *, progress):
  """Whether networks fit a few examples, by `gdlab.overfit_small`."""
  ids, found = config.some_ids, []
  given = {'num_examples': config.checks.num_examples, 'num_steps': config.checks.num_steps}
  for done, seed in enumerate(ids, 1):
    verdict = gdlab.overfit_small(planted(config, name, seed), seed=seed, **given)
    found.append((verdict.fits, verdict.accuracy, verdict.steps))
    progress(done, len(ids))
  columns = zip(('fits', 'accuracy', 'steps'), np.transpose(found).astype(float), strict=True)
  return xr.Dataset({name: ('seed', values) for name, values in columns}, {'seed': ids})
