"""Variance by stream: against least squares, a simulated random-effects model, its coverage, and a run."""

import itertools

import jax
import numpy as np
import optax
import pytest
import xarray as xr

import gdlab
from gdlab import statistics
from gdlab.core.errors import InputError


def of_runs(table, seeds=None):
  """A table float[init, order, noise] as the result of the runs of a factorial."""
  seeds = statistics.factorial_seeds(*table.shape) if seeds is None else seeds
  coordinates = {f'{name}_seed': ('seed', ids) for name, ids in seeds.items()}
  values = table[seeds['init'], seeds['order'], seeds['noise']]
  return xr.DataArray(values, dims='seed', coords=coordinates)


def drawn(rng, sizes, variances):
  """A table of the random-effects model: variance by set of axes."""
  table = np.full(sizes, 3.0)
  for axes, variance in variances.items():
    shape = [size if axis in axes else 1 for axis, size in enumerate(sizes)]
    table = table + np.sqrt(variance) * rng.normal(size=shape)
  return table


def test_mean_squares_are_those_of_nested_least_squares():
  # The sum of squares of an effect is what its dummy variables explain beyond all smaller sets of streams.
  table = np.random.default_rng(0).normal(size=(3, 4, 2))
  runs = of_runs(table)
  found = statistics.variance_by_stream(runs, num_resamples=10)
  streams = ('init', 'order', 'noise')

  def residual(subsets):
    columns = [np.ones((24, 1))]
    for subset in subsets:
      cell = np.zeros(24, int)
      for stream in subset:
        cell = 10 * cell + runs[f'{stream}_seed'].values
      columns.append((cell[:, None] == np.unique(cell)).astype(float))
    design = np.hstack(columns)
    return np.sum((runs.values - design @ np.linalg.lstsq(design, runs.values)[0]) ** 2)

  for name in found.component.values:
    subset = tuple(name.split(':'))
    smaller = [other for size in range(1, len(subset)) for other in itertools.combinations(subset, size)]
    expected = residual(smaller) - residual([*smaller, subset])
    one = found.sel(component=name)
    # 24 values of size 1 and at most 35 columns: rounding is far below 1e-10.
    assert float(one.mean_square * one.degrees_of_freedom) == pytest.approx(expected, abs=1e-10)
  np.testing.assert_array_equal(found.degrees_of_freedom, [2, 3, 1, 6, 2, 3, 6])
  assert [name.split(':') for name in found.component.values][-1] == list(streams)


def test_the_two_way_estimates_are_the_textbooks():
  table = np.random.default_rng(1).normal(size=(5, 4, 1)) + 2 * np.arange(5)[:, None, None]
  found = statistics.variance_by_stream(of_runs(table), num_resamples=10)
  rows, columns = table[..., 0].mean(axis=1), table[..., 0].mean(axis=0)
  rest = table[..., 0] - rows[:, None] - columns + table.mean()
  rest = np.sum(rest**2) / 12
  expected = [rows.var(ddof=1) - rest / 4, columns.var(ddof=1) - rest / 5, rest]
  np.testing.assert_allclose(found.variance, expected, rtol=1e-12)
  np.testing.assert_allclose(found.share, expected / np.sum(expected), rtol=1e-12)
  assert found.component.values.tolist() == ['init', 'order', 'init:order']
  assert found.attrs['mean'] == pytest.approx(table.mean())


def test_estimates_are_unbiased_and_negative_ones_are_kept():
  # Nothing of `order` and of two pairs: their estimates average 0, so about half of them are negative.
  sizes, rng = (4, 3, 3), np.random.default_rng(2)
  truth = {(0,): 2.0, (1,): 0.0, (2,): 0.5, (0, 1): 0.0, (0, 2): 1.0, (1, 2): 0.0, (0, 1, 2): 0.3}
  found = np.array(
    [
      statistics.variance_by_stream(of_runs(drawn(rng, sizes, truth)), num_resamples=1).variance
      for _ in range(600)
    ]
  )
  errors = (found.mean(axis=0) - list(truth.values())) / (found.std(axis=0) / np.sqrt(len(found)))
  assert np.abs(errors).max() < 4
  assert 0.2 < (found[:, 1] < 0).mean() < 0.8


def test_intervals_cover():
  # Over 600 trials each, 40 components of eight designs covered between 0.913 and 0.982, on average 0.952. Four
  # standard errors of 200 trials are 0.06.
  sizes, rng, trials = (6, 6, 1), np.random.default_rng(3), 200
  truth = {(0,): 1.0, (1,): 0.3, (0, 1): 0.2}
  covered = np.zeros(3)
  for _ in range(trials):
    found = statistics.variance_by_stream(of_runs(drawn(rng, sizes, truth)), num_resamples=499)
    covered += (found.variance_low <= list(truth.values())) & (list(truth.values()) <= found.variance_high)
  assert np.all(np.abs(covered / trials - 0.95) < 0.06)


def test_the_order_of_runs_does_not_matter():
  table = np.random.default_rng(4).normal(size=(3, 4, 1))
  runs = of_runs(table)
  mixed = runs.isel(seed=np.random.default_rng(5).permutation(12))
  xr.testing.assert_allclose(
    statistics.variance_by_stream(runs), statistics.variance_by_stream(mixed), rtol=1e-12
  )


def test_a_run_from_a_fixed_start_owes_nothing_to_its_initialisation():
  problem = gdlab.problems.quadratic([1.0, 0.1], noise=0.1, num_examples=8, start=[1.0, 1.0])
  sgd = gdlab.algorithm(sampler=gdlab.sampling.single(), optimizer=optax.sgd(0.1))
  seeds = statistics.factorial_seeds(init=3, order=4)
  plan = gdlab.Plan(lanes_at_once=1, num_devices=1, steps_per_call=5)
  result = gdlab.run(problem, sgd, num_steps=5, seeds=seeds, eval_every=5, plan=plan, progress=False)
  ends = result.train_loss.isel(step=-1)
  found = statistics.variance_by_stream(ends).variance
  by_order = ends.values.astype(float).reshape(3, 4)[0].var(ddof=1)
  # Runs of one order are the same to float32 rounding of a loss below 1.
  np.testing.assert_allclose(found, [0, by_order, 0], atol=1e-9)
  assert by_order > 1e-6
  jax.clear_caches()


def test_values_that_are_all_the_same():
  found = statistics.variance_by_stream(of_runs(np.ones((2, 2, 1))))
  np.testing.assert_array_equal(found.variance, 0)
  np.testing.assert_array_equal(found.share, 0)


def test_refusals():
  full = of_runs(np.zeros((2, 3, 1)))
  for values, message in (
    (full.values, 'must be a DataArray'),
    (full.drop_vars('order_seed'), r"none of \['order_seed'\]"),
    (full.isel(seed=slice(5)), 'must be of a full factorial.*6 combinations, got 5 runs'),
    (xr.concat([full, full[:1]], 'seed'), 'full factorial'),
    (of_runs(np.zeros((1, 1, 1))), 'full factorial'),
    (full.where(full.order_seed < 2), 'values must be finite, got 2'),
  ):
    with pytest.raises(InputError, match=message):
      statistics.variance_by_stream(values)
  with pytest.raises(InputError, match='confidence'):
    statistics.variance_by_stream(full, confidence=2)
  with pytest.raises(InputError, match='order must be a whole number >= 1'):
    statistics.factorial_seeds(order=0)
