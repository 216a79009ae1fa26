"""Effects of the claims: from a `study.Seen`, what one set of seeds has measured, to an interval."""

from typing import Any

import numpy as np
import xarray as xr

from gdlab import statistics, study, theory
from gdlab.statistics import Interval

WINDOW = 1.1  # rates are good whose loss is at most so many times the best


def ended(runs: xr.Dataset, variable: str) -> xr.DataArray:
  """A variable at the end; a run that failed has learnt nothing: the loss of its start, and accuracy 0."""
  last = study.unless_failed(runs.isel(step=-1, drop=True), variable, np.nan)
  return last.fillna(0.0 if variable.endswith('accuracy') else runs[variable].isel(step=0, drop=True))


def compared(
  view, first: str, second: str, variable: str = 'test_loss', default: float | None = None
) -> Interval:
  """A loss at the end, one arm's over another's (of accuracy the difference), each at its tuned rate.

  With `default` the first has that rate, and the second the best of the others.
  """
  is_loss = variable.endswith('loss')
  pair: Any = statistics.paired_log_ratio if is_loss else statistics.paired_interval
  choose = [
    view.chooser(first) if default is None else lambda runs: default,
    view.chooser(second, without=default),
  ]

  def effect(*rates: float) -> Interval:
    ends = [
      ended(view.graded(cell, rate), variable) for cell, rate in zip((first, second), rates, strict=True)
    ]
    return pair(*ends, confidence=view.confidence)

  return view.after_choice(effect, choose, is_loss)


def window(view, cell: str, runs: Any = slice(None)) -> float:
  """Decades of rates at which the geometric mean of test losses is at most `WINDOW` times the best, interpolated."""
  losses = ended(view.graded(cell), 'test_loss').transpose('seed', 'learning_rate')
  mean, rates = np.log(losses.values[runs]).mean(axis=0), np.log10(losses.learning_rate.values)
  low, high = np.minimum(mean[:-1], mean[1:]), np.maximum(mean[:-1], mean[1:])
  limit = mean.min() + np.log(WINDOW)
  # Of each step of the grid the share that is below the limit, on a straight line.
  good = np.clip((limit - low) / np.maximum(high - low, 1e-12), 0, 1)
  return float(np.sum(good * np.diff(rates)))


def window_gain(view, first: str, second: str) -> Interval:
  """One arm's window minus another's, in decades."""
  gain = lambda runs: window(view, first, runs) - window(view, second, runs)
  return statistics.jackknife(gain, view.config.seeds.count, confidence=view.confidence)


def time_to(curve: np.ndarray, target: float) -> float:
  """The share of a run that has passed when its loss is first at the target, interpolated; 1 if it never is."""
  below = curve <= target
  place = int(below.argmax())
  if not below.any() or place == 0:
    return float(not below.any())
  before, after = min(curve[place - 1], 1e30), curve[place]
  return float((place - (target - after) / (before - after)) / (len(curve) - 1))


def speed_ups(fast: xr.Dataset, slow: xr.Dataset) -> xr.DataArray:
  """By what factor the first arm is sooner at the least training loss that the worse one comes to, by seed."""
  curves = [
    study.unless_failed(runs, 'train_loss', np.inf).transpose('seed', 'step') for runs in (fast, slow)
  ]
  found = []
  for pair in zip(*(curve.values for curve in curves), strict=True):
    target = max(curve.min() for curve in pair)
    sooner, later = (max(time_to(curve, target), 1e-3) for curve in pair)
    found.append(later / sooner)
  return curves[0].isel(step=0, drop=True).copy(data=found)


def advantage(view, *cells: str) -> Interval:
  """The speed-up of the first arm over the second, over that of the third over the fourth, at rates of least loss."""

  def effect(*rates: float) -> Interval:
    runs = [view.graded(cell, rate) for cell, rate in zip(cells, rates, strict=True)]
    return statistics.paired_log_ratio(speed_ups(*runs[:2]), speed_ups(*runs[2:]), confidence=view.confidence)

  return view.after_choice(effect, [view.chooser(cell, 'train_loss') for cell in cells])


def size_slopes(view, method: str) -> np.ndarray:
  """Of each seed the log-log slope, over parameters, of update over gradient in the gradient, root mean squares."""
  slopes = []
  for gradient, update in (
    view.cell('sizes').rms.sel(rule=method).transpose('seed', 'kind', 'parameter').values
  ):
    used = (
      gradient > 1e-5
    )  # below, of units that are off and pixels that are blank, Adam's eps is what counts
    slopes.append(np.polyfit(np.log(gradient[used]), np.log(update[used] / gradient[used]), 1)[0])
  return np.asarray(slopes)


def size_slope(view, method: str) -> Interval:
  """Their mean; of plain descent, whose steps are the rate times the gradient, the largest."""
  slopes = size_slopes(view, method)
  if method == 'plain':
    return statistics.exactly(float(np.abs(slopes).max()), num=len(slopes))
  return statistics.bootstrap(slopes, confidence=view.confidence)


def overfitting(view, cell: str, variable: str) -> Interval:
  """A loss at the end over that where the validation loss was least, at the rate of the least of these."""

  def effect(rate: float) -> Interval:
    runs = view.graded(cell, rate)
    least = study.unless_failed(runs, 'validation_loss', np.inf).argmin('step')
    pair = ended(runs, variable), runs[variable].isel(step=least).drop_vars('step')
    return statistics.paired_log_ratio(*pair, confidence=view.confidence)

  return view.after_choice(effect, [view.chooser(cell, least=True)])


def at_equal_fit(view, first: str, second: str) -> Interval:
  """Validation loss where the training loss first is at the target, at the end if never, one arm's over another's."""

  def reached(cell: str, rate: float) -> xr.DataArray:
    runs = view.graded(cell, rate)
    below = study.unless_failed(runs, 'train_loss', np.inf) <= view.config.overfit.target
    place = below.argmax('step').where(below.any('step'), runs.sizes['step'] - 1).astype(int)
    return runs.validation_loss.isel(step=place).drop_vars('step')

  def effect(*rates: float) -> Interval:
    pair = map(reached, (first, second), rates)
    return statistics.paired_log_ratio(*pair, confidence=view.confidence)

  return view.after_choice(effect, [view.chooser(cell, least=True) for cell in (first, second)])


def slope(view, method: str) -> Interval:
  """The log-log slope of updates to the tolerance in the condition number."""
  found = view.cell('quadratic').updates.sel(rule=method).transpose('seed', 'condition')
  return statistics.loglog_slope(found.condition.values, found.values, confidence=view.confidence)[1]


def missed(view) -> Interval:
  """Runs that the closed form has at the tolerance after another number of updates."""
  found = view.cell('quadratic').missed
  return statistics.exactly(float(found.sum()), num=found.sizes['seed'])


def path(view, method: str) -> Interval:
  """The way along the steepest direction at the largest condition number, over plain descent's."""
  found = view.cell('quadratic').path.isel(condition=-1, drop=True)
  pair = (found.sel(rule=name, drop=True) for name in (method, 'plain'))
  return statistics.paired_log_ratio(*pair, confidence=view.confidence)


def left(view, trial: str) -> np.ndarray:
  """Which runs ended in the deeper well."""
  runs = view.cell('valleys').sel(trial=trial).isel(step=-1)
  return ((runs.place < runs.attrs['ridge']) & (runs.status == 0)).values


def leaving(view, trial: str) -> Interval:
  """The share of runs that left, with beta .99 minus with .9."""
  return statistics.share_difference(left(view, trial), left(view, 'usual'), confidence=view.confidence)


def broken(view, kind: str) -> Interval:
  """Of systems that converge when updated together the share that does not one after another."""
  together, after = view.cell('orders').converges.sel(kind=kind).values.astype(bool)
  return statistics.share(~after[together], confidence=view.confidence)


def apart(view) -> Interval:
  """The mean size of the relative difference of training losses, layers in turn against together, at the least rate."""
  rate = view.config.order.rates[0]
  ends = [ended(view.graded(f'layers_{order}', rate), 'train_loss') for order in ('after', 'together')]
  return statistics.bootstrap(np.abs(np.log((ends[0] / ends[1]).values)), confidence=view.confidence)


def broken_networks(view) -> Interval:
  """The share of seeds with a rate at which updating together ends below its start and layer after layer does not."""
  runs = [view.graded(f'layers_{order}') for order in ('together', 'after')]
  together, after = (ended(run, 'train_loss') < run.train_loss.isel(step=0, drop=True) for run in runs)
  return statistics.share((together & ~after).any('learning_rate').values, confidence=view.confidence)


def learns(view, clip: str, fails: bool = False) -> Interval:
  """The share of runs at the largest rate that end below half the loss of their start, or that do not."""
  runs = view.graded(f'explosion_{clip}', view.config.explosion.rates[-1])
  good = (ended(runs, 'train_loss') < 0.5 * runs.train_loss.isel(step=0, drop=True)).values
  return statistics.share(good != fails, confidence=view.confidence)


def law_error(view, method: str) -> Interval:
  r"""The largest error of the times to a loss against closed forms, over what it may be.

  Sign descent: u = 2 * rate * updates, rounded up to a whole update. Gradient descent: with du/dt = f(u) and f
  decreasing, n steps of size a to u have $0 \le t(u) - an \le a\sum(f_i/f_{i+1} - 1)$, about $a \ln(f_0/f_n)$; and
  rounded up.
  """
  run, options = view.cell('one_hot'), view.config.classes
  others, updates = options.count - 1, run.updates.sel(rule=method).values
  margin = np.log(others / np.expm1(options.loss))
  if method == 'sign':
    errors = np.abs(updates - margin / (2 * options.sign_rate))
  else:
    times = theory.class_time(run.share.values, options.loss, num_classes=options.count)
    bound = 1 + 1.1 * np.log((np.exp(margin) + others) / options.count)
    errors = np.abs(updates - times / options.flow_rate) / bound
  return statistics.exactly(float(errors.max()), num=errors.size)


def class_slope(view, method: str) -> Interval:
  """The log-log slope of the time to the loss in a class's share."""
  run = view.cell('one_hot').sel(rule=method)
  found = np.polyfit(np.log(run.share.values), np.log(run.updates.values), 1)[0]
  return statistics.exactly(float(found), num=run.sizes['share'])


def sharpness(view, b1: float) -> xr.DataArray:
  """The preconditioned sharpness over the border, float[seed, step], without the start, where Adam has no v yet."""
  runs, rate = view.cell('border').sel(b1=b1), view.config.border.rate
  found = study.unless_failed(runs, 'sharpness', np.nan).isel(step=slice(1, None))
  return (found / ((2 + 2 * b1) / ((1 - b1) * rate))).transpose('seed', 'step')


def sharpness_at(view, b1: float, late: bool) -> Interval:
  """Its mean over the last third, or its least value in the first."""
  found = sharpness(view, b1)
  third = found.sizes['step'] // 3
  part = found.isel(step=slice(-third, None) if late else slice(third))
  values = part.mean('step', skipna=False) if late else part.min('step', skipna=False)
  return statistics.bootstrap(values.values, confidence=view.confidence)
