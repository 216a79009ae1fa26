"""Every transform with the numbers it takes, and small pytrees to put through it, shared by the tests."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gdlab import transforms

ROWS = 4  # examples, where per-example gradients come in


class Case(NamedTuple):
  """A transform: how it is made, two values of each of its numbers, and what is special about it."""

  make: Callable[..., optax.GradientTransformationExtraArgs]
  numbers: dict[str, tuple[Any, Any]] = {}  # noqa: RUF012 (a NamedTuple has no mutable class attributes)
  random: bool = False
  per_example: bool = False

  def build(self, **numbers):
    return self.make(**({name: values[0] for name, values in self.numbers.items()} | numbers))


def tail_average(start):
  return transforms.average_iterates(transforms.uniform_weights(start))


def exponential_average(decay):
  return transforms.average_iterates(transforms.exponential_weights(decay))


def frozen_langevin(temperature):
  """With a key in its state and a number of the inner transformation."""
  return transforms.freeze_non_finite(transforms.langevin_noise(temperature, 0.1))


def shampoo(decay, eps):
  return transforms.shampoo(decay=decay, eps=eps, max_size=2)  # of the matrix one axis is a diagonal


BALL = {'radius': (0.5, 2.0), 'grad_threshold': (1e3, 1e-9), 'min_interval': (1, 3)}
CASES = {
  'perturb_at_saddle': Case(transforms.perturb_at_saddle, BALL | {'learning_rate': (1.0, 0.0)}, random=True),
  'perturbed_gradient_descent': Case(
    transforms.perturbed_gradient_descent, {'learning_rate': (0.1, 0.3)} | BALL, random=True
  ),
  'langevin_noise': Case(
    transforms.langevin_noise,
    {'temperature': (0.3, 1.2), 'learning_rate': (0.1, 0.4), 'preconditioner': (1.0, 4.0)},
    random=True,
  ),
  'annealed_gradient_noise': Case(
    transforms.annealed_gradient_noise, {'eta': (0.3, 1.0), 'gamma': (0.55, 0.1)}, random=True
  ),
  'average_iterates': Case(tail_average, {'start': (0, 2)}),
  'average_iterates, exponential': Case(exponential_average, {'decay': (0.5, 0.9)}),
  'shampoo': Case(shampoo, {'decay': (1.0, 0.5), 'eps': (0.1, 1.0)}),
  'coordinate_updates': Case(transforms.coordinate_updates),
  'gradient_statistics': Case(transforms.gradient_statistics, {'every': (1, 3)}),
  'noise_scale': Case(
    transforms.noise_scale, {'decay': (0.5, 0.9), 'examples_per_row': (1, 3)}, per_example=True
  ),
  'freeze_non_finite': Case(frozen_langevin, {'temperature': (0.3, 1.2)}),
}


def tree(dtype=jnp.float32, seed=0, lead=()):
  """A nested pytree with a matrix, a scalar and a leaf without entries."""
  rng = np.random.default_rng(seed)
  shapes = {'layer': {'w': (2, 3), 'zero_sized': (0,)}, 'scale': ()}
  is_shape = lambda node: isinstance(node, tuple)
  draw = lambda shape: jnp.asarray(rng.normal(size=(*lead, *shape)), dtype)
  return jax.tree.map(draw, shapes, is_leaf=is_shape)


def gradients(case, num_steps, dtype=jnp.float32):
  """Gradients of several updates, stacked; of several examples each where the transform takes such."""
  return tree(dtype, seed=1, lead=(num_steps, ROWS) if case.per_example else (num_steps,))


def scan(transform, params, grads, keys=None):
  """All updates in one scan: the parameters after each, the updates and the last state."""

  def step(carry, inputs):
    params, state = carry
    grad, key = inputs
    extra = {} if key is None else {'key': key}
    updates, state = transform.update(grad, state, params, **extra)
    params = optax.apply_updates(params, updates)
    return (params, state), (params, updates)

  (_, state), (path, updates) = jax.lax.scan(step, (params, transform.init(params)), (grads, keys))
  return path, updates, state


def plain(values):
  """NumPy arrays of all leaves, keys as their words, half precision as float32 (NumPy cannot compare it)."""

  def host(leaf):
    if jnp.issubdtype(leaf.dtype, jnp.floating):
      leaf = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
    return np.asarray(leaf)

  return [host(jnp.asarray(leaf)) for leaf in jax.tree.leaves(optax.tree.unwrap_random_key_data(values))]


def assert_close(found, expected, rtol=1e-6, atol=1e-6):
  """Equal to a few roundings of float32 numbers near 1; keys, counts and flags exactly."""
  for one, other in zip(plain(found), plain(expected), strict=True):
    exact = {} if one.dtype.kind == 'f' else {'rtol': 0, 'atol': 0}
    np.testing.assert_allclose(one, other, **{'rtol': rtol, 'atol': atol, **exact})
