"""Sends stored results to an experiment tracker: wandb, trackio, TensorBoard, or another with the same interface."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import xarray as xr

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, shown, unknown_name
from gdlab.results.datasets import DIAGNOSTICS, RUNNING, STATUS_MEANINGS
from gdlab.results.parts import CARRIED
from gdlab.results.store import load


class Tracker(Protocol):
  """What `track` asks of a tracker; the modules wandb and trackio have it."""

  def init(self, *, project: str, name: str, config: dict[str, Any]) -> Any: ...
  def log(self, values: dict[str, Any], *, step: int) -> Any: ...
  def finish(self) -> Any: ...


@checked('tracker')
def track(
  path: str | os.PathLike, tracker: Tracker, *, project: str, variables: Sequence[str] | None = None
) -> list[str]:
  """Sends a stored result to an experiment tracker: one run per lane, one step per record.

  The result is on disk before (`gdlab.save(result, path)`), so a tracker that fails loses nothing. Calling again makes
  new runs.

  A run's config has the coordinates of its lane (hyperparameters and seeds) and its final status. Metrics and probes
  are logged at the steps where they were evaluated. An array is logged element by element, as `name/0`, `name/1`, ...

  The name of a run that diverged ends in `,diverged`. Its last step is the first record after the divergence: there
  `status` is 1, and metrics and probes are NaN. A run that halving stopped ends likewise, with `,stopped` and 2.

  Example:
    >>> import optax, gdlab, tempfile, types
    >>> problem = gdlab.problems.quadratic([1.0, 0.1])
    >>> def sgd(rate):
    ...   return gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(rate))
    >>> result = gdlab.sweep(problem, sgd, {'rate': [0.1, 1e30]}, num_steps=20, seeds=1)
    >>> path = gdlab.save(result, tempfile.mkdtemp() + '/result.nc')
    >>> ignore = lambda *values, **options: None
    >>> gdlab.track(path, types.SimpleNamespace(init=ignore, log=ignore, finish=ignore), project='quadratic')
    ['rate=0.1,seed=0', 'rate=1e+30,seed=0,diverged']

  Args:
    path: a file that `gdlab.save` has written, of `gdlab.run` or `gdlab.sweep`.
    tracker: a module or an object with `init(project=, name=, config=)`, `log(values, step=)` and `finish()`: `wandb`,
      `trackio`, `gdlab.TensorBoard(folder)`.
    project: the project of all these runs.
    variables: names of the variables to log; None for all that have the dim `step`.

  Returns:
    The names of the runs, in order.

  Raises:
    InputError: if the file is missing, damaged or not such a result, the tracker lacks a function, or a variable is
      unknown or complex. Exceptions of the tracker are passed on.
  """
  for function in ('init', 'log', 'finish'):
    if not callable(getattr(tracker, function, None)):
      raise InputError(f'tracker must have a function {function}, got {shown(tracker)}')
  if not project:
    raise InputError("project must be a name, got ''")
  result = load(path)
  if not {'seed', 'step'} <= {*result.dims} or not {'status', 'updates'} <= {*result.data_vars}:
    raise InputError(
      f'path must be a result of gdlab.run or gdlab.sweep (parts: gdlab.merge them), got {path}'
    )
  dims = [str(dim) for dim in result.status.dims if dim != 'step']
  recorded = sorted(str(name) for name, value in result.data_vars.items() if {*dims, 'step'} <= {*value.dims})
  chosen = recorded if variables is None else list(variables)
  for name in chosen:
    if name not in recorded:
      raise unknown_name('variable', str(name), recorded)
    if result[name].dtype.kind == 'c':
      raise InputError(f'variables must be real, and {name} is complex; choose others by variables=')
  names = []
  for places in np.ndindex(*(result.sizes[dim] for dim in dims)):
    lane = result.isel(dict(zip(dims, places, strict=True)))
    ended = int(lane.status.values[-1])
    values = {str(name): each.item() for name, each in lane.coords.items() if not each.ndim}
    suffix = '' if ended == RUNNING else f',{STATUS_MEANINGS[ended]}'
    names.append(','.join(f'{dim}={values[dim]}' for dim in dims) + suffix)
    status = 'completed' if ended == RUNNING else STATUS_MEANINGS[ended]
    tracker.init(project=project, name=names[-1], config=values | {'status': status})
    try:
      for step, record in _records(lane, chosen):
        tracker.log(record, step=step)
    finally:
      tracker.finish()
  return names


def _records(lane: xr.Dataset, names: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
  """The records of one run, up to its end: the update after which each was made, and its numbers by name."""
  recorded = [str(name) for name, value in lane.data_vars.items() if 'step' in value.dims]
  columns = {name: lane[name].transpose('step', ...).values for name in recorded}
  measured = [name for name in recorded if name not in (*CARRIED, *DIAGNOSTICS)]
  floats = [
    columns[name].reshape(lane.sizes['step'], -1) for name in measured if columns[name].dtype.kind == 'f'
  ]
  evaluated = ~np.isnan(np.concatenate(floats, axis=1)).all(axis=1)
  for place, (step, updates, status) in enumerate(
    zip(lane.step.values, columns['updates'], columns['status'], strict=True)
  ):
    if status == RUNNING and updates < step:
      continue  # a record of other runs, which make more updates or are recorded elsewhere
    row = {name: columns[name][place] for name in names}
    if status != RUNNING:
      # Results go on with the last finite values, which look like those of a run that is well.
      row |= {name: np.full_like(row[name], np.nan, float) for name in row if name in measured}
    elif not evaluated[place]:
      row = {name: value for name, value in row.items() if name not in measured}
    if not step:
      row = {name: value for name, value in row.items() if name not in DIAGNOSTICS}  # they are of an update
    yield int(step), _flat(row)
    if status != RUNNING:
      return


def _flat(row: Mapping[str, np.ndarray]) -> dict[str, Any]:
  return {
    '/'.join([name, *map(str, place)]): value[place].item()
    for name, value in row.items()
    for place in np.ndindex(value.shape)
  }
