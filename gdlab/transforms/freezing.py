"""An optimizer that stops for good at the first gradient that is not finite."""

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
  """What `freeze_status` returns.

  Attributes:
    frozen: bool[], whether the parameters have stopped moving.
    updates: int32[], updates made until then.
  """

  frozen: Array
  updates: Array


@checked('inner')
def freeze_non_finite(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
  """Stops an optimizer for good at the first gradient with a NaN or infinity in it.

  From that update on (or from the first where the inner transformation makes such an update of a finite gradient) every
  update is zero and the inner state stays as it was before, momentum and counts included. So the last parameters
  reached in good order are kept and can be looked at, and other lanes of a vmap go on; `freeze_status` tells.

  Optax's `apply_if_finite` skips such gradients and goes on, and after `max_consecutive_errors` of them applies the
  NaN; `optax.zero_nans` puts 0 for NaN and keeps infinities. A skipped step hides a divergence; a frozen one dates it.

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
    InputError: if `inner` is not one.

  Source: `optax.apply_if_finite`, but for good.
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
  """Whether, and after how many updates, `freeze_non_finite` anywhere in an optimizer state has stopped.

  Args:
    opt_state: of an optimizer with exactly one `freeze_non_finite` in it.

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
  # By their words: JAX's checker of key reuse takes a selected key for a used one.
  words = jnp.where(good, jax.random.key_data(new), jax.random.key_data(old))
  return jax.random.wrap_key_data(words, impl=jax.random.key_impl(old))
