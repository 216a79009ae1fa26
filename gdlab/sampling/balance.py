"""Gradient-balanced orders: each epoch's gradients determine the order of the next."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.branching import cond_any
from gdlab.core.errors import InputError, check_count, shown
from gdlab.core.types import Array, Batch, EstimateInfo, Key, PyTree, Sampler
from gdlab.sampling.epochs import next_slice, permutation, slice_sizes
from gdlab.sampling.independent import check_batch_size


class GrabState(NamedTuple):
  """State of `grab`, for d parameters."""

  step: Array  # int32[], updates so far
  order: Array  # int32[N], of the current epoch
  next_order: Array  # int32[N], of the next one, filled from both ends
  front: Array  # int32[], the next free place from the front
  back: Array  # int32[], and from the back
  signed_sum: Array  # float[d], of the centred gradients of this epoch
  mean: Array  # float[d], of the gradients of the epoch before
  next_mean: Array  # float[d], of this one's so far


@checked('batch_size', 'like')
def grab(batch_size: int, *, like: PyTree) -> Sampler:
  r"""GraB: epochs in an order whose partial sums of gradients stay close to their mean.

  The first order is a uniform permutation. In every epoch each example's gradient g, in turn, is centred with the
  mean m of the epoch before (0 in the first) and balanced against the signed sum s of those before it,

  $$\varepsilon = \begin{cases} +1 & \lVert s + (g - m) \rVert < \lVert s - (g - m) \rVert \\ -1 & \text{else}
    \end{cases} \qquad s \leftarrow s + \varepsilon (g - m),$$

  and its example takes the next free position of the coming order, from the front if $\varepsilon = +1$, else from the
  back. Batches are consecutive slices, the last one of an epoch padded, as in `reshuffle`; an epoch has ceil(N/B)
  updates. The cost is O(d) for each example in addition to its gradient, and 3d + 2N numbers of state.

  A gradient that is not finite counts as the mean m: its example goes to the back, and the others are unaffected.
  Without an estimator's feedback (`sample` alone) the first order is kept.

  Args:
    batch_size: B, a whole number in [1, N].
    like: a pytree like the parameters (the parameters themselves, or `jax.ShapeDtypeStruct`s); only its shapes and
      dtypes are used, for sums of gradients, which are kept in at least float32.

  Returns:
    A Sampler, for use with an estimator that computes per-example gradients.

  Raises:
    InputError: if an argument is out of range; from `init`, if B is above N; while training, if the estimator does not
      compute per-example gradients, or their size is not that of `like`.

  Source: Y. Lu, W. Guo and C. De Sa, "GraB: finding provably better data permutations than random reshuffling",
  NeurIPS 2022, arXiv 2205.10733, algorithms 4 and 5.
  """
  batch_size = check_count('batch_size', batch_size)
  leaves = jax.tree.leaves(like)
  is_numbers = all(hasattr(leaf, 'dtype') or isinstance(leaf, (int, float)) for leaf in leaves)
  size = sum(math.prod(np.shape(leaf)) for leaf in leaves)
  if not size or not is_numbers:
    raise InputError(f'like must be a pytree like the parameters, with a number in it, got {shown(like)}')

  def updates_per_epoch(num_examples: int) -> int:
    return -(-num_examples // batch_size)

  def init(key: Key, num_examples: int) -> GrabState:
    check_batch_size(batch_size, num_examples)
    order = permutation(key, num_examples).astype(jnp.int32)
    dtype = jnp.result_type(jnp.float32, *(getattr(leaf, 'dtype', float) for leaf in leaves))
    # Arrays of their own: what is in a state twice cannot be donated.
    step, front, back = (jnp.full((), number, jnp.int32) for number in (0, 0, num_examples - 1))
    signed_sum, mean, next_mean = (jnp.zeros(size, dtype) for _ in range(3))
    return GrabState(step, order, jnp.array(order), front, back, signed_sum, mean, next_mean)

  def sample(state: GrabState) -> tuple[Batch, GrabState]:
    update = state.step % updates_per_epoch(state.order.shape[0])
    return next_slice(state.order, update, batch_size), state._replace(step=state.step + 1)

  def update(state: GrabState, batch: Batch, info: EstimateInfo) -> GrabState:
    if info.gradients is None:
      raise InputError(
        'estimator must compute per-example gradients, as gdlab.estimators.per_example() does, for '
        'gdlab.sampling.grab, got one that does not'
      )
    rows = _rows(info.gradients, batch_size).astype(state.mean.dtype)
    if rows.shape[1] != size:
      raise InputError(f'like must have as many numbers as the parameters, {rows.shape[1]}, got {size}')
    state, _ = jax.lax.scan(_balance, state, (batch.indices, batch.weights != 0, rows))
    # `sample` has counted this update already.
    ended = state.step % updates_per_epoch(state.order.shape[0]) == 0
    return cond_any(ended, _turn, state)

  return Sampler(init, sample, updates_per_epoch, update, functools.partial(slice_sizes, batch_size))


def _balance(state: GrabState, slot: tuple[Array, Array, Array]) -> tuple[GrabState, None]:
  """Gives one example, unless it is padding, its position in the next order."""
  index, real, gradient = slot
  num_examples = state.order.shape[0]
  gradient = jnp.where(jnp.all(jnp.isfinite(gradient)), gradient, state.mean)
  centred = gradient - state.mean
  # |s + c| < |s - c| is <s, c> < 0.
  ahead = jnp.vdot(state.signed_sum, centred, precision=jax.lax.Precision.HIGHEST) < 0
  place = jnp.where(ahead, state.front, state.back)
  state = state._replace(
    next_order=state.next_order.at[place].set(jnp.where(real, index, state.next_order[place])),
    front=state.front + (real & ahead),
    back=state.back - (real & ~ahead),
    signed_sum=state.signed_sum + jnp.where(real, jnp.where(ahead, centred, -centred), 0),
    next_mean=state.next_mean + jnp.where(real, gradient / num_examples, 0),
  )
  return state, None


def _turn(state: GrabState) -> GrabState:
  """The state at the beginning of the next epoch."""
  return state._replace(
    order=state.next_order,
    front=jnp.zeros_like(state.front),
    back=jnp.full_like(state.back, state.order.shape[0] - 1),
    signed_sum=jnp.zeros_like(state.signed_sum),
    mean=state.next_mean,
    next_mean=jnp.zeros_like(state.next_mean),
  )


def _rows(gradients: PyTree, batch_size: int) -> Array:
  """Per-example gradients as rows, [B, d]."""
  leaves = jax.tree.leaves(gradients)
  return jnp.concatenate([leaf.reshape(batch_size, math.prod(leaf.shape[1:])) for leaf in leaves], axis=1)
