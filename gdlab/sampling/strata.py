"""Stratified sampling: every batch has examples of every class, in proportion."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, shown
from gdlab.core.types import Array, Batch, Key, Sampler
from gdlab.sampling.independent import check_batch_size
from gdlab.sampling.subsets import subset


class StratifiedState(NamedTuple):
  """State of `stratified`: update t draws with fold_in(key, t)."""

  key: Key
  step: Array  # int32[]
  members: Array  # int32[N], the examples, sorted by class


@checked('batch_size', 'labels')
def stratified(batch_size: int, labels: Any) -> Sampler:
  r"""B examples, of each class c a uniform subset of $b_c$ of its $N_c$, each with weight $N_c/(N b_c)$.

  $b_c$ is proportional to $N_c$, rounded by the largest-remainder method, and at least 1. The estimate is unbiased, and
  updates are independent of one another. With $\Sigma_c$ the covariance of the gradients of class c (divisor
  $N_c - 1$), its variance is

  $$\sum_c \Bigl(\frac{N_c}{N}\Bigr)^2 \frac{\operatorname{tr}\Sigma_c}{b_c} \Bigl(1 - \frac{b_c}{N_c}\Bigr),$$

  which is never above that of `with_replacement(B)` if every $B N_c / N$ is a whole number. The slots of a batch are
  ordered by class. A draw costs at most O(B^2 C) for C classes. An epoch is ceil(N/B) updates by convention.

  Args:
    batch_size: B, a whole number in [C, N].
    labels: int[N], the class of each example, any whole numbers; not traced.

  Returns:
    A Sampler.

  Raises:
    InputError: if an argument is out of range; from `init`, if there are not N labels.

  Source: P. Zhao and T. Zhang, "Accelerating minibatch stochastic gradient descent using stratified sampling",
  arXiv 1405.3080; W. G. Cochran, "Sampling techniques", 1977, chapter 5.
  """
  batch_size = check_count('batch_size', batch_size)
  classes = _classes(labels)
  num_labels = len(classes)
  check_batch_size(batch_size, num_labels)
  counts = np.bincount(classes)
  if batch_size < len(counts):
    raise InputError(
      f'batch_size must be a whole number in [{len(counts)}, {num_labels}], at least 1 for each of the '
      f'{len(counts)} classes, got {batch_size}'
    )
  sizes = allocation(counts, batch_size)
  slot_class = np.repeat(np.arange(len(counts)), sizes)
  slot_rank = np.concatenate([np.arange(size) for size in sizes])
  slot_start = (np.cumsum(counts) - counts)[slot_class].astype(np.int32)
  slot_weight = (counts / num_labels / sizes)[slot_class]
  draw = jax.vmap(functools.partial(subset, slots=int(sizes.max())))

  def init(key: Key, num_examples: int) -> StratifiedState:
    check_batch_size(batch_size, num_examples)
    if num_examples != num_labels:
      raise InputError(
        f'labels must have one entry for each of the {num_examples} examples, got {num_labels}'
      )
    members = jnp.asarray(np.argsort(classes, kind='stable'), jnp.int32)
    return StratifiedState(key, jnp.zeros((), jnp.int32), members)

  def sample(state: StratifiedState) -> tuple[Batch, StratifiedState]:
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), len(counts))
    chosen = draw(keys, jnp.asarray(counts, jnp.int32), jnp.asarray(sizes, jnp.int32))
    indices = state.members[slot_start + chosen[slot_class, slot_rank]]
    weights = jnp.asarray(slot_weight, jnp.result_type(float))
    return Batch(indices, weights), state._replace(step=state.step + 1)

  return Sampler(
    init,
    sample,
    updates_per_epoch=lambda num_examples: -(-num_examples // batch_size),
    sizes=lambda num_examples: (batch_size,),
  )


def allocation(counts: np.ndarray, batch_size: int) -> np.ndarray:
  """The number of slots of each class, int64[C]: proportional to `counts`, by largest remainder, at least 1.

  Args:
    counts: int[C], examples of each class, all >= 1.
    batch_size: in [C, sum of counts].
  """
  quota = batch_size * counts / counts.sum()
  sizes = np.maximum(np.floor(quota).astype(np.int64), 1)
  while sizes.sum() < batch_size:
    sizes[np.argmax(quota - sizes)] += 1
  while sizes.sum() > batch_size:  # for those classes that had less than 1
    sizes[np.argmax(np.where(sizes > 1, sizes - quota, -np.inf))] -= 1
  return sizes


def _classes(labels: Any) -> np.ndarray:
  """The class of each example as a number in [0, C), int64[N]."""
  try:
    values = np.asarray(labels)
  except (TypeError, ValueError):
    raise InputError(f'labels must be an array of known whole numbers, got {shown(labels)}') from None
  if values.ndim != 1 or not values.size or not np.issubdtype(values.dtype, np.integer):
    raise InputError(
      f'labels must be whole numbers of shape [N] with N >= 1, got {values.dtype} of shape {values.shape}'
    )
  return np.unique(values, return_inverse=True)[1]
