"""The sections of the page: pictures, and tables where numbers are compared."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments.learning_rate.rates import claims, effects, tasks
from experiments.learning_rate.rates.measure import CHANGES, OPTIMIZERS
from experiments.learning_rate.study import steps
from gdlab import plots, study
from gdlab.report import Table, number
from gdlab.study import View


@steps.section(
  'Which schedule, and which the bound says',
  'Each schedule at its own best rate, all from equal numbers of trials (L3, L14). The bound on the last iterate of a '
  'convex function knows nothing of the problem but its schedule, here at the best multiple of it.',
  caption='Median and the middle 80 % of seeds: what the bound speaks of, excess on the stream and training loss on '
  'images, against the bound for distance and gradients of 1; the ranking holds where points rise to the right.',
)
def _ranking(view: View) -> tuple[Figure, Table]:
  order = effects.bounds(view.config.rates.schedules.updates)
  with plots.panels(len(tasks.TASKS), width=3.2, height=3.4) as (figure, panels):
    for axes, task in zip(panels, tasks.TASKS, strict=True):
      for place, (name, values) in enumerate(zip(tasks.BOUNDED, effects.ranked(view, task), strict=True)):
        plots.spread(axes, order[[place]], values[:, None], name, place)
      axes.set(title=claims.LABELS[task], xlabel='bound', ylabel=effects.bounded_by(task).replace('_', ' '))
    panels[0].set_yscale('log')
    panels[-1].legend(fontsize=8)
  rows = []
  for name in (*tasks.SCHEDULES, *effects.FREE):
    row = [name]
    for task in tasks.TASKS:
      trial = effects.chooser(view, task, (name,))(effects.tuning(view))
      _, rate, tried = effects.rate(view, task, (name,), trial)
      loss = effects.trials(view, task, (name,), effects.graded_by(task)).sel(trial=trial)
      row += [study.at_an_end(rate, tried), number(float(loss.sel(seed=tasks.ids(view.config)).mean()))]
    rows.append(tuple(row))
  heads = [
    head
    for task in tasks.TASKS
    for head in (f'{task}: rate', 'excess' if task == 'regression' else 'test loss')
  ]
  return figure, Table(('schedule or method', *heads), rows)


@steps.section(
  'Rate and batch size',
  'Updates to a training loss of {config.rates.batches.target} (L8, L9). The rules say how the best rate goes with B: '
  'in proportion for SGD, with its root for Adam.',
  caption='SGD; dark is fast, crossed never came there. Drawn over it: the linear rule from the best rate at the '
  'least B, and the fastest rate of each B, median over seeds.',
)
def _rate_and_batch(view: View) -> tuple[Figure, Table]:
  sizes, rows = view.config.rates.batches.batch_sizes, []
  for method in OPTIMIZERS:
    for size in sizes:
      rates, taken = effects.fastest_rates(view, method, size), effects.taken(view, method, size)
      least = float(np.median(taken.sel(seed=tasks.ids(view.config)).min('learning_rate')))
      rows.append(
        (method, str(size), number(float(np.nanmedian(rates))), f'{least:,.0f}', f'{least * size:,.0f}')
      )
  steps_of = xr.concat([effects.taken(view, 'SGD', size) for size in sizes], xr.Variable('B', [*sizes]))
  reached = (steps_of < np.inf).any(['B', 'seed']).values
  shown = steps_of.isel(learning_rate=slice(0, np.flatnonzero(reached).max() + 3))  # all above fail
  figure = plots.heat_map(shown.transpose('learning_rate', 'B', 'seed'), label='updates to the target')
  axes, tried = figure.axes[0], np.log(steps_of.learning_rate.values)
  first = effects.least_batch_rate(view, 'SGD')(effects.tuning(view))
  best = [np.nanmedian(effects.fastest_rates(view, 'SGD', size)) for size in sizes]
  limits, lines = (axes.get_xlim(), axes.get_ylim()), {'linear rule': '-', 'fastest of each B': 'o--'}
  for (label, line), rates in zip(lines.items(), (first * np.array(sizes) / sizes[0], best), strict=True):
    rows_of = (np.log(rates) - tried[0]) / (tried[1] - tried[0])
    axes.plot(range(len(sizes)), rows_of, line, color=plots.COLOURS[1], markerfacecolor='none', label=label)
  axes.set(xlim=limits[0], ylim=limits[1])
  axes.legend(fontsize=8, loc='lower right', frameon=True)
  return figure, Table(('method', 'B', 'fastest rate', 'median updates', 'examples'), rows)


@steps.section(
  'Warm-up',
  'Every length at every peak, in one compiled program for each method (L4).',
  caption='Training loss at the end of SGD with momentum; dark is low.',
)
def _warm_up(view: View) -> tuple[Figure, Table]:
  found = effects.warmed(view, 'SGD').sel(seed=tasks.ids(view.config))
  rounded = found.assign_coords(peak=[float(f'{peak:.3g}') for peak in found.peak.values])
  rows = []
  for method in OPTIMIZERS:
    losses = effects.warmed(view, method)
    for share in view.config.rates.warm_up.shares:
      mean = losses.sel(share=share, seed=tasks.for_tuning(view.config)).median('seed')
      peak = float(mean.peak[int(np.argmin(mean.values))])
      graded = losses.sel(share=share, peak=peak, seed=tasks.ids(view.config))
      largest = number(effects.largest_peak(view, method, share))
      rows.append((method, f'{share:.0%}', largest, number(peak), number(float(graded.median()))))
  heads = ('method', 'warm-up', 'largest peak that trains', 'best peak', 'median loss there')
  return plots.heat_map(rounded, label='training loss'), Table(heads, rows)


@steps.section(
  'Falling as a power of time',
  'Rates (1 + t/t_0)^-p under noise (L5).',
  caption='Mean excess over seeds. With p = 0 it stays on a floor, whose closed form is dotted, with p above 1 it '
  'freezes, between 1/2 and 1 it goes on falling.',
)
def _decays(view: View) -> Figure:
  with plots.panels(2, width=3.9, height=3.4) as (figure, panels):
    for axes, (kind, label) in zip(panels, claims.KINDS.items(), strict=True):
      mean = view.cell(f'decays_{kind}').excess.mean('seed')
      mean = mean.sel(step=mean.step > 0)
      for place, exponent in enumerate(mean.exponent.values):
        colour, marker = plots.COLOURS[place % len(plots.COLOURS)], plots.MARKERS[place % len(plots.MARKERS)]
        values, label = mean.sel(exponent=exponent), f'p = {exponent:g}'
        axes.plot(mean.step, values, color=colour, marker=marker, label=label)
      law = effects.exact.floor(kind, view.config.rates.decays.first_rate)
      axes.axhline(law, color='black', linestyle=':')
      axes.set(title=label, xscale='log', yscale='log', xlabel='updates', ylabel='excess')
    panels[0].legend(fontsize=7, ncols=2)
  return figure


@steps.section(
  'The zig-zag of exact line search',
  'Steepest descent with exact line search on a quadratic (L11): every step is at a right angle to the last one, and '
  'from nearly every start the steps come to alternate between two directions.',
  caption='Left: the worst start of a quadratic of kappa 10; axes have scales of their own. Right: share of f that '
  'every step leaves from random starts, median and the middle 80 %, over that from the worst start.',
)
def _zigzag(view: View) -> Figure:
  x = np.array([1.0, 10.0])
  curvature, path = np.array([10.0, 1.0]), [np.array([1.0, 10.0])]
  for _ in range(12):
    gradient = curvature * x
    x = x - (gradient @ gradient) / (gradient @ (curvature * gradient)) * gradient
    path.append(x)
  with plots.panels(2, width=3.9, height=3.4) as (figure, (left, right)):
    across, along = np.meshgrid(np.linspace(-1.6, 1.6, 90), np.linspace(-2, 11, 90))
    left.contour(
      across,
      along,
      5 * across**2 + along**2 / 2,
      levels=np.geomspace(0.5, 60, 9),
      colors='grey',
      linewidths=0.6,
    )
    left.plot(*np.transpose(path), 'o-', color=plots.COLOURS[1], markersize=3)
    left.set(xlabel='steep direction', ylabel='flat direction')
    for place, condition in enumerate(effects.conditions(view)):
      found = view.cell(f'cauchy_{condition}').sel(start='random')
      share = (found.left / found.rate).transpose('seed', 'step').values
      plots.band(right, np.arange(1, share.shape[1] + 1), share, f'κ = {condition:g}', place)
    right.axhline(1, color='black', linestyle=':')
    right.set(xlabel='step', ylabel='share of f left, over the worst')
    right.legend(fontsize=8)
  return figure


@steps.section(
  'Carrying a rate over',
  'One network changed in one thing, all rates tried (L7).',
  caption='Training loss after equal epochs, median and the middle 80 %; a rate that is best on one curve costs what '
  'the other curve says there.',
)
def _transfer(view: View) -> Figure:
  with plots.panels(1, width=4.9, height=3.6) as (figure, (axes,)):
    for place, change in enumerate(CHANGES):
      losses = effects.ended(view, change).sel(seed=tasks.ids(view.config))
      plots.spread(axes, losses.learning_rate.values, losses.values.T, change, place)
    axes.set(
      xscale='log', yscale='log', xlabel='rate', ylabel='training loss', xlim=(None, 4.5), ylim=(None, 4)
    )
    axes.legend(fontsize=8)
  return figure
