"""Per-example gradients and their moments against closed forms on linear regression, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from gdlab import analysis
from gdlab.core.errors import InputError
from gdlab.core.types import Examples, Problem

N, D = 23, 4
EPS = np.finfo(np.float64).eps

per_example = jax.jit(analysis.per_example_gradients)
moments_of = jax.jit(analysis.gradient_covariance_trace, static_argnames='block_size')


def problem_of(inputs, targets, dropout=False):
  """Least squares ½(x·w + b - y)² per example, with noise added to the target if `dropout`."""

  def loss(params, model_state, examples, mask, key):
    residuals = examples.inputs @ params['w'] + params['b'] - examples.targets
    if dropout:
      residuals += jax.random.normal(key, residuals.shape)
    return jnp.square(residuals) / 2, model_state

  return Problem(init=None, loss=loss, metrics=None, name='least squares', train=Examples(inputs, targets))


def closed_form(inputs, targets, params):
  """[N, D + 1]: the gradient (x·w + b - y)(x, 1) of every example."""
  residuals = inputs @ params['w'] + params['b'] - targets
  return residuals[:, None] * np.column_stack([inputs, np.ones(len(inputs))])


def flat(gradients):
  return np.column_stack([gradients['w'], gradients['b']])


class GradientsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(jax.enable_x64(True))
    rng = np.random.default_rng(0)
    self.inputs, self.targets = rng.normal(size=(N, D)), rng.normal(size=N)
    self.params = {'w': jnp.asarray(rng.normal(size=D)), 'b': jnp.asarray(0.5)}
    self.problem = problem_of(jnp.asarray(self.inputs), jnp.asarray(self.targets))
    self.exact = closed_form(self.inputs, self.targets, self.params)
    self.key = jax.random.key(0)

  # Each entry is a residual, a sum of D + 2 terms of size ~1, times an input: some ten eps absolute.
  def test_per_example(self):
    found = per_example(self.problem, self.params, (), self.key)
    np.testing.assert_allclose(flat(found), self.exact, atol=100 * EPS)

  def test_selected_examples_in_their_order(self):
    chosen = jnp.array([7, 0, 7, N - 1])
    found = per_example(self.problem, self.params, (), self.key, chosen)
    np.testing.assert_allclose(flat(found), self.exact[chosen], atol=100 * EPS)

  # Blocks that divide N, leave a rest, hold all, and exceed N.
  @parameterized.parameters(1, 5, N, 256)
  def test_moments(self, block_size):
    moments = moments_of(self.problem, self.params, (), self.key, block_size=block_size)
    np.testing.assert_allclose(
      np.append(moments.mean['w'], moments.mean['b']), self.exact.mean(0), atol=100 * EPS
    )
    covariance = np.cov(self.exact, rowvar=False, bias=True)
    np.testing.assert_allclose(moments.covariance_trace, np.trace(covariance), rtol=100 * EPS)

  def test_variance_survives_a_mean_that_dwarfs_it(self):
    # In float32, gradients of 1000 ± 0.5 on the bias: squares of 1e6 have a spacing of 0.06, the variance is
    # 0.25. About the mean every number here is exact.
    targets = jnp.where(jnp.arange(64) % 2 == 0, -999.5, -1000.5).astype(jnp.float32)
    problem = problem_of(jnp.zeros((64, 1), jnp.float32), targets)
    params = {'w': jnp.zeros(1, jnp.float32), 'b': jnp.zeros((), jnp.float32)}
    moments = moments_of(problem, params, (), self.key, block_size=10)
    self.assertEqual(moments.covariance_trace, 0.25)
    self.assertEqual(moments.mean['b'], 1000)

  def test_half_precision_is_summed_in_single(self):
    # 1024 gradients of 1: a bfloat16 sum stops at 256, where adding 1 rounds away.
    problem = problem_of(jnp.zeros((1024, 1), jnp.bfloat16), -jnp.ones(1024, jnp.bfloat16))
    params = {'w': jnp.zeros(1, jnp.bfloat16), 'b': jnp.zeros((), jnp.bfloat16)}
    moments = moments_of(problem, params, (), self.key, block_size=1)
    self.assertEqual(moments.mean['b'].dtype, jnp.float32)
    self.assertEqual(moments.mean['b'], 1)

  def test_moments_are_those_of_the_per_example_gradients_under_noise(self):
    # Example i has its own noise, the same in whichever block or selection it is computed.
    problem = problem_of(jnp.asarray(self.inputs), jnp.asarray(self.targets), dropout=True)
    gradients = flat(per_example(problem, self.params, (), self.key))
    self.assertGreater(np.ptp((gradients - self.exact)[:, -1]), 1)
    one = per_example(problem, self.params, (), self.key, jnp.array([3]))
    np.testing.assert_allclose(flat(one)[0], gradients[3], atol=100 * EPS)
    moments = moments_of(problem, self.params, (), self.key, block_size=5)
    np.testing.assert_allclose(moments.covariance_trace, np.var(gradients, axis=0).sum(), rtol=100 * EPS)

  def test_memory_is_bounded_by_the_block(self):
    # 4096 examples of 2048 parameters: all gradients at once are 64 MiB, 16 at once are 256 KiB.
    problem = problem_of(jnp.ones((4096, 2048)), jnp.ones(4096))
    params = {'w': jnp.zeros(2048), 'b': jnp.zeros(())}
    analysed = moments_of.lower(problem, params, (), self.key, block_size=16).compile().memory_analysis()
    self.assertLess(analysed.temp_size_in_bytes, 4 * 2**20)

  @parameterized.parameters(([N], r'\[0, 23\)'), ([-1], r'\[0, 23\)'), ([0.5], 'whole numbers'), (3, 'shape'))
  def test_refuses_indices(self, indices, message):
    with self.assertRaisesRegex(InputError, message):
      analysis.per_example_gradients(self.problem, self.params, (), self.key, jnp.asarray(indices))

  def test_refuses_block_size(self):
    with self.assertRaisesRegex(InputError, 'block_size'):
      analysis.gradient_covariance_trace(self.problem, self.params, (), self.key, block_size=0)
