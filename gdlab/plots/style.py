"""The style of plots: colours, markers, figures without pyplot, and SVG for pages.

Colours are those of Okabe and Ito (2008), distinguishable with any colour vision and by lightness in print; markers and
line styles differ along with them.
"""

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from matplotlib.ticker import LogFormatterSciNotation

COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')
LINES: tuple[Any, ...] = ('-', '--', '-.', ':', (0, (5, 1, 1, 1, 1, 1)))
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
  """Yields a figure in this style with `count` panels in a row, and its axes; width and height per panel in inches."""
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(width * count, height), layout='constrained')
    yield figure, figure.subplots(1, count, squeeze=False)[0]


def to_svg(figure: Figure) -> str:
  """The figure as an `<svg>` element that scales with its page; the same figure gives the same bytes."""
  buffer = io.StringIO()
  with matplotlib.rc_context(STYLE):
    for axes in figure.axes:
      _label_more(axes.xaxis)
      _label_more(axes.yaxis)
    for text in figure.findobj(Text):
      text.set_parse_math(text.get_parse_math() and _is_math(text.get_text()))
    figure.savefig(buffer, format='svg', metadata={'Date': None, 'Creator': None})
  svg = buffer.getvalue()
  width, height = figure.get_size_inches()
  # The page sets the width between the figure's own and what can still be read.
  limits = f'max-width: {width:g}in; min-width: {0.6 * width:g}in'
  size = f'<svg style="width: 100%; {limits}; aspect-ratio: {width / height:.4f}"'
  return re.sub(
    r'<svg\b', size, re.sub(r' (?:width|height)="[^"]*pt"', '', svg[svg.index('<svg') :], count=2), count=1
  )


def _is_math(text: str) -> bool:
  """Whether text with dollar signs is valid mathematics; other text, such as a name with dollar signs, stays plain."""
  if text.count('$') < 2:
    return True
  try:
    MathTextParser('path').parse(text)
  except ValueError:
    return False
  return True


def _label_more(axis: Axis) -> None:
  """Labels between the powers of ten where a logarithmic axis shows fewer than two of them."""
  if axis.get_scale() == 'log':
    low, high = sorted(axis.get_view_interval())
    if np.floor(np.log10(high)) - np.ceil(np.log10(low)) < 1:
      axis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(2, 0.6)))
