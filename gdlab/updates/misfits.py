"""What is wrong with an optimizer that cannot make an update, in one line."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from gdlab.core.errors import InputError, shown
from gdlab.core.types import PyTree

Update = Callable[[PyTree], tuple[PyTree, PyTree]]

_COMPILED = (
  'runs are compiled, so arrays have no values while update is traced: use jnp.where in place of if, and jax.numpy in '
  'place of NumPy'
)


@contextlib.contextmanager
def explained(update: Update, gradient: PyTree, params: PyTree, stacked: bool) -> Iterator[None]:
  """Turns what an optimizer raises inside into an InputError that says what to change.

  Args:
    update: `(gradient) -> (updates, state)`, of the optimizer.
    gradient: like the parameters; if `stacked`, with one more axis, of slots, at the front.
    params: the parameters.
    stacked: whether the gradients of all slots are given, or their mean.

  Raises:
    InputError: if the optimizer fails.
  """
  try:
    yield
  except InputError:
    raise
  except (TypeError, ValueError, AttributeError, LookupError) as error:
    what = 'one gradient for every slot' if stacked else 'one gradient for the batch'
    # The first line names the cause; JAX adds a page.
    lines = str(error).splitlines()[:1] if isinstance(error, jax.errors.JAXTypeError) else str(error).split()
    reason = ' '.join(lines)[:300].rstrip('.')
    advice = _advice(error) or _estimator(update, gradient, params, stacked)
    raise InputError(
      f'optimizer cannot make an update of {what} ({type(error).__name__}: {reason}){advice}'
    ) from error


def unpacked(
  returned: Any, update: Update, gradient: PyTree, params: PyTree, stacked: bool
) -> tuple[PyTree, PyTree]:
  """The updates and state that an optimizer returned: updates of other shapes might be broadcast silently.

  Args:
    returned: `update(gradient)`.
    update: `(gradient) -> (updates, state)`, of the optimizer.
    gradient: as in `explained`.
    params: the parameters.
    stacked: whether the gradients of all slots are given, or their mean.

  Raises:
    InputError: if it is anything but updates with the parameters' structure and shapes, and a state.
  """
  if not isinstance(returned, (tuple, list)) or len(returned) != 2:
    raise InputError(f'optimizer must return (updates, state) from its update, got {shown(returned)}')
  updates, state = returned
  if not _alike(updates, params):
    order = ': update must return (updates, state) in this order' if _alike(state, params) else ''
    advice = order or _estimator(update, gradient, params, stacked)
    raise InputError(
      f"optimizer must return updates of the parameters' shapes, {_difference(updates, params)}{advice}"
    )
  return updates, state


def _advice(error: Exception) -> str:
  """What to change, where the error itself says what is wrong."""
  text = str(error)
  if isinstance(error, jax.errors.JAXTypeError) or 'truth value of an array' in text:
    return f': {_COMPILED}'
  if 'positional argument' in text:
    return ': update takes (updates, state, params=None)'
  return ''


def _estimator(update: Update, gradient: PyTree, params: PyTree, stacked: bool) -> str:
  """The estimator to use, if the optimizer works with gradients of the other kind."""
  if stacked:
    other = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), gradient)
  else:
    other = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), gradient)
  try:
    fits = _alike(jax.eval_shape(lambda: update(other)[0]), params)
  except Exception:  # Whatever a user's update raises: it does not work so either.
    fits = False
  if not fits:
    return ''
  if stacked:
    return ': it takes one gradient, so it needs an estimator that is not stacked'
  return ': it takes per-example gradients, so it needs estimator=gdlab.estimators.per_example(stacked=True)'


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
  """The shape of each leaf, by its path."""
  return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def _alike(tree: PyTree, params: PyTree) -> bool:
  same = bool(jax.tree.structure(tree) == jax.tree.structure(params))  # type: ignore[operator] # of jaxlib's stubs
  return same and [*map(jnp.shape, jax.tree.leaves(tree))] == [*map(jnp.shape, jax.tree.leaves(params))]


def _difference(updates: PyTree, params: PyTree) -> str:
  """The first leaves that differ, by name."""
  got, wanted = _shapes(updates), _shapes(params)
  if got.keys() != wanted.keys():
    return f'a tree with the leaves {_listed(wanted)}, got {_listed(got)}'
  wrong = {name: shape for name, shape in got.items() if shape != wanted[name]}
  if not wrong:
    return f'in a tree like {shown(jax.tree.structure(params))}, got {shown(jax.tree.structure(updates))}'
  first = {name: wrong[name] for name in list(wrong)[:3]}
  parts = [f'{wanted[name]} for {name or "the array"}, got {shape}' for name, shape in first.items()]
  more = f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''
  return '; '.join(parts) + more


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
  """A few leaves with their names and shapes."""
  parts = [f'{name} {shape}'.strip() for name, shape in shapes.items()]
  return ', '.join(parts[:4]) + (f' and {len(parts) - 4} more' if len(parts) > 4 else '') if parts else 'none'
