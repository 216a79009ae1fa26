"""A sweep's runs as a flat table of lanes, and the grid merged from the tables of all processes."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import xarray as xr

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, shown
from gdlab.results.datasets import TRIAL, labelled, provenance, storable, to_dataset

Pieces: TypeAlias = Sequence[tuple[np.ndarray, Mapping[str, np.ndarray]]]
CARRIED = ('status', 'updates', 'examples', 'gradient_evaluations', 'epoch')  # known between records, too


def table(
  records: Pieces,
  ends: Pieces,
  *,
  axes: Mapping[str, Sequence[Any]],
  trials: Mapping[str, Sequence[Any]],
  ids: np.ndarray,
  steps: np.ndarray,
  attributes: Mapping[str, Any],
) -> xr.Dataset:
  """A table of some runs of a sweep.

  Args:
    records: pairs of the runs' flat indices among all of the sweep, with axes (*axes, seed), and their records, name ->
      array with axes (lane, step, the value's own ...).
    ends: the same for final values, with axes (lane, the value's own ...).
    axes: the dims of the points and their values.
    trials: hyperparameter -> its values along the dim `trial`.
    ids: int[S, 3], the stream ids of every seed.
    steps: int[T], the updates after which records were made.
    attributes: stored with the dataset, next to the versions and the device.

  Returns:
    A Dataset with dims (lane, step); `merge` combines such tables into the grid.
  """
  values, places = gathered(records)
  variables = labelled(values, ('lane', 'step')) | labelled(gathered(ends)[0], ('lane',))
  layout = {
    'axes': [[name, storable(values)] for name, values in axes.items()],
    'trials': [[name, storable(values)] for name, values in trials.items()],
    'ids': ids.tolist(),
  }
  coordinates = {'lane': places, 'step': steps}
  return xr.Dataset(variables, coordinates, dict(attributes) | {'sweep': json.dumps(layout)} | provenance())


def aligned(name: str, values: np.ndarray, own: np.ndarray, steps: np.ndarray) -> np.ndarray:
  """Records [L, T, ...] made at the steps `own`, aligned to `steps`; after its end a run repeats its last record.

  Between its records, counts and status repeat the last ones, and measured values are missing.
  """
  if len(own) == len(steps):
    return values
  found = values[:, np.searchsorted(own, steps, side='right') - 1]
  if name not in CARRIED:
    between = ~np.isin(steps, own) & (steps < own[-1])
    found[:, between] = np.nan if values.dtype.kind in 'fc' else 0
  return found


@checked('parts')
def merge(parts: Sequence[xr.Dataset]) -> xr.Dataset:
  """The result of a sweep, merged from all its parts (`gdlab.sweep(..., part=(i, n))`).

  Returns:
    The result that a single process would have returned; `wall_time_s` and `compile_time_s` are the largest of any
    part.

  Raises:
    InputError: if a part is not the result of such a call, parts are of different sweeps, or lanes are missing or
      repeated.
  """
  parts = list(parts)
  if not parts:
    raise InputError('parts must hold at least one part of a sweep, got none')
  for part in parts:
    if not isinstance(part, xr.Dataset) or 'lane' not in part.dims or 'sweep' not in part.attrs:
      raise InputError(f'parts must be results of sweep(..., part=(i, n)), got {shown(part)}')
    for what in ('sweep', 'problem', 'num_steps'):
      if not np.array_equal(part.attrs[what], parts[0].attrs[what]):  # files give lists back as arrays
        raise InputError(f'parts must be of one sweep, got some that differ in {what}')
    if not np.array_equal(part.step, parts[0].step):
      raise InputError('parts must be of one sweep, got some that differ in their records')
  layout = json.loads(parts[0].attrs['sweep'])
  axes, ids = dict(layout['axes']), np.asarray(layout['ids'], np.int32)
  sizes = (*(len(values) for values in axes.values()), len(ids))
  lane = np.concatenate([part.lane.values for part in parts])
  times = np.bincount(lane, minlength=math.prod(sizes))
  if (times != 1).any():
    wrong = np.flatnonzero(times != 1)
    raise InputError(
      f'parts must hold each of the {len(times)} lanes once, got {len(wrong)} that are missing or repeated, '
      f'the first is {wrong[0]}'
    )
  pieces = {
    at_end: gathered(
      [
        (
          part.lane.values,
          {str(name): part[name].values for name in part.data_vars if ('step' in part[name].dims) != at_end},
        )
        for part in parts
      ]
    )[0]
    for at_end in (False, True)
  }
  names = dict.fromkeys(name for part in parts for name in part.attrs if name != 'sweep')
  # A part without lanes has no plan.
  attributes = {name: _agreed([part.attrs[name] for part in parts if name in part.attrs]) for name in names}
  for name in ('wall_time_s', 'compile_time_s'):
    if name in attributes:
      attributes[name] = max(part.attrs.get(name, 0.0) for part in parts)
  dims = (*axes, 'seed')
  variables: dict[str, xr.Variable] = {}
  for at_end, values in pieces.items():
    shaped = {name: value.reshape(*sizes, *value.shape[1:]) for name, value in values.items()}
    variables |= labelled(shaped, dims if at_end else (*dims, 'step'))
  trials = {name: (TRIAL, values) for name, values in layout['trials']}
  return to_dataset(
    variables, axes=axes, trials=trials, ids=ids, steps=parts[0].step.values, attributes=attributes
  )


def gathered(
  pieces: Sequence[tuple[np.ndarray, Mapping[str, np.ndarray]]],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
  """Lanes from several pieces, in order.

  Args:
    pieces: the numbers of some lanes, and their records with axes [lane, ...].

  Returns:
    `(records, numbers)` of all. A metric that a problem lacks (without a test set) is NaN, or 0 for integers.
  """
  places = np.concatenate([np.zeros(0, int), *(places for places, _ in pieces)])
  if len(pieces) == 1 and (np.diff(places) == 1).all():
    return dict(pieces[0][1]), places  # no copy: it may be most of the memory
  rank = np.argsort(np.argsort(places))
  begins = np.cumsum([0, *(len(places) for places, _ in pieces)])
  found: dict[str, np.ndarray] = {}
  for begin, (own, records) in zip(begins, pieces):
    for name, values in records.items():
      if name not in found:
        # Of a probe that is whole numbers here and floats there.
        dtype = np.result_type(*(other[name].dtype for _, other in pieces if name in other))
        found[name] = np.full((len(places), *values.shape[1:]), np.nan if dtype.kind in 'fc' else 0, dtype)
      found[name][rank[begin : begin + len(own)]] = values
  return found, np.sort(places)


def _agreed(values: Sequence[Any]) -> Any:
  """The value that all parts share, or else all values: a part that ran out of memory has its own layout."""
  distinct = list({str(value): value for value in values}.values())
  return distinct[0] if len(distinct) == 1 or np.ndim(distinct[0]) else distinct
