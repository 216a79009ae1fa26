"""Noise put on a problem: heavy tails, and independence between slots, slices, steps and runs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from gradient_moments import assert_moments, batch_of, gradients
from scipy import stats

import gdlab
from gdlab.analysis.gradients import per_example_gradients
from gdlab.core.objective import batch_loss
from gdlab.core.types import Problem
from gdlab.estimators import microbatched
from gdlab.problems import quadratic
from gdlab.problems.noise import heavy_tailed, isotropic, with_noise


class NoiseDrawsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))

  @parameterized.parameters(1, 3, 8)
  def test_slices_of_a_batch_have_noise_of_their_own(self, size):
    problem = with_noise(quadratic([1.0, 2.0]), isotropic(1.0))
    batch, estimate = batch_of([1 / 8] * 8), microbatched(size).estimate
    run = jax.jit(jax.vmap(lambda key: estimate((), problem, jnp.ones(2), (), batch, key)[0]))
    draws = np.asarray(run(jax.random.split(jax.random.key(1), 6000)))
    assert_moments(draws, np.array([1.0, 2.0]), np.eye(2) / 8)

  def test_examples_one_by_one_have_noise_of_their_own(self):
    problem = with_noise(quadratic([1.0, 2.0]), isotropic(1.0), num_examples=5000)
    draws = np.asarray(per_example_gradients(problem, jnp.ones(2), (), jax.random.key(0)))
    assert_moments(draws, np.array([1.0, 2.0]), np.eye(2))
    # Also the slots of a batch, one against the next.
    assert_moments(np.concatenate([draws[:-1], draws[1:]], 1), np.array([1.0, 2.0] * 2), np.eye(4))

  @parameterized.product(alpha=(0.8, 1.0, 1.5, 2.0), batch_size=(1, 16))
  def test_heavy_tails_have_the_stable_law(self, alpha, batch_size):
    scale, count = 0.5, 6000
    problem = with_noise(quadratic([1.0, 1.0]), heavy_tailed(alpha, scale))
    draws = gradients(problem, np.zeros(2), batch_of([1 / batch_size] * batch_size), count, seed=2).ravel()
    # Stable: the mean of B has the law of one, scaled.
    scale = scale * batch_size ** (1 / alpha - 1)
    law = lambda t: np.exp(-(np.abs(scale * t) ** alpha))
    for t in np.array([0.3, 1.0, 2.0]) / scale:
      error = np.sqrt(((1 + law(2 * t)) / 2 - law(t) ** 2) / draws.size)
      self.assertLess(abs(np.cos(t * draws).mean() - law(t)), 3 * error)
      self.assertLess(abs(np.sin(t * draws).mean()), 3 * np.sqrt((1 - law(2 * t)) / 2 / draws.size))
    for level in (0.5, 2.0, 10.0):
      share = stats.levy_stable.sf(level, alpha, 0.0) * 2
      found = np.mean(np.abs(draws) > level * scale)
      self.assertLess(abs(found - share), 3 * np.sqrt(share * (1 - share) / draws.size) + 1e-9)

  @parameterized.parameters(0.5, 1.0, 1.5, 2.0)
  def test_heavy_tails_are_finite_in_float32(self, alpha):
    with jax.enable_x64(False):
      problem = with_noise(quadratic([1.0] * 1000), heavy_tailed(alpha, 1.0))
      draws = gradients(problem, jnp.zeros(1000), batch_of([1.0]), 2000)
      self.assertEqual(draws.dtype, np.float32)
      self.assertTrue(np.isfinite(draws).all())

  def test_a_random_loss_draws_what_it_drew_without_noise(self):
    def loss(params, model_state, examples, mask, key):
      return jax.random.normal(key, mask.shape) * params[0] + examples, model_state + 1

    init = lambda key: (jnp.ones(2), jnp.zeros(()))
    plain = Problem(init, loss, lambda *_: {}, 'random', jnp.arange(4.0))
    noisy = with_noise(plain, isotropic(1.0))
    for problem in (plain, noisy):
      found = batch_loss(problem, jnp.ones(2), jnp.zeros(()), batch_of([0.5, 0.5]), jax.random.key(7))
      expected = 0.5 + np.asarray(jax.random.normal(jax.random.key(7), 2)).mean()
      np.testing.assert_allclose(found, (expected, 1.0), rtol=1e-14)

  def test_runs_follow_the_second_moments(self):
    """One noise for all steps, seeds, lanes or slots would miss: by the variance, or by its spread."""
    curvatures, rate, variance, batch_size, seeds = np.array([1.0, 0.3]), 0.2, 0.5, 4, 400
    problem = with_noise(quadratic(curvatures, start=[1.0, -1.0]), isotropic(variance), num_examples=8)
    for sampler in (gdlab.sampling.full_batch(), gdlab.sampling.reshuffle(batch_size)):
      method = gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(rate))
      result = gdlab.run(
        problem,
        method,
        num_steps=20,
        seeds=seeds,
        eval_every=5,
        probes={'x': lambda problem, state: state.params},
        progress=False,
      )
      size = 8 if sampler.updates_per_epoch(8) == 1 else batch_size
      x = result.x.values
      mean, spread = np.array([1.0, -1.0]), np.zeros(2)
      for step in range(1, 21):
        mean = (1 - rate * curvatures) * mean
        spread = (1 - rate * curvatures) ** 2 * spread + rate**2 * variance / size
        if step % 5 == 0:
          at = x[:, result.step.values.tolist().index(step)]
          np.testing.assert_array_less(np.abs(at.mean(0) - mean), 3 * np.sqrt(spread / seeds))
          np.testing.assert_array_less(
            np.abs(((at - mean) ** 2).mean(0) / spread - 1), 3 * np.sqrt(2 / seeds)
          )
