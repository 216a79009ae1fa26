"""Steps to a target against the batch size."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gdlab.core.errors import InputError
from gdlab.plots.inputs import arms, numbers
from gdlab.plots.pieces import arrows
from gdlab.plots.style import COLOURS, LINES, MARKERS, panels
from gdlab.statistics import Crossing, fit_bend


def steps_by_batch_size(
  batch_sizes: npt.ArrayLike, crossings: Mapping[str, Crossing], *, fit: bool = True
) -> Figure:
  r"""Median steps to a target against the batch size, both logarithmic, with 1/B and the fitted bend.

  A marker with a bar is the median over seeds with the middle 80 %; an arrow replaces an upper end that is censored. A
  hollow triangle means that at least half of the runs did not reach the target; it is at the median of the steps they
  made, a lower bound. Dotted: 1/B from the smallest batch, perfect scaling. Thin:
  $S = S_\text{min} (1 + B_\text{crit} / B)$ as fitted by `gdlab.statistics.fit_bend`.

  Args:
    batch_sizes: float[k] > 0.
    crossings: label -> Crossing of shape [seed, k] or [k], from `gdlab.statistics.first_crossing`.
    fit: whether to fit; an arm needs three batch sizes with a finite median.

  Raises:
    InputError: if shapes do not match, or a batch size or a time is not positive.
  """
  sizes = numbers('batch_sizes', batch_sizes, (1,), finite=True)
  if (sizes <= 0).any():
    raise InputError(f'batch_sizes must be positive, got {sizes.tolist()}')
  with panels(1, width=4.9, height=3.9) as (figure, (axes,)):
    lowest = np.inf
    for number, (label, crossing) in enumerate(arms('crossings', crossings).items()):
      name = f'crossings[{label!r}]'
      times = np.atleast_2d(numbers(f'{name}.time', crossing[0], (1, 2), finite=True))
      censored = np.atleast_2d(np.asarray(crossing[1], bool))
      if times.shape[1] != sizes.size or censored.shape != times.shape:
        raise InputError(f'{name} must have shape [seed, {sizes.size}], got {times.shape}, {censored.shape}')
      if (times <= 0).any():
        raise InputError(f'{name} must have times > 0 for a logarithmic scale, got {times.min():g}')
      lowest = min(lowest, times.min())
      _arm(axes, sizes, times, censored, label, number, fit)
    axes.set(xlabel='batch size B', ylabel='updates to the target', yscale='log')
    axes.set_xscale('log', base=2)
    axes.set_ylim(lowest / 2, None)  # 1/B goes on far below what was measured
    axes.legend(fontsize=8)
  return figure


def _arm(
  axes: Axes, sizes: np.ndarray, times: np.ndarray, censored: np.ndarray, label: str, number: int, fit: bool
) -> None:
  """One arm's points, its 1/B line and its fit."""
  colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
  steps = np.where(censored, np.inf, times)
  low, high = np.quantile(steps, (0.1, 0.9), axis=0, method='inverted_cdf')
  middle = np.median(steps, axis=0)  # as `fit_bend` has it: infinite where half never got there
  seen = np.isfinite(middle)
  dense = np.geomspace(sizes.min(), sizes.max(), 200)
  if seen.any():
    axes.errorbar(
      sizes[seen],
      middle[seen],
      yerr=(
        middle[seen] - low[seen],
        np.maximum(np.where(np.isfinite(high), high, middle)[seen] - middle[seen], 0),
      ),
      color=colour,
      marker=marker,
      markersize=5,
      linestyle='',
      capsize=2,
      label=label,
    )
    unbounded = seen & ~np.isfinite(high)
    arrows(axes, sizes[unbounded], middle[unbounded], 1.0, colour)
    first = np.flatnonzero(seen)[np.argmin(sizes[seen])]
    perfect = middle[first] * sizes[first] / dense
    axes.plot(dense, perfect, color=colour, linestyle=':', linewidth=1, label='1/B' if number == 0 else None)
  if not seen.all():
    axes.plot(
      sizes[~seen],
      np.median(times, axis=0)[~seen],
      marker='^',
      color=colour,
      markerfacecolor='white',
      markersize=7,
      linestyle='',
      label=f'{label}: not reached by then',
    )
  if fit and np.unique(sizes[seen]).size >= 3:
    found = fit_bend(sizes, steps, num_resamples=1)
    least, critical = found.least_steps.estimate, found.critical_batch_size.estimate
    if np.isfinite(critical) and least > 0:
      axes.plot(
        dense,
        least * (1 + critical / dense),
        color=colour,
        linewidth=1,
        linestyle=LINES[number % 3],
        label=f'fit: S min {least:.3g}, B crit {critical:.3g}',
      )
