"""The sections of the page: pictures, and tables where numbers are compared."""

import numpy as np
from matplotlib.figure import Figure

from experiments.order.effects import BENCHES, View, cost
from experiments.order.study import CASES, CONSTRUCTED, FLOORS, LIE, NETWORKS, QUADRATIC, REDUCED, order
from gdlab import plots, statistics
from gdlab.report import Table


@order.section(
  'Within an epoch',
  'The training loss during the last epoch, at the rate that is best reshuffled. Read in the order of the classes, '
  'each class undoes what was learnt of the others; a small buffer does not help (O1, O1a).',
  caption='Medians and the middle 80 % of seeds.',
)
def _within(view: View) -> Figure:
  with plots.panels(len(BENCHES), width=3.1) as (figure, axes):
    for axis, bench in zip(axes, BENCHES, strict=True):
      rate = view.chooser(bench, 'reshuffled')(np.arange(view.config.seeds.tuning))
      for number, arm in enumerate(('sorted', 'buffer of 10 %', 'buffer of 50 %', 'reshuffled')):
        losses = view.late(bench, arm, view.graded(bench)).sel(learning_rate=rate)
        plots.band(axis, np.linspace(0, 1, losses.sizes['step']), losses.values, arm, number)
      axis.set(yscale='log', title=NETWORKS[bench], xlabel='part of the last epoch')
    axes[0].set_ylabel('training loss')
    figure.legend(*axes[0].get_legend_handles_labels(), loc='outside lower center', ncols=4, fontsize=9)
  return figure


@order.section(
  'What shuffles cost',
  'Every arm at its own best rate (end: of those tried): training loss, mean over the last epoch, its ratio to '
  'reshuffling with an interval that allows for the choice, and accuracy on images held out, at the end (O1-O3).',
  printed=True,
)
def _costs(view: View) -> Table:
  rows = []
  for bench, arms in BENCHES.items():
    for arm in arms:
      rate = view.chooser(bench, arm)(np.arange(view.config.seeds.tuning))
      loss = view.late(bench, arm, view.graded(bench)).sel(learning_rate=rate).mean('step')
      own = {'arm': arm, 'learning_rate': rate, 'seed': view.graded(bench)}
      accuracy = view.cell(f'training_{bench}').accuracy.sel(own).isel(step=-1)
      found = cost(view, bench, arm)
      ratio = '1' if arm == 'reshuffled' else f'{found.estimate:.3g} [{found.low:.3g}, {found.high:.3g}]'
      end = view.rate(bench, arm).replace('an end of those tried', 'end')
      numbers = (f'{float(np.exp(np.log(loss).mean())):.3g}', ratio, f'{float(accuracy.mean()):.1%}')
      rows.append((view.words(bench), arm, end, *numbers))
  return Table(('network', 'order', 'best rate', 'loss', 'over reshuffled', 'accuracy'), rows)


@order.section(
  'Floors against the rate',
  'Squared distance from the minimum in the long run, one example at a time. Left, logistic regression: with '
  'replacement of first order in the rate, reshuffled of second. Right, where noise does not depend on x: third order '
  'reshuffled, fifth if every second epoch is the reverse of the one before it (O2, O6).',
  caption='Medians and the middle 80 % of seeds. Lines on the right are exact values, nothing is fitted.',
)
def _floors(view: View) -> tuple[Figure, Table]:
  logistic, quadratic = view.cell('logistic_floors').floor, view.cell('quadratic_floors')
  with plots.panels(2, width=4.6, height=3.8) as (figure, (left, right)):
    for number, name in enumerate(('with replacement', 'sorted', 'shuffled once', 'GraB', 'reshuffled')):
      values = logistic.sel(order=name).transpose('seed', 'learning_rate')
      plots.spread(left, logistic.learning_rate, values.values, name, number)
    for number, name in enumerate(QUADRATIC):
      mine = quadratic.sel(order=name)
      values = mine.floor.transpose('seed', 'learning_rate').values
      plots.spread(right, mine.learning_rate, values, name, number, line='')
      right.plot(mine.learning_rate, mine.exact, color=plots.COLOURS[number], linewidth=1)
    for axis, found in ((left, logistic), (right, quadratic)):
      axis.set(xscale='log', yscale='log', xlabel='rate', ylabel='mean |x - x*|²')
      axis.set_xticks(found.learning_rate, [f'{float(rate):.2g}' for rate in found.learning_rate])
      axis.minorticks_off()
      axis.legend(fontsize=8)
  rows = []
  for name in FLOORS:
    values = logistic.sel(order=name).transpose('seed', 'learning_rate').values
    slope = statistics.loglog_slope(logistic.learning_rate.values, values)[1]
    numbers = [f'{np.exp(np.log(values[:, place]).mean()):.2g}' for place in (0, -1)]
    rows.append((name, *numbers, f'{slope.estimate:.3f} [{slope.low:.3f}, {slope.high:.3f}]'))
  return figure, Table(('order', 'floor, smallest rate', 'floor, largest rate', 'slope'), rows)


@order.section(
  'Errors in examples and epochs',
  'Squared error after k epochs over n examples in one variable, at the rate c / (lambda n k) (O3). The orders that '
  'theory has: 1/(nk) with replacement, 1/(nk³) reshuffled, 1/(nk²) shuffled once, 1/k² sorted.',
  caption='Points: measured. Lines: exact values; where curvatures differ none is known.',
)
def _published(view: View) -> Figure:
  with plots.panels(2, width=4.6, height=3.8) as (figure, axes):
    for axis, along in zip(axes, ('n', 'k'), strict=True):
      for number, name in enumerate(CONSTRUCTED):
        mine, style = view.cell('published').sel(order=name, along=along), plots.COLOURS[number]
        square = mine.square.mean('seed')
        axis.plot(mine[along], square, plots.MARKERS[number], label=CASES.get(name, name), color=style)
        axis.plot(mine[along], mine.exact, linewidth=1, color=style)
      axis.set(xscale='log', yscale='log', xlabel={'n': 'examples n', 'k': 'epochs k'}[along])
    axes[0].set_ylabel('mean x²')
    axes[1].legend(fontsize=7)
  return figure


@order.section(
  'Less variance',
  'Left: SGD, SVRG and SAGA on logistic regression, all at 1/(3L), by passes over the examples; SVRG evaluates 2.5 '
  'gradients an update, the others one (O5). Right: variance of the gradient estimate along training, over that of '
  'uniform draws (O4).',
  caption='Medians and the middle 80 % of seeds.',
)
def _reduced(view: View) -> Figure:
  squares, found = view.cell('reduced').square.isel(multiple=-1), view.cell('importance')
  with plots.panels(2, width=4.6) as (figure, (left, right)):
    for number, name in enumerate(REDUCED):
      plots.band(left, squares.passes, squares.sel(estimator=name).values, name, number)
    left.set(yscale='log', xlabel='passes', ylabel='|x - x*|²')
    left.legend(fontsize=8)
    epochs = [0, *view.config.importance.epochs]
    for number, (name, label) in enumerate(
      {'optimal': 'in proportion to norms', 'learned': 'learned'}.items()
    ):
      ratio = (found[f'variance.{name}'] / found['variance.uniform']).transpose('seed', 'step')
      plots.spread(right, epochs, ratio.values, label, number)
    right.set(xlabel='epochs', ylabel='variance over uniform', ylim=(0, None))
    right.legend(fontsize=8)
  return figure


@order.section(
  'What is left of the order',
  'Left: the standard deviation between orders after two epochs of least squares on {config.pairs.num_examples} '
  'points. Right: the variance between orders of eight blocks, over that of single examples, by how the data lie (O6).',
  caption='Left: root mean squares over seeds; lines, all orders enumerated. Right: every point is a seed.',
)
def _orders(view: View) -> Figure:
  pairs, blocks = view.cell('pairs'), view.cell('blocks').variance
  with plots.panels(2, width=4.6) as (figure, (left, right)):
    for number, name in enumerate(pairs.order.values):
      mine, style = pairs.sel(order=name), plots.COLOURS[number]
      left.plot(
        mine.rate, np.sqrt(mine.variance.mean('seed')), plots.MARKERS[number], label=name, color=style
      )
      left.plot(mine.rate, np.sqrt(mine.exact.mean('seed')), linewidth=1, color=style)
    left.set(xscale='log', yscale='log', xlabel='rate times L', ylabel='deviation between orders')
    left.set_xticks(pairs.rate, [f'{float(rate):g}' for rate in pairs.rate])
    left.minorticks_off()
    left.legend(fontsize=8)
    for number, layout in enumerate(LIE):
      own = blocks.sel(layout=layout)
      ratios = own.isel(order=1) / own.isel(order=0)
      right.plot(number + np.linspace(-0.2, 0.2, ratios.size), ratios, '.', color=plots.COLOURS[number])
    right.axhline(1, color='black', linewidth=0.8)
    right.set_xticks(range(len(LIE)), ['random order', 'in turn', 'sorted'])
    right.set(yscale='log', ylabel='variance over reshuffled')
  return figure
