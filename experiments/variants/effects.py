"""Effects of the claims: from a `study.Seen`, what one set of seeds has measured, to an interval."""

import numpy as np
import xarray as xr

from gdlab import statistics, study, theory
from gdlab.statistics import Interval


def identity(view, name: str) -> Interval:
  """The largest error of an identity over the seeds."""
  return _extreme(view.cell('identities').error.sel(identity=name))


def _extreme(values: xr.DataArray, sign: int = 1) -> Interval:
  """The largest value over the seeds, or with sign -1 the smallest: known exactly, and NaN if any is."""
  return statistics.exactly(sign * float((sign * values).max(skipna=False)), num=values.sizes['seed'])


def variances(view, replacement: str) -> xr.DataArray:
  """Measured variances of the gradient estimate over those by the exact law, at all batch sizes below N."""
  noise = view.cell('noise')
  count = int(noise.num_examples)
  below = noise.sel(replacement=replacement, batch_size=noise.batch_size < count)
  finite = count if replacement == 'without' else None
  law = [theory.mean_variance(noise.covariance_trace, int(size), finite) for size in below.batch_size]
  return below.variance / xr.concat(law, 'batch_size')


def variance_ratio(view, replacement: str) -> Interval:
  """Measured variance over the exact law: the hull of the intervals of all batch sizes below N.

  The estimate is that of the batch size farthest from the law. A hull inside a range means that every batch size is.
  """
  intervals = [
    statistics.bootstrap(each, confidence=view.confidence)
    for each in variances(view, replacement).transpose('batch_size', 'seed').values
  ]
  worst = max(intervals, key=lambda interval: abs(np.log(interval.estimate)))
  return worst._replace(low=min(each.low for each in intervals), high=max(each.high for each in intervals))


def full_batch_variance(view) -> Interval:
  """The variance of the whole population's estimate over that of one example: zero but for rounding."""
  noise = view.cell('noise')
  full = noise.variance.sel(replacement='without', batch_size=noise.attrs['num_examples'])
  return _extreme(abs(full / noise.covariance_trace))


def miscounted(view) -> Interval:
  """Cases in which an epoch was not ceil(N/B) updates with every example drawn once."""
  counts = view.cell('counts')
  expected = -(-counts.num_examples // counts.batch_size)
  wrong = (counts.updates != expected) | (counts.least_draws != 1) | (counts.most_draws != 1)
  return statistics.exactly(int(wrong.sum()), num=counts.sizes['case'])


def time_ratio(view, slow: str, fast: str) -> Interval:
  """Time per update of one variant over another's, paired by round."""
  seconds = view.cell('timing').seconds_per_update
  above, below = (seconds.sel(batch_size=view.three[name]).values for name in (slow, fast))
  return statistics.paired_log_ratio(above, below, confidence=view.confidence)


def roughness_ratio(view, rough: str, smooth: str) -> Interval:
  """The standard deviation of second differences of one variant's training loss over another's, paired by seed."""
  curves = view.cell('smoothness').train_loss.diff('step', n=2).std('step')
  above, below = (curves.sel(batch_size=view.three[name], drop=True) for name in (rough, smooth))
  return statistics.paired_log_ratio(above, below, confidence=view.confidence)


def reached(view, kind: str, small: str) -> Interval:
  """Examples to the target loss, or seconds to the target accuracy (`time`), of full batch over a smaller batch.

  A full-batch run that never gets there, diverged ones among them, counts with all it had, so the ratio is then a lower
  bound. A small-batch run that never does took for ever: ratio 0. If neither does, the pair says nothing.
  """
  targets = {'examples': ('train_loss', view.config.target_loss, 1)}
  targets['time'] = ('test_accuracy', view.config.target_accuracy, -1)
  variable, target, sign = targets[kind]
  times, never = [], []
  for size in (view.three['full'], view.three[small]):
    values = sign * view.arm(kind, size)[variable]
    crossing = statistics.first_crossing(values.step, values, sign * target)
    times.append(view.clock(kind, size, crossing.time))
    never.append(crossing.censored)
  slow, fast = np.where(never[0] & never[1], np.nan, times[0]), np.where(never[1], np.inf, times[1])
  return statistics.paired_log_ratio(slow, fast, confidence=view.confidence)


def loss_ratio(view) -> Interval:
  """Training loss of full batch over that of the mini-batch after equal examples, each at its best rate."""
  full, mini = (view.ended('examples', view.three[name], 'train_loss', np.inf) for name in ('full', 'mini'))
  return statistics.paired_log_ratio(full, mini, confidence=view.confidence)


def floor_slope(view) -> Interval:
  """The log-log slope in the rate of the mean excess loss over the last quarter; NaN where a run diverged."""
  runs = _late(view.cell('floor'))
  floors = study.unless_failed(runs, 'excess', np.nan).mean('step', skipna=False)
  return statistics.loglog_slope(
    runs.learning_rate, floors.transpose('seed', 'learning_rate'), confidence=view.confidence
  )[1]


def late_rises(view) -> Interval:
  """The share of the last quarter's evaluations at which the loss had risen, mean over rates, by seed."""
  rising = (_late(view.cell('floor')).train_loss.diff('step') > 0).mean('step')
  return statistics.bootstrap(rising.mean('learning_rate').values, confidence=view.confidence)


def _late(runs: xr.Dataset) -> xr.Dataset:
  return runs.isel(step=slice(-(runs.sizes['step'] // 4), None))


def middle_gain(view) -> Interval:
  """Test accuracy at equal time: the best batch size in 32-256 minus the best outside, chosen by tuning runs."""
  tuned = lambda size: float(view.ended('time', size, 'train_loss', np.inf, 'tuning').mean('seed'))
  inside = min((size for size in view.sizes if 32 <= size <= 256), key=tuned)
  outside = min((size for size in view.sizes if not 32 <= size <= 256), key=tuned)
  best, other = (view.ended('time', size, 'test_accuracy', 0.0) for size in (inside, outside))
  return statistics.paired_interval(best, other, confidence=view.confidence)


def power_gain(view) -> Interval:
  """Time per example of the neighbours of powers of two over that of the powers, geometric mean, by round."""
  timing, seconds = view.config.timing, view.cell('timing').seconds_per_update
  logs = np.log(seconds / seconds.batch_size)
  at = lambda size: logs.sel(batch_size=size, drop=True)
  gains = [(at(power - timing.offset) + at(power + timing.offset)) / 2 - at(power) for power in timing.powers]
  return statistics.bootstrap(np.exp(sum(gains) / len(gains)).values, confidence=view.confidence)


def worst_contraction(view, problem: str) -> Interval:
  """The largest factor of the gap in one step at rate 1/L, over the bound 1 - mu/L."""
  convex = view.cell('convex').sel(problem=problem)
  gap = convex.gap.sel(rate_times_smoothness=1.0)
  before = gap.shift(step=1)
  # Below this the gap is rounding: the loss itself is known to eps only.
  factors = (gap / before).where(before > 1e-9 * gap.isel(step=0, drop=True))
  return _extreme((factors / convex.bound).max('step'))


def remaining_gap(view, problem: str, rate: float) -> Interval:
  """The gap at the end over the gap at the start, at a rate times L: the largest, and beyond 2 the smallest."""
  gap = view.cell('convex').gap.sel(problem=problem, rate_times_smoothness=rate)
  return _extreme(gap.isel(step=-1) / gap.isel(step=0), 1 if rate < 2 else -1)


def tracking_ratio(view) -> Interval:
  """Squared error of the refitted full batch over that of single-example descent, second half of a drifting stream."""
  late, rate = view.late_errors(drift=1)
  chosen = late.sel(seed=view.config.seeds.ids)
  return statistics.paired_log_ratio(
    chosen.full, chosen.single.sel(learning_rate=rate, drop=True), confidence=view.confidence
  )
