"""Slices of a loss: planes with trajectories, and lines between solutions with their barriers."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib import patheffects
from matplotlib.figure import Figure

from gdlab.analysis.surfaces.paths import above_chord
from gdlab.core.errors import InputError
from gdlab.plots.inputs import arms, numbers, variable
from gdlab.plots.pieces import contours
from gdlab.plots.style import COLOURS, LINES, panels


def plane(surface: xr.Dataset, name: str = 'train_loss', *, path: npt.ArrayLike | None = None) -> Figure:
  """Contours of a loss over a plane of parameter space, with equal areas between them, and the path of a run.

  Args:
    surface: with dims (`alpha`, `beta`), from `gdlab.analysis.loss_plane` or `trajectory_plane`.
    name: the variable.
    path: float[t, 2], coordinates of a run in the plane; by default the variable `path` of `trajectory_plane`, if any.

  Raises:
    InputError: if the variable is missing, has other dims or is nowhere finite, or the path has another shape.
  """
  values = variable('surface', surface, name, ({'alpha', 'beta'},)).transpose('beta', 'alpha')
  heights = numbers(f'surface.{name}', values.values, (2,))
  # What is not finite is higher than anything, minus infinity lower: shown as the highest and lowest there is.
  finite = heights[np.isfinite(heights)]
  heights = np.clip(np.where(np.isnan(heights), np.inf, heights), finite.min(), finite.max())
  track = surface.path.values if path is None and 'path' in surface else path
  with panels(1, width=4.6, height=4.2) as (figure, (axes,)):
    lines = contours(axes, surface.alpha, surface.beta, heights)
    if lines is not None:
      lines.set_linestyle('solid')  # Matplotlib dashes negative values
      labels = axes.clabel(lines, [*lines.levels][1::3], fontsize=7, fmt='%.2g', colors='black')
      for label in labels:
        label.set_path_effects([patheffects.withStroke(linewidth=2, foreground='white')])
    if track is not None:
      points = numbers('path', track, (2,))
      if points.shape[1] != 2:
        raise InputError(f'path must have shape [t, 2], got {points.shape}')
      outline = [patheffects.withStroke(linewidth=4, foreground='white')]
      axes.plot(*points.T, '-', color=COLOURS[1], linewidth=1.8, path_effects=outline)
      axes.plot(*points.T, '.', color=COLOURS[1], markersize=5)
      axes.plot(*points[0], 'o', color='black', markersize=7, linestyle='', label='start')
      axes.plot(*points[-1], '*', color='black', markersize=13, linestyle='', label='end')
      axes.legend(fontsize=9, frameon=True, framealpha=0.8, edgecolor='none')
    names = ['first direction', 'second direction']
    if 'explained' in surface:
      names = [
        f'{word} component, {100 * share:.0f} % of variance'
        for word, share in zip(('first', 'second'), surface.explained.values, strict=True)
      ]
    axes.set(xlabel=names[0], ylabel=names[1], title=name.replace('_', ' '))
  return figure


def interpolation(lines: Mapping[str, xr.Dataset], name: str = 'train_loss') -> Figure:
  """A loss on the straight line between two solutions, with an arrow for the barrier if there is one.

  Args:
    lines: label -> Dataset with dim `t`, from `gdlab.analysis.interpolate`.
    name: the variable.

  Raises:
    InputError: if there is no line, or a variable is missing, has other dims or is nowhere finite.
  """
  with panels(1, width=4.6, height=3.4) as (figure, (axes,)):
    for number, (label, line) in enumerate(arms('lines', lines).items()):
      values = variable(f'lines[{label!r}]', line, name, ({'t'},))
      heights, t = numbers(f'lines[{label!r}].{name}', values.values, (1,)), line.t.values
      colour = COLOURS[number % len(COLOURS)]
      is_finite = bool(np.isfinite(heights).all())
      above = above_chord(heights, t) if is_finite else heights
      barrier = np.max(above) if is_finite else np.inf
      axes.plot(
        t,
        heights,
        color=colour,
        linestyle=LINES[number % len(LINES)],
        label=f'{label}: barrier {barrier:.2g}',
      )
      axes.plot(t[[0, -1]], heights[[0, -1]], 'o', color=colour, markersize=5)
      if is_finite and barrier > 0.03 * np.ptp(heights):
        top = int(np.argmax(above))
        ends = (t[top], heights[top] - above[top]), (t[top], heights[top])
        axes.annotate('', ends[1], ends[0], arrowprops={'arrowstyle': '<->', 'color': colour, 'linewidth': 1})
    axes.set(xlabel='t, from one solution to the other', ylabel=name.replace('_', ' '))
    axes.legend(fontsize=9)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.2 * (high - low))  # room for the legend
  return figure
