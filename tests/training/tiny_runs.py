"""One tiny problem and its runs, shared by the tests of training so that programs are compiled once.

Eleven points in the plane, a line fitted to them. The loss draws on all that a run carries: parameters in a dict,
model state, the noise stream.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gdlab
from gdlab.core.types import Examples, Problem

N = 11
NUM_STEPS, EVAL_EVERY, RECORD_EVERY = 12, 4, 3
STEPS = [0, 3, 4, 6, 8, 9, 12]
EVALUATED = [True, False, True, False, True, False, True]
PLAN = gdlab.Plan(lanes_at_once=1, num_devices=1, steps_per_call=6)


def init(key):
  return {'w': jax.random.normal(key, (2,)), 'b': jnp.zeros(())}, jnp.zeros((), jnp.int32)


def residuals(params, examples):
  return examples.inputs @ params['w'] + params['b'] - examples.targets


def loss(params, model_state, examples, mask, key):
  noise = 0.1 * jax.random.normal(key) * params['b']
  return residuals(params, examples) ** 2 / 2 + noise, model_state + jnp.sum(mask, dtype=jnp.int32)


def metrics(params, model_state, examples):
  errors = residuals(params, examples)
  return {'loss': errors**2 / 2, 'accuracy': jnp.abs(errors) < 1}


@functools.cache
def problem(num_examples=N, with_test=True):
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(num_examples + 3, 2))
  targets = inputs @ np.array([1.0, -2.0]) + 0.5 + 0.1 * rng.normal(size=num_examples + 3)
  both = Examples(jnp.asarray(inputs, float), jnp.asarray(targets, float))
  train, test = jax.tree.map(lambda leaf: leaf[3:], both), jax.tree.map(lambda leaf: leaf[:3], both)
  return Problem(init, loss, metrics, 'line', train, test if with_test else None)


def sgd(learning_rate, batch_size=4):
  """Momentum, so that the optimizer has a state; reshuffling, so that the sampler has one."""
  optimizer = optax.sgd(learning_rate, momentum=0.5)
  return gdlab.algorithm(sampler=gdlab.sampling.reshuffle(batch_size), optimizer=optimizer)


def stream_sgd(learning_rate, batch_size=4):
  """The same over data in order, which compiles twice as fast."""
  optimizer = optax.sgd(learning_rate, momentum=0.5)
  return gdlab.algorithm(sampler=gdlab.sampling.sequential(batch_size), optimizer=optimizer)


def weights(problem, state):
  return state.params['w']


PROBES = {'weights': weights}
OPTIONS = {
  'num_steps': NUM_STEPS,
  'eval_every': EVAL_EVERY,
  'record_every': RECORD_EVERY,
  'probes': PROBES,
  'progress': False,
}


def sweep(grid=None, *, make=stream_sgd, seeds=2, plan=PLAN, **options):
  """A sweep of the tiny problem with the settings above; three learning rates by default."""
  grid = {'learning_rate': [0.05, 0.1, 0.2]} if grid is None else grid
  return gdlab.sweep(problem(), make, grid, seeds=seeds, plan=plan, **(OPTIONS | options))


@functools.cache
def algorithm():
  return sgd(0.1)


@functools.cache
def standard_run():
  """`gdlab.run` of one learning rate with three seeds."""
  return run(3)


def run(seeds, **options):
  """`gdlab.run` of one learning rate with the settings above."""
  return gdlab.run(problem(), algorithm(), seeds=seeds, **(OPTIONS | {'plan': PLAN} | options))


@functools.cache
def plain_loop(seed, num_steps=NUM_STEPS, learning_rate=0.1):
  """States and infos after every update of a plain Python loop with the streams of run `seed`."""
  descent = sgd(learning_rate)
  state = descent.init(jax.random.fold_in(jax.random.key(0), seed), problem())
  step = jax.jit(descent.step)
  states, infos = [state], [None]
  for _ in range(num_steps):
    state, info = step(state, problem())
    states.append(state)
    infos.append(info)
  return states, infos


def same(first, second):
  """Whether two datasets hold the same variables bit for bit, NaN equal to NaN; attributes and seeds aside."""
  assert set(first.data_vars) == set(second.data_vars)
  return all(np.array_equal(first[name], second[name], equal_nan=True) for name in first.data_vars)


def assert_same(first, second):
  assert set(first.data_vars) == set(second.data_vars)
  for name in first.data_vars:
    np.testing.assert_array_equal(first[name].values, second[name].values, err_msg=name)


def assert_close(first, second, rtol=1e-5):
  """Equal to float32 rounding of runs compiled in different layouts; counts and labels exactly."""
  assert set(first.data_vars) == set(second.data_vars)
  for name in first.data_vars:
    one, other = first[name].values, second[name].values
    if one.dtype.kind == 'f':
      np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol, err_msg=name)
    else:
      np.testing.assert_array_equal(one, other, err_msg=name)
