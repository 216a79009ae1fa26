"""Langevin noise and annealed gradient noise: scales by hand, stationary laws, schedules, seeds of a run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from scipy import stats
from transform_cases import CASES, assert_close, gradients, scan, tree

import gdlab
from gdlab.transforms import annealed_gradient_noise, langevin_noise


def noise_of(transform, params, num_steps):
  """What is added to zero updates, one after another."""
  zeros = jax.tree.map(lambda leaf: jnp.zeros((num_steps, *leaf.shape), leaf.dtype), params)
  return scan(transform, params, zeros)[1]


class ScaleTest(parameterized.TestCase):
  def test_noise_is_standard_normal_at_scale_1(self):
    found = np.asarray(noise_of(langevin_noise(0.5, 1.0), jnp.zeros((100, 20)), 10)).ravel()
    self.assertGreater(stats.kstest(found, 'norm').pvalue, 1e-4)
    # Neighbours in memory and in time are uncorrelated: 3 standard errors, 1/sqrt(n).
    for lag in (1, 2000):
      self.assertLess(abs(np.mean(found[lag:] * found[:-lag])), 3 / np.sqrt(found.size - lag))

  def test_bfloat16_noise_has_its_variance_and_its_tails(self):
    found = np.asarray(noise_of(langevin_noise(0.5, 1.0), jnp.zeros(20_000, jnp.bfloat16), 1), np.float32)
    # The variance of n draws has standard error sqrt(2/n); rounding adds 2^-18 / 3 of it.
    self.assertLess(abs(found.var() - 1), 3 * np.sqrt(2 / found.size))
    # 20,000 draws reach beyond 3 deviations 54 times on average; JAX's own bfloat16 normals never do.
    self.assertGreater((np.abs(found) > 3).sum(), 20)

  def test_temperature_rate_and_preconditioner_scale_it(self):
    params = {'a': jnp.zeros(3), 'b': (jnp.zeros(()), jnp.zeros(2))}
    factors = {'a': np.array([0.0, 4.0, 9.0]), 'b': 2.0}
    one = noise_of(langevin_noise(0.5, 1.0), params, 4)
    found = noise_of(langevin_noise(0.3, 0.2, preconditioner=factors), params, 4)
    scale = np.sqrt(2 * 0.3 * 0.2)
    expected = {
      'a': scale * one['a'] * jnp.array([[0.0, 2.0, 3.0]]),
      'b': jax.tree.map(lambda leaf: scale * np.sqrt(2) * leaf, one['b']),
    }
    assert_close(found, expected)

  def test_schedules_of_temperature_and_rate(self):
    params = jnp.zeros(5)
    one = noise_of(langevin_noise(0.5, 1.0), params, 4)
    found = noise_of(langevin_noise(lambda count: 0.5 * (count < 2), lambda count: 4.0**-count), params, 4)
    factors = jnp.array([1.0, 0.5, 0.0, 0.0])  # sqrt(2 * 0.5 * 4^-t) until update 2
    assert_close(found, one * factors[:, None])

  def test_annealed_variance(self):
    params = jnp.zeros(5)
    one = noise_of(annealed_gradient_noise(1.0, 0.0), params, 6)
    found = noise_of(annealed_gradient_noise(0.3, 0.55), params, 6)
    assert_close(found, one * jnp.sqrt(0.3 / jnp.arange(1.0, 7.0) ** 0.55)[:, None])

  def test_annealed_noise_has_the_law_of_optax(self):
    """The same variances at the same updates, with draws of their own."""
    params = jnp.zeros(20_000)
    ours = np.asarray(noise_of(annealed_gradient_noise(0.3, 0.55), params, 3))
    with jax.debug_key_reuse(False):
      optaxs = np.asarray(noise_of(optax.add_noise(0.3, 0.55, jax.random.key(0)), params, 3))
    # The ratio of two sample variances has relative standard error sqrt(4/n).
    np.testing.assert_allclose(ours.var(1) / optaxs.var(1), 1, atol=3 * np.sqrt(4 / params.size))


class ReductionTest(parameterized.TestCase):
  @parameterized.product(
    transform=[lambda: langevin_noise(0.0, 0.1), lambda: annealed_gradient_noise(0.0, 0.5)],
    dtype=['float32', 'bfloat16'],
  )
  def test_no_noise_is_gradient_descent(self, transform, dtype):
    params, grads = tree(dtype), gradients(CASES['langevin_noise'], 6, dtype)
    found = scan(optax.chain(optax.sgd(0.1), transform()), params, grads)[1]
    assert_close(found, scan(optax.sgd(0.1), params, grads)[1], rtol=0, atol=0)


class StationaryTest(parameterized.TestCase):
  @parameterized.parameters(None, ([1.0, 3.0],))
  def test_covariance_on_a_quadratic(self, preconditioner):
    curvature, rate, temperature, lanes, steps = np.array([1.0, 0.25]), 0.4, 0.5, 20_000, 120
    factors = np.ones(2) if preconditioner is None else np.array(preconditioner)
    noise = lambda seed: langevin_noise(
      temperature, rate, preconditioner=None if preconditioner is None else factors, seed=seed
    )

    def end(seed):
      transform = optax.chain(optax.scale(-rate), noise(seed))

      def step(carry, _):
        x, state = carry
        updates, state = transform.update(jnp.asarray(factors * curvature, jnp.float32) * x, state)
        return (x + updates, state), None

      return jax.lax.scan(step, (jnp.zeros(2), transform.init(jnp.zeros(2))), length=steps)[0][0]

    found = np.asarray(jax.jit(jax.vmap(end))(jnp.arange(lanes)), np.float64)
    kept = 1 - rate * factors * curvature
    # After t steps from 0 the variance is the stationary one times 1 - kept^(2t): exact here to 1e-10.
    self.assertLess((kept ** (2 * steps)).max(), 1e-10)
    expected = temperature / (curvature * (1 - rate * factors * curvature / 2))
    covariance = found.T @ found / lanes
    # Standard errors of products of independent normals: variance sqrt(2/n), covariance sqrt(1/n).
    np.testing.assert_array_less(np.abs(np.diag(covariance) - expected), 3 * expected * np.sqrt(2 / lanes))
    self.assertLess(abs(covariance[0, 1]), 3 * np.sqrt(expected.prod() / lanes))
    self.assertLess(np.abs(found.mean(0) / np.sqrt(expected / lanes)).max(), 3)


class RunTest(parameterized.TestCase):
  def test_each_seed_of_a_run_has_its_own_noise_that_of_its_plain_loop(self):
    problem = gdlab.problems.quadratic([1.0, 0.3], start=[0.0, 0.0])
    optimizer = optax.chain(optax.sgd(0.1), langevin_noise(0.5, 0.1))
    langevin = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optimizer)
    result = gdlab.run(
      problem,
      langevin,
      num_steps=6,
      seeds=3,
      record_every=1,
      probes={'x': lambda problem, state: state.params},
      plan=gdlab.Plan(lanes_at_once=3, num_devices=1, steps_per_call=6),
      progress=False,
    )
    paths = np.asarray(result['x'])
    self.assertEqual(paths.shape[:2], (3, 7))
    step = jax.jit(langevin.step)
    for seed in range(3):
      state = langevin.init(jax.random.fold_in(jax.random.key(0), seed), problem)
      for number in range(1, 7):
        state, _ = step(state, problem)
        np.testing.assert_allclose(paths[seed, number], state.params, rtol=1e-5, atol=1e-6)
    self.assertLen(np.unique(paths[:, 1:]), 3 * 6 * 2)
