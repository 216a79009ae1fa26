"""What studies ask of tuned runs: choices, their chance, and data drawn anew."""

import numpy as np
import optax
import pytest
import xarray as xr

import gdlab
from gdlab import statistics, study
from gdlab.study.graded import facts


def _tuned(values):
  return xr.DataArray(values, dims=('seed', 'rate'), coords={'rate': [0.1, 0.3]})


def test_the_chooser_of_all_runs_is_best():
  values = _tuned(np.random.default_rng(0).normal(size=(8, 2)))
  choose = study.chooser(values, 'rate')
  assert choose(np.arange(8)) == study.best(values, 'rate')
  for run in range(8):
    assert choose(np.array([run])) == values.rate.values[values.values[run].argmin()]


def test_ties_decide_between_equal_means_and_failed_runs_are_never_chosen():
  assert study.best(_tuned([[1.0, 1.0]]), 'rate', _tuned([[2.0, 1.0]])) == 0.3
  assert study.best(_tuned([[np.inf, 1.0], [0.0, 1.0]]), 'rate') == 0.3
  # The same four losses in another order: their float32 sums differ, and the tie decides all the same.
  shares = np.float32([[0.9, 0.7], [0.7, 0.9], [0.1, 0.3], [0.3, 0.1]])
  assert shares[:, 0].mean() > shares[:, 1].mean()
  assert study.best(_tuned(shares), 'rate', _tuned([[1.0, 2.0]] * 4)) == 0.1


def test_a_sure_choice_leaves_the_interval_and_a_doubtful_one_widens_it():
  graded = {0.1: 1.0, 0.3: 2.0}
  noise = np.random.default_rng(1).normal(size=16)
  effect = lambda rate: statistics.bootstrap(graded[rate] + 0.1 * noise)
  sure = study.chooser(_tuned([[0.0, 1.0]] * 8), 'rate')
  assert study.after_choice(effect, [sure], 8) == effect(0.1)
  doubtful = study.chooser(_tuned([[0.0, 1.0], [1.0, 0.1]] * 4), 'rate')
  found = study.after_choice(effect, [doubtful], 8)
  assert found.estimate == effect(doubtful(np.arange(8))).estimate
  assert found.high - found.low > 1  # the choices lie 1 apart


def test_sweep_anew_gives_every_seed_its_own_data_and_otherwise_the_runs_of_sweep():
  whole = gdlab.problems.split(gdlab.problems.digits(gdlab.problems.MLP((4,))), validation=0.2)
  data = lambda seed: gdlab.problems.redraw(whole, seed)
  make = lambda learning_rate: gdlab.algorithm(
    sampler=gdlab.sampling.reshuffle(32), optimizer=optax.sgd(learning_rate)
  )
  grid, told = {'learning_rate': [0.1, 0.3]}, []
  options = {'num_steps': 5, 'eval_every': 5}
  found = study.sweep_anew(
    data, make, grid, seeds=[3, 9], progress=lambda done, total: told.append((done, total)), **options
  )
  assert told == [(1, 2), (2, 2)]
  for seed in (3, 9):
    alone = gdlab.sweep(data(seed), make, grid, seeds=[seed], **options).sel(seed=seed)
    for name in ('train_loss', 'validation_accuracy', 'test_accuracy'):
      np.testing.assert_array_equal(found.sel(seed=seed)[name], alone[name])
  assert (found.test_loss.sel(seed=3, step=0) != found.test_loss.sel(seed=9, step=0)).all()


@pytest.mark.parametrize('confidence', [0.95, 0.5])
def test_values_that_are_all_the_same_are_no_evidence(confidence):
  same = statistics.paired_interval(np.ones(8), np.ones(8), confidence=confidence)
  for rule in (gdlab.claims.within(-1, 1), gdlab.claims.greater_than(-1), gdlab.claims.less_than(1)):
    claim = gdlab.claims.Claim('X1', 'Nothing differs.', {'difference': rule})
    finding = gdlab.claims.grade(claim, {'difference': same}, num_seeds=8, conditions='')
    assert finding.verdict is gdlab.claims.Verdict.INCONCLUSIVE


def test_rounding_is_no_spread():
  same = statistics.jackknife(lambda runs: np.full(16, 0.1)[runs].sum() / len(runs) * 3, 16)
  claim = gdlab.claims.Claim('X1', 'It is about .3.', {'value': gdlab.claims.within(0.2, 0.4)})
  for interval in (same, same._replace(low=0.3, high=0.3 + 1e-15)):
    finding = gdlab.claims.grade(claim, {'value': interval}, num_seeds=16, conditions='')
    assert finding.verdict is gdlab.claims.Verdict.INCONCLUSIVE


@pytest.mark.parametrize('dims', [('seed', 'step'), ('seed', 'record'), ('seed',)])
def test_diverged_runs_are_counted_once_however_they_are_recorded(dims):
  status = np.array([[gdlab.RUNNING, gdlab.DIVERGED, gdlab.DIVERGED], [gdlab.RUNNING] * 3])
  kept = status if len(dims) == 2 else status[:, -1]
  cell = xr.Dataset({'status': (dims, kept)}, attrs={'cell_wall_time_s': 1.0})
  rows = {row[0]: row[1] for row in facts({'one': cell}).rows}
  assert rows['runs that diverged, tuning included'] == '1'
