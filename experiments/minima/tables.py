"""The tables of the study's page, from the stored results alone."""

import numpy as np

import gdlab
from experiments.minima import dose, effects, figures, valleys, width_effects
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


def leavers(study: Study) -> Table:
  """The shallow valley at every batch size and rate: what Kramers' formula expects, and what was measured."""
  config, rows = study.config, []
  asked = valleys.graded(config)
  for size in config.valleys.batch_sizes:
    for rate in config.valleys.learning_rates:
      escapes = valleys.expected(config, size, rate)
      shares = (study.left(cell, size, rate).mean() for cell in ('leave_poor', 'leave_poor_reshuffled'))
      rows.append(
        [
          f'{size}',
          f'{rate:g}',
          f'{valleys.temperature(config, size, rate):.2g}',
          f'{number(escapes)}',
          f'{100 * (1 - np.exp(-escapes)):.0f} %',
          *(f'{100 * float(share):.0f} %' for share in shares),
          'yes' if (int(size), float(rate)) in asked else 'no',
        ]
      )
  heads = ('B', 'rate', 'T', 'escapes by formula', 'left by formula', 'left', 'left, reshuffled', 'graded')
  return Table(heads, rows)


def doses(study: Study) -> Table:
  """Every level of added noise: the rate tuning chose, and how the runs ended."""
  rows = []
  for section, label in (('dose', 'landscape'), ('dose_network', 'network')):
    best = dose.best_rates(study.results[f'{section}_tuning'], section)
    tried = tuple(study.config[section].learning_rates)
    for schedule in dose.SCHEDULES:
      for level in best.level.values:
        rate = float(best.sel(schedule=schedule, level=level))
        found = study.dose(section).sel(schedule=schedule, level=level)
        rows.append(
          [
            label,
            schedule,
            f'{level:g}',
            f'{rate:g}{" (end)" if rate in (tried[0], tried[-1]) else ""}',
            *(number(float(value)) for value in (found.mean(), found.median(), found.max())),
          ]
        )
  return Table(('where', 'noise', 'level', 'rate', 'mean', 'median', 'worst run'), rows)


def trends(study: Study) -> Table:
  """How spreads and barriers change with width by both yardsticks: average slopes, and whether a line fits."""
  widths, rows = study.widths, []
  for variable, words in (('train_loss', 'spread of training loss'), ('test_error', 'spread of test error')):
    for relative in (False, True):
      values = [width_effects.spread(study, variable, width, relative).estimate for width in widths]
      slopes = (
        width_effects.spread_slope(study, variable, relative, part)
        for part in (width_effects.EVERY, width_effects.WIDEST)
      )
      rows.append(_trend(words + ' over mean' * relative, widths, values, slopes))
  for order in ('as they are', 'aligned'):
    for relative in (False, True):
      measure = width_effects.barrier_over_loss if relative else width_effects.mean_barrier
      values = [measure(study, order, width).estimate for width in widths]
      slopes = (
        width_effects.barrier_slope(study, order, relative, part)
        for part in (width_effects.EVERY, width_effects.WIDEST)
      )
      rows.append(_trend(f'barrier, {order}{", over loss" * relative}', widths, values, slopes))
  heads = (
    'what',
    *(f'{width}' for width in widths),
    'slope',
    'slope, three widest',
    'off the line by a factor',
  )
  return Table(heads, rows)


def _trend(name: str, widths: list[int], values: list[float], slopes) -> list[str]:
  misfit = width_effects.misfit(widths, np.asarray(values))
  return [name, *(number(value) for value in values), *(_shown(slope) for slope in slopes), number(misfit)]


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
    'double well': ('leave_good', 'tilted'),
    'sharp, flat': ('leave_sharp', 'sharp'),
    'replaced': ('leave_sharp_replaced', 'sharp'),
  }
  rows = []
  for label, (cell, which) in cells.items():
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
            f'{valleys.temperature(study.config, size, rate):.2g}',
            f'{valleys.landscape(which)[2].barrier(True) / valleys.temperature(study.config, size, rate):.2g}',
            f'{100 * thrown.mean():.0f} %',
            f'{np.median(reached[thrown]):.0f}' if thrown.any() else 'none',
            f'{100 * stayed.mean():.0f} % of {stayed.size}' if stayed.size else 'none',
            f'{100 * diverged.mean():.0f} %',
          ]
        )
  heads = (
    'landscape',
    'B',
    'rate',
    'T',
    'ridge/T',
    'thrown in',
    'median',
    'judged after',
    'not back',
    'diverged',
  )
  return Table(heads, rows)


def _shown(interval: Interval) -> str:
  return f'{number(interval.estimate)} [{number(interval.low)}, {number(interval.high)}]'
