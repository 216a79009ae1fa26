"""A sweep's runs as a flat table of lanes, and the grid made of the tables of all processes."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from gdlab.errors import InputError, shown
from gdlab.training.outcome import gathered
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
  pieces = [(part.lane.values, {str(name): part[name].values for name in part.data_vars}) for part in parts]
  records, _ = gathered(pieces)
  attributes = {
    name: _agreed([part.attrs[name] for part in parts]) for name in parts[0].attrs if name != 'sweep'
  }
  attributes['wall_time_s'] = max(part.attrs['wall_time_s'] for part in parts)
  grid = {name: values.reshape(*sizes, *values.shape[1:]) for name, values in records.items()}
  return to_dataset(grid, axes=axes, ids=ids, steps=parts[0].step.values, attributes=attributes)


def _agreed(values: Sequence[Any]) -> Any:
  """What all parts say, or all that they say: a part that was short of memory has a layout of its own."""
  distinct = list({str(value): value for value in values}.values())
  return distinct[0] if len(distinct) == 1 or np.ndim(distinct[0]) else distinct
