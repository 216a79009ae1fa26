"""What `gdlab.diagnose` needs to know of a run beyond its losses: three probes for `gdlab.run`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gdlab.analysis import eigenpairs, hessian, training_losses
from gdlab.errors import check_count
from gdlab.objective import batch_loss, take
from gdlab.types import Array, Batch, Key, Known, Problem, PyTree, State

LAYERS, GRADIENT, CURVATURE = 'diagnosis_layers', 'diagnosis_gradient', 'diagnosis_curvature'  # names
START = 0x646961  # of the Lanczos iteration: folded into the run's noise stream


def probes(
  *, max_examples: int = 1024, max_products: int = 12
) -> Mapping[str, Callable[[Problem, State], Array]]:
  r"""The measurements that `gdlab.diagnose` reads, for `gdlab.run(..., probes=gdlab.diagnosis.probes())`.

  All on the same `max_examples` training examples, evenly spread over the set, m of them:

  - `diagnosis_layers`, float[L, 3]: for every layer (see `layer_names`) the norm of its gradient, the norm of its
    parameters, and the share of its units (slices along the last axis) whose gradient is exactly zero.
  - `diagnosis_gradient`, float[]: the norm of the gradient over all parameters.
  - `diagnosis_curvature`, float[]: $\lambda_\max$ of the Hessian, by `gdlab.analysis.eigenpairs`, to within 1 % or as
    far as `max_products` go: then it is a lower bound.

  Cost at an evaluation: two gradients of m examples, and at most `max_products` Hessian-vector products of 2 to 3
  gradients each: up to 38 gradients of m examples with the defaults. On the digits 7 to 9 products are enough. Beside
  `gdlab.run` they are functions `(problem, state) -> array` of anything with the attributes `params`, `model_state`
  and `key`.

  Example:
    >>> import optax, gdlab
    >>> problem = gdlab.problems.quadratic([1.0, 0.1])
    >>> descent = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(2.1))
    >>> result = gdlab.run(problem, descent, num_steps=90, seeds=1, probes=gdlab.diagnosis.probes())
    >>> gdlab.diagnose(result, problem).causes[0].value
    'learning rate too large'

  Args:
    max_examples: m at most, >= 1.
    max_products: Hessian-vector products for the curvature, >= 1.

  Raises:
    InputError: if an argument is out of range.
  """
  count = check_count('max_examples', max_examples)
  check_count('max_products', max_products)
  return {
    LAYERS: functools.partial(_layers, count),
    GRADIENT: functools.partial(_gradient_norm, count),
    CURVATURE: functools.partial(_curvature, count, max_products),
  }


def layer_names(params: PyTree) -> list[str]:
  """The leaves that count as layers, by their path: those with two axes or more, or all where none has."""
  return [jax.tree_util.keystr(path) for path, _ in _layer_leaves(params)]


def largest_curvature(
  problem: Problem, params: PyTree, model_state: PyTree, key: Key, batch: Batch, *, max_products: int = 12
) -> Array:
  r"""$\lambda_\max$ of the Hessian of the loss on a batch, to within 1 % or as far as the products go, float[].

  Args:
    problem: whose training loss is used.
    params: where.
    model_state: the model's other state; it is not advanced.
    key: of the forward pass, and of the random start.
    batch: the examples, of equal weights.
    max_products: Hessian-vector products at most, >= 1.
  """
  few = dataclasses.replace(problem, train=take(problem.train, batch.indices), test=None, known=Known())
  size = len(batch.indices)  # in one block, as the loss of the batch is
  operator = hessian(few, params, model_state, key, block_size=size, losses=training_losses)
  start = jax.random.fold_in(key, START)
  found = eigenpairs(operator, start, max_products=max_products, dense_below=max_products)
  return found.largest.values[0]


def subset(num_examples: int, count: int) -> Batch:
  """At most `count` examples, evenly spread, as a batch that averages their losses."""
  count = min(count, num_examples)
  return Batch(jnp.arange(count, dtype=jnp.int32) * num_examples // count, jnp.full(count, 1 / count))


def _gradient(count: int, problem: Problem, state: State) -> PyTree:
  batch = subset(problem.num_examples, count)
  return jax.grad(lambda p: batch_loss(problem, p, state.model_state, batch, state.key)[0])(state.params)


def _layers(count: int, problem: Problem, state: State) -> Array:
  gradients = _layer_leaves(_gradient(count, problem, state))
  rows = []
  for (_, gradient), (_, param) in zip(gradients, _layer_leaves(state.params)):
    units = gradient.reshape(-1, gradient.shape[-1]) if gradient.ndim else gradient.reshape(1, 1)
    dead = jnp.mean(jnp.all(units == 0, axis=0))
    rows.append(jnp.stack([_norm(gradient), _norm(param), dead.astype(_norm(param).dtype)]))
  return jnp.stack(rows)


def _gradient_norm(count: int, problem: Problem, state: State) -> Array:
  return _norm(ravel_pytree(_gradient(count, problem, state))[0])


def _curvature(count: int, max_products: int, problem: Problem, state: State) -> Array:
  batch = subset(problem.num_examples, count)
  return largest_curvature(
    problem, state.params, state.model_state, state.key, batch, max_products=max_products
  )


def _layer_leaves(params: PyTree) -> list[tuple[Any, Array]]:
  leaves = jax.tree_util.tree_leaves_with_path(params)
  return [(path, leaf) for path, leaf in leaves if jnp.ndim(leaf) >= 2] or leaves


def _norm(leaf: Array) -> Array:
  return jnp.sqrt(jnp.sum(jnp.square(leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)))))
