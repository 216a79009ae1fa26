"""Importance sampling with fixed probabilities: examples drawn more often have smaller weights."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.branching import cond_any
from gdlab.core.errors import InputError, check_count, shown
from gdlab.core.types import Array, Batch, Key, Sampler
from gdlab.sampling.independent import DRAWN_TOGETHER, check_batch_size, uniform_draws

# Folds the coin's key apart from those that `jax.random.randint` splits off the same key.
_COIN = 0x636F696E


class ImportanceState(NamedTuple):
  """State of `importance`: the draws of K updates are made together, the k-th with fold_in(key, k)."""

  key: Key
  step: Array  # int32[]
  thresholds: Array  # float[N], the probability that a draw of i stays i
  aliases: Array  # int32[N], what it becomes otherwise
  weights: Array  # float[N], 1/(N p_i B)
  drawn: Array  # int32[K, B], for this update and those around it


@checked('batch_size', 'probabilities')
def importance(batch_size: int, probabilities: Any) -> Sampler:
  r"""B independent draws, example i with probability $p_i$ and weight $1/(N p_i B)$.

  The estimate $\sum_b w_b \ell_{i_b}$ of the mean loss is unbiased for any p > 0. For per-example gradients $g_i$ with
  mean $\bar g$, the variance of the gradient is

  $$\frac1B \Bigl(\frac1{N^2} \sum_i \frac{\lVert g_i \rVert^2}{p_i} - \lVert \bar g \rVert^2\Bigr),$$

  least for $p_i \propto \lVert g_i \rVert$. With equal probabilities the batches are those of `with_replacement`.
  A draw costs O(1) for any N. An epoch is ceil(N/B) updates by convention.

  Example:
    >>> import jax
    >>> sampler = importance(2, [0.2, 0.4, 0.4])
    >>> batch, _ = sampler.sample(sampler.init(jax.random.key(0), 3))
    >>> batch.weights.shape
    (2,)

  Args:
    batch_size: B, a whole number in [1, N].
    probabilities: float[N], finite and > 0; they are divided by their sum. Data, not a hyperparameter: not traced.

  Returns:
    A Sampler.

  Raises:
    InputError: if an argument is out of range; from `init`, if there are not N probabilities, if B is above N, or if a
      probability is so small that JAX's default float cannot represent it or its weight.

  Source: P. Zhao and T. Zhang, "Stochastic optimization with importance sampling", ICML 2015, arXiv 1401.2753;
  the draw: A. J. Walker, "An efficient method for generating discrete random variables", ACM TOMS 3, 1977.
  """
  batch_size = check_count('batch_size', batch_size)
  scaled = _scaled(probabilities)
  thresholds, aliases = alias_table(scaled)
  together = max(1, DRAWN_TOGETHER // batch_size)

  def init(key: Key, num_examples: int) -> ImportanceState:
    check_batch_size(batch_size, num_examples)
    if len(scaled) != num_examples:
      raise InputError(
        f'probabilities must have one entry for each of the {num_examples} examples, got {len(scaled)}'
      )
    dtype = jnp.result_type(float)
    _check_range(scaled, batch_size, jnp.finfo(dtype))
    return ImportanceState(
      key,
      jnp.zeros((), jnp.int32),
      jnp.asarray(thresholds, dtype),
      jnp.asarray(aliases, jnp.int32),
      jnp.asarray(1 / (scaled * batch_size), dtype),
      jnp.zeros((together, batch_size), jnp.int32),
    )

  def sample(state: ImportanceState) -> tuple[Batch, ImportanceState]:
    number, place = jnp.divmod(state.step, together)
    # A clone: the key-reuse checker counts an operand of `cond` as consumed.
    key = jax.random.clone(state.key)
    drawn = cond_any(place == 0, _draws, state.drawn, key, number, state.thresholds, state.aliases)
    indices = drawn[place]
    return Batch(indices, state.weights[indices]), state._replace(step=state.step + 1, drawn=drawn)

  return Sampler(
    init,
    sample,
    updates_per_epoch=lambda num_examples: -(-num_examples // batch_size),
    sizes=lambda num_examples: (batch_size,),
  )


def _draws(drawn: Array, key: Key, number: Array, thresholds: Array, aliases: Array) -> Array:
  first = uniform_draws(drawn, key, number, thresholds.shape[0])
  coin_key = jax.random.fold_in(jax.random.fold_in(key, number), _COIN)
  # mode='high': a threshold below the 2^-23 of a float32 draw must not be rounded up to it.
  stays = jax.random.bernoulli(coin_key, thresholds[first], mode='high')
  return jnp.where(stays, first, aliases[first])


def alias_table(scaled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Walker's alias table: keep i, drawn uniformly, with probability thresholds[i]; take aliases[i] otherwise.

  Args:
    scaled: float64[N], probabilities times N.

  Returns:
    `(thresholds float64[N], aliases int64[N])`.
  """
  left = scaled.copy()  # what of each example's N p_i has not been given out
  thresholds, aliases = np.ones(len(left)), np.arange(len(left))
  small, large = list(np.flatnonzero(left < 1)), list(np.flatnonzero(left >= 1))
  while small and large:
    poor, rich = small.pop(), large[-1]
    thresholds[poor], aliases[poor] = left[poor], rich
    left[rich] = (left[rich] + left[poor]) - 1  # in the order that rounds least
    if left[rich] < 1:
      small.append(large.pop())
  # Whoever remains has 1 up to rounding, and keeps all of it.
  return thresholds, aliases


def _check_range(scaled: np.ndarray, batch_size: int, floats: Any) -> None:
  """Raises InputError if a threshold or weight would be rounded to zero or infinity."""
  least = max(float(floats.tiny), 1 / (batch_size * float(floats.max)))
  index = int(np.argmin(scaled))
  if scaled[index] < least:
    raise InputError(
      f'probabilities must be at least {least / len(scaled):.3g} of their sum, the least that {floats.dtype} can hold, '
      f'got {scaled[index] / len(scaled):.3g} at index {index}'
    )


def _scaled(probabilities: Any) -> np.ndarray:
  """Probabilities times N, float64[N], with mean 1; exactly 1 each if they are equal."""
  try:
    if np.iscomplexobj(probabilities):
      raise TypeError
    values = np.asarray(probabilities, np.float64)
  except (TypeError, ValueError):
    raise InputError(f'probabilities must be an array of known numbers, got {shown(probabilities)}') from None
  if values.ndim != 1 or not values.size:
    raise InputError(f'probabilities must have shape [N] with N >= 1, got {values.shape}')
  if not (good := np.isfinite(values) & (values > 0)).all():
    index = int(np.argmin(good))
    raise InputError(
      'probabilities must be finite and > 0, because an example that is never drawn would bias the estimate, '
      f'got {values[index]} at index {index}'
    )
  relative = values / values.max()
  return relative * (len(relative) / relative.sum())
