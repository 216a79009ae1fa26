"""Every number of every schedule as a tracer: one trace, the same values; and swept by `gdlab.sweep`."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from rates import RATES, along, first_values

import gdlab
from gdlab import schedules
from gdlab.core.types import Problem

EPS = np.finfo(np.float32).eps


def test_every_schedule_is_listed_here():
  others = {'observe', 'reduce_on_plateau', 'adam_scaling', 'linear_scaling', 'square_root_scaling'}
  public = {name for name in schedules.__all__ if not isinstance(getattr(schedules, name), type)}
  assert public - others == public & set(RATES)


class TracerTest(parameterized.TestCase):
  @parameterized.parameters(*RATES)
  def test_each_number_is_swept_in_one_trace(self, name):
    make, arguments = RATES[name]
    for argument, pair in arguments.items():
      chex.clear_trace_counter()

      def swept(values, argument=argument):
        return jax.vmap(lambda one: along(make(**(first_values(name) | {argument: one}))))(values)

      compiled = jax.jit(chex.assert_max_traces(swept, n=1))
      found = np.asarray(compiled(jnp.array(pair)))
      np.testing.assert_array_equal(compiled(jnp.array(pair[::-1])), found[::-1])  # the same program
      expected = [along(make(**(first_values(name) | {argument: value}))) for value in pair]
      # Constants are folded in another order; a power of up to 25 amplifies its argument's rounding as much.
      np.testing.assert_allclose(found, expected, rtol=0, atol=50 * EPS, err_msg=argument)
      self.assertGreater(np.abs(found[0] - found[1]).max(), 1e-5, argument)  # it is heard

  @parameterized.parameters(*RATES)
  def test_all_numbers_at_once(self, name):
    make, arguments = RATES[name]
    chex.clear_trace_counter()
    whole = lambda values: jax.vmap(lambda one: along(make(**one)))(values)
    found = jax.jit(chex.assert_max_traces(whole, n=1))(
      {argument: jnp.array(pair) for argument, pair in arguments.items()}
    )
    for lane in range(2):
      alone = along(make(**{argument: pair[lane] for argument, pair in arguments.items()}))
      np.testing.assert_allclose(found[lane], alone, rtol=0, atol=50 * EPS)

  @parameterized.parameters(*RATES)
  def test_computed_in_float32_at_least(self, name):
    make, arguments = RATES[name]
    self.assertEqual(make(**first_values(name))(3).dtype, jnp.float32)
    halves = {argument: jnp.bfloat16(pair[0]) for argument, pair in arguments.items()}
    found = jax.jit(lambda numbers: along(make(**numbers), 300))(halves)
    self.assertEqual(found.dtype, jnp.float32)
    # What half precision holds exactly, and computed with like any other number.
    expected = along(make(**{argument: float(value) for argument, value in halves.items()}), 300)
    np.testing.assert_allclose(found, expected, rtol=0, atol=50 * EPS)
    with jax.enable_x64(True):
      self.assertEqual(jax.jit(make(**first_values(name)))(jnp.int32(3)).dtype, jnp.float64)

  @parameterized.parameters(*itertools.product(RATES, (0, 1)))
  def test_values_and_slopes_are_finite_everywhere(self, name, which):
    make, arguments = RATES[name]
    # Selects compute what they drop, and a NaN there would come back in the gradient. A warm-up of length 0 is among
    # the second values.
    numbers = {argument: jnp.float32(pair[which]) for argument, pair in arguments.items()}
    slopes = jax.jit(jax.jacrev(lambda numbers: along(make(**numbers))))(numbers)
    chex.assert_tree_all_finite((along(make(**numbers)), slopes))

  def test_half_precision_lengths_do_not_round_the_count(self):
    # In bfloat16 299 is 300 and 257 is 256.
    every = jax.jit(lambda every: schedules.step_decay(1.0, 0.5, every=every)(jnp.int32(299)))
    self.assertEqual(every(jnp.bfloat16(100)), 0.25)
    boundary = jax.jit(lambda time: schedules.step_decay(1.0, 0.5, boundaries=(time,))(jnp.int32(299)))
    self.assertEqual(boundary(jnp.bfloat16(300)), 1.0)

  def test_the_corners_of_a_cycle_may_be_tracers_alone(self):
    with_tracer = jax.jit(lambda back: along(schedules.one_cycle(0.4, 20, return_at=back)))
    np.testing.assert_allclose(with_tracer(0.85), along(schedules.one_cycle(0.4, 20)), rtol=0, atol=20 * EPS)


def line_problem():
  loss = lambda w, examples: w * examples  # its gradient is 1 everywhere
  return Problem(
    init=lambda key: (jnp.zeros(()), ()),
    loss=lambda w, model_state, examples, mask, key: (loss(w, examples), model_state),
    metrics=lambda w, model_state, examples: {'loss': loss(w, examples)},
    name='line',
    train=jnp.ones(2),
  )


@pytest.mark.parametrize('lanes_at_once', [1, 4])
def test_warmup_length_and_peak_are_swept_in_one_program(lanes_at_once):
  problem, traces = line_problem(), {}

  def swept(grid):
    def make(num_warmup_steps, peak):
      traces[len(grid['peak'])] = traces.get(len(grid['peak']), 0) + 1
      schedule = schedules.warmup(schedules.linear(peak, 8.0), num_warmup_steps)
      return gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(schedule))

    plan = gdlab.Plan(lanes_at_once, 1)
    probes = {'w': lambda problem, state: state.params}
    return gdlab.sweep(
      problem, make, grid, num_steps=12, seeds=1, eval_every=1, probes=probes, plan=plan, progress=False
    )

  result = swept({'num_warmup_steps': [0.0, 2.0, 5.0], 'peak': [0.1, 0.25]})
  swept({'num_warmup_steps': [2.0], 'peak': [0.1]})
  assert traces[2] == traces[1], 'more points were more traces'
  counts = np.arange(12)
  for length in (0.0, 2.0, 5.0):
    for peak in (0.1, 0.25):
      falling = peak * (1 - np.clip(counts - length, 0, 8) / 8)
      rates = np.where(counts < length, peak * counts / max(length, 1), falling)
      path = result.w.sel(num_warmup_steps=length, peak=peak).isel(seed=0)
      # Sums of 12 rates of at most 0.25.
      np.testing.assert_allclose(
        path, np.concatenate([[0], -np.cumsum(rates)]), rtol=0, atol=12 * 12 * 0.25 * EPS
      )
