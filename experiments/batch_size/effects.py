"""The effects: each of one set of seeds, its value an Interval that allows for other tuned choices."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from gdlab import statistics, study
from gdlab.statistics import Interval

WAYS = ('growth', 'decay', 'kept')  # the batch grows, the rate decays, neither
RAMPS = (
  *WAYS,
  'unscaled',
)  # of normalised updates: a growing batch's rate is divided by a square root, or kept
RISE = 1.1  # the smallest factor on a loss that matters
FITTED = 199  # draws of tuning runs for what takes a fit: the share of a choice has a standard error of 3.5 % at most


def after_choices(
  effect: Callable[..., Interval],
  choose: Sequence[Callable[[np.ndarray], Any]],
  num: int,
  *,
  estimate: Callable[..., float] | None = None,
  scale: str = 'plain',
) -> Interval:
  """As `study.after_choice`, for effects of so many arms that each combination of their likely choices is rare.

  The likely choices are those of each arm by itself; where a draw makes another one, the one made stands in.

  Args:
    effect: of one choice for each arm.
    choose: of each arm, as `study.chooser` makes it.
    num: tuning seeds.
    estimate: the effect without an interval, where that is quicker.
    scale: as there.
  """
  likely = [statistics.likely(each, num) for each in choose]

  def together(numbers: np.ndarray) -> tuple[Any, ...]:
    drawn = (each(numbers) for each in choose)
    return tuple(one if one in of else next(iter(of)) for one, of in zip(drawn, likely, strict=True))

  made = together(np.arange(num))
  shares = statistics.choices(together, num, num_resamples=FITTED) if num > 1 else {made: 1.0}
  found = {made: effect(*made)}
  for choice in shares:
    if choice != made:
      value = effect(*choice).estimate if estimate is None else estimate(*choice)
      found[choice] = found[made]._replace(estimate=value)
  return statistics.over_choices(found, shares, scale=scale)


def accuracy_gain(view, bench: str, kind: str) -> Interval:
  """Test accuracy of the small batch minus that of the large one, paired by seed, where both are by `kind`.

  One arm on either side, each at the best of the same settings, so that neither side was searched for longer. The
  difference is Hodges and Lehmann's, the median of the means of all pairs of seeds: one run of sixteen that learns
  nothing moves a mean by five points, though nothing is different with the others.
  """
  pair = view.pair(bench)

  def gain(*settings: int) -> Interval:
    small, large = (view.accuracy(arm, kind, setting) for arm, setting in zip(pair, settings, strict=True))
    if (small - large).notnull().sum() < 2:
      return statistics.paired_interval(small, large, confidence=view.confidence)  # unknown
    return statistics.signed_rank_test(small, large, confidence=view.confidence).effect

  return study.after_choice(gain, [view.chooser(arm, kind) for arm in pair], view.config.seeds.tuning)


def sharpness_ratio(view, bench: str, measure: str) -> Interval:
  """A measure at end points of the large batch over that of the small one, at equal rate and momentum.

  By seed the geometric mean over the settings, so that only the batch differs. A seed of which an end point is missing,
  or whose measure has no logarithm, counts as excluded, and the part is then inconclusive.
  """
  values = []
  for size in (view.config.large_batch, view.config.small_batch):
    sharp = view.sharpness(bench, size)[measure].transpose('seed', 'setting').values
    values.append(np.exp(np.log(np.where(sharp > 0, sharp, np.nan)).mean(axis=1)))
  return statistics.paired_log_ratio(*values, confidence=view.confidence)


def own_sharpness_ratio(view, bench: str, measure: str) -> Interval:
  """The same with each batch size at the setting with which it comes to the training loss in the fewest updates."""
  pair = view.pair(bench)

  def ratio(*settings: int) -> Interval:
    small, large = (
      view.cell(f'own_{arm}').sel(setting=setting)[measure]
      for arm, setting in zip(pair, settings, strict=True)
    )
    large, small = (each.where(each > 0).values for each in (large, small))
    return statistics.paired_log_ratio(large, small, confidence=view.confidence)

  choose = [view.chooser(arm, 'fastest') for arm in pair]
  return study.after_choice(ratio, choose, view.config.seeds.tuning, scale='log')


def end_points(view, bench: str, measure: str) -> tuple[np.ndarray, np.ndarray]:
  """A measure and the gap (validation minus training loss) at every end point, float[seed, B, setting] each."""
  sizes = view.config.sharpness.batch_sizes
  found = [view.sharpness(bench, size).transpose('seed', 'setting') for size in sizes]
  sharp, gap = (np.stack([each[name].values for each in found], axis=1) for name in (measure, 'loss_gap'))
  return sharp, gap


def correlation(view, bench: str, measure: str, within: bool) -> Interval:
  """Spearman's correlation of a measure and the gap over the runs of a seed, which share their data; mean over seeds.

  Over all of them, or the mean of those within each batch size. A seed of which an end point is missing has none, and
  counts as excluded: silence about it is no evidence.
  """

  def of(sharp: np.ndarray, gap: np.ndarray) -> float:
    groups = zip(sharp, gap, strict=True) if within else [(sharp.ravel(), gap.ravel())]
    return float(np.mean([statistics.rank_correlation(*group) for group in groups]))

  by_seed = [of(*each) for each in zip(*end_points(view, bench, measure), strict=True)]
  return statistics.bootstrap(by_seed, confidence=view.confidence)


def fastest(tuned: xr.Dataset) -> Callable[[np.ndarray], float]:
  """The rate with the fewest updates to the target, by geometric mean; a run that never got there took for ever."""
  taken = xr.where(tuned.censored, np.inf, np.log(tuned.steps))
  return study.chooser(taken, 'learning_rate', tuned.steps)


def slope(view, largest: bool) -> Interval:
  """The log-log slope of updates to the target in B, of the three smallest or largest: -1 where twice B halves them."""
  chosen = slice(-3, None) if largest else slice(None, 3)
  sizes = view.config.steps.batch_sizes[chosen]

  def slopes(*rates: float) -> Interval:
    steps = np.stack([view.steps(size, rate) for size, rate in zip(sizes, rates, strict=True)], axis=1)
    return statistics.loglog_slope(np.asarray(sizes, float), steps, confidence=view.confidence)[1]

  return after_choices(slopes, [view.fastest(size) for size in sizes], view.config.seeds.tuning)


def critical_batch_size(view, over: Callable[[np.ndarray], float] = lambda runs: 1.0) -> Interval:
  """Where the updates fitted to the geometric means over runs are twice the least, over a number of the same runs.

  Both are jackknifed together, run by run; a batch size of which a run never came to the target is left out of the fit,
  and with fewer than three of them it is unknown.
  """
  sizes, num = view.config.steps.batch_sizes, view.config.steps.num_seeds

  def of(runs: np.ndarray, *rates: float) -> float:
    steps = np.stack([view.steps(size, rate)[runs] for size, rate in zip(sizes, rates, strict=True)], axis=1)
    means = np.exp(np.log(steps).mean(axis=0))
    if np.isfinite(means).sum() < 3:
      return np.nan
    return statistics.fit_bend(sizes, means[None]).critical_batch_size.estimate / over(runs)

  every = np.arange(num)
  return after_choices(
    lambda *rates: statistics.jackknife(
      lambda runs: of(runs, *rates), num, confidence=view.confidence, scale='log'
    ),
    [view.fastest(size) for size in sizes],
    view.config.seeds.tuning,
    estimate=lambda *rates: of(every, *rates),
    scale='log',
  )


def noise_scale(view, loss: float, runs: np.ndarray) -> float:
  """Mean of tr Sigma over mean of |G|^2, each over runs of the largest batch where their training loss is `loss`."""
  scales = view.cell(f'scales_{view.config.steps.batch_sizes[-1]}').sel(loss=loss)
  return float(scales.trace.values[runs].mean() / scales.square.values[runs].mean())


def noise_scale_interval(view, loss: float) -> Interval:
  """`noise_scale` of all runs, with its interval."""
  num = view.config.steps.num_seeds
  return statistics.jackknife(
    lambda runs: noise_scale(view, loss, runs), num, confidence=view.confidence, scale='log'
  )


def predicted_ratio(view, place: int) -> Interval:
  """The fitted critical batch size over the noise scale at one of the losses on the way, of the same runs."""
  loss = view.config.steps.losses[place]
  return critical_batch_size(view, lambda runs: noise_scale(view, loss, runs))


def norm_gap(view) -> Interval:
  """The gap to close: test accuracy after equal examples with BatchNorm, small minus large batch."""
  return accuracy_gain(view, 'norm', 'epochs')


def closed_beyond(view, share: float) -> Interval:
  """What ghosts gain on the large batch, less that share of the gap: above 0 where they close more than the share."""
  arms = view.arms('norm')

  def beyond(*settings: int) -> Interval:
    small, large, ghost = (
      view.accuracy(arm, 'epochs', setting).values for arm, setting in zip(arms, settings, strict=True)
    )
    return statistics.bootstrap(ghost - large - share * (small - large), confidence=view.confidence)

  return after_choices(beyond, [view.chooser(arm, 'epochs') for arm in arms], view.config.seeds.tuning)


def stable_rate(first: xr.Dataset) -> Callable[[np.ndarray], float]:
  """The largest rate with which the mean training loss never ends an epoch 10 % above its least so far, in stage 1.

  As a function of the numbers of the tuning runs over which it is a mean; the smallest rate where there is none.
  """
  loss = study.unless_failed(first, 'train_loss', np.inf).transpose('seed', 'learning_rate', 'step').values
  rates = first.learning_rate.values

  def choose(numbers: np.ndarray) -> float:
    mean = loss[numbers].mean(axis=0)
    stable = (mean <= RISE * np.minimum.accumulate(mean, axis=1)).all(axis=1) & np.isfinite(mean).all(axis=1)
    return float(rates[stable].max() if stable.any() else rates.min())

  return choose


def way_loss_ratio(view, stage: int, way: str = 'growth', variable: str = 'train_loss') -> Interval:
  """A loss with a growing batch (or neither) over that with a decaying rate, at the end of a stage."""
  epoch = view.config.growth.epochs[stage]

  def ratio(rate: float) -> Interval:
    ours, decayed = (view.along(each, variable, rate)[:, epoch] for each in (way, 'decay'))
    return statistics.paired_log_ratio(ours, decayed, confidence=view.confidence)

  return study.after_choice(ratio, [view.stable], view.config.seeds.tuning, scale='log')


def way_updates(view) -> Interval:
  """Updates made with a growing batch over those with a decaying rate, both counted."""
  grown, decayed = (float(view.cell(f'way_{way}').step[-1]) for way in ('growth', 'decay'))
  return statistics.exactly(grown / decayed, num=view.config.seeds.count)


def ramp_ratio(view, method: str, way: str, stage: int = 2, variable: str = 'train_loss') -> Interval:
  """A loss of one of `RAMPS` over that with a decaying rate, at the end of a stage."""

  def ratio(rate: float) -> Interval:
    end = view.cell(f'ramp_{method}').sel(learning_rate=rate).isel(step=view.config.growth.epochs[stage])
    pair = (study.unless_failed(end.sel(way=each), variable, np.inf).values for each in (way, 'decay'))
    return statistics.paired_log_ratio(*pair, confidence=view.confidence)

  return study.after_choice(ratio, [view.ramp_rate(method)], view.config.seeds.tuning, scale='log')


def exact_ratio(view, way: str, stage: int = 2) -> Interval:
  """The same of expected losses in the exactly solvable case."""
  losses = view.cell('ramp_exact').loss.isel(stage=stage)
  ratio = float(losses.sel(way=way) / losses.sel(way='decay'))
  return Interval(ratio, ratio, ratio, 1.0, 1, 0)


def ramp_updates(view, method: str) -> Interval:
  """Updates made with a growing batch over those with a decaying rate, both counted."""
  made = view.cell(f'ramp_{method}').made.isel(step=-1)
  return statistics.exactly(
    float(made.sel(way='growth') / made.sel(way='decay')), num=view.config.ramp.num_seeds
  )


def stopped(view, bench: str, setting: int, by: str) -> xr.Dataset:
  """The record of the small batch's runs, up to the end of its epochs, where the loss `by` was least."""
  arm = view.pair(bench)[0]
  runs = view.cell(f'runs_{arm}').sel(setting=setting)
  runs = runs.sel(step=runs.step <= arm.budgets['epochs'])
  return runs.isel(step=study.unless_failed(runs, by, np.inf).argmin('step')).reset_coords('step')


def stopping_gains(view, bench: str, setting: int) -> np.ndarray:
  """Test accuracy where the validation loss was least minus that where the training loss was, by seed."""
  chosen, naive = (
    stopped(view, bench, setting, by).test_accuracy.values for by in ('validation_loss', 'train_loss')
  )
  return chosen - naive


def stopping_gain(view, bench: str, kind: str) -> Interval:
  """Its mean, at the setting that is chosen by `kind`: 'epochs', as everywhere; or 'fit'.

  Someone who stops by training loss would also choose by it, and training may overfit only there.
  """
  return study.after_choice(
    lambda setting: statistics.bootstrap(stopping_gains(view, bench, setting), confidence=view.confidence),
    [view.chooser(view.pair(bench)[0], kind)],
    view.config.seeds.tuning,
  )


def rises(view, bench: str, setting: int) -> np.ndarray:
  """By how much the validation loss of each tuning run ends above its least, as a logarithm; infinite if it failed."""
  arm = view.pair(bench)[0]
  tuned = view.cell(f'tuning_{arm}').sel(setting=setting, step=slice(0, arm.budgets['epochs']))
  loss = study.unless_failed(tuned, 'validation_loss', np.inf).transpose('seed', 'step').values
  return np.log(loss[:, -1]) - np.log(loss.min(axis=1))


def overfitting(view, bench: str, kind: str, beyond: float) -> Callable[[np.ndarray], tuple[int, bool]]:
  """The chosen setting, and whether it overfits: its validation loss ends more than that factor above its least."""
  choose = view.chooser(view.pair(bench)[0], kind)

  @functools.cache
  def risen(setting: int) -> np.ndarray:
    return rises(view, bench, setting)

  def of(numbers: np.ndarray) -> tuple[int, bool]:
    setting = choose(numbers)
    return setting, bool(risen(setting)[numbers].mean() > np.log(beyond))

  return of


def gain_by_overfitting(
  view, overfits: bool, conditions: Sequence[tuple[str, str]], beyond: float
) -> Interval:
  """The mean gain over those conditions, pairs of a bench and a kind, that do overfit on the tuning seeds, or do not.

  Unknown where there is none.
  """

  def gain(*found: tuple[int, bool]) -> Interval:
    gains = [
      stopping_gains(view, bench, setting)
      for (bench, _), (setting, does) in zip(conditions, found, strict=True)
      if does is overfits
    ]
    values = np.mean(gains, axis=0) if gains else np.full(view.config.seeds.count, np.nan)
    return statistics.bootstrap(values, confidence=view.confidence)

  choose = [overfitting(view, *condition, beyond) for condition in conditions]
  return after_choices(gain, choose, view.config.seeds.tuning)
