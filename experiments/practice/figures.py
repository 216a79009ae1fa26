"""The sections of the page: pictures, and tables where numbers are compared."""

import numpy as np
from matplotlib.figure import Figure

from experiments.practice import seen
from experiments.practice.seen import Seen
from experiments.practice.study import practice
from gdlab import plots
from gdlab.report import Table

BANDS = 'Medians over seeds, and the middle 80 %'


@practice.section(
  'Finite differences',
  'Truncation falls with the step, by its square for central differences, and rounding grows (P4). A gradient that is '
  'wrong by 0.1 % ends on a plateau, however small the step.',
  caption=f'{BANDS}, of the error relative to what a direction sees of the gradient; steps over the parameters.',
)
def _differences(view: Seen) -> Figure:
  cell, shown = view.cell('differences'), (('central', 'right'), ('forward', 'right'), ('central', 'wrong'))
  lines = {f'{kind}, {which} gradient': cell.sel(kind=kind, gradient=which) for kind, which in shown}
  figure = plots.curves(lines, 'error', label='relative error')
  figure.axes[0].set(xscale='log', xlabel='step over the norm of the parameters')
  return figure


@practice.section(
  'MNIST',
  'All training images but those for validation, each network at its best rate (P6). Seconds are updates times the '
  'seconds of one in a compiled loop, without evaluation.',
  caption=f'{BANDS}. Dotted: 95 %.',
  when=lambda config: config.mnist.asked,
  printed=True,
)
def _mnist(view: Seen) -> tuple[Figure, Table]:
  rows, lines = [], {}
  for layers in seen.LAYERS:
    rate, update = view.chosen(layers), float(view.cell('clock').seconds.sel(arm=layers))
    runs = view.cell(f'runs_{layers}').sel(learning_rate=rate)
    lines[f'{layers} layer{"s" * (layers != "one")}'] = runs.isel(step=slice(1, None))
    there = runs.test_accuracy.transpose('seed', 'step').values >= 0.95
    first = runs.step.values[there[there.any(axis=1)].argmax(axis=1)]
    count = np.median(first) if len(first) else np.inf
    told = f'{float(view.ends(layers, rate).mean()):.2%}', f'{len(first)} of {len(there)}'
    spent = (f'{count * view.config.mnist.batch_size:,.0f}', f'{count * update:.2g}')
    rows.append((layers, f'{rate:g}', *told, *(spent if len(first) else ('never', 'never'))))
  figure = plots.curves(lines, 'test_accuracy', log=False, target=0.95, label='test accuracy')
  return figure, Table(('layers', 'best rate', 'mean accuracy', 'came to 95 %', 'examples', 'seconds'), rows)


@practice.section(
  'With and without batch normalisation',
  'Curvature of the loss that is trained (P7), and of another: with the population statistics of the same images held '
  'fixed, at the same parameters, where it has the same value (P7a).',
  caption=f'{BANDS}, at the equal rate {{config.norm.equal:g}}.',
)
def _norm(view: Seen) -> Figure:
  runs = {arm: view.cell(f'runs_{arm}').sel(learning_rate=view.config.norm.equal) for arm in seen.NORMS}
  trap = runs['normed'].assign({'landscape.train': runs['normed']['landscape.population']})
  lines = {'without': runs['plain'], 'with': runs['normed'], 'with, population statistics': trap}
  return plots.curves(lines, 'landscape.train', label='largest eigenvalue')


@practice.section(
  'Least squares against the clock',
  'Above the band mini-batches are faster (P9). Who never comes to the excess loss has the time of all updates.',
  caption='Seconds over those of mini-batches to an excess loss, of that at 0: geometric means, intervals of 95 %.',
)
def _squares(view: Seen) -> Figure:
  options = view.config.squares
  with plots.panels(1, width=4.9, height=3.6) as (figure, (axes,)):
    axes.axhspan(1 / 1.1, 1.1, color='grey', alpha=0.15, linewidth=0)
    for number, excess in enumerate(options.targets):
      for place, method in enumerate(seen.METHODS[:2]):
        found = [view.over_mini_batches(size, method, excess) for size in options.sizes]
        middle, low, high = np.array([each[:3] for each in found]).T
        style = {'color': plots.COLOURS[place], 'marker': 'o', 'linestyle': plots.LINES[number], 'capsize': 2}
        bars = np.maximum([middle - low, high - middle], 0)
        axes.errorbar(options.sizes, middle, bars, label=f'{method}, {excess:g}', **style)
    axes.set(xscale='log', yscale='log', xlabel='weights', ylabel='seconds over those of mini-batches')
    axes.set_xticks(options.sizes, [f'{size:,}' for size in options.sizes])
    axes.set_xticks([], minor=True)
    axes.legend(fontsize=8, handlelength=4)  # long enough to tell dashes
  return figure
