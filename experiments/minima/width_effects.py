"""Effects of the claims on networks of many widths (N5-N7), from the stored results."""

import numpy as np

from experiments.minima.effects import resampled
from experiments.minima.study import Study
from gdlab import statistics
from gdlab.statistics import Interval

EVERY = slice(None)
WIDEST = slice(-3, None)  # the three largest widths
FAILED = {'train_loss': np.inf, 'test_loss': np.inf, 'test_accuracy': 0.0}


def outcomes(study: Study, variable: str) -> np.ndarray:
  """The final training loss ('train_loss') or test error ('test_error') of every network, [seed, width]."""
  if variable == 'test_error':
    return 1 - study.ends('test_accuracy', FAILED['test_accuracy'])
  return study.ends(variable, FAILED[variable])


def spread_slope(study: Study, variable: str, relative: bool = False, widths: slice = EVERY) -> Interval:
  """The log-log slope in width of the standard deviation over initialisations, or of that over the mean."""
  ends = outcomes(study, variable)[:, widths]
  return resampled(lambda places: _loglog(study.widths[widths], _spread(ends[places], relative)), len(ends))


def spread(study: Study, variable: str, width: int, relative: bool = False) -> Interval:
  """The standard deviation over initialisations at one width, or that over the mean."""
  ends = outcomes(study, variable)[:, [study.widths.index(width)]]
  return resampled(lambda places: _spread(ends[places], relative)[..., 0], len(ends))


def barrier_over_loss(study: Study, order: str, width: int) -> Interval:
  """The mean barrier over the mean training loss of the networks at its ends."""
  barriers = study.lines(width).barrier.sel(order=order).values
  losses = study.pair_losses(width)
  return resampled(
    lambda places: barriers[places].mean(axis=-1) / losses[places].mean(axis=-1), len(barriers)
  )


def least_barrier(study: Study, order: str, relative: bool = False) -> Interval:
  """The mean barrier, or that over the loss of its ends, at the width where the interval reaches lowest."""
  measure = barrier_over_loss if relative else mean_barrier
  found = [measure(study, order, width) for width in study.widths]
  return min(found, key=lambda interval: -np.inf if interval.excluded else interval.low)


def mean_barrier(study: Study, order: str, width: int) -> Interval:
  """The mean barrier at one width."""
  barriers = study.lines(width).barrier.sel(order=order).values
  return statistics.bootstrap(barriers)


def barrier_slope(study: Study, order: str, relative: bool = False, widths: slice = EVERY) -> Interval:
  """The log-log slope in width of the mean barrier, or of that over the mean loss of its ends."""
  chosen = study.widths[widths]
  barriers = np.stack([study.lines(width).barrier.sel(order=order).values for width in chosen], axis=1)
  losses = np.stack([study.pair_losses(width) for width in chosen], axis=1)

  def slope(places: np.ndarray) -> np.ndarray:
    means = barriers[places].mean(axis=-2)
    return _loglog(chosen, means / losses[places].mean(axis=-2) if relative else means)

  return resampled(slope, len(barriers))


def misfit(widths: list[int], values: np.ndarray) -> float:
  """The largest factor between values and the best line through their logarithms: 1 for a power law."""
  logs = np.log(np.asarray(widths, float))
  with np.errstate(divide='ignore', invalid='ignore'):
    residuals = np.log(values) - np.log(values).mean() - _loglog(widths, values) * (logs - logs.mean())
  return float(np.exp(np.max(np.abs(residuals))))


def ensemble_ratio(study: Study, score: str, width: int, size: int) -> Interval:
  """An ensemble's test error or negative log-likelihood over that of its average member, means over ensembles."""
  found = study.ensembles(width).sel(size=size)
  whole, members = (
    found[name].values[: study.config.num_seeds // size] for name in (score, f'member_{score}')
  )
  return resampled(lambda places: whole[places].mean(axis=-1) / members[places].mean(axis=-1), len(whole))


def _deviation(values: np.ndarray) -> np.ndarray:
  """The standard deviation over the second last axis; infinite where a run failed."""
  with np.errstate(invalid='ignore'):
    deviation = values.std(axis=-2, ddof=1)
  return np.where(np.isnan(deviation), np.inf, deviation)


def _spread(values: np.ndarray, relative: bool) -> np.ndarray:
  """The standard deviation of values[..., seed, width] over seeds, or that over the mean."""
  deviation = _deviation(values)
  with np.errstate(invalid='ignore', divide='ignore'):
    return deviation / values.mean(axis=-2) if relative else deviation


def _loglog(widths: list[int], values: np.ndarray) -> np.ndarray:
  """The slope of log values[..., width] in log width."""
  logs = np.log(np.asarray(widths, float))
  centred = logs - logs.mean()
  with np.errstate(divide='ignore', invalid='ignore'):
    return np.log(values) @ centred / (centred @ centred)
