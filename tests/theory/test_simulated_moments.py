"""Descent as gdlab runs it against the exact second moments: 50 dimensions, 500 steps, 512 seeds, in float64.

Each statement is on a mean over independent seeds and allows 3 standard errors.
"""

import functools

import jax
import numpy as np
import optax
import pytest
import scipy.stats

import gdlab
from gdlab import theory

SEEDS = 512
STEPS = 500
SIZE, EXAMPLES, BATCH = 50, 200, 16  # 13 updates per epoch, the last of 8 examples
END_OF_EPOCH = 494
LOOKS = (1, 9, 13, 30, 100, 250, END_OF_EPOCH, 500)
H = np.geomspace(1.0, 0.01, SIZE)
NOISE = np.linspace(0.5, 2.0, SIZE)
# Name -> momentum, nesterov. Plain descent is a lane of momentum 0 beside heavy ball, for the sake of compiling once.
METHODS = {'plain': (0.0, False), 'heavy ball': (0.9, False), 'nesterov': (0.9, True)}
SAMPLERS = {
  'with replacement': (gdlab.sampling.with_replacement, None),
  'reshuffled': (gdlab.sampling.reshuffle, EXAMPLES),
}


def learning_rate(momentum):
  return 0.5 * (1 - momentum)


def squares(problem, state):
  return state.params**2


def simulate(problem, sampler, nesterov, *, steps, looks):
  """x^2 of 512 runs without and with momentum, [momentum, seed, look, d]."""

  def descent(momentum):
    optimizer = optax.sgd(learning_rate(momentum), momentum, nesterov)
    return gdlab.algorithm(sampler=sampler, optimizer=optimizer)

  result = gdlab.sweep(
    problem,
    descent,
    {'momentum': [0.0, 0.9]},
    num_steps=steps,
    seeds=SEEDS,
    eval_every=steps,
    eval_steps=looks,
    probes={'squares': squares},
    progress=False,
  )
  assert (result.status == gdlab.RUNNING).all()
  return result.squares.sel(step=list(looks)).values


@functools.cache
def simulated(sampler, nesterov):
  with jax.enable_x64(True):
    problem = gdlab.problems.quadratic(H, noise=NOISE, num_examples=EXAMPLES, initial_scale=0.5)
    return simulate(problem, SAMPLERS[sampler][0](BATCH), nesterov, steps=STEPS, looks=LOOKS)


@functools.cache
def both(method, sampler):
  """Simulated squares [seed, look, d] and exact second moments [look, d]."""
  momentum, nesterov = METHODS[method]
  exact = theory.second_moments(
    H,
    NOISE,
    learning_rate=learning_rate(momentum),
    num_steps=STEPS,
    batch_size=BATCH,
    momentum=momentum,
    nesterov=nesterov,
    initial=0.25,
    num_examples=SAMPLERS[sampler][1],
  )
  return simulated(sampler, nesterov)[int(momentum > 0)], exact.position[list(LOOKS)]


def standard_scores(samples, exact):
  """How many standard errors the mean over the first axis is off."""
  return (samples.mean(axis=0) - exact) / (samples.std(axis=0, ddof=1) / np.sqrt(len(samples)))


def chi_square_bounds(size, statements):
  """Both tails of the sum of `size` squared scores, for all statements together the probability of 3 sigma."""
  tail = 0.0027 / 2 / statements
  return scipy.stats.chi2(size).ppf([tail, 1 - tail])


CASES = pytest.mark.parametrize(
  ('method', 'sampler'), [(method, sampler) for method in METHODS for sampler in SAMPLERS]
)


@CASES
def test_loss_at_every_look(method, sampler):
  found, exact = both(method, sampler)
  assert np.abs(standard_scores(found @ H / 2, exact @ H / 2)).max() < 3


@CASES
def test_every_direction(method, sampler):
  """The sum of 50 squared scores at each look against the chi-square law.

  x is a sum of normal starts and means of 16 nearly normal vectors, so that x^2 has variance 2 E[x^2]^2: with
  the standard error from that (an estimated one is correlated with the mean of such skewed samples) scores are
  independent and nearly normal. Too large a sum is a wrong moment somewhere, too small a one no independent seeds.
  """
  found, exact = both(method, sampler)
  scores = (found.mean(axis=0) / exact - 1) / np.sqrt(2 / SEEDS)
  sums = (scores**2).sum(axis=-1)
  low, high = chi_square_bounds(SIZE, len(METHODS) * len(SAMPLERS) * len(LOOKS))
  assert np.all((low < sums) & (sums < high)), (low, sums, high)


@pytest.mark.parametrize('method', METHODS)
def test_the_comparison_can_tell_the_samplers_apart(method):
  """Against the other sampler's moments the same statement fails: it has power."""
  found, _ = both(method, 'reshuffled')
  _, other = both(method, 'with replacement')
  assert np.abs(standard_scores(found @ H / 2, other @ H / 2)).max() > 6


@CASES
def test_stationary_variance(method, sampler):
  """At the end of the 38th epoch, in the directions that have forgotten the start: (1 - h/2)^988 < 1e-5."""
  momentum, nesterov = METHODS[method]
  forgotten = H > 0.03
  found, _ = both(method, sampler)
  found = found[:, LOOKS.index(END_OF_EPOCH), forgotten]
  exact = theory.stationary_moments(
    H[forgotten],
    NOISE[forgotten],
    learning_rate=learning_rate(momentum),
    batch_size=BATCH,
    momentum=momentum,
    nesterov=nesterov,
    num_examples=SAMPLERS[sampler][1],
  ).position
  loss = standard_scores(found @ H[forgotten], exact @ H[forgotten])
  assert abs(loss) < 3
  sums = (((found.mean(axis=0) / exact - 1) / np.sqrt(2 / SEEDS)) ** 2).sum()
  low, high = chi_square_bounds(forgotten.sum(), len(METHODS) * len(SAMPLERS))
  assert low < sums < high


def test_noisy_quadratic_model():
  """The expected loss of Zhang et al.'s model in 100 directions, plain and with momentum, against 512 runs."""
  h, looks = 1 / np.arange(1, 101), (1, 5, 20, 100, 300)
  with jax.enable_x64(True):
    problem = gdlab.problems.quadratic(h, noise=h, num_examples=128)
    found = simulate(problem, gdlab.sampling.with_replacement(4), False, steps=300, looks=looks)
  for runs, momentum in zip(found, (0.0, 0.9)):
    exact = theory.expected_loss(
      theory.noisy_quadratic(h),
      np.array(looks),
      learning_rate=learning_rate(momentum),
      batch_size=4,
      momentum=momentum,
    )
    assert np.abs(standard_scores(runs @ h / 2, exact)).max() < 3
