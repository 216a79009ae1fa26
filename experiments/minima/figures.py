"""The page of the study of minima: a picture or a table for each claim, and what they mean."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.minima import effects, measure
from experiments.minima.effects import View
from experiments.minima.study import YARDSTICKS, minima
from gdlab import plots, statistics, study
from gdlab.report import Table, number
from gdlab.statistics import Crossing

PANELS = {'width': 4.6, 'height': 3.4}  # fit a phone


def crossing(reached: np.ndarray, until: int) -> Crossing:
  """When runs got there; those that did not by `until` are censored then."""
  censored = (reached == 0) | (reached > until)
  return Crossing(np.where(censored, until, reached).astype(float), censored)


def bars(axes: Axes, x: Any, intervals: Sequence[Any], label: str, place: int) -> None:
  """Draws intervals (estimate, low, high, ...); an end that is not known is left out."""
  middle, low, high = np.transpose([found[:3] for found in intervals])
  ends = [np.where(np.isfinite(end), abs(end - middle), 0) for end in (low, high)]
  look: dict[str, Any] = {'color': plots.COLOURS[place], 'marker': plots.MARKERS[place], 'label': label}
  axes.errorbar(x, middle, ends, capsize=2, **look)


@minima.section(
  'Out of the shallow valley',
  'Each of {config.valleys.num_examples} examples pulls x to the left or to the right, always as hard; in the mean '
  'loss, a double well, pulls cancel, and full batch feels no noise. Runs start in the poor, shallow valley (N1).',
  'Rate over batch size counts. N1 is not asked of arms chosen by their outcome, but of those that by formula last '
  '{config.valleys.escapes:g} mean escape times or more, with T at most the ridge. Reshuffled noise cancels in every '
  'epoch, so fewer leave where T is low.',
  caption='Rate {config.valleys.learning_rate:g}; bands 95 % for each curve. Table: the share that reached the other '
  'minimum in {config.valleys.updates:,} updates, and in as many examples as batches of {config.valleys.mini_batch} '
  'see or as much time as single examples take, where that is less.',
)
def leaving(view: View) -> tuple[Figure, Table]:
  """How long runs stay, and the share that left at equal updates, examples and time."""
  options, clock, arms, rows = view.config.valleys, view.cell('clock').seconds_per_update, {}, []
  names = {size: f'mini-batch {size}' for size in options.batch_sizes}
  for size, name in (names | {1: 'single example', options.num_examples: 'full batch'}).items():
    arms[name] = crossing(view.valley('poor', size).reached.values, options.updates)
    time = options.updates * float(clock.sel(batch_size=1).median() / clock.sel(batch_size=size).median())
    ends = (options.updates, max(1, options.updates * options.mini_batch // size), max(1, round(time)))
    for rate in options.learning_rates:
      left = [view.left('poor', size, rate, min(end, options.updates)) for end in ends]
      left.append(view.left('poor_reshuffled', size, rate))
      noisy, asked = size < options.num_examples, 'yes' if (size, rate) in options.graded else 'no'
      heat, escapes = options.temperature(size, rate) * noisy, options.expected(size, rate) * noisy
      shares = (f'{np.mean(each):.0%}' for each in left)
      rows.append((name, f'{rate:g}', number(heat), f'{1 - np.exp(-escapes):.0%}', *shares, asked))
  figure = plots.survival(arms, log=True)
  figure.axes[0].set_ylabel('share still in the shallow valley')
  heads = ('arm', 'rate', 'T', 'by formula', 'equal updates', 'equal examples', 'equal time')
  return figure, Table((*heads, 'reshuffled', 'graded'), rows)


@minima.section(
  'Thrown into a poor valley, and back',
  'Single examples that start in the good valley (N2). A valley that cannot be left would keep its second line at 1. '
  'It is asked at rate {config.valleys.lower_rate:g} too, for nothing stays where the ridge is about T or below. '
  'Replaced: the flat valley with replacement; slow motion leaves it, of which reshuffled noise has little.',
  'The noise of these landscapes is the same everywhere; that of a network is larger where its loss is, which favours '
  'good valleys. The valleys have one dimension; in many there are more ways out.',
  caption='Share still waiting, at rate {config.valleys.learning_rate:g}. Table: those thrown in, and who of them was '
  'not back {config.valleys.patience:g} times the median time in later.',
)
def stays(view: View) -> tuple[Figure, Table]:
  """How long runs take to be thrown in and to come back, and the shares at every rate."""
  options, arms, rows = view.config.valleys, {}, []
  for name, label in {'good': 'double well', 'sharp': 'sharp, flat', 'sharp_replaced': 'replaced'}.items():
    for rate in options.learning_rates:
      over = measure.height(measure.STARTS[name][0]) / options.temperature(1, rate)
      shares = [f'{view.left(name, size, rate).mean():.0%}' for size in (1, options.mini_batch)]
      stayed = view.stayed(name, rate)
      rows.append((label, f'{rate:g}', number(over), *shares, f'{stayed.sum()} of {stayed.size}'))
    runs, thrown = view.valley(name, 1), view.left(name, 1)
    away = np.where(runs.returned > 0, runs.returned - runs.reached, 0)[thrown]
    if thrown.any() and name != 'sharp_replaced':
      arms[f'{label}: until in'] = crossing(runs.reached.values, options.updates)
      arms[f'{label}: until back'] = crossing(away, options.return_updates)
  heads = ('landscape', 'rate', 'ridge/T', 'single', f'B={options.mini_batch}', 'single, not back')
  return plots.survival(arms, log=True) if arms else Figure(), Table(heads, rows)


@minima.section(
  'A network thrown into a poor place',
  'One hidden layer of {config.hidden_of_trap} units, the rate that is best for batches of {config.trap.batch_size}; '
  'at smaller ones single examples train well. Is it a valley that holds the network, or noise that keeps it up? Of '
  'those in a poor place when single examples gave way to mini-batches, {view.rescued.estimate:.0%} stayed there.',
  caption='Medians and the middle 80 % of runs; dotted: a poor place is above. {config.trap.epochs} epochs, then '
  '{config.trap.return_epochs} to come out.',
)
def traps(view: View) -> Figure:
  """Losses after every epoch."""
  names = {'mini': 'mini-batches', 'single': 'single examples', 'rescued': 'single, then mini-batches'}
  losses = {name: view.trap(arm).rename('loss').to_dataset() for arm, name in names.items()}
  figure = plots.curves(losses, 'loss', target=np.log(measure.NUM_CLASSES) / 2, label='training loss')
  figure.axes[0].set(xlabel='epochs', title=f'rate {view.rate("trap_single"):g}')
  return figure


@minima.section(
  "Kramers' law",
  'How fast runs escape from one well of a symmetric double well at temperatures T (N3). Noise of variance s²/B '
  'at rate a makes T = a s² / 2B. Two references: the classical formula, good where the ridge is many T high, and the '
  'exact mean number of updates of descent itself, a linear equation solved numerically.',
  caption='Left: escapes per unit of time (rate times updates). Right: over the exact rate; bars 95 %, 1 is perfect.',
)
def kramers(view: View) -> Figure:
  """Rates against 1/T, and over the exact ones."""
  x, num = np.asarray(view.config.escape.barriers), view.config.escape.num_seeds
  found, exact = effects.log_rates(view, np.arange(num)), -np.log(view.escapes('mean_chain'))
  half = 1.96 / np.sqrt(np.maximum((~view.escapes('censored')).sum(axis=-1), 1))
  with plots.panels(2, **PANELS) as (figure, axes):
    axes[0].plot(x, 1 / view.escapes('mean_kramers')[0], 'k--', label="Kramers' formula")
    axes[0].set_yscale('log')
    axes[1].axhline(1, color='black', linewidth=0.8)
    for place, size in enumerate(view.config.escape.batch_sizes):
      for panel, logs in zip(axes, (found[place], found[place] - exact[place]), strict=True):
        ends = np.exp([logs, logs - half[place], logs + half[place]]).T
        bars(panel, x + 0.06 * place, list(ends), f'B={size}', place)
        panel.set_xlabel('ridge over temperature')
    axes[0].legend(fontsize=9)
  return figure


@minima.section(
  'Noise added on purpose',
  'Full batch with Gaussian noise of a temperature added to every update (N4), constant or falling on a line to zero: '
  'the loss on the Rastrigin function, whose ripples are 20 high, from starts three to four ripples out, and the test '
  'error of a network trained on {config.dose_network.num_examples} images, tuned on images that were left over. Where '
  'a worst run is far above the mean, its rate was still unstable, which is a matter of the rate and not of noise.',
  caption='Means with 95 % intervals, each level at its own best rate. Table: the level that the tuning runs chose.',
)
def doses(view: View) -> tuple[Figure, Table]:
  """What noise of every level makes of loss and test error."""
  rows = []
  with plots.panels(2, **PANELS) as (figure, axes):
    for panel, (where, options) in zip(axes, view.config.doses.items(), strict=True):
      outcome = measure.outcome(view.cell(f'dose_{where}'))
      places, rates = np.arange(len(options.levels)), measure.best_rates(view.cell(f'dose_tuning_{where}'))
      for k, schedule in enumerate(measure.SCHEDULES):
        values = outcome.sel(schedule=schedule).transpose('level', 'seed').values
        bars(panel, places + 0.08 * k, [statistics.bootstrap(row) for row in values], schedule, k)
        for level, row in zip(options.levels, values, strict=True):
          rate = study.at_an_end(float(rates.sel(schedule=schedule, level=level)), options.learning_rates)
          chosen = 'chosen' if level == view.best_level(where, schedule) else ''
          rows.append((where, schedule, f'{level:g}', rate, number(row.mean()), number(row.max()), chosen))
      panel.set_xticks(places, [f'{level:g}' for level in options.levels], rotation=45)
      panel.set(yscale='log', xlabel='temperature of the added noise (at the start)', title=where)
    axes[0].legend(fontsize=9)
  return figure, Table(('where', 'noise', 'level', 'rate', 'mean', 'worst run', ''), rows)


@minima.section(
  'How much minima differ',
  '{config.seeds.count} networks of each width that differ in the draw of their initial parameters alone (N5).',
  'Together: {config.members} of them average their probabilities (N7), at the cost of one as many times wider. That '
  'the negative log-likelihood falls is no surprise: by convexity it is never above that of the average member.',
  caption='Medians and the middle 80 % of networks.',
  printed=True,
)
def spreads(view: View) -> tuple[Figure, Table]:
  """The loss and test error of all networks, their spreads, and what ensembles make of them."""
  options, losses, errors = view.config.widths, view.ends('train_loss'), view.ends('test_error')
  with plots.panels(2, **PANELS) as (figure, axes):
    for panel, ends, title in zip(axes, (losses, errors), ('training loss', 'test error'), strict=True):
      plots.spread(panel, options.hidden, ends, title)
      panel.set(xlabel='hidden units', title=title, yscale='log', xscale='log')
  columns = [losses.mean(axis=0), effects.spread(losses, False), effects.spread(losses, True)]
  columns += [errors.mean(axis=0), effects.spread(errors, False)]
  rows = []
  for width, values in zip(options.hidden, np.transpose(columns), strict=True):
    rate = study.at_an_end(view.rate(f'width_{width}'), options.learning_rates)
    together = view.cell(f'ensembles_{width}')[['error', 'member_nll', 'nll']].mean('ensemble').values()
    rows.append((f'{width}', rate, *map(number, values), *(number(float(mean)) for mean in together)))
  heads = ('units', 'rate', 'training loss', 'its spread', 'over the mean', 'test error', 'its spread')
  return figure, Table((*heads, 'error together', 'log-likelihood, negative', 'together'), rows)


@minima.section(
  'Barriers against width',
  'How far the training loss rises on the straight line between two networks above the chord of their losses (N6), '
  'as they are and after the hidden units of one were put in the order of those of the other they resemble most. A '
  'barrier far above the loss of the ends separates two minima; one below it hardly does. Where the loss falls faster '
  'than barriers do, they shrink in their own unit and grow over the loss.',
  caption='Means with 95 % intervals; dotted: the mean loss of the ends.',
)
def barriers(view: View) -> Figure:
  """Barriers in their own unit and over the loss."""
  hidden = view.config.widths.hidden
  with plots.panels(2, **PANELS) as (figure, axes):
    for panel, relative in zip(axes, YARDSTICKS, strict=True):
      for k, order in enumerate(measure.ORDERS):
        found = [effects.barrier(view, order, place, relative) for place in range(len(hidden))]
        bars(panel, hidden, found, order, k)
      ends = view.pair_losses().mean(axis=0)
      panel.plot(hidden, ends / ends if relative else ends, color='black', linestyle=':')
      panel.set(yscale='log', xscale='log', xlabel='hidden units', title=f'barrier{YARDSTICKS[relative]}')
    axes[0].legend(fontsize=9)
  return figure
