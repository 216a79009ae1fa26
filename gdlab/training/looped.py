"""What a compiled loop asks of what it carries and records, checked from shapes before anything is compiled."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gdlab.errors import InputError, shown
from gdlab.training.records import check_names
from gdlab.types import PyTree


def check_kept(before: PyTree, after: PyTree) -> None:
  """Raises InputError unless an update keeps the structure, shapes and types of the state."""
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
  """Raises InputError unless probes are functions by names that results do not use themselves."""
  if probes is not None and not isinstance(probes, Mapping):
    raise InputError(f'probes must be a mapping from name to function, got {shown(probes)}')
  check_names('probe', probes or ())
  for name, probe in (probes or {}).items():
    if not callable(probe):
      raise InputError(
        f'probes[{shown(name)}] must be a function (problem, state) -> array, got {shown(probe)}'
      )


def check_probes(probed: Mapping[str, Any]) -> None:
  """Raises InputError for a probe that does not return one array of numbers."""
  for name, value in probed.items():
    is_leaf = [leaf is value for leaf in jax.tree.leaves(value)] == [True]
    dtype = jnp.result_type(value) if is_leaf and not isinstance(value, str) else None
    if dtype is None or not any(jnp.issubdtype(dtype, kind) for kind in (jnp.number, jnp.bool)):
      hint = '' if is_leaf or value is None else ': make a probe of each of its entries'
      kind = f'{type(value).__name__} ' if not is_leaf and value is not None else ''
      raise InputError(
        f'probes[{shown(name)}] must return one array of numbers, got {kind}{shown(value)}{hint}'
      )
