"""Streams with a moving target: their data, and how well descent follows, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

import gdlab
from gdlab import sampling
from gdlab.core.errors import InputError
from gdlab.problems import quadratic
from gdlab.problems.drifting import TrackingError, drifting_regression, random_walk, rotation

N, D = 60, 3


def features():
  return np.random.default_rng(5).normal(size=(N, D))


class DataTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))

  def test_stream(self):
    problem = drifting_regression(features(), random_walk(0.3), noise_std=0.5, seed=7)
    # The recipe of experiments/variants: order, steps, first weights and noise from one generator.
    rng = np.random.default_rng(7)
    inputs = features()[rng.permutation(N)]
    steps = 0.3 * rng.standard_normal((N, D))
    optima = rng.standard_normal(D) + np.cumsum(steps, axis=0)
    targets = np.sum(inputs * optima, axis=1) + 0.5 * rng.standard_normal(N)
    for found, expected in zip(problem.train, (inputs, targets, optima), strict=True):
      np.testing.assert_array_equal(found, expected)
    best = np.linalg.lstsq(inputs, targets, rcond=None)[0]
    np.testing.assert_allclose(problem.known.params, best, rtol=1e-10)
    losses = problem.metrics(best, (), problem.train)['loss']
    np.testing.assert_allclose(losses, (inputs @ best - targets) ** 2 / 2, rtol=1e-12)
    np.testing.assert_allclose(problem.known.value, losses.mean(), rtol=1e-12)

  def test_without_noise_each_example_is_fitted_by_its_own_optimum(self):
    problem = drifting_regression(features(), random_walk(0.3))
    one_by_one = jax.tree.map(lambda leaf: leaf[:, None], problem.train)
    losses = jax.vmap(lambda example: problem.metrics(example.optima[0], (), example)['loss'])(one_by_one)
    np.testing.assert_allclose(losses, 0, atol=1e-28)

  def test_random_walk(self):
    path = random_walk(0.2, start=[1.0, 2.0])(np.random.default_rng(0), 5000, 2)
    steps = np.diff(path, axis=0)
    # Three standard errors of a variance and of a correlation.
    np.testing.assert_allclose(steps.var(0), 0.04, atol=3 * 0.04 * np.sqrt(2 / 5000))
    self.assertLess(abs(np.corrcoef(steps[1:, 0], steps[:-1, 0])[0, 1]), 3 / np.sqrt(5000))
    self.assertLess(np.abs(path[0] - [1, 2]).max(), 1.0)
    still = random_walk(0.0, start=3.0)(np.random.default_rng(0), 4, 2)
    np.testing.assert_array_equal(still, 3)

  def test_rotation(self):
    path = rotation(8, radius=2.0)(np.random.default_rng(0), 17, 5)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), 2, rtol=1e-12)
    np.testing.assert_allclose(path[8:], path[:9], atol=1e-14)
    # An eighth of a turn each: the cosine between neighbours.
    np.testing.assert_allclose(np.sum(path[1:] * path[:-1], axis=1) / 4, np.cos(np.pi / 4), rtol=1e-12)
    self.assertEqual(np.linalg.matrix_rank(path, tol=1e-10), 2)


class TrackingTest(parameterized.TestCase):
  def test_descent_follows_a_walk_as_the_recursion_says(self):
    count, rate, noise, step = 20_000, 0.2, 0.5, 0.1
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(count, 1))
    problem = drifting_regression(signs, random_walk(step), noise_std=noise, seed=3)
    method = gdlab.algorithm(sampler=sampling.sequential(1), optimizer=optax.sgd(rate))
    run = gdlab.run(
      problem,
      method,
      num_steps=count,
      seeds=1,
      eval_every=20,
      probes={'error': TrackingError()},
      plan=gdlab.Plan(1, 1),
    )
    errors = run.error.values[0, 10:]
    # With x = +-1 the error e = w - w*_i obeys e' = (1 - rate)(e - step xi) + rate noise eps.
    keep = (1 - rate) ** 2
    expected = (keep * step**2 + rate**2 * noise**2) / (1 - keep)
    # Squares of a Gaussian, 20 steps apart: their correlation is (1 - rate)^40 = 1e-4.
    self.assertAlmostEqual(errors.mean(), expected, delta=3 * expected * np.sqrt(2 / errors.size))

  @parameterized.parameters(1, 3, 7)
  def test_the_last_example_that_has_arrived(self, batch_size):
    # Optimum i is at i and the weight at 0, so that the error is i^2.
    problem = drifting_regression(np.ones((7, 1)), lambda rng, count, size: np.arange(7.0)[:, None])
    method = gdlab.algorithm(sampler=sampling.sequential(batch_size), optimizer=optax.sgd(0.1))
    state = method.init(jax.random.key(0), problem, jnp.zeros(1))
    probe, sampler_state, last = TrackingError(batch_size), state.sampler, 0
    for step in range(20):
      self.assertEqual(float(probe(problem, state._replace(step=jnp.int32(step)))), last**2)
      batch, sampler_state = method.sampler.sample(sampler_state)
      last = int(batch.indices[batch.weights > 0].max())

  @parameterized.parameters(
    (lambda: drifting_regression(features(), random_walk(0.1), noise_std=-1), 'noise_std.*>= 0, got -1'),
    (lambda: drifting_regression(np.ones(3), random_walk(0.1)), r'features must have shape \[N, d\].*\(3,\)'),
    (lambda: drifting_regression([[np.nan]], random_walk(0.1)), 'features must be finite'),
    (lambda: drifting_regression(1.0, random_walk(0.1)), 'features'),
    (
      lambda: drifting_regression(np.ones((3, 1)), rotation(5)),
      'features must have at least 2 columns.*got 1',
    ),
    (
      lambda: drifting_regression(np.ones((3, 1)), lambda *_: np.ones(3)),
      r'path must return.*\(3, 1\), got \(3,\)',
    ),
    (lambda: drifting_regression(np.ones((3, 1)), 0.1), 'path must be a function.*0.1'),
    (
      lambda: drifting_regression(np.ones((3, 1)), random_walk(1, start=[1, 2])),
      r'start.*\(1,\).*got \(2,\)',
    ),
    (lambda: drifting_regression([[1.0], [1.0, 2.0]], random_walk(0.1)), 'features must be a rectangular'),
    (
      lambda: drifting_regression(np.ones((3, 1)), lambda *_: np.full((3, 1), np.nan)),
      'what path returns must be finite, got nan',
    ),
    (lambda: random_walk(1.0, start='a'), "start must be a rectangular array of real numbers, got 'a'"),
    (lambda: random_walk(-0.1), 'step.*-0.1'),
    (lambda: rotation(0), 'period.*0'),
    (lambda: rotation(5, radius=-1), 'radius.*-1'),
    (lambda: TrackingError(0), 'batch_size.*0'),
    (lambda: TrackingError()(quadratic([1.0]), None), 'problem must be a drifting_regression'),
  )
  def test_refusals(self, build, message):
    with self.assertRaisesRegex(InputError, message):
      build()
