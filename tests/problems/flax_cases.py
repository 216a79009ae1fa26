"""Small problems from Linen and NNX modules, and plain descent on them, shared by the tests of the adapters.

Problems built alike compile once, so the tests share few models and one shape of batch: most of their time is
the compiler's.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from flax import nnx

from gdlab.core.objective import batch_loss
from gdlab.core.types import Batch
from gdlab.problems import CNN, MLP, from_linen, from_nnx

N, SIDE, CLASSES = 24, 4, 3
loss = optax.softmax_cross_entropy_with_integer_labels
NET = MLP((8,), CLASSES, batch_norm=True, dropout_rate=0.3)


def images():
  rng = np.random.default_rng(0)
  return rng.normal(size=(N, SIDE, SIDE)), rng.integers(0, CLASSES, N)


class Bridged(nnx.Module):
  """NET as an NNX module, by Flax's own bridge."""

  def __init__(self, rngs):
    self.inner = nnx.bridge.ToNNX(NET, rngs=rngs).lazy_init(jnp.zeros((1, SIDE, SIDE)))

  def __call__(self, x, *, train, mask):
    return self.inner(x, train=train, mask=mask, mutable=['batch_stats'])


class Twin(nnx.Module):
  """NET written in NNX's own style."""

  def __init__(self, rngs, dropout_rate=0.0):
    dtype = jnp.result_type(float)
    self.hidden = nnx.Linear(SIDE * SIDE, 8, param_dtype=dtype, rngs=rngs)
    self.norm = nnx.BatchNorm(8, param_dtype=dtype, rngs=rngs)
    self.dropout = nnx.Dropout(dropout_rate, rngs=rngs)
    self.out = nnx.Linear(8, CLASSES, param_dtype=dtype, rngs=rngs)

  def __call__(self, x, *, mask):
    x = self.norm(self.hidden(x.reshape(x.shape[0], -1)), mask=mask[:, None])
    return self.out(self.dropout(jax.nn.relu(x)))


class Dropouts(nnx.Module):
  """Two Dropout layers side by side, and a variable that counts calls in training mode."""

  def __init__(self, rngs):
    self.scale = nnx.Param(jnp.ones(()))
    self.first, self.second = nnx.Dropout(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
    self.calls = nnx.Variable(jnp.zeros((), jnp.int32))

  def __call__(self, x, *, deterministic):
    if not deterministic:
      self.calls[...] += 1
    return jnp.stack([self.first(x * self.scale), self.second(x * self.scale)], axis=1)


def dropout_twin(rngs):
  return Twin(rngs, dropout_rate=0.3)


def largest(outputs, targets):
  return outputs.max(axis=-1)


def linen_net():
  return from_linen(NET, images(), loss, metrics={'largest': largest})


def nnx_net():
  return from_nnx(dropout_twin, images(), loss)


def linen_calm():
  """Without Dropout."""
  return from_linen(MLP((8,), CLASSES, batch_norm=True), images(), loss)


def linen_cnn():
  return from_linen(CNN((4, 4), CLASSES, batch_norm=True), images(), loss)


def nnx_calm():
  return from_nnx(Twin, images(), loss)


@functools.partial(jax.jit, static_argnums=0)
def initialise(init, key):
  return init(key)


def start(problem):
  """Initial parameters and state, the same at every call."""
  return initialise(problem.init, jax.random.key(0))


@jax.jit
def step(params, state, batch, key, problem):
  """One step of gradient descent."""
  objective = functools.partial(batch_loss, problem)
  (value, state), gradient = jax.value_and_grad(objective, has_aux=True)(params, state, batch, key)
  return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), state, value, gradient


def batch_of(*indices, padding=(0, 2, 20)):
  """A batch of the given examples, then padding slots that point at other ones."""
  weights = jnp.array([1 / len(indices)] * len(indices) + [0] * len(padding), float)
  return Batch(jnp.array([*indices, *padding], jnp.int32), weights)


def descend(problem, params, state):
  """Trains for 20 steps in a plain loop; returns parameters, state and the losses."""
  rng, losses = np.random.default_rng(1), []
  for t in range(20):
    batch = batch_of(*rng.choice(N, 5, replace=False))
    params, state, value, _ = step(params, state, batch, jax.random.fold_in(jax.random.key(2), t), problem)
    losses.append(float(value))
  return params, state, losses


class Float64(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))
