"""Mean and variance of every parameter's gradient over the training set, and the signal-to-noise ratio from them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gdlab.analysis.gradients import example_loss
from gdlab.core.arguments import checked
from gdlab.core.dtypes import widened
from gdlab.core.errors import check_count, check_real
from gdlab.core.types import Array, Key, Problem, PyTree


class ParameterMoments(NamedTuple):
  """The per-example gradients' moments, parameter by parameter.

  Attributes:
    mean: pytree like the parameters, the mean gradient, in float32 or wider.
    variance: pytree like `mean`, the mean squared distance to it; the sum of all its entries is tr Sigma.
  """

  mean: PyTree
  variance: PyTree


@checked('block_size')
def gradient_moments(
  problem: Problem, params: PyTree, model_state: PyTree, key: Key, *, block_size: int = 64
) -> ParameterMoments:
  r"""The mean and the variance of each parameter's gradient over the training set.

  $$\bar g_j = \frac1N \sum_i g_{ij}, \qquad \Sigma_{jj} = \frac1N \sum_i (g_{ij} - \bar g_j)^2.$$

  One pass: the moments of a block are computed about its own mean and merged with those of the blocks before, so that
  nothing cancels where the mean dominates. Costs 1 gradient-equivalent, the gradients of all training examples one by
  one. Memory is that of `block_size` copies of the parameters, and reading and writing them takes most of the time: for
  a network of 31,000 parameters on one CPU core, as long as a hundred gradients of the whole set
  (`gradient_covariance_trace`: eleven). As a probe:
  `lambda problem, state: gradient_moments(problem, state.params, state.model_state, state.key).variance['bias']`.

  Args:
    problem: whose training examples and loss are used.
    params: the parameters theta.
    model_state: the model's other state, `()` if it has none; it is not advanced.
    key: randomness of the forward pass, as in `per_example_gradients`.
    block_size: examples at once, >= 1, static under jit.

  Raises:
    InputError: if `block_size` is not a whole number >= 1.

  Source: Chan, Golub, LeVeque 1983, Algorithms for computing the sample variance, The American Statistician 37
  (the merging of blocks).
  """
  num_examples = problem.num_examples
  block_size = min(check_count('block_size', block_size), num_examples)
  gradient = jax.vmap(jax.grad(example_loss(problem, model_state, key)), in_axes=(None, 0))

  def merge(so_far: tuple[PyTree, PyTree], indices: Array, count: Array) -> tuple[PyTree, PyTree]:
    mean, squares = so_far
    rows, size = widened(gradient(params, indices)), indices.shape[0]
    share = size / (count + size)

    def merged(mean: Array, squares: Array, rows: Array) -> tuple[Array, Array]:
      block_mean = jnp.mean(rows, axis=0)
      gap, part = block_mean - mean, share.astype(mean.dtype)
      within = jnp.sum((rows - block_mean[None]) ** 2, axis=0)
      return mean + part * gap, squares + within + part * count.astype(mean.dtype) * gap**2

    pairs = jax.tree.map(merged, mean, squares, rows)
    return jax.tree.transpose(jax.tree.structure(mean), jax.tree.structure((0, 0)), pairs)

  zeros = optax.tree.zeros_like(widened(params))
  indices = jnp.arange(num_examples)
  num_blocks = num_examples // block_size
  whole = num_blocks * block_size
  counts = block_size * jnp.arange(num_blocks, dtype=jnp.result_type(float))
  so_far, _ = jax.lax.scan(
    lambda so_far, block: (merge(so_far, *block), None),
    (zeros, zeros),
    (indices[:whole].reshape(-1, block_size), counts),
  )
  if whole < num_examples:
    so_far = merge(so_far, indices[whole:], jnp.asarray(whole, counts.dtype))
  mean, squares = so_far
  return ParameterMoments(mean, optax.tree.scale(1 / num_examples, squares))


@checked('batch_size')
def signal_to_noise(moments: ParameterMoments, *, batch_size: float = 1) -> PyTree:
  r"""The signal-to-noise ratio of every parameter's gradient, $\sqrt{B}\, |\bar g_j| / \sqrt{\Sigma_{jj}}$.

  For the mean gradient of B examples drawn with replacement. Where it is far below 1, the sign of a step in that
  parameter is close to random. Costs nothing beyond the moments.

  Example:
    >>> import jax.numpy as jnp
    >>> moments = ParameterMoments(mean=jnp.array([3.0, -1.0, 0.0]), variance=jnp.array([1.0, 4.0, 0.0]))
    >>> signal_to_noise(moments, batch_size=4).tolist()
    [6.0, 1.0, 0.0]

  Args:
    moments: of `gradient_moments`.
    batch_size: B > 0.

  Returns:
    A pytree like the parameters, of numbers >= 0; infinite where the gradient is the same for every example and not
    zero, and 0 where it is zero for every example.

  Raises:
    InputError: `batch_size` out of range.
  """
  check_real('batch_size', batch_size, above=0)
  if isinstance(batch_size, int | np.integer):  # which may be more than int32 holds
    batch_size = float(batch_size)

  def ratio(mean: Array, variance: Array) -> Array:
    quiet = variance <= 0
    found = jnp.abs(mean) * jnp.sqrt(batch_size / jnp.where(quiet, 1, variance))
    return jnp.where(quiet, jnp.where(mean == 0, 0, jnp.inf), found)

  return jax.tree.map(ratio, moments.mean, moments.variance)
