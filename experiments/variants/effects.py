"""Effects of the claims, measured from the stored results: pure functions from Datasets to Intervals."""

import numpy as np
import xarray as xr

import gdlab
from experiments.variants.arms import TUNING_IDS
from experiments.variants.study import Study
from gdlab import statistics, theory
from gdlab.statistics import Interval


def identity(study: Study, name: str) -> Interval:
  """The largest error of an identity over the seeds."""
  return statistics.exactly(study.results['identities'].error.sel(identity=name).max(skipna=False))


def variance_ratio(study: Study, replacement: str) -> Interval:
  """Measured variance over the exact law: the hull of the intervals of all batch sizes below N.

  The estimate is that of the batch size farthest from the law. A hull inside a range means that every batch size is.
  """
  noise = study.results['noise']
  population = int(noise.attrs['num_examples'])
  intervals = []
  for size in (int(size) for size in noise.batch_size if size < population):
    finite = population if replacement == 'without' else None
    law = theory.mean_variance(noise.covariance_trace, size, finite)
    measured = noise.variance.sel(replacement=replacement, batch_size=size)
    intervals.append(statistics.bootstrap((measured / law).values))
  worst = max(intervals, key=lambda interval: abs(np.log(interval.estimate)))
  return worst._replace(
    low=min(interval.low for interval in intervals), high=max(interval.high for interval in intervals)
  )


def full_batch_variance(study: Study) -> Interval:
  """The variance of the whole population's estimate over that of one example: zero but for rounding."""
  noise = study.results['noise']
  full = noise.variance.sel(replacement='without', batch_size=noise.attrs['num_examples'])
  return statistics.exactly(abs(full / noise.covariance_trace).max(skipna=False))


def miscounted(study: Study) -> Interval:
  """Cases in which an epoch was not ceil(N/B) updates with every example drawn once."""
  counts = study.results['counts']
  expected = [
    theory.updates_per_epoch(int(n), int(b))
    for n, b in zip(counts.num_examples, counts.batch_size, strict=True)
  ]
  wrong = (counts.updates != expected) | (counts.least_draws != 1) | (counts.most_draws != 1)
  return statistics.exactly(int(wrong.sum()), num=counts.sizes['case'])


def time_ratio(study: Study, slow: int, fast: int) -> Interval:
  """Time per update of one batch size over another's, paired by repeat."""
  seconds = study.clock.seconds_per_update
  return statistics.paired_log_ratio(seconds.sel(batch_size=slow).values, seconds.sel(batch_size=fast).values)


def roughness_ratio(study: Study, rough: int, smooth: int) -> Interval:
  """The roughness of the training-loss curve of one batch size over that of another, paired by seed."""
  loss = study.results['smoothness'].train_loss
  return statistics.paired_log_ratio(
    roughness(loss.sel(batch_size=rough, drop=True)), roughness(loss.sel(batch_size=smooth, drop=True))
  )


def roughness(loss: xr.DataArray) -> xr.DataArray:
  """The standard deviation of the second differences of a curve: what is left when its trend is taken out."""
  return loss.diff('step', n=2).std('step')


def examples_ratio(study: Study, batch_size: int) -> Interval:
  """Examples that full batch needs to reach the target training loss over those that a smaller batch needs."""
  return _first_reached(
    study, 'examples', batch_size, 'train_loss', study.config.target_loss, 1, study.examples_after
  )


def accuracy_time_ratio(study: Study) -> Interval:
  """Seconds that full batch needs to reach the target test accuracy over those that the mini-batch needs."""
  clock = lambda size, step: step * study.seconds(size)
  return _first_reached(study, 'time', study.mini, 'test_accuracy', study.config.target_accuracy, -1, clock)


def _first_reached(study, kind, small, variable, target, sign, clock) -> Interval:
  """The ratio of the clocks at which full batch and a smaller batch first reached a target.

  A full-batch run that never does, diverged ones among them, counts with all it had, so the ratio is then a lower
  bound. A small-batch run that never does took for ever: ratio 0. If neither does, the pair says nothing.
  """
  times, censored = {}, {}
  for size in (study.full, small):
    runs = study.arm(kind, size)
    values = sign * runs[variable].transpose('seed', 'step').values
    crossing = statistics.first_crossing(runs.step.values, values, sign * target)
    times[size], censored[size] = clock(size, crossing.time), crossing.censored
  neither = censored[study.full] & censored[small]
  slow = np.where(neither, np.nan, times[study.full])
  return statistics.paired_log_ratio(slow, np.where(censored[small], np.inf, times[small]))


def loss_ratio(study: Study, kind: str) -> Interval:
  """Training loss of full batch over that of the mini-batch, each at its best rate, at equal budget."""
  full, mini = (study.at(kind, size, 'train_loss', failed=np.inf) for size in (study.full, study.mini))
  return statistics.paired_log_ratio(full, mini)


def floor_slope(study: Study) -> Interval:
  """The log-log slope of the late excess loss in the learning rate."""
  return statistics.loglog_slope(study.results['floor'].learning_rate, late_excess(study.results['floor']))[1]


def late_excess(floor: xr.Dataset) -> np.ndarray:
  """The mean excess loss over the last quarter of the run, [seed, learning rate]; NaN where the run diverged."""
  late = floor.excess.isel(step=slice(-(floor.sizes['step'] // 4), None)).mean('step')
  running = floor.status.isel(step=-1) == gdlab.RUNNING
  return late.where(running).transpose('seed', 'learning_rate').values


def late_rises(study: Study) -> Interval:
  """The share of the last quarter's evaluations at which the loss had risen, mean over rates, by seed."""
  late = study.results['floor'].train_loss.isel(
    step=slice(-(study.results['floor'].sizes['step'] // 4), None)
  )
  rising = (late.diff('step') > 0).mean('step')
  return statistics.bootstrap(rising.mean('learning_rate').values)


def middle_gain(study: Study) -> Interval:
  """Test accuracy at equal time: the best batch size in 32-256 minus the best outside, chosen by tuning runs."""

  def best(sizes: list[int]) -> int:
    return min(sizes, key=lambda size: study.tuned_loss('time', size))

  inside = best([size for size in study.sizes if 32 <= size <= 256])
  outside = best([size for size in study.sizes if not 32 <= size <= 256])
  best_inside, best_outside = (
    study.at('time', size, 'test_accuracy', failed=0.0) for size in (inside, outside)
  )
  return statistics.paired_interval(best_inside, best_outside)


def power_gain(study: Study) -> Interval:
  """Time per example of the neighbours of powers of two over that of the powers, geometric mean, by repeat."""
  offset, seconds = study.config.timing.offset, study.clock.seconds_per_update
  per_example = np.log(seconds / seconds.batch_size)
  gains = [
    (per_example.sel(batch_size=power - offset) + per_example.sel(batch_size=power + offset)) / 2
    - per_example.sel(batch_size=power)
    for power in study.config.timing.powers
  ]
  return statistics.bootstrap(np.exp(sum(gains) / len(gains)).values)


def worst_contraction(study: Study, problem: str) -> Interval:
  """The largest factor of the gap in one step at rate 1/L, over the bound 1 - mu/L."""
  convex = study.results['convex'].sel(problem=problem)
  gap = convex.gap.sel(rate_times_smoothness=1.0)
  start = gap.isel(step=0, drop=True)
  # Below this the gap is rounding: the loss itself is known to eps only.
  factors = (gap / gap.shift(step=1)).where(gap.shift(step=1) > 1e-9 * start)
  return statistics.exactly(factors.max() / convex.bound)


def remaining_gap(study: Study, problem: str, rate: float) -> Interval:
  """The largest gap at the end over the gap at the start, at a rate times L."""
  gap = study.results['convex'].gap.sel(problem=problem, rate_times_smoothness=rate)
  remaining = gap.isel(step=-1) / gap.isel(step=0)
  return statistics.exactly(remaining.max(skipna=False) if rate < 2 else remaining.min(skipna=False))


def tracking_ratio(study: Study) -> Interval:
  """Squared error of the refitted full batch over that of single-example descent, second half of a drifting stream.

  The rate is the one of least error in the tuning runs; a run that diverged has an infinite error.
  """
  stream = study.results['stream'].isel(drift=1)
  late = stream.isel(example=slice(stream.sizes['example'] // 2, None)).mean('example', skipna=False)
  late = late.where(np.isfinite(late), np.inf)
  tuning, chosen = late.sel(seed=late.seed >= TUNING_IDS), late.sel(seed=late.seed < TUNING_IDS)
  rate = tuning.single.mean('seed').idxmin('learning_rate')
  return statistics.paired_log_ratio(chosen.full, chosen.single.sel(learning_rate=rate, drop=True))
