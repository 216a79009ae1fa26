"""Checks that a user's functions work in compiled loops and with traced numbers, with clear errors if not."""

import contextlib
import traceback
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp

from gdlab.core.errors import InputError, shown
from gdlab.core.types import PyTree
from gdlab.results.datasets import check_names

# Optax's schedules that look at their numbers, and what of `gdlab.schedules` has the same shape for tracers.
COUNTERPARTS = {
  'polynomial_schedule': 'linear',
  'linear_schedule': 'linear',
  'piecewise_constant_schedule': 'step_decay',
  'piecewise_interpolate_schedule': 'one_cycle or cosine_one_cycle',
  'exponential_decay': 'exponential_per_epoch',
  'cosine_decay_schedule': 'cosine',
  'linear_onecycle_schedule': 'one_cycle',
  'cosine_onecycle_schedule': 'cosine_one_cycle',
  'warmup_constant_schedule': 'warmup',
  'warmup_cosine_decay_schedule': 'warmup(cosine(...), ...)',
  'warmup_exponential_decay_schedule': 'warmup(exponential_per_epoch(...), ...)',
  'sgdr_schedule': 'warmup(cosine(...), ...), joined by optax.join_schedules,',
  'reduce_on_plateau': 'reduce_on_plateau',
}


def check_kept(before: PyTree, after: PyTree) -> None:
  """Raises InputError unless an update keeps the structure, shapes and dtypes of the state."""
  paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(before)]
  new_paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(after)]
  advice = 'runs are compiled loops: take transformations whose state stays as init makes it'
  if paths != new_paths:
    changed = sorted({*paths} ^ {*new_paths})
    raise InputError(
      f'an update must keep the structure of the state, got another at {shown(changed)}; {advice}'
    )
  for path, old, new in zip(paths, jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
    if (old.shape, old.dtype) != (new.shape, new.dtype):
      kinds = [f'{leaf.dtype}{list(leaf.shape)}' for leaf in (old, new)]
      raise InputError(
        f'an update must keep the shapes and types of the state, got {kinds[1]} for {kinds[0]} at {path}; {advice}'
      )


def check_probe_functions(probes: Any) -> None:
  """Raises InputError unless probes are functions with names that results do not use."""
  if probes is not None and not isinstance(probes, Mapping):
    raise InputError(f'probes must be a mapping from name to function, got {shown(probes)}')
  check_names('probe', probes or ())
  for name, probe in (probes or {}).items():
    if not callable(probe):
      raise InputError(
        f'probes[{shown(name)}] must be a function (problem, state) -> array, got {shown(probe)}'
      )


def check_probes(probed: Mapping[str, Any]) -> None:
  """Raises InputError for a probe that does not return an array of numbers or a pytree of them."""
  for name, value in probed.items():
    leaves = jax.tree.leaves(value)
    if not leaves or not all(_is_number(leaf) for leaf in leaves):
      raise InputError(
        f'probes[{shown(name)}] must return an array of numbers or a pytree of such, got {shown(value)}'
      )


def _is_number(leaf: Any) -> bool:
  dtype = None if isinstance(leaf, str) else jnp.result_type(leaf)
  return dtype is not None and any(jnp.issubdtype(dtype, kind) for kind in (jnp.number, jnp.bool))


@contextlib.contextmanager
def explained(names: Iterable[str]) -> Iterator[None]:
  """Turns an error about a tracer's value into an InputError that names the traced hyperparameters.

  Args:
    names: the traced hyperparameters; if there are none, the error is raised unchanged.
  """
  names = sorted(names)
  try:
    yield
  except (jax.errors.JAXTypeError, TypeError) as error:
    schedule = _schedule(error.__traceback__)
    looked = isinstance(error, jax.errors.JAXTypeError) or 'unhashable type' in str(error)
    if not names or not looked:
      raise
    traced = f'float hyperparameters are traced ({", ".join(names)})'
    if schedule is not None:
      raise InputError(
        f'{traced}, and optax.{schedule} takes some of its numbers only as constants: '
        f'use gdlab.schedules.{COUNTERPARTS[schedule]} in its place'
      ) from error
    raise InputError(
      f'{traced}, and make_algorithm needs one as a constant ({str(error).splitlines()[0].rstrip(".")}): use '
      'jnp.where or jnp.maximum in place of if and max, or give whole numbers, strings or functions, which get one '
      'program per value'
    ) from error


def _schedule(found: TracebackType | None) -> str | None:
  """The Optax schedule in which an error arose: the outermost, if several call one another."""
  for frame, _ in traceback.walk_tb(found):
    module, name = frame.f_globals.get('__name__', ''), frame.f_code.co_name
    if module.startswith('optax.') and name in COUNTERPARTS:
      return name
  return None
