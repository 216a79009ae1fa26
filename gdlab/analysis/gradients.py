"""The gradients of single training examples: one by one, and their mean and variance over the training set.

The gradient of an example is that of a batch that contains it alone. A model that mixes the examples of a batch
(BatchNorm in training mode) has no per-example gradients in this sense: the mean of these gradients is not the gradient
of the batch.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from gdlab.analysis.blocks import check_real_params
from gdlab.core.arguments import checked
from gdlab.core.dependence import one_by_one
from gdlab.core.dtypes import widened
from gdlab.core.errors import InputError, check_count
from gdlab.core.objective import batch_loss
from gdlab.core.types import Array, Batch, Key, Problem, PyTree

ExampleLoss: TypeAlias = Callable[[PyTree, Array], Array]  # (params, index) -> float[]


class GradientMoments(NamedTuple):
  """The first two moments of the per-example gradients over the training set.

  Attributes:
    mean: pytree like the parameters, the mean gradient, in float32 or wider.
    covariance_trace: float[], tr Sigma, the mean squared Euclidean distance to the mean.
  """

  mean: PyTree
  covariance_trace: Array


@checked
def per_example_gradients(
  problem: Problem, params: PyTree, model_state: PyTree, key: Key, indices: Array | None = None
) -> PyTree:
  r"""The gradient of each example's training loss, $g_i = \nabla_\theta \ell_i(\theta)$.

  Memory is that of k copies of the parameters; for moments over a large set use `gradient_covariance_trace`.

  Args:
    problem: whose training examples and loss are used.
    params: the parameters theta.
    model_state: the model's other state, `()` if it has none; it is not advanced.
    key: randomness of the forward pass; example i uses fold_in(key, i), whatever the other indices.
    indices: int[k], each in [0, N); None for all N in order.

  Returns:
    A pytree like `params` whose leaves have the leading axis k.

  Raises:
    InputError: if indices are not of that form; inside jit their range is not checked.
  """
  if indices is None:
    indices = jnp.arange(problem.num_examples)
  indices = _checked(indices, problem.num_examples)
  return jax.vmap(jax.grad(example_loss(problem, model_state, key)), in_axes=(None, 0))(params, indices)


@checked('block_size')
def gradient_covariance_trace(
  problem: Problem, params: PyTree, model_state: PyTree, key: Key, *, block_size: int = 64
) -> GradientMoments:
  r"""The mean gradient over the training set, and the trace of the per-example gradients' covariance.

  $$\bar g = \frac1N \sum_i g_i, \qquad \operatorname{tr}\Sigma = \frac1N \sum_i \|g_i - \bar g\|^2,$$

  the variance that `gdlab.theory.mean_variance` takes. Two passes in blocks: the difference of the mean
  square and the squared mean would cancel where the mean dominates. Memory is that of `block_size`
  copies of the parameters. With Dropout the variance includes that of one mask per example.

  Args:
    problem: whose training examples and loss are used.
    params: the parameters theta.
    model_state: the model's other state, `()` if it has none; it is not advanced.
    key: randomness of the forward pass, as in `per_example_gradients`.
    block_size: examples at once, >= 1, static under jit. On a CPU more than about 100 are not faster and, for
      a network of 300,000 parameters, take four times as long.

  Raises:
    InputError: if `block_size` is not a whole number >= 1.
  """
  num_examples = problem.num_examples
  block_size = min(check_count('block_size', block_size), num_examples)
  loss = example_loss(problem, model_state, key)
  indices = jnp.arange(num_examples)
  mean = mean_gradient(loss, params, indices, block_size)

  def squared_distance(index: Array) -> Array:
    difference = optax.tree.sub(widened(jax.grad(loss)(params, index)), mean)
    return optax.tree.norm(difference, squared=True)

  return GradientMoments(mean, jnp.mean(jax.lax.map(squared_distance, indices, batch_size=block_size)))


def mean_gradient(loss: ExampleLoss, params: PyTree, indices: Array, block_size: int) -> PyTree:
  """The mean of the examples' gradients, in float32 or wider; see `gradient_sum`."""
  total = gradient_sum(loss, params, indices, jnp.ones(indices.shape), block_size)
  return optax.tree.scale(1 / indices.shape[0], total)


def gradient_sum(
  loss: ExampleLoss, params: PyTree, indices: Array, weights: Array, block_size: int
) -> PyTree:
  r"""The weighted sum $\sum_k w_k g_{i_k}$ of the examples' gradients, in blocks, in float32 or wider.

  Args:
    loss: of one example, see `example_loss`.
    params: the point.
    indices: int[k], the examples.
    weights: float[k], of any sign.
    block_size: examples at once, >= 1.
  """

  def block_gradient(indices: Array, weights: Array) -> PyTree:
    # The gradient of the sum, not the sum of gradients: no per-example copy of the parameters is made.
    summed = jax.grad(lambda p: jnp.sum(weights * jax.vmap(loss, in_axes=(None, 0))(p, indices)))(params)
    return widened(summed)

  whole = indices.shape[0] // block_size * block_size
  blocks = (indices[:whole].reshape(-1, block_size), weights[:whole].reshape(-1, block_size))
  total, _ = jax.lax.scan(
    lambda total, block: (optax.tree.add(total, block_gradient(*block)), None),
    optax.tree.zeros_like(widened(params)),
    blocks,
  )
  if whole < indices.shape[0]:
    total = optax.tree.add(total, block_gradient(indices[whole:], weights[whole:]))
  return total


def example_loss(problem: Problem, model_state: PyTree, key: Key) -> ExampleLoss:
  """`(params, index) -> float[]`, the loss of a batch of one example with weight 1."""

  def loss(params: PyTree, index: Array) -> Array:
    check_real_params(params)
    one_by_one('a per-example gradient', problem, params, model_state)
    alone = Batch(index[None], jnp.ones(1))
    return batch_loss(problem, params, model_state, alone, jax.random.fold_in(key, index))[0]

  return loss


def _checked(indices: Array, num_examples: int) -> Array:
  indices = jnp.asarray(indices)
  if indices.ndim != 1 or not jnp.issubdtype(indices.dtype, jnp.integer):
    raise InputError(f'indices must be whole numbers of shape [k], got {indices.dtype}{list(indices.shape)}')
  # An index beyond the end is clamped by JAX: the last example's gradient, without a word.
  if not isinstance(indices, jax.core.Tracer) and ((indices < 0) | (indices >= num_examples)).any():
    raise InputError(f'indices must lie in [0, {num_examples}), got {indices.tolist()}')
  return indices
