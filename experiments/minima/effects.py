"""What claims, pictures and tables ask of one set of seeds, and the effects of the claims N1-N7."""

import numpy as np
import xarray as xr

import gdlab
from experiments.minima import measure
from gdlab import statistics, study
from gdlab.statistics import Interval


class View(study.View):
  """The stored results of one set of seeds, with the questions that several effects ask."""

  def valley(self, name: str, batch_size: int, rate: float | None = None) -> xr.Dataset:
    """Runs from one valley at a rate, by default the main one: when each reached the other minimum and returned."""
    rate = self.config.valleys.learning_rate if rate is None else rate
    return self.cell(f'leave_{name}').isel(step=-1).sel(batch_size=batch_size, learning_rate=rate)

  def left(self, name: str, batch_size: int, rate: float | None = None, by: int | None = None) -> np.ndarray:
    """Whether each run got to the other minimum, in the updates of the verdicts or in so many."""
    reached = self.valley(name, batch_size, rate).reached.values
    return (reached > 0) & (reached <= (self.config.valleys.updates if by is None else by))

  def patience(self, name: str, rate: float | None = None) -> int:
    """Updates in which a single-example run thrown into the other valley may come back.

    `patience` times the median time in of those thrown in, at most the `return_updates` that all were followed.
    """
    options = self.config.valleys
    thrown = self.valley(name, 1, rate).reached.values[self.left(name, 1, rate)]
    wanted = options.patience * float(np.median(thrown)) if thrown.size else np.inf
    return int(min(options.return_updates, np.ceil(wanted)))

  def stayed(self, name: str, rate: float | None = None) -> np.ndarray:
    """Of the single-example runs thrown into the other valley: whether each was there `patience` updates later."""
    runs = self.valley(name, 1, rate)
    back = (runs.returned > 0) & (runs.returned - runs.reached <= self.patience(name, rate))
    return ~back.values[self.left(name, 1, rate)]

  def trap(self, arm: str) -> xr.DataArray:
    """Training losses of networks after every epoch, [seed, step]; infinite where a run has diverged."""
    runs = self.cell(f'trap_{arm}').squeeze(['learning_rate', 'batch_size', 'change'], drop=True)
    return study.unless_failed(runs, 'train_loss', np.inf).transpose('seed', 'step')

  def trapped(self, arm: str) -> np.ndarray:
    """Whether networks are in a poor place, a loss above half of that of guessing, after every epoch, [seed, epoch]."""
    return self.trap(arm).values > np.log(measure.NUM_CLASSES) / 2

  @property
  def rescued(self) -> Interval:
    """The share of networks in a poor place that stayed there once single examples gave way to mini-batches."""
    poor = self.trapped('rescued')
    return statistics.share(poor[poor[:, self.config.trap.epochs], -1], confidence=self.confidence)

  def escapes(self, name: str) -> np.ndarray:
    """A variable of the first passages, [batch size, barrier, ...]."""
    cells = (self.cell(f'escape_{size}') for size in self.config.escape.batch_sizes)
    return np.stack([cell[name].transpose('barrier', ...).values for cell in cells])

  def best_level(self, where: str, schedule: str) -> float:
    """The level that the tuning runs chose, at its best rate; among equals the least noise."""
    means = measure.outcome(self.cell(f'dose_tuning_{where}')).mean('seed', skipna=False).min('learning_rate')
    return float(means.idxmin('level').sel(schedule=schedule))

  def rate(self, cell: str) -> float:
    """The rate that tuning chose for a cell."""
    return float(self.cell(cell).learning_rate[0])

  def ends(self, variable: str) -> np.ndarray:
    """The training loss or test error of every network after the last update, [seed, width]."""
    cells = [
      self.cell(f'width_{width}').isel(learning_rate=0, step=-1) for width in self.config.widths.hidden
    ]
    if variable == 'test_error':
      return 1 - np.stack([study.unless_failed(cell, 'test_accuracy', 0.0) for cell in cells], axis=1)
    return np.stack([study.unless_failed(cell, variable, np.inf) for cell in cells], axis=1)

  def barriers(self, order: str) -> np.ndarray:
    """The barriers on the lines between networks, [pair, width]."""
    cells = (self.cell(f'lines_{width}').barrier.sel(order=order) for width in self.config.widths.hidden)
    return np.stack([cell.values for cell in cells], axis=1)

  def pair_losses(self) -> np.ndarray:
    """The mean training loss of the two ends of every line, [pair, width]."""
    pairs = self.config.widths.pairs
    return self.ends('train_loss')[: 2 * pairs].reshape(pairs, 2, -1).mean(axis=1)


def full_batch_left(view: View) -> Interval:
  """The share of full-batch runs that left the shallow valley at any of the rates, or diverged."""
  runs = view.cell('leave_poor').isel(step=-1).sel(batch_size=view.config.valleys.num_examples)
  return statistics.share(
    ((runs.reached > 0) | (runs.status != gdlab.RUNNING)).any('learning_rate').values,
    confidence=view.confidence,
  )


def least_left(view: View) -> Interval:
  """The share that left the shallow valley where its interval reaches lowest, of those that N1 is asked of."""
  shares = [
    statistics.share(view.left('poor', size, rate), confidence=view.confidence)
    for size, rate in view.config.valleys.graded
  ]
  return min(shares, key=lambda found: found.low)


def left_gain(view: View, more: tuple[str, str], less: tuple[str, str]) -> Interval:
  """The difference of two shares of runs that left, each of a start and a batch size ('single' or 'mini')."""
  sizes = {'single': 1, 'mini': view.config.valleys.mini_batch}
  return statistics.share_difference(
    *(view.left(name, sizes[arm]) for name, arm in (more, less)), confidence=view.confidence
  )


def stay(view: View, name: str, lower: bool) -> Interval:
  """Of the single-example runs that were thrown into the poor valley, the share that had not come back."""
  return statistics.share(
    view.stayed(name, view.config.valleys.lower_rate if lower else None), confidence=view.confidence
  )


def trapped_gain(view: View) -> Interval:
  """The share of networks in a poor place after the first epochs, single examples minus mini-batches."""
  single, mini = (view.trapped(arm)[:, view.config.trap.epochs] for arm in ('single', 'mini'))
  return statistics.share_difference(single, mini, confidence=view.confidence)


def trapped_stay(view: View) -> Interval:
  """Of the single-example networks in a poor place by then, the share that were at no later epoch out of it."""
  poor, epochs = view.trapped('single'), view.config.trap.epochs
  return statistics.share(poor[poor[:, epochs], epochs + 1 :].all(axis=1), confidence=view.confidence)


def log_rates(view: View, places: np.ndarray) -> np.ndarray:
  """Logarithms of the escape rates of runs int[..., n], float[batch size, barrier, ...].

  The maximum-likelihood estimate of exponential waiting times: escapes over the time of all runs, censored or not.
  """
  times, escaped = view.escapes('time'), ~view.escapes('censored')
  with np.errstate(divide='ignore'):
    return np.log(np.take(escaped, places, axis=-1).sum(-1) / np.take(times, places, axis=-1).sum(-1))


def arrhenius_slope(view: View) -> Interval:
  """The slope of the logarithm of the rate in 1/T over minus the ridge's height, in the barriers; mean over batches."""
  x = view.config.escape.barriers - np.mean(view.config.escape.barriers)

  def slope(places: np.ndarray) -> np.ndarray:
    return -np.tensordot(x, log_rates(view, places).mean(axis=0), axes=(0, 0)) / (x @ x)

  return statistics.jackknife(slope, view.config.escape.num_seeds, confidence=view.confidence)


def rate_ratio(view: View, reference: str, lowest: bool = False) -> Interval:
  """Measured rates over those of theory, geometric mean over batch sizes and temperatures, or at the lowest alone."""
  known, part = np.log(view.escapes(f'mean_{reference}')), slice(-1 if lowest else None, None)

  def ratio(places: np.ndarray) -> np.ndarray:
    beyond = log_rates(view, places) + known.reshape(*known.shape, *[1] * (places.ndim - 1))
    return np.exp(beyond[:, part].mean(axis=(0, 1)))

  return statistics.jackknife(ratio, view.config.escape.num_seeds, scale='log', confidence=view.confidence)


def worst_deviation(view: View) -> Interval:
  """The largest difference of a measured rate from the chain's own, in standard errors: one draw, no estimate."""
  num = view.config.escape.num_seeds
  logs = log_rates(view, np.arange(num)) + np.log(view.escapes('mean_chain'))
  errors = np.sqrt((~view.escapes('censored')).sum(axis=-1))
  return statistics.exactly(np.max(np.abs(logs) * errors), num=num)


def batch_size_ratio(view: View) -> Interval:
  """Rates of the largest batch over those of the smallest at equal learning rate over batch size, geometric mean."""

  def ratio(places: np.ndarray) -> np.ndarray:
    found = log_rates(view, places)
    return np.exp((found[-1] - found[0]).mean(axis=0))

  return statistics.jackknife(ratio, view.config.escape.num_seeds, scale='log', confidence=view.confidence)


def dose_gain(view: View, where: str, worse: str, better: str) -> Interval:
  """How much better the best level of a schedule is than a constant one ('zero', 'most' or 'best'), paired by seed."""
  outcome, levels = measure.outcome(view.cell(f'dose_{where}')), view.config.doses[where].levels
  level = {'zero': levels[0], 'most': levels[-1], 'best': view.best_level(where, 'constant')}[worse]
  poor = outcome.sel(schedule='constant', level=level, drop=True)
  good = outcome.sel(schedule=better, level=view.best_level(where, better), drop=True)
  return statistics.paired_interval(poor, good, confidence=view.confidence)


def spread(values: np.ndarray, relative: bool) -> np.ndarray:
  """The standard deviation of values[..., seed, width] over seeds, or that over the mean; infinite if one failed."""
  with np.errstate(invalid='ignore', divide='ignore'):
    deviation = values.std(axis=-2, ddof=1)
    deviation = np.where(np.isnan(deviation), np.inf, deviation)
    return deviation / values.mean(axis=-2) if relative else deviation


def loglog(widths: list[int], values: np.ndarray) -> np.ndarray:
  """The slope of log values[..., width] in log width."""
  logs = np.log(np.asarray(widths, float))
  centred = logs - logs.mean()
  with np.errstate(divide='ignore', invalid='ignore'):
    return np.log(values) @ centred / (centred @ centred)


def spread_slope(view: View, variable: str, relative: bool) -> Interval:
  """The log-log slope in width of the spread over initialisations, or of that over the mean."""
  ends, widths = view.ends(variable), view.config.widths.hidden
  return statistics.jackknife(
    lambda places: loglog(widths, spread(ends[places], relative)), len(ends), confidence=view.confidence
  )


def widest_spread(view: View, variable: str, relative: bool = False) -> Interval:
  """The spread over initialisations at the largest width, or that over the mean."""
  ends = view.ends(variable)[:, [-1]]
  return statistics.jackknife(
    lambda places: spread(ends[places], relative)[0], len(ends), scale='log', confidence=view.confidence
  )


def barrier(view: View, order: str, place: int, relative: bool = False) -> Interval:
  """The mean barrier at one width, or that over the mean training loss of the networks at its ends."""
  barriers, losses = view.barriers(order)[:, place].copy(), view.pair_losses()[:, place].copy()
  if not relative:
    return statistics.bootstrap(barriers, confidence=view.confidence)
  return statistics.jackknife(
    lambda places: barriers[places].mean() / losses[places].mean(), len(losses), confidence=view.confidence
  )


def least_barrier(view: View, order: str, relative: bool) -> Interval:
  """The barrier at the width where its interval reaches lowest."""
  found = [barrier(view, order, place, relative) for place in range(len(view.config.widths.hidden))]
  return min(found, key=lambda interval: -np.inf if interval.excluded else interval.low)


def barrier_slope(view: View, order: str, relative: bool) -> Interval:
  """The log-log slope in width of the mean barrier, or of that over the mean loss of its ends."""
  barriers, losses, widths = view.barriers(order), view.pair_losses(), view.config.widths.hidden

  def slope(places: np.ndarray) -> np.ndarray:
    means = barriers[places].mean(axis=-2)
    return loglog(widths, means / losses[places].mean(axis=-2) if relative else means)

  return statistics.jackknife(slope, len(barriers), confidence=view.confidence)


def ensemble_ratio(view: View, score: str) -> Interval:
  """An ensemble's test error or negative log-likelihood over that of its average member, means over ensembles."""
  found = view.cell(f'ensembles_{view.config.ensemble_width}')
  whole, members = found[score].values, found[f'member_{score}'].values
  return statistics.jackknife(
    lambda places: whole[places].mean() / members[places].mean(),
    len(whole),
    scale='log',
    confidence=view.confidence,
  )
