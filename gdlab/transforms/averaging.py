r"""Averages of the iterates as one recursion: Polyak-Ruppert over all, over the tail, exponential.

With weight $w_t \in [0, 1]$, $w_0 = 1$, and $\theta_{t+1}$ the parameters after update t = 0, 1, ...,

$$\bar\theta_{t+1} = \bar\theta_t + w_t (\theta_{t+1} - \bar\theta_t),$$

a convex combination of $\theta_1, ..., \theta_{t+1}$ at every t, without bias towards the initial parameters.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from gdlab.core.argument_checks import at_most_int32, optional, tree
from gdlab.core.arguments import checked
from gdlab.core.dtypes import wide
from gdlab.core.errors import InputError, check_count, check_real, shown
from gdlab.core.types import Array, PyTree
from gdlab.transforms.arguments import only_state

Weights: TypeAlias = Callable[[Array], Array]


class AverageState(NamedTuple):
  """State of `average_iterates`."""

  step: Array  # int32[], updates made
  average: PyTree  # of the parameters, in float32 or wider


@checked(start=at_most_int32)
def uniform_weights(start: Any = 0) -> Weights:
  r"""Equal weights for every iterate from some update on: $w_t = \frac{1}{\max(t - k, 0) + 1}$.

  With k = 0 the Polyak-Ruppert average of all iterates; with k > 0 that of the tail, without the first k (until then
  the average is the current iterate).

  Args:
    start: k >= 0, a whole number: the number of iterates left out at the start.

  Raises:
    InputError: if `start` is out of range.

  Source: Polyak and Juditsky 1992, Acceleration of stochastic approximation by averaging; Rakhlin, Shamir and Sridharan
    2012, arXiv 1109.5647, for the tail.
  """
  check_count('start', start, minimum=0, traced=True)
  # 1 / int32 would be float32 under x64 too.
  return lambda count: 1.0 / (jnp.maximum(count - start, 0) + 1.0)


@checked('decay')
def exponential_weights(decay: Any) -> Weights:
  r"""Iterate s has a weight proportional to $\beta^{t-s}$ after update t: $w_t = \frac{1 - \beta}{1 - \beta^{t+1}}$.

  The debiased exponential moving average.

  Args:
    decay: beta in [0, 1); the average is over about 1 / (1 - beta) iterates.

  Raises:
    InputError: if `decay` is out of range.

  Source: Kingma and Ba 2015, Adam, arXiv 1412.6980, section 3, for the debiasing.
  """
  check_real('decay', decay, minimum=0, below=1)

  # Before a float32 rounds beta: near 1 their difference would have few digits.
  gap = 1.0 - decay

  def weight(count: Array) -> Array:
    # 1 - beta^(t+1) by expm1, for the same reason. 1 at count 0 whatever the rounding.
    share = jnp.asarray(gap, float)
    reached = -jnp.expm1((count + 1.0) * jnp.log1p(-share))
    return jnp.where(count == 0, 1.0, share / reached)

  return weight


@checked('weights')
def average_iterates(weights: Weights | None = None) -> optax.GradientTransformationExtraArgs:
  r"""Averages the parameters after each update and leaves the updates unchanged; last in a chain.

  The average is $\bar\theta_{t+1} = \bar\theta_t + w_t(\theta_{t+1} - \bar\theta_t)$ with
  $\theta_{t+1} = \theta_t + u_t$, in float32 or wider; `averaged_params` reads it. The average of constant iterates is
  exact. In Optax, `optax.ema` averages updates, `optax.incremental_update` averages two trees in your own loop, and
  `optax.contrib.schedule_free` changes where the gradient is evaluated.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> descent = optax.chain(optax.sgd(1.0), average_iterates())
    >>> x, state = jnp.zeros(()), descent.init(jnp.zeros(()))
    >>> for gradient in jnp.array([-1.0, -1.0, -4.0]):  # x = 1, 2, 6
    ...   updates, state = descent.update(gradient, state, x)
    ...   x = optax.apply_updates(x, updates)
    >>> float(averaged_params(state))
    3.0

  Args:
    weights: `(count) -> w`, with 1 at count 0: `uniform_weights(start)` or `exponential_weights(decay)`;
      `uniform_weights()` by default, the Polyak-Ruppert average.

  Returns:
    A GradientTransformationExtraArgs whose `update` needs `params`. A NaN iterate makes the average NaN permanently,
    unless it comes before the start of the tail.

  Raises:
    InputError: if `weights` is not callable; from `update`, without params.

  Source: Polyak and Juditsky 1992; Ruppert 1988.
  """
  weights = uniform_weights() if weights is None else weights
  if not callable(weights):
    raise InputError(f'weights must be a function such as exponential_weights(0.99), got {shown(weights)}')

  def init(params: PyTree) -> AverageState:
    # A copy: an array that is in a state and in the parameters cannot be donated.
    return AverageState(
      jnp.zeros((), jnp.int32), jax.tree.map(lambda leaf: jnp.array(leaf, wide(leaf)), params)
    )

  def update(
    updates: PyTree, state: AverageState, params: PyTree = None, **extra_args: Any
  ) -> tuple[PyTree, AverageState]:
    del extra_args
    if params is None:
      raise InputError(
        'average_iterates needs the parameters: update(updates, state, params), got params None'
      )
    weight = weights(state.step)

    def mean(average: Array, iterate: Array) -> Array:
      iterate = iterate.astype(average.dtype)
      # average + 1 * (iterate - average) would round, and carry a NaN of the average along.
      moved = jnp.where(weight >= 1, iterate, average + weight * (iterate - average))
      return moved.astype(average.dtype)

    average = jax.tree.map(mean, state.average, optax.apply_updates(params, updates))
    return updates, AverageState(optax.safe_increment(state.step), average)

  return optax.GradientTransformationExtraArgs(init, update)


@checked(like=optional(tree()))
def averaged_params(opt_state: PyTree, like: PyTree = None) -> PyTree:
  """The averaged parameters, from anywhere in an optimizer state; before the first update the initial ones.

  Args:
    opt_state: the state of an optimizer with exactly one `average_iterates`. For a `flax.nnx.Optimizer` pass
      `nnx.as_pure(optimizer.opt_state)`.
    like: parameters whose dtypes the average gets; None leaves it in float32 or wider. Parameters excluded from the
      average by `optax.masked` or `optax.partition` are taken from `like`.

  Raises:
    InputError: if there is none or more than one.
  """
  average = only_state(opt_state, AverageState, 'average_iterates').average
  if like is None:
    return average
  is_masked = lambda node: isinstance(node, optax.MaskedNode)
  try:
    return jax.tree.map(
      lambda mean, own: own if is_masked(mean) else mean.astype(own.dtype), average, like, is_leaf=is_masked
    )
  except ValueError:
    raise InputError(f'like must be a pytree like the parameters averaged, got {shown(like)}') from None
