"""Schedules: values worked out in NumPy, Optax's for concrete numbers, and the ends of every piece exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from rates import along

from gdlab import schedules
from gdlab.core.errors import InputError

EPS = np.finfo(np.float64).eps
T = np.arange(26)


class NumpyTest(parameterized.TestCase):
  """Each value takes about five operations and a power or cosine, which XLA rounds to a few last places."""

  def check(self, schedule, expected):
    with jax.enable_x64(True):
      found = np.asarray(along(schedule))
    self.assertEqual(found.dtype, np.float64)
    np.testing.assert_allclose(found, expected, rtol=0, atol=20 * EPS)

  @parameterized.parameters(0, 0.3, 0.5, 0.75, 1, 2)
  def test_robbins_monro(self, exponent):
    self.check(schedules.robbins_monro(0.3, exponent, 4), 0.3 * (1 + T / 4) ** -float(exponent))

  def test_step_decay_at_boundaries_in_any_order(self):
    expected = np.where(T < 5, 0.3, np.where(T < 12, 0.3 * 0.2, 0.3 * 0.2**2))
    self.check(schedules.step_decay(0.3, 0.2, boundaries=(12, 5)), expected)
    self.check(schedules.step_decay(0.3, 0.2, boundaries=np.array([5.0, 12.0])), expected)
    # Between two updates: from the next one on.
    self.check(schedules.step_decay(0.3, 0.2, boundaries=(4.5, 11.1)), expected)
    # Twice the same boundary are two steps.
    self.check(schedules.step_decay(0.3, 0.2, boundaries=(5, 5)), np.where(T < 5, 0.3, 0.3 * 0.04))

  @parameterized.parameters(7, 7.0, 2.5)
  def test_step_decay_every(self, every):
    self.check(schedules.step_decay(0.3, 0.2, every=every), 0.3 * 0.2 ** np.floor(T / every))

  def test_exponential_per_epoch(self):
    self.check(schedules.exponential_per_epoch(0.3, 0.9, 7), 0.3 * 0.9 ** (T // 7))
    self.check(schedules.exponential_per_epoch(0.3, 0.9, 7, staircase=False), 0.3 * 0.9 ** (T / 7))

  def test_linear_and_cosine(self):
    share = np.minimum(T / 20, 1)
    self.check(schedules.linear(0.3, 20, 0.1), 0.3 + share * (0.1 - 0.3))
    self.check(schedules.cosine(0.3, 20, 0.1), 0.1 + 0.2 * (1 + np.cos(np.pi * share)) / 2)

  def test_constant_then_linear(self):
    expected = np.interp(T, [0, 15, 20], [0.3, 0.3, 0.1])
    self.check(schedules.constant_then_linear(0.3, 20, 0.25, 0.1), expected)
    # A corner between two updates; no cooldown at all; nothing else.
    self.check(schedules.constant_then_linear(0.3, 20, 0.33), np.interp(T, [0, 13.4, 20], [0.3, 0.3, 0]))
    self.check(schedules.constant_then_linear(0.3, 20, 0), np.where(T < 20, 0.3, 0))
    self.check(schedules.constant_then_linear(0.3, 20, 1), 0.3 * (1 - np.minimum(T / 20, 1)))

  def test_warmup_before_a_falling_rate(self):
    expected = np.where(T < 7, 0.05 + (0.3 - 0.05) * T / 7, 0.3 / (1 + np.maximum(T - 7, 0) / 4))
    self.check(schedules.warmup(schedules.robbins_monro(0.3, 1, 4), 7, 0.05), expected)

  def test_warmup_of_no_length_and_of_a_broken_one(self):
    after = lambda count: jnp.where(count == 0, 0.5, 0.25)  # a mark on its first value
    self.check(schedules.warmup(after, 0), np.where(T == 0, 0.5, 0.25))
    # Of length 2.5: a line through (2.5, 0.5), and the schedule's own first update is the third.
    self.check(schedules.warmup(after, 2.5), np.where(T < 2.5, T / 5, np.where(T == 3, 0.5, 0.25)))

  def test_one_cycle(self):
    first, last = 0.4 / 20, 0.4 / 20 / 100
    expected = np.interp(T, [0, 6, 17, 20], [first, 0.4, first, last])
    self.check(schedules.one_cycle(0.4, 20, initial_divisor=20, final_divisor=100), expected)
    # 0.31 * 20 and 0.83 * 20 are rounded to the same whole updates.
    corners = {'peak_at': 0.31, 'return_at': 0.83}
    self.check(schedules.one_cycle(0.4, 20, initial_divisor=20, final_divisor=100, **corners), expected)

  def test_a_cycle_without_a_rise_begins_at_its_peak(self):
    cycle = schedules.one_cycle(0.4, 20, peak_at=0, return_at=1, initial_divisor=20, final_divisor=100)
    # Back at the end, where the last value, which is smaller, takes over.
    self.check(cycle, np.where(T < 20, np.interp(T, [0, 20], [0.4, 0.02]), 0.02 / 100))


# Ours and Optax's with the same concrete numbers.
PAIRS = {
  'linear': lambda: (schedules.linear(0.3, 20, 0.1), optax.linear_schedule(0.3, 0.1, 20)),
  'cosine': lambda: (schedules.cosine(0.3, 20, 0.06), optax.cosine_decay_schedule(0.3, 20, 0.2)),
  'constant_then_linear': lambda: (
    schedules.constant_then_linear(0.3, 20, 0.25, 0.1),
    optax.join_schedules([optax.constant_schedule(0.3), optax.linear_schedule(0.3, 0.1, 5)], [15]),
  ),
  'boundaries': lambda: (
    schedules.step_decay(0.3, 0.1, boundaries=(5, 12)),
    optax.piecewise_constant_schedule(0.3, {5: 0.1, 12: 0.1}),
  ),
  'every': lambda: (
    schedules.step_decay(0.3, 0.5, every=7),
    optax.exponential_decay(0.3, 7, 0.5, staircase=True),
  ),
  'epoch': lambda: (
    schedules.exponential_per_epoch(0.3, 0.9, 7),
    optax.exponential_decay(0.3, 7, 0.9, staircase=True),
  ),
  'smooth': lambda: (
    schedules.exponential_per_epoch(0.3, 0.9, 7, staircase=False),
    optax.exponential_decay(0.3, 7, 0.9),
  ),
  'one_cycle': lambda: (schedules.one_cycle(0.4, 20), optax.linear_onecycle_schedule(20, 0.4)),
  'cosine_one_cycle': lambda: (schedules.cosine_one_cycle(0.4, 20), optax.cosine_onecycle_schedule(20, 0.4)),
  'warmup_cosine': lambda: (
    schedules.warmup(schedules.cosine(0.3, 15, 0.06), 5, 0.01),
    optax.warmup_cosine_decay_schedule(0.01, 0.3, 5, 20, end_value=0.06),
  ),
  'warmup_exponential': lambda: (
    schedules.warmup(schedules.exponential_per_epoch(0.3, 0.9, 7, staircase=False), 5, 0.01),
    optax.warmup_exponential_decay_schedule(0.01, 0.3, 5, 7, 0.9),
  ),
  'warmup_constant': lambda: (
    schedules.warmup(optax.constant_schedule(0.3), 5, 0.01),
    optax.warmup_constant_schedule(0.01, 0.3, 5),
  ),
}


class OptaxTest(parameterized.TestCase):
  @parameterized.parameters(*PAIRS)
  def test_concrete_numbers_give_optax_values(self, name):
    with jax.enable_x64(True):  # where Optax computes with 64-bit counts in float64
      ours, optax_schedule = PAIRS[name]()
      found, expected = (np.asarray(along(each, dtype=jnp.int64)) for each in (ours, optax_schedule))
    self.assertEqual((found.dtype, expected.dtype), (np.float64, np.float64))
    np.testing.assert_allclose(found, expected, rtol=0, atol=20 * EPS)

  @parameterized.named_parameters(
    ('cosine', lambda: schedules.cosine(0.3, 15, 0.06)),
    ('optax_cosine', lambda: optax.cosine_decay_schedule(0.3, 15, 0.2)),
    ('robbins_monro', lambda: schedules.robbins_monro(0.3, 0.75, 4)),
    ('steps', lambda: schedules.step_decay(0.3, 0.1, boundaries=(5, 12))),
  )
  def test_warmup_is_optax_join_bit_for_bit(self, make):
    after, counts = make(), jnp.arange(26)
    line = optax.linear_schedule(0.0, float(after(0)), 7)
    # Operation by operation: a compiler may fuse either side in its own way.
    joined = optax.join_schedules([line, after], [7])(counts)
    np.testing.assert_array_equal(schedules.warmup(after, 7)(counts), joined)
    np.testing.assert_array_equal(schedules.warmup(after, 7.0)(counts), joined)

  def test_an_optimizer_takes_them(self):
    gradient, params = jnp.ones(2, jnp.bfloat16), jnp.zeros(2, jnp.bfloat16)
    optimizer = optax.sgd(schedules.warmup(schedules.linear(0.5, 4), 2))
    state, rates = optimizer.init(params), []
    for _ in range(6):
      updates, state = optimizer.update(gradient, state, params)
      self.assertEqual(updates.dtype, jnp.bfloat16)
      rates.append(-float(updates[0]))
    self.assertEqual(rates, [0, 0.25, 0.5, 0.375, 0.25, 0.125])


@pytest.mark.parametrize('wrap', [lambda schedule: schedule, jax.jit], ids=['eager', 'jit'])
def test_the_ends_of_every_piece_are_exact(wrap):
  rate = lambda schedule, count: np.asarray(wrap(schedule)(jnp.int32(count)))
  initial, final, peak = np.float32(0.3), np.float32(0.1), np.float32(0.4)
  for shape in (schedules.linear, schedules.cosine):
    schedule = shape(0.3, 20, 0.1)
    assert rate(schedule, 0) == initial
    assert rate(schedule, 20) == rate(schedule, 21) == rate(schedule, 2**30) == final
    assert final < rate(schedule, 19) < initial
  for schedule in (
    schedules.robbins_monro(0.3, 0.7),
    schedules.step_decay(0.3, 0.7, every=3),
    schedules.exponential_per_epoch(0.3, 0.7, 3, staircase=False),
  ):
    assert rate(schedule, 0) == initial
  after = schedules.cosine(0.3, 20, 0.1)
  warmed = schedules.warmup(after, 7, 0.1)
  assert (rate(warmed, 0), rate(warmed, 7), rate(warmed, 27)) == (final, initial, final)
  first = peak / np.float32(25)
  cycle, cosine_cycle = schedules.one_cycle(0.4, 20), schedules.cosine_one_cycle(0.4, 20)
  assert [rate(cycle, count) for count in (0, 6, 17, 20)] == [first, peak, first, first / np.float32(1e4)]
  assert [rate(cosine_cycle, count) for count in (0, 6, 20)] == [first, peak, first / np.float32(1e4)]


def test_steps_fall_on_their_updates_for_ever():
  counts = np.arange(3000, dtype=np.int32)
  steps = jax.jit(lambda every: jnp.log2(jax.vmap(schedules.step_decay(1.0, 0.999, every=every))(counts)))
  for every in (3.0, 7.0, 10.0, 49.0):
    found = np.asarray(steps(every)) / np.log2(0.999)
    # Half a step off shows; the logarithm of a power of 1000 errs by less.
    np.testing.assert_array_equal(np.round(found), counts // int(every))
  # Counts that float32 cannot tell apart.
  large = schedules.step_decay(1.0, 0.5, boundaries=(2**24 + 1,))
  assert [float(large(jnp.int32(2**24 + shift))) for shift in (0, 1)] == [1.0, 0.5]
  large = schedules.step_decay(1.0, 0.5, every=2**24 + 1)
  assert [float(large(jnp.int32(2**24 + shift))) for shift in (0, 1)] == [1.0, 0.5]


def test_what_falls_falls_and_no_join_jumps():
  falling = {
    'power': schedules.robbins_monro(0.3, 0.6, 10),
    'smooth': schedules.exponential_per_epoch(0.3, 0.5, 50, staircase=False),
    'linear': schedules.linear(0.3, 200),
    'cosine': schedules.cosine(0.3, 200),
  }
  for name, schedule in falling.items():
    differences = np.diff(np.asarray(along(schedule, 201)))
    assert (differences < 0).all(), name
    # The steepest slopes: p a/t0, |log factor| a/u, a/T and pi/2 times that, with 1% to spare for rounding.
    steepest = {
      'power': 0.6 * 0.3 / 10,
      'smooth': np.log(2) * 0.3 / 50,
      'linear': 0.0015,
      'cosine': 0.0015 * np.pi / 2,
    }
    assert -differences.min() < 1.01 * steepest[name], name
  for name, schedule in falling.items():
    differences = np.diff(np.asarray(along(schedules.warmup(schedule, 40), 241)))
    assert (differences[:40] > 0).all(), name
    assert (differences[40:] < 0).all(), name
    np.testing.assert_allclose(differences[:40], 0.3 / 40, rtol=1e-4, err_msg=name)  # rounding is 1e-6
  for cycle, steepest in (
    (schedules.one_cycle, 0.384 / 60),
    (schedules.cosine_one_cycle, 0.384 / 60 * np.pi / 2),
  ):
    differences = np.diff(np.asarray(along(cycle(0.4, 200), 201)))
    assert (differences[:60] > 0).all()
    assert (differences[60:] < 0).all()
    assert np.abs(differences).max() < 1.01 * steepest


class RefusalTest(parameterized.TestCase):
  @parameterized.parameters(
    (lambda: schedules.robbins_monro(np.nan), r'^initial must be a real number .*, got nan'),
    (lambda: schedules.robbins_monro('0.1'), "^initial must be a real number .*, got '0.1'"),
    (lambda: schedules.robbins_monro(0.1, -0.5), r'^exponent must be a real number >= 0, got -0.5'),
    (lambda: schedules.robbins_monro(0.1, 1, 0), r'^offset must be a real number in \(0, inf\), got 0'),
    (lambda: schedules.step_decay(0.1, 0, every=3), r'^factor must be a real number in \(0, inf\), got 0'),
    (lambda: schedules.step_decay(0.1, 0.5), r'^either boundaries or every must be given, got \(\) and None'),
    (lambda: schedules.step_decay(0.1, 0.5, boundaries=(1,), every=2), '^either boundaries or every'),
    (
      lambda: schedules.step_decay(0.1, 0.5, boundaries=3),
      '^boundaries must be a sequence of numbers, got 3',
    ),
    (
      lambda: schedules.step_decay(0.1, 0.5, boundaries=(3, -1)),
      r'^boundaries\[1\] must be a real number >= 0, got -1',
    ),
    (lambda: schedules.step_decay(0.1, 0.5, every=0), r'^every must be a real number in \(0, inf\), got 0'),
    (
      lambda: schedules.exponential_per_epoch(0.1, 0.5, 0),
      r'^updates_per_epoch must be .* \(0, inf\), got 0',
    ),
    (lambda: schedules.linear(0.1, 0), r'^num_steps must be a real number in \(0, inf\), got 0'),
    (lambda: schedules.cosine(0.1, -5), r'^num_steps must be a real number in \(0, inf\), got -5'),
    (lambda: schedules.cosine(0.1, 5, np.inf), '^final must be a real number .*, got inf'),
    (
      lambda: schedules.constant_then_linear(0.1, 5, 1.5),
      r'^cooldown must be a real number in \[0, 1\], got 1.5',
    ),
    (lambda: schedules.warmup(0.1, 5), '^schedule must be a function of the count of updates, got 0.1'),
    (lambda: schedules.warmup(jnp.sin, -1), r'^num_warmup_steps must be a real number >= 0, got -1'),
    (lambda: schedules.warmup(jnp.sin, 1, None), '^start must be a real number .*, got None'),
    (lambda: schedules.one_cycle(0.1, 0), r'^num_steps must be a real number in \(0, inf\), got 0'),
    (lambda: schedules.one_cycle(0.1, 9, return_at=1.5), r'^return_at must be .* \[0, 1\], got 1.5'),
    (lambda: schedules.one_cycle(0.1, 9, peak_at=0.9), r'^peak_at must be .* \[0, 0.85\], got 0.9'),
    (lambda: schedules.cosine_one_cycle(0.1, 9, peak_at=-1), r'^peak_at must be .* \[0, 1\], got -1'),
    (lambda: schedules.cosine_one_cycle(0.1, 9, initial_divisor=0), r'^initial_divisor must be .*, got 0'),
    (lambda: schedules.one_cycle(0.1, 9, final_divisor=-1), r'^final_divisor must be .*, got -1'),
  )
  def test_bad_arguments_are_refused_by_name(self, make, message):
    with self.assertRaisesRegex(InputError, message):
      make()
