"""What effects and pictures ask of one set of seeds, and the effects of the claims: from that to Intervals."""

from collections.abc import Callable

import numpy as np
import scipy.stats
import xarray as xr

from gdlab import statistics, study, theory
from gdlab.statistics import Crossing, Interval

SGD = ('B=1', 'mini-batch', 'large batch')
NOISY = ('made', 'pca', 'network')  # kinds of saddles at which examples differ along the steepest way down
CURVED = ('pca', 'network')  # whose exits are compared with the formula
LITTLE = 0.1  # of the training time
SMALL = 0.1  # alpha gamma over (1 - beta)^2, up to which momentum follows the saying


class View(study.View):
  """What one set of seeds has measured, with the questions that several effects and pictures ask."""

  def searched(self, kind: str) -> dict[int, xr.Dataset]:
    """What the searches found in 'random' fields by dimension, or on 'networks' by width."""
    sizes = self.config.fields.dimensions if kind == 'random' else self.config.search.widths
    return {size: self.cell(f'{kind}_{size}') for size in sizes}

  def race(self, start: str) -> xr.Dataset:
    """A race, [arm, rate, seed, saddle], of one saddle for each seed, or of several where examples agree."""
    silent = [f'at_{name}' for name in self.config.network.silent]
    return xr.concat([self.cell(name) for name in (silent if start == 'at_silent' else [start])], 'saddle')

  def tuned(self, start: str, arm: str) -> tuple[xr.Dataset, Callable[[np.ndarray], int]]:
    """The graded runs of an arm at all rates, and its best rate by numbers of tuning seeds, each by what is graded.

    At saddles the rate at which most leave, of equal ones the soonest; next to them that of the least median time.
    """
    runs, seeds = self.race(start).sel(arm=arm), self.config.seeds
    tuning = runs.sel(seed=seeds.for_tuning)
    times, stayed = taken(tuning)[0], (~tuning.escaped).mean('saddle')
    if start.startswith('at'):
      return runs.sel(seed=seeds.ids), study.chooser(stayed, 'rate', tuning.updates.mean('saddle'))
    return runs.sel(seed=seeds.ids), lambda numbers: int(np.median(times[:, numbers], axis=1).argmin())

  def best_rate(self, start: str, arm: str) -> str:
    """The tuned rate in words."""
    runs, choose = self.tuned(start, arm)
    if not self.race(start).escaped.sel(arm=arm, seed=self.config.seeds.for_tuning).any():
      return 'none, as no run left'
    return study.at_an_end(float(runs.tried[0, choose(self.tuning)]), runs.tried.values[0])

  @property
  def tuning(self) -> np.ndarray:
    """The numbers of all tuning seeds."""
    return np.arange(self.config.seeds.tuning)

  def raced(self, start: str, arm: str) -> xr.Dataset:
    """The graded runs of an arm at its best rate."""
    runs, choose = self.tuned(start, arm)
    return runs.isel(rate=choose(self.tuning))

  def chosen(self, effect: Callable[..., Interval], *arms: tuple[str, str], scale: str = 'plain') -> Interval:
    """An effect of arms `(start, arm)` at their best rates; its interval allows for other choices of the rates."""
    runs, choosers = zip(*(self.tuned(*each) for each in arms), strict=True)

    def at(*rates: int) -> Interval:
      return effect(*(each.isel(rate=rate) for each, rate in zip(runs, rates, strict=True)))

    return study.after_choice(at, choosers, self.config.seeds.tuning, scale=scale)

  def exits(self) -> list[xr.Dataset]:
    """Exits from all quadratic saddles."""
    return [self.cell(f'quadratic_{case}') for case in range(len(self.config.growth.cases))]

  def passed(self, cell: str, arm: str) -> tuple[xr.DataArray, Callable[[np.ndarray], float]]:
    """Graded passages of a chain, [learning_rate, seed, saddle], NaN if none, and the rate by numbers of tuning seeds.

    It is that of least mean total time; who never passed the last saddle has the limit.
    """
    options, seeds, passed = self.config.chain, self.config.seeds, self.cell(cell).passed.sel(arm=arm)
    passed = passed.where(passed >= 0).transpose('learning_rate', 'seed', 'saddle')
    last = passed.sel(learning_rate=options.tuned, seed=seeds.for_tuning).isel(saddle=-1)
    return passed.sel(seed=seeds.ids), study.chooser(last.fillna(options.limit), 'learning_rate')

  def chain_rate(self, cell: str, arm: str) -> float:
    """The rate of all tuning seeds."""
    return self.passed(cell, arm)[1](self.tuning)

  def at_chain_rates(
    self, effect: Callable[[xr.DataArray, float], Interval], cell: str, arm: str, scale: str
  ) -> Interval:
    """An effect of passages [seed, saddle] and their rate; the interval allows for other choices of the rate."""
    passed, choose = self.passed(cell, arm)

    def at(rate: float) -> Interval:
      return effect(passed.sel(learning_rate=rate), rate)

    return study.after_choice(at, [choose], self.config.seeds.tuning, scale=scale)

  def near(self, cell: str) -> xr.DataArray:
    """Which records of a cell of training were near a saddle, bool[seed, step]; no record after the fit is.

    There the gradient's norm is at most a share of that at usual starts, and the lowest eigenvalue certainly negative,
    its modulus at least a share of the largest one.
    """
    options, runs = self.config.training, self.cell(cell).transpose('seed', 'step', ...)
    small = runs.full_grad_norm <= options.near_gradient * runs.usual_gradient
    return small & (runs.sign < 0) & (runs.lowest <= -options.near_curvature * runs.highest)

  def time_near(self, cell: str) -> xr.DataArray:
    """The share of the updates until the fit that its runs spent near a saddle, by seed."""
    return self.near(cell).sum('step') / np.isfinite(self.cell(cell).full_grad_norm).sum('step')


def shares(found: xr.Dataset) -> xr.DataArray:
  """The share of saddles among the points found, by seed."""
  return 1 - found.extrema / found.points


def share_rise(view: View, kind: str) -> Interval:
  """The share of saddles at the largest size minus that at a small one, paired by seed."""
  found = view.searched(kind)
  return statistics.paired_interval(
    shares(found[max(found)]),
    shares(found[2 if kind == 'random' else min(found)]),
    confidence=view.confidence,
  )


def extrema_factor(view: View) -> Interval:
  """The factor by which the share of minima and maxima changes with every dimension: a line through its logarithm.

  Shares are of all fields together, half a point added, as one field of many dimensions has few.
  """
  found = view.searched('random')
  extrema = np.stack([cell.extrema.values for cell in found.values()], axis=1)
  points = np.stack([cell.points.values for cell in found.values()], axis=1)

  def factor(fields: np.ndarray) -> float:
    share = (extrema[fields].sum(axis=0) + 0.5) / (points[fields].sum(axis=0) + 0.5)
    return float(np.exp(np.polyfit([*found], np.log(share), 1)[0]))

  return statistics.jackknife(factor, len(points), scale='log', confidence=view.confidence)


def over_kac_rice(view: View, dimension: int, which: str) -> Interval:
  """What was found over what Kac and Rice expect, all fields together: 'points', or the extrema's 'share' of them."""
  found = view.cell(f'random_{dimension}')
  points, extrema = found.points / found.expected, found.extrema / found.expected_extrema

  def ratio(fields: np.ndarray) -> float:
    total, few = (float(part.isel(seed=fields).mean()) for part in (points, extrema))
    return total if which == 'points' else few / total if total else np.nan

  return statistics.jackknife(ratio, found.sizes['seed'], scale='log', confidence=view.confidence)


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


def stays(view: View, kind: str) -> Interval:
  """The share of full-batch runs that left their saddles at any rate."""
  runs = view.race(f'at_{kind}').escaped.sel(arm='full batch', seed=view.config.seeds.ids)
  return clustered_share(runs.any('rate'), view.confidence)


def leaves(view: View, start: str, arm: str) -> Interval:
  """The share of an arm's runs that left at its tuned rate; each seed has a saddle and data of its own.

  Other choices widen the interval on the scale of arcsin(sqrt(share)), where shares vary alike and 0 and 1 have a
  place; beyond [0, pi/2] there are no shares.
  """

  def angle(runs: xr.Dataset) -> Interval:
    found = clustered_share(runs.escaped, view.confidence)
    return Interval._make([*np.arcsin(np.sqrt(found[:3])), *found[3:]])

  found = view.chosen(angle, (start, arm))
  return Interval._make([*(np.sin(np.clip(found[:3], 0, np.pi / 2)) ** 2).tolist(), *found[3:]])


def clustered_share(flags: xr.DataArray, confidence: float) -> Interval:
  r"""The share of runs [seed, saddle] of which something holds, with seeds as the sample.

  Clopper and Pearson's interval for the number of independent runs that would have the share's variance over seeds,
  $\hat p (1 - \hat p) / s^2$, at most all runs; where all runs agree, one for each seed.

  Source: Korn and Graubard 1998, Confidence intervals for proportions ... from survey data, Survey Methodology 24.
  """
  each = flags.transpose('seed', 'saddle').values.astype(float)
  share, (seeds, saddles) = float(each.mean()), each.shape
  variance = each.mean(axis=1).var(ddof=1) / seeds
  number = share * (1 - share) / variance if saddles > 1 and variance > 0 else seeds
  number, tail = min(number, seeds * saddles), (1 - confidence) / 2
  low = scipy.stats.beta.ppf(tail, number * share, number * (1 - share) + 1) if share > 0 else 0.0
  high = scipy.stats.beta.ppf(1 - tail, number * share + 1, number * (1 - share)) if share < 1 else 1.0
  return Interval(share, float(low), float(high), confidence, seeds, 0)


def sooner(view: View, arm: str, kind: str) -> Interval:
  """Updates that an arm needs to leave over those of plain descent, each at its tuned rate: the median over saddles.

  A plain run that stays counts with all it had, so that the ratio is an upper bound; one of the arm that does took for
  ever. A run passes the level within its last update, at a moment drawn for each seed: ratios of whole numbers are so
  often equal that order statistics would have no width.
  """

  def ratio(mine: xr.Dataset, plain: xr.Dataset) -> Interval:
    before = np.random.default_rng(0).uniform(size=mine.sizes['seed'])
    return middle((taken(mine)[0] - before) / (plain.updates.values[0] - before), view.confidence)

  return view.chosen(ratio, (f'near_{kind}', arm), (f'near_{kind}', 'full batch'), scale='log')


def momentum_ratios(runs: xr.Dataset) -> np.ndarray:
  """Time over that of the lane of equal rate without momentum, over (1 - beta), float[lane, seed]."""
  times, rate, beta = (taken(runs), *(runs[name].values[:, 0] for name in ('learning_rate', 'momentum')))
  plain = [np.flatnonzero((beta == 0) & np.isclose(rate, own))[0] for own in rate]
  return times / times[plain] / (1 - beta)[:, None]


def follows(runs: xr.Dataset) -> np.ndarray:
  """Where momentum follows the saying: alpha gamma at most (1 - beta)^2 / 10, bool[lane].

  The larger root of z^2 - (1 + beta + s) z + beta, s = alpha gamma, is
  1 + s/(1 - beta) (1 - s beta/(1 - beta)^2 + ...): there the saying is right to about a tenth.
  """
  strength = (runs.learning_rate * runs.curvature).transpose('lane', 'seed').values[:, 0]
  return strength <= SMALL * (1 - runs.momentum.values[:, 0]) ** 2 * (1 + 1e-9)


def momentum_law(view: View, beta: float) -> Interval:
  """Those ratios where momentum follows the saying: the geometric mean over saddles and rates, by seed."""
  each = [(runs, (runs.momentum.values[:, 0] == beta) & follows(runs)) for runs in view.exits()]
  return _mean_ratio(np.concatenate([momentum_ratios(runs)[own] for runs, own in each]), view.confidence)


def formula(runs: xr.Dataset, distance: float) -> np.ndarray:
  """The time that plain descent should take, log(Delta / delta_0) / log(1 + alpha gamma), float[lane, seed]."""
  law = np.log(distance / runs.start) / np.log1p(runs.learning_rate * runs.curvature)
  return law.transpose('lane', 'seed').values


def departure(view: View, momentum: bool) -> Interval:
  """The largest difference, in updates, of a measured exit from the exact one, of all with or without momentum.

  Without momentum the exact one is the formula rounded up; with it, the first whole update of the recursion, by both of
  its roots. Momentum counts where it does not follow the saying.
  """
  gaps, distance = [], view.config.growth.distance
  for runs in view.exits():
    beta, times = runs.momentum.values[:, 0], taken(runs)
    for lane in np.flatnonzero((beta > 0) & ~follows(runs) if momentum else beta == 0):
      law = np.ceil(formula(runs, distance)[lane])
      if momentum:
        rate, gamma = float(runs.learning_rate[lane, 0]), float(runs.curvature[0])
        law = theory.escape_steps(
          distance, runs.start.values, curvature=gamma, learning_rate=rate, momentum=float(beta[lane])
        )
      gaps.append(np.abs(times[lane] - law).max())
  return statistics.exactly(np.max(gaps), num=len(view.config.exit_ids))


def over_formula(view: View, kind: str) -> Interval:
  """Measured over predicted time of plain descent from saddles of problems that are not quadratic: mean over rates."""
  runs = view.cell(f'curved_{kind}')
  return _mean_ratio(taken(runs) / formula(runs, view.config.growth.curved_distance), view.confidence)


def wrong_formula(view: View, beta: float) -> Interval:
  """A control: measured time with momentum over the formula of plain descent, at quadratic saddles."""
  distance, ratios = view.config.growth.distance, []
  for runs in view.exits():
    ratios.append((taken(runs) / formula(runs, distance))[runs.momentum.values[:, 0] == beta])
  return _mean_ratio(np.concatenate(ratios), view.confidence)


def _mean_ratio(ratios: np.ndarray, confidence: float) -> Interval:
  """The geometric mean over lanes and seeds of ratios [lane, seed], with seeds as the sample."""
  each = np.exp(np.log(ratios).mean(axis=0))
  return statistics.paired_log_ratio(each, np.ones_like(each), confidence=confidence)


def noise_law(view: View, size: int) -> Interval:
  """Measured over predicted mean escape time under noise from the saddle itself: mean over rates, by seed."""
  runs, distance, found = view.cell('noisy').sel(batch_size=size), view.config.growth.distance, []
  for strength in runs.strength.values:
    rate, known = strength / runs.curvature, {'curvature': runs.curvature, 'noise': runs.noise}
    law = theory.mean_escape_steps(distance, learning_rate=rate, batch_size=size, **known)
    found.append(runs.updates.sel(strength=strength).values / float(law))
  return statistics.bootstrap(np.mean(found, axis=0), confidence=view.confidence)


def scale_slope(view: View, arm: str) -> Interval:
  """The log-log slope of escape time in the scale of the loss: its mean over seeds, of Adam the one farthest from 0.

  Adam's steps are of one length, so that it leaves at the same update from every start: there is no spread over seeds.
  """
  runs = view.cell('scales').sel(arm=arm)
  times, scale = taken(runs).T, runs.scale.values[:, 0]
  slopes, mean = statistics.loglog_slope(scale, times, confidence=view.confidence)
  return statistics.exactly(slopes[np.abs(slopes).argmax()], num=len(slopes)) if arm == 'Adam' else mean


def gap_ratio(view: View, cell: str, arm: str, over_theory: bool = False) -> Interval:
  """The factor from one gap between passages to the next, or that over its limit in theory: its median over runs.

  Of a run, the geometric mean after the first two saddles. A chain that was not passed counts as infinite: plain
  descent may wait until a coordinate underflows to the ridge, and stays. The interval is that of order statistics.
  """

  def factor(passed: xr.DataArray, rate: float) -> Interval:
    law = theory.octopus_gap_ratio(rate, 1.0, 1.0) if over_theory else 1.0
    gaps = np.diff(passed.values, axis=1)[:, 1:]
    return middle((gaps[:, -1] / gaps[:, 0]) ** (1 / (gaps.shape[1] - 1)) / law, view.confidence)

  return view.at_chain_rates(factor, cell, arm, 'log')


def chain_slope(view: View) -> Interval:
  """The log-log slope of the time to pass k saddles in k, for perturbed descent; a chain not passed has no slope."""

  def slope(passed: xr.DataArray, rate: float) -> Interval:
    del rate
    return statistics.loglog_slope(passed.saddle.values, passed, confidence=view.confidence)[1]

  return view.at_chain_rates(slope, 'chain_noisy', 'perturbed', 'plain')


def lingers(view: View, arm: str) -> Interval:
  """The share of an arm's runs that spent more than a tenth of their updates until the fit near a saddle.

  The unit is the run: records of one run follow from one another.
  """
  return statistics.share(view.time_near(f'training_{arm}').values > LITTLE, confidence=view.confidence)


def middle(values: np.ndarray, confidence: float) -> Interval:
  """The median of values of which some took for ever, with the interval of order statistics."""
  finite = np.isfinite(values)
  waits = Crossing(np.where(finite, values, np.max(values, where=finite, initial=1.0)), ~finite)
  return statistics.median_time(waits, confidence=confidence)


def taken(runs: xr.Dataset) -> np.ndarray:
  """Updates until it had left, float[..., seed], infinite for who stayed."""
  return runs.updates.where(runs.escaped, np.inf).transpose(..., 'seed').values.astype(float)
