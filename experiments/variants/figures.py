"""The page's pictures and its table, from what one set of seeds has measured."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments.variants.effects import variances
from experiments.variants.study import Seen, variants
from gdlab import plots, study


def name(view: Seen, batch_size: int) -> str:
  """What a legend calls an arm."""
  return {1: 'single example', view.three['full']: 'full batch'}.get(batch_size, f'mini-batch {batch_size}')


def curves(shown: Mapping[str, Mapping[str, tuple]], ylabel: str, **options) -> Figure:
  """Medians and the middle 80 % of seeds, in panels: title -> label -> (x, values by seed)."""
  with plots.panels(len(shown), width=4.6 if len(shown) == 2 else 3.6) as (figure, axes):
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
  'What would change our mind: other data, models and machines. Speeds (V5, V9, V10, V12) are those of one machine. '
  'The network is small and fits its data, so that noise costs little in the end; on problems that it cannot fit, '
  'floors matter more.',
  caption='Training loss at the rate tuned for equal examples: medians and the middle 80 % of seeds. Dotted: equal '
  'examples, {config.epochs} passes, and equal time, the {view.time_budget:.3g} s that the mini-batch takes for them.',
)
def losses(view: Seen) -> Figure:
  """Training loss against updates, epochs and seconds."""
  shown: dict[str, dict[str, tuple]] = {'updates': {}, 'epochs': {}, 'seconds': {}}
  for size in view.three.values():
    runs = view.arm('examples', size).isel(step=slice(1, None))
    values = study.unless_failed(runs, 'train_loss', np.nan)
    for lines, x in zip(shown.values(), (runs.step, runs.epoch, runs.step * view.seconds(size)), strict=True):
      lines[name(view, size)] = (x, values)
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
def noise(view: Seen) -> Figure:
  """The gradient estimate's variance over the law, against the batch size."""
  with plots.panels(1, width=6) as (figure, (panel,)):
    for place, kind in enumerate(('with', 'without')):
      ratios = variances(view, kind)
      plots.spread(panel, ratios.batch_size, ratios, f'{kind} replacement', place, line='')
    panel.axhspan(0.95, 1.05, color='grey', alpha=0.15, linewidth=0)
    panel.set(xscale='log', xlabel='batch size B', ylabel='variance of the gradient over the law')
    panel.legend()
  return figure


@variants.section(
  'Speed and quality against batch size',
  'Left, the cost of one example falls as batches fill the vector units (V10). Right, test accuracy when every arm has '
  'had the same time; shaded, the range of V9.',
)
def speed(view: Seen) -> Figure:
  """Time per example and test accuracy at equal time, against the batch size."""
  seconds = view.cell('timing').seconds_per_update
  nanoseconds = (seconds / seconds.batch_size * 1e9).rename(round='seed')
  accuracy = [view.at('time', size, 'test_accuracy', failed=0.0) for size in view.sizes]
  with plots.panels(2, width=4.6) as (figure, (left, right)):
    plots.spread(left, seconds.batch_size, nanoseconds, 'time', 0)
    left.set(xscale='log', yscale='log', ylabel='nanoseconds per example', title='time per example')
    plots.spread(right, view.sizes, np.stack(accuracy, axis=1), 'test accuracy', 1)
    right.axvspan(32, 256, color='grey', alpha=0.15, linewidth=0)
    right.set(xscale='log', ylabel='test accuracy', title=f'after equal time ({view.time_budget:.2g} s)')
    for panel in (left, right):
      panel.set_xlabel('batch size B')
  return figure


@variants.section(
  'The floor of single-example descent',
  'Multinomial logistic regression with l2 = {config.floor.l2}, whose minimum is known, so that what is left above it '
  'can be measured (V8).',
)
def floor(view: Seen) -> Figure:
  """The excess loss of single-example descent at every rate."""
  runs = view.cell('floor').isel(step=slice(1, None)).groupby('learning_rate')
  shown = {f'rate {rate:g}': (own.epoch.squeeze(), own.excess.squeeze()) for rate, own in runs}
  return curves({'at a fixed rate': shown}, 'training loss above its minimum', xlabel='epochs')


@variants.section(
  'Full batch on convex problems',
  'The gap to the known minimum in float64, at rates relative to 1/L (V11).',
  caption='Dashed: the guaranteed factor 1 - mu/L per step at rate 1/L. At 2.1/L the quadratic diverges; the logistic '
  'problem need not, since its L is an upper bound.',
)
def convex(view: Seen) -> Figure:
  """The gap to the minimum of full batch on convex problems, with the guaranteed rate."""
  gap = view.cell('convex').gap
  relative, shown = (gap / gap.isel(step=0)).where(lambda value: value > 1e-14), {}
  for problem, gaps in relative.groupby('problem'):
    rates = gaps.squeeze('problem').groupby('rate_times_smoothness')
    shown[f'{problem} regression'] = {f'rate {rate:g}/L': (gap.step, own.squeeze()) for rate, own in rates}
  figure = curves(shown, 'gap to the minimum, relative to the start', ylim=(1e-14, 1e3), xlabel='updates k')
  for panel, bound in zip(figure.axes, view.cell('convex').bound.values, strict=True):
    panel.plot(gap.step, bound**gap.step.values, color='black', linestyle='--', linewidth=1)
  return figure


WINDOW = 50


@variants.section(
  'A stream whose source drifts',
  'Images arrive one by one with targets from a linear rule. Every example is predicted before it is used. Full '
  'batch is given the exact least-squares solution over all it has seen (V13).',
)
def stream(view: Seen) -> Figure:
  """Prediction errors along the stream, with the source at rest and drifting."""
  shown = {}
  for drift, title in enumerate(('source at rest', 'drifting source')):
    own = view.cell('stream').isel(drift=drift).sel(seed=view.config.seeds.ids)
    own = own.sel(learning_rate=view.late_errors(drift)[1]).rolling(example=WINDOW, min_periods=1).mean()
    places = np.arange(1, own.sizes['example'] + 1)
    shown[title] = {'full batch, refitted': (places, own.full), 'single example': (places, own.single)}
  return curves(shown, f'squared error, mean of {WINDOW}', xlabel='examples so far')
