"""The effects: from what one set of seeds has measured to Intervals. A run that failed has an infinite loss."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from experiments.learning_rate.rates import exact, tasks
from experiments.learning_rate.rates.tasks import for_tuning, ids
from gdlab import statistics, study, theory
from gdlab.statistics import Interval
from gdlab.study import View

LEAST, LARGER, BEYOND = (
  4,
  16,
  1024,
)  # batch sizes of L9: where the rate is tuned, below and beyond the noise scale
FREE = tasks.ARMS[1:]  # that know no horizon
FEW = 10  # updates
LARGE, SMALL = 32.0, 1 / 64  # times the best rate: too large, too small


def tuning(view: View) -> np.ndarray:
  """The numbers of all tuning seeds."""
  return np.arange(len(for_tuning(view.config)))


def chosen_by(task: str) -> str:
  """What rates are chosen by."""
  return 'excess' if task == 'regression' else 'validation_loss'


def graded_by(task: str) -> str:
  """What a schedule is to make small."""
  return 'excess' if task == 'regression' else 'test_loss'


def trials(view: View, task: str, names: Sequence[str], variable: str, share: float = 1.0) -> xr.DataArray:
  """A variable after a share of the updates, [trial, seed]: of each name, an arm or a fixed schedule, all rates."""
  found = []
  for name in names:
    cell = view.cell(f'trained_{task}_{name if name in FREE else "fixed"}')
    cell = cell if name in FREE else cell.sel(schedule=name)
    last = cell.sel(step=round(share * int(cell.step[-1])))
    values = study.unless_failed(last, variable, np.inf).transpose('learning_rate', 'seed')
    found.append(values.drop_vars(['schedule', 'step'], errors='ignore').rename(learning_rate='trial'))
  table = xr.concat(found, 'trial')
  return table.assign_coords(trial=np.arange(table.sizes['trial']))


def rate(view: View, task: str, names: Sequence[str], trial: int) -> tuple[str, float, Sequence[float]]:
  """A trial's name and rate, and the rates that were tried."""
  options = view.config.rates.schedules
  number, place = divmod(trial, len(options.prodigy_rates))
  name = names[number]
  tried = options.prodigy_rates if name == 'Prodigy' else getattr(options, f'{task}_rates')
  return name, tried[place], tried


def chooser(view: View, task: str, names: Sequence[str], variable: str = '', share: float = 1.0):
  """The best trial of some, by numbers of tuning seeds; of those that know no horizon after half of the updates."""
  share = 0.5 if set(names) <= {*FREE} else share
  values = trials(view, task, names, variable or chosen_by(task), share)
  return study.chooser(values.sel(seed=for_tuning(view.config)), 'trial')


def loss_ratio(
  view: View, task: str, mine: Sequence[str], other: Sequence[str], bound: bool = False
) -> Interval:
  """The loss at the end of the best trial of some over that of the best of others, paired by seed.

  With `bound` that is the training loss, of which the bound speaks, by which trials are chosen then, too.
  """
  variable = bounded_by(task) if bound else graded_by(task)
  both = [trials(view, task, names, variable).sel(seed=ids(view.config)) for names in (mine, other)]
  choose = [chooser(view, task, names, variable if bound else '') for names in (mine, other)]

  def ratio(first: int, second: int) -> Interval:
    return statistics.paired_log_ratio(
      both[0].sel(trial=first, drop=True), both[1].sel(trial=second, drop=True), confidence=view.confidence
    )

  return study.after_choice(ratio, choose, len(tuning(view)), scale='log')


def bounded_by(task: str) -> str:
  """What the bound speaks of."""
  return 'excess' if task == 'regression' else 'train_loss'


def bounds(num_steps: int) -> np.ndarray:
  """The last-iterate bound of the schedules of L14, each at its best constant factor, with D = G = 1."""
  rows = dict(zip(tasks.SCHEDULES, tasks.factors(num_steps), strict=True))
  return np.array(
    [theory.last_iterate_bound(rows[name].astype(float), 1.0, 1.0).best for name in tasks.BOUNDED]
  )


def ranked(view: View, task: str) -> np.ndarray:
  """What the bound speaks of at the end, of the schedules of L14 at their best rates, float[schedule, graded seed]."""
  variable, found = bounded_by(task), []
  for name in tasks.BOUNDED:
    trial = chooser(view, task, (name,), variable)(tuning(view))
    found.append(trials(view, task, (name,), variable).sel(trial=trial, seed=ids(view.config)).values)
  return np.stack(found)


def bound_correlation(view: View, task: str) -> Interval:
  """Spearman's correlation of bounds and losses over the schedules of L14, mean over seeds."""
  order = bounds(view.config.rates.schedules.updates)
  each = [statistics.rank_correlation(order, losses) for losses in ranked(view, task).T]
  return statistics.bootstrap(each, confidence=view.confidence)


def over_bound(view: View) -> Interval:
  """The largest ratio of the mean excess on the stream to its bound, over schedules of L14 and rates.

  The start is sqrt(d) from the minimiser, and E|g|^2 <= d/B + (1 - 1/B) 2/pi, as a mean gradient has no norm above
  sqrt(2/pi). Failed runs have no finite mean.
  """
  options, rows = view.config.rates.schedules, tasks.factors(view.config.rates.schedules.updates)
  size, worst = options.batch_size, []
  norm = np.sqrt(tasks.DIMENSION / size + (1 - 1 / size) * 2 / np.pi)
  for name, row in zip(tasks.SCHEDULES, rows, strict=True):
    if name in tasks.BOUNDED:
      rates = np.asarray(options.regression_rates)[:, None] * row.astype(float)
      law = theory.last_iterate_bound(rates, np.sqrt(tasks.DIMENSION), norm).value
      found = trials(view, 'regression', (name,), 'excess').sel(seed=ids(view.config)).values
      worst += [
        _ratio_of_means(each, np.full_like(each, bound), view.confidence) for each, bound in zip(found, law)
      ]
  return max(worst, key=lambda interval: interval.high)


def reduced(view: View, task: str) -> Interval:
  """The share of runs of the plateau rule, at its best rate, that reduced it at all."""
  cell = view.cell(f'trained_{task}_plateau').transpose('learning_rate', 'seed', 'step')
  trial = chooser(view, task, ('plateau',))(tuning(view))
  scale = cell.scale.sel(seed=ids(view.config)).values[trial, :, -1]
  return statistics.share(scale < 1, confidence=view.confidence)


def border_error(view: View, method: str) -> Interval:
  """The largest relative error of the border found, of all seeds and condition numbers."""
  # `sel(method=...)` would be xarray's way of inexact look-up.
  found = [view.cell(f'border_{each}').over_formula.sel({'method': method}) for each in conditions(view)]
  errors = np.abs(np.stack([each.values for each in found]) - 1)
  return statistics.exactly(errors.max(), num=errors.size)


def conditions(view: View) -> Sequence[int]:
  """The condition numbers of the quadratics."""
  return view.config.rates.quadratics.conditions


def line_searches(view: View, start: str) -> list[xr.Dataset]:
  """Exact line searches by condition number."""
  return [view.cell(f'cauchy_{each}').sel(start=start) for each in conditions(view)]


def worst_error(view: View) -> Interval:
  """The largest relative error of a step's share of f from the worst start, against the formula."""
  errors = [np.abs(each.left / each.rate - 1).max().item() for each in line_searches(view, 'worst')]
  return statistics.exactly(max(errors), num=len(errors))


def above_bound(view: View) -> Interval:
  """The largest share of f that a step from a random start left, over the bound."""
  return statistics.exactly(
    max((each.left / each.rate).max().item() for each in line_searches(view, 'random'))
  )


def right_angle(view: View) -> Interval:
  """The largest cosine of the angle between two successive steps from random starts, in size."""
  return statistics.exactly(max(np.abs(each.turn).max().item() for each in line_searches(view, 'random')))


def parallel(view: View, condition: int) -> Interval:
  """The cosine of the angle between a step and the one after the next, at the end of runs from random starts."""
  found = view.cell(f'cauchy_{condition}')['return'].sel(start='random').isel(step=-1)
  return statistics.bootstrap(found.values, confidence=view.confidence)


def typical_rate(view: View, condition: int) -> Interval:
  """How often as many steps as the worst case a random start needs, in the second half: the ratio of logarithms."""
  found = view.cell(f'cauchy_{condition}').sel(start='random')
  half = np.log(found.left.transpose('seed', 'step').values)[:, found.sizes['step'] // 2 :].mean(axis=1)
  return statistics.bootstrap(np.log(found.rate.values) / half, confidence=view.confidence)


def decay(view: View, kind: str, exponent: float) -> Interval:
  """The mean excess at the end over that at a sixteenth of the updates."""
  found = view.cell(f'decays_{kind}').excess.sel(exponent=exponent).transpose('seed', 'step')
  ends = found.values[:, [int(np.argmin(np.abs(found.step.values - found.step.values[-1] // 16))), -1]]
  return _ratio_of_means(ends[:, 1], ends[:, 0], view.confidence)


def over_floor(view: View, kind: str) -> Interval:
  """The mean excess at the end under a constant rate over its closed form."""
  found = view.cell(f'decays_{kind}').excess.sel(exponent=0.0).isel(step=-1).values
  law = exact.floor(kind, view.config.rates.decays.first_rate)
  return _ratio_of_means(found, np.full_like(found, law), view.confidence)


def frozen(view: View, kind: str, fast: float, slow: float) -> Interval:
  """The mean excess at the end of too fast a decay over that of another."""
  last = view.cell(f'decays_{kind}').excess.isel(step=-1)
  return _ratio_of_means(last.sel(exponent=fast).values, last.sel(exponent=slow).values, view.confidence)


def _ratio_of_means(a: np.ndarray, b: np.ndarray, confidence: float) -> Interval:
  return statistics.jackknife(
    lambda runs: a[runs].mean() / b[runs].mean(), len(a), scale='log', confidence=confidence
  )


def warmed(view: View, method: str) -> xr.DataArray:
  """The training loss at the end after warm-ups, [share, peak, seed]."""
  last = view.cell(f'warm_up_{method}').isel(step=-1)
  return study.unless_failed(last, 'train_loss', np.inf).transpose('share', 'peak', 'seed')


def trains(view: View, method: str) -> xr.DataArray:
  """Which of these runs count as trained."""
  return warmed(view, method) < view.config.rates.warm_up.trained


def largest_peak(view: View, method: str, share: float) -> float:
  """The largest peak at which three in four tuning runs with a length of warm-up train, or the least one."""
  good = trains(view, method).sel(share=share, seed=for_tuning(view.config)).mean('seed') >= 0.75
  return float(good.peak[good].max() if good.any() else good.peak[0])


def share_trained(view: View, method: str, share: float, warmed: float) -> Interval:
  """The share of runs with a length of warm-up that train at the largest peak of the length `warmed`."""
  peak = largest_peak(view, method, warmed)
  return statistics.share(
    trains(view, method).sel(share=share, peak=peak, seed=ids(view.config)).values, confidence=view.confidence
  )


def gain_growth(view: View, method: str, share: float) -> Interval:
  """The factor that warm-up takes off the loss at the largest peak that trains without, over that at the least peak."""
  last = warmed(view, method).sel(seed=ids(view.config))
  gain = last.sel(share=0.0) / last.sel(share=share)
  large, small = gain.sel(peak=largest_peak(view, method, 0.0)), gain.isel(peak=0)
  return statistics.paired_log_ratio(large.values, small.values, confidence=view.confidence)


def ended(view: View, change: str, variable: str = 'train_loss') -> xr.DataArray:
  """The loss at the end of training, [learning_rate, seed]."""
  last = view.cell(f'transfer_{change}').isel(step=-1)
  return study.unless_failed(last, variable, np.inf).transpose('learning_rate', 'seed')


def best_rate(view: View, change: str):
  """The rate of the least loss, by numbers of tuning seeds."""
  return study.chooser(ended(view, change).sel(seed=for_tuning(view.config)), 'learning_rate')


def carried(view: View, change: str) -> Interval:
  """The loss after a change at the best rate from before it over that at its own best rate."""
  losses = ended(view, change).sel(seed=ids(view.config))

  def ratio(old: float, own: float) -> Interval:
    both = (losses.sel(learning_rate=each).values for each in (old, own))
    return statistics.paired_log_ratio(*both, confidence=view.confidence)

  choose = [best_rate(view, each) for each in ('base', change)]
  return study.after_choice(ratio, choose, len(tuning(view)), scale='log')


def diverges(view: View) -> Interval:
  """The share of full-batch runs whose loss is above that at the start within a few updates, at too large a rate."""
  runs = view.cell('transfer_full').transpose('learning_rate', 'seed', 'step').sel(seed=ids(view.config))
  values = study.unless_failed(runs, 'train_loss', np.inf)
  found = _at_multiple(values, best_rate(view, 'full')(tuning(view)), LARGE)
  early = found.sel(step=(found.step > 0) & (found.step <= FEW))
  return statistics.share((early > found.isel(step=0)).any('step').values, confidence=view.confidence)


def stalls(view: View) -> Interval:
  """The fall of the loss at too small a rate over that at the best one."""
  rate = best_rate(view, 'full')(tuning(view))
  first = view.cell('transfer_full').train_loss.isel(step=0).transpose('learning_rate', 'seed')
  falls = (first - ended(view, 'full')).sel(seed=ids(view.config))
  share = _at_multiple(falls, rate, SMALL) / falls.sel(learning_rate=rate)
  return statistics.bootstrap(share.values, confidence=view.confidence)


def _at_multiple(values: xr.DataArray, rate: float, factor: float) -> xr.DataArray:
  """Values at a multiple of a rate; NaN where it was not tried."""
  near = np.isclose(values.learning_rate.values, factor * rate, rtol=1e-3)
  place = int(np.argmax(near))
  found = values.isel(learning_rate=place, drop=True)
  return found if near.any() else found * np.nan


def taken(view: View, method: str, size: int) -> xr.DataArray:
  """Updates to the target, [learning_rate, seed], infinite for runs that never came there."""
  cell = view.cell(f'batch_{method}_{size}')
  return cell.steps.where(~cell.censored, np.inf).transpose('learning_rate', 'seed')


def fastest_rates(view: View, method: str, size: int) -> np.ndarray:
  """The rate with the fewest updates by seed: the vertex of a parabola through the best and its neighbours, in logs."""
  steps = taken(view, method, size).sel(seed=ids(view.config))
  rates, found = np.log(steps.learning_rate.values), []
  for values in np.log(steps.values).T:
    place = int(np.argmin(values))
    near = slice(max(place - 1, 0), place + 2)
    x, y = rates[near], values[near]
    vertex = rates[place]
    if len(x) == 3 and np.isfinite(y).all() and y[0] + y[2] > 2 * y[1]:
      bend, tilt, _ = np.polyfit(x - vertex, y, 2)
      vertex -= tilt / (2 * bend)
    found.append(np.exp(vertex) if np.isfinite(values[place]) else np.nan)
  return np.array(found)


def rate_slope(view: View, method: str, large: bool) -> Interval:
  """The log-log slope of the fastest rate in B, of the two least or largest batch sizes: its mean over seeds."""
  sizes = view.config.rates.batches.batch_sizes
  sizes = sizes[-2:] if large else sizes[:2]
  rates = np.stack([fastest_rates(view, method, size) for size in sizes], axis=1)
  return statistics.loglog_slope(np.asarray(sizes, float), rates, confidence=view.confidence)[1]


def least_batch_rate(view: View, method: str):
  """The rate with the fewest updates to the target at the least batch size, by numbers of tuning seeds."""
  steps = taken(view, method, LEAST)
  tuning = steps.sel(seed=for_tuning(view.config))
  return study.chooser(tuning.copy(data=np.log(tuning.values)), 'learning_rate')


def scaled_up(view: View, method: str, size: int, test: bool = False) -> Interval:
  """Examples to the target at a batch size with the rate scaled up by its rule, over those of the least batch size.

  A run that never came there counts with all it had, a lower bound. With `test` it is the test loss there.
  """

  def of(which: int) -> xr.DataArray:
    cell = (
      view.cell(f'batch_{method}_{which}').transpose('learning_rate', 'seed', ...).sel(seed=ids(view.config))
    )
    return cell.test_loss if test else cell.steps * which

  def ratio(rate: float) -> Interval:
    scaled = _at_multiple(of(size), rate, size / LEAST if method == 'SGD' else (size / LEAST) ** 0.5)
    first = of(LEAST).sel(learning_rate=rate)
    return statistics.paired_log_ratio(scaled.values, first.values, confidence=view.confidence)

  return study.after_choice(ratio, [least_batch_rate(view, method)], len(tuning(view)), scale='log')


def noise_scale(view: View) -> Interval:
  """The ratio of tr Sigma to |G|^2 where the loss comes to the target, of means over runs."""
  found = view.cell(f'noise_{LARGER}')
  return _ratio_of_means(found.trace.values, found.square.values, view.confidence)
