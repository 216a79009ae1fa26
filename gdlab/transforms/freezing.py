"""An optimizer that stops permanently at the first gradient that is not finite."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdlab.core.arguments import checked
from gdlab.core.errors import check_transformation
from gdlab.core.types import Array, PyTree
from gdlab.transforms.arguments import only_state


class FreezeState(NamedTuple):
  """State of `freeze_non_finite`."""

  frozen: Array  # bool[]
  step: Array  # int32[], updates made before it froze
  inner: PyTree  # the inner transformation's state


class FreezeStatus(NamedTuple):
  """The result of `freeze_status`.

  Attributes:
    frozen: bool[], whether the optimizer has stopped.
    updates: int32[], the number of updates made before.
  """

  frozen: Array
  updates: Array


@checked('inner')
def freeze_non_finite(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
  """Stops an optimizer permanently at the first gradient with a NaN or infinity.

  From that update on (or the first at which `inner` returns such an update), every update is zero and the inner state,
  including momentum and counts, does not change. The last finite parameters can thus be inspected, and other lanes of a
  vmap continue; `freeze_status` reports it.

  Optax's `apply_if_finite` skips such gradients, and applies the NaN after `max_consecutive_errors` of them;
  `optax.zero_nans` replaces NaN by 0 and keeps infinities. A skipped step hides a divergence; a frozen one dates it.

  Example:
    >>> import jax.numpy as jnp, optax
    >>> descent = freeze_non_finite(optax.adam(0.1))
    >>> state = descent.init(jnp.zeros(2))
    >>> for gradient in (jnp.ones(2), jnp.array([1.0, jnp.nan]), jnp.ones(2)):
    ...   updates, state = descent.update(gradient, state)
    >>> updates.tolist(), freeze_status(state).updates.item()
    ([0.0, 0.0], 1)

  Args:
    inner: any Optax gradient transformation, usually the whole chain; extra arguments are passed on to it.

  Returns:
    A GradientTransformationExtraArgs.

  Raises:
    InputError: if `inner` is not a gradient transformation.

  Source: `optax.apply_if_finite`, made permanent.
  """
  transformation = optax.with_extra_args_support(check_transformation('inner', inner))

  def init(params: PyTree) -> FreezeState:
    return FreezeState(jnp.zeros((), bool), jnp.zeros((), jnp.int32), transformation.init(params))

  def update(
    updates: PyTree, state: FreezeState, params: PyTree = None, **extra_args: Any
  ) -> tuple[PyTree, FreezeState]:
    moved, moved_inner = transformation.update(updates, state.inner, params, **extra_args)
    good = ~state.frozen & _all_finite(updates) & _all_finite(moved)
    updates = jax.tree.map(lambda u: jnp.where(good, u, jnp.zeros_like(u)), moved)
    inner_state = jax.tree.map(lambda new, old: _select(good, new, old), moved_inner, state.inner)
    count = jnp.where(good, optax.safe_increment(state.step), state.step)
    return updates, FreezeState(~good, count, inner_state)

  return optax.GradientTransformationExtraArgs(init, update)


@checked
def freeze_status(opt_state: PyTree) -> FreezeStatus:
  """Whether, and after how many updates, the `freeze_non_finite` in an optimizer state has stopped.

  Args:
    opt_state: the state of an optimizer with exactly one `freeze_non_finite`.

  Raises:
    InputError: if there is none or more than one.
  """
  state = only_state(opt_state, FreezeState, 'freeze_non_finite')
  return FreezeStatus(state.frozen, state.step)


def _all_finite(tree: PyTree) -> Array:
  good = jnp.ones((), bool)
  for leaf in jax.tree.leaves(tree):
    good &= jnp.all(jnp.isfinite(leaf))
  return good


def _select(good: Array, new: Array, old: Array) -> Array:
  if not jnp.issubdtype(old.dtype, jax.dtypes.prng_key):
    return jnp.where(good, new, old)
  # By their words: the key-reuse checker counts a selected key as consumed.
  words = jnp.where(good, jax.random.key_data(new), jax.random.key_data(old))
  return jax.random.wrap_key_data(words, impl=jax.random.key_impl(old))
