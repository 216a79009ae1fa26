"""Effects of training: each a function from the stored results to an Interval, and nothing else."""

import numpy as np
import xarray as xr

from experiments.batch_size import arms
from experiments.batch_size.study import Study
from gdlab import statistics
from gdlab.statistics import Interval


def accuracy_gain(study: Study, bench: str, kind: str) -> Interval:
  """Test accuracy of the mini-batch minus that of full batch at an equal budget, paired by seed.

  One arm on either side, each at the best of the same settings, so that neither side was searched for longer.
  """
  on = study.benches[bench]
  small, large = study.small(on), study.large(on)
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


def on_way(study: Study, way: str, variable: str, rate: float) -> np.ndarray:
  """A variable at the end of every epoch of a way of G7, float[seed, epoch]; failed runs have infinite loss."""
  runs = study.grown(way, rate)
  failed = 0.0 if variable.endswith('accuracy') else np.inf
  found = runs[variable].where((runs.state == 0) & np.isfinite(runs[variable]), failed)
  return found.transpose('seed', 'passes').values


def growth_loss_ratio(study: Study, stage: int) -> Interval:
  """Training loss with a growing batch over that with a decaying rate, at the end of a stage; at one first rate.

  That of the decaying rate, which the growing batch stands in for: at two rates no curve would be the same.
  """
  epoch, rate = study.config.growth.epochs[stage], study.growth_rate('decay')
  grown, decayed = (on_way(study, way, 'train_loss', rate)[:, epoch] for way in ('growth', 'decay'))
  return statistics.paired_log_ratio(grown, decayed)


def growth_accuracy(study: Study, own: bool) -> Interval:
  """Test accuracy at the end, growing minus decaying: at the rate best for decaying, or each at the best of its own."""
  first = study.growth_rate('growth' if own else 'decay')
  grown = on_way(study, 'growth', 'test_accuracy', first)[:, -1]
  decayed = on_way(study, 'decay', 'test_accuracy', study.growth_rate('decay'))[:, -1]
  return statistics.paired_interval(grown, decayed)


def neither_loss_ratio(study: Study) -> Interval:
  """Training loss at the end with a constant rate over that with a decaying one, each at its own best rate."""
  kept, decayed = (
    on_way(study, way, 'train_loss', study.growth_rate(way))[:, -1] for way in ('kept', 'decay')
  )
  return statistics.paired_log_ratio(kept, decayed)


def neither_accuracy(study: Study) -> Interval:
  """Test accuracy at the end, constant minus decaying rate, each at its own best rate."""
  kept, decayed = (
    on_way(study, way, 'test_accuracy', study.growth_rate(way))[:, -1] for way in ('kept', 'decay')
  )
  return statistics.paired_interval(kept, decayed)


def growth_updates(study: Study) -> Interval:
  """Updates made with a growing batch over those with a decaying rate, both counted."""
  return statistics.exactly(float(study.results['growth'].made[-1]) / float(study.results['decay'].made[-1]))


def stopping_place(study: Study, by: str, bench: str, kind: str) -> tuple[xr.Dataset, xr.DataArray]:
  """The mini-batch's runs at a setting up to the end of its epochs, and the record where the loss `by` was least."""
  on = study.benches[bench]
  arm = study.small(on)
  runs = study.runs(on, arm, kind)
  runs = runs.sel(step=runs.step <= study.step(on, arm, 'epochs'))
  return runs, arms.unless_failed(runs, by, np.inf).argmin('step')


def stopped(study: Study, by: str, variable: str, bench: str, kind: str) -> np.ndarray:
  """A variable at the record where the loss `by` was least, by seed.

  Args:
    study: the results.
    by: 'validation_loss' or 'train_loss'.
    variable: of the records.
    bench: right or wrong labels.
    kind: the setting: 'epochs', the best by validation, as everywhere in the study; or 'fit', that of the least
      training loss. Someone who stops by training loss would also choose by it, and training may overfit only there.
  """
  runs, best = stopping_place(study, by, bench, kind)
  return runs[variable].isel(step=best).values


def stopping_gain(study: Study, bench: str, kind: str) -> Interval:
  """Test accuracy where the validation loss was least minus that where the training loss was."""
  return statistics.paired_interval(*_stopped_by_both(study, 'test_accuracy', bench, kind))


def stopping_ratio(study: Study, bench: str, kind: str, variable: str = 'test_loss') -> Interval:
  """Test loss where the validation loss was least over that where the training loss was; on right test labels."""
  return statistics.paired_log_ratio(*_stopped_by_both(study, variable, bench, kind))


def _stopped_by_both(study: Study, variable: str, bench: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
  by_validation, by_training = (
    stopped(study, by, variable, bench, kind) for by in ('validation_loss', 'train_loss')
  )
  return by_validation, by_training
