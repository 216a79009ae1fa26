"""Effects of the claims on landscapes (N1-N4) and of the trap (N2), from the stored results."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.stats
import xarray as xr

from experiments.minima import valleys
from experiments.minima.study import Study
from gdlab import statistics
from gdlab.statistics import Interval

CONFIDENCE = 0.95


def share(flags: Any, confidence: float = CONFIDENCE) -> Interval:
  """The share of runs of which something holds, with Clopper and Pearson's interval; unknown where there is no run."""
  flags = np.asarray(flags, bool)
  if not flags.size:
    return Interval(np.nan, 0.0, 1.0, confidence, 0, 0)
  low, high = scipy.stats.binomtest(int(flags.sum()), flags.size).proportion_ci(confidence)
  return Interval(float(flags.mean()), float(low), float(high), confidence, flags.size, 0)


def share_gain(first: Any, second: Any) -> Interval:
  """The difference of two shares, with an interval that holds whether the runs are paired or not.

  The ends are those of the two shares' own intervals at half the error each (Bonferroni), so that it keeps a width
  where all runs of an arm agree, as a bootstrap would not.
  """
  a, b = (share(flags, (1 + CONFIDENCE) / 2) for flags in (first, second))
  return Interval(a.estimate - b.estimate, a.low - b.high, a.high - b.low, CONFIDENCE, a.num, 0)


def resampled(statistic: Callable[[np.ndarray], np.ndarray], num: int) -> Interval:
  """The bootstrap interval of a function of the runs' numbers, int[..., num] -> float[...]: whole runs are drawn.

  For slopes, ratios and deviations; a mean over runs has `statistics.bootstrap` of its values, which is Student's.
  """
  return statistics.bootstrap(
    np.arange(num), lambda places, axis=-1: statistic(np.asarray(places).astype(int))
  )


# N1 and N2: leaving a valley.


def full_batch_left(study: Study) -> Interval:
  """The share of full-batch runs that left the shallow valley at any of the rates, or diverged."""
  runs = study.valley('leave_poor').sel(batch_size=study.full)
  return share(((runs.reached > 0) | (runs.status != 0)).any('learning_rate').values)


def least_left(study: Study) -> Interval:
  """The share of runs that left the shallow valley at the batch size and rate where its interval reaches lowest.

  Of those where Kramers' formula has them leave (`valleys.graded`).
  """
  shares = [share(study.left('leave_poor', size, rate)) for size, rate in valleys.graded(study.config)]
  return min(shares, key=lambda found: found.low)


def shallow_gain(study: Study) -> Interval:
  """The share of mini-batch runs that left the shallow valley minus that of those that left the deep one."""
  mini = study.config.valleys.mini_batch
  return share_gain(study.left('leave_poor', mini), study.left('leave_good', mini))


def thrown_gain(study: Study, cell: str) -> Interval:
  """The share of runs thrown from the good into the poor valley, single examples minus mini-batches."""
  return share_gain(study.left(cell, 1), study.left(cell, study.config.valleys.mini_batch))


def stay(study: Study, cell: str, lower: bool = False) -> Interval:
  """Of the single-example runs that were thrown into the poor valley, the share that had not come back."""
  return share(study.stayed(cell, 1, study.config.valleys.lower_rate if lower else None))


def stuck(losses: xr.DataArray) -> np.ndarray:
  """Whether a network's loss is above half of that of a guess among ten classes."""
  return losses.values > np.log(10) / 2


def trapped_gain(study: Study) -> Interval:
  """The share of networks in a poor place after the first epochs, single examples minus mini-batches."""
  epochs, size = study.config.trap.epochs, study.config.trap.batch_size
  return share_gain(*(stuck(study.trap(each).sel(step=epochs)) for each in (1, size)))


def trapped_stay(study: Study) -> Interval:
  """Of the single-example networks in a poor place by then, the share that were at no later epoch out of it."""
  losses = study.trap(1)
  epochs = study.config.trap.epochs
  thrown = stuck(losses.sel(step=epochs))
  later = losses.sel(step=slice(epochs + 1, None)).transpose('seed', 'step')
  return share(np.all(stuck(later)[thrown], axis=1))


# N3: the rate of escape.


def log_rates(study: Study) -> Callable[[np.ndarray], np.ndarray]:
  """Runs' numbers int[..., n] -> logarithms of the escape rates, float[batch size, barrier, ...].

  The maximum-likelihood estimate of exponential waiting times, escapes over time at risk, in which runs that were
  censored count with all the time they had.
  """
  cells = [study.escape(size) for size in study.config.escape.batch_sizes]
  times = np.stack([cell.time.transpose('barrier', 'seed').values for cell in cells])
  escaped = np.stack([~cell.censored.transpose('barrier', 'seed').values for cell in cells])

  def rates(places: np.ndarray) -> np.ndarray:
    with np.errstate(divide='ignore'):
      return np.stack(
        [
          [
            np.log(e[places].sum(axis=-1) / t[places].sum(axis=-1))
            for t, e in zip(times[b], escaped[b], strict=True)
          ]
          for b in range(len(cells))
        ]
      )

  return rates


def references(study: Study, name: str) -> np.ndarray:
  """Logarithms of a reference's rates, [batch size, barrier]."""
  return -np.log([study.escape(size)[f'mean_{name}'].values for size in study.config.escape.batch_sizes])


def _slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Least-squares slope of y[batch size, barrier, ...] on x, mean over batch sizes."""
  centred = x - x.mean()
  return np.tensordot(centred, y.mean(axis=0), axes=(0, 0)) / (centred @ centred)


def arrhenius_slope(study: Study) -> Interval:
  """The slope of the logarithm of the rate in 1/T, over minus the height of the ridge.

  The barriers are heights over temperatures, so the slope in these is the ratio itself.
  """
  rates, barriers = log_rates(study), np.asarray(study.config.escape.barriers)
  return resampled(lambda places: -_slope(barriers, rates(places)), study.config.escape.num_seeds)


def rate_ratio(study: Study, name: str, hottest: bool = True) -> Interval:
  """Measured rates over those of a reference, geometric mean over batch sizes and temperatures.

  Args:
    study: the results.
    name: of the reference: 'kramers', 'continuous' or 'chain'.
    hottest: with all temperatures; else the lowest alone.
  """
  rates, known = log_rates(study), references(study, name)
  part = slice(None) if hottest else slice(-1, None)

  def ratio(places: np.ndarray) -> np.ndarray:
    found = rates(places)
    return np.exp((found - known.reshape(*known.shape, *[1] * (found.ndim - 2)))[:, part].mean(axis=(0, 1)))

  return resampled(ratio, study.config.escape.num_seeds)


def worst_deviation(study: Study) -> Interval:
  """The largest difference of a measured rate from the chain's own, in standard errors: one draw, no estimate.

  It has no interval; `largest_of` says what chance alone makes of it.
  """
  cells = [study.escape(size) for size in study.config.escape.batch_sizes]
  escapes = np.stack([(~cell.censored).sum('seed').values for cell in cells])
  logs = log_rates(study)(np.arange(study.config.escape.num_seeds)) - references(study, 'chain')
  return statistics.exactly(np.max(np.abs(logs) * np.sqrt(escapes)), num=escapes.size)


def largest_of(num: int, probability: float) -> float:
  """The quantile of the largest size of `num` independent standard normal numbers."""
  return float(scipy.stats.norm.ppf((1 + probability ** (1 / num)) / 2))


def batch_size_ratio(study: Study) -> Interval:
  """Rates of the largest batch over those of the smallest at equal learning rate over batch size, geometric mean."""
  rates = log_rates(study)
  sizes = np.asarray(study.config.escape.batch_sizes)

  def ratio(places: np.ndarray) -> np.ndarray:
    found = rates(places)
    return np.exp((found[sizes.argmax()] - found[sizes.argmin()]).mean(axis=0))

  return resampled(ratio, study.config.escape.num_seeds)


# N4: noise added on purpose.


def dose_gain(study: Study, section: str, worse: tuple[str, str], better: str) -> Interval:
  """How much better the best level of a schedule is than another choice, paired by seed.

  Args:
    study: the results.
    section: 'dose' or 'dose_network'.
    worse: schedule and level, which is 'zero', 'most' or 'best'.
    better: the schedule whose best level it is compared with.
  """
  outcome = study.dose(section)
  levels: Sequence[float] = study.config[section].levels
  schedule, kind = worse
  level = {'zero': levels[0], 'most': levels[-1]}.get(kind, study.best_level(section, schedule))
  poor = outcome.sel(schedule=schedule, level=level, drop=True)
  good = outcome.sel(schedule=better, level=study.best_level(section, better), drop=True)
  return statistics.paired_interval(poor, good)
