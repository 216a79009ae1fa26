"""Training in JAX and Optax without gdlab: one function, and what is usually made of it.

The random streams are gdlab's, so all of these make the same updates as `gdlab.run` with `with_replacement`.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

import gdlab
from experiments.throughput import tasks

TRIAL_STEPS = 100


class State(NamedTuple):
  """All that the next step needs."""

  params: Any
  optimizer: Any
  key: jax.Array
  step: jax.Array


def pieces(work: Mapping[str, Any], model: nn.Module) -> tuple[Callable, Callable]:
  """`init(seed, data)` and `step(state, data)` of stochastic gradient descent with momentum."""
  optimizer = optax.sgd(work['learning_rate'], momentum=tasks.MOMENTUM)

  def init(seed, data) -> State:
    streams = gdlab.streams(jax.random.fold_in(jax.random.key(0), seed))
    params = model.init(streams.init, jnp.zeros_like(data.inputs[:1]))['params']
    return State(params, optimizer.init(params), streams.order, jnp.zeros((), jnp.int32))

  def step(state: State, data) -> State:
    key = jax.random.fold_in(state.key, state.step)
    indices = jax.random.randint(key, (work['batch_size'],), 0, data.targets.shape[0])

    def loss(params):
      outputs = model.apply({'params': params}, data.inputs[indices])
      return optax.softmax_cross_entropy_with_integer_labels(outputs, data.targets[indices]).mean()

    updates, optimizer_state = optimizer.update(jax.grad(loss)(state.params), state.optimizer, state.params)
    return State(optax.apply_updates(state.params, updates), optimizer_state, state.key, state.step + 1)

  return init, step


def training(work: Mapping[str, Any], model: nn.Module) -> Callable:
  """`train(seed, data) -> params` after `work['num_steps']` updates, for any transformation around it."""
  init, step = pieces(work, model)

  def train(seed, data):
    return jax.lax.fori_loop(
      0, work['num_steps'], lambda _, state: step(state, data), init(seed, data)
    ).params

  return train


def build(work: Mapping[str, Any]) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
  """The measurable that `work['kind']` names: 'vmap' over all seeds, or a Python 'loop' over single steps."""
  _, problem = tasks.make(work)
  model = tasks.Perceptron(tuple(work['hidden']))
  if work['kind'] == 'vmap':
    mapped = jax.jit(jax.vmap(training(work, model), in_axes=(0, None)))
    seeds = np.asarray(work['seeds'], np.int32)
    return {'vmap': lambda: jax.block_until_ready(mapped(seeds, problem.train))}, {}
  init, step = (jax.jit(function) for function in pieces(work, model))
  donating = jax.jit(pieces(work, model)[1], donate_argnums=0)

  def loop(step, num_steps: int) -> list[Any]:
    results = []
    for seed in work['seeds']:
      state = init(np.int32(seed), problem.train)
      for _ in range(num_steps):
        state = step(state, problem.train)
      results.append(jax.block_until_ready(state.params))
    return results

  def trial(step) -> float:
    loop(step, 1)
    started = time.perf_counter()
    loop(step, TRIAL_STEPS)
    return time.perf_counter() - started

  faster, note = min(
    ((step, 'state not donated'), (donating, 'state donated')), key=lambda pair: trial(pair[0])
  )
  return {'loop': lambda: loop(faster, work['num_steps'])}, {'loop': note}
