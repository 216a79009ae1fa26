"""Drives the lanes of one compiled program from the host: call by call, collecting records."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.training import lanes
from gdlab.training.lane import COUNT_BASE, Interval
from gdlab.types import Problem

COUNTS = ('examples', 'gradient_evaluations')


def run_group(
  program: lanes.Program,
  problem: Problem,
  ids: np.ndarray,
  numbers: Mapping[str, np.ndarray],
  steps: np.ndarray,
  evaluates: np.ndarray,
  report: Callable[[int], None],
) -> dict[str, np.ndarray]:
  """Runs all lanes of one program from the first record to the last.

  Args:
    program: what is compiled.
    problem: its problem.
    ids: int32[L, 3], the stream ids of every lane.
    numbers: the traced hyperparameters, float[L] each.
    steps: int[T], the updates after which there is a record, 0 first.
    evaluates: bool[T], whether metrics are evaluated there.
    report: called with the number of updates made since the last call.

  Returns:
    Records by name with axes [L, T, ...]; examples and gradient evaluations are totals since step 0.
  """
  num_lanes = len(ids)
  # Lanes that fill up the last block repeat lane 0; they are dropped from the records.
  chosen = np.append(np.arange(num_lanes), np.zeros(lanes.pad(program.layout, num_lanes) - num_lanes, int))
  float_dtype = jax.dtypes.canonicalize_dtype(float)
  traced = {name: values[chosen].astype(float_dtype) for name, values in numbers.items()}
  state, initial = lanes.start(program, problem, ids[chosen], traced)
  per_call = max(1, round(program.layout.steps_per_call * (len(steps) - 1) / steps[-1]))
  per_call = min(per_call, len(steps) - 1)
  rows = []
  for first in range(1, len(steps), per_call):
    last = min(first + per_call, len(steps))
    lengths = np.zeros(per_call, np.int32)
    flags = np.zeros(per_call, bool)
    lengths[: last - first] = np.diff(steps[first - 1 : last])
    flags[: last - first] = evaluates[first:last]
    state, records = lanes.advance(
      program, problem, state, traced, Interval(jnp.asarray(lengths), jnp.asarray(flags))
    )
    rows.append(
      {name: _on_host(name, values)[:num_lanes, : last - first] for name, values in records.items()}
    )
    report(num_lanes * int(steps[last - 1] - steps[first - 1]))
  return {name: _with_initial(name, [row[name] for row in rows], initial, num_lanes) for name in rows[0]}


def _with_initial(
  name: str, rows: list[np.ndarray], initial: Mapping[str, Any], num_lanes: int
) -> np.ndarray:
  """One record's time axis, with its value before the first update at its head."""
  values = np.concatenate(rows, axis=1)
  if name in initial:
    first = _on_host(name, initial[name])[:num_lanes, None]
  else:
    first = np.full_like(values[:, :1], np.nan if values.dtype.kind == 'f' else 0)
  values = np.concatenate([first, values], axis=1)
  if name in COUNTS:
    return np.cumsum(values, axis=1)
  return values


def _on_host(name: str, values: Any) -> np.ndarray:
  """A record as NumPy and NetCDF know it: counts as int64, half precision as float32."""
  array = np.asarray(values)
  if name in COUNTS:
    return array[..., 0].astype(np.int64) * COUNT_BASE + array[..., 1]
  return (
    array.astype(np.float32) if jnp.issubdtype(array.dtype, jnp.floating) and array.itemsize < 4 else array
  )
