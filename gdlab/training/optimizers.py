"""Optax's optimizers as `gdlab.algorithm` drives them: what each is handed, and where it is to be measured."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdlab.errors import InputError, check_transformation, shown
from gdlab.objective import ascent
from gdlab.types import PyTree


class SlowParams(NamedTuple):
  """The state of `optax.lookahead`, and its slow parameters, which Optax leaves to the loop."""

  lookahead: optax.LookaheadState
  slow: PyTree


def fitted(optimizer: Any) -> optax.GradientTransformationExtraArgs:
  """The optimizer for plain parameters and any extra arguments, of which it is handed those that its `update` takes.

  The slow parameters of `optax.lookahead` are kept in the state. The `grad_fn` that `optax.contrib.sam` wants with
  `opaque_mode` is made of `value_fn`.

  Raises:
    InputError: for what is no transformation; from `init`, if lookahead is inside another transformation; from
      `update`, if something inside refuses extra arguments.
  """
  check_transformation('optimizer', optimizer)
  takes = _takes(optimizer.update)

  def init(params: PyTree) -> PyTree:
    state = optimizer.init(params)
    if isinstance(state, optax.LookaheadState):
      # Copies: an array that is in a state and in the parameters cannot be donated.
      return SlowParams(state, jax.tree.map(jnp.array, params))
    if _nodes(state, optax.LookaheadState):
      raise InputError(
        'optimizer must have optax.lookahead around all else, whose updates are of fast and slow parameters: give '
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
        f'optimizer must consist of transformations that take or ignore extra arguments, and {error}: give that one '
        'by itself, with what goes with it as its inner optimizer'
      ) from None

  return optax.GradientTransformationExtraArgs(init, update)


def evaluation_params(state: PyTree, params: PyTree) -> PyTree:
  """Where an optimizer says that it is to be measured, as its state knows it; else at the parameters themselves.

  Of schedule-free methods that is the average x, where y is what takes the gradients; of lookahead, the slow ones.
  """
  if isinstance(state, SlowParams):
    return state.slow
  is_masked = lambda node: isinstance(node, optax.MaskedNode)
  for found in _nodes(state, optax.contrib.ScheduleFreeState):

    def average(z: Any, y: Any, found: Any = found) -> Any:
      # What `optax.masked` or `optax.partition` keeps from this optimizer is its own average.
      x = y if is_masked(z) else optax.contrib.schedule_free_eval_params(found._replace(z=z), y)
      return jnp.asarray(x, jnp.result_type(y))

    params = jax.tree.map(average, found.z, params, is_leaf=is_masked)
  return params


def check_like(name: str, found: PyTree, params: PyTree) -> PyTree:
  """Returns what a function gave if it has the structure and shapes of the parameters; raises InputError if not."""
  got, wanted = (jax.tree.map(jnp.shape, tree) for tree in (found, params))
  if got != wanted:
    raise InputError(
      f"{name} must give parameters of the problem's structure and shapes, {shown(wanted)}, got {shown(got)}"
    )
  return found


def _nodes(state: PyTree, kind: type) -> list[Any]:
  """The nodes of a type anywhere in an optimizer's state."""
  is_kind = lambda node: isinstance(node, kind)
  return [node for node in jax.tree.leaves(state, is_leaf=is_kind) if is_kind(node)]


_ANY = '**'  # stands for all names among a function's parameters


def _takes(update: Callable) -> set[str]:
  """The names of the arguments that an update function can be given."""
  kinds = inspect.signature(update).parameters.values()
  return {_ANY if kind.kind is kind.VAR_KEYWORD else kind.name for kind in kinds}
