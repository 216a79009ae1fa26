"""The study's pictures: one function each, from the stored results to a Matplotlib figure."""

import numpy as np
import xarray as xr
from matplotlib import ticker
from matplotlib.figure import Figure

from experiments.batch_size import arms, effects, sharp_effects, steps
from experiments.batch_size.sharpness import MEASURES
from experiments.batch_size.study import Study
from gdlab import plots
from gdlab.statistics import Crossing

KINDS = {'epochs': 'equal examples', 'updates': 'equal updates', 'time': 'equal time'}
WIDTH, HEIGHT = 4.9, 3.6  # of one panel: a column of the page, and a phone


def accuracy(study: Study, name: str) -> Figure:
  """Test accuracy against the batch size at equal examples, updates and time."""
  bench = study.benches[name]
  sizes = [arm.batch_size for arm in bench.arms]
  with plots.panels(1, width=WIDTH, height=HEIGHT) as (figure, (axes,)):
    for number, (kind, words) in enumerate(KINDS.items()):
      values = np.stack([study.accuracy(bench, arm, kind).values for arm in bench.arms], axis=1)
      shift = 1.07 ** (number - 1)  # so that bars do not hide one another
      plots.spread(axes, np.asarray(sizes) * shift, 100 * values, words, number)
    axes.axvspan(32, 128, color='grey', alpha=0.15, linewidth=0)
    axes.set(xlabel='batch size B', ylabel='test accuracy, %')
    axes.set_xscale('log', base=2)
    axes.legend()
  return figure


def settings(study: Study, name: str, kind: str) -> Figure:
  """Validation error of every setting that was tried, at every batch size."""
  bench = study.benches[name]
  columns = []
  for arm in bench.arms:
    tuned = study.tuned(bench, arm).sel(step=study.step(bench, arm, kind))
    columns.append(1 - arms.unless_failed(tuned, 'validation_accuracy', 0.0))
  labels = [f'{rate:g}, {momentum:g}' for rate, momentum in bench.settings]
  table = xr.concat(columns, xr.Variable('batch_size', [arm.batch_size for arm in bench.arms]))
  table = table.assign_coords(setting=('setting', labels)).transpose('setting', 'batch_size', 'seed')
  figure = plots.heat_map(table.reset_coords(drop=True), label='validation error')
  figure.axes[0].set_ylabel('rate, momentum')
  return figure


def steps_to_target(study: Study) -> Figure:
  """Updates to the target against the batch size, with the fitted bend and the noise scale."""
  time, censored = study.at_rule(steps.RULES[0])
  fitted = np.isfinite(np.median(study.steps(), axis=0)).sum() >= 3
  figure = plots.steps_by_batch_size(
    study.config.steps.batch_sizes, {'best rate of each B': Crossing(time, censored)}, fit=bool(fitted)
  )
  axes = figure.axes[0]
  scale = effects.scale_on_way(study)
  if np.isfinite(scale[:3]).all():
    axes.axvspan(scale.low, scale.high, color=plots.COLOURS[2], alpha=0.35, linewidth=0)
  axes.axvline(scale.estimate, color=plots.COLOURS[2], linestyle='--', linewidth=1.2, label='noise scale')
  axes.legend(fontsize=8)
  return figure


def rules(study: Study) -> Figure:
  """Updates to the target with the best rate of each batch size and with the rates that rules make of the base's."""
  crossings = {}
  for rule in steps.RULES:
    time, censored = study.at_rule(rule)
    crossings[rule] = Crossing(time, censored)
  return plots.steps_by_batch_size(study.config.steps.batch_sizes, crossings, fit=False)


def searched(study: Study) -> Figure:
  """Median updates to the target of every rate that was tried, at every batch size."""
  sizes = list(study.config.steps.batch_sizes)
  columns = [study.results[f'search_b{size}'] for size in sizes]
  table = xr.concat(
    [column.steps.where(~column.censored, np.inf) for column in columns], xr.Variable('batch_size', sizes)
  )
  table = table.transpose('learning_rate', 'batch_size', 'seed')
  return plots.heat_map(table, label='updates to the target')


def scale(study: Study) -> Figure:
  """Both noise scales on the way of full batch to the target."""
  runs = study.scales(max(study.config.steps.batch_sizes))
  seen = np.isfinite(runs.simple).any('seed').values
  return plots.noise_scale(
    runs.step.values[seen],
    {
      'simple': runs.simple.transpose('seed', 'step').values[:, seen],
      'with curvature': runs.noise.transpose('seed', 'step').values[:, seen],
    },
  )


def survival(study: Study) -> Figure:
  """The share of runs still above the target, at four batch sizes."""
  sizes = list(study.config.steps.batch_sizes)
  shown = [sizes[place] for place in sorted({0, len(sizes) // 3, 2 * len(sizes) // 3, len(sizes) - 1})]
  time, censored = study.at_rule(steps.RULES[0])
  return plots.survival(
    {f'B={size}': Crossing(time[:, sizes.index(size)], censored[:, sizes.index(size)]) for size in shown},
    log=True,
  )


def sharpness(study: Study, name: str) -> Figure:
  """Every measure at the end points against the batch size, relative to the mini-batch, at the matched loss."""
  bench = study.benches[name]
  sizes = [arm.batch_size for arm in bench.arms]
  with plots.panels(1, width=WIDTH, height=HEIGHT) as (figure, (axes,)):
    for number, (measure, words) in enumerate(MEASURES.items()):
      values = np.stack(
        [
          study.sharpness(bench, arm)[measure].sel(setting=study.setting(bench, arm, 'matched')).values
          for arm in bench.arms
        ],
        axis=1,
      )
      reference = np.median(values[:, sizes.index(study.config.mini_batch)])
      plots.spread(axes, np.asarray(sizes) * 1.07 ** (number - 1.5), values / reference, words, number)
    axes.axhline(1, color='black', linewidth=0.8, linestyle=':')
    axes.set(xlabel='batch size B', ylabel=f'relative to B={study.config.mini_batch}', yscale='log')
    axes.set_xscale('log', base=2)
    axes.legend(fontsize=8)
  return figure


def gaps(study: Study, name: str) -> Figure:
  """The gap against two measures of sharpness, one point for a run."""
  bench = study.benches[name]
  with plots.panels(2, width=3.9, height=HEIGHT) as (figure, axes):
    for panel, measure in zip(axes, ('eigenvalue', 'adaptive'), strict=True):
      sharp, gap = sharp_effects.runs_of(study, name, measure)
      for number, arm in enumerate(bench.arms):
        panel.plot(
          sharp[:, number].ravel(),
          gap[:, number].ravel(),
          linestyle='',
          marker=plots.MARKERS[number],
          color=plots.COLOURS[number],
          markersize=4,
          alpha=0.7,
          label=arm.label,
        )
      panel.set(xscale='log', xlabel=MEASURES[measure])
      panel.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
      panel.xaxis.set_major_formatter(ticker.StrMethodFormatter('{x:g}'))
      panel.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes[0].set_ylabel('test minus training loss')
    axes[0].legend(fontsize=8)
  return figure


def norm(study: Study) -> Figure:
  """Test accuracy with BatchNorm after equal examples, by both kinds of statistics."""
  bench = study.benches['norm']
  with plots.panels(1, width=WIDTH, height=HEIGHT) as (figure, (axes,)):
    for number, (variable, words) in enumerate(
      (('population_accuracy', 'statistics of all training images'), ('test_accuracy', 'running averages'))
    ):
      values = np.stack(
        [study.at(bench, arm, 'epochs', variable, failed=0.0).values for arm in bench.arms], axis=1
      )
      places = np.arange(len(bench.arms)) + 0.12 * (number - 0.5)
      plots.spread(axes, places, 100 * values, words, number, line='')
    axes.set_xticks(range(len(bench.arms)), [arm.label.replace(', ', ',\n') for arm in bench.arms])
    axes.set_xlim(-0.5, len(bench.arms) - 0.5)
    axes.set_ylabel('test accuracy, %')
    axes.legend()
  return figure


def growth(study: Study) -> Figure:
  """Training loss with a growing batch, a decaying rate, and neither: against epochs and against updates.

  The first two at the rate that is best for decaying, neither at its own.
  """
  rate = study.growth_rate('decay')
  ways = {
    'batch grows': study.grown('growth', rate),
    'rate decays': study.grown('decay', rate),
    'neither': study.grown('kept', study.growth_rate('kept')),
  }
  with plots.panels(2, width=3.9, height=HEIGHT) as (figure, axes):
    for number, (label, runs) in enumerate(ways.items()):
      loss = runs.train_loss.transpose('seed', 'passes').values[:, 1:]
      plots.band(axes[0], runs.passes.values[1:], loss, label, number)
      plots.band(
        axes[1], study.results['growth' if number == 0 else 'decay'].made.values[1:], loss, label, number
      )
    for epoch in study.config.growth.epochs[:-1]:
      axes[0].axvline(epoch, color='black', linewidth=0.8, linestyle=':')
    axes[0].set(yscale='log', xlabel='epochs', ylabel='training loss')
    axes[1].set(yscale='log', xlabel='updates')
    axes[0].legend()
  return figure


def stopping(study: Study, name: str) -> Figure:
  """Losses of the mini-batch at the setting of the least training loss, and where either loss stops it."""
  bench = study.benches[name]
  arm = study.small(bench)
  runs = study.runs(bench, arm, 'fit')
  runs = runs.sel(step=(runs.step > 0) & (runs.step <= study.step(bench, arm, 'epochs')))
  epochs = runs.step.values / arms.updates_per_epoch(bench, arm)
  names = {'train_loss': 'training', 'validation_loss': 'validation', 'test_loss': 'test, right labels'}
  with plots.panels(1, width=WIDTH, height=HEIGHT) as (figure, (axes,)):
    for number, (name, words) in enumerate(names.items()):
      plots.band(axes, epochs, runs[name].transpose('seed', 'step').values, words, number)
    for number, name in enumerate(('train_loss', 'validation_loss')):
      best = arms.unless_failed(runs, name, np.inf).argmin('step').values
      words = {'train_loss': 'training', 'validation_loss': 'validation'}[name]
      axes.axvline(
        float(np.median(epochs[best])),
        color=plots.COLOURS[number],
        linestyle=plots.LINES[number + 1],
        linewidth=1.2,
        label=f'least {words} loss',
      )
    axes.set(xlabel='epochs', ylabel='loss')
    axes.legend(fontsize=8)
  return figure
