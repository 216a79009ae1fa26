"""The page: its pictures and tables, each in its section."""

import numpy as np
from matplotlib.figure import Figure

from experiments.batch_size import effects
from experiments.batch_size.effects import WAYS
from experiments.batch_size.study import (
  BENCHES,
  CONDITIONS,
  LABELS,
  MEASURES,
  SETTINGS,
  Seen,
  asked,
  batch_size,
)
from gdlab import plots, study
from gdlab.report import Table, number
from gdlab.statistics import Interval

KINDS = {'epochs': 'equal examples', 'matched': 'equal training loss', 'updates': 'equal updates'}
LOSSES = {'train_loss': 'training', 'validation_loss': 'validation'}
ONE, TWO = {'width': 4.9, 'height': 3.6}, {'width': 3.9, 'height': 3.6}  # a column of the page, and a phone


def words(found: Interval) -> str:
  """An estimate with its interval."""
  return f'{number(found.estimate)} ({number(found.low)} to {number(found.high)})'


@batch_size.section(
  'Test accuracy of small and large batches',
  'At equal examples (passes over the data), where the training loss first comes to the same value, and at equal '
  'updates; each is tuned by itself. At equal examples a large batch makes few updates: what the training losses in '
  'the table say is that it is trained less.',
  caption='Typical differences over seeds (Hodges and Lehmann) with intervals of 95 %. Right of the grey band: small '
  'batches generalise better (G1, G1a, G2).',
  printed=True,
  when=asked('G1', 'G2'),
)
def accuracy(view: Seen) -> tuple[Figure, Table]:
  """The gains with their intervals; what every arm costs and how it does."""
  rows, gains = [], {}
  for bench, said in BENCHES.items():
    for kind, budget in KINDS.items():
      gains[f'{said}, {budget}'] = effects.accuracy_gain(view, bench, kind)
      for arm in view.pair(bench):
        setting = view.setting(arm, kind)
        loss = float(view.ended(arm, kind, setting, 'train_loss', np.inf).mean())
        share = 100 * float(view.accuracy(arm, kind, setting).mean())
        count = float(view.ended(arm, kind, setting, 'updates', np.inf).mean())
        used = view.used(arm, kind)
        rows.append((said, budget, arm.label, f'{count:,.0f}', used, number(loss), f'{share:.1f} %'))
  with plots.panels(1, **ONE) as (figure, (axes,)):
    axes.axvspan(-0.5, 0.5, color='grey', alpha=0.15, linewidth=0)
    for place, gain in enumerate(gains.values()):
      colour = plots.COLOURS[place % len(KINDS)]
      axes.plot([100 * gain.low, 100 * gain.high], [place, place], color=colour)
      axes.plot([100 * gain.estimate], [place], 'o', color=colour)
    axes.set_yticks(range(len(gains)), gains)
    axes.invert_yaxis()
    axes.set_xlabel('test accuracy, small minus large batch, points')
  heads = (
    'bench',
    'compared at',
    'arm',
    'mean updates',
    'rate, momentum',
    'training loss',
    'mean test accuracy',
  )
  return figure, Table(heads, rows)


@batch_size.section(
  'Updates to a target against batch size',
  'Plain descent to training loss {config.steps.losses[2]:g}, each batch size at its own best rate. While twice the '
  'batch halves the updates, batches cost no examples (dotted); on the plateau they buy nothing. The bend is B_crit of '
  'S = S_min (1 + B_crit / B), fitted to geometric means. The target '
  'is a training loss, for the noise scale speaks of how fast a batch descends.',
  caption='Vertical: the fitted bend, and the noise scale at each of the losses {config.steps.losses}, the mean of tr '
  'Sigma over that of |G|^2, which is to predict it (G5).',
  when=asked('G5'),
)
def steps_to_target(view: Seen) -> tuple[Figure, Table]:
  """Updates to the target against the batch size, with the fitted bend and the noise scales."""
  options = view.config.steps
  found = [view.crossing(size) for size in options.batch_sizes]
  critical = effects.critical_batch_size(view)
  both = type(found[0])(*(np.stack(columns, axis=1) for columns in zip(*found, strict=True)))
  figure = plots.steps_by_batch_size(options.batch_sizes, {'best rate of each B': both}, fit=False)
  axes, rows = figure.axes[0], [('bend', '', '', words(critical), '')]
  axes.axvline(critical.estimate, color='black', label=f'bend {words(critical)}')
  for place, loss in enumerate(options.losses):
    scale = effects.noise_scale_interval(view, loss)
    style = {'linestyle': plots.LINES[place + 1], 'color': plots.COLOURS[place + 2]}
    axes.axvline(scale.estimate, label=f'noise scale at loss {loss:g}', **style)
    rows.append((f'noise scale at loss {loss:g}', '', '', words(scale), ''))
  axes.legend(fontsize=8)
  for size in options.batch_sizes:
    rate, taken = view.fastest(size)(np.arange(view.config.seeds.tuning)), view.steps(size)
    used, median = study.at_an_end(rate, options.learning_rates), float(np.median(taken))
    lost = f'{np.isinf(taken).sum()} of {len(taken)}'
    rows.append((str(size), used, f'{median:,.0f}', f'{median * size:,.0f}', lost))
  return figure, Table(('B', 'best rate', 'median updates', 'examples', 'never reached'), rows)


@batch_size.section(
  'Sharpness of end points',
  'A small batch is still jumping about, and its gradient would pass for sharpness: end points are cooled by full '
  'batch to the same training loss, to which {view.lost} never came. All measures but the adaptive one change when a '
  'layer is multiplied and the next one divided by the same number, though the function does not. At equal rate and '
  'momentum only the batch differs (G3). Where each is trained fastest it has a rate of its own (G3a), and curvature '
  'lies under the border of stability of that rate, 2 / rate for plain descent.',
  caption='At equal settings, means over them. The gap is validation minus training loss; points of one seed share '
  'their data, and rise to the right together if sharpness predicts the gap (G4).',
  when=asked('G3'),
)
def sharpness(view: Seen) -> tuple[Figure, Table]:
  """The gap against the eigenvalue relative to each seed's mean; large over small batch, equal and own settings."""
  rows, sizes = [], view.config.sharpness.batch_sizes
  with plots.panels(2, **TWO) as (figure, panels):
    for axes, (bench, labels) in zip(panels, LABELS.items(), strict=True):
      sharp, gap = (
        values / values.mean(axis=(1, 2), keepdims=True)
        for values in effects.end_points(view, bench, 'eigenvalue')
      )
      for place, size in enumerate(sizes):
        colour, marker = plots.COLOURS[place], plots.MARKERS[place]
        axes.scatter(sharp[:, place], gap[:, place], 12, colour, marker=marker, alpha=0.7, label=f'B={size}')
      axes.set(title=labels, xlabel='largest eigenvalue over its mean of the seed')
      equal = [effects.sharpness_ratio(view, bench, measure) for measure in MEASURES]
      own = [effects.own_sharpness_ratio(view, bench, measure) for measure in MEASURES]
      used = ' / '.join(view.used(arm, 'fastest') for arm in reversed(view.pair(bench)))
      rows.append((labels, 'equal', *map(words, equal)))
      rows.append((labels, f'fastest: {used}', *map(words, own)))
    panels[0].set_ylabel('gap over its mean of the seed')
    panels[0].legend(fontsize=8)
  return figure, Table(('large over small batch', 'rate, momentum', *MEASURES.values()), rows)


@batch_size.section(
  'Batch normalisation and ghosts',
  'Ghosts are slices of a large batch, {config.norm.ghost} examples each, that BatchNorm normalises by themselves. '
  'The running averages that such a model is usually tested with keep 99 % of themselves at an update: after the few '
  'updates of a large batch they still remember the start, while ghosts update them once per slice and win for that '
  'alone. G6 is graded with the statistics of all training images.',
  caption='After {config.norm.epochs} epochs. The gap to close is that between the first two blue points.',
  when=asked('G6'),
)
def norm(view: Seen) -> Figure:
  """Test accuracy with BatchNorm after equal examples, by both kinds of statistics."""
  on = view.arms('norm')
  kinds = {
    'population.test_accuracy': 'statistics of all training images',
    'test_accuracy': 'running averages',
  }
  with plots.panels(1, **ONE) as (figure, (axes,)):
    for place, (variable, said) in enumerate(kinds.items()):
      found = [view.ended(arm, 'epochs', view.setting(arm, 'epochs'), variable, 0.0) for arm in on]
      values = np.stack([each.values for each in found], axis=1)
      plots.spread(axes, np.arange(len(on)) + 0.12 * (place - 0.5), 100 * values, said, place, line='')
    axes.set_xticks(range(len(on)), [arm.label.replace(', ', ',\n') for arm in on])
    axes.set(xlim=(-0.5, len(on) - 0.5), ylabel='test accuracy, %')
    axes.legend(loc='lower right')
  return figure


@batch_size.section(
  'Growing the batch instead of decaying the rate',
  'After epochs {config.growth.epochs} the batch grows {config.growth.factor}-fold or the rate falls so; "kept" does '
  'neither, and shows whether there was anything to tell apart. All begin with the same rate, the largest that is '
  'stable on the tuning seeds (G7).',
  caption='Left, the same curve would mean that lines lie on one another; right, the growing batch ends sooner.',
  when=asked('G7'),
)
def growth(view: Seen) -> tuple[Figure, Table]:
  """Training loss along the three ways, against epochs and updates; and where they end."""
  rows = []
  with plots.panels(2, **TWO) as (figure, (left, right)):
    for place, way in enumerate(WAYS):
      made = view.cell(f'way_{way}').step.values
      loss, share = (view.along(way, name, view.rate) for name in ('train_loss', 'test_accuracy'))
      for axes, x in ((left, np.arange(len(made))), (right, made)):
        plots.band(axes, x[1:], loss[:, 1:], way, place)
      final = number(float(np.median(loss[:, -1]))), f'{100 * share[:, -1].mean():.2f} %'
      rows.append((way, number(view.rate), f'{made[-1]:,}', *final))
    left.set(yscale='log', xlabel='epochs', ylabel='training loss')
    right.set(yscale='log', xlabel='updates')
    left.legend()
  return figure, Table(('way', 'first rate', 'updates', 'training loss', 'test accuracy'), rows)


@batch_size.section(
  'Where to stop',
  'The model is the one at the record of the least validation or the least training loss (G8), of '
  'B={config.small_batch} at the setting best by validation and, with wrong labels, at that of the least training '
  'loss, which is what someone takes who looks at nothing else. Labels of validation are as often wrong as '
  'those of training; test labels are right.',
  caption='Wrong labels, setting of the least training loss. Vertical: where either loss is least, median over seeds.',
  when=asked('G8'),
)
def stopping(view: Seen) -> tuple[Figure, Table]:
  """Losses of the small batch along its runs, and where either loss stops it."""
  small, rows = view.pair('noisy')[0], []
  setting = view.setting(small, 'fit')
  runs = view.cell(f'runs_{small}').sel(setting=setting).transpose('seed', 'step', ...)
  runs = runs.sel(step=(runs.step > 0) & (runs.step <= small.budgets['epochs']))
  with plots.panels(1, **ONE) as (figure, (axes,)):
    for place, (name, said) in enumerate((LOSSES | {'test_loss': 'test'}).items()):
      plots.band(axes, runs.step.values / small.epoch, runs[name].values, said, place)
      if name in LOSSES:
        least = float(effects.stopped(view, 'noisy', setting, name).step.median()) / small.epoch
        style = {'color': plots.COLOURS[place], 'linestyle': plots.LINES[place + 1]}
        axes.axvline(least, label=f'least {said} loss', **style)
    axes.set(xlabel='epochs', ylabel='loss')
    axes.legend(fontsize=8)
  for bench, kind in CONDITIONS:
    arm = view.pair(bench)[0]
    for name, said in LOSSES.items():
      found = effects.stopped(view, bench, view.setting(arm, kind), name).mean('seed')
      share, epoch = f'{100 * float(found.test_accuracy):.1f} %', f'{float(found.step) / arm.epoch:.1f}'
      used = f'{SETTINGS[kind]}: {view.used(arm, kind)}'
      rows.append((LABELS[bench], used, said, epoch, share, number(float(found.test_loss))))
  return figure, Table(
    ('labels', 'rate, momentum', 'stopped by', 'mean epoch', 'accuracy', 'test loss'), rows
  )
