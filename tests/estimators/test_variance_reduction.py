"""SVRG, SAGA and STORM against NumPy written by hand, unbiased by enumeration, and their rates."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from estimator_cases import Float64, N, Truth, batch_of, close, stepper

import gdlab
from gdlab.core.errors import InputError
from gdlab.estimators import batch_mean, saga, storm, svrg

# Batches of three with repeated examples, unequal and signed weights, and padding.
BATCHES = (
  ([4, 0, 0], [0.5, 0.3, 0.2]),
  ([1, 2, 5], [1.0, -0.2, 0.4]),
  ([3, 3, 3], [0.1, 0.6, 0.3]),
  ([2, 4, 1], [0.5, 0.5, 0.0]),
  ([0, 5, 0], [0.2, 0.2, 0.6]),
  ([5, 5, 1], [0.0, 0.7, 0.3]),
)
RATE = 0.05
# Gradients and losses below are sums of some ten terms of this size at most.
SIZE = 30


def along(estimator, truth, after):
  """Estimates along descent on BATCHES; `after(t, w, gradient)` looks at each. Returns the last state and point."""
  problem, w = truth.problem(), truth.start
  step, state = stepper(estimator, problem), estimator.init(problem, jnp.asarray(truth.start))
  for t, (indices, weights) in enumerate(BATCHES):
    gradient, state, info = step(state, w, batch_of(indices, weights))
    after(t, w, np.asarray(gradient), state, info)
    w = w - RATE * np.asarray(gradient)
  return state, w


def noisy_problem():
  """Least squares with noise in the residuals, drawn from the key for every slot."""

  def loss(w, model_state, examples, mask, key):
    residuals = examples[0] @ w - examples[1] + jax.random.normal(key, mask.shape)
    return residuals**2 / 2, model_state

  return dataclasses.replace(Truth().problem(), loss=loss)


class HandTest(Float64):
  @parameterized.parameters((1, 4), (2, 1), (2, 4), (4, 6), (4, 100))
  def test_svrg(self, period, block_size):
    truth, snapshot = Truth(), None

    def after(t, w, gradient, state, info):
      nonlocal snapshot
      snapshot = w if t % period == 0 else snapshot
      here, there = truth.batch(w, *BATCHES[t]), truth.batch(snapshot, *BATCHES[t])
      close(gradient, here - there + truth.full(snapshot), SIZE)
      close(state.gradient, truth.full(snapshot), SIZE)
      close(info.loss, truth.losses(w)[BATCHES[t][0]] @ np.array(BATCHES[t][1]), SIZE)
      real = np.count_nonzero(BATCHES[t][1])
      self.assertEqual(info.gradient_evaluations, 2 * real + N * (t % period == 0))

    along(svrg(period, block_size=block_size), truth, after)

  def test_saga(self):
    truth, table = Truth(), np.zeros((N, 3))

    def after(t, w, gradient, state, info):
      indices, weights = np.array(BATCHES[t][0]), np.array(BATCHES[t][1])
      fresh = truth.gradients(w)
      close(gradient, weights @ (fresh - table)[indices] + table.mean(axis=0), SIZE)
      drawn = indices[weights != 0]
      table[drawn] = fresh[drawn]
      close(state.table, table, SIZE)
      close(state.mean, table.mean(axis=0), SIZE)
      close(info.gradients, fresh[indices] * (weights != 0)[:, None], SIZE)
      self.assertEqual(info.gradient_evaluations, np.count_nonzero(weights))

    along(saga(), truth, after)

  def test_saga_with_a_random_loss_keeps_a_table_that_fits_its_mean(self):
    truth, problem = Truth(), noisy_problem()
    estimator = saga()
    step, state = stepper(estimator, problem), estimator.init(problem, jnp.asarray(truth.start))
    for t, (indices, weights) in enumerate(BATCHES):
      _, state, info = step(state, truth.start, batch_of(indices, weights), jax.random.key(t))
      close(state.mean, np.asarray(state.table).mean(axis=0), SIZE)
      last = {i: slot for slot, (i, w) in enumerate(zip(indices, weights, strict=True)) if w}
      for index, slot in last.items():
        np.testing.assert_array_equal(state.table[index], info.gradients[slot])
    # The two slots of one example had noise of their own.
    self.assertGreater(np.abs(np.diff(np.asarray(info.gradients)[1:], axis=0)).max(), 1e-3)

  @parameterized.named_parameters(
    ('constant', 0.3, lambda t: 0.3),
    ('sarah', 0.0, lambda t: 0.0),
    ('schedule', lambda step: 1 / (1.0 + step), lambda t: 1 / (1 + t)),
  )
  def test_storm(self, a, value):
    truth, before, average = Truth(), None, None

    def after(t, w, gradient, state, info):
      nonlocal before, average
      here = truth.batch(w, *BATCHES[t])
      if t == 0:
        average = here
      else:
        average = here + (1 - value(t)) * (average - truth.batch(before, *BATCHES[t]))
      close(gradient, average, SIZE)
      before = w
      real = np.count_nonzero(BATCHES[t][1])
      self.assertEqual(info.gradient_evaluations, real if t == 0 else 2 * real)
      close(info.loss, truth.losses(w)[BATCHES[t][0]] @ np.array(BATCHES[t][1]), SIZE)

    along(storm(a), truth, after)


class ReductionTest(Float64):
  @pytest.mark.slow
  def test_both_passes_see_the_same_noise(self):
    truth, problem, batch = Truth(), noisy_problem(), batch_of([1, 4, 2])
    w = jnp.asarray(truth.start)
    at_snapshot, state, _ = stepper(svrg(5), problem)(svrg(5).init(problem, w), w, batch, jax.random.key(3))
    close(at_snapshot, state.gradient, SIZE)  # the two gradients of the batch cancel
    step, state = stepper(storm(0.3), problem), storm(0.3).init(problem, w)
    first, state, _ = step(state, w, batch, jax.random.key(3))
    second, _, _ = step(state, w, batch, jax.random.key(4))
    fresh, _, _ = stepper(batch_mean(), problem)((), w, batch, jax.random.key(4))
    close(second, 0.3 * fresh + 0.7 * first, SIZE)  # where nothing has moved, an average
    self.assertGreater(np.abs(fresh - first).max(), 0.01)

  def test_svrg_with_a_snapshot_each_step_is_the_full_batch(self):
    truth = Truth()

    def after(t, w, gradient, state, info):
      close(gradient, truth.full(w), SIZE)

    along(svrg(1), truth, after)

  def test_saga_on_one_example_is_descent(self):
    truth = Truth(count=1)
    problem, estimator, w = truth.problem(), saga(), truth.start
    step, state = stepper(estimator, problem), estimator.init(problem, jnp.asarray(w))
    for _ in range(8):
      gradient, state, _ = step(state, w, batch_of([0]))
      close(gradient, truth.full(w), SIZE)
      w = w - RATE * np.asarray(gradient)

  def test_storm_with_a_1_is_plain(self):
    truth = Truth()

    def after(t, w, gradient, state, info):
      close(gradient, truth.batch(w, *BATCHES[t]), SIZE)

    along(storm(1.0), truth, after)


@functools.cache
def reached():
  """Estimators with a state of theirs that is not the first, and the point they are at; in float64."""
  truth = Truth()
  return [(truth, e, *along(e, truth, lambda *args: None)) for e in (svrg(4), saga())]


class UnbiasedTest(Float64):
  """The mean over all outcomes of the draw is the full gradient, whatever the state."""

  def estimates(self, truth, estimator, state, w, batches):
    problem, key = truth.problem(), jax.random.key(1)
    estimate = lambda batch: estimator.estimate(state, problem, jnp.asarray(w), (), batch, key)[0]
    return np.asarray(jax.jit(jax.vmap(estimate))(batches))

  @parameterized.parameters(1, 2, 3)
  def test_with_replacement(self, size):
    draws = list(itertools.product(range(N), repeat=size))
    batches = batch_of(draws, np.full((len(draws), size), 1 / size))
    for truth, estimator, state, w in reached():
      found = self.estimates(truth, estimator, state, w, batches)
      close(found.mean(axis=0), truth.full(w), SIZE)
      self.assertGreater(found.std(axis=0).max(), 1e-3)

  def test_with_importance_weights(self):
    probabilities = np.array([0.3, 0.1, 0.05, 0.25, 0.1, 0.2])
    batches = batch_of(np.arange(N)[:, None], 1 / (N * probabilities)[:, None])
    for truth, estimator, state, w in reached():
      found = self.estimates(truth, estimator, state, w, batches)
      close(probabilities @ found, truth.full(w), SIZE)

  def test_saga_in_the_first_epoch_of_an_epoch_sampler_is_too_long_by_what_has_been_seen(self):
    """Over all orders of 4 examples, at parameters that stay: the gradient times 1 + t/N, then unbiased no more."""
    truth, estimator = Truth(count=4), saga()
    problem, w = truth.problem(), jnp.asarray(truth.start)

    def epoch(order):
      def step(state, index):
        batch = batch_of([0])._replace(indices=index[None])
        gradient, state, _ = estimator.estimate(state, problem, w, (), batch, jax.random.key(0))
        return state, gradient

      return jax.lax.scan(step, estimator.init(problem, w), order)[1]

    orders = jnp.asarray(list(itertools.permutations(range(4))), jnp.int32)
    found = np.asarray(jax.jit(jax.vmap(epoch))(orders)).mean(axis=0)
    close(found, truth.full(truth.start) * (1 + np.arange(4)[:, None] / 4), SIZE)


@functools.cache
def logistic():
  """N = 32 rows of norm 1: every example has a smoothness of at most 1/4 + l2, and mu >= l2."""
  rng = np.random.default_rng(0)
  features = rng.normal(size=(32, 3))
  features /= np.linalg.norm(features, axis=1, keepdims=True)
  labels = (features @ [1.0, -2.0, 0.5] + rng.logistic(size=32) > 0).astype(int)
  return gdlab.problems.logistic_regression(features, labels, l2=0.1)


def distances(estimator, rate, num_steps):
  """To the minimiser after every update on single examples drawn with replacement."""
  problem = logistic()
  algorithm = gdlab.algorithm(
    sampler=gdlab.sampling.with_replacement(1), optimizer=optax.sgd(rate), estimator=estimator
  )

  @jax.jit
  def run(state, problem):
    def step(state, _):
      state, _ = algorithm.step(state, problem)
      return state, jnp.linalg.norm(state.params - problem.known.params)

    return jax.lax.scan(step, state, None, num_steps)[1]

  return np.asarray(run(algorithm.init(jax.random.key(0), problem), problem))


@pytest.mark.slow
class RateTest(Float64):
  SMOOTHNESS = 0.35

  @parameterized.named_parameters(
    ('svrg', lambda: svrg(64), 0.1),
    ('saga', saga, 1 / 3),  # rates of the papers, in units of 1/L
  )
  def test_linear_to_1e_12_at_a_constant_rate(self, make, rate):
    path = distances(make(), rate / self.SMOOTHNESS, 12_000)
    first = [int(np.argmax(path < level)) for level in (1e-4, 1e-8, 1e-12)]
    self.assertLess(path[-1000:].max(), 1e-12)
    # As many steps for four digits as for the next four; a power law would need thousands of times more.
    ratio = (first[2] - first[1]) / (first[1] - first[0])
    self.assertBetween(ratio, 0.5, 2)

  @parameterized.parameters(0.1, 1 / 3)
  def test_plain_descent_floors_at_the_same_rates(self, rate):
    path = distances(batch_mean(), rate / self.SMOOTHNESS, 12_000)
    # The floor is of order sqrt(rate * variance / mu), some 0.1: neither end of the second half is below it.
    self.assertGreater(np.median(path[6_000:9_000]), 1e-2)
    self.assertGreater(np.median(path[9_000:]), 1e-2)


class EdgeTest(Float64):
  def test_svrg_forgets_a_full_gradient_that_is_nan_at_the_next_snapshot(self):
    truth, estimator = Truth(), svrg(2)
    problem = truth.problem()
    step, state = stepper(estimator, problem), estimator.init(problem, jnp.asarray(truth.start))
    found = []
    for t in range(4):
      w = truth.start * (np.nan if t == 0 else 1)
      gradient, state, _ = step(state, w, batch_of([1, 2]))
      found.append(bool(np.isfinite(gradient).all()))
    self.assertEqual(found, [False, False, True, True])

  def test_a_period_may_be_an_array_and_no_float_is_one(self):
    svrg(jnp.int32(5))
    with self.assertRaisesRegex(InputError, '^period must be a whole number >= 1, got '):
      jax.eval_shape(lambda period: svrg(period).init(Truth().problem(), jnp.ones(3)), 2.5)

  def test_a_period_may_be_traced(self):
    truth = Truth()
    problem = truth.problem()

    @jax.jit
    @jax.vmap
    def evaluations(period):
      estimator = svrg(period)
      state, counts = estimator.init(problem, jnp.asarray(truth.start)), []
      for _ in range(5):
        _, state, info = estimator.estimate(
          state, problem, jnp.asarray(truth.start), (), batch_of([1, 2]), jax.random.key(0)
        )
        counts.append(info.gradient_evaluations)
      return jnp.stack(counts)

    extra = np.asarray(evaluations(jnp.array([2, 3]))) - 4
    np.testing.assert_array_equal(extra // N, [[1, 0, 1, 0, 1], [1, 0, 0, 1, 0]])


@pytest.mark.slow
class RunTest(parameterized.TestCase):
  def test_gradient_evaluations_of_a_run(self):
    truth = Truth(count=8)
    problem = gdlab.problems.linear_regression(truth.inputs, truth.targets)
    descent = gdlab.algorithm(
      sampler=gdlab.sampling.reshuffle(3), optimizer=optax.sgd(0.01), estimator=svrg(5)
    )
    result = gdlab.run(problem, descent, num_steps=12, seeds=2, eval_every=12)
    # Epochs of 3 + 3 + 2 examples, four of them, and snapshots before updates 0, 5 and 10.
    np.testing.assert_array_equal(result.gradient_evaluations.isel(step=-1), [2 * 4 * 8 + 3 * 8] * 2)
