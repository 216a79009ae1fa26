"""A Flax network with ReLU, and the same function with one layer's parameters scaled up and the next one's down."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gdlab.problems import MLP, from_linen


def network(num_examples=60):
  """An MLP on random data of three classes, as a problem, and parameters with biases that matter."""
  rng = np.random.default_rng(0)
  inputs, labels = rng.normal(size=(num_examples, 5)), rng.integers(0, 3, num_examples)
  problem = from_linen(
    MLP(features=(8,), num_outputs=3),
    (jnp.asarray(inputs, float), jnp.asarray(labels)),
    optax.softmax_cross_entropy_with_integer_labels,
  )
  shapes, model_state = jax.eval_shape(problem.init, jax.random.key(0))
  params = jax.tree.map(lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape), leaf.dtype), shapes)
  return problem, params, model_state


def rescaled(params, factor):
  """Layer 0 times a factor, which ReLU passes on, and the kernel of layer 1 divided by it."""
  first, second = params['Dense_0'], params['Dense_1']
  return params | {
    'Dense_0': jax.tree.map(lambda leaf: leaf * factor, first),
    'Dense_1': second | {'kernel': second['kernel'] / factor},
  }
