"""The lab's style of picture, and the pieces that pictures of runs are made of.

Colours are those of Okabe and Ito (2008), told apart with any colour vision and by their lightness in print.
Figures are made without pyplot: nothing global is touched.
"""

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')
STYLE: dict[Any, Any] = {
  'axes.spines.right': False,
  'axes.spines.top': False,
  'axes.grid': True,
  'axes.titlesize': 11,
  'axes.titlelocation': 'left',
  'font.family': 'sans-serif',
  'font.size': 10,
  'grid.alpha': 0.25,
  'legend.frameon': False,
  'lines.linewidth': 1.6,
  'svg.fonttype': 'none',
  'svg.hashsalt': 'gdlab',
}


@contextlib.contextmanager
def panels(count: int, *, width: float = 3.6, height: float = 3.2) -> Iterator[tuple[Figure, Sequence[Axes]]]:
  """Yields a figure in the lab's style with `count` panels side by side, sizes in inches."""
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(width * count, height), layout='constrained')
    yield figure, figure.subplots(1, count, squeeze=False)[0]


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


def contours(axes: Axes, x: npt.ArrayLike, y: npt.ArrayLike, values: npt.ArrayLike) -> None:
  """Draws contours of a function of two parameters, with equal areas between them.

  Unlike evenly spaced levels these show valleys, plateaus and cliffs alike, and need no minimum.

  Args:
    axes: where.
    x: float[k], first parameter.
    y: float[m], second parameter.
    values: float[m, k], the function.
  """
  levels = np.unique(np.quantile(np.asarray(values, float), np.linspace(0, 1, 22)))
  if len(levels) > 1:  # a constant has no contours
    axes.contourf(x, y, values, levels=levels, cmap='Greys', alpha=0.35, norm=BoundaryNorm(levels, 256))
    axes.contour(x, y, values, levels=levels[1:-1], colors='grey', linewidths=0.5)
  axes.grid(False)


def to_svg(figure: Figure) -> str:
  """The figure as an <svg> element that shrinks with its page, the same bytes for the same figure."""
  buffer = io.StringIO()
  with matplotlib.rc_context(STYLE):
    figure.savefig(buffer, format='svg', metadata={'Date': None, 'Creator': None})
  svg = buffer.getvalue()
  width, height = figure.get_size_inches()
  # The page sets the width between the figure's own and what can still be read.
  limits = f'max-width: {width:g}in; min-width: {0.6 * width:g}in'
  size = f'<svg style="width: 100%; {limits}; aspect-ratio: {width / height:.4f}"'
  return re.sub(
    r'<svg\b', size, re.sub(r' (?:width|height)="[^"]*pt"', '', svg[svg.index('<svg') :], count=2), count=1
  )
