"""The page: its pictures and tables, each in its section."""

import functools

import numpy as np
from matplotlib.figure import Figure

from experiments.batch_size import effects
from experiments.batch_size.effects import WAYS
from experiments.batch_size.study import LABELS, MEASURES, SETTINGS, Seen, batch_size
from gdlab import plots, study
from gdlab.report import Table, number
from gdlab.statistics import Interval

KINDS = {'epochs': 'equal examples', 'updates': 'equal updates', 'time': 'equal time'}
LOSSES = {'train_loss': 'training', 'validation_loss': 'validation'}
ONE, TWO = {'width': 4.9, 'height': 3.6}, {'width': 3.9, 'height': 3.6}  # a column of the page, and a phone


def words(found: Interval) -> str:
  """An estimate with its interval."""
  return f'{number(found.estimate)} ({number(found.low)} to {number(found.high)})'


def accuracy(view: Seen, bench: str) -> tuple[Figure, Table]:
  """Test accuracy against the batch size at each budget; what every arm costs and how it does."""
  on, rows = view.arms(bench), []
  with plots.panels(1, **ONE) as (figure, (axes,)):
    for place, kind in enumerate(effects.budgets(on[0], view.cell('clock'))):
      values = np.stack([view.accuracy(arm, kind).values for arm in on], axis=1)
      sizes = np.array([arm.batch_size for arm in on]) * 1.07 ** (place - 1)  # bars do not hide one another
      plots.spread(axes, sizes, 100 * values, KINDS[kind], place)
      for arm in on:
        step = view.step(arm, kind)
        gap = view.ended(arm, kind, 'alike_loss', np.inf) - view.ended(arm, kind, 'train_loss', 0.0)
        shares = view.accuracy(arm, kind), view.ended(arm, kind, 'train_accuracy', 0.0)
        means = [f'{100 * float(share.mean()):.1f} %' for share in shares]
        costs = f'{step:,}', f'{step / arm.epoch:,.3g}', view.used(arm, kind)
        rows.append((KINDS[kind], arm.label, *costs, *means, number(float(gap.mean()))))
    axes.axvspan(32, 128, color='grey', alpha=0.15, linewidth=0)
    axes.set(xlabel='batch size B', ylabel='test accuracy, %')
    axes.set_xscale('log', base=2)
    axes.legend()
  heads = ('budget', 'arm', 'updates', 'epochs', 'rate, momentum', 'test accuracy', 'of training', 'loss gap')
  return figure, Table(heads, rows)


for bench, title in (LABELS | {'cnn': 'a CNN'}).items():
  batch_size.section(
    f'Test accuracy against batch size: {title}',
    'Equal examples (passes over the data), equal updates, and for the perceptron equal time: what '
    'B={config.mini_batch} takes for its passes in a compiled loop. Each is tuned by itself. Loss gap: test minus '
    'training loss, on labels of which as many are wrong. Where an arm has not fitted the training images, a '
    'difference is one of training first.',
    caption='Shaded: batch sizes that the claims call small. Where lines part at the right end, large batches lack '
    'updates; where they meet, more updates made up for it. G1 and G2 compare B={config.mini_batch} with full batch.',
    printed=bench in LABELS,
  )(functools.partial(accuracy, bench=bench))


@batch_size.section(
  'Updates to a target against batch size',
  'Plain descent to training loss {config.steps.target_loss:g}, each batch size at its own best rate. While twice '
  'the batch halves the updates, batches cost no examples (dotted); on the plateau they buy nothing. Fit: S = S_min '
  '(1 + B_crit / B). The target is a training loss, for the noise scale speaks of how fast a batch descends.',
  caption='Green: the noise scale tr(Sigma)/|G|^2, mean over the way of full batch to the target, with its interval. '
  'It predicts the bend if it lies where the points leave the dotted line (G5).',
)
def steps_to_target(view: Seen) -> tuple[Figure, Table]:
  """Updates to the target against the batch size, with the fitted bend and the noise scale."""
  options, found = view.config.steps, view.crossings()
  critical, scale = effects.critical_batch_size(view), effects.scale_on_way(view)
  fit = bool(np.isfinite(critical.estimate))
  figure = plots.steps_by_batch_size(options.batch_sizes, {'best rate of each B': found}, fit=fit)
  axes = figure.axes[0]
  if np.isfinite(scale[:3]).all():
    axes.axvspan(scale.low, scale.high, color=plots.COLOURS[2], alpha=0.35, linewidth=0)
  axes.axvline(scale.estimate, linestyle='--', color=plots.COLOURS[2], label='noise scale')
  axes.legend(fontsize=8)
  axes.set_title(f'B crit {words(critical)}, noise scale {words(scale)}', fontsize=9)
  rows = []
  for size, taken in zip(options.batch_sizes, view.steps().T, strict=True):
    rate, median = float(view.cell(f'steps_{size}').learning_rate), float(np.median(taken))
    lost = f'{np.isinf(taken).sum()} of {len(taken)}'
    used = study.at_an_end(rate, options.learning_rates)
    rows.append((str(size), used, f'{median:,.0f}', f'{median * size:,.0f}', lost))
  return figure, Table(('B', 'best rate', 'median updates', 'examples', 'never reached'), rows)


@batch_size.section(
  'Sharpness of end points',
  'Each batch size at its best setting. A small batch is still jumping about, and its gradient would pass for '
  'sharpness: end points are cooled by full batch to the same training loss, to which {view.lost} never came. All '
  'measures but the adaptive one change when a layer is multiplied and the next one divided by the same number, '
  'though the function does not. The table has full batch over B={config.mini_batch}. At its own best setting each '
  'has a rate of its own, and curvature lies under the border of stability of that rate, 2 / rate for plain descent: '
  'a large tuned rate keeps minima flat whatever the batch. At equal rate and momentum only the batch differs.',
  caption='Ratios to the median of B={config.mini_batch}. Above the dotted line: sharper (G3).',
)
def sharpness(view: Seen) -> tuple[Figure, Table]:
  """Measures against the batch size, relative to the mini-batch; full batch over it, own and at equal settings."""
  rows = []
  with plots.panels(2, **TWO) as (figure, panels):
    for axes, (bench, labels) in zip(panels, LABELS.items(), strict=True):
      on, (small, large) = view.arms(bench), view.pair(bench)
      for place, (measure, said) in enumerate(MEASURES.items()):
        values = np.stack([view.sharpness(arm)[measure].isel(setting=0).values for arm in on], axis=1)
        sizes = np.array([arm.batch_size for arm in on]) * 1.07 ** (place - 1.5)
        plots.spread(axes, sizes, values / np.median(values[:, on.index(small)]), said, place)
      axes.axhline(1, color='black', linewidth=0.8, linestyle=':')
      axes.set(title=labels, xlabel='batch size B', yscale='log')
      axes.set_xscale('log', base=2)
      own = ' / '.join(view.used(arm, 'matched') for arm in (large, small))
      for case, equal in ((f'own: {own}', False), ('equal: mean', True)):
        ratios = [effects.sharpness_ratio(view, bench, measure, equal) for measure in MEASURES]
        rows.append((labels, case, *map(words, ratios)))
    panels[0].set_ylabel(f'relative to B={view.config.mini_batch}')
    panels[0].legend(fontsize=8)
  return figure, Table(('labels', 'rate, momentum', *MEASURES.values()), rows)


def gaps(view: Seen, bench: str) -> Figure:
  """The gap against two measures of sharpness, one point for a run."""
  with plots.panels(2, **TWO) as (figure, panels):
    for axes, measure in zip(panels, ('eigenvalue', 'adaptive'), strict=True):
      sharp, gap = effects.end_points(view, bench, measure)
      for place, arm in enumerate(view.arms(bench)):
        colour, marker = plots.COLOURS[place], plots.MARKERS[place]
        axes.scatter(sharp[:, place], gap[:, place], 12, colour, marker=marker, alpha=0.7, label=arm.label)
      axes.set_xlabel(MEASURES[measure])
    panels[0].set_ylabel('test minus training loss')
    panels[0].legend(fontsize=8)
  return figure


for bench, title in LABELS.items():
  batch_size.section(
    f'Sharpness and the gap: {title}',
    'One point for a run: every batch size at equal settings, cooled to the same training loss (G4), so that the gap '
    'is the test loss less a constant.',
    caption='If sharpness predicts the gap, points rise to the right, those of one colour as well as all of them.',
  )(functools.partial(gaps, bench=bench))


@batch_size.section(
  'Batch normalisation and ghosts',
  'Ghosts are slices of a large batch, {config.norm.ghost} examples each, that BatchNorm normalises by themselves. '
  'The running averages that such a model is usually tested with keep 99 % of themselves at an update: after the few '
  'updates of a large batch they still remember the start, while ghosts update them once per slice and win for that '
  'alone. G6 is graded with the statistics of all training images.',
  caption='After {config.norm.epochs} epochs. The gap to close is that between the first two blue points.',
)
def norm(view: Seen) -> Figure:
  """Test accuracy with BatchNorm after equal examples, by both kinds of statistics."""
  on = view.arms('norm')
  kinds = {'population_accuracy': 'statistics of all training images', 'test_accuracy': 'running averages'}
  with plots.panels(1, **ONE) as (figure, (axes,)):
    for place, (variable, said) in enumerate(kinds.items()):
      values = np.stack([view.ended(arm, 'epochs', variable, failed=0.0).values for arm in on], axis=1)
      plots.spread(axes, np.arange(len(on)) + 0.12 * (place - 0.5), 100 * values, said, place, line='')
    axes.set_xticks(range(len(on)), [arm.label.replace(', ', ',\n') for arm in on])
    axes.set(xlim=(-0.5, len(on) - 0.5), ylabel='test accuracy, %')
    axes.legend(loc='lower right')
  return figure


@batch_size.section(
  'Growing the batch instead of decaying the rate',
  'After epochs {config.growth.epochs} the batch grows {config.growth.factor}-fold or the rate falls so; "kept" does '
  'neither, and shows whether there was anything to decay for. Each tries the same rates. Curves are compared at the '
  'rate best for decaying, for at two rates none would be the same; accuracy also at the own best of each (G7).',
  caption='Left, the same curve would mean that lines lie on one another; right, the growing batch ends sooner.',
)
def growth(view: Seen) -> tuple[Figure, Table]:
  """Training loss along the three ways, against epochs and updates; and where they end."""
  rows = []
  with plots.panels(2, **TWO) as (figure, (left, right)):
    for place, way in enumerate(WAYS):
      made = view.cell(f'way_{way}').step.values
      loss = view.along(way, 'train_loss', 'decay' if way == 'growth' else way)
      for axes, x in ((left, np.arange(len(made))), (right, made)):
        plots.band(axes, x[1:], loss[:, 1:], way, place)
      for rate_of in {view.way_rate(best): best for best in ('decay', way)}.values():
        ends, shares = (view.along(way, name, rate_of)[:, -1] for name in ('train_loss', 'test_accuracy'))
        rate = study.at_an_end(view.way_rate(rate_of), view.config.growth.learning_rates)
        final = number(float(np.median(ends))), f'{100 * shares.mean():.2f} %'
        rows.append((way, f'{rate}, best for {rate_of}', f'{made[-1]:,}', *final))
    left.set(yscale='log', xlabel='epochs', ylabel='training loss')
    right.set(yscale='log', xlabel='updates')
    left.legend()
  return figure, Table(('way', 'first rate', 'updates', 'training loss', 'test accuracy'), rows)


@batch_size.section(
  'Where to stop',
  'The model is the one at the record of the least validation or the least training loss (G8), of '
  'B={config.mini_batch} at the setting best by validation and at that of the least training loss, which is what '
  'someone takes who looks at nothing else. Labels of validation are as often wrong as those of training; test '
  'labels are right.',
  caption='Wrong labels, setting of the least training loss. Vertical: where either loss is least, median over seeds.',
)
def stopping(view: Seen) -> tuple[Figure, Table]:
  """Losses of the mini-batch along its runs, and where either loss stops it."""
  small, rows = view.pair('noisy')[0], []
  runs = view.runs(small, 'fit').transpose('seed', 'step')
  runs = runs.sel(step=(runs.step > 0) & (runs.step <= view.step(small, 'epochs')))
  with plots.panels(1, **ONE) as (figure, (axes,)):
    for place, (name, said) in enumerate((LOSSES | {'test_loss': 'test'}).items()):
      plots.band(axes, runs.step.values / small.epoch, runs[name].values, said, place)
      if name in LOSSES:
        least = float(effects.stopped(view, 'noisy', 'fit', name).step.median()) / small.epoch
        axes.axvline(
          least, color=plots.COLOURS[place], linestyle=plots.LINES[place + 1], label=f'least {said} loss'
        )
    axes.set(xlabel='epochs', ylabel='loss')
    axes.legend(fontsize=8)
  for bench, labels in LABELS.items():
    for kind, setting in SETTINGS.items():
      used = f'{setting}: {view.used(view.pair(bench)[0], kind)}'
      for name, said in LOSSES.items():
        found = effects.stopped(view, bench, kind, name).mean('seed')
        share, epoch = f'{100 * float(found.test_accuracy):.1f} %', f'{float(found.step) / small.epoch:.1f}'
        rows.append((labels, used, said, epoch, share, number(float(found.test_loss))))
  return figure, Table(
    ('labels', 'rate, momentum', 'stopped by', 'mean epoch', 'accuracy', 'test loss'), rows
  )
