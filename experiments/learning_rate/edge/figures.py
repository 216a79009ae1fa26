"""The sections of the page on the edge of stability and on warm-up: pictures, and tables where numbers are compared."""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from experiments.learning_rate.edge import claims, effects, warm  # noqa: F401  (claims registers)
from experiments.learning_rate.edge.measure import METHODS
from experiments.learning_rate.study import steps
from gdlab import plots
from gdlab.report import Table, number
from gdlab.study import View

NAMES = {
  'sharp': 'sharp start',
  'flat': 'flat start',
  'adam': 'Adam',
  'adam_v0': 'Adam, v0 = g0^2',
}


@steps.section(
  'Sharpness climbs to the border and stays',
  'A tanh network in full-batch training, at several rates; Polyak and Nesterov with momentum '
  '{config.edge.climb.momentum} at the rates whose borders are the same (L2). Control: a rate whose border, '
  '{config.edge.climb.control}, is out of reach. The table has the sharpness at the start, its mean over the second '
  'half of the records over the border, and the share of these within a fifth of it.',
  caption='Largest eigenvalue of the Hessian: median and the middle 80 % of seeds. Dotted: the border of stability of '
  'each rate. Dashed, left: the central flow from the same starts (L12), which knows of no oscillation but its mean.',
  printed=True,
)
def _climb(view: View) -> tuple[Figure, Table]:
  rows = []
  with plots.panels(3, width=3.2, height=3.4) as (figure, panels):
    for axes, method in zip(panels, METHODS, strict=True):
      runs = view.cell(f'climb_{method}')
      for place, border in enumerate(view.config.edge.climb.borders):
        values = runs.sharpness.sel(border=border).transpose('seed', 'record').values
        plots.band(axes, runs.record.values, values, f'border {border:g}', place)
        axes.axhline(border, color=plots.COLOURS[place], linestyle=':', linewidth=1)
        if method == 'plain':
          flow = view.cell('flow').sharpness.sel(border=border).median('seed')
          axes.plot(flow.record, flow, '--', color='black', linewidth=1)
        ratio = effects.settled(effects.over_border(view, method).sel(border=border))
        near = float((abs(ratio - 1) <= effects.NEAR).mean())
        start = float(runs.sharpness.sel(border=border).isel(record=0).mean())
        rows.append((method, f'{border:g}', number(start), number(float(ratio.mean())), f'{near:.2f}'))
      if method == 'plain':
        control = runs.sharpness.sel(border=view.config.edge.climb.control).transpose('seed', 'record').values
        plots.band(axes, runs.record.values, control, 'control', len(view.config.edge.climb.borders))
      axes.set(title=method, xlabel='updates', ylabel='sharpness')
    panels[0].legend(fontsize=7)
  return figure, Table(('method', 'border', 'start', 'over the border', 'within a fifth'), rows)


@steps.section(
  'The central flow beside training',
  'Training at the edge has bursts: sharpness passes the border, the loss shoots up along one direction, and that '
  'pushes sharpness down. The flow has their mean, L + tr Sigma / lr (L12). On the model of two variables the mean '
  'of x^2 is to be 2a/b.',
  caption='Left: one seed, the loss of every update, its mean over blocks, the mean loss of the flow, and L on the '
  'flow without the oscillation (dotted). Right: x^2 on the model, one seed, with the least noise, and the variance of '
  'the flow.',
)
def _flow(view: View) -> Figure:
  options, runs, flow = view.config.edge.climb, view.cell('climb_plain'), view.cell('flow')
  border = options.borders[len(options.borders) // 2]
  own, beside = (cell.sel(border=border).isel(seed=0) for cell in (runs, flow))
  model = view.cell('model').isel(noise=0)
  with plots.panels(2, width=4.8, height=3.4) as (figure, (left, right)):
    left.plot(own.step, own.loss, color='grey', linewidth=0.5, alpha=0.6, label='training')
    blocks = own.loss.coarsen(step=8 * options.every, boundary='trim').mean()
    left.plot(
      blocks.step, blocks, color=plots.COLOURS[0], drawstyle='steps-mid', label='training, block means'
    )
    left.plot(beside.record, beside.mean_loss, color=plots.COLOURS[1], label='flow, mean loss')
    left.plot(beside.record, beside.loss, ':', color=plots.COLOURS[1], label='flow, L alone')
    left.set(yscale='log', xlabel='updates', ylabel='training loss')
    left.legend(fontsize=7)
    right.plot(model.path.values, color=plots.COLOURS[0], linewidth=0.8)
    right.axhline(model.variance, color=plots.COLOURS[1], label='flow')
    right.plot(np.cumsum(model.path.values) / np.arange(1, len(model.path) + 1), 'k--', label='mean so far')
    right.set(xlabel='updates', ylabel='x squared', ylim=(0, None))
    right.legend(fontsize=7)
  return figure


@steps.section(
  'The edge of mini-batches',
  'What counts for SGD is the curvature of each batch along its own gradient (L13). The table has the means over the '
  'second half of training.',
  caption='Over 2/lr, median and the middle 80 % of seeds: what batches see, and the sharpness of the full loss.',
)
def _batches(view: View) -> tuple[Figure, Table]:
  rows = []
  measures = {'batch_sharpness': 'batches', 'sharpness': 'full loss'}
  found = {name: (size, rate) for name, (size, rate) in warm.cases(view.config).items()}
  with plots.panels(len(found), width=3.2, height=3.2) as (figure, panels):
    for axes, (name, (size, rate)) in zip(panels, found.items(), strict=True):
      runs, row = view.cell(f'batches_{name}'), [str(size), f'{rate:g}']
      for place, (measure, label) in enumerate(measures.items()):
        ratio = (runs[measure] * rate / 2).transpose('seed', 'step')
        plots.band(axes, runs.step.values, ratio.values, label, place)
        row.append(number(float(effects.settled(ratio, 'step').mean())))
      axes.axhline(1, color='black', linestyle=':', linewidth=1)
      axes.set(
        title=f'B={size}, rate {rate:g}', xlabel='updates', ylabel='sharpness over 2/lr', ylim=(0, 1.5)
      )
      rows.append((*row, number(float(runs.train_loss.isel(step=-1).median()))))
    panels[0].legend(fontsize=7)
  return figure, Table(
    ('B', 'rate', 'batches, over 2/lr', 'full loss, over 2/lr', 'last training loss'), rows
  )


@steps.section(
  'Warm-up by length and peak',
  'Full batch on images, from a start of large sharpness, from a flat one, and Adam from the sharp start, as usual and '
  'with v0 = g0^2 (L15). The table has the medians over seeds of the largest good rate, and the best loss at any.',
  caption='Median final loss; dark is low, white diverged. Vertical line: 2/lambda_0, median over seeds. Contour: good '
  'below it.',
  printed=True,
)
def _warm(view: View) -> tuple[Figure, Table]:
  rows, target = [], view.config.edge.warm.target
  with plots.panels(4, width=2.6, height=3.2) as (figure, panels):
    for axes, (kind, label) in zip(panels, NAMES.items(), strict=True):
      cell = view.cell(f'warm_{kind}')
      loss = cell.loss.transpose('length', 'peak', 'seed').median('seed')
      drawn = loss.where(np.isfinite(loss)).values
      places = np.arange(loss.sizes['length'])
      mesh = axes.pcolormesh(cell.peak.values, places, drawn, norm=LogNorm(0.005, 0.5), cmap='viridis')
      axes.contour(
        cell.peak.values, places, np.where(np.isfinite(drawn), drawn, 1.0), [target], colors='white'
      )
      if not kind.startswith('adam'):
        axes.axvline(float(effects.border(view, kind).median()), color='red')
      axes.set(xscale='log', title=label, xlabel='peak rate', yticks=places)
      axes.set_yticklabels([f'{length:g}' for length in cell.length.values])
      without, with_it = (effects.largest(each) for each in effects.good(view, kind))
      best = cell.loss.min('peak').median('seed')
      ratio = np.exp(np.mean(np.log(with_it / without)))
      numbers = (
        np.median(without),
        np.median(with_it),
        ratio,
        float(best.isel(length=0)),
        float(best.isel(length=-1)),
      )
      rows.append((label, *map(number, numbers)))
    panels[0].set_ylabel('updates of warm-up')
    figure.colorbar(mesh, ax=list(panels), label='final loss')
  heads = ('', 'largest good rate', 'with warm-up', 'ratio', 'best loss', 'with warm-up')
  return figure, Table(heads, rows)
