"""Curvature as symmetric linear operators on the parameters: Hessian, Gauss-Newton, and their blocks by layer."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gdlab.analysis.blocks import (
  BLOCK,
  Losses,
  check_real_params,
  evaluation_losses,
  full_gradient,
  sampled_gradient,
  spaced_batch,
  sum_over_blocks,
)
from gdlab.analysis.curvature.rounding import rounding_of
from gdlab.core.arguments import checked
from gdlab.core.dtypes import widened
from gdlab.core.errors import InputError, shown
from gdlab.core.objective import real_indices, take
from gdlab.core.types import Array, Batch, Key, Problem, PyTree


def _exact() -> Array:
  return jnp.zeros(())


class Operator(NamedTuple):
  """A symmetric linear map A of a parameter space to itself.

  Attributes:
    product: `(vector) -> A vector`, from a pytree like `like` to another.
    like: a pytree of float arrays (or of their `jax.ShapeDtypeStruct`) with the shapes and dtypes of the vectors.
    rounding: `() -> float[]`, a bound on the error from cancellation in products with unit vectors, in norm; in
      addition to a few units of rounding of the product's size. By default 0.
  """

  product: Callable[[PyTree], PyTree]
  like: PyTree
  rounding: Callable[[], Array] = _exact


@checked
def hessian(
  problem: Problem,
  params: PyTree,
  model_state: PyTree,
  key: Key,
  *,
  block_size: int = BLOCK,
  losses: Losses = evaluation_losses,
) -> Operator:
  r"""The Hessian of the mean loss over the training set, $H = \nabla^2 f(\theta)$, as an operator.

  A product is the derivative of the gradient along the vector (Pearlmutter 1994), block by block: exact, in the memory
  of about two gradients of a block, at the cost of 2 to 3 full gradients (1.8 to 2 measured for a multilayer
  perceptron on a CPU). Parameters in half precision are widened: the curvature is that of the loss at the same point in
  float32.

  `rounding` is measured by Monte Carlo arithmetic (see `gdlab.analysis.curvature.rounding`) on one block of at most
  512 evenly spaced examples, by 8 products, and only when it is called, as by `eigenpairs`: a measured bound, not a
  proven one. Where the curvature is a small difference of large terms, as for a saturated classifier, it may exceed all
  eigenvalues in float32, whose signs are then uncertain; use float64.

  Example:
    >>> import jax, gdlab
    >>> problem = gdlab.problems.quadratic([1.0, 3.0])
    >>> operator = hessian(problem, jnp.zeros(2), (), jax.random.key(0))
    >>> operator.product(jnp.array([1.0, 1.0]))
    Array([1., 3.], dtype=float32)

  Args:
    problem: whose training examples and loss are used.
    params: the parameters theta.
    model_state: the model's other state, `()` if it has none; it is not advanced.
    key: randomness of the forward pass, for `training_losses`; the same for all products.
    block_size: examples at once, >= 1, static under jit.
    losses: which loss, see `gdlab.analysis.blocks`: `evaluation_losses` with BatchNorm's statistics fixed and without
      Dropout, or `training_losses`, the loss of the updates.

  Raises:
    InputError: from the first product, if `block_size` is not a whole number >= 1.

  Source: Pearlmutter 1994, Fast Exact Multiplication by the Hessian.
  """
  check_real_params(params)
  params = widened(params)
  gradient = full_gradient(problem, model_state, key, block_size=block_size, losses=losses)
  few = sampled_gradient(problem, model_state, key, block_size=block_size, losses=losses)
  return Operator(
    lambda vector: jax.jvp(gradient, (params,), (vector,))[1],
    params,
    lambda: rounding_of(lambda params, vector: jax.jvp(few, (params,), (vector,))[1], params),
  )


@checked
def gauss_newton(
  problem: Problem,
  params: PyTree,
  model_state: PyTree,
  *,
  predict: Callable[[PyTree, PyTree, PyTree], PyTree],
  loss: Callable[[PyTree, PyTree], Array],
  block_size: int = BLOCK,
) -> Operator:
  r"""The generalised Gauss-Newton matrix of the mean loss over the training set, as an operator.

  $$G = \frac1N \sum_i J_i^\top \, \nabla^2_z \ell(z_i, i) \, J_i, \qquad z_i = z(\theta, i), \quad
  J_i = \partial z_i / \partial\theta.$$

  Positive semidefinite where the loss is convex in the outputs z; equal to the Fisher matrix for cross-entropy and
  squared error. It needs the loss as a function of the model's outputs, but the loss of a `Problem` may be any function
  of the parameters. So both parts are arguments, and they decide the mode of the forward pass. A term of the loss
  outside them, such as a penalty on the parameters, is not included.

  A product costs as much as 1.5 to 2 full gradients. `rounding` is measured as for `hessian`.

  Example:
    >>> import gdlab
    >>> data = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1.0, 1.0])
    >>> problem = gdlab.problems.linear_regression(*data)
    >>> operator = gauss_newton(
    ...   problem, jnp.zeros(2), (),
    ...   predict=lambda params, model_state, examples: examples.inputs @ params,
    ...   loss=lambda outputs, examples: (outputs - examples.targets) ** 2 / 2,
    ... )
    >>> operator.product(jnp.ones(2))
    Array([0.5, 2. ], dtype=float32)

  Args:
    problem: whose training examples are used.
    params: the parameters theta.
    model_state: the model's other state, passed to `predict`.
    predict: `(params, model_state, examples) -> outputs`, every leaf with leading axis B. For a Flax Linen
      module: `lambda p, s, e: module.apply({'params': p, **dict(s)}, e.inputs)`.
    loss: `(outputs, examples) -> float[B]`, each a function of that example's outputs only.
    block_size: examples at once, >= 1, static under jit.

  Raises:
    InputError: from the first product, if `block_size` is not a whole number >= 1.

  Source: Schraudolph 2002, Fast Curvature Matrix-Vector Products; Martens 2020, arXiv 1412.1193.
  """
  params = widened(params)

  def on_batch(params: PyTree, vector: PyTree, batch: Batch) -> PyTree:
    examples = take(problem.train, real_indices(batch))

    def summed(outputs: PyTree) -> Array:
      return jnp.sum(jnp.where(batch.weights != 0, batch.weights * loss(outputs, examples), 0))

    def outputs_of(params: PyTree) -> PyTree:
      return predict(params, model_state, examples)

    outputs, moved = jax.jvp(outputs_of, (params,), (vector,))
    curved = jax.jvp(jax.grad(summed), (outputs,), (moved,))[1]
    return jax.vjp(outputs_of, params)[1](curved)[0]

  def product(vector: PyTree) -> PyTree:
    # A fixed key: nothing here is random.
    return sum_over_blocks(
      lambda batch, _: on_batch(params, vector, batch),
      problem.num_examples,
      jax.random.key(0),
      block_size=block_size,
    )

  def few(params: PyTree, vector: PyTree) -> PyTree:
    return on_batch(params, vector, spaced_batch(problem.num_examples, block_size))

  return Operator(product, params, lambda: rounding_of(few, params))


@checked
def layers(operator: Operator) -> dict[str, Operator]:
  """The diagonal blocks of an operator, one for each top-level subtree of the parameters: the layers of a Flax model.

  Block a is A restricted to subtree a: its eigenvalues lie in the range of those of A, and the traces of all blocks sum
  to that of A. A product costs as much as one with A.

  Args:
    operator: whose parameters form a dict, sequence or NamedTuple.

  Returns:
    Operators by the subtree's name, in the pytree's order; one named '' if the parameters are one array.
  """
  like = operator.like
  subtrees, structure = jax.tree_util.tree_flatten_with_path(like, is_leaf=lambda node: node is not like)

  def within(number: int) -> Operator:
    def product(vector: PyTree) -> PyTree:
      filled = [
        vector if i == number else jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), subtree)
        for i, (_, subtree) in enumerate(subtrees)
      ]
      image = operator.product(jax.tree.unflatten(structure, filled))
      return jax.tree.leaves(image, is_leaf=lambda node: node is not image)[number]

    return Operator(product, subtrees[number][1], operator.rounding)

  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): within(number)
    for number, (path, _) in enumerate(subtrees)
  }


class Flat(NamedTuple):
  """An operator on vectors of one axis.

  Attributes:
    product: `(float[d]) -> float[d]`.
    size: d.
    dtype: of the vectors, float32 or wider.
    unravel: `(float[d]) -> pytree`.
    rounding: as the operator's.
  """

  product: Callable[[Array], Array]
  size: int
  dtype: jnp.dtype
  unravel: Callable[[Array], PyTree]
  rounding: Callable[[], Array]


def flattened(operator: Operator) -> Flat:
  """The operator on raveled vectors; raises InputError unless it is one on floats of at least 32 bits."""
  if not isinstance(operator, Operator):
    raise InputError(f'operator must be a gdlab.analysis.Operator, got {shown(operator)}')
  leaves = jax.tree.leaves(operator.like)
  if not leaves or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
    raise InputError('operator.like must hold float arrays, and at least one')
  zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), operator.like)
  flat, unravel = ravel_pytree(zeros)
  if flat.size == 0 or jnp.finfo(flat.dtype).bits < 32:
    raise InputError(f'operator.like must hold numbers in float32 or wider, got {flat.dtype}[{flat.size}]')
  product = lambda v: ravel_pytree(operator.product(unravel(v)))[0]
  return Flat(product, flat.size, flat.dtype, unravel, operator.rounding)
