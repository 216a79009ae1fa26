"""The effects of L2, L12, L13 and L15: each of one set of seeds, by seed, with an interval over them."""

from typing import Any

import numpy as np
import xarray as xr

from gdlab import statistics
from gdlab.results.datasets import RUNNING
from gdlab.statistics import Interval
from gdlab.study import View

NEAR = 0.2  # of the border, on either side
HIGH = 100.0  # times the target, at which losses are cut off: a run that diverged is at least so bad


def over_border(view: View, method: str) -> xr.DataArray:
  """The sharpness over the border along training, [border, seed, record]; 0 where a run has diverged."""
  runs = view.cell(f'climb_{method}')
  ratio = runs.sharpness / runs.border
  return ratio.where((runs.status == RUNNING) & np.isfinite(ratio), 0.0).transpose('border', 'seed', 'record')


def settled(ratio: xr.DataArray, dim: str = 'record') -> xr.DataArray:
  """The second half of the records."""
  return ratio.isel({dim: slice(ratio.sizes[dim] // 2, None)})


def _mean(values: Any, view: View) -> Interval:
  return statistics.bootstrap(np.asarray(values, float), confidence=view.confidence)


def _ratio(values: Any, view: View) -> Interval:
  return statistics.paired_log_ratio(
    np.asarray(values, float), np.ones(len(values)), confidence=view.confidence
  )


def climbing(view: View, method: str) -> xr.DataArray:
  """The same at the borders that the claim is about, without the control's."""
  return over_border(view, method).sel(border=[*view.config.edge.climb.borders])


def start(view: View, method: str) -> Interval:
  """Sharpness at the start over the border, mean over borders."""
  return _mean(climbing(view, method).isel(record=0).mean('border'), view)


def hover(view: View, method: str) -> Interval:
  """Sharpness over the border in the second half of training, mean over borders."""
  return _mean(settled(climbing(view, method)).mean(['border', 'record']), view)


def stays(view: View, method: str) -> Interval:
  """The share of the records of the second half within a fifth of the border, mean over borders."""
  near = abs(settled(climbing(view, method)) - 1) <= NEAR
  return _mean(near.mean(['border', 'record']), view)


def out_of_reach(view: View) -> Interval:
  """The greatest sharpness of the control over its border."""
  ratio = over_border(view, 'plain').sel(border=view.config.edge.climb.control)
  return _mean(ratio.max('record'), view)


def at_edge(view: View, measured: str, predicted: str) -> Interval:
  """A measure of training over one of the flow, each a mean from when the flow is at the edge: mean over borders.

  Geometric, by seed, over the borders that its flow comes to; a seed that comes to none counts as excluded.
  """
  runs, flow, every = view.cell('climb_plain'), view.cell('flow'), view.config.edge.climb.every
  ratios = []
  for border in flow.border.values:
    own, beside = runs.sel(border=border), flow.sel(border=border)
    there = (beside.variance > 0).cumsum('record') > 0
    if measured == 'loss':
      blocks = own.loss.coarsen(step=every).mean()  # of the updates after each record but the last
      values = blocks.rename(step='record').assign_coords(record=there.record.values[:-1])
    else:
      values = own[measured]
    values = values.where(np.isfinite(values), np.inf)
    place = there.sel(record=values.record)
    ratios.append(
      values.where(place).mean('record')
      / beside[predicted].sel(record=values.record).where(place).mean('record')
    )
  return _ratio(np.exp(np.log(xr.concat(ratios, 'border')).mean('border')).values, view)


def model_square(view: View) -> Interval:
  """The mean of x^2 on the model, with a little noise, over the variance of the flow."""
  found = view.cell('model')
  return _mean(found.square.sel(noise=view.config.edge.model.little) / found.variance, view)


def identity(view: View, number: int) -> Interval:
  """Left side over right side of the stationarity of x^2 on the model, at one of the noises."""
  options, found = view.config.edge.model, view.cell('model')
  rate, noise = options.learning_rate, options.noises[number]
  own = found.sel(noise=noise)
  return _mean(-(2 * rate * own.gap_square + rate**2 * own.gap2_square) / (rate * noise) ** 2, view)


def batch_case(view: View, number: int | None) -> str:
  """The cell of the number-th batch size, or of the control."""
  return 'batches_control' if number is None else f'batches_b{view.config.edge.batches.sizes[number]}'


def batch_ratio(view: View, number: int | None, measure: str) -> xr.DataArray:
  """A sharpness over 2/rate along mini-batch descent, [seed, step]; infinite where a run has diverged."""
  runs = view.cell(batch_case(view, number))
  ratio = runs[measure] * runs.learning_rate / 2
  return ratio.where((runs.status == RUNNING) & np.isfinite(ratio), np.inf).transpose('seed', 'step')


def batch_start(view: View, number: int) -> Interval:
  """What batches see at the start."""
  return _mean(batch_ratio(view, number, 'batch_sharpness').isel(step=0), view)


def batch_hover(view: View, number: int | None, measure: str) -> Interval:
  """A sharpness over 2/rate in the second half of training."""
  return _mean(settled(batch_ratio(view, number, measure), 'step').mean('step'), view)


def batch_drift(view: View, number: int) -> Interval:
  """What batches see in the last quarter of training over the quarter before."""
  half = settled(batch_ratio(view, number, 'batch_sharpness'), 'step')
  middle = half.sizes['step'] // 2
  return _ratio((half[:, middle:].mean('step') / half[:, :middle].mean('step')).values, view)


def good(view: View, kind: str) -> tuple[xr.DataArray, xr.DataArray]:
  """Final losses over the target, cut off, without warm-up and with the longest: [seed, peak] each. Good is up to 1."""
  loss = view.cell(f'warm_{kind}').loss.transpose('length', 'seed', 'peak')
  ratio = np.minimum(loss / view.config.edge.warm.target, HIGH)
  return ratio.isel(length=0, drop=True), ratio.isel(length=-1, drop=True)


def largest(ratio: xr.DataArray) -> np.ndarray:
  """The largest peak at which losses are good, by seed: between two peaks where the logarithm of the loss passes it."""
  peaks, logs = np.log(ratio.peak.values), np.log(ratio.values)
  found = []
  for row in logs:
    last = np.flatnonzero(row <= 0).max(initial=0)
    if last == len(row) - 1:
      found.append(peaks[last])
    else:
      share = max(-row[last], 0) / max(row[last + 1] - row[last], 1e-12)
      found.append(peaks[last] + share * (peaks[last + 1] - peaks[last]))
  return np.exp(found)


def widened(view: View, kind: str) -> Interval:
  """The largest good peak with the longest warm-up over that without any."""
  without, with_it = good(view, kind)
  return _ratio(largest(with_it) / largest(without), view)


def border(view: View, kind: str) -> xr.DataArray:
  """2/lambda_0 by seed."""
  return 2 / view.cell(f'warm_{kind}').sharpness.isel(length=0, peak=0).sel(step=0, drop=True)


def gained(view: View) -> xr.DataArray:
  """Whether the longest warm-up alone makes a peak good, from the sharp start: bool[seed, peak]."""
  without, with_it = good(view, 'sharp')
  return (with_it <= 1) & (without > 1)


def first_gained(view: View) -> Interval:
  """The smallest peak that warm-up makes good over 2/lambda_0; 0 where there is none."""
  peaks = view.cell('warm_sharp').peak
  first = peaks.where(gained(view)).min('peak') / border(view, 'sharp')
  return _mean(first.fillna(0.0), view)


def below_border(view: View) -> Interval:
  """At peaks up to 2/lambda_0, the loss with the longest warm-up over that without, geometric mean over peaks."""
  without, with_it = good(view, 'sharp')
  ratio = (with_it / without).where(without.peak <= border(view, 'sharp')).transpose('seed', 'peak')
  return _ratio(np.exp(np.nanmean(np.log(ratio.values), axis=1)), view)


def fell(view: View, kind: str) -> Interval:
  """Sharpness where the longest warm-up ends over that at the start, geometric mean over peaks.

  From the sharp start those that warm-up makes good; from the flat one those up to 2/lambda_0, which leave it alone.
  """
  cell, length = view.cell(f'warm_{kind}'), view.config.edge.warm.lengths[-1]
  sharp = cell.sharpness.isel(length=-1, drop=True)
  ratio = (sharp.sel(step=length) / sharp.sel(step=0)).transpose('seed', 'peak')
  chosen = gained(view) if kind == 'sharp' else ratio.peak <= border(view, kind)
  return _ratio(np.exp(np.log(ratio).where(chosen).mean('peak')).values, view)
