"""Effects of the claims: from a `study.Seen`, what one set of seeds has measured, to an interval."""

import numpy as np
import xarray as xr

from experiments.variants.seen import MEASURED, NEIGHBOURS
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


def reached(view, question: str, clock: str, small: str) -> Interval:
  """Examples or seconds (`clock`) to a target, full batch over a smaller batch, each at its tuned rate.

  A run that never gets there, diverged ones among them, counts with all it had. The ratio is then a bound, below the
  true one if it is full batch that does not, above it if it is the other; a bound that says less than 1 below, or more
  than 1 above, and a pair in which neither gets there say nothing.
  """

  def effect(*rates: float) -> Interval:
    spent, never = [], []
    for name, rate in zip(('full', small), rates, strict=True):
      runs = view.cell(f'arm_{name}').sel(learning_rate=rate, drop=True)
      updates, censored = view.crossing(runs, question, 'test')
      spent.append(view.clock(clock, name, updates))
      never.append(censored)
    slower, (full_never, small_never) = spent[0] > spent[1], never
    nothing = (full_never & small_never) | (full_never & ~slower) | (small_never & slower)
    return statistics.paired_log_ratio(spent[0].where(~nothing), spent[1], confidence=view.confidence)

  choose = [view.chooser(question, name) for name in ('full', small)]
  return view.after_choice(effect, choose, scale='log')


def loss_ratio(view) -> Interval:
  """Training loss of full batch over that of the mini-batch after equal examples; a failed run's is its first."""

  def effect(*rates: float) -> Interval:
    ends = []
    for name, rate in zip(('full', 'mini'), rates, strict=True):
      runs = view.cell(f'arm_{name}').sel(learning_rate=rate, drop=True)
      last = study.unless_failed(runs, 'train_loss', np.nan).sel(step=view.budget(name), drop=True)
      ends.append(last.fillna(runs.train_loss.isel(step=0, drop=True)))
    return statistics.paired_log_ratio(*ends, confidence=view.confidence)

  return view.after_choice(effect, [view.chooser('ended', name) for name in ('full', 'mini')], scale='log')


def floor_slope(view) -> Interval:
  """The log-log slope in the rate of the mean excess loss over the last quarter; NaN where a run diverged."""
  runs = _late(view.cell('floor'))
  floors = study.unless_failed(runs, 'excess', np.nan).mean('step', skipna=False)
  return statistics.loglog_slope(
    runs.learning_rate, floors.transpose('seed', 'learning_rate'), confidence=view.confidence
  )[1]


def rough_runs(view) -> Interval:
  """The share of seeds with which the loss rose at over a tenth of the last quarter's evaluations, at every rate."""
  rising = (_late(view.cell('floor')).train_loss.diff('step') > 0).mean('step')
  return statistics.share((rising.min('learning_rate') > 0.1).values, confidence=view.confidence)


def _late(runs: xr.Dataset) -> xr.Dataset:
  return runs.isel(step=slice(-(runs.sizes['step'] // 4), None))


def gain(view, budget: str, model: str = MEASURED) -> Interval:
  """Accuracy at equal time, the best batch size in 32-256 minus the best outside, by measured times or a cost model.

  On all images that were held out: on the graded seeds nothing is chosen by those for validation.
  """
  cell = view.cell('trade').sel(model=model, budget=budget, drop=True)
  share = cell.attrs['num_validation'] / (cell.attrs['num_validation'] + cell.attrs['num_test'])
  accuracy = share * cell.validation_accuracy + (1 - share) * cell.test_accuracy
  at = lambda arm: accuracy.sel(batch_size=arm[0], learning_rate=arm[1], drop=True)
  shares = view.pairs(budget, model)
  effects = {pair: statistics.paired_interval(*map(at, pair), confidence=view.confidence) for pair in shares}
  return statistics.over_choices(effects, shares)


def cost(view, asked: str) -> Interval:
  """CPU time of an example at other batch sizes over that at powers of two: the geometric mean, over processes."""
  means = np.exp(np.log(cost_ratios(view, asked).values).mean(axis=1))
  return statistics.paired_log_ratio(means, np.ones(means.size), confidence=view.confidence)


def cost_ratios(view, asked: str) -> xr.DataArray:
  r"""CPU times over those at powers of two, float[process, batch_size]; a cost a + b B gives exactly 1.

  Neighbours on both sides of a power P have $(t(P-k) + t(P+k)) / 2 t(P)$, other multiples of 16 are held against the
  straight line through the powers around each. All is made of ratios of two sizes: the median over rounds of the ratio
  in one round, whose sizes are timed within a fifth of a second. What slows a process for longer cancels, what does so
  briefly is left out, and it may hit both sizes alike; a sum of two would be hit twice as often, and look dearer.
  """
  powers, seconds, found = view.config.powers, view.cell('powers').cpu_seconds, {}
  at = lambda size: seconds.sel(batch_size=size, drop=True)
  ratio = lambda a, b: (at(a) / at(b)).median('round')
  if asked == 'between':
    for size in powers.between:
      below = max(power for power in powers.sizes if power < size)
      above = min(power for power in powers.sizes if power > size)
      share = (size - below) / (above - below)
      found[size] = 1 / ((1 - share) * ratio(below, size) + share * ratio(above, size))
  else:
    offset = powers.offsets[NEIGHBOURS.index(asked)]
    found = {P: (ratio(P - offset, P) + ratio(P + offset, P)) / 2 for P in powers.sizes}
  return xr.concat([*found.values()], xr.Variable('batch_size', [*found])).transpose('process', 'batch_size')


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


def tracking_ratio(view, drift: float, window: bool) -> Interval:
  """Squared error of full batch, refitted to all before or to a tuned window, over that of single-example descent."""
  late, choose = view.stream(drift)

  def effect(rate: float, size: int | None = None) -> Interval:
    full = late.full if size is None else late.windowed.sel(window=size, drop=True)
    single = late.single.sel(learning_rate=rate, drop=True)
    return statistics.paired_log_ratio(full, single, confidence=view.confidence)

  chosen = [choose['rate'], choose['window']] if window else [choose['rate']]
  return view.after_choice(effect, chosen, scale='log')
