"""The study's pictures of landscapes: one function each, from the stored results to a Matplotlib figure."""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from experiments.minima import dose, effects, valleys
from experiments.minima.study import Study
from gdlab import plots, statistics
from gdlab.statistics import Crossing, Interval

WIDTH, HEIGHT = 4.6, 3.4  # of one panel, which fits a phone


def name(study: Study, batch_size: int) -> str:
  """What a legend calls an arm."""
  return {1: 'single example', study.full: 'full batch'}.get(batch_size, f'mini-batch {batch_size}')


def landscapes(study: Study) -> Figure:
  """The two landscapes with their valleys."""
  del study
  with plots.panels(2, width=WIDTH, height=HEIGHT) as (figure, axes):
    for panel, which, title in zip(
      axes, ('tilted', 'sharp'), ('a tilted double well', 'sharp and good, flat and poor'), strict=True
    ):
      _, value, ridge = valleys.landscape(which)
      reach = 0.45 * abs(ridge.poor[0] - ridge.good[0])
      left, right = sorted((ridge.good[0], ridge.poor[0]))
      x = np.linspace(left - reach * (0.5 if which == 'sharp' else 0.6), right + reach, 400)
      panel.plot(x, jax.vmap(value)(jnp.asarray(x[:, None])), color='black')
      for number, (place, word) in enumerate(((ridge.good, 'good'), (ridge.poor, 'poor'))):
        height = ridge.top[1] - place[1]
        panel.plot(
          place[0],
          place[1],
          plots.MARKERS[number],
          color=plots.COLOURS[number],
          markersize=9,
          label=f'{word}: ridge {height:.2f} above',
        )
      panel.set(xlabel='x', title=title, ylim=(min(ridge.good[1], ridge.poor[1]) - 0.3, ridge.top[1] + 1.2))
      panel.legend(fontsize=9, loc='upper center')
    axes[0].set_ylabel('mean loss U(x)')
  return figure


def leaving(study: Study) -> Figure:
  """The share of runs still in the shallow valley, for each batch size."""
  options = study.config.valleys
  runs = study.valley('leave_poor').sel(learning_rate=options.learning_rate)
  arms = {
    name(study, int(size)): _crossing(runs.reached.sel(batch_size=size).values, options.updates)
    for size in runs.batch_size.values
  }
  figure = plots.survival(arms, log=True)
  figure.axes[0].set_ylabel('share still in the shallow valley')
  lines, labels = figure.axes[0].get_legend_handles_labels()
  kept = [place for place, label in enumerate(labels) if 'never' not in label]  # the table has the numbers
  figure.axes[0].legend(
    [lines[place] for place in kept], [labels[place] for place in kept], fontsize=9, loc='lower left'
  )
  return figure


def doses_of_noise(study: Study) -> Figure:
  """The share that left the shallow and the deep valley against rate over batch size."""
  options = study.config.valleys
  with plots.panels(2, width=WIDTH, height=HEIGHT) as (figure, axes):
    for panel, cell, title in zip(
      axes,
      ('leave_poor', 'leave_good'),
      ('from the shallow, poor valley', 'from the deep, good valley'),
      strict=True,
    ):
      runs = study.valley(cell)
      for number, size in enumerate(runs.batch_size.values):
        shares = [study.left(cell, int(size), float(rate)).mean() for rate in runs.learning_rate.values]
        panel.plot(
          runs.learning_rate / size,
          shares,
          marker=plots.MARKERS[number],
          color=plots.COLOURS[number],
          label=name(study, int(size)),
        )
      panel.set(xscale='log', xlabel='learning rate / B', title=title, ylim=(-0.03, 1.05))
      panel.xaxis.set_minor_formatter(NullFormatter())
    axes[0].set_ylabel(f'share that left in {options.updates:,} updates')
    axes[0].legend(fontsize=9)
  return figure


def stays(study: Study) -> Figure:
  """How long single-example runs took to be thrown into the poor valley, and how long they stayed."""
  options = study.config.valleys
  with plots.panels(2, width=WIDTH, height=HEIGHT) as (figure, axes):
    for panel, cell, title in zip(
      axes, ('leave_good', 'leave_sharp'), ('double well', 'sharp good, flat poor'), strict=True
    ):
      runs = study.valley(cell).sel(batch_size=1, learning_rate=options.learning_rate)
      thrown = study.left(cell, 1).values
      reached = runs.reached.values
      away = np.where(runs.returned.values > 0, runs.returned.values - reached, 0)[thrown]
      away = np.where(away <= options.return_updates, away, 0)
      arms = {'until thrown in': _crossing(np.where(thrown, reached, 0), options.updates)}
      if thrown.any():
        arms['until back out'] = _crossing(away, options.return_updates)
      for number, (label, crossing) in enumerate(arms.items()):
        time = np.concatenate([[0], np.sort(crossing.time[~crossing.censored])])
        share = 1 - np.arange(len(time)) / len(crossing.time)
        end = options.updates if number == 0 else options.return_updates
        panel.step(
          np.append(time, end),
          np.append(share, share[-1]),
          where='post',
          color=plots.COLOURS[number],
          linestyle=plots.LINES[number],
          label=label,
        )
      panel.set(xlabel='updates', title=title, ylim=(-0.03, 1.05))
    axes[0].set_ylabel('share still waiting')
    axes[0].legend(fontsize=9)
  return figure


def trap(study: Study) -> Figure:
  """Training losses of networks after every epoch, single examples and mini-batches."""
  options = study.config.trap
  with plots.panels(1, width=WIDTH, height=HEIGHT) as (figure, (panel,)):
    for number, size in enumerate((options.batch_size, 1)):
      losses = study.trap(size).transpose('seed', 'step')
      plots.band(panel, losses.step.values, losses.values, name(study, size), number)
    panel.axhline(np.log(10) / 2, color='black', linewidth=0.8, linestyle=':', label='a poor place is above')
    panel.axvline(options.epochs, color='grey', linewidth=0.8)
    panel.set(yscale='log', xlabel='epochs', ylabel='training loss')
    panel.legend(fontsize=9)
  return figure


def kramers(study: Study) -> Figure:
  """Measured escape rates against 1/T with the three references, and their ratio to the exact one."""
  barriers = np.asarray(study.config.escape.barriers)
  rates = effects.log_rates(study)
  everyone = np.arange(study.config.escape.num_seeds)
  found, known = rates(everyone), effects.references(study, 'chain')
  with plots.panels(2, width=WIDTH, height=HEIGHT) as (figure, axes):
    axes[0].plot(
      barriers,
      np.exp(effects.references(study, 'kramers')[0]),
      color='black',
      linestyle='--',
      label="Kramers' formula",
    )
    axes[0].plot(
      barriers,
      np.exp(effects.references(study, 'continuous')[0]),
      color='black',
      linewidth=1,
      label='exact, continuous time',
    )
    for number, size in enumerate(study.config.escape.batch_sizes):
      escaped = (~study.escape(size).censored).sum('seed').values
      half = 1.96 / np.sqrt(escaped)
      shift = 0.06 * (number - (len(study.config.escape.batch_sizes) - 1) / 2)
      colour, marker = plots.COLOURS[number], plots.MARKERS[number]
      axes[0].plot(
        barriers, np.exp(found[number]), color=colour, marker=marker, linestyle='', label=f'B={size}'
      )
      ratio = found[number] - known[number]
      middle = np.exp(ratio)
      axes[1].errorbar(
        barriers + shift,
        middle,
        (middle - np.exp(ratio - half), np.exp(ratio + half) - middle),
        color=colour,
        marker=marker,
        linestyle='',
        capsize=2,
      )
    axes[1].axhline(1, color='black', linewidth=0.8)
    axes[0].set(
      yscale='log', xlabel='ridge over temperature', ylabel='escapes per unit of time', title='rate'
    )
    axes[1].set(xlabel='ridge over temperature', title="over the chain's exact rate")
    axes[0].legend(fontsize=9)
  return figure


def dose_response(study: Study) -> Figure:
  """Loss and test error against the level of added noise, constant and annealed."""
  with plots.panels(2, width=WIDTH, height=HEIGHT) as (figure, axes):
    for panel, section, title in zip(
      axes, ('dose', 'dose_network'), ('Rastrigin landscape', 'network, few images'), strict=True
    ):
      outcome = study.dose(section)
      levels = outcome.level.values
      places = np.arange(len(levels))
      for number, schedule in enumerate(dose.SCHEDULES):
        values = outcome.sel(schedule=schedule).transpose('seed', 'level').values
        middle, ends = bars([statistics.bootstrap(column) for column in values.T])
        panel.errorbar(
          places + 0.08 * number,
          middle,
          ends,
          color=plots.COLOURS[number],
          marker=plots.MARKERS[number],
          capsize=2,
          label=schedule,
        )
        best = int(np.flatnonzero(levels == study.best_level(section, schedule))[0])
        panel.plot(
          best + 0.08 * number,
          middle[best],
          'o',
          markersize=13,
          markerfacecolor='none',
          color=plots.COLOURS[number],
        )
      panel.set_xticks(places, [f'{level:g}' for level in levels], rotation=45)
      panel.set(yscale='log', xlabel='temperature of the added noise (at the start)', title=title)
    axes[0].set_ylabel('final loss, mean over runs')
    axes[1].set_ylabel('test error, mean over runs')
    axes[0].legend(fontsize=9)
  return figure


def _crossing(reached: np.ndarray, until: int) -> Crossing:
  """When runs got there; those that did not by `until` are censored then."""
  censored = (reached == 0) | (reached > until)
  return Crossing(np.where(censored, until, reached).astype(float), censored)


def bars(intervals: list[Interval]) -> tuple[np.ndarray, np.ndarray]:
  """Estimates [k] and error bars [2, k] of intervals, those without bounds left out."""
  middle = np.array([found.estimate for found in intervals])
  ends = np.array([[found.estimate - found.low, found.high - found.estimate] for found in intervals]).T
  return middle, np.where(np.isfinite(ends), np.maximum(ends, 0), 0)
