"""When runs first reach a target."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_real, shown
from gdlab.results.datasets import ENDS_DIFFER
from gdlab.statistics.intervals import along


class Crossing(NamedTuple):
  """When each run first reached its target.

  Attributes:
    time: float[...]; where censored, the end of the run, a lower bound on the true time.
    censored: bool[...], True for runs that never reached it.
  """

  time: np.ndarray
  censored: np.ndarray


@checked('times', 'values', 'target')
def first_crossing(times: npt.ArrayLike, values: npt.ArrayLike, target: float) -> Crossing:
  """The first recorded time at which each run's value is at or below `target`; other runs are censored.

  A NaN is never below the target, so a run that diverged before reaching it is censored; no run is dropped.

  Where runs end at different steps (`gdlab.sweep` with a function for `num_steps`), give `result.updates` as times:
  each run's own clock stands still after its end, so that the run is censored there. On the common axis `result.step` a
  shorter run repeats its last values up to the end of the longest. Such an axis is refused, unless only its plain
  numbers are given (`.values`), which nothing tells from others. The clock of a diverged run stands still too.

  Args:
    times: float[t], or float[..., t] where runs have their own clocks; finite, never decreasing along the last axis.
    values: float[..., t], time on the last axis; for a DataArray with a dim `step`, that is the time axis.
    target: the value to reach.

  Raises:
    InputError: if `times` does not fit `values` or decreases, `values` has no times, or `times` is the common axis of
      runs that end at different steps.
  """
  check_real('target', target)
  if np.ndim(times) == 1 and np.ndim(values) > 0 and any(map(_ends_differ, (times, values))):
    raise InputError(
      'times must be the clocks of the runs, result.updates, where they end at different steps, got one for all'
    )
  times, values = along('times', times, ..., 'step'), along('values', values, ..., 'step')
  if not values.ndim or not values.shape[-1] or times.shape not in (values.shape, values.shape[-1:]):
    raise InputError(f'times must have shape [t] or that of values [..., t], got {times.shape}')
  if not (np.isfinite(times).all() and (np.diff(times) >= 0).all()):
    raise InputError(
      f'times must be finite and never decrease along the last axis, got {shown(times.tolist())}'
    )
  reached = np.less_equal(values, target)
  censored = np.logical_not(reached.any(axis=-1))
  index = np.where(censored, values.shape[-1] - 1, reached.argmax(axis=-1))
  time = np.take_along_axis(np.broadcast_to(times, values.shape), index[..., None], axis=-1)[..., 0]
  return Crossing(time, censored)


def _ends_differ(values: Any) -> bool:
  return isinstance(values, xr.DataArray) and 'step' in values.coords and ENDS_DIFFER in values.step.attrs
