"""Effects of the claims on networks of many widths (N5-N7), from the stored results."""

import numpy as np

from experiments.minima.effects import resampled
from experiments.minima.study import Study
from gdlab.statistics import Interval

FAILED = {'train_loss': np.inf, 'test_loss': np.inf, 'test_accuracy': 0.0}


def spread_slope(study: Study, variable: str) -> Interval:
  """The log-log slope in width of the standard deviation over initialisations."""
  ends = study.ends(variable, FAILED[variable])
  return resampled(lambda places: _loglog(study.widths, _deviation(ends[places])), len(ends))


def spread(study: Study, variable: str, width: int, relative: bool = False) -> Interval:
  """The standard deviation over initialisations at one width, or that over the mean."""
  ends = study.ends(variable, FAILED[variable])[:, study.widths.index(width)]

  def statistic(places: np.ndarray) -> np.ndarray:
    values = ends[places]
    deviation = _deviation(values[..., None])[..., 0]
    return deviation / values.mean(axis=-1) if relative else deviation

  return resampled(statistic, len(ends))


def barrier_over_loss(study: Study, order: str, width: int) -> Interval:
  """The mean barrier over the mean training loss of the networks at its ends."""
  barriers = study.lines(width).barrier.sel(order=order).values
  losses = study.pair_losses(width)
  return resampled(
    lambda places: barriers[places].mean(axis=-1) / losses[places].mean(axis=-1), len(barriers)
  )


def least_barrier(study: Study, order: str) -> Interval:
  """The barrier over the loss of its ends at the width where the interval reaches lowest."""
  return min((barrier_over_loss(study, order, width) for width in study.widths), key=lambda found: found.low)


def mean_barrier(study: Study, order: str, width: int) -> Interval:
  """The mean barrier at one width."""
  barriers = study.lines(width).barrier.sel(order=order).values
  return resampled(lambda places: barriers[places].mean(axis=-1), len(barriers))


def barrier_slope(study: Study, order: str) -> Interval:
  """The log-log slope in width of the mean barrier."""
  barriers = np.stack([study.lines(width).barrier.sel(order=order).values for width in study.widths], axis=1)
  return resampled(lambda places: _loglog(study.widths, barriers[places].mean(axis=-2)), len(barriers))


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


def _loglog(widths: list[int], values: np.ndarray) -> np.ndarray:
  """The slope of log values[..., width] in log width."""
  logs = np.log(np.asarray(widths, float))
  centred = logs - logs.mean()
  with np.errstate(divide='ignore', invalid='ignore'):
    return np.log(values) @ centred / (centred @ centred)
