"""Records of many lanes, gathered on the host as the compiled calls return them."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from gdlab.training.lane import COUNT_BASE, RUNNING, STOPPED
from gdlab.training.schedule import Call, Schedule

COUNTS = ('examples', 'gradient_evaluations')


class Collector:
  """The records of L lanes by name, with axes [L, T, ...]; missing values are NaN, or 0 for whole numbers."""

  def __init__(self, num_lanes: int, schedule: Schedule):
    self._shape = (num_lanes, len(schedule.steps))
    self._values: dict[str, np.ndarray] = {}

  def put_initial(self, members: np.ndarray, slots: np.ndarray, metrics: Mapping[str, Any]) -> None:
    """Metrics before the first update, with axes [slot, ...], of the lanes `members` that sit in `slots`."""
    for name, values in metrics.items():
      self._write(name, members, np.zeros(1, int), _on_host(name, values)[slots][:, None])

  def put(self, members: np.ndarray, slots: np.ndarray, call: Call, results: tuple[Any, Any]) -> None:
    """What a call returned: records with axes [slot, Q, R] and metrics with axes [slot, Q, ...]."""
    records, metrics = results
    kept, evaluated = call.places >= 0, call.ends >= 0
    for name, values in records.items():
      flat = _on_host(name, values)[slots].reshape(len(slots), -1)
      self._write(name, members, call.places[kept], flat[:, kept])
    for name, values in metrics.items():
      self._write(name, members, call.ends[evaluated], _on_host(name, values)[slots][:, evaluated])

  def stop(self, members: np.ndarray, place: int) -> None:
    """Marks running lanes as stopped after the record at `place`: nothing was recorded of them since."""
    status = self._values['status'][members, place]
    self._values['status'][members, place + 1 :] = np.where(status == RUNNING, STOPPED, status)[:, None]
    self._values['updates'][members, place + 1 :] = self._values['updates'][members, place, None]

  def column(self, name: str, place: int) -> np.ndarray:
    """One record of all lanes, [L]; NaN where there is none."""
    if name not in self._values:
      return np.full(self._shape[0], np.nan)
    return self._values[name][:, place]

  def names(self) -> list[str]:
    """What is recorded so far."""
    return list(self._values)

  def totals(self) -> dict[str, np.ndarray]:
    """All records, counts as totals since step 0."""
    return {
      name: np.cumsum(values, axis=1, out=values) if name in COUNTS else values
      for name, values in self._values.items()
    }

  def _write(self, name: str, members: np.ndarray, places: np.ndarray, values: np.ndarray) -> None:
    """Values [lane, place, ...]."""
    if name not in self._values:
      missing = np.nan if values.dtype.kind in 'fc' else 0
      self._values[name] = np.full((*self._shape, *values.shape[2:]), missing, values.dtype)
    self._values[name][np.ix_(members, places)] = values


def _on_host(name: str, values: Any) -> np.ndarray:
  """A record as NumPy and NetCDF know it: counts as int64, half precision as float32."""
  array = np.asarray(values)
  if name in COUNTS:
    return array[..., 0].astype(np.int64) * COUNT_BASE + array[..., 1]
  return (
    array.astype(np.float32) if jnp.issubdtype(array.dtype, jnp.floating) and array.itemsize < 4 else array
  )
