"""Evaluations fed back to an optimizer that listens: per lane, at evaluations only, and free for all others."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_runs
from absl.testing import parameterized

import gdlab
from gdlab import DIVERGED, RUNNING, Plan
from gdlab.core.errors import InputError
from gdlab.core.types import Problem
from gdlab.schedules import observe, reduce_on_plateau
from gdlab.training import lane

RATES = [0.2, 0.01, 2.0, 1e200]
NUM_STEPS, EVAL_EVERY = 30, 2
OPTIONS = {'factor': 0.5, 'patience': 2, 'cooldown': 1, 'min_scale': 0.1}


def problem(with_test=True):
  """One parameter from 2 towards 0, tested against 1: the test loss falls, and rises again past 1."""
  losses = lambda x, examples: (x - examples) ** 2 / 2
  return Problem(
    init=lambda key: (jnp.full((), 2.0), ()),
    loss=lambda x, model_state, examples, mask, key: (losses(x, examples), model_state),
    metrics=lambda x, model_state, examples: {'loss': losses(x, examples)},
    name='overshoot',
    train=jnp.zeros(3),
    test=jnp.ones(2) if with_test else None,
  )


def listening(learning_rate):
  optimizer = optax.chain(optax.sgd(learning_rate), reduce_on_plateau(**OPTIONS))
  return gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optimizer)


def part(name):
  return lambda problem, state: optax.tree.get(state.optimizer, name)


PROBES = {'x': lambda problem, state: state.params} | {
  name: part(name) for name in ('scale', 'plateau_count')
}


@functools.cache
def swept(lanes_at_once=1, record_every=2, steps_per_call=30, eval_steps=()):
  with jax.enable_x64(True):
    return gdlab.sweep(
      problem(),
      listening,
      {'learning_rate': RATES},
      num_steps=NUM_STEPS,
      seeds=1,
      eval_every=EVAL_EVERY,
      eval_steps=eval_steps,
      record_every=record_every,
      probes=PROBES,
      plan=Plan(lanes_at_once, 1, steps_per_call),
      progress=False,
    ).isel(seed=0)


def by_hand(rate, evaluated):
  """The run in plain Python: what is probed at each evaluation, before it is learnt from."""
  x, scale, best, bad, resting = 2.0, 1.0, np.inf, 0, 0
  rows = []
  for step in range(NUM_STEPS + 1):
    if step in evaluated:
      rows.append((x, scale, bad))
      value = (x - 1) ** 2 / 2
      if value < best - 1e-4 * best if np.isfinite(best) else True:
        best, bad = value, 0
      else:
        bad += 1
      if resting:
        bad, resting = 0, resting - 1
      elif bad >= OPTIONS['patience']:
        scale, bad, resting = max(scale * OPTIONS['factor'], OPTIONS['min_scale']), 0, OPTIONS['cooldown']
    x -= rate * scale * x
  return np.array(rows)


class RunTest(parameterized.TestCase):
  @parameterized.parameters(
    {},
    {'lanes_at_once': 4},
    {'lanes_at_once': 3, 'steps_per_call': 8},  # the last call is filled up with periods of nothing
    {'record_every': 1},  # periods of several records
    {'record_every': 3, 'eval_steps': (1, 7, 29)},
  )
  def test_every_lane_is_a_plain_python_loop(self, **options):
    result = swept(**options)
    evaluated = [*range(0, NUM_STEPS + 1, EVAL_EVERY), *options.get('eval_steps', ())]
    evaluated = sorted(set(evaluated))
    for rate in RATES[:3]:
      rows = by_hand(rate, evaluated)
      found = result.sel(learning_rate=rate, step=evaluated)
      # A contraction, or nearly, of 30 steps of three roundings.
      np.testing.assert_allclose(found.x, rows[:, 0], rtol=100 * np.finfo(float).eps)
      np.testing.assert_array_equal(found.scale, rows[:, 1])
      np.testing.assert_array_equal(found.plateau_count, rows[:, 2])

  def test_the_lanes_were_chosen_to_differ(self):
    last = swept().isel(step=-1)
    fast, slow, swinging = last.scale.values[:3]
    self.assertEqual(slow, 1.0)
    self.assertEqual(fast, 0.1)
    self.assertLess(swinging, 1.0)
    # It is the validation loss that rises: the training loss of the fast lane never does.
    self.assertTrue((np.diff(swept().train_loss.sel(learning_rate=0.2)) < 0).all())

  @parameterized.parameters(1, 4)
  def test_a_diverged_lane_learns_nothing_more(self, lanes_at_once):
    lost = swept(lanes_at_once).sel(learning_rate=1e200)
    self.assertTrue((lost.status[1:] == DIVERGED).all())
    np.testing.assert_array_equal(lost.plateau_count, 0)
    np.testing.assert_array_equal(lost.scale, 1)
    np.testing.assert_array_equal(lost.test_loss, 0.5)

  def test_a_loop_of_ones_own_does_the_same(self):
    rate, data = 0.2, problem()
    result = gdlab.run(
      data,
      listening(rate),
      num_steps=NUM_STEPS,
      seeds=1,
      eval_every=EVAL_EVERY,
      probes=PROBES,
      plan=Plan(1, 1),
      progress=False,
    ).isel(seed=0)
    descent = listening(rate)
    optimizer = optax.chain(optax.sgd(rate), reduce_on_plateau(**OPTIONS))
    state = descent.init(jax.random.key(0), data)
    x = jnp.float32(2.0)
    opt_state = optimizer.init(x)
    step, update = jax.jit(descent.step), jax.jit(optimizer.update)
    for number in range(NUM_STEPS + 1):
      if number % EVAL_EVERY == 0:
        metrics = gdlab.evaluate(data, state.params)
        state = descent.observe(state, metrics)
        opt_state = observe(opt_state, {'test_loss': (x - 1) ** 2 / 2})
        if number < NUM_STEPS:
          # What the run's next probe finds.
          expected = float(result.scale.sel(step=number + EVAL_EVERY))
          self.assertEqual(float(optax.tree.get(state.optimizer, 'scale')), expected)
          self.assertEqual(float(optax.tree.get(opt_state, 'scale')), expected)
      state, _ = step(state, data)
      updates, opt_state = update(x, opt_state, x)
      x = optax.apply_updates(x, updates)

  def test_a_metric_that_the_problem_lacks_is_refused_before_anything_runs(self):
    with self.assertRaisesRegex(InputError, "^unknown metric 'test_loss'.* Known: train_loss$"):
      gdlab.run(problem(with_test=False), listening(0.1), num_steps=2, seeds=1, progress=False)

  def test_a_probe_is_no_metric(self):
    optimizer = optax.chain(optax.sgd(0.1), reduce_on_plateau(metric='x'))
    algorithm = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optimizer)
    with self.assertRaisesRegex(InputError, "^unknown metric 'x'"):
      gdlab.run(problem(), algorithm, num_steps=2, seeds=1, probes={'x': PROBES['x']}, progress=False)


INPUTS = {'ids': jnp.zeros(3, jnp.int32), 'numbers': {}}


def lane_after(evaluates, status=RUNNING):
  """Observations without improvement, and updates, after a period of one update."""
  algorithm, data = listening(2.0), problem()
  rest = lambda numbers: algorithm, {}, data
  _, (begun, _) = lane.start(*rest, (), INPUTS, None)
  period = jnp.ones((1, 1), jnp.int32), jnp.asarray([evaluates])
  begun = begun._replace(status=jnp.int8(status))
  with jax.debug_key_reuse(False):  # as in a run
    advanced = jax.jit(lambda begun: lane.advance(*rest, begun, INPUTS, *period)[0])(begun)
  return optax.tree.get(advanced.state.optimizer, 'plateau_count'), advanced.updates


def test_only_evaluations_of_running_lanes_are_learnt_from():
  # At the rate 2 the parameter swings from 2 to -2, where the test loss is larger.
  assert tuple(map(int, lane_after(True))) == (1, 1)
  assert tuple(map(int, lane_after(False))) == (0, 1)
  assert tuple(map(int, lane_after(True, DIVERGED))) == (0, 0)


@pytest.mark.parametrize('mapped', [False, True])
def test_it_is_free_for_what_does_not_listen(mapped):
  data = tiny_runs.problem()
  period = jnp.array([[2, 1]], jnp.int32), jnp.asarray([True])
  over_lanes = (lambda function: jax.vmap(function)) if mapped else (lambda function: function)

  def programs(algorithm):
    rest = lambda numbers: algorithm, tiny_runs.PROBES, data
    start = lambda inputs: lane.start(*rest, (), inputs, None)[1]
    advance = lambda begun: lane.advance(*rest, begun, INPUTS, *period)
    given = jax.tree.map(lambda leaf: leaf[None], INPUTS) if mapped else INPUTS
    begun = jax.eval_shape(over_lanes(start), given)[0]
    with jax.debug_key_reuse(False):  # as in a run
      return [
        jax.jit(over_lanes(function)).lower(argument).as_text()
        for function, argument in ((start, given), (advance, begun))
      ]

  plain = tiny_runs.sgd(0.1)
  assert plain.observe is not None
  assert programs(plain) == programs(plain._replace(observe=None))
  optimizer = optax.chain(optax.sgd(0.1, momentum=0.5), reduce_on_plateau())
  plateau = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(4), optimizer=optimizer)
  listens, deaf = programs(plateau), programs(plateau._replace(observe=None))
  assert [one != other for one, other in zip(listens, deaf, strict=True)] == [True, True]
