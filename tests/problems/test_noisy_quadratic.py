"""The noisy quadratic model: its bowl, its noise, and runs against the recursion of the second moments."""

import dataclasses

import jax
import jax.numpy as jnp
import matrix_truth
import numpy as np
import optax
import pytest
from absl.testing import parameterized

import gdlab
from gdlab.core.errors import InputError
from gdlab.core.objective import batch_loss
from gdlab.core.types import Batch
from gdlab.problems.nqm import noisy_quadratic_model


class NoisyQuadraticModelTest(parameterized.TestCase):
  def test_bowl_and_known(self):
    with jax.enable_x64(True):
      for exponent in (1.0, 0.5):
        problem = noisy_quadratic_model(6, exponent=exponent, num_examples=4)
        bowl = matrix_truth.dense(dataclasses.replace(problem, loss=problem.loss.loss))  # without the noise
        matrix_truth.check_derivatives(bowl)
        matrix_truth.check_points(bowl)
        curvatures = 1 / np.arange(1, 7) ** exponent
        np.testing.assert_allclose(
          [problem.known.smoothness, problem.known.strong_convexity], curvatures[[0, -1]], rtol=1e-15
        )
        x = np.arange(6.0)
        losses = problem.metrics(x, (), problem.train)['loss']
        np.testing.assert_allclose(losses, np.full(4, curvatures @ x**2 / 2), rtol=1e-14)

  def test_gradient_noise_has_the_curvatures_for_variances(self):
    with jax.enable_x64(True):
      problem, count = noisy_quadratic_model(5), 10_000
      batch = Batch(jnp.zeros(4, jnp.int32), jnp.full(4, 0.25))
      gradient = jax.grad(lambda p, key: batch_loss(problem, p, (), batch, key)[0])
      keys = jax.random.split(jax.random.key(1), count)
      draws = np.asarray(jax.jit(jax.vmap(lambda key: gradient(jnp.ones(5), key)))(keys))
      curvatures = 1 / np.arange(1.0, 6.0)
      covariance = np.diag(curvatures) / 4
      centred = draws - curvatures
      np.testing.assert_array_less(np.abs(centred.mean(0)), 3 * np.sqrt(curvatures / 4 / count))
      errors = np.sqrt((np.outer(curvatures, curvatures) / 16 + covariance**2) / count)
      np.testing.assert_array_less(np.abs(centred.T @ centred / count - covariance), 3 * errors)

  @pytest.mark.slow
  def test_runs_follow_the_exact_loss(self):
    size, rate, batch_size, seeds, num_steps = 100, 0.5, 4, 512, 60
    method = gdlab.algorithm(sampler=gdlab.sampling.with_replacement(batch_size), optimizer=optax.sgd(rate))
    result = gdlab.run(
      noisy_quadratic_model(size, num_examples=8),
      method,
      num_steps=num_steps,
      seeds=seeds,
      eval_every=20,
      progress=False,
    )
    h = 1 / np.arange(1, size + 1)
    second = np.ones(size)
    for step in range(num_steps + 1):
      if step:
        second = (1 - rate * h) ** 2 * second + rate**2 * h / batch_size
      if step % 20 == 0:
        losses = result.train_loss.sel(step=step).values
        # x_i^2 of a normal x_i has standard deviation sqrt(2) E x_i^2.
        error = np.sqrt(2 * np.sum((h * second / 2) ** 2) / seeds)
        self.assertLess(abs(losses.mean() - h @ second / 2), 3 * error)

  def test_ten_thousand_dimensions_hold_no_data(self):
    problem = noisy_quadratic_model(10_000)
    self.assertEqual(sum(leaf.size for leaf in jax.tree.leaves(problem.train)), 1024)
    params, _ = problem.init(jax.random.key(0))
    # Three standard errors of the mean of chi-squared variables, weighted by h.
    h = 1 / np.arange(1, 10_001)
    loss = float(problem.metrics(params, (), problem.train)['loss'][0])
    self.assertLess(abs(loss - h.sum() / 2), 3 * np.sqrt(2 * np.sum((h / 2) ** 2)))

  def test_start(self):
    start = [1.0, -2.0, 3.0]
    self.assertEqual(noisy_quadratic_model(3, start=start).init(jax.random.key(0))[0].tolist(), start)

  @parameterized.parameters(
    (lambda: noisy_quadratic_model(0), 'dimension.*>= 1, got 0'),
    (lambda: noisy_quadratic_model(2, exponent=-1.0), 'exponent must be a real number in .0, .*, got -1.0'),
    (lambda: noisy_quadratic_model(2, exponent='a'), r"exponent must be a real number in \[0, .*, got 'a'"),
    (lambda: noisy_quadratic_model(1, exponent=-1.0), 'exponent must be a real number >= 0, got -1.0'),
    (lambda: noisy_quadratic_model(10, exponent=400.0), 'exponent.*got 400.0'),
    (lambda: noisy_quadratic_model(2, num_examples=0), 'num_examples.*0'),
    (lambda: noisy_quadratic_model(2, initial_scale=0.0), 'initial_scale.*0.0'),
    (lambda: noisy_quadratic_model(2, start=[1.0]), r'start must have shape \(2,\)'),
  )
  def test_refusals(self, build, message):
    with self.assertRaisesRegex(InputError, message):
      build()
