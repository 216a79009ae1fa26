"""Curves along runs: losses and other records, eigenvalues, the noise scale."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gdlab.core.errors import InputError, check_real
from gdlab.plots.inputs import arms, numbers, variable
from gdlab.plots.pieces import band
from gdlab.plots.style import COLOURS, LINES, panels

WIDTH, HEIGHT = 4.6, 3.4  # of one panel, which fits a column of print and a phone


def curves(
  results: Mapping[str, xr.Dataset],
  name: str = 'train_loss',
  *,
  against: str = 'step',
  log: bool = True,
  target: float | None = None,
  label: str | None = None,
) -> Figure:
  """The median over seeds of a recorded quantity along the runs, with a band of the middle 80 %.

  Args:
    results: label -> a result of `gdlab.run`, or of a sweep at one point of its grid; dims (seed, step) or only step.
    name: the variable.
    against: the horizontal axis: 'step', or another variable such as 'epoch', 'examples', 'gradient_evaluations'.
    log: whether the quantity is on a logarithmic scale; values that are not positive are then left out.
    target: a value to mark by a horizontal line.
    label: of the quantity; its name by default.

  Raises:
    InputError: if there is no result, a variable is missing or has other dims, or no value can be drawn.
  """
  with panels(1, width=WIDTH, height=HEIGHT) as (figure, (axes,)):
    for number, (arm, result) in enumerate(arms('results', results).items()):
      shapes = ({'seed', 'step'}, {'step'})
      values = _by_seed(variable(f'results[{arm!r}]', result, name, shapes))
      x = _by_seed(variable(f'results[{arm!r}]', result, against, shapes))
      x = np.broadcast_to(x, values.shape).astype(float)
      values = np.where(values > 0, values, np.nan) if log else values
      if not np.isfinite(values).any():
        raise InputError(f'results[{arm!r}].{name} has no {"positive" if log else "finite"} value to draw')
      band(axes, x, values, arm, number)
      axes.lines[-1].set_linestyle(LINES[number % len(LINES)])
    if target is not None:
      axes.axhline(check_real('target', target), color='black', linewidth=0.8, linestyle=':')
    axes.set(xlabel=_words(against), ylabel=label or _words(name), yscale='log' if log else 'linear')
    _legend(axes, len(results))
  return figure


def eigenvalue_curves(
  steps: npt.ArrayLike,
  eigenvalues: npt.ArrayLike,
  *,
  threshold: npt.ArrayLike | None = None,
  threshold_label: str = '2 / rate',
) -> Figure:
  """The largest eigenvalues along a run, with the threshold of stability.

  Args:
    steps: float[t].
    eigenvalues: float[t, k], the k largest, or float[t] of one; NaN where none was measured.
    threshold: a number or float[t] to compare with, such as 2 / rate for plain descent; None for none.
    threshold_label: its label.

  Raises:
    InputError: if shapes do not match or nothing is finite.
  """
  steps = numbers('steps', steps, (1,), finite=True)
  values = numbers('eigenvalues', eigenvalues, (1, 2))
  values = values[:, None] if values.ndim == 1 else values
  _same('eigenvalues', values, steps)
  with panels(1, width=WIDTH, height=HEIGHT) as (figure, (axes,)):
    for number in range(values.shape[1]):
      seen = np.isfinite(values[:, number])
      colour = COLOURS[0] if number == 0 else COLOURS[5]
      axes.plot(
        steps[seen],
        values[seen, number],
        color=colour,
        linewidth=0.9 if number else 1.8,
        zorder=2 - 0.1 * bool(number),
        label={0: 'largest', 1: 'next'}.get(number),
      )
    if threshold is not None:
      border = np.broadcast_to(numbers('threshold', threshold, (0, 1)), steps.shape)
      axes.plot(steps, border, color=COLOURS[1], linestyle='--', linewidth=1.2, label=threshold_label)
    axes.set(xlabel='updates', ylabel='eigenvalue of the Hessian')
    _legend(axes, 2)
  return figure


def noise_scale(
  steps: npt.ArrayLike, scales: Mapping[str, npt.ArrayLike], *, batch_size: float | None = None
) -> Figure:
  """The gradient noise scale along a run, on a logarithmic scale, with the batch size in use.

  Args:
    steps: float[t].
    scales: label -> float[t] or float[seed, t]; NaN, infinite and negative estimates (the squared gradient was
      estimated as negative) are left out.
    batch_size: a batch size to mark by a horizontal line.

  Raises:
    InputError: if shapes do not match or an arm has no positive value.
  """
  steps = numbers('steps', steps, (1,), finite=True)
  with panels(1, width=WIDTH, height=HEIGHT) as (figure, (axes,)):
    for number, (label, given) in enumerate(arms('scales', scales).items()):
      values = np.atleast_2d(numbers(f'scales[{label!r}]', given, (1, 2)))
      _same(f'scales[{label!r}]', values.T, steps)
      values = np.where(np.isfinite(values) & (values > 0), values, np.nan)
      if np.isnan(values).all():
        raise InputError(f'scales[{label!r}] has no positive value to draw')
      band(axes, steps, values, label, number)
      axes.lines[-1].set_linestyle(LINES[number % len(LINES)])
    if batch_size is not None:
      check_real('batch_size', batch_size, above=0)
      axes.axhline(
        batch_size, color='black', linewidth=0.8, linestyle=':', label=f'batch size {batch_size:g}'
      )
    axes.set(xlabel='updates', ylabel='noise scale, examples', yscale='log')
    _legend(axes, 2)
  return figure


def _by_seed(values: xr.DataArray) -> np.ndarray:
  return values.transpose(..., 'step').values.reshape(-1, values.sizes['step'])


def _words(name: str) -> str:
  return {'step': 'updates'}.get(name, name.replace('_', ' '))


def _same(name: str, values: np.ndarray, steps: np.ndarray) -> None:
  if len(values) != len(steps):
    raise InputError(f'{name} must have one value for each of {len(steps)} steps, got {len(values)}')


def _legend(axes: Axes, entries: int) -> None:
  if entries > 1 or len(axes.get_legend_handles_labels()[0]) > 1:
    axes.legend(fontsize=9)
