"""The weighted batch loss: the one function that every gradient estimate differentiates."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from gdlab.core.dependence import check_losses, padding_reaches
from gdlab.core.errors import InputError
from gdlab.core.types import Array, Batch, Key, Problem, PyTree

DATA_AXIS = 'data'  # the mesh axis along which a batch is split


def spread(batch: Batch) -> Batch:
  """The batch, sharded along the axis `data` of the current mesh, if it has that axis.

  The compiler shards the computation accordingly and inserts the reductions, so every model gives the same result as on
  one device, to rounding, including models that couple examples, such as those with batch normalisation.

  Raises:
    InputError: if the batch size is not a multiple of the number of devices.
  """
  num_devices = sharing_devices()
  if num_devices == 1:
    return batch
  if batch.weights.shape[0] % num_devices:
    raise InputError(
      f'batch sizes must be multiples of the {num_devices} devices that share a batch, got {batch.weights.shape[0]} '
      '(reshuffle(B, drop_remainder=True) leaves out the smaller last batch of an epoch)'
    )
  return jax.lax.with_sharding_constraint(batch, PartitionSpec(DATA_AXIS))


def sharing_devices() -> int:
  """How many devices share each batch: the size of the axis `data` of the current mesh, else 1."""
  mesh = jax.sharding.get_abstract_mesh()
  axes = dict(zip(mesh.axis_names, zip(mesh.axis_sizes, mesh.axis_types, strict=True), strict=True))
  size, kind = axes.get(DATA_AXIS, (1, None))
  return size if kind is AxisType.Auto else 1


def take(examples: PyTree, indices: Array) -> PyTree:
  """The examples at `indices`, gathered along the leading axis of every leaf."""
  return jax.tree.map(lambda leaf: leaf[indices], examples)


def real_indices(batch: Batch) -> Array:
  """The batch's indices, with those of padding replaced by the first real example's, if there is one.

  Any other example could have an infinite derivative, and a cotangent of 0 times infinity is NaN.
  """
  mask = batch.weights != 0
  return jnp.where(mask, batch.indices, batch.indices[jnp.argmax(mask)])


def ascent(derivative: PyTree) -> PyTree:
  r"""The direction of steepest ascent, from what `jax.grad` returns; for real parameters they are the same.

  For a complex parameter $z = x + iy$, JAX's derivative of a real loss is $\partial_x f - i\,\partial_y f$; its
  conjugate points uphill. Descent along the derivative itself would ascend in y.
  """
  return jax.tree.map(lambda leaf: jnp.conj(leaf) if jnp.iscomplexobj(leaf) else leaf, derivative)


def batch_loss(
  problem: Problem, params: PyTree, model_state: PyTree, batch: Batch, key: Key
) -> tuple[Array, PyTree]:
  r"""The batch's estimate of the mean training loss, $\sum_i w_i \ell_i(\theta)$.

  If padding would affect the losses of real examples (`gdlab.problems.mixing(problem).padding`: batch normalisation
  without the mask, contrastive losses), the loss of a batch with padding is NaN, because it has no correct value.
  `gdlab.algorithm` cuts such batches to their real examples.

  Args:
    problem: with the training examples and the per-example loss.
    params: the parameters theta.
    model_state: the model's other state, `()` if it has none.
    batch: indices and weights; slots of weight 0 are masked out of the model.
    key: randomness of the forward pass (Dropout).

  Returns:
    `(loss float[], model_state)`.
  """
  loss, (_, model_state) = batch_losses(problem, params, model_state, batch, key)
  return loss, model_state


def batch_losses(
  problem: Problem, params: PyTree, model_state: PyTree, batch: Batch, key: Key
) -> tuple[Array, tuple[Array, PyTree]]:
  """`batch_loss` and the loss of every slot, 0 on padding: `(loss float[], (float[B], model_state))`."""
  mask = batch.weights != 0
  examples = take(problem.train, real_indices(batch))
  losses, model_state = problem.loss(params, model_state, examples, mask, key)
  check_losses('loss', losses, mask.shape[0])
  # where, not only the product: 0 * inf on a padding slot would be NaN.
  loss = jnp.sum(jnp.where(mask, batch.weights * losses, 0))
  if padding_reaches(problem, params, model_state):
    loss = loss * jnp.where(jnp.all(mask), 1.0, jnp.nan)  # a product, which the gradient passes through
  return loss, (jnp.where(mask, losses, 0), model_state)
