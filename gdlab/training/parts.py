"""A sweep's runs as a flat table of lanes, and the grid made of the tables of all processes."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from gdlab.errors import InputError, shown
from gdlab.training.records import describe, provenance, storable, to_dataset
from gdlab.training.schedule import Schedule


def table(
  records: Mapping[str, np.ndarray],
  places: np.ndarray,
  *,
  axes: Mapping[str, Sequence[Any]],
  ids: np.ndarray,
  schedule: Schedule,
  attributes: Mapping[str, Any],
) -> xr.Dataset:
  """Some runs of a sweep.

  Args:
    records: name -> array with axes (lane, step, the value's own ...).
    places: int[lane], the runs' numbers among all of the sweep, counted with axes (*axes, seed).
    axes: the swept hyperparameters and their values.
    ids: int[S, 3], the stream ids of every seed.
    schedule: when was recorded.
    attributes: stored with the dataset, next to the versions and the device.

  Returns:
    A Dataset with dims (lane, step); `merge` makes the grid of it and of its like.
  """
  variables = {}
  for name, values in records.items():
    own = tuple(f'{name}_{number}' for number in range(values.ndim - 2))
    variables[name] = xr.Variable(('lane', 'step', *own), values, describe(name))
  layout = {'axes': [[name, storable(values)] for name, values in axes.items()], 'ids': ids.tolist()}
  coordinates = {'lane': places, 'step': schedule.steps}
  return xr.Dataset(variables, coordinates, dict(attributes) | {'sweep': json.dumps(layout)} | provenance())


def merge(parts: Sequence[xr.Dataset]) -> xr.Dataset:
  """The result of a sweep, made of all its parts (`gdlab.sweep(..., part=(i, n))`).

  Returns:
    What one process that ran all of them would have returned; `wall_time_s` is that of the slowest.

  Raises:
    InputError: if a part is not one, they are of different sweeps, or lanes are missing or there twice.
  """
  parts = list(parts)
  if not parts:
    raise InputError('parts must hold at least one part of a sweep, got none')
  for part in parts:
    if not isinstance(part, xr.Dataset) or 'lane' not in part.dims or 'sweep' not in part.attrs:
      raise InputError(f'parts must be results of sweep(..., part=(i, n)), got {shown(part)}')
    for what in ('sweep', 'problem', 'num_steps'):
      if part.attrs[what] != parts[0].attrs[what]:
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
  records = {
    name: _gathered(name, parts, lane).reshape(*sizes, *like.shape[1:])
    for name, like in _variables(parts).items()
  }
  attributes = {name: value for name, value in parts[0].attrs.items() if name != 'sweep'}
  attributes['wall_time_s'] = max(part.attrs['wall_time_s'] for part in parts)
  return to_dataset(records, axes=axes, ids=ids, steps=parts[0].step.values, attributes=attributes)


def _variables(parts: Sequence[xr.Dataset]) -> dict[str, xr.DataArray]:
  return {str(name): part[name] for part in reversed(parts) for name in part.data_vars}


def _gathered(name: str, parts: Sequence[xr.Dataset], lane: np.ndarray) -> np.ndarray:
  """A variable of all lanes in order; a part whose problems lack a metric (no test set) has NaN there."""
  if len(parts) == 1 and (np.diff(lane) == 1).all():
    return parts[0][name].values  # no copy: it may be most of the memory
  like = _variables(parts)[name]
  values = np.full((len(lane), *like.shape[1:]), np.nan if like.dtype.kind == 'f' else 0, like.dtype)
  for part in parts:
    if name in part:
      values[part.lane.values] = part[name].values
  return values
