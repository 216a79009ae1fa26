"""The level of the noise scales' intervals and errors over thousands of samples: 95 % within 2 %."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from noise_cases import LeastSquares

from gdlab import analysis, problems
from gdlab.core.types import Problem

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('x64')]
TRIALS = 10_000  # the standard error of a coverage near 95 % is 0.2 %


def covered(found, truth):
  return float(((found.low <= truth) & (found.high >= truth)).mean())


def within_two_errors(values, errors, truth):
  return float((abs(values - truth) <= 1.96 * errors).mean())


@pytest.mark.parametrize('signal', [1.0, 0.3])
@pytest.mark.parametrize('num_examples', [128, 512])
def test_sampled_noise_scale_on_least_squares(signal, num_examples):
  # 200 examples with truth by enumeration. Squared residuals are heavy-tailed: the trace needs a hundred examples.
  case = LeastSquares(200, signal=signal)
  sample = lambda key: analysis.sampled_noise_scale(
    case.problem, case.params, (), key, num_examples=num_examples, block_size=num_examples
  )
  found = jax.jit(lambda keys: jax.lax.map(sample, keys, batch_size=100))(
    jax.random.split(jax.random.key(0), TRIALS)
  )
  for values, truth in ((found.covariance_trace, case.trace), (found.gradient_square, case.square)):
    assert abs(values.mean() - truth) < 4 * values.std() / TRIALS**0.5
  assert abs(covered(found, case.scale) - 0.95) < 0.02


@pytest.mark.parametrize('distance', [3.0, 1.0, 0.3])
def test_sampled_noise_scale_on_the_noisy_quadratic(distance):
  # tr Sigma = 20 and |G|^2 = 20 d^2 in closed form: noise scales of 0.1, 1 and 11, from 64 examples.
  problem = problems.quadratic(np.ones(20), noise=1.0, num_examples=1000)
  sample = lambda key: analysis.sampled_noise_scale(problem, jnp.full(20, distance), (), key, num_examples=64)
  found = jax.jit(lambda keys: jax.lax.map(sample, keys, batch_size=100))(
    jax.random.split(jax.random.key(1), TRIALS)
  )
  assert abs(found.covariance_trace.mean() - 20) < 4 * found.covariance_trace.std() / TRIALS**0.5
  assert abs(found.gradient_square.mean() - 20 * distance**2) < 4 * found.gradient_square.std() / TRIALS**0.5
  assert abs(covered(found, 1 / distance**2) - 0.95) < 0.02


@pytest.mark.parametrize('num_pairs', [20, 100])
def test_two_batches_on_the_noisy_quadratic(num_pairs):
  problem = problems.quadratic(np.ones(20), noise=1.0, num_examples=1000)

  def sample(key):
    squares = analysis.two_batch_squares(
      problem, jnp.ones(20), (), key, small_size=4, large_size=32, num_pairs=num_pairs
    )
    return analysis.two_batch_noise_scale(*squares, 4, 32)

  found = jax.jit(lambda keys: jax.lax.map(sample, keys, batch_size=100))(
    jax.random.split(jax.random.key(2), TRIALS)
  )
  assert abs(found.covariance_trace.mean() - 20) < 4 * found.covariance_trace.std() / TRIALS**0.5
  assert abs(found.gradient_square.mean() - 20) < 4 * found.gradient_square.std() / TRIALS**0.5
  assert abs(covered(found, 1.0) - 0.95) < 0.02


def test_curved_noise_scale():
  # 400 probes each: v'Hv has the skew of chi-square over few directions of unequal weight.
  case = LeastSquares(200)
  truth = np.trace(case.hessian @ case.covariance)
  probe = lambda key: analysis.noise_scales(
    case.problem, case.params, (), key, num_probes=400, block_size=200
  )
  found = jax.jit(lambda keys: jax.lax.map(probe, keys, batch_size=50))(
    jax.random.split(jax.random.key(3), 2000)
  )
  values, errors = found.curved_trace, found.curved_trace_error
  assert abs(values.mean() - truth) < 4 * values.std() / 2000**0.5
  assert abs(within_two_errors(values, errors, truth) - 0.95) < 0.02
  along = case.mean @ case.hessian @ case.mean
  assert abs(within_two_errors(found.noise, found.noise_error, truth / along) - 0.95) < 0.02


@pytest.mark.parametrize('index', [1.2, 1.8, 2.0])
def test_tail_indices(index):
  # Inverse indices are means over groups (or logarithms) and so the nearer to Gaussian: two errors of 1 / alpha.
  rng = np.random.default_rng(0)
  angle, waiting = rng.uniform(-np.pi / 2, np.pi / 2, (4096, 2000)), rng.exponential(size=(4096, 2000))
  values = np.sin(index * angle) / np.cos(angle) ** (1 / index)
  values *= (np.cos((1 - index) * angle) / waiting) ** ((1 - index) / index)
  found = analysis.stable_index(values, group_size=64)
  share = within_two_errors(1 / found.alpha, found.standard_error / found.alpha**2, 1 / index)
  assert abs(share - 0.95) < 0.02
  pareto = rng.pareto(index, (4096, 2000)) + 1
  hill = analysis.hill_index(pareto, num_tail=400)
  share = within_two_errors(1 / hill.alpha, hill.standard_error / hill.alpha**2, 1 / index)
  assert abs(share - 0.95) < 0.02


def test_gap_and_flatness():
  rng = np.random.default_rng(1)
  metrics = lambda params, model_state, examples: {'loss': examples}
  train = rng.exponential(size=500)

  def gap(test):
    return analysis.generalisation_gap(Problem(None, None, metrics, 'sample', jnp.asarray(train), test), ())[
      'loss'
    ]

  found = jax.jit(jax.vmap(gap))(jnp.asarray(rng.exponential(size=(TRIALS, 200))))
  share = within_two_errors(found.gap, found.standard_error, 1 - train.mean())
  assert abs(share - 0.95) < 0.02
  problem, point = problems.quadratic(np.linspace(0.5, 2, 20)), jnp.ones(20)
  rise = lambda key: analysis.flatness(problem, point, (), key, sigma=0.3, num_pairs=64)
  found = jax.jit(jax.vmap(rise))(jax.random.split(jax.random.key(4), TRIALS))
  share = within_two_errors(found.rise, found.standard_error, 0.045 * 25)
  assert abs(share - 0.95) < 0.02
