"""Importance sampling with probabilities that follow a score of every example, updated during training."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gdlab.core.arguments import checked
from gdlab.core.dtypes import wide
from gdlab.core.errors import InputError, check_count, check_real, shown
from gdlab.core.types import Array, Batch, EstimateInfo, Key, Sampler
from gdlab.sampling.independent import check_batch_size


class AdaptiveImportanceState(NamedTuple):
  """State of `adaptive_importance`: update t draws with fold_in(key, t)."""

  key: Key
  step: Array  # int32[]
  scores: Array  # float[N] >= 0; 0 where nothing has been seen
  seen: Array  # bool[N]


@checked
def last_loss(info: EstimateInfo) -> Array:
  """A score: the loss of each example of the batch, float[B].

  Raises:
    InputError: if the estimator does not return losses.
  """
  if info.losses is None:
    raise InputError(
      'estimator must return the losses of a batch, as gdlab.estimators.batch_mean() does, for last_loss, '
      'got one that does not'
    )
  return info.losses


@checked
def gradient_norm(info: EstimateInfo) -> Array:
  r"""A score: the norm $\lVert g_i \rVert$ of each example's gradient over all parameters, float[B].

  The variance of the estimate is least with probabilities proportional to it. Computed in at least float32.

  Raises:
    InputError: if the estimator does not compute per-example gradients.
  """
  if info.gradients is None:
    raise InputError(
      'estimator must compute per-example gradients, as gdlab.estimators.per_example() does, for gradient_norm, '
      'got one that does not'
    )

  def squares(leaf: Array) -> Array:
    return jnp.sum(leaf.astype(wide(leaf)) ** 2, axis=tuple(range(1, leaf.ndim)))

  return jnp.sqrt(sum(map(squares, jax.tree.leaves(info.gradients)), start=jnp.float32(0)))


@checked('batch_size', 'score', 'mixing', 'decay')
def adaptive_importance(
  batch_size: int, score: Callable[[EstimateInfo], Array], *, mixing: Any = 0.2, decay: Any = 0.0
) -> Sampler:
  r"""B independent draws with probabilities that follow each example's last score.

  With scores $s_i \ge 0$ and mixing $\gamma$,

  $$p_i = (1 - \gamma) \frac{s_i}{\sum_j s_j} + \frac{\gamma}{N}, \qquad w_i = \frac{1}{N p_i B},$$

  so that weights are at most $1/(\gamma B)$ and, given the scores, the estimate is unbiased. An example not seen yet
  has the mean score of the others; while all scores are 0, draws are uniform. After each update the scores of the
  examples just drawn become $\rho s_i + (1 - \rho) s$, with s the new score (the mean if an example was drawn more
  than once) and $\rho$ the decay; the first score of an example is s. Scores below 0 count as 0; one that is not
  finite is ignored.

  An update costs O(N) additions in addition to its batch; draws are exact to rounding however unequal the scores are.

  Args:
    batch_size: B, a whole number in [1, N].
    score: `(EstimateInfo) -> float[B]`, such as `last_loss` or `gradient_norm`.
    mixing: gamma, in (0, 1]; may be traced.
    decay: rho, in [0, 1): 0 forgets all but the last score; may be traced.

  Returns:
    A Sampler.

  Raises:
    InputError: if an argument is out of range; from `init`, if B is above N; while training, if the estimator does not
      provide what `score` needs.

  Source: A. Katharopoulos and F. Fleuret, "Not all samples are created equal", ICML 2018, arXiv 1803.00942;
  I. Loshchilov and F. Hutter, "Online batch selection", arXiv 1511.06343 (last seen loss).
  """
  batch_size = check_count('batch_size', batch_size)
  if not callable(score):
    raise InputError(f'score must be a function such as gdlab.sampling.last_loss, got {shown(score)}')
  check_real('mixing', mixing, above=0, maximum=1)
  check_real('decay', decay, minimum=0, below=1)

  def init(key: Key, num_examples: int) -> AdaptiveImportanceState:
    check_batch_size(batch_size, num_examples)
    scores = jnp.zeros(num_examples, jnp.result_type(float))
    return AdaptiveImportanceState(key, jnp.zeros((), jnp.int32), scores, jnp.zeros(num_examples, bool))

  def sample(state: AdaptiveImportanceState) -> tuple[Batch, AdaptiveImportanceState]:
    num_examples = state.scores.shape[0]
    probabilities = (1 - mixing) * _shares(state.scores, state.seen) + mixing / num_examples
    indices = draw(jax.random.fold_in(state.key, state.step), probabilities, batch_size)
    weights = 1 / (num_examples * batch_size * probabilities[indices])
    return Batch(indices, weights), state._replace(step=state.step + 1)

  def update(state: AdaptiveImportanceState, batch: Batch, info: EstimateInfo) -> AdaptiveImportanceState:
    new = jnp.asarray(score(info))
    if new.shape != batch.weights.shape:
      raise InputError(f'score must return one number per slot, {batch.weights.shape}, got {new.shape}')
    new = jnp.maximum(new.astype(state.scores.dtype), 0)
    used = jnp.isfinite(new) & (batch.weights != 0)
    times = jnp.zeros_like(state.scores).at[batch.indices].add(used.astype(new.dtype))
    portions = jnp.where(used, new / jnp.maximum(times[batch.indices], 1), 0)
    mean = jnp.zeros_like(state.scores).at[batch.indices].add(portions)
    blended = jnp.where(state.seen, decay * state.scores + (1 - decay) * mean, mean)
    # A decay of float32, as a swept one is, must not widen or narrow the state.
    scores = jnp.where(times > 0, blended, state.scores).astype(state.scores.dtype)
    return state._replace(scores=scores, seen=state.seen | (times > 0))

  return Sampler(
    init,
    sample,
    lambda num_examples: -(-num_examples // batch_size),
    update,
    sizes=lambda num_examples: (batch_size,),
  )


def draw(key: Key, probabilities: Array, count: int) -> Array:
  """`count` independent draws of i with probability proportional to probabilities[i] >= 0, int32[count].

  By descending a binary tree of partial sums, with a random number at each node. The relative error of each branching
  probability, and so of their products, is of the order of rounding. A search in a cumulative sum has an error of 2^-24
  of the total instead, which is large relative to a small probability.

  Args:
    key: randomness.
    probabilities: float[N], not all 0.
    count: the number of draws.
  """
  size = probabilities.shape[0]
  depth = (size - 1).bit_length()
  levels = [jnp.pad(probabilities, (0, 2**depth - size))]
  for _ in range(depth):
    levels.append(jnp.sum(levels[-1].reshape(-1, 2), axis=1))
  # As a heap: node 1 is the root, the children of n are 2n and 2n + 1, and leaf i is 2^depth + i.
  tree = jnp.concatenate([jnp.zeros(1, probabilities.dtype), *reversed(levels)])

  def descend(level: Array, nodes: Array) -> Array:
    left, right = tree[2 * nodes], tree[2 * nodes + 1]
    # The rarer turn is the one drawn: the other's probability near 1 would round it away.
    rarer = jnp.minimum(left, right) / (left + right)
    rare = jax.random.bernoulli(jax.random.fold_in(key, level), rarer, mode='high')
    return 2 * nodes + jnp.where(right < left, rare, ~rare)

  return jax.lax.fori_loop(0, depth, descend, jnp.ones(count, jnp.int32)) - 2**depth


def _shares(scores: Array, seen: Array) -> Array:
  """Each example's share of all scores, float[N]; unseen ones have the mean score; equal shares if all are 0."""
  largest = jnp.max(scores)
  # By the largest first: the sum of finite scores may overflow.
  relative = scores / jnp.where(largest > 0, largest, 1)
  mean = jnp.sum(relative) / jnp.maximum(jnp.sum(seen), 1)
  filled = jnp.where(largest > 0, jnp.where(seen, relative, mean), 1)
  return filled / jnp.sum(filled)
