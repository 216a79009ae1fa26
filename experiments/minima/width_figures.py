"""The study's pictures of networks of many widths."""

import numpy as np
from matplotlib.figure import Figure

from experiments.minima import arms, width_effects
from experiments.minima.figures import HEIGHT, WIDTH, bars
from experiments.minima.study import Study
from gdlab import plots


def rates(study: Study) -> Figure:
  """The training loss of every width at every rate it tried."""
  with plots.panels(1, width=WIDTH, height=HEIGHT) as (figure, (panel,)):
    for number, width in enumerate(study.widths):
      tuned = study.results[f'width_{width}_tuning']
      losses = arms.at_end(tuned, 'train_loss', np.nan).transpose('seed', 'learning_rate')
      plots.spread(panel, tuned.learning_rate, losses.values, f'{width} units', number)
    panel.set(xscale='log', yscale='log', xlabel='learning rate', ylabel='final training loss')
    panel.legend(fontsize=8)
  return figure


def spread(study: Study) -> Figure:
  """Final training loss and test accuracy of every network against width."""
  rng = np.random.default_rng(0)  # of the sideways jitter alone
  with plots.panels(2, width=WIDTH, height=HEIGHT) as (figure, axes):
    for panel, variable, label in zip(
      axes, ('train_loss', 'test_accuracy'), ('training loss', 'test accuracy'), strict=True
    ):
      ends = study.ends(variable, np.nan)
      for place, width in enumerate(study.widths):
        jitter = width * np.exp(rng.uniform(-0.2, 0.2, len(ends)))
        panel.plot(jitter, ends[:, place], '.', color=plots.COLOURS[0], markersize=3, alpha=0.5)
        panel.plot(width, np.nanmedian(ends[:, place]), '_', color='black', markersize=16)
      panel.set(xlabel='hidden units', title=label)
      panel.set_xscale('log', base=2)
    axes[0].set(yscale='log', ylabel='after training')
  return figure


def lines(study: Study) -> Figure:
  """The loss on the lines between networks, before and after alignment."""
  chosen = [study.widths[0], study.widths[len(study.widths) // 2], study.widths[-1]]
  with plots.panels(2, width=WIDTH, height=HEIGHT) as (figure, axes):
    for panel, order, title in zip(
      axes, ('as they are', 'aligned'), ('as they are', 'units aligned'), strict=True
    ):
      for number, width in enumerate(chosen):
        found = study.lines(width)
        plots.band(panel, found.t.values, found.loss.sel(order=order).values, f'{width} units', number)
      panel.set(yscale='log', xlabel='from one network to the other', title=title)
    limits = [panel.get_ylim() for panel in axes]
    for panel in axes:
      panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    axes[0].set_ylabel('training loss')
    axes[0].legend(fontsize=9)
  return figure


def barriers(study: Study) -> Figure:
  """The mean barrier against width, with the mean loss of the ends."""
  with plots.panels(1, width=WIDTH, height=HEIGHT) as (figure, (panel,)):
    for number, order in enumerate(('as they are', 'aligned')):
      middle, ends = bars([width_effects.mean_barrier(study, order, width) for width in study.widths])
      panel.errorbar(
        study.widths,
        middle,
        ends,
        color=plots.COLOURS[number],
        marker=plots.MARKERS[number],
        capsize=2,
        label=f'barrier, {order}',
      )
    panel.plot(
      study.widths,
      [study.pair_losses(width).mean() for width in study.widths],
      color='black',
      linestyle=':',
      label='loss of the ends',
    )
    panel.set(yscale='log', xlabel='hidden units', ylabel='training loss')
    panel.set_xscale('log', base=2)
    panel.legend(fontsize=9)
  return figure


def ensembles(study: Study) -> Figure:
  """Test error and negative log-likelihood against the number of members, one line for each width."""
  with plots.panels(2, width=WIDTH, height=HEIGHT) as (figure, axes):
    for panel, score, title in zip(
      axes, ('error', 'nll'), ('test error', 'negative log-likelihood'), strict=True
    ):
      for number, width in enumerate(study.widths):
        sizes = [int(size) for size in study.ensembles(width)['size'].values]
        middle = study.ensembles(width)[score].mean('ensemble').values
        panel.plot(
          sizes,
          middle,
          color=plots.COLOURS[number % 7],
          marker=plots.MARKERS[number % 7],
          markersize=4,
          label=f'{width} units',
        )
      panel.set(yscale='log', xlabel='networks in the ensemble', title=title)
      panel.set_xscale('log', base=2)
    axes[0].legend(fontsize=8)
  return figure
