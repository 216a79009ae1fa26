"""The study of batch sizes: effects on results whose answer is plain, end points, refusals, a tiny run."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import gdlab
from configs import batch_size as configs
from configs import batch_size_full
from experiments.batch_size import effects, measure
from experiments.batch_size.study import Seen, Settings, batch_size
from gdlab.claims import read_claims
from gdlab.core.errors import InputError
from gdlab.study.graded import grade_all

YES, NO, OPEN = 'supported', 'contradicted', 'inconclusive'
SIZES = (1, 2, 4, 16, 64, 256)
BEST = {'growth': 0.2, 'decay': 0.1, 'kept': 0.4}  # the rate that validates best for each way
ARMS = ('setting', 'seed', 'step')
TINY = """seeds.first=0 seeds.count=2 seeds.tuning=1 hidden=(4,) num_train=128 num_validation=60 batch_sizes=(32,)
learning_rates=(0.1,0.5) momenta=(0.0,) epochs=3 updates=12 evaluations=3 lanes_per_block=4 clock.precision=10.0
cnn.features=(2,) cnn.num_seeds=2 cnn.momenta=(0.0,) cnn.epochs=1 cnn.updates=2 norm.num_seeds=2 norm.momenta=(0.0,)
norm.epochs=2 norm.updates=2 sharpness.num_seeds=2 sharpness.cooling_updates=2 sharpness.target.clean=2.2
sharpness.target.noisy=2.25 sharpness.settings=((0.1,0.0),(0.5,0.0)) steps.batch_sizes=(1,4,16,128)
steps.learning_rates=(0.1,0.3) steps.target_loss=2.2 steps.budget_updates=40 steps.budget_examples=100
steps.scale_records=3 steps.scale_seeds=2 growth.epochs=(1,2,3) growth.learning_rates=(0.1,0.3)"""


@pytest.fixture(scope='module')
def config():
  one, few = {'num_seeds': 8, 'momenta': (0.0,)}, {'num_seeds': 8, 'settings': ((0.2, 0.0), (0.5, 0.0))}
  made = configs.get_config()
  made.update({'seeds': {'count': 8}, 'batch_sizes': (32,), 'learning_rates': (0.2, 0.5), 'momenta': (0.0,)})
  made.update({'epochs': 2, 'updates': 64, 'cnn': one, 'norm': one, 'sharpness': few})
  made.update({'steps': {'batch_sizes': SIZES}, 'growth': {'learning_rates': (0.1, 0.2, 0.4)}})
  return Settings.checked(made.to_dict())


def seen(config, cells) -> Seen:
  clock = dataset(
    ('round', 'batch_size'), {'seconds': np.ones((1, 2))}, [0], [32, 1024]
  )  # one for every update
  return Seen(batch_size, config, {'clock': clock.assign_attrs(mini_batch=32)} | cells, {})


def dataset(dims, columns, *coords) -> xr.Dataset:
  return xr.Dataset(
    {name: (dims, np.array(value)) for name, value in columns.items()}, dict(zip(dims, coords))
  )


def parts(config, cells, claim: str) -> list[str]:
  [finding] = grade_all({claim: batch_size.claims[claim]}, seen(config, cells))
  return [part.verdict for part in finding.parts]


def trained(config, bench: str, accuracies, **more):
  """Tuning and runs of a bench: setting 1 validates better, and has each arm's test accuracy; setting 0 has 0.3."""
  cells, view = {}, seen(config, {})
  for arm, accuracy in zip(view.arms(bench), accuracies, strict=True):
    ends = sorted({0, 32, 64, *effects.budgets(arm, view.cell('clock')).values()})
    values = {'validation_accuracy': [0.2, 0.9], 'validation_loss': 1.0, 'train_loss': 0.5, 'test_loss': 1.0}
    values |= {'test_accuracy': [0.3, accuracy], 'population_accuracy': [0.3, accuracy], 'status': 0} | more
    for cell, count in (('tuning', 3), ('runs', 8)):
      zeros = np.zeros((2, count, len(ends)))
      columns = {name: np.reshape(value, (-1, 1, 1)) + zeros for name, value in values.items()}
      cells[f'{cell}_{arm}'] = dataset(ARMS, columns, [0, 1], range(count), ends)
  return cells


def test_gain_of_small_batches(config):
  asked = {claim: batch_size.claims[claim] for claim in ('G1', 'G2')}
  for small, verdict in ((0.97, YES), (0.954, NO)):
    cells = {}
    for bench in ('clean', 'noisy', 'cnn'):
      cells |= trained(config, bench, [small, 0.95])
    view = seen(config, cells)
    for finding in grade_all(asked, view):
      assert (finding.verdict, finding.num_seeds) == (verdict, 8)
      assert finding.effect == pytest.approx(small - 0.95)
      assert 'perceptron, right labels, full batch: 0.5 (an end of those tried), 0' in finding.conditions
  cells['runs_clean_b32'].status[1, :4, 1:] = gdlab.DIVERGED  # and has learnt nothing
  assert effects.accuracy_gain(view, 'clean', 'epochs').estimate == pytest.approx(0.954 / 2 - 0.95)
  cells['tuning_clean_b32'].status[1, :, 1:] = gdlab.DIVERGED
  assert [view.setting(arm, 'epochs') for arm in view.pair('clean')] == [0, 1]


def test_the_matched_setting_is_the_best_where_all_tuning_runs_come_to_the_loss(config):
  # Setting 0 comes to 0.5 at step 2 with accuracy 0.8; setting 1 is better but never does; 2 does, and is worse.
  loss = np.array([[2.0, 0.9, 0.4], [2.0, 1.0, 0.6], [2.0, 0.5, 0.3]])[:, None]
  accuracy = np.array([[0.1, 0.7, 0.8], [0.1, 0.95, 0.95], [0.1, 0.6, 0.99]])[:, None]
  columns = {'train_loss': loss, 'validation_loss': loss, 'validation_accuracy': accuracy, 'status': 0 * loss}
  tuned, arm = dataset(ARMS, columns, range(3), [0], range(3)), effects.arms(config)[0]
  for target, setting in ((0.5, 0), (0.01, 2)):  # none comes to 0.01: the least loss
    own = arm._replace(bench=dataclasses.replace(arm.bench, target=target))
    assert effects.best_setting(own, 'matched', None, tuned) == setting


def test_updates_to_the_target_bend_where_the_noise_scale_says(config):
  cases = [(30, 1, 20, [YES, YES, YES]), (30, 1, 500, [YES, YES, NO]), (0, 1, 20, [YES, NO, OPEN])]
  for least, power, scale, verdicts in (*cases, (0, 0.6, 20, [NO, NO])):
    rng, cells = np.random.default_rng(1), {}
    for size in SIZES:
      taken = (least + 600 / size**power) * np.exp(rng.normal(0, 0.02, 8))
      cells[f'steps_{size}'] = dataset(['seed'], {'steps': taken, 'censored': taken < 0})
    simple = scale * np.exp(rng.normal(0, 0.05, (8, 3)))
    cells[f'scales_{SIZES[-1]}'] = dataset(['seed', 'step'], {'simple': simple})
    assert parts(config, cells, 'G5')[: len(verdicts)] == verdicts
  for size in SIZES[2:]:
    cells[f'steps_{size}'].censored[:5] = True  # two batch sizes come to the target, and make no bend
  assert effects.critical_batch_size(seen(config, cells))[1:3] == (-np.inf, np.inf)


def test_ghosts_close_a_gap(config):
  for large, ghost, verdict in ((0.9, 0.93, [YES, YES]), (0.9, 0.9, [YES, NO]), (0.95, 0.93, [OPEN, OPEN])):
    cells = trained(config, 'norm', [0.95, large, ghost])  # at last there is no gap
    assert parts(config, cells, 'G6') == verdict


def sharp(config, follow: float, ratio: float):
  """Measures that follow the gap that far, and are `ratio` times as large for full batch; tuned to setting 1."""
  rng, cells = np.random.default_rng(2), trained(config, 'clean', [0.9, 0.9], train_loss=0.01)
  for place, name in enumerate(('b32', 'b1024')):
    gap, noise = rng.normal(0, 1, (2, 2, 8))
    sharpness = np.exp(0.01 * (follow * gap + (1 - abs(follow)) * noise)) * ratio**place
    columns = {'eigenvalue': sharpness, 'loss_gap': gap + follow * (ratio - 1) * place}
    cells[f'sharpness_clean_{name}'] = dataset(ARMS[:2], columns, [0, 1], range(8))
  return cells


def test_at_equal_settings_the_rate_does_not_count(config):
  # Setting 1 makes all curvature ten times as small; full batch is twice as sharp at either, and is tuned to setting
  # 1, the mini-batch to setting 0. Sharpness spreads by 0.01 in its logarithm: a standard error of 0.005 over 8 seeds.
  cells = sharp(config, 0.0, 2.0)
  for name in ('b32', 'b1024'):
    cells[f'sharpness_clean_{name}'].eigenvalue[1] /= 10
  cells['tuning_clean_b32'].validation_accuracy[:] = np.array([0.9, 0.2])[:, None, None]
  view = seen(config, cells)
  ratios = [effects.sharpness_ratio(view, 'clean', 'eigenvalue', equal).estimate for equal in (False, True)]
  assert ratios == pytest.approx([0.2, 2.0], rel=0.025)
  cells['sharpness_clean_b32'].eigenvalue[0, 0] = np.nan
  assert effects.sharpness_ratio(view, 'clean', 'eigenvalue', equal=True).excluded == 1
  assert effects.correlation(view, 'clean', 'eigenvalue', within=False).excluded == 1


def test_correlation_of_sharpness_and_gap(config):
  def estimate(cells, within):
    return effects.correlation(seen(config, cells), 'clean', 'eigenvalue', within).estimate

  for follow, within in ((1.0, True), (1.0, False), (-1.0, False)):
    assert estimate(sharp(config, follow, 1.0), within) == pytest.approx(follow)
  cells = sharp(config, 1.0, 1.0)
  cells['sharpness_clean_b1024'].loss_gap[:] *= -1  # 1 within one batch size and -1 within the other
  assert estimate(cells, True) == pytest.approx(0)
  cells = sharp(config, 0.0, 10.0)
  cells['sharpness_clean_b1024'].loss_gap[:] += 10  # between batch sizes alone
  # Five standard deviations: 1 / sqrt(n - 1) of n = 2 settings x 8 seeds, of the mean of two sizes.
  assert abs(estimate(cells, True)) < 5 / np.sqrt(2 * 15)
  assert estimate(cells, False) > 0.7


def test_growing_and_decaying(config):
  rates, cells = np.array(config.growth.learning_rates), {}
  for way, best in BEST.items():
    for cell, count in (('way_search', 3), ('way', 8)):
      made = np.linspace(0, 600 if way == 'growth' else 1000, config.growth.epochs[-1] + 1)
      own = (rates == best)[:, None, None] * np.ones((3, count, made.size))
      columns = dict.fromkeys(('train_loss', 'validation_loss', 'test_accuracy'), 0.9 + 0 * own)
      columns |= {'validation_accuracy': own, 'status': 0 * own}
      cells[f'{cell}_{way}'] = dataset(('learning_rate', 'seed', 'step'), columns, rates, range(count), made)
  assert parts(config, cells, 'G7') == [YES] * 5
  view, grown = seen(config, cells), cells['way_growth']
  assert {way: view.way_rate(way) for way in effects.WAYS} == BEST
  grown.train_loss[:], grown.test_accuracy[1] = 1.5 * grown.train_loss, 0.88  # at its own best rate
  assert parts(config, cells, 'G7') == [NO, NO, YES, NO, YES]
  found = effects.way_accuracy(view, 'decay'), effects.way_accuracy(view, 'growth'), effects.way_updates(view)
  assert [each.estimate for each in found] == pytest.approx([0, -0.02, 0.6])
  cells['way_search_growth'].status.loc[{'learning_rate': 0.2}] = gdlab.DIVERGED
  assert view.way_rate('growth') != 0.2
  grown.status[:, 0, -1] = gdlab.DIVERGED
  assert effects.way_loss_ratio(view, 2)[::5] == (np.inf, 0)  # none excluded


def test_stopping_by_either_loss(config):
  # Training loss falls to the end; validation loss is least at record 1, where the test is best.
  cells = trained(config, 'noisy', [0.9, 0.9])
  found = cells['runs_noisy_b32']
  found.train_loss[:] = ramp = np.linspace(1, 0.1, found.sizes['step'])
  found.validation_loss[:] = np.abs(found.step - found.step[1])
  found.validation_loss[0] = ramp  # the other setting fits best, and is at its best to the end
  for name, best, last in (('test_accuracy', 0.95, 0.8), ('test_loss', 0.4, 0.8)):
    found[name][..., 1], found[name][..., -1] = best, last
  cells['tuning_noisy_b32'].train_loss[0] = 0.1
  found = [effect.measure(seen(config, cells)).estimate for effect in batch_size.claims['G8'].effects[4:]]
  assert found == pytest.approx([0.15, 0.5, 0, 1])


def test_end_points_have_the_target_loss_however_far_below_their_records_fall(config):
  # The loss w^2 / 2: an update of cooling multiplies w by 0.9. From 1.0 five updates come below the target, from 2.0
  # they come to 2 * 0.9^5 = 1.18, above it: cooling begins there, and 2 * 0.9^7 = 0.957 is the first at or below 1.
  options = config.sharpness.model_copy(update={'cooling_updates': 5, 'cooling_limit': 100})
  parabola, far = gdlab.problems.quadratic([1.0]), np.float32([[1e6], [1e5]])
  params, *rest = measure.end_point(parabola, np.float32([[4.0], [2.0], [1.0], [0.2]]), 3, 0.5, options)
  assert rest == [1, 7, True]
  assert params[0] == pytest.approx(2 * 0.9**7, rel=1e-5)  # float32 over 7 updates
  assert measure.end_point(parabola, far, 1, 0.5, options)[1:] == (1, 100, False)
  assert np.isnan(measure.end_point(parabola, far * np.nan, 1, 0.5, options)[0]).all()


def test_what_the_study_could_not_finish_with_is_refused():
  Settings.checked(batch_size_full.get_config().to_dict())
  for key, value, line in (
    ('mini_batch', 64, 'mini_batch must be one of batch_sizes (8, 32, 128), got 64'),
    ('batch_sizes', (32, 8), 'batch_sizes must increase and be at most num_train (1024), got (32, 8)'),
    ('growth.batch_size', 128, 'factor squared must be a whole number in [1, 1024], got 2048'),
  ):
    made = configs.get_config()
    made.update_from_flattened_dict({key: value})
    with pytest.raises(InputError, match=re.escape(line)):
      Settings.checked(made.to_dict())


@pytest.mark.slow
def test_a_tiny_run_of_the_whole(tmp_path):
  flags = [f'--workdir={tmp_path}', *(f'--config.{key}' for key in TINY.split())]
  command = [sys.executable, '-m', 'experiments.batch_size', *flags]
  subprocess.run(command, check=True, timeout=1200, env=os.environ | {'JAX_NUM_CPU_DEVICES': '1'})
  cells = {file.stem: gdlab.load(file) for file in (tmp_path / 'results').glob('*.nc')}
  config = Settings.checked(json.loads(cells['clock'].attrs['config']))
  for repeat, name in enumerate(('claims.json', 'claims-1.json')):
    recomputed = grade_all(batch_size.claims, batch_size.seen(config, repeat, cells))
    assert repr(recomputed) == repr(read_claims(tmp_path / name))  # NaN differs from itself, hence as text
  assert (tmp_path / 'report.html').read_text().count('<svg') == 10
