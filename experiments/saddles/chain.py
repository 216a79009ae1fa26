"""A chain of saddles: after how many updates each is passed, by plain descent and by descent with noise."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

import gdlab
from experiments.saddles.seeds import keys, study_seeds, tuning_seeds
from gdlab import problems, sampling, transforms
from gdlab.core.types import Algorithm, Problem

TAU = math.e  # half the width of a tube


def plain(learning_rate) -> Algorithm:
  """Full-batch gradient descent."""
  return gdlab.algorithm(sampler=sampling.full_batch(), optimizer=optax.sgd(learning_rate))


def perturbed(learning_rate) -> Algorithm:
  """The same with a draw from a small ball wherever the gradient is small: the constants of Du et al."""
  small = TAU / 100
  optimizer = transforms.perturbed_gradient_descent(learning_rate, small, small, 1)
  return gdlab.algorithm(sampler=sampling.full_batch(), optimizer=optimizer)


def langevin(learning_rate) -> Algorithm:
  """The same with a little normal noise at every update."""
  noise = transforms.langevin_noise(1e-3, learning_rate)
  optimizer = optax.chain(optax.sgd(learning_rate), noise)
  return gdlab.algorithm(sampler=sampling.full_batch(), optimizer=optimizer)


ARMS = {'plain': plain, 'perturbed': perturbed, 'Langevin': langevin}


@functools.partial(jax.jit, static_argnames=('make', 'limit'))
def passages(problem: Problem, make: Callable[..., Algorithm], rates, seeds, way, limit: int):
  """The update at which each coordinate first lies beyond its tube, int[rate, seed, d]; -1 if it never does.

  Coordinate k can leave its tube only after those before it, so that the k-th passage is also the whole time of a
  chain of k saddles.
  """

  def one(rate, key):
    algorithm = make(rate)
    state = algorithm.init(key, problem)

    def going(carry):
      _, steps, times = carry
      return (times < 0).any() & (steps < limit)

    def advance(carry):
      state, steps, times = carry
      state = algorithm.step(state, problem)[0]
      passed = (times < 0) & (jnp.abs(state.params) >= way)
      return state, steps + 1, jnp.where(passed, steps + 1, times)

    times = jnp.full(state.params.shape, -1)
    return jax.lax.while_loop(going, advance, (state, 0, times))[2]

  return jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None))(rates, seeds)


def chain(config, dimension: int, arms: tuple[str, ...], progress) -> xr.Dataset:
  """Passages of an octopus of that dimension from uniform starts, for the arms and every rate, in float64."""
  options, found = config.chain, []
  ids = tuning_seeds(config) + study_seeds(config)
  with jax.enable_x64(True):
    problem = problems.octopus(dimension, tau=TAU)  # L = gamma = 1
    for place, arm in enumerate(arms):
      rates = jnp.asarray([float(rate) for rate in options.rates])
      found.append(np.asarray(passages(problem, ARMS[arm], rates, keys(ids), 2 * TAU, options.limit)))
      progress(place + 1, len(arms))
  return xr.Dataset(
    {'passed': (('arm', 'learning_rate', 'seed', 'saddle'), np.stack(found))},
    {
      'arm': list(arms),
      'learning_rate': list(options.rates),
      'seed': ids,
      'saddle': np.arange(1, dimension + 1),
    },
    {'limit': options.limit},
  )
