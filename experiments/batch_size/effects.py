"""What is compared, what tuning has chosen, and the effects: each of one set of seeds, its value an Interval."""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
import xarray as xr

from gdlab import problems, statistics, study, theory
from gdlab.core.errors import check_count
from gdlab.core.types import Examples, Problem
from gdlab.statistics import Interval

WAYS = ('growth', 'decay', 'kept')  # the batch grows, the rate decays, neither


@dataclasses.dataclass(frozen=True, eq=False)
class Bench:
  """What the arms that are compared with one another share.

  Settings are tuned and runs stopped by `validation`, labelled like the training examples; so are the test examples
  `alike`, for gaps, while the problem's own have right labels. Budgets are `epochs` (equal examples) and equal
  `updates`. Every arm tries all `settings`, pairs of a rate and a momentum. So many as `num_seeds` of a set run. End
  points are compared at the training loss `target`, with 0 not at all.
  """

  name: str
  title: str
  problem: Problem
  validation: Examples
  alike: Examples
  epochs: int
  updates: int
  settings: tuple[tuple[float, float], ...]
  num_seeds: int
  target: float


class Arm(NamedTuple):
  """One batch size on one bench; with `ghost` BatchNorm sees so many examples together, else the whole batch."""

  bench: Bench
  batch_size: int
  ghost: int = 0

  def __str__(self) -> str:
    return f'{self.bench.name}_{"ghost" if self.ghost else "b"}{self.batch_size}'

  @property
  def label(self) -> str:
    """What tables and legends call it."""
    full = 'full batch' if self.batch_size == self.bench.problem.num_examples else f'B={self.batch_size}'
    return f'{full}, ghosts of {self.ghost}' if self.ghost else full

  @property
  def epoch(self) -> int:
    """Updates of a pass over the training set."""
    return theory.updates_per_epoch(self.bench.problem.num_examples, self.batch_size)


def arms(config) -> list[Arm]:
  """The perceptron's on right and on wrong labels, the CNN's, and those with BatchNorm; full batch is always one."""
  return _arms(config.model_copy(update={'seeds': config.seeds.model_copy(update={'first': 0})}))


@functools.cache  # the same problems for every set of seeds, so that programs are compiled once
def _arms(config) -> list[Arm]:
  mlp, normed = (problems.MLP(features=config.hidden, batch_norm=norm) for norm in (False, True))
  wrong = config.label_noise
  words = [f'{100 * noise:.0f} % wrong labels' if noise else 'right labels' for noise in (0, wrong)]
  norm = config.norm.wrong_labels
  return [
    *_arms_of(config, 'clean', f'perceptron, {words[0]}', mlp, 0.0, config),
    *_arms_of(config, 'noisy', f'perceptron, {words[1]}', mlp, wrong, config),
    *_arms_of(config, 'cnn', f'CNN, {words[0]}', problems.CNN(features=config.cnn.features), 0.0, config.cnn),
    *_arms_of(config, 'norm', f'perceptron with BatchNorm, {words[norm]}', normed, wrong * norm, config.norm),
  ]


def _arms_of(config, name: str, title: str, model, noise: float, options) -> list[Arm]:
  """The arms of one bench.

  The first images train, the next validate. Wrong labels are spread over both, as in data that one has; those of the
  test images are right, and a second copy of them has as many wrong ones.
  """
  whole = {'digits': problems.digits, 'mnist': problems.mnist}[config.dataset](model)
  alike = whole.test
  if noise:
    swapped = dataclasses.replace(whole, train=whole.test)
    alike = problems.with_label_noise(swapped, noise, num_classes=10, seed=1).train
    whole = problems.with_label_noise(whole, noise, num_classes=10)
  full, end, there = config.num_train, config.num_train + config.num_validation, len(whole.train.inputs)
  check_count('num_train', full, minimum=2, maximum=there - config.num_validation)
  train, validation = (
    Examples(*(values[part] for values in whole.train)) for part in (slice(full), slice(full, end))
  )
  settings = tuple((rate, momentum) for momentum in options.momenta for rate in config.learning_rates)
  seeds = getattr(options, 'num_seeds', config.seeds.count)
  counts = options.epochs, options.updates, settings, seeds, getattr(config.sharpness.target, name, 0.0)
  bench = Bench(name, title, dataclasses.replace(whole, train=train), validation, alike, *counts)
  sizes = [*(size for size in options.batch_sizes if size < full), full]
  ghosts = [Arm(bench, full, options.ghost)] if hasattr(options, 'ghost') else []
  return [*(Arm(bench, size) for size in sizes), *ghosts]


def budgets(arm: Arm, clock: xr.Dataset) -> dict[str, int]:
  """Updates of equal examples, equal updates and, for the perceptron, equal time: the mini-batch's for its epochs."""
  bench = arm.bench
  ends = {'epochs': bench.epochs * arm.epoch, 'updates': bench.updates}
  if not bench.target:
    return ends
  seconds, mini = clock.seconds.median('round'), int(clock.attrs['mini_batch'])
  time = bench.epochs * arm._replace(batch_size=mini).epoch * float(seconds.sel(batch_size=mini))
  # At most what the arm runs for by the others.
  made = np.clip(time / float(seconds.sel(batch_size=arm.batch_size)), 1, max(ends.values()))
  return ends | {'time': int(made)}


def best_setting(arm: Arm, kind: str, clock: xr.Dataset, tuned: xr.Dataset) -> int:
  """The number of the setting that the tuning seeds choose: by validation accuracy, at the end of a budget.

  With `matched` it is that where the training loss first comes to that of end points: settings with which a tuning run
  does not are left out, and if none is left the one of the least loss is taken. With `fit` the choice is by training
  loss after equal examples, as someone chooses who looks at nothing else.
  """
  if kind == 'matched':
    reached, place = at_target(tuned, arm.bench.target)
    if not reached.all('seed').any():
      return study.best(study.unless_failed(tuned, 'train_loss', np.inf).min('step'), 'setting')
    there = tuned.isel(step=place).drop_vars('step').where(reached)
    return study.best(-there.validation_accuracy, 'setting', there.validation_loss)
  end = tuned.sel(step=budgets(arm, clock)['epochs' if kind == 'fit' else kind])
  if kind == 'fit':
    return study.best(study.unless_failed(end, 'train_loss', np.inf), 'setting')
  return most_accurate(end, 'setting')


def most_accurate(tuned: xr.Dataset, dim: str):
  """What validates best; a failed run has learnt nothing, and ties go to the lower loss."""
  loss = study.unless_failed(tuned, 'validation_loss', np.inf)
  return study.best(-study.unless_failed(tuned, 'validation_accuracy', 0.0), dim, loss)


def at_target(runs: xr.Dataset, target: float) -> tuple[xr.DataArray, xr.DataArray]:
  """Whether each run's training loss came to the target, and the place of the first record there, else the last."""
  loss = study.unless_failed(runs, 'train_loss', np.inf)
  below, finite = loss <= target, loss < np.inf
  reached = below.any('step')
  last = loss.sizes['step'] - 1 - finite.isel(step=slice(None, None, -1)).argmax('step')
  return reached, xr.where(reached, below.argmax('step'), last)


def alike(config, bench: Bench) -> list[int]:
  """The numbers of the settings with which end points of every batch size are compared."""
  return [bench.settings.index(tuple(pair)) for pair in config.sharpness.settings]


def fastest_rate(tuned: xr.Dataset) -> float:
  """The rate of the least median of updates to the target; runs that never got there took for ever."""
  median = tuned.steps.where(~tuned.censored, np.inf).median('seed')
  return study.best(median.expand_dims('seed'), 'learning_rate', tuned.steps)


def stages(config) -> tuple[int, ...]:
  """The batch sizes of the stages as the batch grows."""
  return tuple(config.growth.batch_size * config.growth.factor**stage for stage in range(3))


def accuracy_gain(view, bench: str, kind: str) -> Interval:
  """Test accuracy of the mini-batch minus that of full batch at an equal budget, paired by seed.

  One arm on either side, each at the best of the same settings, so that neither side was searched for longer.
  """
  small, large = (view.accuracy(arm, kind) for arm in view.pair(bench))
  return statistics.paired_interval(small, large, confidence=view.confidence)


def sharpness_ratio(view, bench: str, measure: str, equal: bool) -> Interval:
  """A measure at the end points of full batch over that of the mini-batch, each at its best setting there.

  Rates then differ, and the curvature where a run ends lies under its own border of stability, 2 / rate for plain
  descent: this compares minima as they are found in practice, and not the batch size alone. At `equal` rate and
  momentum it does: by seed the geometric mean over the settings that every arm ran. A run that never came to the loss
  of end points counts with its last point; one whose measure has no logarithm is excluded, the claim then inconclusive.
  """
  values = []
  for arm in reversed(view.pair(bench)):
    sharp = view.sharpness(arm, equal)[measure].transpose('seed', 'setting').values
    values.append(np.exp(np.log(np.where(sharp > 0, sharp, np.nan)).mean(axis=1)))
  large, small = values
  return statistics.paired_log_ratio(large, small, confidence=view.confidence)


def end_points(view, bench: str, measure: str) -> tuple[np.ndarray, np.ndarray]:
  """A measure and the gap (test minus training loss) at every end point, float[seed, B, setting] each."""
  found = [view.sharpness(arm, equal=True).transpose('seed', 'setting') for arm in view.arms(bench)]
  sharp, gap = (np.stack([each[name].values for each in found], axis=1) for name in (measure, 'loss_gap'))
  return sharp, gap


def correlation(view, bench: str, measure: str, within: bool) -> Interval:
  """Spearman's correlation of a measure and the gap over all runs, or the mean of those within each batch size.

  Seeds are resampled, all runs of one together. A run that diverged has no end point, and silence about it is no
  evidence: it is counted as excluded.
  """
  sharp, gap = end_points(view, bench, measure)
  if lost := int((~np.isfinite(sharp) | ~np.isfinite(gap)).any(axis=(1, 2)).sum()):
    return Interval(np.nan, -np.inf, np.inf, view.confidence, len(sharp) - lost, lost)
  sizes = range(sharp.shape[1]) if within else [slice(None)]

  def statistic(seeds: np.ndarray) -> float:
    pairs = [(sharp[seeds][:, size].ravel(), gap[seeds][:, size].ravel()) for size in sizes]
    return float(np.mean([statistics.rank_correlation(*pair) for pair in pairs]))

  return statistics.jackknife(statistic, len(sharp), scale='fisher', confidence=view.confidence)


def slope(view, largest: bool) -> Interval:
  """The log-log slope of updates to the target in B, of the three smallest or largest: -1 where twice B halves them."""
  chosen = slice(-3, None) if largest else slice(None, 3)
  return statistics.loglog_slope(
    np.asarray(view.config.steps.batch_sizes, float)[chosen],
    view.steps()[:, chosen],
    confidence=view.confidence,
  )[1]


def critical_batch_size(view) -> Interval:
  """Where the fitted updates are twice the least; unknown where too few batch sizes come to the target."""
  taken = view.steps()
  if np.isfinite(np.median(taken, axis=0)).sum() < 3:
    return Interval(np.nan, -np.inf, np.inf, view.confidence, len(taken), 0)
  return statistics.fit_bend(
    view.config.steps.batch_sizes, taken, confidence=view.confidence
  ).critical_batch_size


def scale_on_way(view) -> Interval:
  """The simple noise scale, mean over the way of full batch to the target."""
  runs = view.cell(f'scales_{max(view.config.steps.batch_sizes)}')
  return statistics.bootstrap(runs.simple.mean('step').values, confidence=view.confidence)


def predicted_ratio(view) -> Interval:
  """The fitted critical batch size over the noise scale on the way.

  The ends are those of the one interval over those of the other, which is wider than an interval of the ratio need be.
  """
  fitted, scale = critical_batch_size(view), scale_on_way(view)
  return Interval(
    fitted.estimate / scale.estimate,
    fitted.low / scale.high,
    fitted.high / scale.low if scale.low > 0 else np.inf,
    fitted.confidence,
    min(fitted.num, scale.num),
    fitted.excluded + scale.excluded,
  )


def norm_accuracies(view) -> list[np.ndarray]:
  """Test accuracy after equal examples with BatchNorm: mini-batch, full batch, full batch in ghosts; by seed."""
  small, *_, large, ghost = view.arms('norm')
  return [view.accuracy(arm, 'epochs').values for arm in (small, large, ghost)]


def norm_gap(view) -> Interval:
  """The gap to close: mini-batch minus full batch."""
  small, large, _ = norm_accuracies(view)
  return statistics.paired_interval(small, large, confidence=view.confidence)


def closed_beyond(view, share: float, premise: float) -> Interval:
  """What ghosts gain on full batch, less that share of the gap: above 0 where they close more than the share.

  Unknown where the gap itself is not above the premise: there is nothing to close.
  """
  small, large, ghost = norm_accuracies(view)
  found = statistics.bootstrap(ghost - large - share * (small - large), confidence=view.confidence)
  return found if norm_gap(view).low > premise else found._replace(low=-np.inf, high=np.inf)


def way_loss_ratio(view, stage: int) -> Interval:
  """Training loss with a growing batch over that with a decaying rate, at the end of a stage; at one first rate.

  That of the decaying rate, which the growing batch stands in for: at two rates no curve would be the same.
  """
  grown, decayed = (view.along(way, 'train_loss', 'decay') for way in ('growth', 'decay'))
  epoch = view.config.growth.epochs[stage]
  return statistics.paired_log_ratio(grown[:, epoch], decayed[:, epoch], confidence=view.confidence)


def way_accuracy(view, rate_of: str) -> Interval:
  """Test accuracy at the end, growing minus decaying: growing at its own best rate, or at that of the decaying rate."""
  grown, decayed = (
    view.along('growth', 'test_accuracy', rate_of),
    view.along('decay', 'test_accuracy', 'decay'),
  )
  return statistics.paired_interval(grown[:, -1], decayed[:, -1], confidence=view.confidence)


def way_updates(view) -> Interval:
  """Updates made with a growing batch over those with a decaying rate, both counted."""
  grown, decayed = (float(view.cell(f'way_{way}').step[-1]) for way in ('growth', 'decay'))
  return statistics.exactly(grown / decayed, num=view.config.seeds.count)


def stopped(view, bench: str, kind: str, by: str) -> xr.Dataset:
  """The record of the mini-batch's runs, up to the end of its epochs, where the loss `by` was least.

  Args:
    view: the results.
    bench: right or wrong labels.
    kind: of the setting: 'epochs', the best by validation, as everywhere in the study; or 'fit', that of the least
      training loss. Someone who stops by training loss would also choose by it, and training may overfit only there.
    by: 'validation_loss' or 'train_loss'.
  """
  arm = view.pair(bench)[0]
  runs = view.runs(arm, kind)
  runs = runs.sel(step=runs.step <= view.step(arm, 'epochs'))
  return runs.isel(step=study.unless_failed(runs, by, np.inf).argmin('step')).reset_coords('step')


def stopping_gain(view, bench: str, kind: str, variable: str) -> Interval:
  """Where the validation loss was least against where the training loss was: accuracy minus, or test loss over."""
  chosen, naive = (
    stopped(view, bench, kind, by)[variable].values for by in ('validation_loss', 'train_loss')
  )
  compare = statistics.paired_log_ratio if variable.endswith('loss') else statistics.paired_interval
  return compare(chosen, naive, confidence=view.confidence)
