"""Seeds: the random streams of each run."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from gdlab.core.errors import InputError, check_count, shown, unknown_name
from gdlab.core.types import Array, Streams

Seeds: TypeAlias = int | Sequence[int] | Mapping[str, int | Sequence[int]]
LARGEST_ID = 2**31 - 1


def seed_ids(seeds: Seeds) -> np.ndarray:
  """The stream ids of every run: int32[S, 3], one column per stream in the order of `Streams`.

  Args:
    seeds: a count (ids 0 ... S-1); a sequence of distinct ids; or a mapping from stream name to an id or a
      sequence of ids, which lets one stream vary while the others are fixed, as in
      `{'init': 0, 'order': range(16), 'noise': 0}`. A stream not named has ids 0 ... S-1.

  Returns:
    The ids. The streams of a run do not depend on which other seeds there are.

  Raises:
    InputError: if there is no seed, an id is not in [0, 2^31), ids of a sequence repeat, or lengths differ.
  """
  if isinstance(seeds, Mapping):
    return _from_mapping(seeds)
  ids = _checked(seeds, 'seeds') if _is_sequence(seeds) else [*range(check_count('seeds', seeds))]
  if len(set(ids)) != len(ids):
    raise InputError(f'seeds must be distinct, got {shown(ids)}')
  return np.repeat(np.asarray(ids, np.int32)[:, None], len(Streams._fields), axis=1)


def stream_keys(ids: Array) -> Streams:
  """The streams of one run from its ids int32[3]; stream k of id s is fold_in(fold_in(root, s), k)."""
  # Not the default generator: draws of `rbg` depend on what else is under the same vmap.
  root = jax.random.key(0, impl='threefry2x32')
  return Streams(
    *(
      jax.random.fold_in(jax.random.fold_in(root, ids[number]), number)
      for number in range(len(Streams._fields))
    )
  )


def _from_mapping(seeds: Mapping[str, int | Sequence[int]]) -> np.ndarray:
  for name in seeds:
    if name not in Streams._fields:
      raise unknown_name('random stream', str(name), Streams._fields)
  columns = {
    name: _checked(ids, f'seeds[{name!r}]')
    if _is_sequence(ids)
    else check_count(f'seeds[{name!r}]', ids, minimum=0, maximum=LARGEST_ID)
    for name, ids in seeds.items()
  }
  lengths = {name: len(column) for name, column in columns.items() if isinstance(column, list)}
  if len(set(lengths.values())) > 1:
    raise InputError(f'seeds must have one length for all streams, got {shown(lengths)}')
  count = next(iter(lengths.values()), 1)
  ids = np.empty((count, len(Streams._fields)), np.int32)
  for number, name in enumerate(Streams._fields):
    ids[:, number] = columns.get(name, np.arange(count))
  return ids


def _is_sequence(ids: Any) -> bool:
  """Without NumPy, which refuses ragged lists."""
  return hasattr(ids, '__len__') and getattr(ids, 'shape', None) != () and not isinstance(ids, str)


def _checked(ids: Any, name: str) -> list[int]:
  if not len(ids):
    raise InputError(f'{name} must hold at least one seed id, got none')
  return [
    check_count(f'{name}[{place}]', value, minimum=0, maximum=LARGEST_ID) for place, value in enumerate(ids)
  ]
