"""Optax's optimizers in `gdlab.algorithm`: their extra arguments, and the parameters at which to evaluate them."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gdlab.core.errors import InputError, check_transformation, shown
from gdlab.core.objective import ascent
from gdlab.core.types import PyTree


class SlowParams(NamedTuple):
  """The state of `optax.lookahead`, and its slow parameters, which Optax leaves to the loop."""

  lookahead: optax.LookaheadState
  slow: PyTree


def fitted(optimizer: Any) -> optax.GradientTransformationExtraArgs:
  """The optimizer for plain parameters and any extra arguments; it gets those that its `update` takes.

  The slow parameters of `optax.lookahead` are kept in the state. The `grad_fn` that `optax.contrib.sam` needs with
  `opaque_mode` is derived from `value_fn`.

  Raises:
    InputError: if it is not a transformation whose `update` takes three arguments; from `init`, if lookahead is inside
      another transformation, draws random numbers, or schedule-free has b1 = 0; from `update`, if a part refuses extra
      arguments.
  """
  check_transformation('optimizer', optimizer)
  takes = _takes(optimizer.update)
  try:
    inspect.signature(optimizer.update).bind_partial(None, None, None)
  except TypeError:
    raise InputError(
      f'optimizer.update must take (updates, state, params=None), got {inspect.signature(optimizer.update)}'
    ) from None

  def init(params: PyTree) -> PyTree:
    # Lookahead warns of parameters that are not of its own kind.
    is_lookahead = getattr(optimizer.init, '__qualname__', '').startswith('lookahead.')
    state = optimizer.init(optax.LookaheadParams.init_synced(params) if is_lookahead else params)
    for found in _nodes(state, optax.contrib.ScheduleFreeState):
      if not isinstance(found.b1, jax.core.Tracer) and float(found.b1) == 0:
        raise InputError(
          'optimizer must have b1 > 0 for schedule-free, which keeps no average otherwise, got b1=0'
        )
    if isinstance(state, optax.LookaheadState):
      if any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state)):
        raise InputError(
          "optimizer must draw random numbers outside of optax.lookahead, which does not pass on the run's key: its "
          'noise would be the same for all seeds'
        )
      # Copies: an array that is in a state and in the parameters cannot be donated.
      return SlowParams(state, jax.tree.map(jnp.array, params))
    if _nodes(state, optax.LookaheadState):
      raise InputError(
        'optimizer must have optax.lookahead around all else, because it updates fast and slow parameters: give '
        'optax.lookahead(optax.chain(...), ...), got one inside another transformation'
      )
    return state

  def update(updates: PyTree, state: PyTree, params: PyTree, **extra_args: Any) -> tuple[PyTree, PyTree]:
    if 'grad_fn' in takes:
      extra_args['grad_fn'] = lambda at, number: ascent(jax.grad(extra_args['value_fn'])(at))
    given = {name: value for name, value in extra_args.items() if _ANY in takes or name in takes}
    if isinstance(state, SlowParams):
      both = optax.LookaheadParams(params, state.slow)
      moved, inner = optimizer.update(updates, state.lookahead, both, **given)
      return moved.fast, SlowParams(inner, optax.apply_updates(state.slow, moved.slow))
    try:
      return optimizer.update(updates, state, params, **given)
    except TypeError as error:
      if 'unexpected keyword argument' not in str(error):
        raise
      raise InputError(
        f'optimizer must consist of transformations that take or ignore extra arguments, and {error}: use that one '
        'alone, with the others as its inner optimizer'
      ) from None

  return optax.GradientTransformationExtraArgs(init, update)


def evaluation_params(state: PyTree, params: PyTree) -> PyTree:
  """The parameters at which an optimizer is to be evaluated, from its state; by default the parameters themselves.

  For schedule-free methods the average x (gradients are taken at y); for lookahead the slow parameters; for SAM the
  unperturbed ones.
  """
  if isinstance(state, SlowParams):
    return state.slow
  if isinstance(state, optax.contrib.SAMState) and state.cache is not None:
    # Between its steps it stands at the perturbed point, and has the one that counts in its cache.
    synced = state.steps_since_sync == 0
    return jax.tree.map(lambda own, cached: jnp.where(synced, own, cached), params, state.cache)
  is_masked = lambda node: isinstance(node, optax.MaskedNode)
  for found in _nodes(state, optax.contrib.ScheduleFreeState):

    def average(z: Any, y: Any, found: Any = found) -> Any:
      # What `optax.masked` or `optax.partition` keeps from this optimizer is its own average.
      x = y if is_masked(z) else optax.contrib.schedule_free_eval_params(found._replace(z=z), y)
      return jnp.asarray(x, jnp.result_type(y))

    params = jax.tree.map(average, found.z, params, is_leaf=is_masked)
  return params


def check_like(name: str, found: PyTree, params: PyTree) -> PyTree:
  """Returns `found` if it has the structure and shapes of the parameters; raises InputError if not."""
  got, wanted = (jax.tree.map(jnp.shape, tree) for tree in (found, params))
  if got != wanted:
    raise InputError(
      f"{name} must give parameters of the problem's structure and shapes, {shown(wanted)}, got {shown(got)}"
    )
  return found


def check_params(params: PyTree, own: PyTree) -> PyTree:
  """Returns initial parameters if they are finite and like the problem's own; raises InputError if not."""
  check_like('params', params, own)
  for path, leaf in jax.tree.leaves_with_path(params):
    name = f'params{jax.tree_util.keystr(path)}'
    if isinstance(leaf, np.ma.MaskedArray):
      raise InputError(f'{name} must be a plain array, got a masked one')
    if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
      raise InputError(f'{name} must be floats, got {jnp.result_type(leaf)}')
    if isinstance(leaf, np.ndarray):
      with np.errstate(over='ignore'):
        finite = np.isfinite(leaf.astype(jnp.result_type(leaf)))  # as JAX will hold it
      if not finite.all():
        raise InputError(f'{name} must be finite, got {leaf[~finite][0]}')
  return params


def _nodes(state: PyTree, kind: type) -> list[Any]:
  """The nodes of a type anywhere in an optimizer's state."""
  is_kind = lambda node: isinstance(node, kind)
  return [node for node in jax.tree.leaves(state, is_leaf=is_kind) if is_kind(node)]


_ANY = '**'  # stands for all names among a function's parameters


def _takes(update: Callable) -> set[str]:
  """The names of the arguments that an update function can be given."""
  kinds = inspect.signature(update).parameters.values()
  return {_ANY if kind.kind is kind.VAR_KEYWORD else kind.name for kind in kinds}
