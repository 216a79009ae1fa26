"""The page's pictures, from what one set of seeds has measured."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments.variants.effects import variances
from experiments.variants.study import Seen, variants
from gdlab import plots, study


def curves(shown: Mapping[str, Mapping[str, tuple]], ylabel: str, **options) -> Figure:
  """Medians and the middle 80 % of seeds, in panels: title -> label -> (x, values by seed)."""
  with plots.panels(len(shown), width={1: 9.2, 2: 4.6, 3: 3.6}[len(shown)]) as (figure, axes):
    for panel, (title, lines) in zip(axes, shown.items(), strict=True):
      for place, (label, (x, values)) in enumerate(lines.items()):
        plots.band(panel, x, values, label, place)
      panel.set(title=title, yscale='log', **options)
    axes[0].set_ylabel(ylabel)
    axes[0].legend(fontsize=9)
  return figure


@variants.section(
  'Loss against updates, examples and seconds',
  'The same runs on three clocks. Which variant is ahead depends on what is counted (V5, V6, V7, V12).',
  'What would change our mind: other data, models and machines; speeds (V5, V9, V10, V12) are those of one. The '
  'network is small and fits its data, so that noise costs little in the end; where it cannot, floors matter more.',
  caption='Training loss at the rate tuned for equal examples: medians and the middle 80 % of seeds. Dotted: equal '
  'examples, {config.epochs} passes, and equal time, the {view.time_budget:.3g} s that the mini-batch takes for them.',
)
def _losses(view: Seen) -> Figure:
  shown: dict[str, dict[str, tuple]] = {'updates': {}, 'epochs': {}, 'seconds': {}}
  names = ('single example', f'mini-batch {view.three["mini"]}', 'full batch')
  for size, name in zip(view.three.values(), names, strict=True):
    runs = view.arm('examples', size).isel(step=slice(1, None))
    values = study.unless_failed(runs, 'train_loss', np.nan)
    clocks = (runs.step, runs.epoch, view.clock('time', size, runs.step))
    for lines, x in zip(shown.values(), clocks, strict=True):
      lines[name] = (x, values)
  figure = curves(shown, 'training loss', xscale='log')
  for panel, budget in zip(figure.axes[1:], (view.config.epochs, view.time_budget), strict=True):
    panel.axvline(budget, color='black', linewidth=0.8, linestyle=':')
  return figure


@variants.section(
  'Gradient noise against batch size',
  'Mini-batch gradients are means of B draws. With replacement their variance is trace(Sigma)/B; without, the '
  'finite population takes it to zero at B = N (V2).',
  caption='Nothing is fitted: the law uses the exact trace of the per-example gradient covariance. Shaded: V2.',
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
  'Left, the cost of one example falls as batches fill the vector units (V10). Right, test accuracy when every arm has '
  'had the same time; shaded, the range of V9.',
)
def _speed(view: Seen) -> Figure:
  seconds = view.cell('timing').seconds_per_update
  nanoseconds = (seconds / seconds.batch_size * 1e9).rename(round='seed')
  accuracy = [view.ended('time', size, 'test_accuracy', failed=0.0) for size in view.sizes]
  with plots.panels(2, width=4.6) as (figure, (left, right)):
    plots.spread(left, seconds.batch_size, nanoseconds, 'time', 0)
    left.set(xscale='log', yscale='log', xlabel='batch size B', ylabel='nanoseconds per example')
    plots.spread(right, view.sizes, np.stack(accuracy, axis=1), 'test accuracy', 1)
    right.axvspan(32, 256, color='grey', alpha=0.15, linewidth=0)
    right.set(xscale='log', xlabel='batch size B', ylabel='test accuracy after equal time')
  return figure


@variants.section(
  'The floor of single-example descent',
  'Multinomial logistic regression with l2 = {config.floor.l2}, whose minimum is known, so that what is left above it '
  'can be measured (V8).',
)
def _floor(view: Seen) -> Figure:
  runs = view.cell('floor').isel(step=slice(1, None)).groupby('learning_rate')
  shown = {f'rate {rate:g}': (own.epoch.squeeze(), own.excess.squeeze()) for rate, own in runs}
  return curves({'at a fixed rate': shown}, 'training loss above its minimum', xlabel='epochs')


@variants.section(
  'A stream whose source drifts',
  'Images arrive one by one with targets from a linear rule. Every example is predicted before it is used. Full '
  'batch is given the exact least-squares solution over all it has seen (V13).',
)
def _stream(view: Seen) -> Figure:
  shown = {}
  for drift, title in enumerate(('source at rest', 'drifting source')):
    own = view.cell('stream').isel(drift=drift).sel(seed=view.config.seeds.ids)
    own = own.sel(learning_rate=view.late_errors(drift)[1]).rolling(example=50, min_periods=1).mean()
    places = np.arange(1, own.sizes['example'] + 1)
    shown[title] = {'full batch, refitted': (places, own.full), 'single example': (places, own.single)}
  return curves(shown, 'squared error, mean of 50', xlabel='examples so far')
