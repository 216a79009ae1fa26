"""The picture of one landscape: its contours, its stationary points, and five paths over it."""

from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gdlab import plots

KINDS = ('minimum', 'saddle', 'maximum', 'degenerate')
MARKERS = {'minimum': 'o', 'saddle': 'X', 'maximum': '^', 'degenerate': 'D'}
FEW = 40  # stationary points whose marks do not hide the contours
DPI = 90  # of the contours' image
FLAT = 1e-9  # eigenvalues this much smaller than the landscape's largest are zero


def label(method: str) -> str:
  """What pictures and tables call a method."""
  names = {'nesterov': 'Nesterov', 'adam': 'Adam'}
  return names.get(str(method), str(method).replace('_', ' '))


def kinds(result: xr.Dataset) -> list[str]:
  """What each stationary point is, by its eigenvalues."""
  if 'point' not in result:
    return []
  found, scale = [], max(1.0, float(np.abs(result.eigenvalues).max()))
  for row, index in zip(result.eigenvalues.values, result['index'].values):
    flat = bool((np.abs(row) <= FLAT * scale).any())
    found.append(
      'saddle' if 0 < index < len(row) else 'degenerate' if flat else 'maximum' if index else 'minimum'
    )
  return found


def landscape(result: xr.Dataset) -> Figure:
  """Left, the paths over the contours; right, the loss against updates."""
  with plots.panels(2, width=4.6, height=4.2) as (figure, (plane, curves)):
    _contours(plane, result)
    for number, name in enumerate(result.optimizer.values):
      path = result.params.sel(optimizer=name).values
      colour = plots.COLOURS[number % len(plots.COLOURS)]
      # What wanders goes below what does not.
      layer = 2.1 if name == 'noisy_descent' else 2.2
      look: dict[str, Any] = {'color': colour, 'label': label(name), 'zorder': layer}
      plane.plot(*path.T, linewidth=1.2, alpha=0.9, **look)
      curves.plot(result.step, result.train_loss.sel(optimizer=name), **look)
    start = result.params.values[0, 0]
    plane.plot(*start, marker='*', color='black', markersize=11, linestyle='', zorder=4, label='start')
    _mark(plane, result)
    plane.set(xlim=(float(result.x[0]), float(result.x[-1])), ylim=(float(result.y[0]), float(result.y[-1])))
    plane.set(xlabel='first parameter', ylabel='second parameter')
    _scale(curves, result)
    figure.legend(*plane.get_legend_handles_labels(), loc='outside lower center', ncols=5, fontsize=8)
  return figure


def drawn(result: xr.Dataset) -> str:
  """The picture for the page."""
  with matplotlib.rc_context({'savefig.dpi': DPI}):
    return plots.to_svg(landscape(result))


def _contours(axes: Axes, result: xr.Dataset) -> None:
  """As one image below everything else: as paths, those of rippled functions would make a page of 20 MB."""
  with matplotlib.rc_context({'contour.negative_linestyle': 'solid'}):
    plots.contours(axes, result.x, result.y, result.surface)
  for layer in axes.collections:
    layer.set_zorder(layer.get_zorder() - 10)
  axes.set_rasterization_zorder(0)


def _mark(axes: Axes, result: xr.Dataset) -> None:
  found = np.array(kinds(result))
  size = 46 if len(found) <= FEW else 10
  for kind in KINDS:
    if (found == kind).any():
      x, y = result.point.values[found == kind].T
      axes.scatter(
        x,
        y,
        size,
        'white',
        marker=MARKERS[kind],
        edgecolors='black',
        linewidths=size**0.5 / 6,
        zorder=5,
        label=kind,
      )


def _scale(axes: Axes, result: xr.Dataset) -> None:
  """From the lowest loss to the first: what rises above it on the way would flatten everything else."""
  axes.set(xlabel='updates', ylabel='loss', xscale='symlog', title='loss on the way')
  low, start = float(np.nanmin(result.train_loss)), float(result.train_loss[0, 0])
  axes.set_ylim(low - 0.05 * (start - low), start + 0.1 * (start - low))
