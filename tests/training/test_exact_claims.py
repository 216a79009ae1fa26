"""The exact claims V1, V3 and V11 through `gdlab.run` and `gdlab.sweep`, in float64."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

import gdlab
from gdlab.core.types import Batch, Problem, Sampler

N = 12
EPS = np.finfo(np.float64).eps
PLAN = gdlab.Plan(lanes_at_once=1, num_devices=1)


def network():
  """A network with a hidden layer of tanh, 2-5-1, on twelve points."""
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(N, 2))
  targets = np.sin(inputs[:, 0]) + inputs[:, 1] ** 2

  def init(key):
    first, second = jax.random.split(key)
    return {
      'in': jax.random.normal(first, (2, 5)),
      'out': jax.random.normal(second, (5,)),
      'bias': jnp.zeros(5),
    }, ()

  def losses(params, examples):
    hidden = jnp.tanh(examples[0] @ params['in'] + params['bias'][None])
    return (hidden @ params['out'] - examples[1]) ** 2

  return Problem(
    init,
    lambda params, model_state, examples, mask, key: (losses(params, examples), model_state),
    lambda params, model_state, examples: {'loss': losses(params, examples)},
    'network',
    (jnp.asarray(inputs), jnp.asarray(targets)),
  )


def flat(problem, state):
  return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(state.params)])


@functools.cache
def path(make_sampler, width=64):
  """25 steps of two seeds with everything recorded at each."""
  with jax.enable_x64(width == 64):
    descent = gdlab.algorithm(sampler=make_sampler(), optimizer=optax.sgd(0.05, momentum=0.9))
    options = {'num_steps': 25, 'eval_every': 1, 'plan': PLAN, 'progress': False}
    return gdlab.run(network(), descent, seeds=2, probes={'params': flat}, **options)


def in_order():
  return gdlab.sampling.sequential(N)


def shuffled():
  return gdlab.sampling.reshuffle(N)


class OneRuleTest(parameterized.TestCase):
  """V1: the variants are one update rule, and only the sampler differs."""

  @parameterized.parameters(32, 64)
  def test_a_batch_of_all_examples_in_order_is_full_batch_bit_for_bit(self, width):
    full, sequential = path(gdlab.sampling.full_batch, width), path(in_order, width)
    self.assertEqual(full.params.dtype, np.dtype(f'float{width}'))
    for name in set(full.data_vars) - {'batch_loss'}:
      np.testing.assert_array_equal(full[name], sequential[name], name)
    # No step depends on this sum of 12 terms, but XLA fuses it with weights that are a constant in one program
    # and carried in the other, and adds up in another order.
    rtol = N * np.finfo(full.batch_loss.dtype).eps
    np.testing.assert_allclose(full.batch_loss, sequential.batch_loss, rtol=rtol)
    # The path is one: it moves, at every step.
    self.assertTrue((full.update_norm[:, 1:] > 1e-4).all())

  def test_a_shuffled_batch_of_all_examples_is_full_batch_to_rounding(self):
    full, other = path(gdlab.sampling.full_batch), path(shuffled)
    # Another order of summation errs by some N eps of the gradient in each of 25 steps, which momentum keeps alive
    # for 10; the smooth loss may amplify it by (1 + lr L)^25, below 1e3.
    np.testing.assert_allclose(other.params, full.params, rtol=0, atol=25 * 10 * N * EPS * 1e3)
    np.testing.assert_allclose(other.train_loss, full.train_loss, rtol=1e-8)
    # It did sum in another order: equal bits throughout would mean that nothing was shuffled.
    self.assertFalse(np.array_equal(other.params, full.params))


def summed(sampler):
  """The same batches with weight 1 for each real example: the sum of their losses and not the mean."""

  def sample(state):
    batch, state = sampler.sample(state)
    return Batch(batch.indices, jnp.where(batch.weights != 0, 1.0, 0.0)), state

  return Sampler(sampler.init, sample, sampler.updates_per_epoch)


def test_the_sum_of_losses_rescales_the_learning_rate_by_the_batch_size():  # V3
  batch_size, rate = 4, 0.04  # 4 divides 12
  with jax.enable_x64(True):
    mean = gdlab.sampling.reshuffle(batch_size)
    ends = []
    for sampler, learning_rate in ((mean, rate), (summed(mean), rate / batch_size)):
      descent = gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(learning_rate))
      problem = network()
      state = descent.init(jax.random.key(0), problem)
      step = jax.jit(descent.step)
      for _ in range(30):
        state, info = step(state, problem)
      ends.append((np.asarray(flat(None, state)), float(info.loss)))
  # 4 is a power of two, so the two differ by the rounding of the rate alone: 30 steps, amplified as above.
  np.testing.assert_allclose(ends[1][0], ends[0][0], rtol=0, atol=30 * N * EPS * 1e3)
  np.testing.assert_allclose(ends[1][1], batch_size * ends[0][1], rtol=1e-8)


class SmoothConvexTest(parameterized.TestCase):
  """V11 on f = sum_j lambda_j x_j^2 / 2, whose descent is known in closed form: x_j shrinks by 1 - lr lambda_j."""

  EIGENVALUES = np.array([1.0, 4.0, 10.0])  # mu = 1, L = 10
  START = np.array([1.0, -2.0, 0.5])
  SCALED = types.MappingProxyType({'1': 1.0, '1.99': 1.99, '2.01': 2.01})  # learning rate times L

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    problem_start, curvatures = cls.START, cls.EIGENVALUES
    losses = lambda x, examples: examples @ x**2 / 2
    problem = lambda: Problem(
      lambda key: (jnp.asarray(problem_start), ()),
      lambda x, model_state, examples, mask, key: (losses(x, examples), model_state),
      lambda x, model_state, examples: {'loss': losses(x, examples)},
      'quadratic',
      jnp.asarray(curvatures[None]),
    )

    def descent(learning_rate):
      return gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(learning_rate))

    with jax.enable_x64(True):
      grid = {'learning_rate': [scaled / 10 for scaled in cls.SCALED.values()]}
      result = gdlab.sweep(
        problem(), descent, grid, num_steps=1500, seeds=1, eval_every=1, plan=PLAN, progress=False
      )
    cls.losses = dict(zip(cls.SCALED, result.train_loss.isel(seed=0).values, strict=True))
    cls.status = dict(zip(cls.SCALED, result.status.isel(seed=0).values, strict=True))

  @parameterized.parameters('1', '1.99', '2.01')
  def test_every_loss_is_the_closed_form(self, name):
    steps = np.arange(1501)[:, None]
    factors = (1 - self.SCALED[name] / 10 * self.EIGENVALUES) ** (2 * steps)
    expected = (factors * self.EIGENVALUES * self.START**2).sum(axis=1) / 2
    # Each of up to 1500 steps multiplies x by a factor that errs by some eps / |factor|, which is at least 0.01.
    # Below 1e-290 the squares of the iterates are no longer normal numbers.
    large = expected > 1e-290
    np.testing.assert_allclose(self.losses[name][large], expected[large], rtol=2 * 1500 * 4 * EPS * 10)

  def test_rate_1_over_l_falls_by_one_minus_mu_over_l_in_every_step(self):
    losses = self.losses['1']
    losses = losses[losses > 1e-290]
    self.assertGreater(len(losses), 1000)
    self.assertTrue(np.all(losses[1:] <= (1 - 1 / 10) * losses[:-1]))

  def test_a_rate_just_below_2_over_l_converges(self):
    losses = self.losses['1.99']
    self.assertTrue(np.all(np.diff(losses) < 0))
    # The slowest direction shrinks by 0.99 per step: 0.99^3000 < 1e-13.
    self.assertLess(losses[-1], 1e-12 * losses[0])

  def test_a_rate_just_above_2_over_l_diverges(self):
    losses = self.losses['2.01']
    # The steepest direction grows by 1.01 per step, though the others converge first.
    self.assertTrue(np.all(np.diff(losses[200:]) > 0))
    self.assertGreater(losses[-1], 1e12 * losses[0])
    self.assertTrue((self.status['2.01'] == gdlab.RUNNING).all(), 'it is finite still, only large')
