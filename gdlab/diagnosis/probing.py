"""The measurements of `gdlab.diagnose` in addition to the losses: five probes for `gdlab.run`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gdlab.analysis import eigenpairs, hessian, training_losses
from gdlab.analysis.blocks import evenly_spaced
from gdlab.core.arguments import checked
from gdlab.core.errors import check_count
from gdlab.core.objective import ascent, batch_loss, batch_losses, take
from gdlab.core.types import Array, Batch, Examples, Key, Known, Problem, PyTree, State
from gdlab.diagnosis.layers import Layer, along_copies, layers_of, units_of

LAYERS, GRADIENT, CURVATURE = 'diagnosis_layers', 'diagnosis_gradient', 'diagnosis_curvature'  # names
SKETCH, SATURATED = 'diagnosis_sketch', 'diagnosis_saturated'
COLUMNS = 5  # of `diagnosis_layers`
BUCKETS = 64  # of a sketch: the cosine of two has a standard error of 1/8
START = 0x646961  # of the Lanczos iteration: folded into the run's noise stream
SIGNS = 0x7369676E  # of the random signs, the same at every evaluation
SHAKE = 0.01  # relative size of the change of layers that have no gradient
FACTORS = (10.0, 100.0)  # on all parameters, so that outputs saturate
CLOSE = 0.01  # of a loss to a value that it can only have by a softmax of a softmax


@checked('max_examples', 'max_products')
def probes(
  *, max_examples: int = 1024, max_products: int = 12
) -> Mapping[str, Callable[[Problem, State], Array]]:
  r"""The measurements that `gdlab.diagnose` reads, for `gdlab.run(..., probes=gdlab.diagnosis.probes())`.

  All on the same m training examples, at most `max_examples`, evenly spaced in the set:

  - `diagnosis_layers`, float[L, 5], for every layer (the kernels and embeddings of the module, each copy of a stack
    separately; without a module, the arrays with at least two axes): the norm of its gradient, the norm of its
    parameters, the share of its units (output features, filters) whose gradient is exactly zero, a checksum of its
    parameters' bits (a whole number below 2^24, unchanged while they are), and, where its gradient is exactly zero,
    $|\Delta f / f| / 0.01$ when all such layers change by 1 %: 0 where the loss does not depend on them, more where
    only the gradient was stopped.
  - `diagnosis_gradient`, float[]: the norm of the gradient over all parameters.
  - `diagnosis_curvature`, float[]: $\lambda_\max$ of the Hessian, by `gdlab.analysis.eigenpairs`, to within 1 % or, if
    `max_products` do not suffice, a lower bound.
  - `diagnosis_sketch`, float[2, 64]: parameters and gradient, each as sums with random signs over 64 sets of
    parameters; inner products of two sketches are unbiased for those of the vectors.
  - `diagnosis_saturated`, float[2]: the share of examples whose loss has a value that only a softmax (or sigmoid) of a
    softmax has, when all parameters are 10 and 100 times as large: outputs that are probabilities are 0 and 1 there,
    and their cross-entropy is $\log(1 + (C-1)/e)$ or 1 more. NaN where targets are not classes.

  Cost per evaluation: three gradients of m examples (which the compiler may merge into one), four losses, and at most
  `max_products` Hessian-vector products of 2 to 3 gradients each: up to 40 gradients of m examples with the defaults.
  On the digits 7 to 9 products are enough. The probes are functions `(problem, state) -> array`, which need only the
  attributes `params`, `model_state` and `key` of a state.

  Example:
    >>> import optax, gdlab
    >>> problem = gdlab.problems.quadratic([1.0, 0.1])
    >>> descent = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(2.1))
    >>> result = gdlab.run(problem, descent, num_steps=90, seeds=1, probes=gdlab.diagnosis.probes())
    >>> gdlab.diagnose(result, problem).causes[0].value
    'learning rate too large'

  Args:
    max_examples: the largest m, >= 1.
    max_products: most Hessian-vector products for the curvature, >= 1.

  Raises:
    InputError: if an argument is out of range.

  Source of the sketch: M. Charikar, K. Chen and M. Farach-Colton, "Finding frequent items in data streams", 2002.
  """
  count = check_count('max_examples', max_examples)
  check_count('max_products', max_products)
  return {
    LAYERS: functools.partial(_layers, count),
    GRADIENT: functools.partial(_gradient_norm, count),
    CURVATURE: functools.partial(_curvature, count, max_products),
    SKETCH: functools.partial(_sketches, count),
    SATURATED: functools.partial(_saturated, count),
  }


def largest_curvature(
  problem: Problem, params: PyTree, model_state: PyTree, key: Key, batch: Batch, *, max_products: int = 12
) -> Array:
  r"""$\lambda_\max$ of the Hessian of the loss on a batch, to within 1 % or as far as the products allow, float[].

  Args:
    problem: whose training loss is used.
    params: the point.
    model_state: the model's other state; it is not advanced.
    key: for the forward pass and the random start.
    batch: the examples, of equal weights.
    max_products: most Hessian-vector products, >= 1.
  """
  few = dataclasses.replace(
    problem, train=take(problem.train, batch.indices), validation=None, test=None, known=Known()
  )
  size = len(batch.indices)  # in one block, as the loss of the batch is
  operator = hessian(few, params, model_state, key, block_size=size, losses=training_losses)
  start = jax.random.fold_in(key, START)
  found = eigenpairs(operator, start, max_products=max_products, dense_below=max_products)
  return found.largest.values[0]


def _gradient(count: int, problem: Problem, state: State) -> PyTree:
  batch = evenly_spaced(problem.num_examples, count)
  gradient = jax.grad(lambda p: batch_loss(problem, p, state.model_state, batch, state.key)[0])
  return ascent(gradient(state.params))


def _layers(count: int, problem: Problem, state: State) -> Array:
  gradient = jax.tree.leaves(_gradient(count, problem, state))
  params, structure = jax.tree.flatten(state.params)
  shaken, rows = list(params), []
  for layer in layers_of(problem, state.params):
    slopes, leaf = units_of(layer, _real(gradient[layer.leaf])), params[layer.leaf]
    signs = _signs(layer.leaf, leaf)
    dead = jnp.all(slopes == 0, axis=2)
    still = jnp.all(dead, axis=1)
    change = along_copies(layer, leaf, jnp.where(still, SHAKE, 0.0)).astype(signs.dtype)
    shaken[layer.leaf] = leaf * (1 + change * signs)
    leaf = _real(leaf)
    sizes = _norms(slopes), _norms(units_of(layer, leaf))
    kind = sizes[0].dtype
    rows.append(
      jnp.stack([*sizes, dead.mean(1, dtype=kind), _checksum(layer, leaf).astype(kind), still.astype(kind)])
    )
  table = jnp.concatenate(rows, axis=1).T
  batch = evenly_spaced(problem.num_examples, count)
  # Cloned: the same Dropout in both, which is no reuse by mistake.
  before, after = (
    batch_loss(problem, p, state.model_state, batch, jax.random.clone(state.key))[0]
    for p in (state.params, jax.tree.unflatten(structure, shaken))
  )
  response = jnp.abs(after - before) / jnp.maximum(jnp.abs(before), 1e-30) / SHAKE
  return table.at[:, -1].set(jnp.where(table[:, -1] > 0, response.astype(table.dtype), 0))


def _gradient_norm(count: int, problem: Problem, state: State) -> Array:
  return jnp.sqrt(jnp.sum(jnp.square(_flat(_gradient(count, problem, state)))))


def _curvature(count: int, max_products: int, problem: Problem, state: State) -> Array:
  batch = evenly_spaced(problem.num_examples, count)
  return largest_curvature(
    problem, state.params, state.model_state, state.key, batch, max_products=max_products
  )


def _sketches(count: int, problem: Problem, state: State) -> Array:
  return jnp.stack([_sketch(state.params), _sketch(_gradient(count, problem, state))])


def _sketch(tree: PyTree) -> Array:
  flat = _flat(tree)
  flat = flat * _signs(0, flat)
  return jnp.pad(flat, (0, -flat.size % BUCKETS)).reshape(-1, BUCKETS).sum(0)


def _saturated(count: int, problem: Problem, state: State) -> Array:
  classes = _classes(problem)
  if classes is None:
    return jnp.full(len(FACTORS), jnp.nan)
  batch = evenly_spaced(problem.num_examples, count)
  # Of outputs that are 1 for one class and 0 for the others; with two classes, of a single output as well.
  right = jnp.log1p((classes - 1) / jnp.e)
  neither = jnp.where(classes == 2, jnp.log(2.0), right)

  def share(factor: float) -> Array:
    params = jax.tree.map(lambda leaf: leaf * jnp.asarray(factor, leaf.dtype), state.params)
    key = jax.random.clone(state.key)
    losses = batch_losses(problem, params, state.model_state, batch, key)[1][0]
    ends = (jnp.abs(losses - right) < CLOSE) | (jnp.abs(losses - right - 1) < CLOSE)
    middle = jnp.abs(losses - neither) < CLOSE
    # A network that passes nothing on has log 2 everywhere, whatever its loss.
    return jnp.where(ends.mean() > 0.1, (ends | middle).mean(), 0.0)

  return jnp.stack([share(factor) for factor in FACTORS])


def _classes(problem: Problem) -> Array | None:
  """The number of classes by the targets, int[]; None where they are not classes."""
  targets = jax.tree.leaves(problem.train.targets) if isinstance(problem.train, Examples) else []
  if len(targets) != 1:
    return None
  (labels,) = targets
  if labels.ndim == 2 and labels.shape[1] > 1:
    return jnp.asarray(labels.shape[1])
  if labels.size != problem.num_examples:
    return None
  return jnp.maximum(jnp.max(labels), 1).astype(int) + 1


def _signs(number: int, like: Array) -> Array:
  key = jax.random.fold_in(jax.random.key(SIGNS), number)
  return jax.random.rademacher(key, like.shape, jnp.finfo(like.dtype).dtype)


def _checksum(layer: Layer, leaf: Array) -> Array:
  """A whole number below 2^24 for each copy, uint32[copies]; a float sum would depend on the order XLA chooses."""
  bits = jax.lax.bitcast_convert_type(leaf, jnp.dtype(f'uint{8 * min(leaf.dtype.itemsize, 4)}'))
  bits = bits.astype(jnp.uint32).reshape(*leaf.shape, -1)  # of eight bytes two words
  factors = jax.random.bits(jax.random.key(SIGNS), bits.shape, jnp.uint32) | 1
  words = jnp.sum(bits * factors, axis=-1, dtype=jnp.uint32)
  return jnp.sum(units_of(layer, words), axis=(1, 2), dtype=jnp.uint32) >> 8


def _norms(leaf: Array) -> Array:
  return jnp.sqrt(jnp.sum(jnp.square(_wide(leaf)), axis=(1, 2)))


def _flat(tree: PyTree) -> Array:
  return _wide(ravel_pytree(jax.tree.map(_real, tree))[0])


def _real(leaf: Array) -> Array:
  """A complex array as real and imaginary parts along an additional last axis; a real one unchanged."""
  return jnp.stack([leaf.real, leaf.imag], axis=-1) if jnp.iscomplexobj(leaf) else leaf


def _wide(leaf: Array) -> Array:
  return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
