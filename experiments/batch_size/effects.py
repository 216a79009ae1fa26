"""Effects of training: each a function from the stored results to an Interval, and nothing else."""

import numpy as np

from experiments.batch_size import arms
from experiments.batch_size.study import Study
from gdlab import statistics
from gdlab.statistics import Interval


def accuracy_gain(study: Study, bench: str, kind: str) -> Interval:
  """Test accuracy of the best small batch minus that of the best large one at an equal budget, paired by seed."""
  on = study.benches[bench]
  small, large = study.small(on, kind), study.large(on, kind)
  return statistics.paired_interval(study.accuracy(on, small, kind), study.accuracy(on, large, kind))


def small_end_slope(study: Study) -> Interval:
  """The log-log slope of steps in the three smallest batch sizes: -1 where twice the batch halves them."""
  return _slope(study, slice(None, 3))


def large_end_slope(study: Study) -> Interval:
  """The same in the three largest: 0 on a plateau."""
  return _slope(study, slice(-3, None))


def _slope(study: Study, chosen: slice) -> Interval:
  sizes = np.asarray(study.config.steps.batch_sizes, float)[chosen]
  return statistics.loglog_slope(sizes, study.steps()[:, chosen])[1]


def critical_batch_size(study: Study) -> Interval:
  """Where the fitted steps are twice the least; unknown where too few batch sizes come to the target."""
  taken = study.steps()
  if np.isfinite(np.median(taken, axis=0)).sum() < 3:
    return Interval(np.nan, -np.inf, np.inf, 0.95, len(taken), 0)
  return statistics.fit_bend(study.config.steps.batch_sizes, study.steps()).critical_batch_size


def scale_on_way(study: Study, which: str = 'simple') -> Interval:
  """The noise scale, mean over the way to the target."""
  return statistics.bootstrap(study.scale(which))


def predicted_ratio(study: Study, which: str = 'simple') -> Interval:
  """The fitted critical batch size over the noise scale on the way.

  The ends are those of the one interval over those of the other, which is wider than an interval of the ratio need be.
  """
  fitted, scale = critical_batch_size(study), scale_on_way(study, which)
  return Interval(
    fitted.estimate / scale.estimate,
    fitted.low / scale.high,
    fitted.high / scale.low if scale.low > 0 else np.inf,
    fitted.confidence,
    fitted.num,
    fitted.excluded + scale.excluded,
  )


def norm_accuracies(study: Study) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Test accuracy after equal examples with BatchNorm: mini-batch, full batch, full batch in ghosts; by seed."""
  bench = study.benches['norm']
  ghost = next(arm for arm in bench.arms if arm.ghost)
  plain = [arm for arm in bench.arms if not arm.ghost]
  small, large = (pick(plain, key=lambda arm: arm.batch_size) for pick in (min, max))
  first, second, third = (study.accuracy(bench, arm, 'epochs').values for arm in (small, large, ghost))
  return first, second, third


def norm_gap(study: Study) -> Interval:
  """The gap to close: mini-batch minus full batch."""
  small, large, _ = norm_accuracies(study)
  return statistics.paired_interval(small, large)


def closed_beyond(study: Study, share: float, premise: float) -> Interval:
  """What ghosts gain on full batch, less that share of the gap: above 0 where they close more than the share.

  Unknown where the gap itself is not above the premise: there is nothing to close.
  """
  small, large, ghost = norm_accuracies(study)
  found = statistics.bootstrap(ghost - large - share * (small - large))
  return found if norm_gap(study).low > premise else found._replace(low=-np.inf, high=np.inf)


def growing(study: Study, variable: str) -> tuple[np.ndarray, np.ndarray]:
  """A variable with a growing batch and with a decaying rate, float[seed, epoch] each; failed runs as infinite loss."""
  rate = study.growth_rate()
  grown = study.of('growth').sel(learning_rate=rate)
  decayed = study.of('decay').sel(learning_rate=rate).isel(decay=0)
  failed = 0.0 if variable.endswith('accuracy') else np.inf
  values = []
  for runs in (grown, decayed):
    found = runs[variable].where((runs.state == 0) & np.isfinite(runs[variable]), failed)
    values.append(found.transpose('seed', 'passes').values)
  return values[0], values[1]


def growth_loss_ratio(study: Study, stage: int) -> Interval:
  """Training loss with a growing batch over that with a decaying rate, at the end of a stage."""
  grown, decayed = growing(study, 'train_loss')
  epoch = study.config.growth.epochs[stage]
  return statistics.paired_log_ratio(grown[:, epoch], decayed[:, epoch])


def growth_accuracy(study: Study) -> Interval:
  """Test accuracy at the end, growing minus decaying."""
  grown, decayed = growing(study, 'test_accuracy')
  return statistics.paired_interval(grown[:, -1], decayed[:, -1])


def growth_updates(study: Study) -> Interval:
  """Updates made with a growing batch over those with a decaying rate, both counted."""
  return statistics.exactly(float(study.results['growth'].made[-1]) / float(study.results['decay'].made[-1]))


def stopped(study: Study, by: str, variable: str, bench: str = 'noisy') -> np.ndarray:
  """A variable at the record where the loss `by` was least, by seed, of runs at the setting that fits fastest."""
  on = study.benches[bench]
  arm = on.arm(f'b{study.config.mini_batch}')
  runs = study.runs(on, arm, 'fit')
  runs = runs.sel(step=runs.step <= study.step(on, arm, 'epochs'))
  best = arms.unless_failed(runs, by, np.inf).argmin('step')
  return runs[variable].isel(step=best).values


def stopping_gain(study: Study) -> Interval:
  """Test accuracy where the validation loss was least minus that where the training loss was."""
  return statistics.paired_interval(*_stopped_by_both(study, 'test_accuracy'))


def stopping_ratio(study: Study) -> Interval:
  """Test loss where the validation loss was least over that where the training loss was; labels like theirs."""
  return statistics.paired_log_ratio(*_stopped_by_both(study, 'alike_loss'))


def _stopped_by_both(study: Study, variable: str) -> tuple[np.ndarray, np.ndarray]:
  return stopped(study, 'validation_loss', variable), stopped(study, 'train_loss', variable)
