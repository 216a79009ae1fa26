"""The study's pictures: one function each, from the stored results to a Matplotlib figure of one panel."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments.saddles import race, training
from experiments.saddles.study import Study, shares
from gdlab import plots, theory

WIDTH, HEIGHT = 4.8, 3.5


def saddle_shares(study: Study) -> Figure:
  """The share of saddles among the points found: random fields by dimension, networks by number of parameters."""
  with plots.panels(1, width=WIDTH, height=HEIGHT) as (figure, (axes,)):
    for number, (kind, sizes, label) in enumerate(
      (
        ('fields', study.config.fields.dimensions, 'random fields'),
        ('networks', study.config.search.widths, 'networks on the digits'),
      )
    ):
      cells = [study.cell(f'{kind}_{size}') for size in sizes]
      values = np.stack([shares(cell).values for cell in cells], axis=1)
      plots.spread(axes, [cell.attrs['dimension'] for cell in cells], values, label, number)
    dimensions = np.arange(1, 22)
    axes.plot(
      dimensions,
      1 - 2.0 ** (1 - dimensions),
      color='black',
      linewidth=1,
      linestyle=':',
      label='signs at random',
    )
    axes.set(xscale='log', xlabel='dimension (parameters)', ylabel='share of saddles', ylim=(-0.05, 1.05))
    axes.set_xticks([1, 2, 3, 4, 6, 10, 20], ['1', '2', '3', '4', '6', '10', '20'])
    axes.minorticks_off()
    axes.legend(fontsize=8)
  return figure


def index_and_loss(study: Study) -> Figure:
  """Loss against the share of negative eigenvalues, for all points found on the widest networks."""
  width = max(study.config.search.widths)
  cell = study.cell(f'networks_{width}').transpose('seed', 'point')
  count = cell.attrs['dimension']
  index = np.round(cell.index_share.values * count)
  with plots.panels(1, width=WIDTH, height=HEIGHT) as (figure, (axes,)):
    # Beside each other within an index, by seed.
    aside = np.linspace(-0.3, 0.3, len(index))[:, None]
    axes.plot(
      (index + aside).ravel(), cell.loss.values.ravel(), '.', color=plots.COLOURS[0], alpha=0.5, markersize=5
    )
    for number in range(int(np.nanmax(index)) + 1):
      losses = cell.loss.values[index == number]
      if losses.size:
        axes.plot(
          [number - 0.4, number + 0.4], [np.median(losses)] * 2, color=plots.COLOURS[1], linewidth=2.5
        )
    axes.set(xlabel=f'index: negative eigenvalues, of {count}', ylabel='loss')
  return figure


def departures(study: Study, place: str, displaced: bool) -> Figure:
  """Survival curves of the methods that start at, or next to, one kind of saddle."""
  start = race.Start(place, displaced)
  crossings = {_label(study, start.name, arm): study.crossing(start.name, arm) for arm in start.arms}
  figure = plots.survival(crossings, log=True)
  (axes,) = figure.axes
  figure.set_figheight(4.2)  # with the legend, above where the curves run
  axes.legend(fontsize=8, ncols=2, loc='lower center', bbox_to_anchor=(0.5, 1.0))
  return figure


def _label(study: Study, start: str, arm: str) -> str:
  size = int(study.results[start].batch_size.sel(arm=arm))
  return f'SGD, B={size}' if arm in ('B=1', 'mini-batch', 'large batch') else arm


def rates(study: Study, place: str) -> Figure:
  """Updates to leave against the rate, for the methods that start next to a saddle; who stays has the horizon."""
  start = race.Start(place, True)
  with plots.panels(1, width=WIDTH, height=HEIGHT) as (figure, (axes,)):
    for number, arm in enumerate(start.arms):
      runs = study.cell(start.name).sel(arm=arm)
      plots.spread(
        axes, runs.learning_rate.values, runs.updates.transpose('seed', 'rate').values, arm, number
      )
    horizon = int(study.results[start.name].horizon.max())
    axes.axhline(horizon, color='black', linewidth=0.8, linestyle=':')
    axes.set(xscale='log', yscale='log', xlabel='learning rate', ylabel='updates until it has left')
    axes.legend(fontsize=8)
  return figure


def momentum_law(study: Study) -> Figure:
  """Escape time with momentum over that without, over (1 - beta), against the strength, with the exact law."""
  runs = study.cell('quadratic_0')
  gamma = runs.attrs['curvature']
  time = runs.updates.where(runs.escaped).transpose('seed', 'lane')
  strength, momentum = runs.learning_rate.values * gamma, runs.momentum.values
  dense = np.geomspace(strength.min(), strength.max(), 60)
  with plots.panels(1, width=WIDTH, height=HEIGHT) as (figure, (axes,)):
    axes.axhspan(0.8, 1.25, color='grey', alpha=0.15, linewidth=0)
    for number, beta in enumerate(np.unique(momentum)[1:]):
      mine, plain = (np.flatnonzero(momentum == which) for which in (beta, 0.0))
      ratio = time.values[:, mine] / time.values[:, plain] / (1 - beta)
      plots.spread(axes, strength[mine], ratio, f'β = {beta:g}', number, line='')
      slow, fast = (np.log(theory.escape_growth(1.0, dense, momentum=which)) for which in (0.0, float(beta)))
      axes.plot(dense, slow / fast / (1 - beta), color=plots.COLOURS[number], linewidth=1)
    axes.set(xscale='log', yscale='log', xlabel='rate x curvature', ylabel='time ratio / (1 - β)')
    axes.legend(fontsize=8)
  return figure


def scales(study: Study) -> Figure:
  """Escape time against the scale of the loss, plain descent and Adam."""
  result = study.cell('scales')
  with plots.panels(1, width=WIDTH, height=HEIGHT) as (figure, (axes,)):
    for number, arm in enumerate(result.arm.values):
      runs = result.sel(arm=arm)
      updates = runs.updates.where(runs.escaped).transpose('seed', 'lane').values
      plots.spread(axes, runs.scale.values, updates, str(arm), number)
    axes.set(xscale='log', yscale='log', xlabel='scale of the loss', ylabel='updates to the exit')
    axes.legend(fontsize=8)
  return figure


def chain(study: Study) -> Figure:
  """The time to pass k saddles in a row, with the exponential law of plain descent."""
  arms = [('chain_plain', 'plain'), ('chain_noisy', 'perturbed'), ('chain_noisy', 'Langevin')]
  with plots.panels(1, width=WIDTH, height=HEIGHT) as (figure, (axes,)):
    for number, (cell, arm) in enumerate(arms):
      passed = study.passages(cell, arm)
      rate = study.chain_rate(cell, arm)
      plots.spread(axes, passed.saddle, passed.values, f'{arm}, rate {rate:g}', number)
      if arm == 'plain':
        middle = np.nanmedian(passed.values, axis=0)
        ratio = theory.octopus_gap_ratio(rate, 1.0, 1.0)
        more = np.arange(len(middle), len(middle) + 5)
        gap = middle[-1] - middle[-2]
        ahead = middle[-1] + gap * np.cumsum([0.0, *ratio ** np.arange(1, len(more))])
        axes.plot(more, ahead, color=plots.COLOURS[0], linestyle=':', label=f'gaps times {ratio:.2f}')
    axes.set(yscale='log', xlabel='saddles passed', ylabel='updates')
    axes.legend(fontsize=8)
  return figure


def closed_form(study: Study) -> Figure:
  """Measured escape times of plain descent against the formula: quadratic saddles, PCA, and a network."""
  groups: dict[str, list] = {'quadratic saddles': [], 'PCA of the digits': [], 'network on the digits': []}
  for case in range(len(study.config.growth.cases)):
    runs = study.cell(f'quadratic_{case}')
    plain = runs.isel(lane=np.flatnonzero(runs.momentum.values == 0))
    groups['quadratic saddles'].append(
      _predicted(plain, study.config.growth.distance, runs.attrs['curvature'])
    )
  for name, label in (('pca', 'PCA of the digits'), ('network', 'network on the digits')):
    runs = study.cell(f'curved_{name}')
    groups[label].append(_predicted(runs, study.config.growth.curved_distance, runs.curvature))
  with plots.panels(1, width=WIDTH, height=HEIGHT + 0.4) as (figure, (axes,)):
    ends = [np.inf, 0.0]
    for number, (label, parts) in enumerate(groups.items()):
      law, measured = (np.concatenate(columns) for columns in zip(*parts, strict=True))
      axes.plot(
        law,
        measured,
        plots.MARKERS[number],
        color=plots.COLOURS[number],
        markersize=4,
        alpha=0.6,
        label=label,
      )
      ends = [min(ends[0], law.min()), max(ends[1], law.max())]
    axes.plot(ends, ends, color='black', linewidth=1, label='equal')
    axes.set(xscale='log', yscale='log', xlabel='updates by the formula', ylabel='updates measured')
    axes.legend(fontsize=8)
  return figure


def _predicted(runs: xr.Dataset, distance: float, curvature) -> tuple[np.ndarray, np.ndarray]:
  law = np.log(distance / runs.start) / np.log1p(runs.learning_rate * curvature)
  law, measured = xr.broadcast(law, runs.updates.where(runs.escaped))
  return law.values.ravel(), measured.values.ravel()


def along_training(study: Study, what: str) -> Figure:
  """The gradient's norm ('gradient'), or the lowest over the largest eigenvalue ('curvature'), until the fit."""
  options = study.config.training
  with plots.panels(1, width=WIDTH, height=HEIGHT) as (figure, (axes,)):
    for number, arm in enumerate(training.ARMS):
      runs = study.cell(training.cell_name(arm))
      if what == 'curvature':  # not those records that were looked at because their gradient is small
        runs = runs.isel(step=training.evenly(runs.sizes['step'], options.num_curvatures))
      values = runs.full_grad_norm if what == 'gradient' else runs.lowest / runs.highest
      plots.band(axes, runs.step.values, values.transpose('seed', 'step').values, arm, number)
    if what == 'gradient':
      axes.axhline(
        options.near_gradient * study.results['training_sgd'].attrs['usual_gradient'],
        color='black',
        linewidth=0.9,
        linestyle=':',
      )
      axes.set(yscale='log', ylabel='gradient norm, all examples')
    else:
      axes.axhline(-options.near_curvature, color='black', linewidth=0.9, linestyle=':')
      axes.set(ylabel='lowest / largest eigenvalue')
    axes.set(xlabel='updates')
    axes.legend(fontsize=8)
  return figure


GRADIENTS, CURVATURES = (0.05, 0.1, 0.25, training.WIDEST), (0.0, 0.003, 0.01, 0.03, 0.1)


def definitions(study: Study, arm: str) -> Figure:
  """The share of training near a saddle, by what counts as near."""
  table = [[study.time_near(arm, g, c).mean() for c in CURVATURES] for g in GRADIENTS]
  values = xr.DataArray(
    np.array(table, float), dims=('gradient_at_most', 'curvature_at_least'),
    coords={'gradient_at_most': list(GRADIENTS), 'curvature_at_least': list(CURVATURES)},
  )  # fmt: skip
  options = study.config.training
  rule = (_nearest(GRADIENTS, options.near_gradient), _nearest(CURVATURES, options.near_curvature))
  return plots.heat_map(values, log=False, label='share of updates until the fit', framed=rule)


def _nearest(values: Sequence[float], value: float) -> int:
  return int(np.argmin(np.abs(np.asarray(values) - value)))
