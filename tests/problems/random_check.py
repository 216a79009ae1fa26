"""Holds a random model against its plain loop: 20 updates are the same, or it is refused. There is no third outcome."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import random_models as models

import gdlab

UPDATES = 20
PER_TEST = 10
# Every update adds some roundings of numbers of order 1, which the next ones hand on hardly enlarged at these rates; a
# loss sums up to 24 terms. What is wrong differs by a part of an update, 1e-3 or more.
ROUNDINGS = 200


def seeds(api: str, first: int, end: int) -> list[list[int]]:
  """The draws in a range that are of one API, some for each test."""
  own = [seed for seed in range(first, end) if models.draw(seed).api == api]
  return [own[cut : cut + PER_TEST] for cut in range(0, len(own), PER_TEST)]


@pytest.fixture(scope='module')
def quick_compilation():
  """Three programs are compiled for every draw: they take half the time where XLA does not try hard."""
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', False)


@functools.partial(jax.jit, static_argnums=0)
def drawn(sampler, state):
  return sampler.sample(state)


def check(seed: int) -> str:
  """Holds one draw against its plain loop; returns 'right' or 'refused'."""
  case = models.draw(seed)
  wide = jax.enable_x64(True) if case.dtype == 'float64' else contextlib.nullcontext()
  with wide, jax.numpy_rank_promotion('allow'):
    method = gdlab.algorithm(
      sampler=models.sampler(case), optimizer=models.optimizer(case), estimator=models.estimator(case)
    )
    try:
      problem = models.problem(case)
      state = jax.jit(method.init)(jax.random.key(seed), problem)
      step = jax.jit(method.step).lower(state, problem).compile()
    except gdlab.InputError as error:
      refusal = str(error)
    else:
      refusal = ''
    if refusal or case.hazard:
      assert refusal, f'{case} should be refused: {case.hazard}'
      assert case.hazard, f'{case} is refused: {refusal}'
      assert case.hazard in refusal
      assert '\n' not in refusal
      return 'refused'

    train = problem.train
    plain = models.plain_step(case, (train.inputs, train.targets))
    params, model_state, key = state.params, dict(state.model_state), state.key
    opt_state = models.optimizer(case).init(params)
    draws = state.sampler
    for number in range(UPDATES):
      batch, draws = drawn(method.sampler, draws)
      real = np.asarray(batch.weights) != 0 if case.mixes else slice(None)
      params, model_state, opt_state, loss = plain(
        params,
        model_state,
        opt_state,
        batch.indices[real],
        batch.weights[real],
        jax.random.fold_in(key, number),
      )
      state, info = step(state, problem)
      close(case, info.loss, loss)
    jax.tree.map(lambda ours, theirs: close(case, ours, theirs), state.params, params)
    jax.tree.map(lambda ours, theirs: close(case, ours, theirs), dict(state.model_state), dict(model_state))
  return 'right'


def close(case, ours, theirs):
  eps = float(jnp.finfo(case.dtype).eps)
  one, two = (np.asarray(value).astype(np.float64) for value in (ours, theirs))
  np.testing.assert_allclose(one, two, rtol=ROUNDINGS * eps, atol=ROUNDINGS * eps, err_msg=str(case))
