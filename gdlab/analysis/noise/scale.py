"""The simple noise scale from a sample: per-example gradients, or batches of two sizes, with intervals."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdlab.analysis.gradients import ExampleLoss, example_loss, mean_gradient
from gdlab.analysis.noise.intervals import ratio_interval, student_quantile
from gdlab.core.argument_checks import array
from gdlab.core.arguments import checked
from gdlab.core.dtypes import widened
from gdlab.core.errors import InputError, check_count
from gdlab.core.objective import batch_loss
from gdlab.core.types import Array, Batch, Key, Problem, PyTree


class SampledNoiseScale(NamedTuple):
  """An estimate of B_simple = tr Sigma / |G|^2 and of its parts.

  Attributes:
    covariance_trace: float[], tr Sigma, unbiased.
    covariance_trace_error: its standard error.
    gradient_square: float[], |G|^2, unbiased, so that it can be below 0 where noise dominates.
    gradient_square_error: its standard error.
    scale: float[], their ratio, in examples; infinite where the estimate of |G|^2 is not above 0, and negative where
      that of tr Sigma is. Biased, like any ratio of two noisy numbers.
    low: lower end of the ratio's interval.
    high: upper end, infinite where |G|^2 does not differ from 0 significantly.
  """

  covariance_trace: Array
  covariance_trace_error: Array
  gradient_square: Array
  gradient_square_error: Array
  scale: Array
  low: Array
  high: Array


@checked('num_examples', 'block_size')
def sampled_noise_scale(
  problem: Problem,
  params: PyTree,
  model_state: PyTree,
  key: Key,
  *,
  num_examples: int = 256,
  block_size: int = 64,
  confidence: float = 0.95,
) -> SampledNoiseScale:
  r"""The simple noise scale from the gradients of n training examples drawn with replacement.

  With their mean $\bar g$ and $S = \frac1{n-1} \sum_i |g_i - \bar g|^2$,

  $$\operatorname{tr}\hat\Sigma = S, \qquad |\hat G|^2 = |\bar g|^2 - \frac Sn$$

  are unbiased for the training set's $\operatorname{tr}\Sigma$ and $|G|^2$. Their covariance is the jackknife's (leave
  one example out, in closed form). It is conservative: the variance of $|\hat G|^2$ is up to 2 times too large where n
  is far below the noise scale (Efron and Stein 1981). The interval is Fieller's with Student's quantile. Costs 2 n / N
  gradient-equivalents, and memory of `block_size` copies of the parameters. As a probe:
  `lambda problem, state: sampled_noise_scale(problem, state.params, state.model_state, state.key).scale`.

  Args:
    problem: whose training examples and loss are used.
    params: the parameters theta.
    model_state: the model's other state, `()` if it has none; it is not advanced.
    key: for the draw of the examples, and the randomness of the forward pass.
    num_examples: n >= 3, static under jit.
    block_size: examples at once, >= 1, static under jit.
    confidence: of the interval, in (0, 1), static under jit.

  Raises:
    InputError: an argument out of range.

  Source: McCandlish et al. 2018, An empirical model of large-batch training, arXiv 1812.06162, appendix A.1.
  """
  n = check_count('num_examples', num_examples, minimum=3)
  check_count('block_size', block_size)
  draw_key, loss_key = jax.random.split(key)
  indices = jax.random.randint(draw_key, (n,), 0, problem.num_examples)
  loss = example_loss(problem, model_state, loss_key)
  return from_sample(loss, params, indices, min(block_size, n), student_quantile(confidence, n - 1))


def from_sample(
  loss: ExampleLoss, params: PyTree, indices: Array, block_size: int, quantile: float
) -> SampledNoiseScale:
  """The estimate of `sampled_noise_scale` from the examples at indices int[n]."""
  n = indices.shape[0]
  mean = mean_gradient(loss, params, indices, block_size)

  def about_mean(index: Array) -> tuple[Array, Array]:
    apart = optax.tree.sub(widened(jax.grad(loss)(params, index)), mean)
    return optax.tree.norm(apart, squared=True), optax.tree.vdot(apart, mean)

  distances, along = jax.lax.map(about_mean, indices, batch_size=block_size)
  total, square = jnp.sum(distances), optax.tree.norm(mean, squared=True)
  trace = total / (n - 1)

  # What either estimate is without example i; the mean moves by -(g_i - mean) / (n - 1).
  traces = (total - distances * (n / (n - 1))) / (n - 2)
  squares = square - 2 * along / (n - 1) + distances / (n - 1) ** 2 - traces / (n - 1)
  left_out = jnp.stack([traces, squares])
  left_out = left_out - jnp.mean(left_out, axis=1, keepdims=True)
  covariance = (n - 1) / n * (left_out @ left_out.T)
  return _estimate(trace, square - trace / n, covariance, quantile)


@checked('num_pairs')
def two_batch_squares(
  problem: Problem,
  params: PyTree,
  model_state: PyTree,
  key: Key,
  *,
  small_size: int,
  large_size: int,
  num_pairs: int,
) -> tuple[Array, Array]:
  r"""Squared norms of the gradients of pairs of batches, one small and one large, all drawn with replacement.

  For `two_batch_noise_scale`. Each gradient is that of one batch as a whole, so BatchNorm acts as in training, and the
  variance includes that of the batch statistics. Costs
  `num_pairs * (small_size + large_size) / N` gradient-equivalents and the memory of one large batch.

  Args:
    problem: whose training examples and loss are used.
    params: the parameters theta.
    model_state: the model's other state, `()` if it has none; it is not advanced.
    key: for the draw of the batches, and the randomness of the forward pass.
    small_size: B_s >= 1, static under jit, like the other counts.
    large_size: B_b > B_s.
    num_pairs: K >= 1.

  Returns:
    `(small float[K], large float[K])`.

  Raises:
    InputError: an argument out of range.
  """
  _check_sizes(small_size, large_size)
  check_count('num_pairs', num_pairs)

  def square(key: Key, size: int) -> Array:
    draw_key, loss_key = jax.random.split(key)
    batch = Batch(jax.random.randint(draw_key, (size,), 0, problem.num_examples), jnp.full((size,), 1 / size))
    gradient = jax.grad(lambda p: batch_loss(problem, p, model_state, batch, loss_key)[0])(params)
    return optax.tree.norm(widened(gradient), squared=True)

  def pair(number: Array) -> tuple[Array, Array]:
    small_key, large_key = jax.random.split(jax.random.fold_in(key, number))
    return square(small_key, small_size), square(large_key, large_size)

  return jax.lax.map(pair, jnp.arange(num_pairs))


@checked(
  small_squares=array(finite=False, minimum=0, empty=True),
  large_squares=array(finite=False, minimum=0, empty=True),
)
def two_batch_noise_scale(
  small_squares: Array, large_squares: Array, small_size: int, large_size: int, *, confidence: float = 0.95
) -> SampledNoiseScale:
  r"""The simple noise scale from the squared gradient norms of batches of two sizes.

  $$|\hat G|^2 = \frac{B_b |g_b|^2 - B_s |g_s|^2}{B_b - B_s}, \qquad
  \operatorname{tr}\hat\Sigma = \frac{|g_s|^2 - |g_b|^2}{1/B_s - 1/B_b}$$

  are unbiased for batches drawn with replacement; each is averaged over the K pairs before the division. The large
  batch of a pair may contain the small one (in data-parallel training: the mean over devices, and one of them). Pairs
  are assumed to be independent. Costs nothing in a training loop that computes the norms anyway.

  The interval is Fieller's with Student's quantile, which assumes that the means over pairs are Gaussian. With few
  pairs and heavy-tailed gradients they are not, and coverage is too low: 91.5 % instead of 95 % for noise of Student's
  distribution with 4 degrees of freedom. More pairs improve it.

  Example:
    >>> import jax.numpy as jnp
    >>> found = two_batch_noise_scale(jnp.array([5.0, 7.0, 6.0]), jnp.array([3.0, 3.0, 3.0]), 1, 4)
    >>> float(found.gradient_square), float(found.covariance_trace), float(found.scale)
    (2.0, 4.0, 2.0)

  Args:
    small_squares: float[K], K >= 2, squared norms of gradients of small batches.
    large_squares: float[K], of large batches.
    small_size: B_s >= 1, a whole number.
    large_size: B_b > B_s.
    confidence: of the interval, in (0, 1), static under jit.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: McCandlish et al. 2018, An empirical model of large-batch training, arXiv 1812.06162, appendix A.1.
  """
  _check_sizes(small_size, large_size)
  small, large = jnp.asarray(small_squares), jnp.asarray(large_squares)
  if small.ndim != 1 or small.shape != large.shape or small.shape[0] < 2:
    raise InputError(
      f'small_squares and large_squares must have the same shape [K], K >= 2, got {small.shape} and {large.shape}'
    )
  count = small.shape[0]
  quantile = student_quantile(confidence, count - 1)
  traces = (small - large) / (1 / small_size - 1 / large_size)
  squares = (large_size * large - small_size * small) / (large_size - small_size)
  found = jnp.stack([traces, squares])
  means = jnp.mean(found, axis=1)
  apart = found - means[:, None]
  covariance = apart @ apart.T / (count * (count - 1))
  return _estimate(means[0], means[1], covariance, quantile)


def _estimate(trace: Array, square: Array, covariance: Array, quantile: float) -> SampledNoiseScale:
  errors = jnp.sqrt(jnp.diagonal(covariance))
  scale = jnp.where(square > 0, trace / jnp.where(square > 0, square, 1), jnp.inf)
  low, high = ratio_interval(trace, square, covariance, quantile)
  return SampledNoiseScale(trace, errors[0], square, errors[1], scale, low, high)


def _check_sizes(small_size: int, large_size: int) -> None:
  small_size = check_count('small_size', small_size)
  check_count('large_size', large_size, minimum=small_size + 1)
