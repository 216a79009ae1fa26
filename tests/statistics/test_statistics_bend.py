"""The fitted bend: exact data, its own least squares, censoring, coverage."""

import numpy as np
import pytest
import scipy.optimize
import xarray as xr

from gdlab import statistics, theory
from gdlab.core.errors import InputError

SIZES = 2.0 ** np.arange(9)


def test_exact_data_gives_its_constants():
  for least, critical in ((100.0, 8.0), (3.0, 900.0), (5000.0, 0.3)):
    steps = theory.steps_for_batch(SIZES, least, least * critical)
    found = statistics.fit_bend(SIZES, [steps, steps], num_resamples=5)
    # The search stops at 1e-9 in the logarithm where the sum of squares is not below rounding, ~1e-8 in practice.
    np.testing.assert_allclose(found.least_steps.estimate, least, rtol=1e-6)
    np.testing.assert_allclose(found.critical_batch_size[:3], critical, rtol=1e-6)
    assert found.left_out == 0


def test_noisy_data_gives_the_least_squares_of_logarithms():
  rng = np.random.default_rng(0)
  steps = theory.steps_for_batch(SIZES, 50.0, 600.0) * rng.lognormal(0, 0.3, SIZES.size)
  found = statistics.fit_bend(SIZES, [steps])
  fit = scipy.optimize.least_squares(
    lambda logs: logs[0] + np.log1p(np.exp(logs[1]) / SIZES) - np.log(steps),
    [3.0, 2.0],
    xtol=1e-14,
    ftol=1e-14,
  )
  estimates = found.least_steps.estimate, found.critical_batch_size.estimate
  np.testing.assert_allclose(np.log(estimates), fit.x, atol=1e-5)
  assert found.least_steps[1:3] == (-np.inf, np.inf), 'one seed says nothing of the spread'


def test_batch_sizes_that_most_runs_fail_at_are_left_out():
  steps = np.tile(theory.steps_for_batch(SIZES, 100.0, 800.0), (5, 1))
  steps[:3, 0] = np.inf  # three of five: no median
  steps[:2, 1] = np.inf  # two of five: the median is that of the others
  found = statistics.fit_bend(SIZES, steps, num_resamples=50)
  assert found.left_out == 1
  np.testing.assert_allclose(found.critical_batch_size.estimate, 8, rtol=1e-6)


def test_resamples_that_are_all_without_a_fit_leave_it_unbounded():
  # Of three runs one is censored at every batch size but two: a median is finite unless that run is drawn twice.
  steps = np.array([[100, 30, 10.0], [110, np.inf, 11], [90, 30, np.inf]])
  found = [
    statistics.fit_bend([1, 4, 16], steps, num_resamples=1, seed=seed).least_steps for seed in range(20)
  ]
  assert len({interval.estimate for interval in found}) == 1
  unbounded = [(low, high) == (-np.inf, np.inf) for _, low, high, *_ in found]
  assert any(unbounded)
  assert not all(unbounded)


def test_intervals_cover():
  # Medians of 9 seeds with 20 % noise; a percentile bootstrap of so few is a few percent too narrow or too wide.
  # Four standard errors of 100 trials are 0.09 at 0.95.
  rng, covered = np.random.default_rng(1), 0
  for _ in range(100):
    steps = theory.steps_for_batch(SIZES, 50.0, 600.0) * rng.lognormal(0, 0.2, (9, SIZES.size))
    found = statistics.fit_bend(SIZES, steps, num_resamples=99).critical_batch_size
    covered += found.low <= 12 <= found.high
  assert covered >= 84


def test_the_axes_of_a_dataarray_are_told_by_name():
  steps = xr.DataArray([[100.0, 30, 10], [110, 33, 11], [90, 28, 9]], dims=('seed', 'batch_size'))
  found = statistics.fit_bend([1, 4, 16], steps.T, num_resamples=9)
  assert found == statistics.fit_bend([1, 4, 16], steps.values, num_resamples=9)


@pytest.mark.parametrize(
  ('sizes', 'steps', 'message'),
  [
    ([1.0, 2.0, 4.0], [1.0, 1.0, 1.0], r'steps \[seed, k\]'),
    ([1.0, 2.0, 4.0], [[1.0, 1.0]], r'steps \[seed, k\]'),
    ([1.0, 2.0, 0.0], [[1.0, 1.0, 1.0]], 'must be positive'),
    ([1.0, 2.0, 4.0], [[1.0, np.nan, 1.0]], 'must be positive'),
    ([1.0, 2.0, 4.0], [[1.0, np.inf, 1.0]], 'three different batch sizes'),
    ([1.0, 2.0, 2.0], [[1.0, 1.0, 1.0]], 'three different batch sizes'),
  ],
)
def test_refuses(sizes, steps, message):
  with pytest.raises(InputError, match=message):
    statistics.fit_bend(sizes, steps)
