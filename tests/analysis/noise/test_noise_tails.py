"""Tail indices on samples of known laws, and of gradient noise that is such a sample."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from gdlab import analysis
from gdlab.core.errors import InputError
from gdlab.core.types import Problem


def stable(rng, alpha, shape):
  """Symmetric alpha-stable values (Chambers, Mallows and Stuck 1976); 2 is Gaussian with variance 2."""
  angle, waiting = rng.uniform(-np.pi / 2, np.pi / 2, shape), rng.exponential(size=shape)
  ratio = np.cos((1 - alpha) * angle) / waiting
  return np.sin(alpha * angle) / np.cos(angle) ** (1 / alpha) * ratio ** ((1 - alpha) / alpha)


def loss(params, model_state, examples, mask, key):
  """Its gradient for an example is the example."""
  return examples @ params, model_state


class TailsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(jax.enable_x64(True))
    self.rng = np.random.default_rng(0)

  @parameterized.parameters(1.0, 1.5, 2.0)
  def test_stable_index(self, alpha):
    # 400 samples of 900 on scales far apart. 1/alpha is unbiased: four standard errors of the mean of 400; the
    # estimated error is that of the spread, to four standard errors of a standard deviation.
    values = stable(self.rng, alpha, (900, 400)) * np.logspace(-6, 6, 400)
    found = analysis.stable_index(values, group_size=30)
    inverse = 1 / found.alpha
    self.assertLess(abs(inverse.mean() - 1 / alpha), 4 * inverse.std() / 20)
    error_of_inverse = found.standard_error / found.alpha**2
    np.testing.assert_allclose((error_of_inverse**2).mean() ** 0.5, inverse.std(), rtol=4 / 800**0.5)

  def test_hill_index_on_a_pareto_law(self):
    # Its logarithms are exponential: 1/alpha is unbiased, and its relative error 1 / sqrt(k).
    values = self.rng.pareto(2.5, (1000, 400)) + 1
    found = analysis.hill_index(values, num_tail=100)
    inverse = 1 / found.alpha
    self.assertLess(abs(inverse.mean() - 1 / 2.5), 4 * inverse.std() / 20)
    np.testing.assert_allclose(inverse.std() * 2.5, 0.1, rtol=4 / 800**0.5)
    np.testing.assert_array_equal(found.standard_error, found.alpha / 10)

  def test_hill_index_by_hand(self):
    found = analysis.hill_index(jnp.array([1.0, 8.0, 2.0, 4.0, 0.5]), num_tail=2)
    np.testing.assert_allclose(found.alpha, 1 / (1.5 * np.log(2)), rtol=1e-15)
    self.assertTrue(np.isnan(analysis.hill_index(jnp.array([1.0, 2.0, -1.0]), num_tail=2).alpha))
    self.assertEqual(analysis.hill_index(jnp.ones(5), num_tail=2).alpha, np.inf)

  def test_noise_tails(self):
    # Mixed scales, which together would look heavy-tailed; the last parameter has no noise and does not count.
    # The draws repeat 20,000 examples hardly ever, and their mean is near 0 on their own scale.
    tails = jax.jit(
      lambda examples, key: analysis.noise_tails(
        Problem(None, loss, None, 'sample', examples), jnp.zeros(9), (), key, num_groups=64
      )
    )
    for alpha in (1.5, 2.0):
      values = stable(self.rng, alpha, (20_000, 8)) * np.logspace(-3, 3, 8)
      values -= np.median(values, axis=0)
      examples = jnp.asarray(np.column_stack([values, np.zeros(len(values))]))
      found = tails(examples, jax.random.key(1))
      self.assertLess(abs(found.stable.alpha - alpha), 4 * found.stable.standard_error)
      self.assertLess(found.stable.standard_error, 0.1)
      self.assertEqual(found.norms.shape, (2048,))
      again = analysis.hill_index(found.norms, num_tail=204)
      np.testing.assert_allclose(found.hill.alpha, again.alpha, rtol=1e-12)
      # Of a stable law the tail of the norm is that of the largest coordinate, alpha below 2; a Gaussian's is light.
      self.assertTrue(1.2 < found.hill.alpha < 1.8 if alpha < 2 else found.hill.alpha > 2.5)

  @parameterized.parameters(
    (lambda: analysis.stable_index(np.ones(3), group_size=2), 'values'),
    (lambda: analysis.stable_index(np.ones(8), group_size=5), r'group_size.*\[2, 4\], got 5'),
    (lambda: analysis.hill_index(np.ones(2), num_tail=2), 'values'),
    (lambda: analysis.hill_index(np.ones(4), num_tail=4), r'num_tail.*\[2, 3\], got 4'),
  )
  def test_refusals(self, call, message):
    with self.assertRaisesRegex(InputError, message):
      call()

  @parameterized.parameters('batch_size', 'num_groups', 'group_size', 'block_size', 'num_tail')
  def test_refuses_counts(self, name):
    problem = Problem(None, loss, None, 'sample', jnp.ones((4, 2)))
    with self.assertRaisesRegex(InputError, name):
      analysis.noise_tails(problem, jnp.zeros(2), (), jax.random.key(0), **{name: 0})
