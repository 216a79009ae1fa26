"""Survival curves: the share of runs that have not reached the target yet."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from gdlab.core.errors import InputError
from gdlab.plots.inputs import arms
from gdlab.plots.style import COLOURS, LINES, panels
from gdlab.statistics import Crossing, kaplan_meier


def survival(
  crossings: Mapping[str, Crossing], *, confidence: float = 0.95, log: bool = False, xlabel: str = 'updates'
) -> Figure:
  """The Kaplan-Meier curve of each arm with its band; ticks mark runs that ended before they reached the target.

  Args:
    crossings: label -> Crossing of shape [n], from `gdlab.statistics.first_crossing`.
    confidence: of the bands, in (0, 1).
    log: whether time is on a logarithmic scale; it must then be positive.
    xlabel: the unit of time.

  Raises:
    InputError: if there is no arm, a time is 0 on a logarithmic scale, or as `gdlab.statistics.kaplan_meier`.
  """
  with panels(1, width=7.4, height=3.4) as (figure, (axes,)):
    found = {
      label: kaplan_meier(crossing, confidence=confidence)
      for label, crossing in arms('crossings', crossings).items()
    }
    first = min(curve.time[0] for curve in found.values()) / 2 if log else 0.0
    if log and first <= 0:
      raise InputError('crossings must have times > 0 for a logarithmic scale, got 0')
    for number, (label, curve) in enumerate(found.items()):
      colour, line = COLOURS[number % len(COLOURS)], LINES[number % len(LINES)]
      time = np.concatenate([[first], curve.time])
      share, low, high = (np.concatenate([[1.0], values]) for values in (curve.share, curve.low, curve.high))
      low[0] = 1.0
      axes.step(time, share, where='post', color=colour, linestyle=line, label=label)
      axes.fill_between(time, low, high, step='post', color=colour, alpha=0.18, linewidth=0)
      lost = curve.censored > 0
      axes.plot(
        curve.time[lost], curve.share[lost], '|', color=colour, markersize=11, markeredgewidth=1.8,
        label=None if not lost.any() else f'{label}: {curve.censored.sum()} never reached it',
      )  # fmt: skip
    axes.set(xlabel=xlabel, ylabel='share not yet at the target', ylim=(-0.03, 1.05))
    axes.set_xscale('log' if log else 'linear')
    figure.legend(loc='outside right upper', fontsize=8)  # curves leave no corner free
  return figure
