"""The tables of the study's page, from the stored results alone."""

import numpy as np

import gdlab
from experiments.minima import effects, figures, width_effects
from experiments.minima.arms import at_end
from experiments.minima.study import Study
from gdlab.report import Table, number
from gdlab.statistics import Interval


def summary(study: Study) -> Table:
  """Every width: its rate, how it ended, the barriers, and what ensembles of it gain."""
  heads = (
    'hidden units',
    'rate',
    'training loss',
    'its spread',
    'spread over mean',
    'test accuracy',
    'its spread',
    'barrier',
    'aligned',
    f'error, {study.config.members} together',
    'error, one',
  )
  return Table(heads, [_row(study, width) for width in study.widths])


def _row(study: Study, width: int) -> list[str]:
  runs = study.width(width)
  losses, accuracies = (
    at_end(runs, name, width_effects.FAILED[name]).values for name in ('train_loss', 'test_accuracy')
  )
  found = study.ensembles(width).sel(size=study.config.members)
  with np.errstate(invalid='ignore'):
    deviation = float(np.std(losses, ddof=1))
  return [
    f'{width}',
    f'{float(runs.learning_rate):g}',
    number(float(losses.mean())),
    number(deviation),
    number(deviation / float(losses.mean())),
    f'{100 * accuracies.mean():.1f} %',
    f'{100 * np.std(accuracies, ddof=1):.2f} points',
    *(_shown(width_effects.mean_barrier(study, order, width)) for order in ('as they are', 'aligned')),
    f'{100 * float(found.error.mean()):.2f} %',
    f'{100 * float(found.member_error.mean()):.2f} %',
  ]


def clocks(study: Study) -> Table:
  """The share of runs that left the shallow valley in equal updates, examples and time."""
  rows = []
  for size in (*study.config.valleys.batch_sizes, study.full):
    cells = [figures.name(study, size), f'{1e6 * study.seconds(size):.2f}']
    for updates in study.budgets(size).values():
      cells.append(f'{100 * float(study.left("leave_poor", size, by=updates).mean()):.0f} % ({updates:,})')
    rows.append(cells)
  return Table(('arm', 'µs per update', 'equal updates', 'equal examples', 'equal time'), rows)


def rescued(study: Study) -> str:
  """What mini-batches at the same rate made of networks that single examples had thrown into a poor place."""
  runs = study.ours('rescue').isel(learning_rate=0)
  losses = runs.train_loss.where(runs.status == 0, np.inf)
  change = int(losses.step[-2]) if losses.sizes['step'] > 2 else 0
  before, after = effects.stuck(losses.sel(step=change)), effects.stuck(losses.isel(step=-1))
  if not before.any():
    return 'none was in a poor place'
  share = effects.share(after[before])
  return f'{100 * share.estimate:.0f} % ({100 * share.low:.0f}-{100 * share.high:.0f} %) of {before.sum()} stayed there'


def trapped(study: Study) -> Table:
  """Networks at every rate, with the tuning seeds: the loss they end with and how many are in a poor place."""
  runs = study.results['trap_tuning']
  losses = at_end(runs, 'train_loss', np.inf)
  rows = []
  for rate in runs.learning_rate.values:
    cells = [f'{rate:g}']
    for size in runs.batch_size.values:
      found = losses.sel(learning_rate=rate, batch_size=size)
      cells.append(f'{number(float(found.median()))} ({effects.stuck(found).sum()} of {found.size})')
    rows.append(cells)
  return Table(('rate', *(f'B={size}: loss (poor)' for size in runs.batch_size.values)), rows)


def rates(study: Study) -> Table:
  """Measured and reference rates at every temperature."""
  rows = []
  rates = effects.log_rates(study)(np.arange(study.config.escape.num_seeds))
  for place, size in enumerate(study.config.escape.batch_sizes):
    cell = study.escape(size)
    for each, barrier in enumerate(study.config.escape.barriers):
      known = [effects.references(study, name)[place, each] for name in ('kramers', 'continuous', 'chain')]
      escaped = int((~cell.censored.isel(barrier=each)).sum())
      rows.append(
        [
          f'{barrier:g}',
          f'{size}',
          f'{float(cell.learning_rate[each]):.4g}',
          f'{escaped} of {cell.sizes["seed"]}',
          number(float(np.exp(rates[place, each]))),
          *(f'{float(np.exp(rates[place, each] - log)):.3f}' for log in known),
          f'{1 / np.sqrt(max(escaped, 1)):.3f}',
        ]
      )
  heads = (
    'ridge over T',
    'B',
    'rate',
    'escaped',
    'escapes per time',
    'over Kramers',
    'over exact',
    'over the chain',
    'standard error',
  )
  return Table(heads, rows)


def returns(study: Study) -> Table:
  """Runs that start in the good valley, at every rate and batch size: who is thrown in, how soon, and who stays."""
  options = study.config.valleys
  cells = {
    'double well': 'leave_good',
    'sharp, flat': 'leave_sharp',
    'replaced': 'leave_sharp_replaced',
  }
  rows = []
  for label, cell in cells.items():
    for size in (1, options.mini_batch):
      for rate in options.learning_rates:
        thrown = study.left(cell, size, rate).values
        reached = study.valley(cell).reached.sel(batch_size=size, learning_rate=rate).values
        diverged = study.valley(cell).status.sel(batch_size=size, learning_rate=rate).values != gdlab.RUNNING
        stayed = study.stayed(cell, size, rate)
        rows.append(
          [
            label,
            f'{size}',
            f'{rate:g}',
            f'{options.temperature * (rate / options.learning_rate) * (options.mini_batch / size):.2g}',
            f'{100 * thrown.mean():.0f} %',
            f'{np.median(reached[thrown]):.0f}' if thrown.any() else 'none',
            f'{100 * stayed.mean():.0f} % of {stayed.size}' if stayed.size else 'none',
            f'{100 * diverged.mean():.0f} %',
          ]
        )
  heads = ('landscape', 'B', 'rate', 'T', 'thrown in', 'median', 'not back', 'diverged')
  return Table(heads, rows)


def _shown(interval: Interval) -> str:
  return f'{number(interval.estimate)} [{number(interval.low)}, {number(interval.high)}]'
