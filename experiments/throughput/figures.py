"""The benchmark's pictures."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.throughput.ratios import LANES_AT_MOST, LANES_FLAT_FROM, Ratio
from gdlab import plots

CONTENDERS = ('python loop', 'python loop, fused', 'jit(vmap)', 'PyTorch eager')


def ratios(rows: Sequence[Ratio], skipped: Sequence[str]) -> Figure:
  """How many times as fast gdlab is as each contender, and its share of the peak, against the targets."""
  sizes = sorted({row.batch_size for row in rows if row.name in CONTENDERS})
  with plots.panels(2, width=4.8) as (figure, (panel, share)):
    for number, name in enumerate(CONTENDERS):
      label = f'{name} (skipped)' if name in skipped else name
      _bars(panel, rows, sizes, name, label, number, len(CONTENDERS))
    panel.axhline(1, color='black', linewidth=0.8)
    panel.set(yscale='log', ylabel='times as fast as', title='gdlab against')
    _bars(share, rows, sizes, 'share of peak', 'gdlab', len(CONTENDERS), 1)
    share.set(ylim=(0, 1), title='share of the matrix-product peak')
    for axes in (panel, share):
      axes.plot([], [], color='black', linewidth=2, label='target')
      axes.set_xticks(range(len(sizes)), [f'B={size}' for size in sizes])
      axes.grid(axis='x', visible=False)
      axes.legend(fontsize=8)
  return figure


def _bars(axes, rows: Sequence[Ratio], sizes: list[int], name: str, label: str, number: int, of: int) -> None:
  """One contender's bar at every batch size, with a line where the target is."""
  width = 0.8 / of
  place = {size: x + (number % of - (of - 1) / 2) * width for x, size in enumerate(sizes)}
  ours = [row for row in rows if row.name == name and row.batch_size in place]
  x = [place[row.batch_size] for row in ours]
  axes.bar(x, [row.value for row in ours], 0.9 * width, color=plots.COLOURS[number], label=label)
  for at, row in zip(x, ours):
    text = f'{row.value:.2f}' if row.value < 1 else f'{row.value:.3g}'
    axes.annotate(text, (at, row.value), (0, 2), textcoords='offset points', ha='center', fontsize=8)
    if row.target is not None:
      axes.hlines(row.target, at - 0.5 * width, at + 0.5 * width, color='black', linewidth=2)


def lanes(counts: Sequence[int], milliseconds: np.ndarray) -> Figure:
  """Time per lane against the number of lanes; `milliseconds` is float[round, count]."""
  with plots.panels(1, width=6) as (figure, (panel,)):
    plots.spread(panel, counts, milliseconds, 'gdlab, median and middle 80 %', 0)
    many = np.median(milliseconds, axis=0)[np.asarray(counts) >= LANES_FLAT_FROM]
    if len(many):
      best = float(many.min())
      panel.axhspan(best, LANES_AT_MOST * best, color='grey', alpha=0.2, linewidth=0, label='target')
    panel.set(xscale='log', xlabel='lanes', ylabel='milliseconds per lane', title='cost of a lane')
    panel.set_ylim(bottom=0)
    panel.set_xticks(counts, [str(count) for count in counts])
    panel.minorticks_off()
    panel.legend()
  return figure
