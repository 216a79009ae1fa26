"""The effects: from a `Seen`, what one set of seeds has measured, to an interval."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr

from experiments.practice.seen import DEPTHS, NORMS, Seen, chooser
from gdlab import statistics, study
from gdlab.statistics import Interval


def hull(values: xr.DataArray) -> Interval:
  """All values, known exactly: the estimate is the one farthest from 1, the ends are the least and the largest."""
  given = np.asarray(values, float).ravel()
  farthest = given[np.abs(np.log(given)).argmax()]
  return Interval(float(farthest), float(given.min()), float(given.max()), 1.0, given.size, 0)


def operations(view: Seen, count: str, per: float, depth: int | None = None) -> Interval:
  """Counted operations over `per` M B, or over the law for 0, of all perceptrons or of the n-th depth."""
  cell = view.cell('counts')
  cell = cell if depth is None else cell.sel(network=cell.depth == DEPTHS[depth])
  return hull(cell[count] / (per * cell.parameters * cell.batch_size if per else cell.law))


def extreme(view: Seen, cell: str, variable: str, least: bool = False, **where: Any) -> Interval:
  """The largest value over seeds, or the least, known exactly; NaN if any is."""
  values = view.cell(cell)[variable].sel(**where)
  end = float(values.min(skipna=False) if least else values.max(skipna=False))
  return Interval(end, end, end, 1.0, values.size, 0)


def memory_ratio(view: Seen, what: str, activation: str) -> Interval:
  """Bytes in bfloat16 over those in float32."""
  found = view.cell('memory')[what].sel(activation=activation)
  return statistics.exactly(float(found.sel(dtype='bfloat16') / found.sel(dtype='float32')))


def accuracy(view: Seen, arms: Iterable[str]) -> Interval:
  """Test accuracy of an arm at the end, at its best rate; or that of one minus that of another, paired by seed."""

  def effect(*rates: float) -> Interval:
    ends = [view.ends(arm, rate) for arm, rate in zip(arms, rates, strict=True)]
    if len(ends) == 2:
      return statistics.paired_interval(ends[0], ends[1], confidence=view.confidence)
    return statistics.bootstrap(ends[0].values, confidence=view.confidence)

  tuned = [view.cell(f'tuning_{arm}') for arm in arms]
  return study.after_choice(effect, [chooser(each) for each in tuned], tuned[0].sizes['seed'])


def order(view: Seen, kind: str, coarse: float, fine: float) -> Interval:
  """The log-log slope of a difference's error in its step, between two relative steps."""
  errors = view.cell('differences').error.sel(kind=kind, gradient='right')
  errors = errors.isel(step=(errors.step <= coarse * 1.001) & (errors.step >= fine * 0.999))
  values = errors.transpose('seed', 'step').values
  return statistics.loglog_slope(errors.step.values, values, confidence=view.confidence)[1]


def best_error(view: Seen, gradient: str) -> Interval:
  """The error of central differences at the best step: geometric mean over seeds."""
  least = view.cell('differences').error.sel(kind='central', gradient=gradient).min('step').values
  return statistics.paired_log_ratio(least, np.ones(least.size), confidence=view.confidence)


def checked_order(view: Seen) -> Interval:
  """The order that `check_gradients` finds, the median over leaves."""
  return statistics.bootstrap(view.cell('differences').order.values, confidence=view.confidence)


def fits(view: Seen, name: str, does: bool) -> Interval:
  """The share of networks that fit the examples, or do not."""
  found = view.cell(f'overfit_{name}').fits.values.astype(bool)
  return statistics.share(found == does, confidence=view.confidence)


def along(view: Seen, arm: str, variable: str, rate: float) -> xr.DataArray:
  """The geometric mean over records after the start of a quantity that is above 0, by seed."""
  found = view.cell(f'runs_{arm}').sel(learning_rate=rate, drop=True)
  values = study.unless_failed(found, f'landscape.{variable}', np.nan).isel(step=slice(1, None))
  logs: Any = np.log(values.where(values > 0))
  return np.exp(logs.mean('step', skipna=False))


def smoother(view: Seen, variable: str, equal: bool) -> Interval:
  """A quantity along training without BatchNorm over that with it, at equal rate or each at its best."""

  def ratio(*rates: float) -> Interval:
    pair = [along(view, arm, variable, rate) for arm, rate in zip(NORMS, rates, strict=True)]
    return statistics.paired_log_ratio(*pair, confidence=view.confidence)

  if equal:
    return ratio(view.config.norm.equal, view.config.norm.equal)
  choose = [chooser(view.cell(f'tuning_{arm}')) for arm in NORMS]
  return study.after_choice(ratio, choose, view.config.seeds.tuning, scale='log')


def trap(view: Seen, arm: str) -> Interval:
  """Curvature with population statistics over that in training mode, along training at equal rate."""
  population, own = (along(view, arm, name, view.config.norm.equal) for name in ('population', 'train'))
  if arm == 'plain':
    return hull(population / own)
  return statistics.paired_log_ratio(population, own, confidence=view.confidence)


def time_ratio(view: Seen, way: str, place: int, target: int) -> Interval:
  """Seconds of a method over those of mini-batches, on problems of one of the sizes, to one of the targets."""
  options = view.config.squares
  return view.over_mini_batches(options.sizes[place], way, options.targets[target])
