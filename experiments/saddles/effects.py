"""Effects of the claims, measured from the stored results: pure functions from Datasets to Intervals."""

from collections.abc import Sequence

import numpy as np
import scipy.stats
import xarray as xr

from experiments.saddles import places
from experiments.saddles.study import Study, extrema, shares
from gdlab import statistics, theory
from gdlab.statistics import Interval

LITTLE = 0.1  # of the training time
CONTROL_FOUND = 0.5  # of the control's stay at its saddle, at least


def share_rise(study: Study, kind: str, first: int, last: int) -> Interval:
  """The share of saddles at one size minus that at a smaller one, paired by seed."""
  few, many = (shares(study.cell(f'{kind}_{size}')) for size in (first, last))
  return statistics.paired_interval(many, few)


def extrema_factor(study: Study) -> Interval:
  """The factor by which the share of minima and maxima changes with every dimension: a line through its logarithm.

  Shares are of all fields together, as one field of many dimensions has often none; resampled over fields. Half a
  point is added, so that none at all has a logarithm.
  """
  dimensions = np.asarray(study.config.fields.dimensions)
  cells = [study.cell(f'fields_{dimension}') for dimension in dimensions]
  found = np.stack([extrema(cell).values for cell in cells], axis=1)
  points = np.stack([cell.points.values for cell in cells], axis=1)

  def factor(rows) -> float:
    chosen = np.asarray(rows, int)
    share = (found[chosen].sum(axis=0) + 0.5) / (points[chosen].sum(axis=0) + 0.5)
    return float(np.exp(np.polyfit(dimensions, np.log(share), 1)[0]))

  return statistics.bootstrap(np.arange(len(found)), factor)


def index_correlation(study: Study, cell: str) -> Interval:
  """Spearman's correlation of loss and share of negative eigenvalues over the points found, mean over seeds.

  A seed whose points have one index or one loss has none, and is excluded; so is one of fewer than three points, as
  two are always in order.
  """
  result = study.cell(cell)
  pairs = zip(
    result.loss.transpose('seed', 'point').values,
    result.index_share.transpose('seed', 'point').values,
    strict=True,
  )
  found = []
  for loss, index in pairs:
    known = np.isfinite(loss)
    found.append(statistics.rank_correlation(loss[known], index[known]) if known.sum() > 2 else np.nan)
  return statistics.bootstrap(found)


def stays(study: Study) -> Interval:
  """The share of full-batch runs that left a saddle at any rate: the saddle where it is largest."""
  found = [
    share(study.cell(f'at_{name}').sel(arm='full batch').escaped.any('rate').values)
    for kind in places.KINDS
    for name in study.config.race[kind]
  ]
  return max(found, key=lambda interval: interval.estimate)


def leaves(study: Study, arm: str, kind: str) -> Interval:
  """The share of an arm's runs that left at its tuned rate: the saddle of that kind where it is least."""
  found = [share(study.raced(f'at_{name}', arm).escaped.values) for name in study.config.race[kind]]
  return min(found, key=lambda interval: interval.estimate)


def share(yes: np.ndarray) -> Interval:
  """A share of runs with its exact binomial interval, which has a width also where all or none did."""
  count = int(np.sum(yes))
  low, high = scipy.stats.binomtest(count, len(yes)).proportion_ci(0.95)
  return Interval(count / len(yes), float(low), float(high), 0.95, len(yes), 0)


def sooner(study: Study, arm: str) -> Interval:
  """Updates that an arm needs to leave over those of plain descent, each at its tuned rate: the worst saddle.

  A plain run that stays counts with all it had, so that the ratio is an upper bound; one of the arm that does took for
  ever.
  """
  found = []
  for name in study.config.race.generic:
    mine, plain = (study.raced(f'near_{name}', which) for which in (arm, 'full batch'))
    taken = mine.updates.where(mine.escaped, np.inf)
    found.append(statistics.paired_log_ratio(taken.values, plain.updates.values))
  return max(found, key=lambda interval: interval.high)


def momentum_law(study: Study) -> Interval:
  """Escape time with momentum over that without, over (1 - beta), at equal rate: the one farthest from 1."""
  found = []
  for runs in _quadratics(study):
    for lane in np.flatnonzero(runs.momentum.values > 0):
      same = np.isclose(runs.learning_rate.values, runs.learning_rate.values[lane]) & (
        runs.momentum.values == 0
      )
      ratio = _taken(runs, int(lane)) / _taken(runs, int(np.flatnonzero(same)[0]))
      found.append(_geometric(ratio / (1 - runs.momentum.values[lane])))
  return _farthest(found)


def closed_form(study: Study, momentum: bool) -> Interval:
  """Measured over predicted escape time: the one farthest from 1 over quadratic saddles, rates and momenta.

  Plain descent against ln(Delta / delta_0) / ln(1 + alpha gamma); momentum against the exact recursion.
  """
  found = []
  for runs in _quadratics(study):
    gamma, start = runs.attrs['curvature'], runs.start.transpose('lane', 'seed').values
    for lane in np.flatnonzero((runs.momentum.values > 0) == momentum):
      rate, beta = float(runs.learning_rate[lane]), float(runs.momentum[lane])
      distance = study.config.growth.distance
      if momentum:
        law = theory.escape_steps(distance, start[lane], curvature=gamma, learning_rate=rate, momentum=beta)
      else:
        law = np.log(distance / start[lane]) / np.log1p(rate * gamma)
      found.append(_geometric(_taken(runs, int(lane)) / law))
  return _farthest(found)


def rounded_up(study: Study) -> float:
  """The share of plain exits from quadratic saddles that took the formula's time rounded up to whole updates.

  Growth is exact there, so that all should; rounding up is then all that the ratio of S5 differs from 1 by.
  """
  found = []
  for runs in _quadratics(study):
    plain = runs.isel(lane=np.flatnonzero(runs.momentum.values == 0))
    law = np.log(study.config.growth.distance / plain.start) / np.log1p(
      plain.learning_rate * runs.attrs['curvature']
    )
    whole = np.ceil(law - 1e-9 * law)  # a formula that is whole but for rounding in float64
    found.append((plain.escaped & (plain.updates == whole)).values.ravel())
  return float(np.concatenate(found).mean())


def curved_law(study: Study, name: str) -> Interval:
  """The same for plain descent at the saddles of a problem that is no quadratic: the rate farthest from 1."""
  runs, found = study.cell(f'curved_{name}'), []
  start = runs.start.transpose('lane', 'seed').values
  for lane, rate in enumerate(runs.learning_rate.values):
    growth = np.log1p(rate * runs.curvature.values)
    law = np.log(study.config.growth.curved_distance / start[lane]) / growth
    found.append(_geometric(_taken(runs, int(lane)) / law))
  return _farthest(found)


def noise_law(study: Study) -> Interval:
  """Measured over predicted mean escape time under noise from the saddle itself: the one farthest from 1."""
  runs = study.cell('noisy').transpose('batch_size', 'strength', 'seed')
  found = []
  for row, size in enumerate(runs.batch_size.values):
    for column, strength in enumerate(runs.strength.values):
      law = theory.mean_escape_steps(
        study.config.growth.distance,
        curvature=runs.attrs['curvature'],
        learning_rate=strength / runs.attrs['curvature'],
        noise=runs.attrs['noise'],
        batch_size=int(size),
      )
      found.append(statistics.bootstrap(runs.updates.values[row, column] / float(law)))
  return _farthest(found)


def scale_slope(study: Study, arm: str) -> Interval:
  """The log-log slope of the escape time in the scale of the loss."""
  runs = study.cell('scales').sel(arm=arm)
  taken = np.stack([_taken(runs, int(lane)) for lane in range(runs.sizes['lane'])], axis=1)
  return statistics.loglog_slope(runs.scale.values, taken)[1]


def gap_ratio(study: Study, cell: str, arm: str) -> Interval:
  """The factor from one gap between passages to the next, after the first two saddles: its median over runs.

  The median, because a chain that was not passed counts as infinite: plain descent may wait until a coordinate of its
  own underflows to the ridge, and stays.
  """
  return statistics.bootstrap(gap_ratios(study.passages(cell, arm)), np.median)


def gap_law(study: Study) -> Interval:
  """That factor for plain descent over the limit that theory gives."""
  law = theory.octopus_gap_ratio(study.chain_rate('chain_plain', 'plain'), 1.0, 1.0)
  return statistics.bootstrap(gap_ratios(study.passages('chain_plain', 'plain')) / law, np.median)


def gap_ratios(passed: xr.DataArray) -> np.ndarray:
  """By seed, the geometric mean over the chain; infinite if it was not passed."""
  times = passed.transpose('seed', 'saddle').values
  gaps = np.diff(times, axis=1)[:, 1:]
  ratio = (gaps[:, -1] / gaps[:, 0]) ** (1 / (gaps.shape[1] - 1))
  return np.where(np.isfinite(times).all(axis=1), ratio, np.inf)


def chain_slope(study: Study) -> Interval:
  """The log-log slope of the time to pass k saddles in k, for perturbed descent; a chain not passed has no slope."""
  passed = study.passages('chain_noisy', 'perturbed').transpose('seed', 'saddle')
  return statistics.loglog_slope(passed.saddle.values, passed.values)[1]


def lingers(study: Study, arm: str) -> Interval:
  """The share of an arm's runs that spent more than a tenth of their updates until the fit near a saddle.

  The unit is the run: records of one run follow from one another, and say no more about other runs than their share
  does. A share of runs has an exact interval where all runs have the same answer, which a mean over runs has not; a run
  that never fits is among them. Where the definition of near does not certainly find more than half of the control's
  stay next to its saddle, a run that it finds nowhere near one shows nothing, and there is no interval.
  """
  if not statistics.bootstrap(study.control_found().values).low > CONTROL_FOUND:
    return Interval(np.nan, -np.inf, np.inf, 0.95, 0, 0)
  return share(study.time_near(arm).values > LITTLE)


def _quadratics(study: Study) -> list[xr.Dataset]:
  return [study.cell(f'quadratic_{case}') for case in range(len(study.config.growth.cases))]


def _taken(runs: xr.Dataset, lane: int) -> np.ndarray:
  """Updates to the exit by seed, infinite where there was none."""
  mine = runs.isel(lane=lane)
  return mine.updates.where(mine.escaped, np.inf).values.astype(float)


def _geometric(ratios: np.ndarray) -> Interval:
  return statistics.paired_log_ratio(ratios, np.ones_like(ratios))


def _farthest(intervals: Sequence[Interval]) -> Interval:
  """The interval that reaches farthest from 1 on a logarithmic scale; one that is not finite is farthest of all."""

  def reach(interval: Interval) -> float:
    with np.errstate(divide='ignore', invalid='ignore'):
      ends = np.abs(np.log([interval.low, interval.high]))
    return float(np.max(np.where(np.isnan(ends), np.inf, ends)))

  return max(intervals, key=reach)
