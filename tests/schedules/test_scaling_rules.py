"""Rules for other batch sizes: the formulas, and Adam's against a simulation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized

from gdlab import schedules
from gdlab.core.errors import InputError

EPS = np.finfo(np.float64).eps


class FormulaTest(parameterized.TestCase):
  @parameterized.parameters(0.25, 1, 4, 9.0)
  def test_by_hand(self, factor):
    self.assertEqual(schedules.linear_scaling(0.5, factor), 0.5 * factor)
    self.assertEqual(schedules.square_root_scaling(0.5, factor), 0.5 * np.sqrt(factor))  # of squares: exact
    scaled = schedules.adam_scaling(0.5, 0.95, 0.999, 1e-8, 3600, factor)
    root = np.sqrt(factor)
    expected = (0.5 * root, 1 - factor * 0.05, 1 - factor * 0.001, 1e-8 / root, 3600 / factor)
    np.testing.assert_allclose(scaled, expected, rtol=16 * EPS)
    self.assertEqual(scaled._fields, ('learning_rate', 'b1', 'b2', 'eps', 'num_steps'))

  def test_two_scalings_are_one(self):
    start = (0.5, 0.95, 0.999, 1e-8, 3600.0)
    twice = schedules.adam_scaling(*schedules.adam_scaling(*start, 3), 4)
    np.testing.assert_allclose(twice, schedules.adam_scaling(*start, 12), rtol=16 * EPS)

  def test_tracers_pass(self):
    factors = jnp.array([1.0, 4.0])
    numbers = jax.jit(jax.vmap(lambda factor: schedules.adam_scaling(0.5, 0.9, 0.99, 1e-8, 100, factor)))(
      factors
    )
    for lane, factor in enumerate((1.0, 4.0)):
      expected = schedules.adam_scaling(0.5, 0.9, 0.99, 1e-8, 100, factor)
      found = [number[lane] for number in numbers]
      np.testing.assert_allclose(found, expected, rtol=4 * np.finfo(np.float32).eps)
    # Also those that no Python number would be: it is the caller's to look.
    self.assertLess(jax.jit(lambda k: schedules.adam_scaling(0.5, 0.9, 0.99, 1e-8, 100, k))(20.0).b1, 0)
    rates = jax.vmap(lambda rate: schedules.linear_scaling(rate, 2) + schedules.square_root_scaling(rate, 4))
    np.testing.assert_array_equal(rates(jnp.array([0.5, 1.0])), [2.0, 4.0])

  @parameterized.parameters(
    (lambda: schedules.linear_scaling(0, 2), r'^learning_rate must be a real number in \(0, inf\), got 0'),
    (lambda: schedules.linear_scaling(0.1, -2), r'^factor must be a real number in \(0, inf\), got -2'),
    (lambda: schedules.square_root_scaling('a', 2), "^learning_rate must be a real number .*, got 'a'"),
    (lambda: schedules.square_root_scaling(0.1, 0), r'^factor must be a real number in \(0, inf\), got 0'),
    (
      lambda: schedules.adam_scaling(0.1, 0.9, 0.999, 1e-8, 10, 16),
      r'^factor must be below .*b1\) = 10, got 16',
    ),
    (
      lambda: schedules.adam_scaling(0.1, 0.5, 0.999, 1e-8, 10, 2),
      r'^factor must be below .*b1\) = 2, got 2',
    ),
    (lambda: schedules.adam_scaling(0.1, 0.9, 0.75, 1e-8, 10, 8), r'^factor must be below .*b2\) = 4, got 8'),
    (
      lambda: schedules.adam_scaling(0.1, 1, 0.999, 1e-8, 10, 2),
      r'^b1 must be a real number in \(0, 1\), got 1',
    ),
    (
      lambda: schedules.adam_scaling(0.1, 0.9, 0, 1e-8, 10, 2),
      r'^b2 must be a real number in \(0, 1\), got 0',
    ),
    (lambda: schedules.adam_scaling(0.1, 0.9, 0.999, 0, 10, 2), r'^eps must be .* \(0, inf\), got 0'),
    (lambda: schedules.adam_scaling(0.1, 0.9, 0.999, 1e-8, 0, 2), r'^num_steps must be .* \(0, inf\), got 0'),
  )
  def test_bad_arguments_are_refused_by_name(self, make, message):
    with self.assertRaisesRegex(InputError, message):
      make()


COPIES = 40_000


@functools.partial(jax.jit, static_argnames=('num_steps', 'every'))
def second_moments(learning_rate, b1, b2, eps, noise, num_steps, every):
  """E[x^2] every so many updates of Adam on x^2/2 with Gaussian noise, from x = 0, over independent copies.

  Adam works by coordinates, so that the copies are one vector.
  """
  optimizer = optax.adam(learning_rate, b1=b1, b2=b2, eps=eps)

  def update(carried, step):
    x, state = carried
    key = jax.random.fold_in(jax.random.key(0), step)
    updates, state = optimizer.update(x + noise * jax.random.normal(key, x.shape), state)
    return (optax.apply_updates(x, updates), state), None

  def stretch(carried, steps):
    carried, _ = jax.lax.scan(update, carried, steps)
    return carried, jnp.mean(carried[0] ** 2)

  start = jnp.zeros(COPIES)
  return jax.lax.scan(stretch, (start, optimizer.init(start)), jnp.arange(num_steps).reshape(-1, every))[1]


@pytest.mark.usefixtures('as_users_compile')
def test_adam_scaled_by_its_rule_follows_the_same_distribution():
  # Noise of variance 1 against gradients of about 0.05: the rule's own regime, where Adam is descent with the rate
  # learning_rate / noise = 0.005 on a curvature of 1.
  adam, steps, factor = (0.005, 0.95, 0.999, 1e-8), 800, 4
  scaled = schedules.adam_scaling(*adam, steps, factor)
  base = second_moments(*adam, 1.0, steps, 200)
  follows = second_moments(*scaled[:4], 0.5, int(scaled.num_steps), 50)
  # Its next order is the scaled rate, 0.02, over 1 - b1 = 0.2; three standard errors of two means of squares are
  # 3 * sqrt(2 * 2 / COPIES) = 0.03.
  np.testing.assert_allclose(follows, base, rtol=0.02 / 0.2 + 0.03)
  # The linear rule doubles the rate of the rule, and with it the variance that is reached.
  linear = second_moments(
    schedules.linear_scaling(adam[0], factor), *scaled[1:4], 0.5, int(scaled.num_steps), 50
  )
  assert linear[-1] > 1.6 * base[-1]
