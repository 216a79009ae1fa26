"""Where an algorithm is measured: at averages, slow parameters, with statistics anew; against plain Optax loops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import gdlab
from gdlab.core.errors import InputError
from gdlab.core.types import Problem
from gdlab.updates import running_averages

EPS = np.finfo(np.float32).eps
N, STEPS, RATE = 10, 9, 0.1
OPTIONS = {'num_steps': STEPS, 'seeds': 1, 'eval_every': 3, 'progress': False, 'plan': gdlab.Plan(1, 1)}
FULL = gdlab.sampling.full_batch()


def data():
  rng = np.random.default_rng(1)
  return rng.normal(size=(N, 3)).astype(np.float32), rng.normal(size=N).astype(np.float32)


START = np.array([2.0, -1.0, 0.5], np.float32)


def least_squares():
  inputs, targets = data()
  loss = lambda w, examples: (examples[0] @ w['w'] - examples[1]) ** 2 / 2
  return Problem(
    init=lambda key: ({'w': jnp.asarray(START)}, ()),
    loss=lambda w, model_state, examples, mask, key: (loss(w, examples), model_state),
    metrics=lambda w, model_state, examples: {'loss': loss(w, examples)},
    name='least squares',
    train=(jnp.asarray(inputs), jnp.asarray(targets)),
  )


def plain_loop(optimizer, read, params=None):
  """What `read(state, params)` gives before and after every update of a loop with Optax alone."""
  inputs, targets = data()
  params = {'w': jnp.asarray(START)} if params is None else params
  state = optimizer.init(params)
  gradient = jax.grad(lambda w: jnp.mean((inputs @ w['w'] - targets) ** 2) / 2)
  found = [read(state, params)]
  for _ in range(STEPS):
    updates, state = optimizer.update(gradient(getattr(params, 'fast', params)), state, params)
    params = optax.apply_updates(params, updates)
    found.append(read(state, params))
  return np.array(found, float)


def losses(points):
  inputs, targets = (array.astype(float) for array in data())
  return ((points @ inputs.T - targets) ** 2).mean(axis=1) / 2


def measured(optimizer, **options):
  descent = gdlab.algorithm(sampler=FULL, optimizer=optimizer, **options)
  return gdlab.run(least_squares(), descent, **OPTIONS).train_loss.values[0]


def close(found, points):
  # STEPS contracting updates of numbers near 1, each of some 30 roundings, and means of squares below 20.
  np.testing.assert_allclose(found, losses(points)[::3], rtol=0, atol=30 * STEPS * 20 * EPS)


def own(state, params):
  return params['w']


def test_schedule_free_is_measured_at_its_average():
  optimizer = optax.contrib.schedule_free(optax.sgd(RATE), RATE, b1=0.8)
  average = lambda state, params: optax.contrib.schedule_free_eval_params(state, params)['w']
  averages, iterates = plain_loop(optimizer, average), plain_loop(optimizer, own)
  close(measured(optimizer), averages)
  close(measured(optimizer, evaluate_at=lambda state: state.params), iterates)
  assert np.abs(losses(averages) - losses(iterates)).max() > 0.01


def test_schedule_free_is_found_inside_other_transformations():
  inner = optax.contrib.schedule_free(optax.sgd(RATE), RATE, b1=0.8)
  average = lambda state, params: optax.contrib.schedule_free_eval_params(state[1], params)['w']
  chained = optax.chain(optax.clip(0.5), inner)
  close(measured(chained), plain_loop(chained, average))
  # Of parts that it does not see, the iterate: here of all.
  apart = optax.partition({'free': inner, 'plain': optax.sgd(RATE)}, {'w': 'plain'})
  close(measured(apart), plain_loop(optax.sgd(RATE), own))


def test_lookahead_is_measured_at_its_slow_parameters():
  optimizer = optax.lookahead(optax.sgd(RATE, momentum=0.5), sync_period=4, slow_step_size=0.5)
  start = optax.LookaheadParams.init_synced({'w': jnp.asarray(START)})
  slow = plain_loop(optimizer, lambda state, params: params.slow['w'], start)
  fast = plain_loop(optimizer, lambda state, params: params.fast['w'], start)
  close(measured(optimizer), slow)
  close(measured(optimizer, evaluate_at=lambda state: state.params), fast)
  assert np.abs(losses(slow) - losses(fast)).max() > 0.01


def averages(state):
  return gdlab.transforms.averaged_params(state.optimizer, like=state.params)


def test_averages_are_measured_by_choice():
  iterates = plain_loop(optax.sgd(RATE), own)
  means = np.array([START, *(iterates[1 : count + 1].mean(axis=0) for count in range(1, STEPS + 1))])
  optimizer = optax.chain(optax.sgd(RATE), gdlab.transforms.average_iterates())
  close(measured(optimizer, evaluate_at=averages), means)
  close(measured(optimizer), iterates)
  assert np.abs(losses(means) - losses(iterates)).max() > 0.01


def test_probes_see_the_state_itself():
  optimizer = optax.contrib.schedule_free_sgd(RATE)
  descent = gdlab.algorithm(sampler=FULL, optimizer=optimizer)
  probes = {
    'iterate': lambda problem, state: state.params['w'],
    'evaluated': lambda problem, state: descent.evaluated(state, problem)[0]['w'],
  }
  result = gdlab.run(least_squares(), descent, probes=probes, **OPTIONS)
  np.testing.assert_allclose(
    result.iterate.values[0], plain_loop(optimizer, own)[::3], rtol=0, atol=30 * STEPS * EPS
  )
  close(result.train_loss.values[0], result.evaluated.values[0].astype(float).repeat(3, axis=0))


class Normalised(nn.Module):
  """Two layers with batch normalisation between and behind them."""

  momentum: float = 0.9

  @nn.compact
  def __call__(self, x, train, mask):
    norm = lambda x: nn.BatchNorm(use_running_average=not train, momentum=self.momentum)(
      x, mask=mask[:, None]
    )
    return norm(nn.Dense(1)(jnp.tanh(norm(nn.Dense(4)(x)))))[:, 0]


class NnxNormalised(nnx.Module):
  """The first layer of it."""

  def __init__(self, rngs):
    self.dense, self.norm = nnx.Linear(3, 1, rngs=rngs), nnx.BatchNorm(1, momentum=0.9, rngs=rngs)

  def __call__(self, x, mask):
    return self.norm(self.dense(x), mask=mask[:, None])[:, 0]


def squares(outputs, targets):
  return (outputs - targets) ** 2


def final_state(problem, **options):
  optimizer = optax.chain(optax.sgd(RATE), gdlab.transforms.average_iterates())
  descent = gdlab.algorithm(
    sampler=gdlab.sampling.sequential(4), optimizer=optimizer, evaluate_at=averages, **options
  )
  state, step = descent.init(jax.random.key(0), problem), jax.jit(descent.step)
  for _ in range(5):
    state, _ = step(state, problem)
  return descent, state


def test_statistics_of_batch_normalisation_are_estimated_anew_at_averages():
  inputs, targets = data()
  problem = gdlab.problems.from_linen(Normalised(), (inputs, targets), squares)
  descent, state = final_state(problem, reestimate=True)
  params, model_state = jax.jit(descent.evaluated)(state, problem)
  # Flax with momentum 0 keeps what the batch found; here the batch is all of the data.
  mask, at = np.ones(N, bool), averages(state)
  _, truth = Normalised(momentum=0.0).apply(
    {'params': at, **state.model_state}, inputs, True, mask, mutable=['batch_stats']
  )
  for new, true in zip(jax.tree.leaves(dict(model_state)), jax.tree.leaves(dict(truth)), strict=True):
    # Sums of N numbers near 1, divided by 1 - m = 0.1, which float32 knows to 10 eps.
    np.testing.assert_allclose(new, true, rtol=0, atol=10 * N * EPS)
  outputs = Normalised().apply({'params': at, **truth}, inputs, False, mask)
  expected = np.mean((np.asarray(outputs, float) - targets) ** 2)
  result = gdlab.run(problem, descent, **OPTIONS)
  assert np.isfinite(result.train_loss).all()
  found = gdlab.evaluate(problem, params, model_state)['train_loss']
  np.testing.assert_allclose(found, expected, rtol=0, atol=100 * N * EPS)
  stale = gdlab.evaluate(problem, params, state.model_state)['train_loss']
  assert abs(float(stale) - expected) > 0.01


def test_statistics_of_an_nnx_module_are_estimated_anew():
  inputs, targets = data()
  problem = gdlab.problems.from_nnx(lambda rngs: NnxNormalised(rngs), (inputs, targets), squares)
  descent, state = final_state(problem, reestimate=True)
  params, model_state = descent.evaluated(state, problem)
  dense = params['dense']
  hidden = inputs.astype(float) @ np.asarray(dense['kernel'], float) + np.asarray(dense['bias'], float)
  np.testing.assert_allclose(model_state['norm']['mean'], hidden.mean(axis=0), rtol=0, atol=10 * N * EPS)
  np.testing.assert_allclose(model_state['norm']['var'], hidden.var(axis=0), rtol=0, atol=10 * N * EPS)


def odd_problem():
  """A model whose state holds two running averages and much that is none."""

  def loss(w, state, examples, mask, key):
    new = {
      'average': 0.75 * state['average'] + 0.25 * jnp.mean(examples),
      'half': (state['half'] / 2 + jnp.mean(examples) / 2).astype(state['half'].dtype),
      'steps': state['steps'] + 1,
      'kept': state['kept'],
      'direction': (state['direction'] + 1.0) / jnp.linalg.norm(state['direction'] + 1.0),
      'two of them': state['two of them'] * 0.5 + 0.25 * state['kept'],
      'grown': state['grown'] * 1.5,
    }
    return examples * w, new

  state = {
    'average': jnp.full(2, 7.0),
    'half': jnp.full((), 7, jnp.bfloat16),
    'steps': jnp.int32(4),
    'kept': jnp.full(3, 3.0),
    'direction': jnp.array([0.6, 0.8]),
    'two of them': jnp.full(3, 3.0),
    'grown': jnp.ones(2),
  }
  examples = jnp.arange(8, dtype=jnp.float32)
  return Problem(
    lambda key: (jnp.ones(()), state), loss, lambda w, s, e: {'loss': e * w}, 'odd', examples
  ), state


@pytest.mark.parametrize('block', [8, 4, 3])
def test_what_is_no_running_average_stays(block, monkeypatch):
  monkeypatch.setattr(running_averages, 'block_size', lambda examples: block)
  problem, state = odd_problem()
  new = running_averages.reestimated(problem, jnp.ones(()), state, jax.random.key(0))
  # The mean over the means of blocks; of 3, the last is moved back: 0-2, 3-5, 5-7.
  mean = 3.5 if block != 3 else (1 + 4 + 6) / 3
  np.testing.assert_allclose(new['average'], mean, rtol=4 * EPS)
  np.testing.assert_allclose(float(new['half']), mean, rtol=2**-7)  # bfloat16
  for name in ('steps', 'kept', 'direction', 'two of them', 'grown'):
    np.testing.assert_array_equal(new[name], state[name], err_msg=name)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      {'evaluate_at': 'average'},
      r"evaluate_at must be a function \(state\) -> params or None, got 'average'",
    ),
    ({'reestimate': 1}, 'reestimate must be True or False, got 1'),
    (
      {'evaluate_at': lambda state: state.params['w']},
      "evaluate_at must give parameters of the problem's structure",
    ),
    ({'evaluate_at': lambda state: {'w': state.params['w'][:2]}}, 'evaluate_at must give parameters'),
  ],
)
def test_refusals(options, message):
  with pytest.raises(InputError, match=f'^{message}') as caught:
    measured(optax.sgd(RATE), **options)
  assert '\n' not in str(caught.value)


def test_lookahead_inside_another_transformation_is_refused():
  inside = optax.chain(optax.clip(1.0), optax.lookahead(optax.sgd(RATE), 4, 0.5))
  with pytest.raises(InputError, match=r'^optimizer must have optax\.lookahead around all else') as caught:
    measured(inside)
  assert '\n' not in str(caught.value)
