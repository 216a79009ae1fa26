"""The study of batch sizes: effects on results whose answer is plain, what is refused, the end points, a tiny run."""

import dataclasses
import json
import os
import subprocess
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import gdlab
from configs import batch_size as configs
from configs import batch_size_full
from experiments.batch_size import effects, figures, measure
from experiments.batch_size.study import Seen, Settings, batch_size
from gdlab import load
from gdlab.core.errors import InputError
from gdlab.core.types import Problem
from gdlab.study.graded import grade_all

SIZES = (1, 2, 4, 16, 64, 256)
BEST = {'growth': 0.2, 'decay': 0.1, 'kept': 0.4}  # the rate that validates best for each way


@pytest.fixture(scope='module')
def config():
  """Two batch sizes and two settings on every bench, eight seeds."""
  made = configs.get_config()
  one = {'num_seeds': 8, 'momenta': (0.0,)}
  few = {'num_seeds': 8, 'settings': ((0.2, 0.0), (0.5, 0.0))}
  made.update({'seeds': {'count': 8}, 'batch_sizes': (32,), 'learning_rates': (0.2, 0.5), 'momenta': (0.0,)})
  made.update({'epochs': 2, 'updates': 64, 'cnn': one, 'norm': one, 'sharpness': few})
  made.update({'steps': {'batch_sizes': SIZES}, 'growth': {'learning_rates': (0.1, 0.2, 0.4)}})
  return Settings.checked(made.to_dict())


def seen(config, cells) -> Seen:
  """Made-up results, with a clock by which every update takes a second."""
  clock = xr.Dataset({'seconds': (('round', 'batch_size'), np.ones((1, 2)))}, {'batch_size': [32, 1024]})
  return Seen(batch_size, config, {'clock': clock.assign_attrs(mini_batch=32)} | cells, {})


def arms_results(config, bench: str, accuracies, failed=(), **more):
  """Tuning and runs of a bench: setting 1 validates better, and has each arm's test accuracy; setting 0 has 0.3."""
  cells = {}
  for arm, accuracy in zip(
    [arm for arm in effects.arms(config) if arm.bench.name == bench], accuracies, strict=True
  ):
    ends = sorted({0, 32, 64, *effects.budgets(arm, seen(config, {}).cell('clock')).values()})
    values = {'validation_accuracy': [0.2, 0.9], 'validation_loss': 1.0, 'train_loss': 0.5, 'test_loss': 1.0}
    values |= {'test_accuracy': [0.3, accuracy], 'population_accuracy': [0.3, accuracy]} | more
    for cell, count in (('tuning', 3), ('runs', 8)):
      shape = (2, count, len(ends))
      spread = np.random.default_rng(0).normal(0, 1e-4, shape[:2])[..., None]
      columns = {
        name: np.reshape(value, (-1, 1, 1)) + spread + np.zeros(shape) for name, value in values.items()
      }
      columns['status'] = np.zeros(shape, np.int8)
      dims, coords = ('setting', 'seed', 'step'), {'setting': [0, 1], 'seed': range(count), 'step': ends}
      cells[f'{cell}_{arm}'] = xr.Dataset({name: (dims, value) for name, value in columns.items()}, coords)
  return cells


def verdicts(view, claim: str) -> list[str]:
  """Of the parts of a claim."""
  [finding] = grade_all({claim: batch_size.claims[claim]}, view)
  return [part.verdict for part in finding.parts]


@pytest.mark.parametrize(
  ('small', 'verdict'), [(0.97, 'supported'), (0.954, 'contradicted'), (0.93, 'contradicted')]
)
@pytest.mark.parametrize('claim', ['G1', 'G2'])
def test_gain_of_small_batches(config, small, verdict, claim):
  cells = {}
  for bench in ('clean', 'noisy', 'cnn'):
    cells |= arms_results(config, bench, [small, 0.95])
  view = seen(config, cells)
  [finding] = grade_all({claim: batch_size.claims[claim]}, view)
  assert finding.effect == pytest.approx(small - 0.95, abs=1e-9)  # the spread is the same for both arms
  assert finding.verdict == verdict
  assert {part.num for part in finding.parts} == {8} == {finding.num_seeds}
  assert 'perceptron, right labels, full batch: 0.5 (an end of those tried), 0' in finding.conditions


def test_failed_runs_have_learnt_nothing(config):
  cells = arms_results(config, 'clean', [0.99, 0.9])
  cells['runs_clean_b32'].status[1, :4, 1:] = gdlab.DIVERGED
  view = seen(config, cells)
  assert effects.accuracy_gain(view, 'clean', 'epochs').estimate == pytest.approx(0.99 / 2 - 0.9, abs=1e-3)
  small, large = view.pair('clean')
  cells['tuning_clean_b32'].status[1, :, 1:] = gdlab.DIVERGED
  assert (view.setting(small, 'epochs'), view.setting(large, 'epochs')) == (0, 1)


def test_the_matched_setting_is_the_best_where_all_tuning_runs_come_to_the_loss(config):
  # Setting 0 comes to 0.5 at step 2 with accuracy 0.8; setting 1 is better but never does; 2 does, and is worse.
  loss = np.array([[2.0, 0.9, 0.4], [2.0, 1.0, 0.6], [2.0, 0.5, 0.3]])[:, None]
  accuracy = np.array([[0.1, 0.7, 0.8], [0.1, 0.95, 0.95], [0.1, 0.6, 0.99]])[:, None]
  columns = {'train_loss': loss, 'validation_loss': loss, 'validation_accuracy': accuracy, 'status': 0 * loss}
  tuned = xr.Dataset(
    {name: (('setting', 'seed', 'step'), value) for name, value in columns.items()},
    {'setting': [0, 1, 2], 'seed': [0], 'step': [0, 1, 2]},
  )
  arm = effects.arms(config)[0]
  for target, setting in ((0.5, 0), (0.01, 2)):  # none comes to 0.01: the least loss
    own = arm._replace(bench=dataclasses.replace(arm.bench, target=target))
    assert effects.best_setting(own, 'matched', None, tuned) == setting
  reached, place = effects.at_target(tuned, 0.5)
  assert reached.values.ravel().tolist() == [True, False, True]
  assert place.values.ravel().tolist() == [2, 2, 1]


def crossing_results(law, scale: float):
  """Updates by a law of the batch size, and a noise scale on the way, both with some spread between seeds."""
  rng = np.random.default_rng(1)
  cells = {}
  for size in SIZES:
    taken = law(size) * np.exp(rng.normal(0, 0.02, 8))
    cells[f'steps_{size}'] = xr.Dataset({'steps': ('seed', taken), 'censored': ('seed', np.zeros(8, bool))})
  values = scale * np.exp(rng.normal(0, 0.05, (8, 3)))
  return cells | {f'scales_{SIZES[-1]}': xr.Dataset({'simple': (('seed', 'step'), values)})}


@pytest.mark.parametrize(
  ('law', 'scale', 'expected'),
  [
    (lambda size: 30 * (1 + 20 / size), 20, ['supported', 'supported', 'supported']),
    (lambda size: 30 * (1 + 20 / size), 500, ['supported', 'supported', 'contradicted']),
    (lambda size: 600 / size, 20, ['supported', 'contradicted', 'inconclusive']),
    (lambda size: 600 / size**0.6, 20, ['contradicted', 'contradicted']),
  ],
)
def test_updates_to_the_target_bend_where_the_noise_scale_says(config, law, scale, expected):
  assert verdicts(seen(config, crossing_results(law, scale)), 'G5')[: len(expected)] == expected


def test_runs_that_never_came_to_the_target_count(config):
  cells = crossing_results(lambda size: 30 * (1 + 20 / size), 20)
  for size in SIZES[2:]:
    cells[f'steps_{size}'].censored[:5] = True
  interval = effects.critical_batch_size(seen(config, cells))
  assert (interval.low, interval.high, interval.num) == (-np.inf, np.inf, 8)  # two batch sizes make no bend


@pytest.mark.parametrize(
  ('large', 'ghost', 'verdict'),
  [(0.9, 0.93, 'supported'), (0.9, 0.9, 'contradicted'), (0.95, 0.93, 'inconclusive')],
)
def test_ghosts_close_a_gap(config, large, ghost, verdict):
  cells = arms_results(config, 'norm', [0.95, large, ghost])  # where large is 0.95 there is no gap to close
  [finding] = grade_all({'G6': batch_size.claims['G6']}, seen(config, cells))
  assert finding.verdict == verdict


def sharp_results(config, follow: float, ratio: float):
  """Measures that follow the gap that far, and are `ratio` times as large for full batch; tuned to setting 1."""
  rng = np.random.default_rng(2)
  cells = arms_results(config, 'clean', [0.9, 0.9], train_loss=0.01)
  for place, name in enumerate(('b32', 'b1024')):
    gap = rng.normal(0, 1, (2, 8))
    sharp = np.exp(0.01 * (follow * gap + (1 - abs(follow)) * rng.normal(0, 1, gap.shape))) * ratio**place
    columns = {'eigenvalue': sharp, 'loss_gap': gap + follow * (ratio - 1) * place}
    dims, coords = ('setting', 'seed'), {'setting': [0, 1], 'seed': range(8)}
    cells[f'sharpness_clean_{name}'] = xr.Dataset(
      {key: (dims, value) for key, value in columns.items()}, coords
    )
  return cells


def test_at_equal_settings_the_rate_does_not_count(config):
  # Setting 1 makes all curvature ten times as small; full batch is twice as sharp at either, and is tuned to setting 1,
  # the mini-batch to setting 0. Sharpness spreads by 0.01 in its logarithm: a standard error of 0.005 over 8 seeds.
  cells = sharp_results(config, 0.0, 2.0)
  for name in ('b32', 'b1024'):
    cells[f'sharpness_clean_{name}'].eigenvalue[1] /= 10
  cells['tuning_clean_b32'].validation_accuracy[:] = np.array([0.9, 0.2])[:, None, None]
  view = seen(config, cells)
  for equal, ratio in ((False, 0.2), (True, 2.0)):
    assert effects.sharpness_ratio(view, 'clean', 'eigenvalue', equal).estimate == pytest.approx(
      ratio, rel=0.025
    )
  cells['sharpness_clean_b32'].eigenvalue[0, 0] = np.nan
  assert effects.sharpness_ratio(view, 'clean', 'eigenvalue', equal=True).excluded == 1
  assert effects.correlation(view, 'clean', 'eigenvalue', within=False).excluded == 1


def test_correlation_of_sharpness_and_gap(config):
  for follow in (1.0, -1.0):
    view = seen(config, sharp_results(config, follow, 1.0))
    for within in (True, False):
      assert effects.correlation(view, 'clean', 'eigenvalue', within).estimate == pytest.approx(follow)
  cells = sharp_results(config, 0.0, 10.0)
  cells['sharpness_clean_b1024'].loss_gap[:] += 10  # between batch sizes alone
  view = seen(config, cells)
  assert effects.correlation(view, 'clean', 'eigenvalue', within=False).estimate > 0.7
  # Of n independent pairs Spearman's correlation has the standard deviation 1 / sqrt(n - 1), and this is the mean of two
  # such, of n = 2 settings times 8 seeds: five of those deviations.
  assert abs(effects.correlation(view, 'clean', 'eigenvalue', within=True).estimate) < 5 / np.sqrt(2 * 15)


def way_results(config, ratio: float = 1.0, lag: float = 0.0):
  """A growing batch has `ratio` times the loss of a decaying rate, and at its own best rate is `lag` less accurate."""
  rates, cells = np.array(config.growth.learning_rates), {}
  for way, best in BEST.items():
    for cell, count in (('way_search', 3), ('way', 8)):
      own = (rates == best)[:, None, None] * np.ones((3, count, config.growth.epochs[-1] + 1))
      loss = np.exp(-0.1 * np.arange(own.shape[2])) * np.ones(own.shape) * (ratio if way == 'growth' else 1)
      columns = {'train_loss': loss, 'validation_loss': loss, 'validation_accuracy': 0.8 + 0.1 * own}
      columns |= {
        'test_accuracy': 0.9 - lag * own * (way == 'growth'),
        'status': np.zeros(own.shape, np.int8),
      }
      made = np.linspace(0, 600 if way == 'growth' else 1000, own.shape[2])
      cells[f'{cell}_{way}'] = xr.Dataset(
        {key: (('learning_rate', 'seed', 'step'), value) for key, value in columns.items()},
        {'learning_rate': rates, 'seed': range(count), 'step': made},
      )
  return cells


def test_growing_and_decaying(config):
  assert verdicts(seen(config, way_results(config)), 'G7') == ['supported'] * 5
  assert (
    verdicts(seen(config, way_results(config, ratio=1.5)), 'G7') == ['contradicted'] * 2 + ['supported'] * 3
  )
  cells = way_results(config, lag=0.02)
  view = seen(config, cells)
  assert {way: view.way_rate(way) for way in effects.WAYS} == BEST
  assert effects.way_accuracy(view, 'decay').estimate == pytest.approx(0)
  assert effects.way_accuracy(view, 'growth').estimate == pytest.approx(-0.02)
  assert effects.way_updates(view).estimate == pytest.approx(0.6)
  cells['way_search_growth'].status.loc[{'learning_rate': 0.2}] = gdlab.DIVERGED
  assert view.way_rate('growth') != 0.2
  cells['way_growth'].status[:, 0, -1] = gdlab.DIVERGED
  interval = effects.way_loss_ratio(view, 2)
  assert (interval.estimate, interval.excluded) == (np.inf, 0)


@pytest.mark.parametrize('bench', ['clean', 'noisy'])
def test_stopping_by_either_loss(config, bench):
  # Training loss falls to the end; validation loss is least at record 1, where the test is best.
  cells = arms_results(config, bench, [0.9, 0.9])
  found = cells[f'runs_{bench}_b32']
  ramp = np.linspace(1, 0.1, found.sizes['step'])
  found.train_loss[:], found.validation_loss[:], found.validation_loss[..., 1] = ramp, 1.0, 0.5
  found.test_accuracy[..., 1], found.test_accuracy[..., -1] = 0.95, 0.8
  found.test_loss[..., 1], found.test_loss[..., -1] = 0.4, 0.8
  found.validation_loss[0] = ramp  # the other setting fits best, and is at its best to the end
  cells[f'tuning_{bench}_b32'].train_loss[0] = 0.1
  view = seen(config, cells)
  for kind, gain, ratio in (('epochs', 0.15, 0.5), ('fit', 0, 1)):
    assert effects.stopping_gain(view, bench, kind, 'test_accuracy').estimate == pytest.approx(gain)
    assert effects.stopping_gain(view, bench, kind, 'test_loss').estimate == pytest.approx(ratio)


def test_end_points_have_the_target_loss_however_far_below_their_records_fall():
  # The loss w^2 / 2: an update of cooling multiplies w by 0.9. From 1.0 five updates come below the target, from 2.0 they
  # come to 2 * 0.9^5 = 1.18, above it: cooling begins there, and 2 * 0.9^7 = 0.957 is the first at or below 1.
  def losses(params, examples):
    return params[0] ** 2 / 2 + 0 * examples

  problem = Problem(
    lambda key: (jnp.ones(1), ()),
    lambda params, state, examples, mask, key: (losses(params, examples), state),
    lambda params, state, examples: {'loss': losses(params, examples)},
    'parabola',
    jnp.zeros(4),
  )
  options = types.SimpleNamespace(cooling_rate=0.1, cooling_updates=5, cooling_limit=100)
  points = np.array([[4.0], [2.0], [1.0], [0.2]], np.float32)
  params, place, updates, reached = measure.end_point(problem, points, 3, 0.5, options)
  assert (place, updates, reached) == (1, 7, True)
  assert params[0] == pytest.approx(2 * 0.9**7, rel=1e-5)  # float32 over 7 updates
  far = np.array([[1e6], [1e5]], np.float32)
  assert measure.end_point(problem, far, 1, 0.5, options)[1:] == (1, 100, False)
  assert np.isnan(measure.end_point(problem, far * np.nan, 1, 0.5, options)[0]).all()


def test_the_configurations_are_sound():
  for made in (configs, batch_size_full):
    Settings.checked(made.get_config().to_dict())


@pytest.mark.parametrize(
  ('key', 'value', 'words'),
  [
    ('dataset', 'digit', ("'digits'",)),
    ('num_train', 1_400, ('num_train', '1024]')),
    ('mini_batch', 64, ('mini_batch', '(8, 32, 128)', '64')),
    ('batch_sizes', (32, 8), ('batch_sizes', 'increase', '(32, 8)')),
    ('norm.batch_sizes', (1024,), ('norm.batch_sizes', '1023]', '1024')),
    ('cnn.num_seeds', 33, ('cnn.num_seeds', '32]', '33')),
    ('sharpness.settings', ((0.7, 0.0),), ('sharpness.settings', '(0.7, 0.0)')),
    ('sharpness.cooling_limit', 40, ('sharpness.cooling_limit', '>= 50', '40')),
    ('growth.batch_size', 128, ('growth.batch_size', '1024]', '2048')),
    ('growth.epochs', (9, 5, 12), ('growth.epochs', 'increase', '(9, 5, 12)')),
  ],
)
def test_what_the_study_could_not_finish_with_is_refused(key, value, words):
  config = configs.get_config()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(InputError) as refused:
    batch_size.cells(config)
  assert all(word in str(refused.value) for word in words)
