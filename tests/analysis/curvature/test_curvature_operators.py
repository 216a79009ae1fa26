"""Hessian and Gauss-Newton products over blocks against dense closed forms, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from jax.flatten_util import ravel_pytree
from scipy import special

import gdlab
from gdlab.analysis.blocks import (
  evaluation_losses,
  full_gradient,
  full_loss,
  sum_over_blocks,
  training_losses,
)
from gdlab.analysis.curvature import Operator, dense, eigenpairs, gauss_newton, hessian, layers, sharpness
from gdlab.core.errors import InputError
from gdlab.core.types import Examples, Problem

EPS = np.finfo(np.float64).eps
NET = gdlab.problems.MLP(
  features=(16, 12), num_outputs=3, activation=jnp.tanh
)  # 499 parameters from 16 inputs
cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def key():
  return jax.random.key(0)


def net_problem(num_examples=50):
  rng = np.random.default_rng(0)
  inputs, labels = rng.normal(size=(num_examples, 15)), rng.integers(0, 3, num_examples)
  return gdlab.problems.from_linen(NET, (inputs, labels), cross_entropy)


def own_forward(params, inputs):
  """The network again, without Flax."""
  for name in ('Dense_0', 'Dense_1'):
    inputs = jnp.tanh(inputs @ params[name]['kernel'] + params[name]['bias'][None])
  return inputs @ params['Dense_2']['kernel'] + params['Dense_2']['bias'][None]


def net_predict(params, model_state, examples):
  return NET.apply({'params': params}, examples.inputs)


def net_loss(outputs, examples):
  return cross_entropy(outputs, examples.targets)


class OperatorsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(jax.enable_x64(True))

  @pytest.mark.slow
  def test_network_of_499_parameters(self):
    problem = net_problem()
    params, _ = problem.init(jax.random.key(1))
    flat, unravel = ravel_pytree(params)
    self.assertEqual(flat.size, 499)

    def own_logits(flat):
      return own_forward(unravel(flat), problem.train.inputs)

    @jax.jit
    def own(flat):
      def loss(flat):
        log_p = jax.nn.log_softmax(own_logits(flat))
        return -jnp.mean(log_p[jnp.arange(50), problem.train.targets])

      return jax.hessian(loss)(flat), jax.jacobian(own_logits)(flat), jax.nn.softmax(own_logits(flat))

    truth, jacobian, p = map(np.asarray, own(flat))
    curved = np.einsum('na,ab->nab', p, np.eye(3)) - np.einsum('na,nb->nab', p, p)
    truth_gn = np.einsum('nai,nab,nbj->ij', jacobian, curved, jacobian) / 50

    @jax.jit
    def found_all(problem, params):
      operator = hessian(problem, params, (), key(), block_size=16)  # 13 in each of 4 blocks, 2 of padding
      newton = gauss_newton(problem, params, (), predict=net_predict, loss=net_loss, block_size=16)
      arguments = {
        'num_largest': 2,
        'num_smallest': 2,
        'tolerance': 1e-8,
        'max_products': 300,
        'dense_below': 0,
      }
      # Without the measurement of the rounding, which takes seconds to compile.
      exact = Operator(operator.product, operator.like)
      return dense(operator), dense(newton), eigenpairs(exact, key(), **arguments)

    matrix, newton, found = found_all(problem, params)
    # Sums of 50 terms of size 1 through three layers: some 1000 eps of the largest entry.
    np.testing.assert_allclose(matrix, truth, atol=1000 * EPS * np.abs(truth).max())
    np.testing.assert_allclose(newton, truth_gn, atol=1000 * EPS * np.abs(truth_gn).max())
    eigenvalues = np.linalg.eigvalsh(truth)
    for pairs, expected in ((found.largest, eigenvalues[::-1][:2]), (found.smallest, eigenvalues[:2])):
      self.assertTrue((np.abs(pairs.values - expected) <= pairs.residuals).all())
      self.assertTrue((pairs.residuals <= 1e-8 * eigenvalues[-1]).all())
      np.testing.assert_array_equal(pairs.signs, np.sign(expected))
    operator = hessian(problem, params, (), key())
    self.assertEqual(list(layers(operator)), ['Dense_0', 'Dense_1', 'Dense_2'])

  def test_logistic_regression(self):
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(31, 6)), rng.integers(0, 2, 31)
    problem = gdlab.problems.logistic_regression(features, labels, l2=0.1)
    weights = rng.normal(size=6)
    p = special.expit(features @ weights)
    truth = features.T @ (features * (p * (1 - p))[:, None]) / 31 + 0.1 * np.eye(6)
    operator = hessian(problem, jnp.asarray(weights), (), key(), block_size=10)
    np.testing.assert_allclose(dense(operator), truth, atol=100 * EPS * np.abs(truth).max())
    found = sharpness(problem, jnp.asarray(weights), (), key(), tolerance=1e-10, block_size=10)
    self.assertLessEqual(abs(found.values[0] - np.linalg.eigvalsh(truth)[-1]), found.residuals[0])
    self.assertLess(found.residuals[0], 1e-10 * found.values[0])
    # The penalty is no part of the loss of the outputs.
    newton = gauss_newton(
      problem,
      jnp.asarray(weights),
      (),
      predict=lambda params, model_state, examples: examples.inputs @ params,
      loss=lambda z, examples: optax.sigmoid_binary_cross_entropy(z, examples.targets),
      block_size=10,
    )
    np.testing.assert_allclose(dense(newton), truth - 0.1 * np.eye(6), atol=100 * EPS * np.abs(truth).max())

  @parameterized.parameters(10, 31, 100)  # with padding, whole, more than whole
  def test_blocks(self, block_size):
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(31, 3)), rng.normal(size=31)
    problem = gdlab.problems.linear_regression(features, targets)
    weights = jnp.asarray(rng.normal(size=3))
    rests = features @ weights - targets
    value = full_loss(problem, (), key(), block_size=block_size)(weights)
    np.testing.assert_allclose(value, np.mean(rests**2) / 2, rtol=100 * EPS)
    for losses in (evaluation_losses, training_losses):
      gradient = full_gradient(problem, (), key(), block_size=block_size, losses=losses)
      np.testing.assert_allclose(gradient(weights), features.T @ rests / 31, atol=100 * EPS)

  def test_the_two_losses_of_batch_norm(self):
    model = gdlab.problems.MLP(features=(4,), num_outputs=2, batch_norm=True)
    rng = np.random.default_rng(0)
    problem = gdlab.problems.from_linen(
      model, (rng.normal(size=(12, 3)), rng.integers(0, 2, 12)), cross_entropy
    )
    params, model_state = problem.init(key())

    def value(losses, block_size):
      return full_loss(problem, model_state, key(), block_size=block_size, losses=losses)(params)

    # Fixed statistics: a sum over examples, in whatever blocks. The batch's own: not so.
    self.assertGreater(abs(value(training_losses, 4) - value(training_losses, 12)), 1e-3)
    outputs = model.apply({'params': params, **model_state}, problem.train.inputs)
    np.testing.assert_allclose(
      value(evaluation_losses, 5), np.mean(cross_entropy(outputs, problem.train.targets)), rtol=100 * EPS
    )

  def test_padding_does_not_poison(self):
    # The square root at 0, whose derivative is infinite, is the last example: padding must not repeat it.
    def losses(params, model_state, examples, mask, _):
      return jnp.sqrt(examples.inputs * params) + jnp.where(mask, 0, jnp.nan), model_state

    examples = Examples(jnp.array([1.0, 4.0, 9.0]), jnp.zeros(3))
    problem = Problem(init=None, loss=losses, metrics=None, name='root', train=examples)
    gradient = full_gradient(problem, (), key(), block_size=2, losses=training_losses)
    # d/dp of the mean of (1 + 2 + 3) sqrt(p) / 3 at 1.
    np.testing.assert_allclose(gradient(jnp.asarray(1.0)), 1.0, rtol=10 * EPS)

  def test_half_precision_is_summed_and_differentiated_in_single(self):
    problem = gdlab.problems.quadratic([1.0, 3.0], num_examples=1024)
    params = jnp.zeros(2, jnp.bfloat16)
    total = sum_over_blocks(lambda batch, _: jnp.ones((), jnp.bfloat16), 1024, key(), block_size=1)
    self.assertEqual(total, 1024)
    values, vectors = jax.jit(lambda params: sharpness(problem, params, (), key())[:2])(params)
    self.assertEqual(vectors.dtype, jnp.float32)
    np.testing.assert_allclose(values, [3.0], rtol=1e-5)

  def test_memory_is_bounded_by_the_block(self):
    # 8192 examples of 512 hidden units: all activations at once are 32 MiB, those of 64 are 0.25 MiB.
    model = gdlab.problems.MLP(features=(512,), num_outputs=1)
    data = np.ones((8192, 4)), np.ones((8192, 1))
    problem = gdlab.problems.from_linen(model, data, lambda z, y: jnp.sum((z - y) ** 2, axis=-1))

    def product(problem, params):
      return hessian(problem, params, (), key(), block_size=64).product(params)

    compiled = jax.jit(product).lower(problem, problem.init(key())[0]).compile()
    self.assertLess(compiled.memory_analysis().temp_size_in_bytes, 8 * 2**20)


@pytest.mark.parametrize('lanes_at_once', [2, pytest.param(1, marks=pytest.mark.slow)])
def test_probe_in_vmapped_and_mapped_lanes(lanes_at_once):
  rng = np.random.default_rng(0)
  features, labels = rng.normal(size=(30, 5)), rng.integers(0, 2, 30)
  problem = gdlab.problems.logistic_regression(features, labels, l2=0.1)
  algorithm = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(10), optimizer=optax.sgd(0.1))

  def top(problem, state):
    whole = hessian(problem, state.params, state.model_state, key(), block_size=12)
    # Without the measurement of its rounding, which only the residual needs: to compile it takes seconds.
    operator = Operator(whole.product, whole.like)
    return eigenpairs(operator, key(), tolerance=1e-4, dense_below=0).largest.values[0]

  probes = {'sharpness': top, 'weights': lambda problem, state: state.params}
  plan = gdlab.Plan(lanes_at_once=lanes_at_once, num_devices=1)
  found = gdlab.run(problem, algorithm, num_steps=4, eval_every=4, seeds=2, probes=probes, plan=plan)
  p = special.expit(np.asarray(found.weights, np.float64) @ features.T)
  hessians = np.einsum('stn,ni,nj->stij', p * (1 - p), features, features) / 30 + 0.1 * np.eye(5)
  truth = np.linalg.eigvalsh(hessians)[..., -1]
  assert np.ptp(truth) > 0.01
  # A Ritz value is nearer than its residual; 1e-6 for the single precision of the problem.
  np.testing.assert_allclose(found.sharpness, truth, rtol=1e-4 + 1e-6)


def test_refuses_a_block_size():
  problem = gdlab.problems.quadratic([1.0, 3.0])
  with pytest.raises(InputError, match='block_size'):
    hessian(problem, jnp.zeros(2), (), key(), block_size=0).product(jnp.ones(2))
