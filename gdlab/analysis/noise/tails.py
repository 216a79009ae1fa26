"""How heavy the tails of gradient noise are: Hill's index, and the index of a stable law."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from gdlab.analysis.gradients import example_loss, mean_gradient
from gdlab.core.arguments import checked
from gdlab.core.dtypes import widened
from gdlab.core.errors import InputError, check_count
from gdlab.core.types import Array, Key, Problem, PyTree


class TailIndex(NamedTuple):
  """A tail index alpha; the smaller, the heavier the tail.

  Attributes:
    alpha: float[...], the index.
    standard_error: float[...], its standard error.
  """

  alpha: Array
  standard_error: Array


@checked('num_tail')
def hill_index(values: Array, *, num_tail: int) -> TailIndex:
  r"""Hill's estimate of the alpha in $P(X > x) \sim x^{-\alpha}$, from the largest of a sample.

  $$\hat\alpha = \Big( \frac1k \sum_{i \le k} \log \frac{X_{(i)}}{X_{(k+1)}} \Big)^{-1},
  \qquad \text{standard error } \hat\alpha / \sqrt k,$$

  For a Pareto law the inverse of the estimate is unbiased. For other laws it is biased, the more so the larger k is,
  and a light tail gives a large number, not infinity: compare several k. Costs one sort.

  Args:
    values: float[n, ...], a sample, n along the first axis; its largest k + 1 values must be above 0. For noise, take
      absolute values or norms.
    num_tail: k, in [2, n - 1], static under jit.

  Returns:
    TailIndex of shape [...]; NaN where one of the k + 1 largest values is not above 0, infinite where they are equal.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Hill 1975, A simple general approach to inference about the tail of a distribution, Annals of Statistics 3.
  """
  values = jnp.asarray(values)
  if values.ndim < 1 or values.shape[0] < 3:
    raise InputError(f'values must have the shape [n, ...], n >= 3, got {values.shape}')
  k = check_count('num_tail', num_tail, minimum=2, maximum=values.shape[0] - 1)
  largest = jnp.sort(values, axis=0, descending=True)[: k + 1]
  logs = jnp.where(largest > 0, jnp.log(jnp.where(largest > 0, largest, 1)), jnp.nan)
  index = 1 / jnp.mean(logs[:k] - logs[k:], axis=0)
  return TailIndex(index, index / math.sqrt(k))


@checked('group_size')
def stable_index(values: Array, *, group_size: int) -> TailIndex:
  r"""The alpha of a symmetric alpha-stable law, from sums over groups: 2 for a Gaussian one, less for heavier tails.

  The sum of m independent values of such a law is distributed as $m^{1/\alpha}$ times one of them, so

  $$\widehat{1/\alpha} = \frac1{\log m} \Big( \frac1{K} \sum_{k \le K} \log |Y_k| - \frac1{Km} \sum_i \log |X_i| \Big)$$

  with the sums $Y_k$ of K groups of m. It is unbiased for a stable law centred at 0, whatever its scale; the standard
  error is that over groups, propagated to alpha. For other laws it says how far sums of m are from the Gaussian limit,
  and little about the tail: for any law of finite variance it tends to 2 as m grows, and asymmetry changes it. A
  mixture of values of several scales looks heavy-tailed; keep each scale in its own column. An estimate can exceed 2.

  Args:
    values: float[n, ...], independent draws along the first axis, each column of one law; none exactly 0. Values beyond
      the last whole group are not used.
    group_size: m >= 2 with at least 2 groups, static under jit; usually about sqrt(n).

  Returns:
    TailIndex of shape [...]; NaN where a value is 0.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Mohammadi, Mohammadpour and Ogata 2015, On estimating the tail index and the spectral measure of multivariate
  alpha-stable distributions, Metrika 78; Simsekli, Sagun and Gurbuzbalaban 2019, A tail-index analysis of stochastic
  gradient noise in deep neural networks, arXiv 1901.06053.
  """
  values = jnp.asarray(values)
  if values.ndim < 1 or values.shape[0] < 4:
    raise InputError(f'values must have the shape [n, ...], n >= 4, got {values.shape}')
  size = check_count('group_size', group_size, minimum=2, maximum=values.shape[0] // 2)
  count = values.shape[0] // size
  groups = values[: count * size].reshape(count, size, *values.shape[1:])
  growth = _log_size(jnp.sum(groups, axis=1)) - jnp.mean(_log_size(groups), axis=1)
  return _from_growth(growth, size)


class NoiseTails(NamedTuple):
  """The tails of the gradient noise at a point.

  Attributes:
    stable: TailIndex of the stable law, over all parameters whose gradient has noise; NaN if there are none.
    hill: TailIndex of the noise's Euclidean norm.
    norms: float[n], the norms of the n draws, for `hill_index` with another `num_tail`, or for a plot.
  """

  stable: TailIndex
  hill: TailIndex
  norms: Array


@checked('batch_size', 'num_groups', 'group_size', 'num_tail', 'block_size')
def noise_tails(
  problem: Problem,
  params: PyTree,
  model_state: PyTree,
  key: Key,
  *,
  batch_size: int = 1,
  num_groups: int = 32,
  group_size: int = 32,
  num_tail: int | None = None,
  block_size: int = 64,
) -> NoiseTails:
  r"""Tail indices of the gradient noise of batches drawn with replacement.

  The noise is the gradient of a batch minus that of the whole training set. The index of the stable law is estimated
  parameter by parameter from repeated batches, each parameter on its own scale; 1/alpha is then averaged over
  parameters, with the standard error over independent groups of batches. (Taking the parameters themselves as the
  sample, as Simsekli et al. do, mixes scales: Gaussian noise of unequal variances then looks heavy-tailed, see Xie
  et al. 2021.) The noise of N examples is bounded, so the indices describe only the range that the draws reach. Noise
  of a batch of B > 1 is closer to Gaussian than that of one example.

  Costs 1 + `num_groups * group_size * batch_size / N` gradient-equivalents and the memory of `block_size` copies of
  the parameters or one batch. As a probe:
  `lambda problem, state: noise_tails(problem, state.params, state.model_state, state.key).stable.alpha`.

  Args:
    problem: whose training examples and loss are used.
    params: the parameters theta.
    model_state: the model's other state, `()` if it has none; it is not advanced.
    key: for the draw of the batches, and the randomness of the forward pass.
    batch_size: B >= 1, static under jit, like the other counts.
    num_groups: K >= 2.
    group_size: m >= 2.
    num_tail: k in [2, K m - 1] of `hill_index`; None for a tenth of the draws.
    block_size: examples at once in the computation of gradients, >= 1.

  Raises:
    InputError: an argument out of range.

  Source: Mohammadi et al. 2015, Metrika 78; Simsekli et al. 2019, arXiv 1901.06053; Hill 1975; Xie, Sato and Sugiyama
  2021, A diffusion theory for deep learning dynamics, arXiv 2002.03495.
  """
  check_count('batch_size', batch_size)
  check_count('num_groups', num_groups, minimum=2)
  check_count('group_size', group_size, minimum=2)
  block_size = min(check_count('block_size', block_size), problem.num_examples)
  num_draws = num_groups * group_size
  num_tail = max(2, num_draws // 10) if num_tail is None else num_tail
  check_count('num_tail', num_tail, minimum=2, maximum=num_draws - 1)
  draw_key, loss_key = jax.random.split(key)
  loss = example_loss(problem, model_state, loss_key)
  mean = mean_gradient(loss, params, jnp.arange(problem.num_examples), block_size)

  def noise(number: Array) -> PyTree:
    key = jax.random.fold_in(draw_key, number)
    indices = jax.random.randint(key, (batch_size,), 0, problem.num_examples)
    gradient = mean_gradient(loss, params, indices, min(block_size, batch_size))
    return optax.tree.sub(gradient, mean)

  def draw(so_far: tuple[PyTree, PyTree], number: Array) -> tuple[tuple[PyTree, PyTree], Array]:
    total, logs = so_far
    found = noise(number)
    total = optax.tree.add(total, found)
    logs = jax.tree.map(lambda so_far, leaf: so_far + _log_size(leaf), logs, found)
    return (total, logs), optax.tree.norm(found)

  def group(numbers: Array) -> tuple[Array, Array]:
    zeros = jax.tree.map(jnp.zeros_like, widened(params))
    (total, logs), norms = jax.lax.scan(draw, (zeros, zeros), numbers)
    growth = jax.tree.map(lambda total, logs: _log_size(total) - logs / group_size, total, logs)
    return jnp.nanmean(ravel_pytree(growth)[0]), norms

  growth, norms = jax.lax.map(group, jnp.arange(num_draws).reshape(num_groups, group_size))
  norms = norms.reshape(-1)
  return NoiseTails(_from_growth(growth, group_size), hill_index(norms, num_tail=num_tail), norms)


def _log_size(values: Array) -> Array:
  """The logarithm of |x|, NaN at 0."""
  return jnp.where(values == 0, jnp.nan, jnp.log(jnp.abs(jnp.where(values == 0, 1, values))))


def _from_growth(growth: Array, size: int) -> TailIndex:
  """The index from log |sum| - mean log |term| of every group, float[K, ...]."""
  log_size = math.log(size)
  inverse = jnp.mean(growth, axis=0) / log_size
  error = jnp.std(growth, axis=0, ddof=1) / (math.sqrt(growth.shape[0]) * log_size)
  index = 1 / inverse
  return TailIndex(index, index**2 * error)
