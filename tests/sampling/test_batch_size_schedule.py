"""batch_size_schedule: sizes as scheduled, every example once per epoch, constant is reshuffle, no new traces."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from drawing import draw, keys

import gdlab
from gdlab.core.errors import InputError
from gdlab.sampling import batch_size_schedule, piecewise_sizes, reshuffle


def plain(schedule, max_batch_size, num_examples, num_steps):
  """Sizes of the batches, epoch by epoch, by a plain loop."""
  sizes, left = [], num_examples
  for step in range(num_steps):
    sizes.append(min(max(1, min(schedule(step), max_batch_size)), left))
    left = left - sizes[-1] or num_examples
  return sizes


class SizesTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('growing', lambda step: 1 + step // 4),
    ('shrinking', lambda step: 6 - step // 3),
    ('jumping', lambda step: 1 + 3 * step % 5),
    ('above_and_below_the_bounds', lambda step: 4 * step - 9),
  )
  def test_sizes_are_as_scheduled_and_epochs_whole(self, schedule):
    indices, weights = draw(batch_size_schedule(6, schedule), jax.random.key(2), 11, 40)
    expected = plain(schedule, 6, 11, 40)
    np.testing.assert_array_equal(np.count_nonzero(weights, axis=1), expected)
    for row, size in zip(weights, expected, strict=True):
      np.testing.assert_array_equal(row[:size], np.float32(1) / np.float32(size))
      np.testing.assert_array_equal(row[size:], 0)
    self.assertTrue(np.all((indices >= 0) & (indices < 11)))
    seen = indices[weights != 0]
    epochs = seen[: len(seen) // 11 * 11].reshape(-1, 11)
    self.assertGreaterEqual(len(epochs), 3)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(11), (len(epochs), 1)))
    self.assertEqual(len({tuple(epoch) for epoch in epochs}), len(epochs))  # each in an order of its own

  @parameterized.parameters((7, 3), (12, 4), (5, 5), (6, 1), (1, 1))
  def test_a_constant_size_is_reshuffle(self, num_examples, batch_size):
    sampler = batch_size_schedule(batch_size, lambda step: batch_size)
    found = draw(sampler, keys(2), num_examples, 20)
    expected = draw(reshuffle(batch_size), keys(2), num_examples, 20)
    np.testing.assert_array_equal(found[0], expected[0])
    # The reciprocal of a whole number, rounded here once and there twice.
    np.testing.assert_allclose(found[1], expected[1], rtol=np.finfo(np.float32).eps)
    self.assertEqual(sampler.updates_per_epoch(num_examples), -(-num_examples // batch_size))

  @parameterized.parameters(
    (0.0, 1), (-3.0, 1), (2.4, 2), (2.6, 3), (4.0, 4), (1e9, 4), (1e30, 4), (np.inf, 4), (-np.inf, 1), (3, 3)
  )
  def test_numbers_are_rounded_and_kept_within_bounds(self, number, size):
    sampler = batch_size_schedule(4, lambda step: number)
    batch, _ = jax.jit(sampler.sample)(sampler.init(jax.random.key(0), 9))
    self.assertEqual(np.count_nonzero(batch.weights), size)

  def test_an_optax_schedule(self):
    sampler = batch_size_schedule(8, optax.linear_schedule(2, 8, transition_steps=6))
    _, weights = draw(sampler, jax.random.key(0), 200, 9)
    np.testing.assert_array_equal(np.count_nonzero(weights, axis=1), [2, 3, 4, 5, 6, 7, 8, 8, 8])


class TracedTest(parameterized.TestCase):
  def test_sizes_change_and_are_swept_in_one_trace(self):
    @jax.jit
    @chex.assert_max_traces(n=1)
    def counts(sizes, boundary):
      def lane(first, last):
        sampler = batch_size_schedule(5, piecewise_sizes([first, last], [boundary]))
        step = lambda state, _: sampler.sample(state)[::-1]
        _, batches = jax.lax.scan(step, sampler.init(jax.random.key(0), 50), length=6)
        return jnp.sum(batches.weights != 0, axis=1)

      return jax.vmap(lane)(*sizes)

    chex.clear_trace_counter()
    found = counts((jnp.array([1.0, 2.0]), jnp.array([5.0, 4.0])), jnp.float32(2))
    np.testing.assert_array_equal(found, [[1, 1, 5, 5, 5, 5], [2, 2, 4, 4, 4, 4]])
    found = counts((jnp.array([3.0, 5.0]), jnp.array([1.0, 5.0])), jnp.float32(4))
    np.testing.assert_array_equal(found, [[3, 3, 3, 3, 1, 1], [5, 5, 5, 5, 5, 5]])

  def test_a_sweep_of_sizes_draws_so_many_examples(self):
    problem = gdlab.problems.linear_regression(np.random.default_rng(0).normal(size=(40, 2)), np.zeros(40))

    def make(size):
      sampler = batch_size_schedule(8, piecewise_sizes([size, 8], [3]))
      return gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(0.01))

    data = gdlab.sweep(problem, make, grid={'size': [1.0, 2.0, 5.0]}, seeds=2, num_steps=4)
    drawn = np.asarray(data['examples'].sel(step=4).transpose('size', 'seed'))
    np.testing.assert_array_equal(drawn, [[3 * size + 8] * 2 for size in (1, 2, 5)])

  def test_the_gradient_of_a_padded_batch_is_the_mean_over_its_real_examples(self):
    rng = np.random.default_rng(1)
    inputs, targets = rng.normal(size=(9, 2)), rng.normal(size=9)
    problem = gdlab.problems.linear_regression(inputs, targets)
    sampler = batch_size_schedule(6, lambda step: 2 + step)
    descent = gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(1.0))
    state = descent.init(jax.random.key(0), problem)
    for size in (2, 3, 4):  # an epoch of 9
      drawn = np.asarray(sampler.sample(state.sampler)[0].indices)[:size]
      before = np.asarray(state.params, np.float64)
      state, info = descent.step(state, problem)
      expected = before - inputs[drawn].T @ (inputs[drawn] @ before - targets[drawn]) / size
      np.testing.assert_allclose(state.params, expected, rtol=1e-4, atol=1e-5)  # sums of 10 terms in float32
      self.assertEqual(int(info.examples), size)


class PiecewiseTest(parameterized.TestCase):
  def test_by_hand(self):
    schedule = piecewise_sizes([8, 16, 64], [10, 30])
    found = [float(schedule(jnp.int32(step))) for step in (0, 9, 10, 29, 30, 10**9)]
    self.assertEqual(found, [8, 8, 16, 16, 64, 64])
    self.assertEqual(float(piecewise_sizes([4], [])(jnp.int32(3))), 4)

  @parameterized.parameters(
    ([8, 16], [], r'^sizes must be one more than the 0 boundaries, got 2$'),
    ([], [], r'^sizes must be one more'),
    ([8, 0.5], [10], r'^sizes\[1\] must be a number >= 1, got 0.5$'),
    ([8, None], [10], r'^sizes\[1\] must be a real number .*, got None$'),
    ([8, 16], [0], r'^boundaries\[0\] must be a real number in \(0.0, inf\), got 0$'),
    ([8, 16, 32], [10, 10], r'^boundaries\[1\] must be a real number in \(10.0, inf\), got 10$'),
  )
  def test_refusals(self, sizes, boundaries, message):
    with self.assertRaisesRegex(InputError, message):
      piecewise_sizes(sizes, boundaries)


class RefusalTest(parameterized.TestCase):
  @parameterized.parameters(0, -1, 2.0, True, None)
  def test_the_largest_size(self, value):
    with self.assertRaisesRegex(InputError, '^max_batch_size must be a whole number >= 1, got '):
      batch_size_schedule(value, lambda step: 1)

  def test_the_largest_size_above_n(self):
    with self.assertRaisesRegex(InputError, r'^max_batch_size must be .* \[1, 7\] .*, got 8$'):
      batch_size_schedule(8, lambda step: 1).init(jax.random.key(0), 7)

  def test_a_schedule_that_is_no_function_or_returns_an_array(self):
    with self.assertRaisesRegex(InputError, '^schedule must be a function of the step, got 8$'):
      batch_size_schedule(8, 8)
    sampler = batch_size_schedule(2, lambda step: jnp.ones(3))
    with self.assertRaisesRegex(InputError, r'^schedule must return one number, got .* \(3,\)$'):
      sampler.sample(sampler.init(jax.random.key(0), 7))
