"""The user's side: a Flax NNX network and a plain training loop with Optax. Nothing here is gdlab's."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx


class Classifier(nnx.Module):
  """Two hidden layers with ReLU, from images [B, 8, 8] to logits [B, 10]."""

  def __init__(self, width: int, rngs: nnx.Rngs):
    self.layer1 = nnx.Linear(64, width, rngs=rngs)
    self.layer2 = nnx.Linear(width, width, rngs=rngs)
    self.layer3 = nnx.Linear(width, 10, rngs=rngs)

  def __call__(self, images: jax.Array) -> jax.Array:
    """The logits."""
    hidden = nnx.relu(self.layer1(images.reshape(images.shape[0], -1)))
    return self.layer3(nnx.relu(self.layer2(hidden)))


def train(
  make_module: Callable[[nnx.Rngs], nnx.Module],
  images: jax.Array,
  labels: jax.Array,
  *,
  learning_rate: float,
  batch_size: int,
  num_steps: int,
  seed: int,
) -> dict:
  """A loop as anyone would write it; returns the parameters as nested dictionaries."""
  graph, params = nnx.split(make_module(nnx.Rngs(seed)))
  optimizer = optax.sgd(learning_rate)

  def loss(params, chosen):
    logits = nnx.merge(graph, params)(images[chosen])
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels[chosen]))

  @jax.jit
  def step(params, state, chosen):
    updates, state = optimizer.update(jax.grad(loss)(params, chosen), state, params)
    return optax.apply_updates(params, updates), state

  state, rng = optimizer.init(params), np.random.default_rng(seed)
  for _ in range(num_steps):
    params, state = step(params, state, rng.choice(len(images), batch_size, replace=False))
  return nnx.to_pure_dict(params)
