"""The noise scale's estimates: unbiased by exact enumeration, equal to the two-batch formulas, read from the state."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from transform_cases import plain, tree

from gdlab.core.errors import InputError
from gdlab.transforms import noise_scale, noise_scale_estimate


def estimate_once(rows, **options):
  transform = noise_scale(**options)
  params = jax.tree.map(lambda leaf: leaf[0], rows)
  updates, state = jax.jit(transform.update)(rows, transform.init(params), params)
  return updates, noise_scale_estimate(state)


class EstimateTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))

  @parameterized.parameters((2, 1), (3, 1), (2, 2))
  def test_unbiased_over_all_draws_of_a_population(self, rows, examples_per_row):
    rng = np.random.default_rng(0)
    population = rng.normal(size=(3, 2)) + [1.0, -0.5]  # three examples' gradients in the plane
    draws = np.array(list(itertools.product(range(3), repeat=rows * examples_per_row)))
    means = population[draws].reshape(len(draws), rows, examples_per_row, 2).mean(axis=2)

    def estimate(batch):
      transform = noise_scale(examples_per_row=examples_per_row)
      gradients = {'a': batch[:, :1], 'b': batch[:, 1]}
      params = {'a': jnp.zeros(1), 'b': jnp.zeros(())}
      updates, state = transform.update(gradients, transform.init(params))
      return updates, noise_scale_estimate(state)

    updates, found = jax.jit(jax.vmap(estimate))(jnp.asarray(means))
    mean = population.mean(axis=0)
    # All draws with replacement are equally likely, so their mean is the expectation.
    np.testing.assert_allclose(found.gradient_square.mean(), mean @ mean, rtol=1e-12)
    np.testing.assert_allclose(found.covariance_trace.mean(), population.var(axis=0).sum(), rtol=1e-12)
    np.testing.assert_allclose(updates['a'][:, 0], means.mean(axis=1)[:, 0], rtol=0, atol=1e-15)
    np.testing.assert_allclose(updates['b'], means.mean(axis=1)[:, 1], rtol=0, atol=1e-15)

  @parameterized.parameters((4, 1), (3, 5))
  def test_it_is_the_two_batch_estimate(self, rows, size):
    means = np.random.default_rng(0).normal(size=(rows, 7)) + 1
    _, found = estimate_once(jnp.asarray(means), examples_per_row=size)
    small, big = np.mean((means**2).sum(1)), (means.mean(0) ** 2).sum()
    square = (rows * size * big - size * small) / (rows * size - size)
    trace = (small - big) / (1 / size - 1 / (rows * size))
    np.testing.assert_allclose(found.gradient_square, square, rtol=1e-12)
    np.testing.assert_allclose(found.covariance_trace, trace, rtol=1e-12)
    np.testing.assert_allclose(found.scale, trace / square, rtol=1e-12)

  def test_running_averages_are_divided_at_the_end(self):
    rng, decay = np.random.default_rng(1), 0.8
    batches = rng.normal(size=(6, 3, 4)) + 1
    transform = noise_scale(decay)
    state, each = transform.init(jnp.zeros(4)), []
    for batch in batches:
      _, state = transform.update(jnp.asarray(batch), state)
      _, one = estimate_once(jnp.asarray(batch))
      each.append((float(one.gradient_square), float(one.covariance_trace)))
    expected = np.average(each, axis=0, weights=decay ** np.arange(5, -1, -1.0))
    found = noise_scale_estimate(state)
    np.testing.assert_allclose([found.gradient_square, found.covariance_trace], expected, rtol=1e-12)
    np.testing.assert_allclose(found.scale, expected[1] / expected[0], rtol=1e-12)

  def test_nothing_is_known_before_the_first_update_and_a_lost_gradient_has_no_scale(self):
    unknown = noise_scale_estimate(noise_scale().init(jnp.zeros(2)))
    self.assertTrue(np.isnan(unknown).all())
    _, lost = estimate_once(jnp.array([[1.0], [-1.0]]))
    np.testing.assert_array_equal(lost, [-1.0, 2.0, np.inf])

  def test_it_finds_the_noise_scale_of_a_known_law(self):
    """Gradients of mean G and covariance Sigma: tr Sigma / |G|^2 = 5 / 2."""
    mean, deviation, rows, steps = np.array([1.0, -1.0]), np.array([1.0, 2.0]), 8, 4000
    transform = optax.chain(noise_scale(1 - 1e-9), optax.sgd(0.1))

    def step(state, normal):
      _, state = transform.update(mean[None] + deviation[None] * normal, state)
      return state, None

    normals = jax.random.normal(jax.random.key(0), (steps, rows, 2))
    found = noise_scale_estimate(jax.lax.scan(step, transform.init(jnp.zeros(2)), normals)[0])
    # The sample variance of R normals has standard error sqrt(2 / (R - 1)) times its mean.
    error = np.sqrt(2 * (deviation**4).sum() / (rows - 1) / steps)
    self.assertLess(abs(found.covariance_trace - 5), 3 * error)
    # |mean|^2 varies by 4 G Sigma G / R + 2 tr Sigma^2 / R^2, S / R by a part of the second.
    spread = 4 * (mean**2 * deviation**2).sum() / rows + 2 * (deviation**4).sum() / rows**2 * (
      1 + 1 / (rows - 1)
    )
    self.assertLess(abs(found.gradient_square - 2), 3 * np.sqrt(spread / steps))
    np.testing.assert_allclose(found.scale, 2.5, rtol=0.1)

  def test_half_precision_rows_are_measured_in_float32(self):
    rows = jnp.asarray([[256.0], [258.0]], jnp.bfloat16)  # 257 has no bfloat16
    updates, found = estimate_once(rows)
    self.assertEqual(updates.dtype, jnp.bfloat16)
    np.testing.assert_allclose(found.covariance_trace, 2.0)
    np.testing.assert_allclose(found.gradient_square, 257.0**2 - 1)

  @parameterized.parameters(
    (lambda: jnp.ones((1, 3)), r'at least 2 rows, got leading axes \[1\]'),
    (lambda: {'a': jnp.ones((2, 3)), 'b': jnp.ones((3, 3))}, r'got leading axes \[2, 3\]'),
    (lambda: {'a': jnp.ones((2, 3)), 'b': jnp.ones(())}, r'got leading axes \[0, 2\]'),
    (dict, r'got leading axes \[\]'),
  )
  def test_refusals(self, make, message):
    transform = noise_scale()
    with self.assertRaisesRegex(InputError, message):
      transform.update(make(), transform.init(tree()))

  def test_the_mean_goes_on(self):
    rows = tree('float64', lead=(5,))
    updates, _ = estimate_once(rows)
    for one, other in zip(plain(updates), plain(rows), strict=True):
      np.testing.assert_allclose(one, other.mean(axis=0), rtol=0, atol=1e-15)
