"""batch_mean and microbatched against the closed-form gradient of least squares, in float64."""

import dataclasses
import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from gdlab.core.errors import InputError
from gdlab.core.types import Batch, Estimator, Problem
from gdlab.estimators import batch_mean, microbatched
from gdlab.sampling import reshuffle, sequential, with_replacement
from gdlab.sampling.epochs import EpochState

EPS = np.finfo(np.float64).eps
N, D = 9, 3


@pytest.fixture(autouse=True)
def _float64():
  with jax.enable_x64(True):
    yield


def least_squares(seed=0):
  """losses (x.w - y)^2 / 2 with counted model state, and its data."""
  rng = np.random.default_rng(seed)
  inputs, targets, params = rng.normal(size=(N, D)), rng.normal(size=N), rng.normal(size=D)

  def loss(params, model_state, examples, mask, key):
    x, y = examples
    return (x @ params['w'] - y) ** 2 / 2, model_state + jnp.sum(mask, dtype=jnp.int32)

  problem = Problem(None, loss, None, 'least squares', (jnp.asarray(inputs), jnp.asarray(targets)))
  return problem, {'w': jnp.asarray(params)}, (inputs, targets, params)


def batch_of(indices, weights):
  return Batch(jnp.asarray(indices, jnp.int32), jnp.asarray(weights, float))


def estimate(estimator, problem, params, batch):
  state = estimator.init(problem, params)
  run = jax.jit(lambda *args: estimator.estimate(state, problem, *args))
  return run(params, jnp.int32(0), batch, jax.random.key(0))


def closed_form(data, batch):
  """Weighted loss and gradient, and the sum of the sizes of all terms, which bounds the rounding."""
  inputs, targets, params = data
  x, y, w = inputs[batch.indices], targets[batch.indices], np.asarray(batch.weights)
  residuals = x @ params - y
  size = np.abs(w) @ (np.abs(x) * (np.abs(x) @ np.abs(params) + np.abs(y))[:, None])
  return w @ residuals**2 / 2, (w * residuals) @ x, size


# Signed and unequal weights, a repeated example, padding in the middle and at the end.
BATCH = ([4, 0, 0, 7, 8, 2, 1], [0.3, 0.2, 0.0, -0.1, 0.5, 0.1, 0.0])
ESTIMATORS = {'batch_mean': batch_mean} | {
  f'in_slices_of_{size}': functools.partial(microbatched, size) for size in range(1, 8)
}


class ClosedFormTest(parameterized.TestCase):
  @parameterized.parameters(*ESTIMATORS)
  def test_gradient_loss_and_counts(self, name):
    problem, params, data = least_squares()
    batch = batch_of(*BATCH)
    estimator = ESTIMATORS[name]()
    self.assertIsInstance(estimator, Estimator)
    gradient, _, info = estimate(estimator, problem, params, batch)
    loss, expected, size = closed_form(data, batch)
    # Sums of 7 * 3 products, in any order: each partial sum errs by eps times what it holds.
    np.testing.assert_allclose(gradient['w'], expected, rtol=0, atol=30 * EPS * size.max())
    np.testing.assert_allclose(info.loss, loss, rtol=0, atol=30 * EPS * size.max())
    self.assertEqual(info.gradient_evaluations, 5)  # padding is not counted
    self.assertEqual(info.gradient_evaluations.dtype, jnp.int32)
    self.assertEqual(info.model_state, 5)  # every real example passed once, carried from slice to slice
    self.assertEqual(gradient['w'].dtype, jnp.float64)

  @parameterized.parameters(*ESTIMATORS)
  def test_the_loss_of_every_slot(self, name):
    problem, params, (inputs, targets, w) = least_squares()
    batch = batch_of(*BATCH)
    _, _, info = estimate(ESTIMATORS[name](), problem, params, batch)
    expected = (inputs @ w - targets)[np.asarray(batch.indices)] ** 2 / 2
    expected[np.asarray(batch.weights) == 0] = 0
    _, _, size = closed_form((inputs, targets, w), batch)
    np.testing.assert_allclose(info.losses, expected, rtol=0, atol=100 * EPS * size.max())
    self.assertEqual(info.losses.dtype, jnp.float64)

  @parameterized.parameters(*ESTIMATORS)
  def test_padding_adds_exactly_nothing(self, name):
    problem, params, _ = least_squares()
    inputs, targets = problem.train
    poison = inputs.at[5].set(jnp.nan), targets.at[6].set(jnp.inf)
    poisoned = dataclasses.replace(problem, train=poison)
    indices, weights = [0, 5, 3, 6, 5, 6, 5], [0.5, 0, 0.5, 0, 0, 0, 0]
    with_padding = estimate(ESTIMATORS[name](), poisoned, params, batch_of(indices, weights))
    harmless = [0, 1, 3, 1, 1, 1, 1]
    without_poison = estimate(ESTIMATORS[name](), problem, params, batch_of(harmless, weights))
    chex.assert_trees_all_equal(with_padding, without_poison)  # bit for bit

  @parameterized.parameters(1, 2, 3)
  def test_bfloat16_parameters_get_bfloat16_gradients(self, size):
    problem, params, _ = least_squares()
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    for estimator in (batch_mean(), microbatched(size)):
      gradient, _, _ = estimate(estimator, problem, params, batch_of(*BATCH))
      self.assertEqual(gradient['w'].dtype, jnp.bfloat16)


class ReductionTest(parameterized.TestCase):
  def test_a_batch_gradient_is_the_mean_of_its_per_example_gradients(self):  # V3
    problem, params, (inputs, targets, w) = least_squares()
    per_example = (inputs @ w - targets)[:, None] * inputs
    for indices in ([0, 1, 2, 3], [8, 2, 5], [6]):
      batch = batch_of(indices, [1 / len(indices)] * len(indices))
      gradient, _, _ = estimate(batch_mean(), problem, params, batch)
      _, _, size = closed_form((inputs, targets, w), batch)
      expected = per_example[indices].mean(axis=0)
      np.testing.assert_allclose(gradient['w'], expected, rtol=0, atol=20 * EPS * size.max())

  def test_the_variance_with_replacement_is_sigma2_over_b_exactly(self):  # V2, all 9^2 batches
    problem, params, (inputs, targets, w) = least_squares()
    weights = with_replacement(2).sample(with_replacement(2).init(jax.random.key(0), N))[0].weights
    pairs = jnp.array(list(itertools.product(range(N), repeat=2)), jnp.int32)
    gradients = all_gradients(problem, params, jax.vmap(lambda pair: Batch(pair, weights))(pairs))
    per_example = (inputs @ w - targets)[:, None] * inputs
    assert_mean_and_covariance(gradients, per_example, scale=1 / 2)

  @parameterized.parameters(1, 2, 4)
  def test_the_variance_without_replacement_by_all_orders(self, batch_size):  # V2, all 5! permutations
    problem, params, (inputs, targets, w) = least_squares()
    problem = dataclasses.replace(problem, train=jax.tree.map(lambda leaf: leaf[:5], problem.train))
    # In the middle of an epoch a sampler goes by the order in its state: put every permutation there. With B = 4
    # the only full batch is the first, before which `reshuffle` draws an order of its own.
    orders = jnp.array(list(itertools.permutations(range(5))), jnp.int32)
    sampler, step = (sequential(4), 0) if batch_size == 4 else (reshuffle(batch_size), 1)
    draw = lambda order: sampler.sample(EpochState(jax.random.key(0), jnp.int32(step), order))[0]
    gradients = all_gradients(problem, params, jax.jit(jax.vmap(draw))(orders))
    per_example = ((inputs @ w - targets)[:, None] * inputs)[:5]
    scale = (1 - batch_size / 5) / batch_size * 5 / (5 - 1)
    assert_mean_and_covariance(gradients, per_example, scale)


def all_gradients(problem, params, batches):
  def gradient(batch):
    return batch_mean().estimate((), problem, params, jnp.int32(0), batch, jax.random.key(0))[0]['w']

  return np.asarray(jax.jit(jax.vmap(gradient))(batches))


def assert_mean_and_covariance(gradients, per_example, scale):
  """The mean over all outcomes is the full gradient, their covariance is that of one example times `scale`."""
  centred, own = gradients - gradients.mean(axis=0), per_example - per_example.mean(axis=0)
  size = np.abs(per_example).max()
  # Averages of 81 or 120 values near `size`, and of their squares.
  np.testing.assert_allclose(gradients.mean(axis=0), per_example.mean(axis=0), rtol=0, atol=200 * EPS * size)
  covariance = centred.T @ centred / len(gradients)
  expected = scale * own.T @ own / len(per_example)
  np.testing.assert_allclose(covariance, expected, rtol=0, atol=200 * EPS * size**2)
  assert np.trace(expected) > 1e-3 * size**2, 'a test of nothing'


class RefusalTest(parameterized.TestCase):
  @parameterized.parameters(0, -2, 2.0, True, '2', None)
  def test_a_size_that_is_no_whole_number_above_0(self, size):
    with self.assertRaisesRegex(InputError, rf'^size must be a whole number >= 1, got {size!r}'):
      microbatched(size)

  def test_a_size_above_the_batch(self):
    problem, params, _ = least_squares()
    with self.assertRaisesRegex(InputError, r'^size must be a whole number in \[1, 7\] .*, got 8$'):
      estimate(microbatched(8), problem, params, batch_of(*BATCH))
