"""What effects and pictures ask of one set of seeds, and the effects of the claims: from that to Intervals."""

from collections.abc import Iterable

import numpy as np
import xarray as xr

from gdlab import statistics, study, theory
from gdlab.statistics import Interval

SGD = ('B=1', 'mini-batch', 'large batch')
LITTLE = 0.1  # of the training time
CONTROL_FOUND = 0.5  # of the control's stay at its saddle, at least


class View(study.View):
  """What one set of seeds has measured, with the questions that several effects and pictures ask."""

  def searched(self, kind: str) -> dict[int, xr.Dataset]:
    """What the searches found in random 'fields' by dimension, or on 'networks' by width."""
    sizes = self.config.fields.dimensions if kind == 'fields' else self.config.search.widths
    return {size: self.cell(f'{kind}_{size}') for size in sizes}

  def raced(self, start: str, arm: str) -> xr.Dataset:
    """An arm's runs at the rate at which it left soonest on the tuning seeds; who stayed counts with the horizon."""
    runs, seeds = self.cell(start).sel(arm=arm), self.config.seeds
    return runs.sel(seed=seeds.ids).isel(rate=study.best(runs.updates.sel(seed=seeds.for_tuning), 'rate'))

  def exits(self, kind: str) -> dict[str, xr.Dataset]:
    """Exits from all 'quadratic' saddles, or from those of 'curved_pca' or 'curved_network'."""
    cases = [f'quadratic_{case}' for case in range(len(self.config.growth.cases))]
    return {name: self.cell(name) for name in (cases if kind == 'quadratic' else [kind])}

  def passed(self, cell: str, arm: str, seeds: list[int]) -> xr.DataArray:
    """Passages of a chain, [learning_rate, seed, saddle]; NaN if none."""
    passed = self.cell(cell).passed.sel(arm=arm, seed=seeds)
    return passed.where(passed >= 0).transpose('learning_rate', 'seed', 'saddle')

  def chain_rate(self, cell: str, arm: str) -> float:
    """The rate of least mean total time on the tuning seeds; who never passed the last saddle has the limit."""
    last = (
      self.passed(cell, arm, self.config.seeds.for_tuning).isel(saddle=-1).fillna(self.config.chain.limit)
    )
    return study.best(last.sel(learning_rate=self.config.chain.tuned), 'learning_rate')

  def passages(self, cell: str, arm: str) -> xr.DataArray:
    """Passages at that rate, [seed, saddle]."""
    return self.passed(cell, arm, self.config.seeds.ids).sel(learning_rate=self.chain_rate(cell, arm))

  def near(self, arm: str) -> xr.DataArray:
    """Which records of training were near a saddle, bool[seed, step]; no record after the fit is.

    There the gradient's norm is at most a share of that at usual starts, and the lowest eigenvalue certainly negative,
    its modulus at least a share of the largest one.
    """
    options, runs = self.config.training, self.cell(f'training_{arm}').transpose('seed', 'step', ...)
    small = runs.full_grad_norm <= options.near_gradient * runs.usual_gradient
    return small & (runs.sign < 0) & (runs.lowest <= -options.near_curvature * runs.highest)

  def time_near(self, arm: str) -> xr.DataArray:
    """The share of the updates until the fit that an arm spent near a saddle, by seed."""
    return self.near(arm).sum('step') / np.isfinite(self.cell(f'training_{arm}').full_grad_norm).sum('step')

  def control_found(self) -> xr.DataArray:
    """How much of the control's stay next to its saddle the definition of near finds: a share of updates, by seed.

    It stays there until its loss is down by the share `race.drop` of what there is to fall until the fit.
    """
    loss = self.cell('training_sgd_small_start').train_loss.transpose('seed', 'step')
    fall = loss.isel(step=0) - self.config.training.target_loss
    stay = (loss <= loss.isel(step=0) - self.config.race.drop * fall).cumsum('step') == 0
    return (self.near('sgd_small_start') & stay).sum('step') / stay.sum('step')

  @property
  def stay(self) -> float:
    """The mean of that, for the page."""
    return float(self.control_found().mean())


def shares(found: xr.Dataset) -> xr.DataArray:
  """The share of saddles among the points found, by seed."""
  return 1 - (found.minima + found.maxima) / found.points


def share_rise(view: View, kind: str) -> Interval:
  """The share of saddles at the largest size minus that at a small one, paired by seed."""
  found = view.searched(kind)
  return statistics.paired_interval(
    shares(found[max(found)]),
    shares(found[2 if kind == 'fields' else min(found)]),
    confidence=view.confidence,
  )


def extrema_factor(view: View) -> Interval:
  """The factor by which the share of minima and maxima changes with every dimension: a line through its logarithm.

  Shares are of all fields together, half a point added, as one field of many dimensions has often none.
  """
  found = view.searched('fields')
  extrema = np.stack([(cell.minima + cell.maxima).values for cell in found.values()], axis=1)
  points = np.stack([cell.points.values for cell in found.values()], axis=1)

  def factor(fields: np.ndarray) -> float:
    share = (extrema[fields].sum(axis=0) + 0.5) / (points[fields].sum(axis=0) + 0.5)
    return float(np.exp(np.polyfit([*found], np.log(share), 1)[0]))

  return statistics.jackknife(factor, len(points), scale='log', confidence=view.confidence)


def index_correlation(view: View, kind: str) -> Interval:
  """Spearman's correlation of loss and index over the points found at the largest size, mean over seeds.

  A seed whose points have one index or one loss has none, and is excluded; so is one of fewer than three points, as
  two are always in order.
  """
  found = view.searched(kind)
  largest, correlations = found[max(found)].transpose('seed', 'point'), []
  for loss, index in zip(largest.loss.values, largest.index_share.values, strict=True):
    known = np.isfinite(loss)
    correlations.append(statistics.rank_correlation(loss[known], index[known]) if known.sum() > 2 else np.nan)
  return statistics.bootstrap(correlations, confidence=view.confidence)


def stays(view: View) -> Interval:
  """The share of full-batch runs that left a saddle at any rate: the saddle where it is largest."""
  cells, seeds = [view.cell(f'at_{name}') for name in view.config.race.places], view.config.seeds.ids
  runs = [cell.escaped.sel(arm='full batch', seed=seeds).any('rate').values for cell in cells]
  return max(
    (statistics.share(each, confidence=view.confidence) for each in runs), key=lambda share: share.estimate
  )


def leaves(view: View, arm: str, kind: str) -> Interval:
  """The share of an arm's runs that left at its tuned rate: the saddle of that kind where it is least."""
  runs = [view.raced(f'at_{name}', arm).escaped.values for name in getattr(view.config.race, kind)]
  return min(
    (statistics.share(each, confidence=view.confidence) for each in runs), key=lambda share: share.estimate
  )


def sooner(view: View, arm: str) -> Interval:
  """Updates that an arm needs to leave over those of plain descent, each at its tuned rate: the worst saddle.

  A plain run that stays counts with all it had, so that the ratio is an upper bound; one of the arm that does took for
  ever.
  """
  found = []
  for name in view.config.race.generic:
    mine, plain = (view.raced(f'near_{name}', which) for which in (arm, 'full batch'))
    found.append(statistics.paired_log_ratio(taken(mine), plain.updates.values, confidence=view.confidence))
  return max(found, key=lambda interval: interval.high)


def momentum_ratios(runs: xr.Dataset) -> np.ndarray:
  """Time over that of the lane of equal rate without momentum, over (1 - beta), float[lane, seed]."""
  times, rate, beta = taken(runs), runs.learning_rate.values, runs.momentum.values
  plain = [np.flatnonzero((beta == 0) & np.isclose(rate, own))[0] for own in rate]
  return times / times[plain] / (1 - beta)[:, None]


def momentum_law(view: View) -> Interval:
  """Those ratios with momentum: the one farthest from 1."""
  runs = view.exits('quadratic').values()
  rows = (row for each in runs for row in momentum_ratios(each)[each.momentum.values > 0])
  return farthest(rows, view.confidence)


def formula(view: View, cell: str) -> np.ndarray:
  """The time that plain descent should take, log(Delta / delta_0) / log(1 + alpha gamma), float[lane, seed]."""
  runs, growth = view.cell(cell), view.config.growth
  distance = growth.curved_distance if cell.startswith('curved') else growth.distance
  law = np.log(distance / runs.start) / np.log1p(runs.learning_rate * runs.curvature)
  return law.transpose('lane', 'seed').values


def closed_form(view: View, kind: str) -> Interval:
  """Measured over predicted time of plain descent: the one farthest from 1 over saddles and rates."""
  cells = view.exits(kind).items()
  rows = (
    row for name, runs in cells for row in (taken(runs) / formula(view, name))[runs.momentum.values == 0]
  )
  return farthest(rows, view.confidence)


def recursion(view: View) -> Interval:
  """The same at quadratic saddles with momentum, against the exact recursion."""
  ratios, distance = [], view.config.growth.distance
  for runs in view.exits('quadratic').values():
    for lane in np.flatnonzero(runs.momentum.values > 0):
      mine, gamma = runs.isel(lane=lane), runs.attrs['curvature']
      rate, beta = float(mine.learning_rate), float(mine.momentum)
      law = theory.escape_steps(
        distance, mine.start.values, curvature=gamma, learning_rate=rate, momentum=beta
      )
      ratios.append(taken(mine) / law)
  return farthest(ratios, view.confidence)


def noise_law(view: View) -> Interval:
  """Measured over predicted mean escape time under noise from the saddle itself: the one farthest from 1."""
  runs, distance, found = view.cell('noisy'), view.config.growth.distance, []
  for size in runs.batch_size.values.tolist():
    for strength in runs.strength.values:
      rate, known = strength / runs.curvature, {'curvature': runs.curvature, 'noise': runs.noise}
      law = theory.mean_escape_steps(distance, learning_rate=rate, batch_size=size, **known)
      times = runs.updates.sel(batch_size=size, strength=strength).values
      found.append(statistics.bootstrap(times / float(law), confidence=view.confidence))
  return max(found, key=reach)


def scale_slope(view: View, arm: str) -> Interval:
  """The log-log slope of the escape time in the scale of the loss."""
  runs = view.cell('scales').sel(arm=arm)
  return statistics.loglog_slope(runs.scale.values, taken(runs).T, confidence=view.confidence)[1]


def gap_ratio(view: View, cell: str, arm: str, over_theory: bool = False) -> Interval:
  """The factor from one gap between passages to the next, or that over its limit in theory: its median over runs.

  Of a run, the geometric mean after the first two saddles. A chain that was not passed counts as infinite: plain
  descent may wait until a coordinate underflows to the ridge, and stays.
  """
  law = theory.octopus_gap_ratio(view.chain_rate(cell, arm), 1.0, 1.0) if over_theory else 1.0
  times = view.passages(cell, arm).values
  gaps = np.diff(times, axis=1)[:, 1:]
  ratio = (gaps[:, -1] / gaps[:, 0]) ** (1 / (gaps.shape[1] - 1))
  return statistics.bootstrap(
    np.where(np.isfinite(times).all(axis=1), ratio, np.inf) / law, np.median, confidence=view.confidence
  )


def chain_slope(view: View) -> Interval:
  """The log-log slope of the time to pass k saddles in k, for perturbed descent; a chain not passed has no slope."""
  passed = view.passages('chain_noisy', 'perturbed')
  return statistics.loglog_slope(passed.saddle.values, passed, confidence=view.confidence)[1]


def lingers(view: View, arm: str) -> Interval:
  """The share of an arm's runs that spent more than a tenth of their updates until the fit near a saddle.

  The unit is the run: records of one run follow from one another. Where the definition of near does not certainly find
  more than half of the control's stay next to its saddle, runs that it finds near none show nothing: no interval.
  """
  if not statistics.bootstrap(view.control_found().values, confidence=view.confidence).low > CONTROL_FOUND:
    return Interval(np.nan, -np.inf, np.inf, view.confidence, 0, 0)
  return statistics.share(view.time_near(arm).values > LITTLE, confidence=view.confidence)


def taken(runs: xr.Dataset) -> np.ndarray:
  """Updates until it had left, float[..., seed], infinite for who stayed."""
  return runs.updates.where(runs.escaped, np.inf).transpose(..., 'seed').values.astype(float)


def farthest(ratios: Iterable[np.ndarray], confidence: float) -> Interval:
  """The geometric mean over seeds whose interval reaches farthest from 1."""
  return max(
    (statistics.paired_log_ratio(each, np.ones_like(each), confidence=confidence) for each in ratios),
    key=reach,
  )


def reach(interval: Interval) -> float:
  """How far an interval reaches from 1 on a logarithmic scale; one that is not finite is farthest of all."""
  with np.errstate(divide='ignore', invalid='ignore'):
    ends = np.abs(np.log([interval.low, interval.high]))
  return float(np.max(np.where(np.isnan(ends), np.inf, ends)))
