r"""Sums over the whole training set in blocks of bounded memory: the mean loss and its gradient.

The argument `losses` chooses the loss. `evaluation_losses` is the metric `'loss'` in evaluation mode: BatchNorm with
the statistics in `model_state`, no Dropout. It is a mean over examples, whatever the blocks, and the usual choice for
sharpness. `training_losses` is the loss that the updates differentiate: Dropout draws one mask per block from the key,
and BatchNorm takes the statistics of each block, so that the value depends on `block_size`. For models with neither the
two are the same.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gdlab.core.arguments import checked
from gdlab.core.dependence import mixes_in_evaluation, padding_reaches
from gdlab.core.dtypes import widened
from gdlab.core.errors import InputError, check_count, shown
from gdlab.core.objective import batch_losses, real_indices, take
from gdlab.core.types import Array, Batch, Key, Problem, PyTree

BLOCK = 512  # examples at once by default: larger gain little on a CPU and cost memory
Losses: TypeAlias = Callable[[Problem, PyTree, PyTree, Batch, Key], Array]


@checked
def training_losses(problem: Problem, params: PyTree, model_state: PyTree, batch: Batch, key: Key) -> Array:
  """The training loss of every slot of a batch, float[B], 0 on padding; `model_state` is not advanced."""
  return batch_losses(problem, params, model_state, batch, key)[1][0]


@checked
def evaluation_losses(problem: Problem, params: PyTree, model_state: PyTree, batch: Batch, key: Key) -> Array:
  """The metric `'loss'` of every slot of a batch in evaluation mode, float[B], 0 on padding; `key` is not used."""
  examples = take(problem.train, real_indices(batch))
  losses = problem.metrics(params, model_state, examples)['loss']
  return jnp.where(batch.weights != 0, losses, 0)


def sum_over_blocks(
  function: Callable[[Batch, Key], PyTree], num_examples: int, key: Key, *, block_size: int = BLOCK
) -> PyTree:
  """The mean of a function over the training set, summed block by block with weights 1/N.

  All blocks have the same shape, so that `function` is compiled once: block sizes are as equal as possible, and the
  last block is padded with weight 0.

  Args:
    function: `(batch, key) -> pytree` of float arrays, a weighted sum over the batch's slots. Block b gets
      fold_in(key, b).
    num_examples: N >= 1.
    key: randomness.
    block_size: most examples per block, >= 1, static under jit.

  Returns:
    A pytree like the function's, in float32 or wider, as sums in half precision soon stop growing.

  Raises:
    InputError: if `block_size` is not a whole number >= 1.
  """
  num_blocks, size = _equal_blocks(num_examples, block_size)

  def block(number: Array) -> PyTree:
    indices = number * size + jnp.arange(size)
    weights = jnp.where(indices < num_examples, 1 / num_examples, 0.0)
    batch = Batch(jnp.minimum(indices, num_examples - 1), weights)
    return widened(function(batch, jax.random.fold_in(key, number)))

  if num_blocks == 1:
    return block(jnp.int32(0))
  shapes = jax.eval_shape(block, jnp.int32(0))
  nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
  total, _ = jax.lax.scan(
    lambda total, number: (optax.tree.add(total, block(number)), None),
    nothing,
    jnp.arange(num_blocks, dtype=jnp.int32),
  )
  return total


def _equal_blocks(num_examples: int, block_size: int) -> tuple[int, int]:
  """The number of blocks, and of examples in each."""
  num_blocks = -(-num_examples // min(check_count('block_size', block_size), num_examples))
  return num_blocks, -(-num_examples // num_blocks)


def _check_blocks(
  problem: Problem, params: PyTree, model_state: PyTree, losses: Losses, block_size: int
) -> None:
  """Raises InputError where the sum over blocks would not be the mean over the training set."""
  num_examples = problem.num_examples
  num_blocks, size = _equal_blocks(num_examples, block_size)
  if losses is evaluation_losses and num_blocks > 1 and mixes_in_evaluation(problem, params, model_state):
    raise InputError(
      f'block_size must be at least {num_examples}, all examples at once, for problem {problem.name!r}, whose losses '
      f'depend on the others of a batch in evaluation mode too, got {block_size}'
    )
  if (
    losses is training_losses
    and num_blocks * size > num_examples
    and padding_reaches(problem, params, model_state)
  ):
    raise InputError(
      f'block_size must cut the {num_examples} examples into equal blocks for the training losses of problem '
      f'{problem.name!r}, which depend on what fills up the last one, got {block_size}: take one that divides, or '
      'evaluation_losses'
    )


def check_real_params(params: PyTree) -> None:
  """Raises InputError for complex parameters: curvature and noise are defined here for real ones."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    if jnp.iscomplexobj(leaf):
      raise InputError(
        f'params{jax.tree_util.keystr(path)} must be real, got {jnp.result_type(leaf)}: give real and imaginary parts '
        'as separate parameters'
      )


@checked
def full_loss(
  problem: Problem,
  model_state: PyTree,
  key: Key,
  *,
  block_size: int = BLOCK,
  losses: Losses = evaluation_losses,
) -> Callable[[PyTree], Array]:
  r"""The mean loss over the training set as a function of the parameters, $f(\theta) = \frac1N \sum_i \ell_i(\theta)$.

  It is differentiable, but reverse mode keeps the intermediate values of all blocks; `full_gradient` does not.

  Args:
    problem: whose training examples are used.
    model_state: the model's other state, `()` if it has none; it is not advanced.
    key: randomness of the forward pass, for `training_losses`; the same at every call.
    block_size: examples at once, >= 1, static under jit.
    losses: which loss: `evaluation_losses`, `training_losses`, or any function of their form.

  Returns:
    `(params) -> float[]`, in float32 or wider.

  Raises:
    InputError: if `losses` is not a function; from the returned function, if `block_size` is not a whole number >= 1,
      if the parameters are complex, or if the losses depend on the other examples of a batch and the blocks would
      change them.
  """
  block = _block_loss(problem, model_state, losses)

  def loss(params: PyTree) -> Array:
    _check_blocks(problem, params, model_state, losses, block_size)
    return sum_over_blocks(
      lambda batch, key: block(params, batch, key), problem.num_examples, key, block_size=block_size
    )

  return loss


@checked
def full_gradient(
  problem: Problem,
  model_state: PyTree,
  key: Key,
  *,
  block_size: int = BLOCK,
  losses: Losses = evaluation_losses,
) -> Callable[[PyTree], PyTree]:
  r"""The gradient of the mean loss over the training set as a function of the parameters, $\nabla f(\theta)$.

  Memory is that of one block, also under `jax.jvp`, which gives the Hessian-vector product.

  Args:
    problem: as for `full_loss`.
    model_state: as for `full_loss`.
    key: as for `full_loss`.
    block_size: as for `full_loss`.
    losses: as for `full_loss`.

  Returns:
    `(params) -> pytree like params`, in float32 or wider.

  Raises:
    InputError: as for `full_loss`.
  """
  gradient = jax.grad(_block_loss(problem, model_state, losses))

  def mean_gradient(params: PyTree) -> PyTree:
    _check_blocks(problem, params, model_state, losses, block_size)
    return sum_over_blocks(
      lambda batch, key: gradient(params, batch, key), problem.num_examples, key, block_size=block_size
    )

  return mean_gradient


def sampled_gradient(
  problem: Problem,
  model_state: PyTree,
  key: Key,
  *,
  block_size: int = BLOCK,
  losses: Losses = evaluation_losses,
) -> Callable[[PyTree], PyTree]:
  """The gradient of the mean loss over one block of at most 512 evenly spaced training examples.

  Arguments, shapes and errors are those of `full_gradient`.
  """
  gradient = jax.grad(_block_loss(problem, model_state, losses))
  return lambda params: widened(gradient(params, spaced_batch(problem.num_examples, block_size), key))


def spaced_batch(num_examples: int, block_size: int) -> Batch:
  """At most `block_size` and at most 512 evenly spaced examples, of equal weight."""
  return evenly_spaced(num_examples, min(check_count('block_size', block_size), BLOCK))


def evenly_spaced(num_examples: int, count: int) -> Batch:
  """At most `count` examples, evenly spaced, as a batch that averages their losses."""
  size = min(count, num_examples)
  # On the host, where the product does not overflow.
  indices = np.arange(size, dtype=np.int64) * num_examples // size
  return Batch(jnp.asarray(indices, jnp.int32), jnp.full(size, 1 / size))


def full_loss_and_gradient(
  problem: Problem,
  model_state: PyTree,
  key: Key,
  *,
  block_size: int = BLOCK,
  losses: Losses = evaluation_losses,
) -> Callable[[PyTree], tuple[Array, PyTree]]:
  """The values of `full_loss` and `full_gradient` together, at the cost of the second.

  Arguments and errors are those of `full_loss`; returns `(params) -> (float[], pytree like params)`.
  """
  block = jax.value_and_grad(_block_loss(problem, model_state, losses))

  def loss_and_gradient(params: PyTree) -> tuple[Array, PyTree]:
    _check_blocks(problem, params, model_state, losses, block_size)
    return sum_over_blocks(
      lambda batch, key: block(params, batch, key), problem.num_examples, key, block_size=block_size
    )

  return loss_and_gradient


def _block_loss(
  problem: Problem, model_state: PyTree, losses: Losses
) -> Callable[[PyTree, Batch, Key], Array]:
  if not callable(losses):
    raise InputError(
      f'losses must be a function such as training_losses or evaluation_losses, got {shown(losses)}'
    )

  def loss(params: PyTree, batch: Batch, key: Key) -> Array:
    check_real_params(params)
    return jnp.sum(batch.weights * losses(problem, params, model_state, batch, key))

  return loss
