"""The page: its pictures and tables, each in its section."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.methods import arms, effects
from experiments.methods.arms import ARMS, BENCHES
from experiments.methods.study import BETAS, Seen, asked, methods
from gdlab import plots, theory
from gdlab.report import Table, number

HALF = {'width': 4.6, 'height': 3.4}


@methods.section(
  'All arms at their tuned rates',
  'Every arm tries as many rates as any other, on {config.seeds.tuning} tuning seeds; that of the least validation '
  'loss is graded. The window is the number of decades of rates, of those tried, at which the test loss is within 10 % '
  'of the least.',
  caption='Test loss over plain descent, geometric means over seeds; below 1 is better (M2, M5, M10).',
  printed=True,
  when=asked('M2', 'M4', 'M5', 'M6', 'M10'),
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
  'Momentum on quadratics',
  'Updates until the distance is {config.quadratic.tolerance} of that at the start, at the best rate and momentum for '
  'the condition number.',
  caption='Medians over {config.seeds.count} starts (M1).',
  when=asked('M1'),
)
def quadratics(view: Seen) -> Figure:
  """Updates against condition numbers."""
  found = view.cell('quadratic').updates
  with plots.panels(1, **HALF) as (figure, (axes,)):
    for place, rule in enumerate(('plain', 'heavy_ball', 'nesterov')):
      style: Any = {'color': plots.COLOURS[place], 'marker': plots.MARKERS[place]}
      updates = found.sel(rule=rule).median('seed')
      axes.plot(found.condition, updates, label=rule.replace('_', ' '), **style)
    axes.set(xscale='log', yscale='log', xlabel='condition number', ylabel='updates')
    axes.legend(fontsize=8)
  return figure


@methods.section(
  'Classes of unequal shares',
  'The time to loss {config.classes.loss} of one-hot classes; lines are closed forms.',
  caption='Updates against the share of the class (M12).',
  when=asked('M12'),
)
def classes(view: Seen) -> Figure:
  """Times against shares, with the closed forms."""
  run, options = view.cell('one_hot'), view.config.classes
  times = theory.class_time(run.share.values, options.loss, num_classes=options.count) / options.flow_rate
  margin = np.log((options.count - 1) / np.expm1(options.loss))
  with plots.panels(1, **HALF) as (figure, (axes,)):
    for place, rule in enumerate(run.rule.values):
      style: Any = {'color': plots.COLOURS[place], 'label': {'plain': 'gradient descent'}.get(rule, rule)}
      axes.plot(run.share, run.updates.sel(rule=rule), plots.MARKERS[place], **style)
    for place, law in enumerate((times, np.full_like(times, margin / (2 * options.sign_rate)))):
      axes.plot(run.share, law, color=plots.COLOURS[place])
    axes.set(xscale='log', yscale='log', xlabel='share of the class', ylabel='updates')
    axes.legend(fontsize=8)
  return figure


@methods.section(
  "Adam's border",
  'The largest eigenvalue of the Hessian, preconditioned as Adam does, over (2 + 2 beta_1) / ((1 - beta_1) rate).',
  caption='Medians and the middle 80 % of {config.seeds.count} starts (M13).',
  when=asked('M13'),
)
def border(view: Seen) -> Figure:
  """Preconditioned sharpness over its border along training."""
  with plots.panels(1, **HALF) as (figure, (axes,)):
    for place, b1 in enumerate(BETAS):
      found = effects.sharpness(view, b1)
      plots.band(axes, found.step.values, found.values, f'beta_1 = {b1}', place)
    axes.axhline(1, color='grey', linewidth=0.8)
    axes.set(yscale='log', xlabel='updates', ylabel='sharpness over the border')
    axes.legend(fontsize=8)
  return figure
