"""On strongly convex logistic regression the floor is of order 2 in the rate reshuffled, 1 with replacement."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdlab
from gdlab import theory
from gdlab.sampling import reshuffle, with_replacement

# The slopes are those of small rates: the next order bends them. The largest one times L of an example is 0.04.
RATES = np.array([0.002, 0.004, 0.008, 0.016])
LANES = 8


@pytest.fixture(autouse=True)
def _float64(x64):
  pass


@functools.cache
def problem():
  """N = 6 rows of unequal length: their Hessians and gradients at the minimum are far from uncorrelated."""
  rng = np.random.default_rng(0)
  features = rng.normal(size=(6, 2)) * np.array([0.5, 0.7, 1.0, 1.4, 2.0, 2.8])[:, None]
  return gdlab.problems.logistic_regression(features, np.array([0, 1, 1, 0, 0, 1]), l2=0.3)


@functools.cache
def floors(make):
  """The mean of |x - x*|^2 at the ends of epochs, from x* on: float64[rates, lanes].

  Epochs are counted in units of the relaxation time 1 / (alpha mu): 6 to settle, which leaves e^-6 of the start in the
  mean and the same part at every rate, and 40 to average.
  """
  sampler = make(1)
  known = problem().known
  best, count = jnp.asarray(known.params), problem().num_examples

  def lane(key, rate, first, last):
    descent = gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(rate))

    def epoch(number, carry):
      state, total = carry
      state = jax.lax.fori_loop(0, count, lambda _, s: descent.step(s, problem())[0], state)
      square = jnp.sum((state.params - best) ** 2)
      return state, total + jnp.where(number >= first, square, 0)

    start = descent.init(key, problem(), params=best), jnp.zeros(())
    return jax.lax.fori_loop(0, last, epoch, start)[1] / (last - first)

  run = jax.jit(jax.vmap(lane, (0, None, None, None)))
  keys, found = jax.random.split(jax.random.key(0), LANES), []
  for rate in RATES:
    unit = 1 / (rate * float(known.strong_convexity) * count)
    found.append(run(keys, rate, int(6 * unit) + 1, int(46 * unit) + 1))
  return np.asarray(found)


def slope_and_error(found):
  """The log-log slope of the mean over lanes, and its standard error from that of each rate."""
  x = np.log(RATES) - np.log(RATES).mean()
  relative = found.std(axis=1, ddof=1) / np.sqrt(LANES) / found.mean(axis=1)
  return x @ np.log(found.mean(axis=1)) / (x @ x), np.sqrt(np.sum((x * relative) ** 2)) / (x @ x)


@pytest.mark.parametrize(('make', 'order'), [(reshuffle, 2), (with_replacement, 1)])
def test_the_floor_has_its_slope_in_the_rate(make, order):
  slope, error = slope_and_error(floors(make))
  assert error < 0.05, 'a slope that is not known well enough to be told from 0.2 more or less'
  assert abs(slope - order) < 0.2


def test_reshuffled_it_is_the_square_of_the_bias_that_theory_has():
  x, y = np.asarray(problem().train.inputs, np.float64), np.asarray(problem().train.targets)
  best, l2 = np.asarray(problem().known.params), float(problem().known.strong_convexity)
  p = 1 / (1 + np.exp(-x @ best))
  gradients = (p - y)[:, None] * x + l2 * best
  hessians = (p * (1 - p))[:, None, None] * x[:, :, None] * x[:, None, :] + l2 * np.eye(2)
  bias = theory.reshuffled_bias(
    hessians.mean(axis=0),
    np.einsum('nij,nj->i', hessians, gradients) / len(x),
    learning_rate=RATES[0],
    num_examples=len(x),
  )
  # What is over is of the next order in the rate: 15 % were seen at five times this one.
  np.testing.assert_allclose(floors(reshuffle)[0].mean(), bias @ bias, rtol=0.06)
