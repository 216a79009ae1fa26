"""Batches cut to their real examples, for problems and estimators that padding would affect.

An epoch's last batch is padded to a fixed shape. If the losses of real examples depend on the padding (batch
normalisation, contrastive losses), or an optimizer averages over the rows of a batch, the update uses a batch without
padding instead: the program has one branch for each number of examples that the sampler may draw.
"""

import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gdlab.core.dependence import mixes_in_training, padding_reaches
from gdlab.core.errors import InputError
from gdlab.core.types import Array, Batch, EstimateInfo, Estimator, Problem, PyTree, Sampler


def real_sizes(
  sampler: Sampler, estimator: Estimator, problem: Problem, params: PyTree, model_state: PyTree
) -> tuple[int, ...]:
  """The possible numbers of real examples in a batch, to which it is cut; none if padding is harmless.

  Raises:
    InputError: if padding is not harmless and the sampler's batches can have any number of examples.
  """
  if not (estimator.stacked or padding_reaches(problem, params, model_state)):
    return ()
  if sampler.sizes is None:
    why = (
      'the estimator returns the gradient of every slot'
      if estimator.stacked
      else f'the losses of problem {problem.name!r} mix the examples of a batch, including padding'
    )
    raise InputError(
      f'sampler must draw batches of known sizes, because {why}: use reshuffle(B), reshuffle(B, drop_remainder=True) '
      'or with_replacement(B), or set Sampler.sizes of your own sampler'
    )
  return tuple(sorted(set(sampler.sizes(problem.num_examples))))


def warn_of_single_examples(sampler: Sampler, problem: Problem, params: PyTree, model_state: PyTree) -> None:
  """Warns if some batches hold one example alone, and the training losses depend on the others of a batch."""
  count = problem.num_examples
  if sampler.sizes is None or not mixes_in_training(problem, params, model_state):
    return
  if 1 in sampler.sizes(count):
    warnings.warn(
      f'some batches hold a single one of the {count} examples, and the training losses of problem {problem.name!r} '
      'depend on the others in a batch (BatchNorm, contrastive losses): choose a batch size that leaves no single '
      'example, or drop_remainder=True',
      UserWarning,
      stacklevel=3,
    )


def on_real_slots(sizes: tuple[int, ...], batch: Batch, function: Callable[[Batch], PyTree]) -> PyTree:
  """`function(batch)` for the batch cut to its real examples; `sizes` are the possible numbers of these.

  The shapes of what the function returns must not depend on the batch's, see `filled`.
  """
  num_slots = batch.weights.shape[0]
  if sizes in ((), (num_slots,)):
    return function(batch)
  branches = [
    lambda batch, size=size: function(jax.tree.map(lambda leaf: leaf[:size], batch)) for size in sizes
  ]
  if len(branches) == 1:
    return branches[0](batch)
  count = jnp.sum(batch.weights != 0)
  return jax.lax.switch(jnp.searchsorted(jnp.asarray(sizes), count), branches, batch)


def filled(info: EstimateInfo, num_slots: int) -> EstimateInfo:
  """The by-products for the full batch, with zeros on padding."""

  def fill(leaf: Array) -> Array:
    return jnp.pad(leaf, [(0, num_slots - leaf.shape[0]), *[(0, 0)] * (leaf.ndim - 1)])

  return info._replace(losses=jax.tree.map(fill, info.losses), gradients=jax.tree.map(fill, info.gradients))
