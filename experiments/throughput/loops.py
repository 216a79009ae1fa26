"""Training in JAX and Optax without gdlab: one function, and what is usually made of it.

The random streams are gdlab's, so all of these make the same updates as `gdlab.run` does where it draws the same
examples. (They draw for every update by itself, as one would write it; `with_replacement` for many together.)
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


def pieces(work: Mapping[str, Any], model: nn.Module) -> tuple[Callable, Callable, Callable]:
  """Of stochastic gradient descent with momentum.

  Returns:
    `init(seed, data)`, `update(state, examples)` and `step(state, data)`, an update on examples that it draws.
  """
  optimizer = optax.sgd(work['learning_rate'], momentum=tasks.MOMENTUM)

  def init(seed, data) -> State:
    streams = gdlab.streams(jax.random.fold_in(jax.random.key(0), seed))
    params = model.init(streams.init, jnp.zeros_like(data.inputs[:1]))['params']
    return State(params, optimizer.init(params), streams.order, jnp.zeros((), jnp.int32))

  def update(state: State, examples) -> State:
    def loss(params):
      outputs = model.apply({'params': params}, examples.inputs)
      return optax.softmax_cross_entropy_with_integer_labels(outputs, examples.targets).mean()

    updates, optimizer_state = optimizer.update(jax.grad(loss)(state.params), state.optimizer, state.params)
    return State(optax.apply_updates(state.params, updates), optimizer_state, state.key, state.step + 1)

  def step(state: State, data) -> State:
    key = jax.random.fold_in(state.key, state.step)
    indices = jax.random.randint(key, (work['batch_size'],), 0, data.targets.shape[0])
    return update(state, jax.tree.map(lambda leaf: leaf[indices], data))

  return init, update, step


def training(work: Mapping[str, Any], model: nn.Module) -> Callable:
  """`train(seed, data) -> params` after `work['num_steps']` updates, for any transformation around it."""
  init, _, step = pieces(work, model)

  def train(seed, data):
    return jax.lax.fori_loop(
      0, work['num_steps'], lambda _, state: step(state, data), init(seed, data)
    ).params

  return train


def evaluated(work: Mapping[str, Any], model: nn.Module, eval_every: int) -> Callable:
  """`train(seed, data, test) -> (params, metrics)`: as `training`, with loss and accuracy after every few updates."""
  init, _, step = pieces(work, model)

  def measure(params, examples):
    outputs = jnp.asarray(model.apply({'params': params}, examples.inputs))
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs, examples.targets)
    return losses.mean(), (outputs.argmax(axis=1) == examples.targets).mean()

  num_evaluations, rest = divmod(work['num_steps'], eval_every)

  def train(seed, data, test):
    def advance(state, num_steps):
      return jax.lax.fori_loop(0, num_steps, lambda _, state: step(state, data), state)

    def period(state, _):
      state = advance(state, eval_every)
      return state, (measure(state.params, data), measure(state.params, test))

    state, metrics = jax.lax.scan(period, init(seed, data), length=num_evaluations)
    return advance(state, rest).params, metrics

  return train


def build(work: Mapping[str, Any]) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
  """The measurables that `work['kind']` names: 'vmap' over all seeds, 'stepped vmap', or Python 'loop's.

  The stepped one is a Python loop over a jitted update of all seeds; the loops are over an update of one.

  There are two loops: in 'loop' NumPy draws the batch and a jitted update gets it, as is usual; in 'fused loop' the
  jitted function draws it too, from data on the device.
  """
  model, problem = tasks.make(work)
  if work['model'] == 'mlp':
    model = tasks.Perceptron(tuple(work['hidden']))
  if work['kind'] == 'stepped vmap':
    begin, _, step = pieces(work, model)
    begin, step = jax.jit(jax.vmap(begin, (0, None))), jax.jit(jax.vmap(step, (0, None)))

    def stepped() -> Any:
      state = begin(np.asarray(work['seeds'], np.int32), problem.train)
      for _ in range(work['num_steps']):
        state = step(state, problem.train)
      return jax.block_until_ready(state.params)

    return {'stepped vmap': stepped}, {}
  if work['kind'] == 'vmap':
    mapped = jax.jit(jax.vmap(training(work, model), in_axes=(0, None)))
    seeds = np.asarray(work['seeds'], np.int32)
    return {'vmap': lambda: jax.block_until_ready(mapped(seeds, problem.train))}, {}
  init, update, step = pieces(work, model)
  init, host_data = jax.jit(init), jax.tree.map(np.asarray, problem.train)

  def drawn(seed: int) -> Callable[[], Any]:
    generator, count = np.random.default_rng(seed), problem.num_examples

    def batch():
      indices = generator.integers(count, size=work['batch_size'])
      return jax.tree.map(lambda leaf: leaf[indices], host_data)

    return batch

  def loop(advance: Callable, inputs: Callable[[int], Callable[[], Any]], num_steps: int) -> list[Any]:
    results = []
    for seed in work['seeds']:
      state, draw = init(np.int32(seed), problem.train), inputs(seed)
      for _ in range(num_steps):
        state = advance(state, draw())
      results.append(jax.block_until_ready(state.params))
    return results

  def faster(function: Callable, inputs: Callable) -> tuple[Callable[[], Any], str]:
    """The loop with its state donated or not, whichever is faster, and which that is."""

    def trial(advance: Callable) -> float:
      loop(advance, inputs, 1)
      started = time.perf_counter()
      loop(advance, inputs, TRIAL_STEPS)
      return time.perf_counter() - started

    arms = {'state not donated': jax.jit(function), 'state donated': jax.jit(function, donate_argnums=0)}
    note = min(arms, key=lambda name: trial(arms[name]))
    return lambda: loop(arms[note], inputs, work['num_steps']), note

  found = {'loop': faster(update, drawn), 'fused loop': faster(step, lambda seed: lambda: problem.train)}
  return {name: run for name, (run, _) in found.items()}, {name: note for name, (_, note) in found.items()}
