"""Sampling from a stream: only what has arrived can be drawn."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gdlab.core.argument_checks import count, optional
from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, shown
from gdlab.core.types import Array, Batch, Key, Sampler
from gdlab.sampling.independent import check_batch_size
from gdlab.sampling.subsets import subset


class StreamState(NamedTuple):
  """State of `stream`: update t draws with fold_in(key, t)."""

  key: Key
  step: Array  # int32[]
  num_examples: Array  # int32[]


@checked('batch_size', window=optional(count()), arrivals_per_step=optional(count()))
def stream(batch_size: int, *, window: Any = None, arrivals_per_step: Any = None) -> Sampler:
  r"""B distinct examples drawn uniformly at every update from those that have arrived, or from the last W of them.

  Examples arrive in the data's order, A before every update: before update t = 0, 1, ... of a pass
  $a_t = \min((t+1)A, N)$ have arrived, and the batch is a uniform subset of the last $\min(a_t, W)$ of them. After
  ceil(N/A) updates all have arrived, and the stream restarts with none. The estimate is unbiased for the mean loss
  over the window, not over all data: a short window follows a drifting source, a long one averages more noise away.
  While the window has fewer than B examples, all of them are taken and the other slots are padding.

  For the newest examples only, each once and in order, use `sequential(B)`. A draw costs O(B^2).

  Args:
    batch_size: B, a whole number in [1, N].
    window: W, a whole number >= B; by default everything that has arrived; may be traced.
    arrivals_per_step: A, a whole number >= 1; B by default; may be traced.

  Returns:
    A Sampler.

  Raises:
    InputError: if an argument is out of range; from `init`, if `batch_size` is above N; from `updates_per_epoch`, if
      `arrivals_per_step` is traced.

  Source: Gama, Zliobaite, Bifet, Pechenizkiy and Bouchachia 2014, A survey on concept drift adaptation, ACM Computing
  Surveys 46 (sliding windows).
  """
  batch_size = check_count('batch_size', batch_size)
  arrivals: Any = batch_size
  if arrivals_per_step is not None:
    arrivals = check_count('arrivals_per_step', arrivals_per_step, traced=True)
  if window is not None:
    window = check_count('window', window, minimum=batch_size, traced=True)

  def updates_per_epoch(num_examples: int) -> int:
    if isinstance(arrivals, jax.core.Tracer):
      raise InputError(
        f'arrivals_per_step must be a known number for updates_per_epoch, got {shown(arrivals)}'
      )
    return -(-num_examples // int(arrivals))

  def init(key: Key, num_examples: int) -> StreamState:
    check_batch_size(batch_size, num_examples)
    return StreamState(key, jnp.zeros((), jnp.int32), jnp.asarray(num_examples, jnp.int32))

  def sample(state: StreamState) -> tuple[Batch, StreamState]:
    each = jnp.asarray(arrivals, jnp.int32)
    update = state.step % -(-state.num_examples // each)
    arrived = jnp.minimum((update + 1) * each, state.num_examples)
    available = arrived if window is None else jnp.minimum(arrived, jnp.asarray(window, jnp.int32))
    count = jnp.minimum(available, batch_size)
    chosen = subset(jax.random.fold_in(state.key, state.step), available, count, batch_size)
    indices = arrived - available + jnp.maximum(chosen, 0)
    weights = jnp.where(chosen >= 0, 1 / count.astype(jnp.result_type(float)), 0)
    return Batch(indices, weights), state._replace(step=state.step + 1)

  return Sampler(init, sample, updates_per_epoch)
