"""What many runs say: effects with intervals, tests, times to a target, where variance comes from, and power.

Two arms of a comparison that share their seeds share initialisation and data order, so their difference (or ratio)
seed by seed has the smaller variance; that is why effects are paired before they are averaged. Everything here is
NumPy and SciPy, on the host.

| question | functions |
|---|---|
| how large, and how sure | `bootstrap` (Student's t for means), `paired_interval`, `paired_log_ratio`, `exactly` |
| how one quantity goes with another | `loglog_slope`, `rank_correlation` |
| is there a difference | `paired_t_test`, `paired_permutation_test`, `signed_rank_test`, `sign_test`, `rank_sum_test` |
| how many steps to a target | `first_crossing`, `kaplan_meier`, `median_time`, `restricted_mean`, `log_rank_test` |
| ... for each batch size | `fit_bend` |
| which stream the spread comes from | `factorial_seeds`, `variance_by_stream` |
| many claims at once | `holm`, `benjamini_hochberg`, `simultaneous` |
| how many seeds | `paired_power`, `seeds_needed`, `smallest_effect`, `simulated_power` |
"""

from gdlab.statistics.bend import Bend, fit_bend
from gdlab.statistics.comparisons import (
  Comparison,
  paired_permutation_test,
  paired_t_test,
  rank_sum_test,
  sign_test,
  signed_rank_test,
)
from gdlab.statistics.corrections import benjamini_hochberg, holm, simultaneous
from gdlab.statistics.crossings import Crossing, first_crossing
from gdlab.statistics.intervals import Interval, exactly
from gdlab.statistics.pairing import paired_differences, paired_interval, paired_log_ratio
from gdlab.statistics.power import paired_power, seeds_needed, simulated_power, smallest_effect
from gdlab.statistics.ranks import rank_correlation
from gdlab.statistics.resampling import bootstrap, loglog_slope
from gdlab.statistics.streams import factorial_seeds, variance_by_stream
from gdlab.statistics.survival import Survival, kaplan_meier, log_rank_test, median_time, restricted_mean

__all__ = [
  'Bend',
  'Comparison',
  'Crossing',
  'Interval',
  'Survival',
  'benjamini_hochberg',
  'bootstrap',
  'exactly',
  'factorial_seeds',
  'first_crossing',
  'fit_bend',
  'holm',
  'kaplan_meier',
  'log_rank_test',
  'loglog_slope',
  'median_time',
  'paired_differences',
  'paired_interval',
  'paired_log_ratio',
  'paired_permutation_test',
  'paired_power',
  'paired_t_test',
  'rank_correlation',
  'rank_sum_test',
  'restricted_mean',
  'seeds_needed',
  'sign_test',
  'signed_rank_test',
  'simulated_power',
  'simultaneous',
  'smallest_effect',
  'variance_by_stream',
]
