"""SAM against its formula in NumPy, at critical points, and with BatchNorm and Dropout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from estimator_cases import Float64, Truth, batch_of, close, stepper

import gdlab
from gdlab.core.errors import InputError
from gdlab.estimators import batch_mean, microbatched, sam

BATCH = ([4, 0, 0, 5, 1, 2], [0.3, 0.2, 0.1, -0.1, 0.5, 0.0])
SIZE = 30


def estimate(estimator, problem, params, batch, model_state=(), key=None):
  state = estimator.init(problem, params)
  gradient, _, info = stepper(estimator, problem, model_state)(state, params, batch, key)
  return gradient, info


def by_hand(truth, w, rho, adaptive, indices, weights):
  gradient = truth.batch(w, indices, weights)
  scale = np.abs(w) if adaptive else np.ones_like(w)
  perturbation = rho * scale**2 * gradient / np.linalg.norm(scale * gradient)
  return truth.batch(w + perturbation, indices, weights)


class FormulaTest(Float64):
  @parameterized.product(rho=(0.05, 2.0), adaptive=(False, True))
  def test_gradient_loss_and_counts(self, rho, adaptive):
    truth = Truth()
    batch = batch_of(*BATCH)
    gradient, info = estimate(sam(rho, adaptive=adaptive), truth.problem(), truth.start, batch)
    close(gradient, by_hand(truth, truth.start, rho, adaptive, *BATCH), SIZE)
    plain = truth.batch(truth.start, *BATCH)
    self.assertGreater(np.abs(gradient - plain).max(), 0.01)
    mask = np.array(BATCH[1]) != 0
    losses = truth.losses(truth.start)[BATCH[0]]
    close(info.losses, losses * mask, SIZE)
    close(info.loss, losses @ np.array(BATCH[1]), SIZE)
    self.assertEqual(info.gradient_evaluations, 2 * 5)

  @parameterized.product(size=(1, 2, 3), adaptive=(False, True))
  def test_m_sharpness_is_the_mean_over_slices(self, size, adaptive):
    truth, rho = Truth(), 0.3
    indices = np.array([4, 0, 0, 5, 1, 2])
    estimator = microbatched(size, sam(rho, adaptive=adaptive))
    gradient, info = estimate(estimator, truth.problem(), truth.start, batch_of(indices))
    slices = indices.reshape(-1, size)
    expected = [by_hand(truth, truth.start, rho, adaptive, s, np.full(size, 1 / size)) for s in slices]
    close(gradient, np.mean(expected, axis=0), SIZE)
    self.assertEqual(info.gradient_evaluations, 2 * 6)

  def test_adaptive_does_not_change_when_parameters_are_rescaled(self):
    # f(w) at w * c, with the inputs divided by c, is the same function: so is the worst loss in the ball.
    truth, other, scale = Truth(), Truth(), np.array([1.0, 30.0, 0.01])
    other.inputs, other.start = truth.inputs / scale, truth.start * scale
    found = [
      estimate(sam(0.3, adaptive=True), t.problem(), t.start, batch_of(*BATCH))[0] for t in (truth, other)
    ]
    # Each is a sum of terms of up to SIZE, in its own units.
    close(found[1] * scale, found[0], SIZE)


class NetworkTest(Float64):
  """On a network with BatchNorm and Dropout."""

  @functools.cached_property
  def network(self):
    rng = np.random.default_rng(0)
    module = gdlab.problems.MLP((5,), 3, batch_norm=True, dropout_rate=0.4)
    data = rng.normal(size=(12, 4)), rng.integers(0, 3, 12)
    problem = gdlab.problems.from_linen(module, data, optax.softmax_cross_entropy_with_integer_labels)
    return problem, *jax.jit(problem.init)(jax.random.key(0))

  def estimate(self, estimator):
    problem, params, model_state = self.network
    batch, key = batch_of([3, 7, 7, 1], [0.5, 0.2, 0.3, 0.0]), jax.random.key(3)
    return estimate(estimator, problem, params, batch, model_state, key)

  def test_rho_0_is_plain_and_statistics_are_those_of_one_pass(self):
    plain, none, some = (self.estimate(estimator) for estimator in (batch_mean(), sam(0.0), sam(0.5)))
    # Both passes drop the same units. A few roundings of numbers below 1.
    jax.tree.map(close, none[0], plain[0])
    apart = lambda one, other: max(
      jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), one, other))
    )
    self.assertGreater(apart(some[0], plain[0]), 1e-3)
    jax.tree.map(close, some[1].model_state, plain[1].model_state)
    self.assertGreater(apart(plain[1].model_state, self.network[2]), 1e-3)


class RangeTest(parameterized.TestCase):
  @parameterized.product(scale=(1e-22, 1e15, 1e20), adaptive=(False, True))
  def test_squares_of_gradients_and_parameters_neither_overflow_nor_vanish_in_float32(self, scale, adaptive):
    curvatures, w = np.array([1.0, 3.0]), np.array([2.0, -1.0]) * scale
    bowl = gdlab.problems.quadratic(curvatures)
    gradient, _ = estimate(sam(0.5, adaptive=adaptive), bowl, jnp.asarray(w, jnp.float32), batch_of([0]))
    stretch = np.abs(w) if adaptive else np.ones(2)
    perturbation = 0.5 * stretch**2 * curvatures * w / np.linalg.norm(stretch * curvatures * w)
    # Some ten roundings of numbers that do not cancel.
    expected = curvatures * (w + perturbation)
    np.testing.assert_allclose(gradient, expected, rtol=20 * np.finfo(np.float32).eps)


class EdgeTest(Float64):
  @parameterized.product(adaptive=(False, True), size=(None, 2))
  def test_finite_at_a_critical_point(self, adaptive, size):
    bowl = gdlab.problems.quadratic([1.0, 3.0])
    inner = sam(0.5, adaptive=adaptive)
    estimator = inner if size is None else microbatched(1, inner)
    gradient, _ = estimate(estimator, bowl, jnp.zeros(2), batch_of([0]))
    np.testing.assert_array_equal(gradient, np.zeros(2))

  def test_adaptive_at_zero_parameters_with_a_gradient_is_plain(self):
    truth = Truth()
    gradient, _ = estimate(sam(0.5, adaptive=True), truth.problem(), np.zeros(3), batch_of(*BATCH))
    close(gradient, truth.batch(np.zeros(3), *BATCH), SIZE)

  @parameterized.parameters(-0.1, np.inf, np.nan, True, '1', None)
  def test_refusals(self, rho):
    with self.assertRaisesRegex(InputError, '^rho must be a real number >= 0, got '):
      sam(rho)
