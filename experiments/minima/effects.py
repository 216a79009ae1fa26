"""What claims, pictures and tables ask of one set of seeds, and the effects of the claims N1-N7."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import xarray as xr

import gdlab
from experiments.minima import networks
from gdlab import statistics, study
from gdlab.statistics import Interval

# What counts as a barrier between networks: 2 % of the loss of guessing, as Frankle et al. 2020 (arXiv 1912.05671) take
# 2 % of the error for unconnected. The largest of many points above a chord is never negative: 0 is no threshold.
MARGIN = round(0.02 * math.log(networks.NUM_CLASSES), 3)


Chooser: TypeAlias = Callable[[np.ndarray], Any]


class View(study.View):
  """The stored results of one set of seeds, with the questions that several effects ask."""

  def __init__(self, *given: Any):
    super().__init__(*given)
    self._choosers: dict[str, dict[str, Chooser]] = {}  # shared with copies of another confidence

  def choosers(self, cell: str) -> dict[str, Chooser]:
    """How tuning runs choose, by arm; made once, for effects ask again and again of the same draws of the runs."""
    if cell not in self._choosers:
      made = networks.dose_choosers if cell.startswith('dose') else networks.rate_choosers
      self._choosers[cell] = {arm: _remembered(choose) for arm, choose in made(self.cell(cell)).items()}
    return self._choosers[cell]

  def valley(self, name: str, batch_size: int, rate: float | None = None) -> xr.Dataset:
    """Runs from one valley at a rate, by default the main one: when each reached the other minimum and returned."""
    rate = self.config.valleys.learning_rate if rate is None else rate
    return self.cell(f'leave_{name}').isel(step=-1).sel(batch_size=batch_size, learning_rate=rate)

  def left(self, name: str, batch_size: int, rate: float | None = None, by: int | None = None) -> np.ndarray:
    """Whether each run got to the other minimum, in the updates of the verdicts or in so many."""
    reached = self.valley(name, batch_size, rate).reached.values
    return (reached > 0) & (reached <= (self.config.valleys.updates if by is None else by))

  def patience(self, name: str, rate: float | None = None) -> int:
    """Updates in which a single-example run thrown into the other valley may come back.

    `patience` times the median time in of those thrown in, at most the `return_updates` that all were followed.
    """
    options = self.config.valleys
    thrown = self.valley(name, 1, rate).reached.values[self.left(name, 1, rate)]
    wanted = options.patience * float(np.median(thrown)) if thrown.size else np.inf
    return int(min(options.return_updates, np.ceil(wanted)))

  def stayed(self, name: str, rate: float | None = None) -> np.ndarray:
    """Of the single-example runs thrown into the other valley: whether each was there `patience` updates later."""
    runs = self.valley(name, 1, rate)
    back = (runs.returned > 0) & (runs.returned - runs.reached <= self.patience(name, rate))
    return ~back.values[self.left(name, 1, rate)]

  def escapes(self, name: str) -> np.ndarray:
    """A variable of the first passages, [batch size, barrier, ...]."""
    cells = (self.cell(f'escape_{size}') for size in self.config.escape.batch_sizes)
    return np.stack([cell[name].transpose('barrier', ...).values for cell in cells])

  def forks(self, *rates: float) -> xr.Dataset:
    """Where forks ended at rates of mini-batches and of single examples, by default those that tuning chose."""
    runs = self.cell('fork').transpose('choice', 'seed', 'fork', 'arm')
    made = np.stack([runs.mini_rate, runs.single_rate], axis=1).tolist()
    return runs.isel(choice=made.index([*rates]) if rates else 0)

  def after_rates(self, effect: Callable[[xr.Dataset], Interval]) -> Interval:
    """An effect of the forks, allowing for other choices of the tuning seeds."""
    choosers = [self.choosers('fork_tuning')[arm] for arm in ('mini', 'single')]
    num = self.cell('fork_tuning').sizes['seed']
    return study.after_choice(lambda *rates: effect(self.forks(*rates)), choosers, num)

  def chosen(self, cell: str) -> dict[str, Any]:
    """What tuning chose for every arm."""
    runs = np.arange(self.cell(cell).sizes['seed'])
    return {arm: choose(runs) for arm, choose in self.choosers(cell).items()}

  def rate(self) -> float:
    """The rate that tuning chose for networks of all widths."""
    return self.chosen('width_tuning')['rate']

  def widths(self, variable: str, rate: float, only: int | None = None) -> np.ndarray:
    """What was measured of the networks at a rate, [draw of the data, ..., width]: of all widths, or of one."""
    hidden, num = ([only], None) if only else (self.config.widths.hidden, self.config.seeds.count)
    cells = (self.cell(f'width_{each}').sel(learning_rate=rate) for each in hidden)
    return np.stack([cell[variable].transpose('seed', ...).values[:num] for cell in cells], axis=-1)

  def over_widths(
    self, statistic: Callable[..., Any], *variables: str, only: int | None = None, scale: str = 'plain'
  ) -> Interval:
    """The jackknife of a statistic of variables over draws of the data, allowing for other choices of the rate.

    A draw is left out with all its networks. With `only` the statistic is given that width alone; one that was not
    measured has no interval.
    """
    if only and only not in self.config.widths.hidden:
      return unmeasured(self)

    def effect(rate: float) -> Interval:
      values = [self.widths(each, rate, only) for each in variables]
      at = lambda draws: statistic(*(array[draws] for array in values))
      return statistics.jackknife(at, len(values[0]), scale=scale, confidence=self.confidence)

    choosers = [self.choosers('width_tuning')['rate']]
    return study.after_choice(effect, choosers, self.config.seeds.tuning, scale=scale)


def _remembered(choose: Chooser) -> Chooser:
  """The same function of the numbers of runs, which keeps what it has found."""
  known = functools.cache(lambda numbers: choose(np.frombuffer(numbers, np.int64)))
  return lambda runs: known(np.asarray(runs, np.int64).tobytes())


def unmeasured(view: View) -> Interval:
  """Of what this configuration does not measure nothing is known."""
  return Interval(np.nan, -np.inf, np.inf, view.confidence, 0, 0)


def full_batch_left(view: View) -> Interval:
  """The share of full-batch runs that left the shallow valley at any of the rates, or diverged."""
  runs = view.cell('leave_poor').isel(step=-1).sel(batch_size=view.config.valleys.num_examples)
  return statistics.share(
    ((runs.reached > 0) | (runs.status != gdlab.RUNNING)).any('learning_rate').values,
    confidence=view.confidence,
  )


def least_left(view: View) -> Interval:
  """The share that left the shallow valley where it is least, of those that N1 is asked of; intervals hold at once."""
  arms = view.config.valleys.graded
  confidence = statistics.simultaneous(view.confidence, len(arms))
  shares = [statistics.share(view.left('poor', *arm), confidence=confidence) for arm in arms]
  return min(shares, key=lambda found: found.low)


def left_gain(view: View, more: tuple[str, str], less: tuple[str, str]) -> Interval:
  """The difference of two shares of runs that left, each of a start and a batch size ('single' or 'mini')."""
  sizes = {'single': 1, 'mini': view.config.valleys.mini_batch}
  return statistics.share_difference(
    *(view.left(name, sizes[arm]) for name, arm in (more, less)), confidence=view.confidence
  )


def stay(view: View, name: str, lower: bool) -> Interval:
  """Of the single-example runs that were thrown into the poor valley, the share that had not come back."""
  rate = view.config.valleys.lower_rate if lower else None
  return statistics.share(view.stayed(name, rate), confidence=view.confidence)


def crossed(runs: xr.Dataset, fork: str, arm: str, poorer: bool = False) -> np.ndarray:
  """Whether an arm ended in another valley than full batch, behind a barrier, and in a poorer one; bool[seed].

  A run that diverged has left its valley, and where it is, is poorer.
  """
  losses, barriers = runs.loss.sel(fork=fork), runs.barrier.sel(fork=fork, arm=arm)
  found = barriers > MARGIN
  return (found & (losses.sel(arm=arm) > losses.sel(arm='full') + MARGIN) if poorer else found).values


def crossed_share(view: View, fork: str, arm: str, among: str = '', poorer: bool = False) -> Interval:
  """The share of networks that crossed in an arm, of all or of those that did in another one."""

  def effect(runs: xr.Dataset) -> Interval:
    asked = crossed(runs, fork, among, poorer) if among else slice(None)
    return statistics.share(crossed(runs, fork, arm, poorer)[asked], confidence=view.confidence)

  return view.after_rates(effect)


def crossed_gain(view: View, fork: str, more: str, less: str, poorer: bool = False) -> Interval:
  """The difference of two arms' shares of networks that crossed."""
  return view.after_rates(
    lambda runs: statistics.share_difference(
      *(crossed(runs, fork, arm, poorer) for arm in (more, less)), confidence=view.confidence
    )
  )


def log_rates(view: View) -> Callable[[np.ndarray], np.ndarray]:
  """Logarithms of the escape rates of runs, as a function of their numbers, int[n] -> float[batch size, barrier].

  The maximum-likelihood estimate of exponential waiting times: escapes over the time of all runs, censored or not.
  """
  times, escaped = view.escapes('time'), ~view.escapes('censored')

  def rates(runs: np.ndarray) -> np.ndarray:
    with np.errstate(divide='ignore'):
      return np.log(escaped[..., runs].sum(-1) / times[..., runs].sum(-1))

  return rates


def arrhenius_slope(view: View) -> Interval:
  """The slope of the logarithm of the rate in 1/T over minus the ridge's height, in the barriers; mean over batches."""
  rates, x = log_rates(view), view.config.escape.barriers - np.mean(view.config.escape.barriers)
  slope = lambda runs: -rates(runs).mean(axis=0) @ x / (x @ x)
  return statistics.jackknife(slope, view.config.escape.num_seeds, confidence=view.confidence)


def rate_ratio(view: View, reference: str, barrier: float) -> Interval:
  """Measured rates over those of theory where the ridge is so many T high, the geometric mean over batch sizes."""
  if barrier not in view.config.escape.barriers:
    return unmeasured(view)
  rates, place = log_rates(view), view.config.escape.barriers.index(barrier)
  known = np.log(view.escapes(f'mean_{reference}'))[:, place].mean()
  ratio = lambda runs: np.exp(rates(runs)[:, place].mean() + known)
  return statistics.jackknife(ratio, view.config.escape.num_seeds, scale='log', confidence=view.confidence)


def batch_size_ratio(view: View) -> Interval:
  """Rates of the largest batch over those of the smallest at equal learning rate over batch size, geometric mean."""
  rates = log_rates(view)
  ratio = lambda runs: np.exp((rates(runs)[-1] - rates(runs)[0]).mean())
  return statistics.jackknife(ratio, view.config.escape.num_seeds, scale='log', confidence=view.confidence)


def dose_gain(view: View, where: str, worse: str, better: str) -> Interval:
  """How much better one arm of N4 is than another, paired by seed, allowing for other choices of the tuning seeds."""
  outcome, choosers = networks.outcome(view.cell(f'dose_{where}')), view.choosers(f'dose_tuning_{where}')

  def gain(poor: int, good: int) -> Interval:
    worst, best = (outcome.sel(trial=trial, drop=True) for trial in (poor, good))
    return statistics.paired_interval(worst, best, confidence=view.confidence)

  num = view.config.doses[where].num_tuning_seeds
  return study.after_choice(gain, [choosers[worse], choosers[better]], num)


def spread(values: np.ndarray, relative: bool) -> np.ndarray:
  """The spread over initialisations of values[draw, network, width], or that over the mean; infinite if one failed.

  The variance within a draw of the data, averaged over draws: data that are harder for all networks are no spread.
  """
  with np.errstate(invalid='ignore', divide='ignore'):
    deviation = np.sqrt(values.var(axis=1, ddof=1).mean(axis=0))
    deviation = np.where(np.isnan(deviation), np.inf, deviation)
    return deviation / values.mean(axis=(0, 1)) if relative else deviation


def loglog(widths: Sequence[int], values: np.ndarray) -> np.ndarray:
  """The slope of log values[width] in log width."""
  logs = np.log(np.asarray(widths, float))
  centred = logs - logs.mean()
  with np.errstate(divide='ignore', invalid='ignore'):
    return np.log(values) @ centred / (centred @ centred)


def spread_slope(view: View, variable: str, relative: bool) -> Interval:
  """The log-log slope in width of the spread over initialisations, or of that over the mean."""
  hidden = view.config.widths.hidden
  return view.over_widths(lambda values: loglog(hidden, spread(values, relative)), variable)


def widest_spread(view: View, variable: str, relative: bool) -> Interval:
  """The spread over initialisations at the largest width, or that over the mean."""
  widest = view.config.widths.hidden[-1]
  return view.over_widths(lambda values: spread(values, relative)[0], variable, only=widest, scale='log')


def mean_barriers(barriers: np.ndarray, losses: np.ndarray, relative: bool) -> np.ndarray:
  """The mean barrier at every width, or that over the mean training loss of the networks."""
  means = barriers.mean(axis=(0, 1))
  return means / losses.mean(axis=(0, 1)) if relative else means


def barrier(view: View, width: int, order: str, relative: bool = False) -> Interval:
  """The mean barrier at one width, or that over the mean training loss."""
  one = lambda barriers, losses: mean_barriers(barriers, losses, relative)[0]
  return view.over_widths(one, order, 'loss', only=width, scale='log' if relative else 'plain')


def barrier_slope(view: View, order: str, relative: bool = False) -> Interval:
  """The log-log slope in width of the mean barrier, or of that over the mean training loss."""
  hidden = view.config.widths.hidden
  slope = lambda barriers, losses: loglog(hidden, mean_barriers(barriers, losses, relative))
  return view.over_widths(slope, order, 'loss')


def ensemble_ratio(view: View, score: str, width: int) -> Interval:
  """Ensembles' score over that of their average member: means over ensembles."""
  if width not in view.config.ensemble_widths:
    return unmeasured(view)
  ratio = lambda whole, members: whole.mean() / members.mean()
  return view.over_widths(ratio, f'ensemble_{score}', score, only=width, scale='log')


def under_forks(view: View, landscapes: str) -> str:
  """The conditions of N1 and N2: the landscapes in words, and the networks with the rates that tuning chose."""
  options, runs = view.config.fork, view.forks()
  rates = (study.at_an_end(float(runs[f'{arm}_rate']), options.learning_rates) for arm in ('mini', 'single'))
  return landscapes.format(config=view.config) + (
    f'; networks of {options.hidden} hidden units on {options.images} images of {view.config.dataset} drawn anew for '
    f'each seed, forked after {options.early} and {options.late} updates of B={options.batch_size}, '
    f'{options.updates} more at rate {" and, of single examples at their own, as long at ".join(rates)}, then settled '
    f'by {options.settle} updates of full batch; a barrier is a rise of more than {MARGIN} above the chord'
  )


def under_n4(view: View) -> str:
  """The conditions of N4."""
  few, told = view.config.dose_network, []
  for where, options in view.config.doses.items():
    level, trials = view.cell(f'dose_tuning_{where}').level, view.chosen(f'dose_tuning_{where}')
    chosen = (
      f'{arm} {study.at_an_end(float(level.sel(trial=trials[arm])), options.levels[1:])}'
      for arm in ('best', 'annealed')
    )
    told.append(f'{where} at rate {options.learning_rate:g}: ' + ', '.join(chosen))
  return (
    f'full batch with Langevin noise, of which temperature and schedule differ and nothing else: Rastrigin function in '
    f'{view.config.dose.dim} dimensions, {view.config.dose.updates:,} updates; {view.config.dataset}, {few.hidden} '
    f'hidden units, {few.num_examples} images drawn anew for each seed, {few.updates} updates; a run that failed '
    'counted; levels chosen on tuning seeds, of the network on validation images: '
  ) + '; '.join(told)


def under_widths(view: View) -> str:
  """The conditions of N5-N7."""
  options, own = view.config.widths, view.config
  rate = study.at_an_end(view.rate(), options.learning_rates)
  return (
    f'{own.dataset}, one hidden layer of {options.hidden} units, {options.images} images drawn anew for each of '
    f'{own.seeds.count} groups of {own.members} networks that differ in their initial parameters alone; momentum 0.9, '
    f'B={options.batch_size}, {options.epochs} epochs, one rate for all widths, falling to 0 from {rate}; slopes are '
    f'those of a straight line through all widths, which need not be a power law; {own.ensembles} ensembles of each '
    f'width in {own.ensemble_widths}' + '; one test set, of 10,000 images' * (own.dataset == 'mnist')
  )
