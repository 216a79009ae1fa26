"""G3 and G4 of the batch-size study on made-up results whose answer is plain, and the cooling of end points."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from test_batch_size_study_effects import SEEDS, arms_results, small_config, study_of

from experiments.batch_size import arms, claims, cooling, sharp_effects
from gdlab.core.types import Problem


@pytest.fixture(scope='module')
def config():
  return small_config()


def test_the_matched_setting_is_the_best_where_all_tuning_runs_come_to_the_loss():
  # Setting 0 comes to 0.5 at step 2 with accuracy 0.8; setting 1 is better but never does; 2 does, and is worse.
  loss = np.array([[2.0, 0.9, 0.4], [2.0, 1.0, 0.6], [2.0, 0.5, 0.3]])
  accuracy = np.array([[0.1, 0.7, 0.8], [0.1, 0.95, 0.95], [0.1, 0.6, 0.99]])
  dims = ('setting', 'seed', 'step')
  tuned = xr.Dataset(
    {
      'train_loss': (dims, loss[:, None]),
      'validation_loss': (dims, loss[:, None]),
      'validation_accuracy': (dims, accuracy[:, None]),
      'status': (dims, np.zeros((3, 1, 3))),
    },
    {'setting': [0, 1, 2], 'seed': [1_000_000], 'step': [0, 1, 2]},
  )
  assert arms.matched_setting(tuned, 0.5) == 0
  assert arms.matched_setting(tuned, 0.01) == 2  # none comes there: the least loss
  reached, place = arms.at_target(tuned, 0.5)
  assert reached.values.ravel().tolist() == [True, False, True]
  assert place.values.ravel().tolist() == [2, 2, 1]


def sharp_results(config, follow: float, ratio: float):
  """Measures that follow the gap that far, and are `ratio` times as large for full batch."""
  rng = np.random.default_rng(2)
  results = arms_results(config, 'clean', {'b32': 0.9, 'b1024': 0.9})
  for number, name in enumerate(('b32', 'b1024')):
    gap = rng.normal(0, 1, (2, len(SEEDS)))
    sharp = np.exp(0.01 * (follow * gap + (1 - abs(follow)) * rng.normal(0, 1, gap.shape))) * ratio**number
    dims = ('setting', 'seed')
    results[f'sharpness_clean_{name}'] = xr.Dataset(
      {'eigenvalue': (dims, sharp), 'loss_gap': (dims, gap + follow * (ratio - 1) * number)},
      {'setting': [0, 1], 'seed': list(SEEDS)},
    )
  return results


def test_sharper_and_flatter(config):
  for ratio, verdict in ((1.5, 'supported'), (1.0, 'contradicted'), (0.7, 'contradicted')):
    study = study_of(config, sharp_results(config, 1.0, ratio))
    interval = sharp_effects.sharpness_ratio(study, 'clean', 'eigenvalue')
    assert interval.estimate == pytest.approx(ratio, rel=0.02)
    assert claims.greater_than(claims.SHARPER).judge(interval) == verdict


def test_at_equal_settings_the_rate_does_not_count(config):
  # Setting 1 makes all curvature ten times as small; full batch is twice as sharp at either; it is tuned to setting 1,
  # the mini-batch to setting 0.
  results = sharp_results(config, 0.0, 2.0)
  for name in ('b32', 'b1024'):
    results[f'sharpness_clean_{name}'].eigenvalue[1] /= 10
  # Both settings come to the target where the tuning runs first have records, and validate there.
  results['tuning_clean_b32'].validation_accuracy[:] = np.array([0.9, 0.2])[:, None, None]
  for name in ('b32', 'b1024'):
    results[f'tuning_clean_{name}'].train_loss[:] = 0.01
  study = study_of(config, results)
  own = sharp_effects.sharpness_ratio(study, 'clean', 'eigenvalue')
  alike = sharp_effects.sharpness_ratio_alike(study, 'clean', 'eigenvalue')
  # Sharpness spreads by 0.01 about its logarithm: over 8 seeds and two arms a standard error of 0.005.
  assert own.estimate == pytest.approx(0.2, rel=0.025)
  assert alike.estimate == pytest.approx(2.0, rel=0.025)
  for setting in (0, 1):
    assert sharp_effects.ratio_at(study, 'clean', 'eigenvalue', setting).estimate == pytest.approx(
      2.0, rel=0.025
    )
  rule = claims.greater_than(claims.SHARPER)
  assert (rule.judge(own), rule.judge(alike)) == ('contradicted', 'supported')
  results['sharpness_clean_b32'].eigenvalue[0, 0] = np.nan
  assert sharp_effects.sharpness_ratio_alike(study, 'clean', 'eigenvalue').excluded == 1


def test_correlation_of_sharpness_and_gap(config):
  rule = claims.greater_than(claims.CORRELATED)
  for follow, verdict in ((1.0, 'supported'), (-1.0, 'contradicted')):
    study = study_of(config, sharp_results(config, follow, 1.0))
    for measure in (sharp_effects.rank_correlation, sharp_effects.rank_correlation_within):
      interval = measure(study, 'clean', 'eigenvalue')
      assert interval.estimate == pytest.approx(follow)
      assert rule.judge(interval) == verdict


def test_a_correlation_between_batch_sizes_alone_is_none_within(config):
  results = sharp_results(config, 0.0, 10.0)
  results['sharpness_clean_b1024'].loss_gap[:] += 10
  study = study_of(config, results)
  assert sharp_effects.rank_correlation(study, 'clean', 'eigenvalue').estimate > 0.7
  within = sharp_effects.rank_correlation_within(study, 'clean', 'eigenvalue').estimate
  # Of n independent pairs Spearman's correlation has the standard deviation 1 / sqrt(n - 1), and this is the mean of
  # two such, of n = 2 settings times the seeds: five of those deviations.
  assert abs(within) < 5 / np.sqrt(2 * (2 * len(SEEDS) - 1))


def test_a_run_without_an_end_point_is_not_silently_left_out(config):
  results = sharp_results(config, 1.0, 1.0)
  results['sharpness_clean_b32'].eigenvalue[0, 0] = np.nan
  assert sharp_effects.rank_correlation(study_of(config, results), 'clean', 'eigenvalue').excluded == 1


class Options:
  """Of the cooling."""

  cooling_rate, cooling_updates, cooling_limit = 0.1, 5, 100


def quadratic() -> Problem:
  """The loss w^2 / 2 of one parameter: an update of cooling multiplies w by 0.9."""

  def losses(params, examples):
    return params[0] ** 2 / 2 + 0 * examples

  return Problem(
    lambda key: (jnp.ones(1), ()),
    lambda params, state, examples, mask, key: (losses(params, examples), state),
    lambda params, state, examples: {'loss': losses(params, examples)},
    'parabola',
    jnp.zeros(4),
  )


def test_end_points_have_the_target_loss_however_far_below_their_records_fall():
  points = np.array([[4.0], [2.0], [1.0], [0.2]], np.float32)
  target = 0.5 * 1.0**2
  found = cooling.end_point(quadratic(), points, 3, target, Options)
  # From 1.0 five updates come below the target, from 2.0 they come to 2 * 0.9^5 = 1.18, above it: it starts there.
  assert found.place == 1
  assert found.reached
  assert target * 0.9**2 <= found.loss <= target  # one update's fall below, at most
  assert found.updates == 7  # 2 * 0.9^7 = 0.957 is the first at or below 1
  assert found.params[0] == pytest.approx(2 * 0.9**7, rel=1e-5)  # float32 over 7 updates


def test_a_run_that_never_comes_to_the_target_is_cooled_to_the_limit_from_its_last_record():
  points = np.array([[1e6], [1e5]], np.float32)
  found = cooling.end_point(quadratic(), points, 1, 0.5, Options)
  assert (found.reached, found.updates, found.place) == (False, 100, 1)
  lost = cooling.end_point(quadratic(), np.array([[1.0], [np.nan]], np.float32), 1, 0.5, Options)
  assert not lost.reached
  assert np.isnan(lost.params).all()
