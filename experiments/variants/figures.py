"""The study's pictures: one function each, from the stored results to a Matplotlib figure."""

import numpy as np
from matplotlib.figure import Figure

from experiments.variants.arms import TUNING_IDS, unless_failed
from experiments.variants.effects import late_excess
from experiments.variants.study import Study
from gdlab import plots, theory


def name(study: Study, batch_size: int) -> str:
  """What a legend calls an arm."""
  return {1: 'single example', study.full: 'full batch'}.get(batch_size, f'mini-batch {batch_size}')


def losses(study: Study) -> Figure:
  """Training loss against updates, epochs and seconds."""
  with plots.panels(3) as (figure, axes):
    for number, size in enumerate((1, study.mini, study.full)):
      runs = study.arm('examples', size).isel(step=slice(1, None))
      for panel, x in zip(axes, (runs.step, runs.epoch, runs.step * study.seconds(size)), strict=True):
        plots.band(
          panel, x.values, unless_failed(runs, 'train_loss', np.nan).values, name(study, size), number
        )
    axes[1].axvline(study.config.epochs, color='black', linewidth=0.8, linestyle=':')
    axes[2].axvline(study.time_budget, color='black', linewidth=0.8, linestyle=':')
    for panel, label in zip(axes, ('updates', 'epochs (examples / N)', 'seconds'), strict=True):
      panel.set(xscale='log', yscale='log', xlabel=label, title=f'against {label.split()[0]}')
    axes[0].set_ylabel('training loss')
    axes[0].legend()
  return figure


def paths(study: Study) -> Figure:
  """The path of each variant on the surface of two parameters."""
  result = study.results['paths']
  with plots.panels(3, height=3.6) as (figure, axes):
    for number, (panel, size) in enumerate(zip(axes, result.batch_size.values[::-1], strict=True)):
      plots.surface(panel, result.x, result.y, result.surface, float(result.minimum))
      track = result.params.sel(batch_size=size).isel(seed=0)
      panel.plot(*track.values.T, color=plots.COLOURS[2 - number], marker='.', markersize=4, linewidth=1)
      panel.plot(*track.values[0], 'o', color='black', label='start')
      panel.plot(*result.minimiser.values, '*', color='black', markersize=11, label='minimum')
      title = {1: 'single example', result.attrs['num_examples']: 'full batch'}.get(
        int(size), f'mini-batch {size}'
      )
      panel.set(title=title, xlabel='weight of component 1')
    axes[0].set_ylabel('weight of component 2')
    axes[0].legend()
  return figure


def noise(study: Study) -> Figure:
  """The gradient estimate's variance against the batch size, with the law."""
  result = study.results['noise']
  population = int(result.attrs['num_examples'])
  sizes = result.batch_size.values
  dense = np.unique(np.geomspace(1, population - 1, 200).round().astype(int))
  trace = float(result.covariance_trace.median())
  with plots.panels(1, width=6) as (figure, (panel,)):
    for number, (kind, law) in enumerate((('with', None), ('without', population))):
      drawn = sizes[sizes < population] if law else sizes
      panel.plot(dense, theory.mean_variance(trace, dense, law), color=plots.COLOURS[number], linewidth=1)
      measured = result.variance.sel(replacement=kind, batch_size=drawn).transpose('seed', 'batch_size')
      plots.spread(panel, drawn, measured.values, f'{kind} replacement', number, line='')
    panel.set(xscale='log', yscale='log', xlabel='batch size B', ylabel='variance of the gradient estimate')
    panel.set_title('points: drawn batches; lines: the exact law')
    panel.legend()
  return figure


def rates(study: Study) -> Figure:
  """Training loss after equal examples, and after equal time, against the learning rate."""
  with plots.panels(2, width=4.6) as (figure, axes):
    for panel, kind in zip(axes, ('examples', 'time'), strict=True):
      for number, size in enumerate(study.sizes):
        tuned = study.results[f'tuning_b{size}']
        ends = unless_failed(tuned.sel(step=study.budget(kind, size)), 'train_loss', np.nan)
        ends = ends.transpose('seed', 'learning_rate')
        plots.spread(panel, tuned.learning_rate, ends.values, f'B={size}', number)
      panel.set(xscale='log', yscale='log', xlabel='learning rate', title=f'after equal {kind}')
    axes[0].set_ylabel('training loss')
    axes[1].legend(loc='upper left', bbox_to_anchor=(1, 1))
  return figure


def speed(study: Study) -> Figure:
  """Time per example and test accuracy at equal time, against the batch size."""
  with plots.panels(2, width=4.6) as (figure, axes):
    seconds = study.clock.seconds_per_update
    nanoseconds = (seconds / seconds.batch_size * 1e9).transpose('repeat', 'batch_size')
    plots.spread(axes[0], seconds.batch_size, nanoseconds.values, 'time', 0)
    axes[0].set(xscale='log', yscale='log', xlabel='batch size B', ylabel='nanoseconds per example')
    axes[0].set_title('time per example')
    accuracy = np.stack(
      [study.at('time', size, 'test_accuracy', failed=0.0).values for size in study.sizes], axis=1
    )
    plots.spread(axes[1], study.sizes, accuracy, 'test accuracy', 1)
    axes[1].axvspan(32, 256, color='grey', alpha=0.15, linewidth=0)
    axes[1].set(xscale='log', xlabel='batch size B', ylabel='test accuracy')
    axes[1].set_title(f'after equal time ({study.time_budget:.2g} s)')
  return figure


def floor(study: Study) -> Figure:
  """The loss floor of single-example descent: curves, and its height against the rate."""
  result = study.results['floor']
  with plots.panels(2, width=4.6) as (figure, axes):
    for number, rate in enumerate(result.learning_rate.values):
      runs = result.sel(learning_rate=rate).isel(step=slice(1, None))
      plots.band(axes[0], runs.epoch.values, runs.excess.values, f'rate {rate:g}', number)
    axes[0].set(
      yscale='log', xlabel='epochs', ylabel='training loss above its minimum', title='at a fixed rate'
    )
    axes[0].legend(fontsize=8)
    plots.spread(axes[1], result.learning_rate, late_excess(result), 'last quarter', 0)
    axes[1].set(xscale='log', yscale='log', xlabel='learning rate', title='floor (mean of the last quarter)')
    axes[1].set_xticks(result.learning_rate.values, [f'{rate:g}' for rate in result.learning_rate.values])
    axes[1].minorticks_off()
  return figure


def convex(study: Study) -> Figure:
  """The gap to the minimum of full batch on convex problems, with the guaranteed rate."""
  result = study.results['convex']
  with plots.panels(2, width=4.6) as (figure, axes):
    for panel, problem in zip(axes, result.problem.values, strict=True):
      chosen = result.sel(problem=problem)
      for number, rate in enumerate(result.rate_times_smoothness.values):
        gap = chosen.gap.sel(rate_times_smoothness=rate)
        relative = (gap / gap.isel(step=0)).where(lambda value: value > 1e-14)
        plots.band(
          panel, result.step.values, relative.transpose('seed', 'step').values, f'rate {rate:g}/L', number
        )
      bound = float(chosen.bound) ** result.step.values
      panel.plot(result.step, bound, color='black', linestyle='--', linewidth=1, label='(1 - mu/L)^k')
      panel.set(yscale='log', ylim=(1e-14, 1e3), xlabel='updates k', title=f'{problem} regression')
    axes[0].set_ylabel('gap to the minimum, relative to the start')
    axes[0].legend()
  return figure


def stream(study: Study, window: int = 50) -> Figure:
  """Prediction errors along the stream, with the source at rest and drifting."""
  result = study.results['stream']
  # A run that diverged has no errors from there on: the rate that let it is the worst, not the mean of what is left.
  tuning = result.sel(seed=result.seed >= TUNING_IDS).single.mean(('seed', 'example'), skipna=False)
  tuning = tuning.fillna(float('inf'))
  chosen = result.sel(seed=result.seed < TUNING_IDS)
  with plots.panels(2, width=4.6) as (figure, axes):
    for panel, drift in zip(axes, result.drift.values, strict=True):
      rate = tuning.sel(drift=drift).idxmin('learning_rate')
      arms = {
        'full batch, refitted': chosen.full.sel(drift=drift),
        'single example': chosen.single.sel(drift=drift, learning_rate=rate),
      }
      for number, (label, errors) in enumerate(arms.items()):
        smooth = errors.rolling(example=window, min_periods=1).mean().transpose('seed', 'example')
        plots.band(panel, np.arange(1, smooth.sizes['example'] + 1), smooth.values, label, number)
      panel.set(
        yscale='log', xlabel='examples so far', title='source at rest' if drift == 0 else 'drifting source'
      )
    axes[0].set_ylabel(f'squared error, mean of {window}')
    axes[0].legend()
  return figure
