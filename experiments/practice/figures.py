"""The sections of the page: pictures, and tables where numbers are compared."""

import numpy as np
from matplotlib.figure import Figure

from experiments.practice import effects, seen
from experiments.practice.seen import Seen
from experiments.practice.study import practice
from gdlab import plots
from gdlab.report import Table

ONE = {'width': 4.9, 'height': 3.6}  # a column of the page, and a phone


@practice.section(
  'Finite differences',
  'Truncation falls with the step, by its square for central differences, and rounding grows (P4). A gradient that is '
  'wrong by 0.1 % ends on a plateau, however small the step.',
  caption='Errors relative to what a direction sees of the gradient: medians over seeds, and the middle 80 %.',
)
def _differences(view: Seen) -> Figure:
  errors = view.cell('differences').error.transpose('seed', 'step', ...)
  with plots.panels(1, **ONE) as (figure, (axes,)):
    for place, (kind, gradient) in enumerate(
      (('central', 'right'), ('forward', 'right'), ('central', 'wrong'))
    ):
      values = errors.sel(kind=kind, gradient=gradient)
      plots.band(axes, errors.step, values, f'{kind}, {gradient} gradient', place)
    axes.set(
      xscale='log', yscale='log', xlabel='step over the norm of the parameters', ylabel='relative error'
    )
    axes.legend(fontsize=8)
  return figure


@practice.section(
  'MNIST',
  'All training images but those for validation, each network at its best rate (P6). Seconds are updates times the '
  'seconds of one in a compiled loop, without evaluation.',
  caption='Medians and the middle 80 % of seeds. Dotted: 95 %.',
  when=lambda config: config.mnist.asked,
  printed=True,
)
def _mnist(view: Seen) -> tuple[Figure, Table]:
  rows, size = [], view.config.mnist.batch_size
  with plots.panels(1, **ONE) as (figure, (axes,)):
    for place, layers in enumerate(seen.LAYERS):
      rate, update = view.chosen(layers), float(view.cell('clock').seconds.sel(arm=layers))
      accuracy = view.cell(f'runs_{layers}').sel(learning_rate=rate).test_accuracy.transpose('seed', 'step')
      plots.band(axes, accuracy.step[1:], accuracy[:, 1:], f'{layers} layers', place)
      there = accuracy.values >= 0.95
      first = accuracy.step.values[there[there.any(axis=1)].argmax(axis=1)]
      count = np.median(first) if len(first) else np.inf
      told = f'{float(accuracy[:, -1].mean()):.2%}', f'{len(first)} of {len(there)}'
      rows.append((layers, f'{rate:g}', *told, f'{count * size:,.0f}', f'{count * update:.2g}'))
    axes.axhline(0.95, color='black', linewidth=0.8, linestyle=':')
    axes.set(xlabel='updates', ylabel='test accuracy', ylim=(0.85, 1))
    axes.legend(fontsize=8, loc='lower right')
  return figure, Table(('layers', 'best rate', 'mean accuracy', 'came to 95 %', 'examples', 'seconds'), rows)


@practice.section(
  'With and without batch normalisation',
  'Left, curvature of the loss that is trained, and of another: with the population statistics of the same images held '
  'fixed, at the same parameters, where it has the same value (P7a). Right, how much the gradient changes along '
  'itself, over the step (P7).',
  caption='At the equal rate {config.norm.equal:g}: medians and the middle 80 % of seeds.',
)
def _norm(view: Seen) -> Figure:
  told = {'train': '', 'population': ', population', 'smoothness': ''}
  with plots.panels(2, width=4.4, height=3.5) as (figure, axes):
    for place, (arm, said) in enumerate(seen.NORMS.items()):
      runs = view.cell(f'runs_{arm}').sel(learning_rate=view.config.norm.equal).transpose('seed', 'step', ...)
      for name, more in told.items():
        if arm == 'normed' or name != 'population':
          panel, colour = axes[name == 'smoothness'], place + 2 * (name == 'population')
          plots.band(panel, runs.step, runs[f'landscape.{name}'], said + more, colour)
    axes[0].set(yscale='log', xlabel='updates', ylabel='largest eigenvalue')
    axes[1].set(yscale='log', xlabel='updates', ylabel='change of the gradient over the step')
    axes[0].legend(fontsize=8)
  return figure


@practice.section(
  'Least squares against the clock',
  'Above the band mini-batches are faster (P9). Who never comes to the excess loss has the time of all passes.',
  caption='Seconds over those of mini-batches to an excess loss, of that at 0: means over seeds, intervals of 95 %.',
)
def _squares(view: Seen) -> Figure:
  options = view.config.squares
  with plots.panels(1, **ONE) as (figure, (axes,)):
    axes.axhspan(1 / 1.1, 1.1, color='grey', alpha=0.15, linewidth=0)
    for target, excess in enumerate(options.targets):
      for place, method in enumerate(seen.METHODS[:2]):
        found = [effects.time_ratio(view, method, at, target) for at in range(len(options.sizes))]
        middle, low, high = np.array([each[:3] for each in found]).T
        style = {'color': plots.COLOURS[place], 'marker': 'o', 'linestyle': plots.LINES[target], 'capsize': 2}
        bars = np.maximum([middle - low, high - middle], 0)
        axes.errorbar(options.sizes, middle, bars, label=f'{method}, {excess:g}', **style)
    axes.set(xscale='log', yscale='log', xlabel='weights', ylabel='seconds over those of mini-batches')
    axes.legend(fontsize=8)
  return figure
