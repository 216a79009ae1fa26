"""The gradient noise scale, estimated during training from per-example gradients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax.experimental import aggregating

from gdlab.core.argument_checks import at_most_int32
from gdlab.core.arguments import checked
from gdlab.core.dtypes import widened
from gdlab.core.errors import InputError, check_count
from gdlab.core.types import Array, PyTree
from gdlab.transforms.arguments import only_state
from gdlab.transforms.averaging import exponential_weights


class NoiseScaleState(NamedTuple):
  """State of `noise_scale`: running averages, in float32 or wider."""

  step: Array  # int32[], updates made
  gradient_square: Array  # float[], average of the estimates of |G|^2
  covariance_trace: Array  # float[], average of the estimates of tr Sigma


class NoiseScaleEstimate(NamedTuple):
  """The result of `noise_scale_estimate`; NaN before the first update.

  Attributes:
    gradient_square: float[], the estimate of |G|^2 for the true gradient G; unbiased, so it can be negative if noise
      dominates.
    covariance_trace: float[], the estimate of tr Sigma, with Sigma the covariance of one example's gradient.
    scale: float[], tr Sigma / |G|^2, in examples; infinite if the estimate of |G|^2 is not above 0.
  """

  gradient_square: Array
  covariance_trace: Array
  scale: Array


@checked(examples_per_row=at_most_int32)
def noise_scale(decay: Any = 0.99, *, examples_per_row: Any = 1) -> optax.GradientTransformationExtraArgs:
  r"""Reduces per-example gradients to their mean, and estimates $B_\text{simple} = \mathrm{tr}\,\Sigma / |G|^2$.

  Incoming updates have one row per example, leaves [R, ...], as `jax.vmap(jax.grad(loss), (None, 0))` returns them; the
  transform returns the mean over the rows. With S the sum over all parameters of the sample variances of the rows, each
  the mean of m examples,

  $$\mathrm{tr}\,\hat\Sigma = m S, \qquad |\hat G|^2 = |\bar g|^2 - \frac SR$$

  are unbiased; with m > 1 (gradients of micro-batches, which need less memory) they are the two-batch estimates of the
  paper with batches of m and mR. Each is averaged over updates with `exponential_weights(decay)` before the division,
  because the ratio of two noisy numbers is biased. `noise_scale_estimate` reads them. Mean and variance of the rows are
  those of `optax.experimental.aggregating`.

  First in a chain, because the rows end here. All rows have the same weight: leave padding out. With `gdlab.algorithm`
  use `estimator=gdlab.estimators.per_example(stacked=True)`, which passes rows to the optimizer.

  Example:
    >>> import jax.numpy as jnp, optax
    >>> descent = optax.chain(noise_scale(), optax.sgd(0.1))
    >>> rows = jnp.array([[3.0, 1.0], [1.0, 1.0]])  # mean (2, 1), S = 2, |G|^2 = 5 - 2 / 2
    >>> updates, state = descent.update(rows, descent.init(jnp.zeros(2)))
    >>> float(noise_scale_estimate(state).scale)
    0.5

  Args:
    decay: in [0, 1), of the running averages.
    examples_per_row: m >= 1, a whole number.

  Returns:
    A GradientTransformationExtraArgs. A NaN gradient is passed on, and makes the averages NaN permanently.

  Raises:
    InputError: if an argument is out of range; from `update`, if there are fewer than 2 rows or leaves differ in their
      number.

  Source: McCandlish et al. 2018, An empirical model of large-batch training, arXiv 1812.06162, appendix A.1.
  """
  weights = exponential_weights(decay)
  check_count('examples_per_row', examples_per_row, traced=True)
  moments = aggregating.get_per_element_mean_and_sum_sq_diff_grads(per_elt_axis=0)

  def init(params: PyTree) -> NoiseScaleState:
    dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(params))
    # Two arrays, not one: what is in a state twice cannot be donated.
    return NoiseScaleState(jnp.zeros((), jnp.int32), jnp.zeros((), dtype), jnp.zeros((), dtype))

  def update(
    updates: PyTree, state: NoiseScaleState, params: PyTree = None, **extra_args: Any
  ) -> tuple[PyTree, NoiseScaleState]:
    del extra_args
    rows = _count_rows(updates)
    (mean, found), _ = moments.update(widened(updates), optax.EmptyState(), params)
    variance = optax.tree.sum(found['sum_sq_diff_grads']) / (rows - 1)
    gradient_square = optax.tree.norm(mean, squared=True) - variance / rows
    weight = weights(state.step)
    new_state = NoiseScaleState(
      optax.safe_increment(state.step),
      _moved(state.gradient_square, gradient_square, weight),
      _moved(state.covariance_trace, examples_per_row * variance, weight),
    )
    return optax.tree.cast_like(mean, updates), new_state

  return optax.GradientTransformationExtraArgs(init, update)


@checked
def noise_scale_estimate(opt_state: PyTree) -> NoiseScaleEstimate:
  """The estimate of `noise_scale`, from anywhere in an optimizer state.

  Args:
    opt_state: the state of an optimizer with exactly one `noise_scale`.

  Raises:
    InputError: if there is none or more than one.
  """
  state = only_state(opt_state, NoiseScaleState, 'noise_scale')
  square, trace = (
    jnp.where(state.step > 0, x, jnp.nan) for x in (state.gradient_square, state.covariance_trace)
  )
  return NoiseScaleEstimate(square, trace, jnp.where(square <= 0, jnp.inf, trace / square))


def _moved(average: Array, estimate: Array, weight: Array) -> Array:
  return (average + weight * (estimate - average)).astype(average.dtype)


def _count_rows(updates: PyTree) -> int:
  lengths = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(updates)}
  if len(lengths) != 1 or min(lengths) < 2:
    raise InputError(
      'updates must be per-example gradients, every leaf with the same leading axis of at least 2 rows, '
      f'got leading axes {sorted(lengths)} (0: none)'
    )
  return lengths.pop()
