"""Parts of plots of runs, drawn into existing axes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.contour import ContourSet

from gdlab.core.errors import InputError
from gdlab.plots.style import COLOURS, MARKERS
from gdlab.statistics.intervals import along, floats

MIDDLE = (0.1, 0.5, 0.9)  # the median, and the ends of the middle 80 %


def quantiles(values: np.ndarray, levels: Sequence[float]) -> np.ndarray:
  """Quantiles over the first axis, float[level, ...]: NaN is left out, infinite values count.

  Linear between order statistics, like NumPy's, whose interpolation gives NaN between a finite and an infinite value:
  here the quantile is infinite there, and NaN between minus infinity and infinity.
  """
  ordered = np.sort(values, axis=0)  # NaN last
  last = np.maximum((~np.isnan(values)).sum(axis=0) - 1, 0)
  found = []
  for level in levels:
    place = level * last
    # A level times a whole number misses a whole number by rounding; then the next value must not count.
    place = np.where(np.isclose(place, np.rint(place), rtol=0, atol=1e-9), np.rint(place), place)
    below, part = np.floor(place).astype(int), place % 1
    low, high = (
      np.take_along_axis(ordered, np.minimum(each, last)[None], axis=0)[0] for each in (below, below + 1)
    )
    with np.errstate(invalid='ignore'):
      between = np.where(np.isfinite(low), low + part * (high - low), (1 - part) * low + part * high)
    found.append(np.where((part == 0) | (low == high), low, between))
  return np.array(found)


def band(axes: Axes, x: npt.ArrayLike, values: npt.ArrayLike, label: str, number: int = 0) -> None:
  """Draws the median over seeds and a band of the middle 80 %.

  An infinite value counts as larger (or smaller) than any other. Where the median is infinite the line has a gap; an
  infinite end of the band is drawn at the largest (smallest) finite value.

  Args:
    axes: the axes.
    x: float[t], or float[seed, t], whose median is used.
    values: float[seed, t]; NaN (a run without a value there) is left out.
    label: for the legend.
    number: of the colour.

  Raises:
    InputError: if shapes do not match.
  """
  x, values = _by_seed(x, values)
  low, middle, high = quantiles(values, MIDDLE)
  seen = ~np.isnan(middle)
  finite = values[np.isfinite(values)]
  ends = (finite.min(), finite.max()) if finite.size else (np.nan, np.nan)
  colour = COLOURS[number % len(COLOURS)]
  axes.plot(x[seen], np.where(np.isfinite(middle), middle, np.nan)[seen], color=colour, label=label)
  low, high = np.clip(low, *ends), np.clip(high, *ends)
  axes.fill_between(x[seen], low[seen], high[seen], color=colour, alpha=0.2, linewidth=0)


def spread(
  axes: Axes, x: npt.ArrayLike, values: npt.ArrayLike, label: str, number: int = 0, line: str = '-'
) -> None:
  """Draws the median over seeds at few points, with bars over the middle 80 %.

  An infinite value counts as larger (or smaller) than any other: an infinite end of a bar is an arrow to the border of
  the axes, an infinite median a hollow triangle there.

  Args:
    axes: the axes.
    x: float[k].
    values: float[seed, k]; NaN (a run without a value there) is left out.
    label: for the legend.
    number: of the colour and marker.
    line: Matplotlib's line style; '' for points only.

  Raises:
    InputError: if shapes do not match.
  """
  x, values = _by_seed(x, values)
  low, middle, high = quantiles(values, MIDDLE)
  seen, finite = ~np.isnan(middle), np.isfinite(middle)
  colour = COLOURS[number % len(COLOURS)]
  with np.errstate(invalid='ignore'):
    bars = np.maximum([middle - low, high - middle], 0)
  axes.errorbar(
    x[seen],
    np.where(finite, middle, np.nan)[seen],
    yerr=np.where(np.isfinite(bars), bars, 0)[:, seen],
    color=colour,
    marker=MARKERS[number % len(MARKERS)],
    linestyle=line,
    markersize=5,
    capsize=2,
    label=label,
  )
  for border, end, mark in ((1.0, high, '^'), (0.0, low, 'v')):
    sign = 1 if border else -1
    unbounded = finite & (end == sign * np.inf)
    arrows(axes, x[unbounded], middle[unbounded], border, colour)
    beyond = middle == sign * np.inf
    if beyond.any():
      axes.plot(
        x[beyond],
        np.full(beyond.sum(), border),
        marker=mark,
        color=colour,
        markerfacecolor='white',
        markersize=7,
        linestyle='',
        clip_on=False,
        transform=axes.get_xaxis_transform(),
        label=f'{label}: {"" if border else "minus "}infinite',
      )


def arrows(axes: Axes, x: np.ndarray, y: np.ndarray, border: float, colour: str) -> None:
  """Arrows from points to a border of the axes, 1 for the upper and 0 for the lower one: bars with an infinite end."""
  style = {'arrowstyle': '->', 'color': colour, 'linewidth': 1.2, 'shrinkA': 0, 'shrinkB': 0}
  for place, start in zip(x, y, strict=True):
    axes.annotate(
      '', (place, border), (place, start), axes.get_xaxis_transform(), textcoords='data', arrowprops=style
    )


def _by_seed(x: npt.ArrayLike, values: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  """The positions x[k] and the values[seed, k]."""
  x, values = along('x', x, 'seed', ...), along('values', values, 'seed', ...)
  if values.ndim != 2 or x.shape not in (values.shape, values.shape[1:]):
    raise InputError(f'values must have shape [seed, k] and x [k], got {values.shape} and {x.shape}')
  return quantiles(x, (0.5,))[0] if x.ndim == 2 else x, values


def surface(axes: Axes, x: npt.ArrayLike, y: npt.ArrayLike, values: npt.ArrayLike, minimum: float) -> None:
  """Draws contours of a loss of two parameters, spaced evenly in the logarithm of its excess over the minimum.

  Args:
    axes: the axes.
    x: float[k], first parameter.
    y: float[m], second parameter.
    values: float[m, k], the loss; where it is not finite nothing is drawn.
    minimum: its smallest value anywhere.
  """
  excess = np.maximum(_finite(values) - minimum, 0)
  levels = np.geomspace(np.nanquantile(excess, 0.005) + 1e-12, np.nanmax(excess), 16)
  axes.contourf(x, y, excess, levels=np.concatenate([[0], levels]), cmap='Greys', alpha=0.35)
  axes.contour(x, y, excess, levels=levels, colors='grey', linewidths=0.5)
  axes.grid(False)


def contours(axes: Axes, x: npt.ArrayLike, y: npt.ArrayLike, values: npt.ArrayLike) -> ContourSet | None:
  """Draws contours of a function of two parameters, with equal areas between them.

  Unlike evenly spaced levels these show valleys, plateaus and cliffs alike, and need no minimum.

  Args:
    axes: the axes.
    x: float[k], first parameter.
    y: float[m], second parameter.
    values: float[m, k], the function; where it is not finite nothing is drawn.

  Returns:
    The contour lines, for labels; None if there are none.
  """
  values = _finite(values)
  levels = np.unique(np.quantile(values[~np.isnan(values)], np.linspace(0, 1, 22)))
  axes.grid(False)
  if len(levels) <= 1:
    return None
  axes.contourf(x, y, values, levels=levels, cmap='Greys', alpha=0.35, norm=BoundaryNorm(levels, 256))
  return (
    None
    if len(levels) == 2
    else axes.contour(x, y, values, levels=levels[1:-1], colors='grey', linewidths=0.5)
  )


def _finite(values: npt.ArrayLike) -> np.ndarray:
  """The values with NaN where they are not finite: Matplotlib leaves NaN out, and refuses an infinite level."""
  heights = floats('values', values)
  if not np.isfinite(heights).any():
    raise InputError('values must be finite somewhere')
  return np.where(np.isfinite(heights), heights, np.nan)
