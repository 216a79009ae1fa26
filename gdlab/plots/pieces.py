"""What pictures of runs are made of: drawn into axes that are there already."""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.contour import ContourSet

from gdlab.plots.style import COLOURS, MARKERS


def band(axes: Axes, x: npt.ArrayLike, values: npt.ArrayLike, label: str, number: int = 0) -> None:
  """Draws the median over seeds and the band that holds the middle 80 % of them.

  Args:
    axes: where.
    x: float[t], or float[seed, t] whose median is taken.
    values: float[seed, t]; NaN (a run without a value there) is left out.
    label: for the legend.
    number: which colour.
  """
  x, values = np.asarray(x, float), np.asarray(values, float)
  x = np.median(x, axis=0) if x.ndim == 2 else x
  seen = np.isfinite(values).any(axis=0)
  low, middle, high = np.nanquantile(values[:, seen], (0.1, 0.5, 0.9), axis=0)
  colour = COLOURS[number % len(COLOURS)]
  axes.plot(x[seen], middle, color=colour, label=label)
  axes.fill_between(x[seen], low, high, color=colour, alpha=0.2, linewidth=0)


def spread(
  axes: Axes, x: npt.ArrayLike, values: npt.ArrayLike, label: str, number: int = 0, line: str = '-'
) -> None:
  """Draws the median over seeds at few points, with bars over the middle 80 %.

  Args:
    axes: where.
    x: float[k].
    values: float[seed, k]; NaN (a run without a value there) is left out.
    label: for the legend.
    number: which colour and marker.
    line: Matplotlib's line style; '' for points alone.
  """
  x, values = np.asarray(x, float), np.asarray(values, float)
  seen = np.isfinite(values).any(axis=0)
  low, middle, high = np.nanquantile(values[:, seen], (0.1, 0.5, 0.9), axis=0)
  axes.errorbar(
    x[seen],
    middle,
    yerr=(middle - low, high - middle),
    color=COLOURS[number % len(COLOURS)],
    marker=MARKERS[number % len(MARKERS)],
    linestyle=line,
    markersize=5,
    capsize=2,
    label=label,
  )


def surface(axes: Axes, x: npt.ArrayLike, y: npt.ArrayLike, values: npt.ArrayLike, minimum: float) -> None:
  """Draws contours of a loss of two parameters, spaced evenly in the logarithm of its excess over the minimum.

  Args:
    axes: where.
    x: float[k], first parameter.
    y: float[m], second parameter.
    values: float[m, k], the loss.
    minimum: its smallest value anywhere.
  """
  excess = np.maximum(np.asarray(values, float) - minimum, 0)
  levels = np.geomspace(np.quantile(excess, 0.005) + 1e-12, excess.max(), 16)
  axes.contourf(x, y, excess, levels=np.concatenate([[0], levels]), cmap='Greys', alpha=0.35)
  axes.contour(x, y, excess, levels=levels, colors='grey', linewidths=0.5)
  axes.grid(False)


def contours(axes: Axes, x: npt.ArrayLike, y: npt.ArrayLike, values: npt.ArrayLike) -> ContourSet | None:
  """Draws contours of a function of two parameters, with equal areas between them.

  Unlike evenly spaced levels these show valleys, plateaus and cliffs alike, and need no minimum.

  Args:
    axes: where.
    x: float[k], first parameter.
    y: float[m], second parameter.
    values: float[m, k], the function.

  Returns:
    The contour lines, to be labelled; None where there is none between two values.
  """
  levels = np.unique(np.quantile(np.asarray(values, float), np.linspace(0, 1, 22)))
  axes.grid(False)
  if len(levels) <= 1:
    return None
  axes.contourf(x, y, values, levels=levels, cmap='Greys', alpha=0.35, norm=BoundaryNorm(levels, 256))
  return (
    None
    if len(levels) == 2
    else axes.contour(x, y, values, levels=levels[1:-1], colors='grey', linewidths=0.5)
  )
