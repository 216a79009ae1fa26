"""The page's pictures, from what one set of seeds has measured."""

import itertools
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments.variants.effects import cost_ratios, gain, variances
from experiments.variants.seen import BUDGETS, DRIFTS, MEASURED, MODELS, NEIGHBOURS, Seen, on_digits
from experiments.variants.study import variants
from gdlab import plots, statistics, study
from gdlab.report import Table


def curves(shown: Mapping[str, Mapping[str, tuple]], ylabel: str, **options) -> Figure:
  """Medians and the middle 80 % of seeds, in panels: title -> label -> (x, values by seed)."""
  with plots.panels(len(shown), width={1: 9.2, 2: 4.6, 3: 3.6}[len(shown)]) as (figure, axes):
    for panel, (title, lines) in zip(axes, shown.items(), strict=True):
      for place, (label, (x, values)) in enumerate(lines.items()):
        plots.band(panel, x, values, label, place)
      panel.set(title=title, **{'yscale': 'log'} | options)
    axes[0].set_ylabel(ylabel)
    axes[0].legend(fontsize=9)
  return figure


@variants.section(
  'Loss against updates, examples and seconds',
  'The same runs on three clocks. Which variant is ahead depends on what is counted (V5, V6, V7, V12).',
  'What would change our mind: other data, models and machines; speeds (V5, V9, V10, V12) are those of one. The '
  'network is small and fits its data, so that noise costs little in the end; where it cannot, floors matter more.',
  caption='Training loss at the rate tuned for equal examples: medians and the middle 80 % of seeds. Dotted: equal '
  'examples, {config.race.epochs} passes.',
  when=on_digits,
)
def _losses(view: Seen) -> Figure:
  shown: dict[str, dict[str, tuple]] = {'updates': {}, 'epochs': {}, 'seconds': {}}
  for name, size in view.three.items():
    rate = view.chooser('ended', name)(np.arange(view.config.seeds.tuning))
    runs = view.cell(f'arm_{name}').sel(learning_rate=rate).isel(step=slice(1, None))
    values = study.unless_failed(runs, 'train_loss', np.nan)
    clocks = (runs.step, runs.epoch, view.clock('time', name, runs.step))
    for lines, x in zip(shown.values(), clocks, strict=True):
      lines[f'{name}, B={size}'] = (x, values)
  figure = curves(shown, 'training loss', xscale='log')
  figure.axes[1].axvline(view.config.race.epochs, color='black', linewidth=0.8, linestyle=':')
  return figure


@variants.section(
  'Gradient noise against batch size',
  'Mini-batch gradients are means of B draws. With replacement their variance is trace(Sigma)/B; without, the '
  'finite population takes it to zero at B = N (V2).',
  caption='Nothing is fitted: the law uses the exact trace of the per-example gradient covariance. Bars hold the '
  'middle 80 % of seeds; shaded is the range of V2, which asks about their mean.',
  when=on_digits,
)
def _noise(view: Seen) -> Figure:
  with plots.panels(1, width=9.2) as (figure, (panel,)):
    for place, kind in enumerate(('with', 'without')):
      ratios = variances(view, kind)
      beside = ratios.batch_size * (0.95 + 0.1 * place)
      plots.spread(panel, beside, ratios, f'{kind} replacement', place, line='')
    panel.axhspan(0.95, 1.05, color='grey', alpha=0.15, linewidth=0)
    panel.set(xscale='log', xlabel='batch size B', ylabel='variance of the gradient over the law')
    panel.legend()
  return figure


@variants.section(
  'Speed and quality against batch size',
  'Left, what an example costs falls as batches fill the vector units; times as measured, and the line t(B) = a + b B '
  'nearest to them. Right, validation accuracy on the tuning seeds when every batch size has had the same time as '
  'measured, each at its best rate; shaded, the range of V9.',
  'The table has the effect of V9 in points of accuracy at the level at which all three budgets hold at once. V9 is '
  'graded on times as measured. The other rows say what it would be at the times of the line, with a and b as fitted '
  'and changed by 20 %, at the choice made; misfit is the largest error of such a time.',
)
def _speed(view: Seen) -> tuple[Figure, Table]:
  timing, tuned = view.cell('timing'), view.cell('trade_tuning')
  sizes = timing.batch_size.values
  costs = view.costs().transpose('model', 'batch_size')
  modelled = costs.sel(model='line').values / sizes
  best = tuned.validation_accuracy.sel(model=MEASURED).mean('seed').idxmax('learning_rate')
  with plots.panels(2, width=4.6) as (figure, (left, right)):
    nanoseconds = (timing.seconds_per_update / sizes * 1e9).rename(round='seed')
    plots.spread(left, sizes, nanoseconds, 'measured', 0, line='')
    left.plot(sizes, modelled * 1e9, color='black', linewidth=0.8, label='line a + b B')
    left.set(xscale='log', yscale='log', xlabel='batch size B', ylabel='nanoseconds per example')
    left.legend()
    for place, budget in enumerate(BUDGETS):
      accuracy = tuned.validation_accuracy.sel(model=MEASURED, budget=budget)
      accuracy = accuracy.sel(learning_rate=best.sel(budget=budget)).transpose('seed', 'batch_size')
      plots.spread(right, sizes, accuracy.values, f'{view.seconds(budget):.2g} s', place)
    right.axvspan(32, 256, color='grey', alpha=0.15, linewidth=0)
    right.set(xscale='log', xlabel='batch size B', ylabel='validation accuracy after equal time')
    right.legend()
  rows, level = [], view.with_confidence(statistics.simultaneous(view.confidence, len(BUDGETS)))
  misfit = abs(costs / costs.sel(model=MEASURED) - 1).max('batch_size')
  for budget, model in itertools.product(BUDGETS, MODELS):
    found, pair = gain(level, budget, model), next(iter(view.pairs(budget, model)))
    arms = ' against '.join(f'{size} at {rate:g}' for size, rate in pair)
    values = [f'{100 * value:.2f}' for value in found[:3]]
    rows.append(
      [budget, model, f'{float(misfit.sel(model=model)):.0%}', arms, *values, f'{found.confidence:.1%}']
    )
  heads = ('budget', 'times', 'misfit', 'B and rate', 'middle minus outside', 'low', 'high', 'level')
  return figure, Table(heads, rows)


@variants.section(
  'Powers of two, their neighbours, and sizes between them',
  'CPU time of an example over that at powers of two, or on the straight line through those around it: 1 if the cost '
  'is a straight line. V10 asks about neighbours, V10a about multiples of 16; each takes the mean over its sizes.',
  caption='Medians and the middle 80 % of processes. Above the grey band, powers of two are faster by over 2 %.',
  when=on_digits,
)
def _powers(view: Seen) -> Figure:
  with plots.panels(1, width=9.2) as (figure, (panel,)):
    shown = dict.fromkeys(NEIGHBOURS, 'at powers of two') | {'between': 'multiples of 16'}
    for place, (asked, words) in enumerate(shown.items()):
      ratios = cost_ratios(view, asked)
      label = words if asked == 'between' else f'{asked}, {words}'
      plots.spread(panel, ratios.batch_size * (0.985 + 0.015 * place), ratios, label, place, line='')
    panel.axhspan(1 / 1.02, 1.02, color='grey', alpha=0.15, linewidth=0)
    panel.axhline(1, color='black', linewidth=0.8)
    panel.set(xscale='log', xlabel='batch size B', ylabel='CPU time over that of powers of two')
    sizes = [*view.config.powers.sizes, *view.config.powers.between]
    panel.set_xticks(sizes, [str(size) for size in sizes], minor=False)
    panel.minorticks_off()
    panel.legend(loc='upper center')
  return figure


@variants.section(
  'Test accuracy against seconds',
  'Full batch and the mini-batch, each at the rate at which it comes to the target soonest on its tuning seeds (V12).',
  caption='Medians and the middle 80 % of seeds, at the updates at which they are looked at. Dotted: the target.',
)
def _accuracy(view: Seen) -> Figure:
  lines = {}
  for name in ('full', 'mini'):
    rate = view.chooser('accuracy', name)(np.arange(view.config.seeds.tuning))
    runs = view.cell(f'arm_{name}').sel(learning_rate=rate).isel(step=slice(1, None))
    accuracy = study.unless_failed(runs, 'test_accuracy', np.nan)
    lines[f'{name}, B={view.three[name]:,}'] = (view.clock('time', name, runs.step), accuracy)
  figure = curves({'': lines}, 'test accuracy', xscale='log', yscale='linear', xlabel='seconds')
  figure.axes[0].axhline(view.config.race.target_accuracy, color='black', linewidth=0.8, linestyle=':')
  return figure


@variants.section(
  'The floor of single-example descent',
  'Multinomial logistic regression with l2 = {config.floor.l2}, whose minimum is known, so that what is left above it '
  'can be measured (V8).',
  when=on_digits,
)
def _floor(view: Seen) -> Figure:
  runs = view.cell('floor').isel(step=slice(1, None)).groupby('learning_rate')
  shown = {f'rate {rate:g}': (own.epoch.squeeze(), own.excess.squeeze()) for rate, own in runs}
  return curves({'at a fixed rate': shown}, 'training loss above its minimum', xlabel='epochs')


@variants.section(
  'A stream whose source drifts',
  'Images arrive one by one with targets from a linear rule. Every example is predicted before it is used. Full '
  'batch is given the exact least-squares solution over all it has seen, or over a window (V13). Where the source is '
  'at rest, it has to be ahead.',
  caption='Left and in the middle, means of 50 examples; right, of the second half of the stream. Rates and windows '
  'are those tuned for each drift.',
  when=on_digits,
)
def _stream(view: Seen) -> Figure:
  every, stream = np.arange(view.config.seeds.tuning), view.cell('stream')
  late: dict[str, list] = {'all before': [], 'a window': [], 'single examples': []}
  shown: dict[str, dict[str, tuple]] = {'source at rest': {}, f'drift {DRIFTS[2]}': {}}
  for drift in (0.0, *DRIFTS):
    _, choose = view.stream(drift)
    own = stream.sel(drift=drift, seed=view.config.seeds.ids)
    single = own.single.sel(learning_rate=choose['rate'](every))
    errors = (own.full, own.windowed.sel(window=choose['window'](every)), single)
    title = f'drift {drift}' if drift else 'source at rest'
    for (name, values), error in zip(late.items(), errors, strict=True):
      if drift:
        values.append(error.isel(example=slice(error.sizes['example'] // 2, None)).mean('example').values)
      if title in shown:
        smooth = error.rolling(example=50, min_periods=1).mean()
        shown[title][name] = (np.arange(1, smooth.sizes['example'] + 1), smooth)
  with plots.panels(3, width=3.6) as (figure, axes):
    for panel, (title, lines) in zip(axes, shown.items(), strict=False):
      for place, (label, (x, values)) in enumerate(lines.items()):
        plots.band(panel, x, values, label, place)
      panel.set(title=title, yscale='log', xlabel='examples so far')
    for place, (name, means) in enumerate(late.items()):
      plots.spread(axes[2], DRIFTS, np.stack(means, axis=1), name, place)
    axes[2].set(xscale='log', yscale='log', xlabel='drift per example', title='second half')
    axes[0].set_ylabel('squared error')
    axes[0].legend(fontsize=9)
  return figure
