"""What effects and pictures ask of one set of seeds, and the effects of the claims: from that to Intervals."""

from collections.abc import Callable

import numpy as np
import xarray as xr

from gdlab import statistics, study
from gdlab.statistics import Interval

BUFFERS = (1, 10, 50)  # per cent of the data
FEW = ('sorted', 'unsorted', 'reshuffled', *(f'buffer of {share} %' for share in BUFFERS))
ARMS = (*FEW, 'blocks of 5 %', 'shuffled once', 'with replacement')
BENCHES = {'single': ARMS, 'mini': ARMS, 'cnn': FEW}  # convolutions take their time


class View(study.View):
  """What one set of seeds has measured, with the questions that several effects ask."""

  def words(self, bench: str) -> str:
    """A bench in words."""
    size = {'single': 1, 'mini': self.config.perceptron.batch_size, 'cnn': self.config.cnn.batch_size}[bench]
    return f'{"convolutions" if bench == "cnn" else "perceptron"}, B={size}'

  def late(self, bench: str, arm: str, seeds: list[int]) -> xr.DataArray:
    """Training losses in the last epoch, [learning_rate, seed, step]; all of a failed run are its first."""
    cell = self.cell(f'training_{bench}')
    runs = cell.sel(arm=arm, seed=seeds, drop=True)
    last = runs.step >= runs.step[-1] - cell.attrs['epoch']
    losses = study.unless_failed(runs, 'loss', np.nan).isel(step=np.flatnonzero(last.values))
    first = runs.loss.isel(step=0, drop=True)
    return losses.where(losses.notnull().all('step'), first).transpose('learning_rate', 'seed', 'step')

  def graded(self, bench: str) -> list[int]:
    """The seeds that a bench is graded on."""
    return self.config.seeds.ids[: (self.config.cnn if bench == 'cnn' else self.config.perceptron).num_seeds]

  def chooser(self, bench: str, arm: str) -> Callable[[np.ndarray], float]:
    """The rate of an arm by numbers of tuning seeds: that of the least mean loss over the last epoch."""
    return study.chooser(self.late(bench, arm, self.config.seeds.for_tuning).mean('step'), 'learning_rate')

  def rate(self, bench: str, arm: str) -> str:
    """The tuned rate in words."""
    chosen = self.chooser(bench, arm)(np.arange(self.config.seeds.tuning))
    return study.at_an_end(chosen, self.cell(f'training_{bench}').learning_rate.values.tolist())


def cost(view: View, bench: str, arm: str, base: str = 'reshuffled', what: str = 'mean') -> Interval:
  """The mean loss of an arm over the last epoch over that of another, each at its tuned rate.

  With `what='swing'` the same of the largest less the smallest loss within the last epoch; a run that failed has none,
  and its seed is excluded.
  """

  def effect(*rates: float) -> Interval:
    found = []
    for name, rate in zip((arm, base), rates, strict=True):
      late = view.late(bench, name, view.graded(bench)).sel(learning_rate=rate, drop=True)
      swing = late.max('step') - late.min('step')
      found.append(late.mean('step') if what == 'mean' else swing.where(swing > 0))
    return statistics.paired_log_ratio(*found, confidence=view.confidence)

  choose = [view.chooser(bench, name) for name in (arm, base)]
  return study.after_choice(effect, choose, view.config.seeds.tuning, scale='log')


def floor_slope(view: View, cell: str, name: str) -> Interval:
  """The log-log slope of a floor in the rate."""
  floors = view.cell(cell).floor.sel(order=name, drop=True).transpose('seed', 'learning_rate')
  return statistics.loglog_slope(floors.learning_rate.values, floors.values, confidence=view.confidence)[1]


def floor_ratio(view: View, name: str, base: str, place: int) -> Interval:
  """The floor of one order over that of another on logistic regression, at one of the rates."""
  floors = view.cell('logistic_floors').floor.isel(learning_rate=place, drop=True)
  pair = (floors.sel(order=each, drop=True) for each in (name, base))
  return statistics.paired_log_ratio(*pair, confidence=view.confidence)


def published_slope(view: View, name: str, variable: str) -> Interval:
  """The log-log slope of the mean squared error in n at fixed k, or in k at fixed n."""
  found = view.cell('published').sel(order=name, along=variable)
  x, errors = np.log(found[variable].values.astype(float)), found.square.transpose('seed', 'point').values

  def slope(seeds: np.ndarray) -> float:
    return float(np.polyfit(x, np.log(errors[seeds].mean(axis=0)), 1)[0])

  if name == 'sorted':  # nothing is random in one order of the same data
    return statistics.exactly(slope(np.arange(len(errors))), num=len(errors))
  return statistics.jackknife(slope, len(errors), confidence=view.confidence)


def over_exact(view: View, cell: str, name: str) -> Interval:
  """What was measured over its exact value, mean over rates, or over n and k."""
  found = view.cell(cell).sel(order=name)
  ratios = (
    found[{'quadratic_floors': 'floor', 'published': 'square', 'pairs': 'variance'}[cell]] / found.exact
  )
  means = ratios.mean([dim for dim in ratios.dims if dim != 'seed']).values
  if name == 'sorted':
    return statistics.exactly(float(means.max()), num=len(means))
  return statistics.bootstrap(means, confidence=view.confidence)


def worst_case(view: View, base: str) -> Interval:
  """The error of the sorted order over that of another, for the most examples."""
  most = view.cell('published').square.sel(along='n').isel(point=-1)
  return ratio_of_means(view, *(most.sel(order=name).values for name in ('sorted', base)))


def ratio_of_means(view: View, top: np.ndarray, bottom: np.ndarray) -> Interval:
  """The mean over seeds of one variance over that of another."""

  def ratio(seeds: np.ndarray) -> float:
    return float(top[seeds].mean() / bottom[seeds].mean())

  return statistics.jackknife(ratio, len(top), scale='log', confidence=view.confidence)


def variance_ratio(view: View, name: str, place: int, base: str = 'uniform') -> Interval:
  """The variance of one estimate over that of another at one of the evaluations."""
  found = view.cell('importance').isel(step=place)
  pair = (found[f'variance.{each}'].rename('variance') for each in (name, base))
  return statistics.paired_log_ratio(*pair, confidence=view.confidence)


def falls(view: View, name: str) -> tuple[np.ndarray, np.ndarray]:
  """Falls of the log error per pass in the first and second half of the fall, float[seed, multiple].

  From where it is 1e-2 down to 1e-20, or to the last pass: below is rounding.
  """
  squares = view.cell('reduced').square.sel(estimator=name).transpose('seed', 'multiple', 'passes').values
  first, second = np.full((2, *squares.shape[:2]), np.nan)
  for run in np.ndindex(squares.shape[:2]):
    logs = np.log(squares[run])
    begin = int(np.argmax(logs <= np.log(1e-2)))
    below = np.flatnonzero(logs <= np.log(1e-20))
    end = int(below[0]) if below.size else len(logs) - 1
    middle = (begin + end) // 2
    if begin < middle < end and logs[begin] <= np.log(1e-2):
      first[run] = (logs[begin] - logs[middle]) / (middle - begin)
      second[run] = (logs[middle] - logs[end]) / (end - middle)
  return first, second


def straightness(view: View, name: str) -> Interval:
  """The fall of the log error per pass in the second half over that in the first, mean over rates."""
  first, second = falls(view, name)
  return statistics.bootstrap((second / first).mean(axis=1), confidence=view.confidence)


def end_ratio(view: View, name: str) -> Interval:
  """The error after all passes over that of SGD, the largest over rates of the mean ratio."""
  last = view.cell('reduced').square.isel(passes=-1)
  top, bottom = (last.sel(estimator=each, drop=True).transpose('multiple', 'seed') for each in (name, 'SGD'))
  pairs = zip(top.values, bottom.values, strict=True)
  intervals = [statistics.paired_log_ratio(*pair, confidence=view.confidence) for pair in pairs]
  return max(intervals, key=lambda interval: interval.high)


def over_guarantee(view: View) -> Interval:
  """SAGA's fall of the log error per pass at 1/(3L) over the guaranteed -N log(1 - min(1/4N, mu/3L)).

  Source: Defazio, Bach and Lacoste-Julien 2014, arXiv 1407.0202, corollary 1.
  """
  cell, count = view.cell('reduced'), view.config.reduced.num_examples
  first, second = falls(view, 'SAGA')
  number = int(np.argmin(np.abs(cell.multiple.values - 1 / 3)))
  convexity = view.config.convex.l2  # of every example
  guaranteed = -count * np.log1p(-min(1 / (4 * count), convexity / (3 * cell.attrs['smoothness'])))
  return statistics.bootstrap((first + second)[:, number] / 2 / guaranteed, confidence=view.confidence)


def still_falls(view: View) -> Interval:
  """SGD's mean error in the last eighth of the passes over that in the eighth before, mean over rates."""
  squares = view.cell('reduced').square.sel(estimator='SGD').transpose('seed', 'multiple', 'passes').values
  eighth = squares.shape[-1] // 8
  parts = squares[..., -eighth:], squares[..., -2 * eighth : -eighth]
  pair = (np.exp(np.log(part.mean(axis=-1)).mean(axis=1)) for part in parts)
  return statistics.paired_log_ratio(*pair, confidence=view.confidence)


def deviation_slope(view: View, variable: str, name: str) -> Interval:
  """The log-log slope in the rate of the standard deviation between orders after two epochs."""
  found = view.cell('pairs')[variable].sel(order=name).transpose('seed', 'rate')
  return statistics.loglog_slope(found.rate.values, np.sqrt(found.values), confidence=view.confidence)[1]


def block_ratio(view: View, layout: str) -> Interval:
  """The variance between orders after an epoch, blocks over reshuffled."""
  found = view.cell('blocks').variance.sel(layout=layout)
  return ratio_of_means(view, *(found.sel(order=each).values for each in ('blocks', 'reshuffled')))
