"""poisson: the law of its batches by enumeration, unbiased also where batches overflow, its variance."""

import itertools
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from drawing import assert_law, assert_mean, draw, estimates, keys
from scipy import stats

from gdlab.core.errors import InputError
from gdlab.sampling import poisson

RNG = np.random.default_rng(0)
GRADIENTS = RNG.normal(size=(5, 2)) + 1


def as_sets(indices, weights):
  """Each batch [..., B] as the number with bit i set for every real example i."""
  return np.sum(np.where(weights != 0, 1 << indices, 0), axis=-1)


def from_traced(rate, max_batch, num_examples, count, num_steps):
  """Batches where the rate is traced, so that it is not refused for the overflow."""

  @jax.jit
  def lanes(rate):
    def from_key(key):
      sampler = poisson(rate, max_batch)
      step = lambda state, _: sampler.sample(state)[::-1]
      return jax.lax.scan(step, sampler.init(key, num_examples), length=num_steps)[1]

    return jax.vmap(from_key)(keys(count, seed=2))

  batches = lanes(jnp.asarray(rate))
  return np.asarray(batches.indices), np.asarray(batches.weights)


class LawTest(parameterized.TestCase):
  @parameterized.parameters(0.3, 0.65)
  def test_every_set_has_the_probability_of_its_coins(self, rate):
    indices, weights = draw(poisson(rate, 5), keys(80), 5, 50)
    sizes = np.array([number.bit_count() for number in range(32)])
    assert_law(as_sets(indices, weights), rate**sizes * (1 - rate) ** (5 - sizes))
    np.testing.assert_allclose(weights[weights != 0], 1 / (5 * rate), rtol=2 * np.finfo(np.float32).eps)

  def test_real_slots_come_first_and_hold_different_examples(self):
    indices, weights = draw(poisson(0.4, 5), jax.random.key(0), 5, 200)
    self.assertTrue(np.all((indices >= 0) & (indices < 5)))
    for row, real in zip(indices, weights != 0, strict=True):
      self.assertLen(set(row[real]), np.count_nonzero(real))
      np.testing.assert_array_equal(real, np.arange(5) < np.count_nonzero(real))
    self.assertIn(0, np.count_nonzero(weights, axis=1))  # an empty batch: 0.6^5 = 8 % of them

  def test_at_rate_1_every_batch_is_the_whole(self):
    indices, weights = draw(poisson(1, 5), jax.random.key(0), 5, 20)
    np.testing.assert_array_equal(np.sort(indices), np.tile(np.arange(5), (20, 1)))
    np.testing.assert_array_equal(weights, np.full((20, 5), 0.2, np.float32))

  def test_the_estimate_is_unbiased_with_the_closed_form_of_its_variance(self):
    found = estimates(*draw(poisson(0.3, 5), keys(60), 5, 100), GRADIENTS).reshape(-1, 2)
    mean = GRADIENTS.mean(axis=0)
    for number in range(2):
      assert_mean(found[:, number], mean[number])
    variance = 0.7 / (0.3 * 25) * np.sum(GRADIENTS**2)
    assert_mean(np.sum((found - mean) ** 2, axis=1), variance)

  def test_a_surplus_is_cut_off_alike_and_weighed_up(self):
    # Given K coins of 5 for 2 slots: by symmetry each example stays with probability min(K, 2)/5.
    indices, weights = from_traced(0.7, 2, 5, count=80, num_steps=60)
    real = weights != 0
    assert_law(indices[real], np.ones(5))
    law = stats.binom.pmf(np.arange(6), 5, 0.7)
    kept = real.sum(axis=-1)
    assert_law(kept, np.array([law[0], law[1], law[2:].sum()]))
    # The weight tells K: 1/(5 * 0.7) times K/2.
    drawn = np.rint(weights.max(axis=-1) * 3.5 * 2)[kept == 2].astype(int) - 2
    assert_law(drawn, law[2:])
    found = estimates(indices, weights, GRADIENTS).reshape(-1, 2)
    for number in range(2):
      assert_mean(found[:, number], GRADIENTS.mean(axis=0)[number])

  @pytest.mark.usefixtures('as_users_compile')
  def test_small_rates_are_met(self):
    # 1e5 examples at 2e-5: 2 expected; within 3 standard errors of a Poisson mean over 600 updates.
    _, weights = draw(poisson(2e-5, 20), keys(6), 100_000, 100)
    assert_mean(np.count_nonzero(weights, axis=-1).ravel(), 2.0)


class EnumerationTest(parameterized.TestCase):
  @parameterized.parameters((4, 2, 0.7), (5, 1, 0.5), (3, 3, 0.9))
  def test_the_mean_over_all_coins_and_starts_is_the_full_gradient(self, num_examples, max_batch, rate):
    """Also where batches overflow: the rate is traced, so that it is not refused."""
    values = GRADIENTS[:num_examples]

    def sample(rate, coins, start):
      sampler = poisson(rate, max_batch)
      with (
        mock.patch.object(jax.random, 'bernoulli', return_value=coins),
        mock.patch.object(jax.random, 'randint', return_value=start),
      ):
        return sampler.sample(sampler.init(jax.random.key(0), num_examples))[0]

    coins = np.array(list(itertools.product([False, True], repeat=num_examples)))
    with jax.enable_x64(True):
      over_starts = jax.vmap(sample, (None, None, 0))
      over_coins = jax.jit(jax.vmap(over_starts, (None, 0, None)))
      batches = over_coins(rate, jnp.asarray(coins), jnp.arange(num_examples, dtype=jnp.int32))
    found = estimates(batches.indices, batches.weights, values).mean(axis=1)
    chances = np.prod(np.where(coins, rate, 1 - rate), axis=1)
    # Below 200 terms of at most 10, each rounded a few times.
    np.testing.assert_allclose(chances @ found, values.mean(axis=0), rtol=0, atol=1e-12)
    self.assertGreater(found.std(axis=0).min(), 0.1)


class TracedTest(parameterized.TestCase):
  def test_the_rate_is_traced_once_and_mapped(self):
    @jax.jit
    @chex.assert_max_traces(n=1)
    def batches(rates):
      def one(rate, key):
        sampler = poisson(rate, 5)
        return sampler.sample(sampler.init(key, 5))[0]

      return jax.vmap(one)(rates, keys(2))

    chex.clear_trace_counter()
    for rates in (np.array([0.5, 1.0]), np.array([0.9, 0.25])):
      found = batches(jnp.asarray(rates))
      for lane in range(2):
        alone, weights = draw(poisson(float(rates[lane]), 5), keys(2)[lane], 5, 1)
        np.testing.assert_array_equal(found.indices[lane], alone[0])
        np.testing.assert_allclose(found.weights[lane], weights[0], rtol=4 * np.finfo(np.float32).eps)

  def test_an_epoch_is_1_over_q_updates_by_convention(self):
    for count in range(1, 400):
      self.assertEqual(poisson(1 / count, 1).updates_per_epoch(10), count)
    self.assertEqual(poisson(0.3, 1).updates_per_epoch(10), 4)
    with self.assertRaisesRegex(InputError, '^rate must be a known number for updates_per_epoch, got '):
      jax.eval_shape(lambda rate: poisson(rate, 3).updates_per_epoch(10), jnp.ones(()))


class RefusalTest(parameterized.TestCase):
  @parameterized.parameters(0, -0.1, 1.01, np.nan, np.inf, '0.5', None, True)
  def test_rates(self, rate):
    with self.assertRaisesRegex(InputError, '^rate must be a real number in '):
      poisson(rate, 3)

  @parameterized.parameters(0, -1, 2.5, None, True)
  def test_slots(self, max_batch):
    with self.assertRaisesRegex(InputError, '^max_batch must be a whole number >= 1, got '):
      poisson(0.5, max_batch)

  def test_more_slots_than_examples(self):
    with self.assertRaisesRegex(InputError, r'^max_batch must be a whole number in \[1, 5\] .*, got 6$'):
      poisson(0.5, 6).init(jax.random.key(0), 5)

  def test_too_few_slots_for_the_rate(self):
    enough = 59  # of 1000 at 0.03, from the law's own tail:
    self.assertLessEqual(stats.binom.sf(enough, 1000, 0.03), 1e-6)
    self.assertGreater(stats.binom.sf(enough - 1, 1000, 0.03), 1e-6)
    poisson(0.03, enough).init(jax.random.key(0), 1000)
    with self.assertRaisesRegex(InputError, rf'^max_batch must be .* \[{enough}, 1000\].*, got {enough - 1}'):
      poisson(0.03, enough - 1).init(jax.random.key(0), 1000)
