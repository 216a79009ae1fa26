"""Statistics of many runs: effects with intervals, tests, times to a target, sources of variance, and power.

Two arms of a comparison that share their seeds share initialisation and data order, so their difference (or ratio)
seed by seed has a smaller variance; that is why effects are paired before they are averaged. Everything here is
NumPy and SciPy, on the host.

| question | functions |
|---|---|
| how large, and how certain | `bootstrap` (Student's t for means), `paired_interval`, `paired_log_ratio`, `exactly` |
| how one quantity depends on another | `loglog_slope`, `rank_correlation` |
| is there a difference | `paired_t_test`, `paired_permutation_test`, `signed_rank_test`, `sign_test`, `rank_sum_test` |
| how many steps to a target | `first_crossing`, `kaplan_meier`, `median_time`, `restricted_mean`, `log_rank_test` |
| ... for each batch size | `fit_bend` |
| which random stream the variance comes from | `factorial_seeds`, `variance_by_stream` |
| many claims at once | `holm`, `benjamini_hochberg`, `simultaneous`, `joint_intervals` |
| several looks at growing numbers of seeds | `spent` |
| how many seeds | `paired_power`, `seeds_needed`, `smallest_effect`, `simulated_power` |
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
