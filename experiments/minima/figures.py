"""The page of the study of minima: a picture or a table for each claim, and what they mean."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.minima import effects, measure, networks
from experiments.minima.effects import View
from experiments.minima.study import YARDSTICKS, minima, on_digits
from gdlab import plots, statistics
from gdlab.report import Table, number
from gdlab.statistics import Crossing

ORDERS = {'barrier': 'as they are', 'aligned': 'units aligned'}
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
  '{config.valleys.escapes:g} mean escape times or more, with T at most the ridge.',
  caption='Rate {config.valleys.learning_rate:g}; bands 95 % for each curve. Table: the share that reached the other '
  'minimum in {config.valleys.updates:,} updates, and in as many examples as batches of {config.valleys.mini_batch} '
  'see, where that is less.',
  when=on_digits,
)
def leaving(view: View) -> tuple[Figure, Table]:
  """How long runs stay, and the share that left at equal updates and examples."""
  options, arms, rows = view.config.valleys, {}, []
  names = {size: f'mini-batch {size}' for size in options.batch_sizes}
  for size, name in (names | {1: 'single example', options.num_examples: 'full batch'}).items():
    arms[name] = crossing(view.valley('poor', size).reached.values, options.updates)
    ends = (options.updates, max(1, options.updates * options.mini_batch // size))
    for rate in options.learning_rates:
      left = [view.left('poor', size, rate, min(end, options.updates)) for end in ends]
      noisy, asked = size < options.num_examples, 'yes' if (size, rate) in options.graded else 'no'
      heat, escapes = options.temperature(size, rate) * noisy, options.expected(size, rate) * noisy
      shares = (f'{np.mean(each):.0%}' for each in left)
      rows.append((name, f'{rate:g}', number(heat), f'{1 - np.exp(-escapes):.0%}', *shares, asked))
  figure = plots.survival(arms, log=True)
  figure.axes[0].set_ylabel('share still in the shallow valley')
  heads = ('arm', 'rate', 'T', 'by formula', 'equal updates', 'equal examples')
  return figure, Table((*heads, 'graded'), rows)


@minima.section(
  'Thrown into a poor valley, and back',
  'Single examples that start in the good valley (N2). A valley that cannot be left would keep its second line at 1. '
  'It is asked at rate {config.valleys.lower_rate:g} too, for nothing stays where the ridge is about T or below.',
  'The noise of these landscapes is the same everywhere; that of a network is larger where its loss is, which favours '
  'good valleys. The valleys have one dimension; in many there are more ways out.',
  caption='Share still waiting, at rate {config.valleys.learning_rate:g}. Table: those thrown in, and who of them was '
  'not back {config.valleys.patience:g} times the median time in later.',
  when=on_digits,
)
def stays(view: View) -> tuple[Figure, Table]:
  """How long runs take to be thrown in and to come back, and the shares at every rate."""
  options, arms, rows = view.config.valleys, {}, []
  for name, label in {'good': 'double well', 'sharp': 'sharp, flat'}.items():
    for rate in options.learning_rates:
      over = measure.height(measure.STARTS[name][0]) / options.temperature(1, rate)
      shares = [f'{view.left(name, size, rate).mean():.0%}' for size in (1, options.mini_batch)]
      stayed = view.stayed(name, rate)
      rows.append((label, f'{rate:g}', number(over), *shares, f'{stayed.sum()} of {stayed.size}'))
    runs, thrown = view.valley(name, 1), view.left(name, 1)
    away = np.where(runs.returned > 0, runs.returned - runs.reached, 0)[thrown]
    if thrown.any():
      arms[f'{label}: until in'] = crossing(runs.reached.values, options.updates)
      arms[f'{label}: until back'] = crossing(away, options.return_updates)
  heads = ('landscape', 'rate', 'ridge/T', 'single', f'B={options.mini_batch}', 'single, not back')
  return plots.survival(arms, log=True) if arms else Figure(), Table(heads, rows)


@minima.section(
  'A network that is forked',
  'Networks of {config.fork.hidden} hidden units go on from one point: with full batch, mini-batches, and single '
  'examples, each at its own rate, for as long in rate times updates (N1, N2). Hot are single examples at the rate '
  'of the mini-batches, and cooled those after as long again at their own. All then settle on full batch. Where '
  'noise carries a network into another valley there is a barrier between its end and that of full batch; where that '
  'valley is poorer, its loss is higher, too.',
  'Controls: full batch from a point beside the fork, which no noise has moved, and full batch from another '
  'initialisation, which must be in another valley.',
  caption='All networks at the rates that tuning chose; dotted: what counts as a barrier; none is drawn at 0.0001.',
  when=on_digits,
)
def forks(view: View) -> tuple[Figure, Table]:
  """The barrier between the end of every arm and that of full batch, and the losses."""
  runs, rows = view.forks(), []
  with plots.panels(2, **PANELS) as (figure, axes):
    for panel, fork in zip(axes, networks.FORKS, strict=True):
      own = runs.sel(fork=fork)
      for place, arm in enumerate(networks.ARMS):
        barriers, losses = (own[name].sel(arm=arm).values for name in ('barrier', 'loss'))
        counts = (effects.crossed(runs, fork, arm), effects.crossed(runs, fork, arm, poorer=True))
        told = (
          ('', '', '') if arm == 'full' else (number(barriers.mean()), *(f'{each.sum()}' for each in counts))
        )
        rows.append((fork, arm, number(losses.mean()), *told))
        panel.plot(np.maximum(barriers, 1e-4), np.full(barriers.size, -place), 'o', alpha=0.4)
      panel.axvline(effects.MARGIN, color='black', linestyle=':')
      panel.set_yticks(-np.arange(len(networks.ARMS)), networks.ARMS)
      panel.set(xscale='log', xlabel='barrier to the end of full batch', title=fork)
  return figure, Table(
    ('fork', 'arm', 'loss', 'barrier', f'other valley, of {runs.sizes["seed"]}', 'poorer'), rows
  )


@minima.section(
  "Kramers' law",
  'How fast runs escape from one well of a symmetric double well at temperatures T (N3). Noise of variance s²/B '
  'at rate a makes T = a s² / 2B. Two references: the classical formula, good where the ridge is many T high, and the '
  'exact mean number of updates of descent itself, a linear equation solved numerically.',
  caption='Left: escapes per unit of time (rate times updates). Right: over the exact rate; bars 95 %, 1 is perfect.',
  when=on_digits,
)
def kramers(view: View) -> Figure:
  """Rates against 1/T, and over the exact ones."""
  x, num = np.asarray(view.config.escape.barriers), view.config.escape.num_seeds
  found, exact = effects.log_rates(view)(np.arange(num)), -np.log(view.escapes('mean_chain'))
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
  'the loss on the Rastrigin function, a bowl with waves 20 high, from starts three to four waves out, and the test '
  'error of a network trained on {config.dose_network.num_examples} images. On each ground rate and updates are the '
  'same for all levels: {config.dose.learning_rate:g} on the landscape, a fifth of the limit of stability, and '
  '{config.dose_network.learning_rate:g} on the network, about the best without noise.',
  caption='Means with 95 % intervals. Table: the arms of the claim; tuning runs chose their levels.',
)
def doses(view: View) -> tuple[Figure, Table]:
  """What noise of every level makes of loss and test error."""
  rows = []
  with plots.panels(2, **PANELS) as (figure, axes):
    for panel, (where, options) in zip(axes, view.config.doses.items(), strict=True):
      outcome, tuned = networks.outcome(view.cell(f'dose_{where}')), view.cell(f'dose_tuning_{where}')
      chosen = view.chosen(f'dose_tuning_{where}')
      for k, schedule in enumerate(networks.SCHEDULES):
        trials = tuned.trial.values[tuned.schedule == schedule]
        values = outcome.sel(trial=trials).transpose('trial', 'seed').values
        found = [statistics.bootstrap(row) for row in values]
        bars(panel, np.arange(len(trials)) + 0.08 * k, found, schedule, k)
        for level, trial, row in zip(options.levels, trials, values, strict=True):
          mark = ', '.join(arm for arm, other in chosen.items() if other == trial)
          rows.append((where, schedule, f'{level:g}', number(row.mean()), number(row.max()), mark))
      panel.set_xticks(range(len(options.levels)), [f'{level:g}' for level in options.levels], rotation=45)
      panel.set(yscale='log', xlabel='temperature of the added noise (at the start)', title=where)
    axes[0].legend(fontsize=9)
  return figure, Table(('where', 'noise', 'level', 'mean', 'worst run', 'arm'), rows)


@minima.section(
  'How much minima differ',
  '{config.seeds.count} draws of the data, and on each {config.members} networks of each width that differ in their '
  'initial parameters alone, at one rate; the spread is that within a draw (N5). The narrowest do not fit the images: '
  'much of the slopes is theirs.',
  'Together: the networks of a draw average their probabilities (N7), at the cost of one as many times wider. That '
  'the negative log-likelihood falls is no surprise: by convexity it is never above that of the average member.',
  caption='Medians and the middle 80 % of networks, all draws.',
  printed=True,
)
def spreads(view: View) -> tuple[Figure, Table]:
  """The loss and test error of all networks, their spreads, and what ensembles make of them."""
  options, rate = view.config.widths, view.rate()
  losses, errors = (view.widths(name, rate) for name in ('loss', 'error'))
  with plots.panels(2, **PANELS) as (figure, axes):
    for panel, ends, title in zip(axes, (losses, errors), ('training loss', 'test error'), strict=True):
      plots.spread(panel, options.hidden, ends.reshape(-1, ends.shape[-1]), title)
      panel.set(xlabel='hidden units', title=title, yscale='log', xscale='log')
  columns = [losses.mean(axis=(0, 1)), effects.spread(losses, False), effects.spread(losses, True)]
  columns += [errors.mean(axis=(0, 1)), effects.spread(errors, False)]
  columns += [view.widths('ensemble_error', rate).mean(axis=0), view.widths('nll', rate).mean(axis=(0, 1))]
  columns.append(view.widths('ensemble_nll', rate).mean(axis=0))
  rows = [
    (f'{width}', *map(number, map(float, values)))
    for width, values in zip(options.hidden, np.transpose(columns), strict=True)
  ]
  heads = ('units', 'training loss', 'its spread', 'over the mean', 'test error', 'its spread')
  return figure, Table((*heads, 'error together', 'log-likelihood, negative', 'together'), rows)


@minima.section(
  'Barriers against width',
  'How far the training loss rises on the straight line between two networks of a draw above the chord of their losses '
  '(N6), as they are, and after the hidden units of one were put in the order of those of the other they resemble most '
  '(N6a). A barrier far above the loss of the ends separates two minima; one below it hardly does (N6b). Where the '
  'loss falls faster than barriers do, they shrink in their own unit and grow over the loss; the narrowest networks '
  'do not fit the images.',
  caption='Means with 95 % intervals; dotted: the mean loss of the ends.',
)
def barriers(view: View) -> Figure:
  """Barriers in their own unit and over the loss."""
  hidden, losses = view.config.widths.hidden, view.widths('loss', view.rate()).mean(axis=(0, 1))
  with plots.panels(2, **PANELS) as (figure, axes):
    for panel, relative in zip(axes, YARDSTICKS, strict=True):
      for k, (order, label) in enumerate(ORDERS.items()):
        bars(panel, hidden, [effects.barrier(view, width, order, relative) for width in hidden], label, k)
      panel.plot(hidden, losses / losses if relative else losses, color='black', linestyle=':')
      title = 'barrier over the mean loss' if relative else 'barrier'
      panel.set(yscale='log', xscale='log', xlabel='hidden units', title=title)
    axes[0].legend(fontsize=9)
  return figure
