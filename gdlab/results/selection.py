"""The best point of a sweep; failed runs never win."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, shown, unknown_name
from gdlab.core.metrics import large_is_good
from gdlab.results.datasets import RUNNING


class Best(NamedTuple):
  """The best point of a grid.

  Attributes:
    point: its hyperparameters, name -> value; `result.sel(point)` has its runs.
    value: the mean (or other summary) of the variable there.
  """

  point: dict[str, Any]
  value: float


@checked('result', 'variable', 'summary')
def best(
  result: xr.Dataset,
  variable: str,
  *,
  largest: bool | None = None,
  summary: Callable[[np.ndarray], Any] = np.mean,
) -> Best:
  """The point of a sweep's grid with the best mean over seeds of a variable after the last update.

  A diverged run keeps its last finite values, which may be small, and a run stopped by halving has none. Such runs, and
  those with a value that is not finite, count as infinitely bad: with the mean, one of them rules its point out.

  Example:
    >>> import optax, gdlab
    >>> def sgd(rate):
    ...   return gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(rate))
    >>> problem = gdlab.problems.quadratic([1.0, 0.1])
    >>> result = gdlab.sweep(problem, sgd, {'rate': [0.1, 1.0, 1e30]}, num_steps=20, seeds=1)
    >>> gdlab.best(result, 'train_loss').point
    {'rate': 1.0}

  Args:
    result: a result of `gdlab.sweep` or `gdlab.run`.
    variable: the name of a variable with one number per run: a metric, or a probe without dims of its own.
    largest: whether larger is better; by default only for an accuracy, a variable whose name ends with 'accuracy'.
    summary: `(float[S]) -> float`, of the runs at a point; `np.median` rules a point out only if half of its runs
      failed.

  Returns:
    A Best; the first one of equally good points.

  Raises:
    InputError: if there is no such variable, it has dims of its own, or runs failed at every point.
  """
  if not isinstance(result, xr.Dataset) or not {'seed', 'step'} <= {*result.dims}:
    raise InputError(
      f'result must be of gdlab.sweep or gdlab.run (parts of a sweep: gdlab.merge them), got {shown(result)}'
    )
  if variable not in result.data_vars:
    raise unknown_name('variable', str(variable), map(str, result.data_vars))
  if not callable(summary):
    raise InputError(f'summary must be a function such as np.median, got {shown(summary)}')
  largest = large_is_good(variable) if largest is None else largest
  last = result.isel(step=-1)
  names = [str(name) for name in last.status.dims if name != 'seed']
  if {*last[variable].dims} != {*last.status.dims}:
    raise InputError(
      f'variable must be one number of a run, and {variable} has the dims {shown(last[variable].dims)}'
    )
  values = last[variable].transpose(*names, 'seed').values.astype(float)
  status = last.status.transpose(*names, 'seed').values
  values = np.where((status == RUNNING) & np.isfinite(values), -values if largest else values, np.inf)
  with np.errstate(invalid='ignore'):  # a median between infinities
    points = np.apply_along_axis(summary, -1, values)
  points = np.where(np.isnan(points), np.inf, points)
  place = np.unravel_index(np.argmin(points), points.shape)
  if not np.isfinite(points[place]):
    raise InputError(
      f'result must have a point at which {variable} is known of its runs, and {int((values == np.inf).sum())} of '
      f'{values.size} runs diverged, were stopped or are not finite'
    )
  point = {name: last[name].values[index].item() for name, index in zip(names, place, strict=True)}
  return Best(point, float(-points[place] if largest else points[place]))
