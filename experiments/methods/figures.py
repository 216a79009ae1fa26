"""The page: its pictures and tables, each in its section."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.methods import arms, effects
from experiments.methods.arms import ARMS, BENCHES
from experiments.methods.study import BETAS, Seen, methods
from gdlab import plots, theory
from gdlab.report import Table, number


@methods.section(
  'All arms at their tuned rates',
  'Every arm tries as many rates as any other, on {config.seeds.tuning} tuning seeds; that of the least validation '
  'loss is graded. The window is the number of decades of rates, of those tried, at which the test loss is within 10 % '
  'of the least.',
  caption='Test loss over plain descent, geometric means over seeds; below 1 is better (M2, M5, M10).',
  printed=True,
)
def race(view: Seen) -> tuple[Figure, Table]:
  """Test losses of all arms over plain descent's, and how every arm does."""
  rows = []
  with plots.panels(1, width=9.2, height=3.6) as (figure, (axes,)):
    for place, (bench, said) in enumerate(BENCHES.items()):
      own = arms.ON[bench]
      ratios = [effects.compared(view, f'race_{bench}_{arm}', f'race_{bench}_plain').estimate for arm in own]
      at = [[*ARMS].index(arm) + 0.12 * (place - 1.5) for arm in own]
      axes.plot(at, ratios, plots.MARKERS[place], color=plots.COLOURS[place], label=said)
      for arm in own:
        cell = f'race_{bench}_{arm}'
        runs = view.graded(cell, view.chosen(cell))
        losses = [number(float(effects.ended(runs, f'{kind}_loss').mean())) for kind in ('train', 'test')]
        right = 100 * float(effects.ended(runs, 'test_accuracy').mean())
        width = number(effects.window(view, cell))
        rows.append((said, arm.replace('_', ' '), view.used(cell), *losses, f'{right:.1f} %', width))
    axes.axhline(1, color='grey', linewidth=0.8)
    axes.set(yscale='log', ylabel='test loss over plain descent')
    axes.set_xticks(range(len(ARMS)), [name.replace('_', '\n') for name in ARMS], fontsize=8)
    axes.legend(fontsize=8)
  heads = ('bench', 'arm', 'rate', 'training loss', 'test loss', 'test accuracy', 'window, decades')
  return figure, Table(heads, rows)


@methods.section(
  'Where answers are exact',
  'Left: updates until the distance is {config.quadratic.tolerance} of that at the start, at the best rate and '
  'momentum for the condition number. Middle: the time to loss {config.classes.loss} of one-hot classes; lines are '
  'closed forms. Right: the largest eigenvalue of the Hessian, preconditioned as Adam does, over its border '
  '(2 + 2 beta_1) / ((1 - beta_1) rate).',
  caption='Medians over {config.seeds.count} starts, on the right with the middle 80 % (M1, M12, M13).',
)
def exact(view: Seen) -> Figure:
  """Updates against condition numbers and against shares of classes; preconditioned sharpness along training."""
  quadratic, classes, options = view.cell('quadratic'), view.cell('one_hot'), view.config.classes
  with plots.panels(3, width=3.4, height=3.4) as (figure, (left, middle, right)):
    for place, method in enumerate(('plain', 'heavy_ball', 'nesterov')):
      style: Any = {
        'color': plots.COLOURS[place],
        'marker': plots.MARKERS[place],
        'label': method.replace('_', ' '),
      }
      updates = quadratic.updates.sel(rule=method).median('seed')
      left.plot(quadratic.condition, updates, **style)
    for place, method in enumerate(classes.rule.values):
      style = {'color': plots.COLOURS[place], 'label': {'plain': 'gradient descent'}.get(method, method)}
      middle.plot(classes.share, classes.updates.sel(rule=method), plots.MARKERS[place], **style)
    times = theory.class_time(classes.share.values, options.loss, num_classes=options.count)
    margin = np.log((options.count - 1) / np.expm1(options.loss))
    for law, colour in ((times / options.flow_rate, 0), (margin / (2 * options.sign_rate) + 0 * times, 1)):
      middle.plot(classes.share, law, color=plots.COLOURS[colour])
    for place, b1 in enumerate(BETAS):
      found = effects.sharpness(view, b1)
      plots.band(right, found.step.values, found.values, f'beta_1 = {b1}', place)
    right.axhline(1, color='grey', linewidth=0.8)
    left.set(xscale='log', yscale='log', xlabel='condition number', ylabel='updates')
    middle.set(xscale='log', yscale='log', xlabel='share of the class', ylabel='updates')
    right.set(yscale='log', xlabel='updates', ylabel='sharpness over the border')
    for axes in (left, middle, right):
      axes.legend(fontsize=8)
  return figure
