"""What every sampler promises: shapes, dtypes, jit without retracing, vmap, scan, keys, refusals."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from drawing import draw, keys

from gdlab import sampling
from gdlab.core.errors import InputError
from gdlab.core.types import Batch, Sampler

# Every sampler of the package with N = 7 examples; 3 does not divide 7.
SIZED = {
  'with_replacement': sampling.with_replacement,
  'reshuffle': sampling.reshuffle,
  'shuffle_once': sampling.shuffle_once,
  'sequential': sampling.sequential,
  'paired_reversal': sampling.paired_reversal,
  'block_shuffle': lambda size: sampling.block_shuffle(size, 2),
  'shuffle_buffer': lambda size: sampling.shuffle_buffer(size, 4),
  'importance': lambda size: sampling.importance(size, np.arange(1, 8)),
  'adaptive_importance': lambda size: sampling.adaptive_importance(size, sampling.last_loss),
  'stratified': lambda size: sampling.stratified(size, [4, 9, 4, 4, 9, 4, 9]),
  'stream': sampling.stream,
  'grab': lambda size: sampling.grab(size, like=jnp.zeros(2)),
}
SAMPLERS = {name: functools.partial(make, 3) for name, make in SIZED.items()} | {
  'full_batch': sampling.full_batch,
  'single': sampling.single,
  'poisson': lambda: sampling.poisson(0.4, 7),
  'batch_size_schedule': lambda: sampling.batch_size_schedule(3, lambda step: 1 + step % 3),
}
# What goes with samplers and is none.
HELPERS = {'last_loss', 'gradient_norm', 'piecewise_sizes'}
# Those whose weights sum to 1 in every batch.
MEANS = SAMPLERS.keys() - {'importance', 'poisson'}


def test_every_sampler_is_listed_here():
  public = {name for name in sampling.__all__ if not isinstance(getattr(sampling, name), type)}
  assert public - HELPERS == set(SAMPLERS)
  assert public >= HELPERS


@functools.cache
def compiled(name):
  """A sampler with its compiled `sample`, shared by the tests: they use the same shapes."""
  sampler = SAMPLERS[name]()
  return sampler, jax.jit(sampler.sample)


@functools.cache
def drawn(name):
  """Batches [3, 8, B] of three lanes, from a vmap of a scan."""
  return draw(compiled(name)[0], keys(3, seed=7), 7, 8)


class ContractTest(parameterized.TestCase):
  @parameterized.parameters(*SAMPLERS)
  def test_kinds_shapes_and_dtypes(self, name):
    sampler = SAMPLERS[name]()
    self.assertIsInstance(sampler, Sampler)
    batch, _ = jax.eval_shape(lambda: sampler.sample(sampler.init(jax.random.key(0), 7)))
    self.assertIsInstance(batch, Batch)
    self.assertEqual(batch.indices.shape, batch.weights.shape)
    self.assertEqual((batch.indices.dtype, batch.weights.dtype), (jnp.int32, jnp.float32))

  @parameterized.parameters(*SAMPLERS)
  def test_weights_are_float64_under_x64_and_indices_stay_int32(self, name):
    with jax.enable_x64(True):
      indices, weights = draw(SAMPLERS[name](), jax.random.key(0), 7, 4)
    self.assertEqual((indices.dtype, weights.dtype), (np.int32, np.float64))
    # r times the double nearest 1/r is 1 within r roundings; a float32 in between would show as 1e-8.
    if name in MEANS:
      np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=8 * np.finfo(np.float64).eps)

  @parameterized.parameters(*SAMPLERS)
  def test_sample_is_traced_once_and_uses_no_key_twice(self, name):
    chex.clear_trace_counter()  # chex counts by name, and these all have one name
    sampler = SAMPLERS[name]()
    # Its buffers given away: nothing may be in the state twice.
    sample = jax.jit(chex.assert_max_traces(sampler.sample, n=1), donate_argnums=0)
    with jax.debug_key_reuse(True):
      state = sampler.init(jax.random.key(0), 7)
      for _ in range(8):  # more than two epochs of 3 updates
        _, state = sample(state)

  @parameterized.parameters(*SAMPLERS)
  def test_scan_and_vmap_equal_a_plain_loop_exactly(self, name):
    sampler, sample = compiled(name)
    indices, weights = drawn(name)
    for lane, key in enumerate(keys(3, seed=7)):
      state = sampler.init(key, 7)
      for step in range(8):
        batch, state = sample(state)
        np.testing.assert_array_equal(batch.indices, indices[lane, step])
        np.testing.assert_array_equal(batch.weights, weights[lane, step])

  @parameterized.parameters(*SAMPLERS)
  @pytest.mark.slow
  def test_legacy_keys_draw_the_same(self, name):
    sampler, _ = compiled(name)
    indices, _ = drawn(name)
    raw = jax.random.key_data(keys(3, seed=7))[0]  # uint32[2], what jax.random.PRNGKey returns
    np.testing.assert_array_equal(draw(sampler, raw, 7, 8)[0], indices[0])

  @parameterized.parameters(
    'single',
    'reshuffle',
    'shuffle_once',
    'sequential',
    'paired_reversal',
    'block_shuffle',
    'shuffle_buffer',
    'batch_size_schedule',
    'grab',
  )
  def test_lanes_out_of_step_under_vmap_do_not_disturb_one_another(self, name):
    # Lane 0 begins an epoch while lane 1 is in the middle of one: the vote on shuffling is not unanimous.
    sampler, sample = compiled(name)
    first, second = (sampler.init(key, 7) for key in keys(2, seed=8))
    _, second = sample(second)
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)
    pair = jax.jit(jax.vmap(sampler.sample))
    for _ in range(7):
      batches, together = pair(together)
      one, first = sample(first)
      other, second = sample(second)
      for lane, batch in enumerate((one, other)):
        np.testing.assert_array_equal(batches.indices[lane], batch.indices)
        np.testing.assert_array_equal(batches.weights[lane], batch.weights)

  @parameterized.parameters(*sorted(SAMPLERS.keys() - {'full_batch', 'sequential'}))
  def test_other_keys_draw_other_batches(self, name):
    indices, _ = drawn(name)
    self.assertFalse(np.array_equal(indices[0], indices[1]))  # by chance with probability <= 1/7!


class RefusalTest(parameterized.TestCase):
  @parameterized.product(name=tuple(SIZED), value=(0, -1, 2.0, 1.5, True, None, '3', np.float32(2), [2]))
  def test_a_batch_size_that_is_no_whole_number_above_0(self, name, value):
    with self.assertRaisesRegex(InputError, r'^batch_size must be a whole number >= 1, got .*$') as caught:
      SIZED[name](value)
    self.assertIn(str(value), str(caught.exception))

  @parameterized.product(name=tuple(SIZED), value=(8, 10**6))
  def test_a_batch_size_above_n(self, name, value):
    with self.assertRaisesRegex(InputError, rf'^batch_size must be .* \[1, 7\] .*, got {value}$'):
      SIZED[name](value).init(jax.random.key(0), 7)

  @parameterized.product(name=tuple(SAMPLERS), num_examples=(0, -1, 7.0))
  def test_no_data(self, name, num_examples):
    with self.assertRaisesRegex(InputError, r'^num_examples must be a whole number >= 1, got '):
      SAMPLERS[name]().init(jax.random.key(0), num_examples)

  @parameterized.parameters(*SIZED)
  def test_numpy_whole_numbers_are_welcome(self, name):
    sampler = SIZED[name](np.int64(7))
    indices, _ = draw(sampler, jax.random.key(0), 7, 1)
    self.assertEqual(indices.shape, (1, 7))
