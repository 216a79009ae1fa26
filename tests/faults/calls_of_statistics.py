"""One valid call of each function of gdlab.statistics and gdlab.claims."""
# ruff: noqa: C408 - dict(...) reads as the call whose arguments these are

import numpy as np
import xarray as xr
from malformed import Call

from gdlab import statistics
from gdlab.statistics import Crossing, Interval

A = [1.0, 2.0, 3.0, 4.5, 5.0]
B = [0.5, 2.5, 2.0, 4.0, 4.0]
CROSSING = Crossing(np.array([2.0, 5.0, 9.0, 9.0]), np.array([False, False, False, True]))
OTHER = Crossing(np.array([3.0, 6.0, 7.0, 9.0]), np.array([False, False, False, True]))
INTERVAL = Interval(1.0, 0.5, 1.5, 0.95, 5, 0)
SIZES = [1, 2, 4, 8, 16]
STEPS = [[900.0, 500.0, 280.0, 180.0, 120.0], [920.0, 510.0, 300.0, 170.0, 130.0]] * 4
RUNS = xr.DataArray(
  np.arange(8.0) ** 2,
  dims='seed',
  coords={
    f'{name}_seed': ('seed', ids)
    for name, ids in statistics.factorial_seeds(init=2, order=2, noise=2).items()
  },
)


def _biggest(rows):
  return int(np.bincount(np.asarray(rows) % 2).argmax())


CALLS = {
  'statistics.benjamini_hochberg': Call(lambda: dict(p_values=[0.1, 0.2])),
  'statistics.holm': Call(lambda: dict(p_values=[0.1, 0.2])),
  'statistics.bootstrap': Call(
    lambda: dict(values=A, statistic=np.median, confidence=0.9, method='bca', num_resamples=99, seed=0)
  ),
  'statistics.choices': Call(lambda: dict(choose=_biggest, num=5, num_resamples=20, seed=0)),
  'statistics.likely': Call(lambda: dict(choose=_biggest, num=5)),
  'statistics.exactly': Call(lambda: dict(value=1.0, num=3)),
  'statistics.factorial_seeds': Call(lambda: dict(init=2, order=2, noise=1)),
  'statistics.first_crossing': Call(lambda: dict(times=[1, 2, 3], values=[[3.0, 2.0, 1.0]], target=2.5)),
  'statistics.fit_bend': Call(
    lambda: dict(batch_sizes=SIZES, steps=STEPS, confidence=0.9, num_resamples=20, seed=0)
  ),
  'statistics.jackknife': Call(
    lambda: dict(statistic=lambda rows: float(np.mean(rows)), num=5, confidence=0.9, scale='plain')
  ),
  'statistics.joint_intervals': Call(
    lambda: dict(values=np.array([A, B]).T, confidence=0.9, selection=0.0, seed=0)
  ),
  'statistics.kaplan_meier': Call(lambda: dict(crossing=CROSSING, confidence=0.9)),
  'statistics.median_time': Call(lambda: dict(crossing=CROSSING, confidence=0.9)),
  'statistics.restricted_mean': Call(lambda: dict(crossing=CROSSING, until=8.0, confidence=0.9)),
  'statistics.log_rank_test': Call(
    lambda: dict(a=CROSSING, b=OTHER, confidence=0.9, num_permutations=20, seed=0)
  ),
  'statistics.loglog_slope': Call(lambda: dict(x=SIZES, y=STEPS)),
  'statistics.over_choices': Call(
    lambda: dict(
      effects={'a': INTERVAL, 'b': INTERVAL._replace(low=0.2)}, shares={'a': 0.7, 'b': 0.3}, scale='plain'
    )
  ),
  'statistics.paired_differences': Call(lambda: dict(a=A, b=B)),
  'statistics.paired_interval': Call(lambda: dict(a=A, b=B, statistic=np.mean)),
  'statistics.paired_log_ratio': Call(lambda: dict(a=A, b=B)),
  'statistics.paired_permutation_test': Call(
    lambda: dict(a=A, b=B, alternative='less', confidence=0.9, num_permutations=20, seed=0)
  ),
  'statistics.paired_power': Call(lambda: dict(effect=0.5, num_seeds=8, significance=0.05)),
  'statistics.paired_t_test': Call(lambda: dict(a=A, b=B, alternative='less', confidence=0.9)),
  'statistics.rank_correlation': Call(lambda: dict(x=A, y=B)),
  'statistics.rank_sum_test': Call(lambda: dict(a=A, b=B, alternative='less', confidence=0.9)),
  'statistics.seeds_needed': Call(lambda: dict(effect=0.5, power=0.8, significance=0.05)),
  'statistics.share': Call(lambda: dict(flags=[True, False, True], confidence=0.9)),
  'statistics.share_difference': Call(
    lambda: dict(first=[True, False, True], second=[True, False], confidence=0.9)
  ),
  'statistics.sign_test': Call(lambda: dict(a=A, b=B, alternative='less', confidence=0.9)),
  'statistics.signed_rank_test': Call(lambda: dict(a=A, b=B, alternative='less', confidence=0.9)),
  'statistics.simulated_power': Call(
    lambda: dict(
      test=lambda x, axis: np.mean(x, axis=axis) * 0 + 0.5,
      draw=lambda size: np.ones(size),
      num_seeds=4,
      significance=0.05,
      num_trials=20,
      confidence=0.9,
    )
  ),
  'statistics.simultaneous': Call(lambda: dict(confidence=0.9, num_claims=3)),
  'statistics.smallest_effect': Call(lambda: dict(num_seeds=8, power=0.8, significance=0.05)),
  'statistics.spent': Call(lambda: dict(significance=0.05, seeds=8, before=4, most=16)),
  'statistics.variance_by_stream': Call(lambda: dict(values=RUNS, confidence=0.9, num_resamples=20, seed=0)),
}
