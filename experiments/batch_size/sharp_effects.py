"""Effects of sharpness: large against small batches, and sharpness against the gap.

End points have the same training loss (see `cooling`). A run that never came to it counts with its last point; one
whose measure has no logarithm is excluded, and the claim then inconclusive.
"""

from collections.abc import Sequence

import numpy as np

from experiments.batch_size import arms
from experiments.batch_size.benches import Arm
from experiments.batch_size.study import Study
from gdlab import statistics
from gdlab.statistics import Interval


def sharpness_ratio(study: Study, bench: str, measure: str) -> Interval:
  """A measure at the end points of full batch over that of the mini-batch, each at its best setting there.

  The best by validation accuracy at the same training loss. Rates then differ, and the curvature where a run ends lies
  under its own border of stability, 2 / rate for plain descent: this compares minima as they are found in practice, and
  not the batch size alone.
  """
  on = study.benches[bench]
  chosen = [[study.setting(on, arm, 'matched')] for arm in _compared(study, bench)]
  return _ratio(study, bench, measure, chosen)


def sharpness_ratio_alike(study: Study, bench: str, measure: str) -> Interval:
  """The same ratio at equal rate and momentum: by seed the geometric mean over the settings that every arm ran."""
  numbers = arms.sharpness_settings(study.config, study.benches[bench])
  return _ratio(study, bench, measure, [numbers, numbers])


def ratio_at(study: Study, bench: str, measure: str, setting: int) -> Interval:
  """The same ratio at one rate and momentum."""
  return _ratio(study, bench, measure, [[setting], [setting]])


def _compared(study: Study, bench: str) -> tuple[Arm, Arm]:
  on = study.benches[bench]
  return study.large(on), study.small(on)


def _ratio(study: Study, bench: str, measure: str, chosen: Sequence[Sequence[int]]) -> Interval:
  values = []
  for arm, numbers in zip(_compared(study, bench), chosen, strict=True):
    found = study.sharpness(study.benches[bench], arm)[measure].sel(setting=list(numbers))
    sharp = found.transpose('seed', 'setting').values
    values.append(np.exp(np.log(np.where(sharp > 0, sharp, np.nan)).mean(axis=1)))
  return statistics.paired_log_ratio(*values)


def runs_of(study: Study, bench: str, measure: str) -> tuple[np.ndarray, np.ndarray]:
  """A measure and the gap (test minus training loss) at every end point, float[seed, B, setting] each."""
  on = study.benches[bench]
  numbers = arms.sharpness_settings(study.config, on)
  cells = [study.sharpness(on, arm).sel(setting=numbers) for arm in on.arms]
  pick = lambda name: np.stack([cell[name].transpose('seed', 'setting').values for cell in cells], axis=1)
  return pick(measure), pick('loss_gap')


def rank_correlation(study: Study, bench: str, measure: str) -> Interval:
  """Spearman's correlation of a measure and the gap over all runs; seeds are resampled, all runs of one together."""
  sharp, gap = runs_of(study, bench, measure)
  return _clustered(sharp, gap, lambda a, b: statistics.rank_correlation(a.ravel(), b.ravel()))


def rank_correlation_within(study: Study, bench: str, measure: str) -> Interval:
  """The same within each batch size, mean over them."""
  sharp, gap = runs_of(study, bench, measure)
  within = lambda a, b: np.mean(
    [statistics.rank_correlation(a[:, size].ravel(), b[:, size].ravel()) for size in range(a.shape[1])]
  )
  return _clustered(sharp, gap, within)


def _clustered(sharp: np.ndarray, gap: np.ndarray, statistic) -> Interval:
  lost = int((~np.isfinite(sharp) | ~np.isfinite(gap)).any(axis=(1, 2)).sum())
  if lost:  # a run that diverged has no end point, and silence about it is no evidence
    return Interval(np.nan, -np.inf, np.inf, 0.95, len(sharp) - lost, lost)
  found = statistics.bootstrap(
    np.arange(len(sharp)),
    lambda seeds: statistic(sharp[seeds.astype(int)], gap[seeds.astype(int)]),
    num_resamples=999,
  )
  return found
