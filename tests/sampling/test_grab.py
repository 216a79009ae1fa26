"""grab: against a plain transcription of the paper's algorithm, permutations, balance, feedback in a run, refusals."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from drawing import keys

import gdlab
from gdlab.core.errors import InputError
from gdlab.core.types import Batch, EstimateInfo
from gdlab.sampling import grab


def feedback(gradients):
  return EstimateInfo(jnp.zeros(()), (), jnp.int32(0), gradients=gradients)


def paper(order, gradient, epochs):
  """Algorithms 4 and 5: the orders of `epochs` epochs after `order`; `gradient(example, epoch)` is float64[d]."""
  mean, orders = 0.0, [np.array(order)]
  for epoch in range(epochs):
    left, right, total, new_mean = 0, len(order) - 1, 0.0, 0.0
    following = np.full(len(order), -1)
    for example in orders[-1]:
      found = gradient(example, epoch)
      found = found if np.isfinite(found).all() else mean * np.ones_like(found)
      centred, new_mean = found - mean, new_mean + found / len(order)
      if np.linalg.norm(total + centred) < np.linalg.norm(total - centred):
        following[left], left, total = example, left + 1, total + centred
      else:
        following[right], right, total = example, right - 1, total - centred
    orders.append(following)
    mean = new_mean
  return np.stack(orders)


def driven(sampler, key, table, num_epochs):
  """Orders seen in each epoch [num_epochs, N] where the gradient of i in epoch e is table[e, i], split into leaves."""
  num_examples = table.shape[1]
  updates = sampler.updates_per_epoch(num_examples)

  def step(state, number):
    batch, state = sampler.sample(state)
    rows = table[number // updates][batch.indices]
    # Padding may hold anything.
    rows = jnp.where((batch.weights != 0)[:, None], rows, jnp.nan)
    gradients = {'a': rows[:, 0], 'b': rows[:, 1:].reshape(len(rows), 1, -1), 'c': rows[:, :0]}
    return sampler.update(state, batch, feedback(gradients)), batch

  state = sampler.init(key, num_examples)
  _, batches = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(num_epochs * updates)))(state)
  return np.asarray(batches.indices)[np.asarray(batches.weights) != 0].reshape(num_epochs, num_examples)


def like(size):
  return {
    'a': jnp.zeros(()),
    'b': jax.ShapeDtypeStruct((1, size - 1), jnp.result_type(float)),
    'c': jnp.zeros(0),
  }


def imbalance(order, vectors):
  """The largest norm of a partial sum of the centred vectors."""
  return np.linalg.norm(np.cumsum((vectors - vectors.mean(axis=0))[order], axis=0), axis=1).max()


class PaperTest(parameterized.TestCase):
  @parameterized.parameters((1, 1), (7, 1), (7, 3), (12, 4), (20, 20))
  def test_orders_are_those_of_the_paper(self, num_examples, batch_size):
    with jax.enable_x64(True):
      table = np.random.default_rng(num_examples).normal(size=(6, num_examples, 5)) + 0.5
      found = driven(grab(batch_size, like=like(5)), jax.random.key(1), jnp.asarray(table), 6)
    expected = paper(found[0], lambda example, epoch: table[epoch, example], 5)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.sort(found), np.tile(np.arange(num_examples), (6, 1)))

  def test_a_gradient_that_is_not_finite_counts_as_the_mean(self):
    with jax.enable_x64(True):
      table = np.random.default_rng(0).normal(size=(5, 9, 3))
      table[1, 4], table[2, 5, 0], table[3, 6, 1] = np.nan, np.inf, -np.inf
      found = driven(grab(4, like=like(3)), jax.random.key(1), jnp.asarray(table), 5)
    np.testing.assert_array_equal(found, paper(found[0], lambda example, epoch: table[epoch, example], 4))

  def test_first_orders_are_random(self):
    sampler = grab(5, like=like(2))
    firsts = {tuple(np.asarray(sampler.init(key, 5).order)) for key in keys(30)}
    self.assertGreater(len(firsts), 10)  # 30 draws of 120 orders

  def test_orders_become_more_balanced_than_any_of_many_random_ones(self):
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(256, 8))
    table = jnp.asarray(np.tile(vectors, (12, 1, 1)), jnp.float32)
    orders = driven(grab(16, like=like(8)), jax.random.key(0), table, 12)
    random = [imbalance(rng.permutation(256), vectors) for _ in range(200)]
    self.assertLess(imbalance(orders[-1], vectors), min(random))


class ContractTest(parameterized.TestCase):
  @parameterized.parameters(jnp.float32, jnp.bfloat16)
  def test_sums_are_kept_in_float32_and_the_state_keeps_its_types(self, dtype):
    sampler = grab(2, like=jnp.zeros(3, dtype))
    state = sampler.init(jax.random.key(0), 4)
    self.assertEqual(state.mean.dtype, jnp.float32)
    _, after = sampler.sample(state)
    after = sampler.update(after, Batch(state.order[:2], jnp.ones(2)), feedback(jnp.ones((2, 3), dtype)))
    describe = lambda tree: [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(tree)]
    self.assertEqual(describe(after), describe(state))

  def test_one_trace_and_lanes_out_of_step_do_not_disturb_one_another(self):
    sampler = grab(2, like=jnp.zeros(3))
    vectors = jnp.asarray(np.random.default_rng(2).normal(size=(5, 3)), jnp.float32)

    def step(state):
      batch, state = sampler.sample(state)
      return sampler.update(state, batch, feedback(vectors[batch.indices])), batch

    chex.clear_trace_counter()
    alone = jax.jit(chex.assert_max_traces(step, n=1))
    pair = jax.jit(jax.vmap(step))
    first, second = (sampler.init(key, 5) for key in keys(2, seed=3))
    second, _ = alone(second)
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)
    for _ in range(10):  # three epochs of 3 updates
      together, batches = pair(together)
      first, one = alone(first)
      second, other = alone(second)
      for lane, batch in enumerate((one, other)):
        np.testing.assert_array_equal(batches.indices[lane], batch.indices)
        np.testing.assert_array_equal(batches.weights[lane], batch.weights)

  def test_with_an_estimator_in_an_algorithm(self):
    rng = np.random.default_rng(4)
    inputs, targets = rng.normal(size=(7, 2)), rng.normal(size=7)
    with jax.enable_x64(True):
      problem = gdlab.problems.linear_regression(inputs, targets)
      params, _ = problem.init(jax.random.key(0))
      descent = gdlab.algorithm(
        sampler=grab(3, like=params), optimizer=optax.sgd(0.1), estimator=gdlab.estimators.per_example()
      )
      state = descent.init(jax.random.key(1), problem)
      step = jax.jit(descent.step, donate_argnums=0)
      orders, gradients = [], np.zeros((4, 7, 2))
      for number in range(12):
        before, drawn = np.array(state.params), np.array(state.sampler.order)
        mine = drawn[number % 3 * 3 : number % 3 * 3 + 3]
        gradients[number // 3, mine] = (inputs[mine] @ before - targets[mine])[:, None] * inputs[mine]
        if number % 3 == 0:
          orders.append(drawn)
        state, _ = step(state, problem)
    expected = paper(orders[0], lambda example, epoch: gradients[epoch, example], 3)
    np.testing.assert_array_equal(orders, expected)

  @pytest.mark.slow
  def test_a_run_with_seeds_goes_through(self):
    rng = np.random.default_rng(4)
    problem = gdlab.problems.linear_regression(rng.normal(size=(7, 2)), rng.normal(size=7))
    descent = gdlab.algorithm(
      sampler=grab(3, like=jnp.zeros(2)), optimizer=optax.sgd(0.1), estimator=gdlab.estimators.per_example()
    )
    data = gdlab.run(problem, descent, num_steps=12, seeds=2)
    self.assertTrue(np.all(np.asarray(data['status'])[..., -1] == 0))


class RefusalTest(parameterized.TestCase):
  @parameterized.parameters(((),), ({},), (None,), (np.zeros(0),))
  def test_nothing_like_parameters(self, value):
    with self.assertRaisesRegex(InputError, '^like must be a pytree like the parameters, .*, got '):
      grab(2, like=value)

  def test_an_estimator_without_per_example_gradients(self):
    sampler = grab(2, like=jnp.zeros(3))
    batch, state = sampler.sample(sampler.init(jax.random.key(0), 4))
    with self.assertRaisesRegex(InputError, r'^estimator must .* gdlab.estimators.per_example\(\)'):
      sampler.update(state, batch, feedback(None))

  def test_other_parameters_than_said(self):
    sampler = grab(2, like=jnp.zeros(3))
    batch, state = sampler.sample(sampler.init(jax.random.key(0), 4))
    with self.assertRaisesRegex(InputError, '^like must have as many numbers as the parameters, 4, got 3$'):
      sampler.update(state, batch, feedback(jnp.zeros((2, 4))))


@pytest.mark.slow
def test_its_error_floor_is_lower_than_that_of_reshuffling(x64):
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(64, 5))
  labels = (inputs @ rng.normal(size=5) + rng.normal(size=64) > 0).astype(int)
  problem = gdlab.problems.logistic_regression(inputs, labels, l2=0.1)
  best = jnp.asarray(problem.known.params)

  def floors(sampler):
    """Squared distance from the minimum at the ends of epochs 61 to 120, its mean for each of 6 keys."""
    descent = gdlab.algorithm(
      sampler=sampler, optimizer=optax.sgd(0.03), estimator=gdlab.estimators.per_example()
    )

    def epoch(state, _):
      state, _ = jax.lax.scan(lambda state, _: (descent.step(state, problem)[0], None), state, length=16)
      return state, jnp.sum((state.params - best) ** 2)

    def lane(key):
      return jax.lax.scan(epoch, descent.init(key, problem, params=best), length=120)[1]

    return np.asarray(jax.jit(jax.vmap(lane))(keys(6, seed=1)))[:, 60:].mean(axis=1)

  balanced, reshuffled = floors(grab(4, like=best)), floors(gdlab.sampling.reshuffle(4))
  # Lower by more than a factor 3 with 3 standard errors, over 6 keys each (a factor of 9 was seen).
  gap = reshuffled / 3 - balanced
  assert gap.mean() > 3 * gap.std(ddof=1) / np.sqrt(6)


def test_the_transcription_is_that_of_a_case_by_hand():
  # Vectors 1, 2, -4 on a line, mean 0 at first: s = 0 -> a tie, to the back, s = -1; 2 against -1: front, s = 1;
  # -4 against 1: front, s = -3.
  vectors = np.array([[1.0], [2.0], [-4.0]])
  np.testing.assert_array_equal(paper([0, 1, 2], lambda example, epoch: vectors[example], 1)[1], [1, 2, 0])
