"""The study of batch sizes: data of a seed, choices, effects where runs fail, end points, refusals, a tiny run."""

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
from configs import batch_size_mnist
from experiments.batch_size import arms, effects, measure
from experiments.batch_size.study import Settings, batch_size
from gdlab.claims import read_claims
from gdlab.core.errors import InputError
from gdlab.study.graded import grade_all
from tests.experiments import test_batch_size_can_fail as synthetic

TINY = """seeds.first=0 seeds.count=2 seeds.tuning=2 seeds.repeats=1 hidden=(4,) num_train=128 num_validation=60
small_batch=32 large_batch=128 learning_rates=(0.1,0.5) momenta=(0.0,) epochs=3 updates=12 evaluations=3
lanes_per_block=4 cnn.features=(2,) cnn.num_seeds=2 cnn.learning_rates=(0.1,0.2) cnn.momenta=(0.0,) cnn.epochs=1
cnn.updates=2 norm.num_seeds=2 norm.learning_rates=(0.1,0.5) norm.epochs=2 sharpness.num_seeds=2
sharpness.batch_sizes=(32,128) sharpness.updates=16 sharpness.eval_every=4
sharpness.cooling_updates=2 target.clean=2.2 target.noisy=2.25 target.cnn=2.3
sharpness.settings=((0.1,0.0),(0.5,0.0)) steps.batch_sizes=(1,4,16,128) steps.learning_rates=(0.1,0.3)
steps.losses=(2.28,2.25,2.2) steps.budget_updates=40 steps.budget_examples=100 steps.num_seeds=2 growth.epochs=(1,2,3)
growth.learning_rates=(0.1,0.3) ramp.adam=(0.001,0.003) ramp.normalised=(0.05,0.1) ramp.num_seeds=2"""


def test_every_seed_has_data_of_its_own_with_wrong_labels_in_training_and_validation():
  benches = arms.benches(Settings.checked(configs.get_config().to_dict()))
  clean, noisy = (benches[name].data(1) for name in ('clean', 'noisy'))
  assert [len(part.targets) for part in (noisy.train, noisy.validation, noisy.test)] == [1024, 413, 360]
  for name in ('train', 'validation', 'test'):
    right, wrong = (getattr(problem, name) for problem in (clean, noisy))
    assert (right.inputs == wrong.inputs).all()
    count = int((right.targets != wrong.targets).sum())
    assert count == (0 if name == 'test' else round(0.2 * len(right.targets)))
    assert (getattr(benches['clean'].data(2), name).inputs != right.inputs).any()
  assert (noisy.train.inputs == benches['noisy'].data(1).train.inputs).all()
  [tuning] = synthetic.config().seeds.for_tuning[:1]
  swapped = (benches[name].data(tuning).train.targets for name in ('clean', 'noisy'))
  assert int((next(swapped) != next(swapped)).sum()) == round(0.2 * 1024)


def test_the_matched_setting_is_the_best_where_all_tuning_runs_come_to_the_loss():
  # Setting 0 comes to 0.5 at step 2 with accuracy 0.8; setting 1 is better but never does; 2 does, and is worse.
  loss = np.array([[2.0, 0.9, 0.4], [2.0, 1.0, 0.6], [2.0, 0.5, 0.3]])[:, None]
  accuracy = np.array([[0.1, 0.7, 0.8], [0.1, 0.95, 0.95], [0.1, 0.6, 0.99]])[:, None]
  columns = {'train_loss': loss, 'validation_loss': loss, 'validation_accuracy': accuracy, 'status': 0 * loss}
  tuned = synthetic.dataset(('setting', 'seed', 'step'), columns, range(3), [0], range(3))
  bench = arms.benches(synthetic.config())['clean']
  tuned = tuned.assign(updates=tuned.train_loss.copy(data=[[[0, 100, 200]], [[0, 100, 200]], [[0, 50, 100]]]))
  # None comes to 0.01: the least loss.
  for kind, target, setting in (
    ('matched', 0.5, 0),
    ('matched', 0.01, 2),
    ('fastest', 0.5, 2),
    ('fastest', 0.9, 2),
  ):
    arm = arms.Arm(dataclasses.replace(bench, target=target), 32)
    assert arms.chooser(arm, kind, tuned)(np.array([0])) == setting


def test_few_runs_that_fail_move_no_typical_difference_and_one_that_never_came_there_has_no_accuracy():
  cells = synthetic.compared(0.97, 0.95, noisy=0)
  found = cells['runs_clean_b32']
  found.status[1, :3, 1:] = gdlab.DIVERGED
  view = synthetic.view(cells)
  # Seven digits: accuracies of the runs are float64, differences of them rounded.
  assert effects.accuracy_gain(view, 'clean', 'epochs').estimate == pytest.approx(0.97 - 0.95)
  assert effects.accuracy_gain(view, 'clean', 'matched').excluded == 3
  found.status[1, :, 1:] = gdlab.DIVERGED  # all have learnt nothing, and none comes there
  assert effects.accuracy_gain(view, 'clean', 'epochs').estimate == pytest.approx(-0.95)
  assert effects.accuracy_gain(view, 'clean', 'matched')[1:3] == (-np.inf, np.inf)
  cells['tuning_clean_b32'].status[1, :, 1:] = gdlab.DIVERGED
  assert [view.setting(arm, 'epochs') for arm in view.pair('clean')] == [0, 1]


def test_an_interval_allows_for_the_choice_of_other_tuning_seeds():
  cells = synthetic.compared(0.97, 0.95)
  narrow = effects.accuracy_gain(synthetic.view(cells), 'clean', 'epochs')
  tuned = cells['tuning_clean_b32'].validation_accuracy
  tuned[0] = [[0.85], [0.92], [0.92]]  # of three seeds two prefer the setting with accuracy 0.3
  wide = effects.accuracy_gain(synthetic.view(cells), 'clean', 'epochs')
  assert wide.estimate == narrow.estimate
  assert wide.low < 0.3 - 0.95 < narrow.low


def test_at_equal_settings_the_rate_does_not_count():
  # Setting 0 makes all curvature ten times as small and is fastest with the large batch, 1 with the small one.
  cells = synthetic.sharp(1, 2)
  for size in (32, 128, 1024):
    for name in ('sharpness', 'own'):
      cells[f'{name}_clean_b{size}'].eigenvalue[:, 0] /= 10
  for size, setting in ((32, 0), (1024, 1)):
    cells[f'tuning_clean_b{size}'].updates[setting] += 1
  view = synthetic.view(cells)
  ratios = [
    effect(view, 'clean', 'eigenvalue').estimate
    for effect in (effects.sharpness_ratio, effects.own_sharpness_ratio)
  ]
  # Four standard errors of a mean over 12 seeds of differences of numbers with deviation 0.001.
  assert ratios == pytest.approx([4, 0.4], rel=4 * 0.0015 / np.sqrt(12))
  cells['sharpness_clean_b32'].eigenvalue[0, 0] = np.nan
  assert effects.sharpness_ratio(view, 'clean', 'eigenvalue').excluded == 1
  assert effects.correlation(view, 'clean', 'eigenvalue', within=False).excluded == 1


def test_correlations_are_within_data_and_within_batch_sizes():
  cells = synthetic.sharp(1, 1.01)
  cells['sharpness_clean_b32'].loss_gap[:6] += 100  # other data, other gaps: no matter between seeds
  view = synthetic.view(cells)
  assert effects.correlation(view, 'clean', 'eigenvalue', within=True).estimate > 0.8
  cells['sharpness_clean_b32'].loss_gap[:] = 200 - cells['sharpness_clean_b32'].loss_gap
  assert effects.correlation(view, 'clean', 'eigenvalue', within=True).estimate < 0.5
  assert effects.correlation(view, 'clean', 'eigenvalue', within=False).estimate < 0.5


def test_the_noise_scale_is_a_ratio_of_means():
  cells = synthetic.taken(synthetic.bend, 20, 0)
  scales = cells['scales_256']
  scales.trace[:], scales.square[:] = np.arange(1, 13) * 20.0, np.arange(12, 0, -1)
  assert effects.noise_scale(synthetic.view(cells), 0.6, np.arange(12)) == pytest.approx(20)
  # Steps follow the law exactly, so that the bend is the 20 that made them up to the search's tolerance.
  assert effects.predicted_ratio(synthetic.view(cells), 1).estimate == pytest.approx(1, rel=1e-4)
  for size in synthetic.SIZES[2:]:
    cells[f'steps_{size}'].censored[:, :5] = True  # two batch sizes come to the target, and make no bend
  assert effects.critical_batch_size(synthetic.view(cells))[1:3] == (-np.inf, np.inf)


def test_the_largest_stable_rate():
  loss = np.array([[2, 1.0, 0.5, 0.4], [2, 1.0, 0.5, 0.54], [2, 0.5, 0.2, 0.3], [2, 1, np.inf, np.inf]])
  first = xr.Dataset(
    {'train_loss': (('learning_rate', 'seed', 'step'), loss[:, None].repeat(2, axis=1))},
    {'learning_rate': [0.1, 0.2, 0.4, 0.8]},
  )
  first = first.assign(status=0 * first.train_loss.fillna(0))
  assert effects.stable_rate(first)(np.arange(2)) == 0.2
  assert effects.stable_rate(first.isel(learning_rate=[2, 3]))(np.arange(2)) == 0.4  # none is: the smallest


def test_what_changes_where_a_stage_ends():
  config = synthetic.config()  # from B=8, by 4
  assert arms.changes(config, 'growth', 'sgd') == ([8, 32, 128], 1.0)
  assert arms.changes(config, 'decay', 'sgd') == ([8, 8, 8], 0.25)
  assert arms.changes(config, 'growth', 'adam') == ([8, 32, 128], 0.5)
  assert arms.changes(config, 'unscaled', 'adam') == ([8, 32, 128], 1.0)
  assert arms.changes(config, 'decay', 'normalised') == ([8, 8, 8], 0.25)
  assert arms.changes(config, 'kept', 'normalised') == ([8, 8, 8], 1.0)


def test_normalised_descent_on_a_quadratic_is_the_phased_recursion():
  config = synthetic.config()
  losses = measure.ramp_exact(config, progress=lambda *_: None).loss
  # Once more step by step in the closed form of phases, whose rate each is that of the moments before.
  rate, directions = measure.EXACT
  h, phases = 1 / np.arange(1, directions + 1), []
  moment = np.ones(directions)
  for _ in range(208):
    phases.append(gdlab.theory.Phase(rate / np.sqrt(h**2 @ moment + h.sum() / 8), 1, 8))
    moment = moment * (1 - phases[-1].learning_rate * h) ** 2 + phases[-1].learning_rate ** 2 * h / 8
  model = gdlab.theory.noisy_quadratic(h)
  expected = gdlab.theory.phased_loss(model, phases)[-1]
  short = config.model_copy(
    update={'num_train': 128, 'growth': config.growth.model_copy(update={'epochs': (13, 14, 15)})}
  )
  found = measure.ramp_exact(short, progress=lambda *_: None).loss
  # 13 epochs of 16 updates; 208 sums of squares, rounded at 2e-16 each.
  assert float(found.sel(way='decay')[0]) == pytest.approx(expected, rel=1e-12)
  # The floor of a rate stays where the rate stays.
  kept = losses.sel(way='kept')
  assert float(kept[2] / kept[0]) == pytest.approx(1, rel=0.01)


def test_overfitting_is_told_on_the_tuning_seeds():
  cells = synthetic.stopped({'clean': 0, 'noisy': 0.05}, {'clean': 0.1, 'noisy': 0.5})
  view = synthetic.view(cells)
  found = [effects.overfitting(view, bench, 'fit', 1.2)(np.arange(3))[1] for bench in ('clean', 'noisy')]
  assert found == [False, True]
  assert 'setting of least training loss (0.2 (an end of those tried), 0) overfits (1.50' in view.conditions(
    'G8'
  )
  cells = synthetic.stopped({'clean': 0.05, 'noisy': 0.05}, {'clean': 0, 'noisy': 0})
  none = effects.gain_by_overfitting(synthetic.view(cells), True, (('clean', 'fit'), ('noisy', 'fit')), 1.1)
  assert none[1:3] == (-np.inf, np.inf)


def test_end_points_have_the_target_loss_however_far_below_their_records_fall():
  # The loss w^2 / 2: an update of cooling multiplies w by 0.9. From 1.0 five updates come below the target, from 2.0
  # they come to 2 * 0.9^5 = 1.18, above it: cooling begins there, and 2 * 0.9^7 = 0.957 is the first at or below 1.
  options = synthetic.config().sharpness.model_copy(update={'cooling_updates': 5, 'cooling_limit': 100})
  parabola, far = gdlab.problems.quadratic([1.0]), np.float32([[1e6], [1e5]])
  params, *rest = measure.end_point(parabola, np.float32([[4.0], [2.0], [1.0], [0.2]]), 3, 0.5, options)
  assert rest == [1, 7, True]
  assert params[0] == pytest.approx(2 * 0.9**7, rel=1e-5)  # float32 over 7 updates
  assert measure.end_point(parabola, far, 1, 0.5, options)[1:] == (1, 100, False)
  assert np.isnan(measure.end_point(parabola, far * np.nan, 1, 0.5, options)[0]).all()


def test_mnist_asks_for_what_it_measures():
  config = Settings.checked(batch_size_mnist.get_config().to_dict())
  cells = {cell.name.partition('_')[0] for cell in batch_size.cells(batch_size_mnist.get_config())}
  assert (cells, config.seeds.repeats) == ({'tuning', 'runs'}, 0)


def test_what_the_study_could_not_finish_with_is_refused():
  for key, value, line in (
    ('small_batch', 64, 'sharpness.batch_sizes must hold 64, got (32, 128, 1024)'),
    ('steps.batch_sizes', (32, 8, 4, 2), 'steps.batch_sizes should ascend, got (32, 8, 4, 2)'),
    ('steps.losses', (0.3, 0.6, 1.2), 'steps.losses must decrease'),
    ('growth.batch_size', 128, 'factor squared must be a whole number in [1, 1024], got 2048'),
    ('claims', ('G10',), 'claims'),
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
  config = Settings.checked(json.loads(cells['first_stage'].attrs['config']))
  for repeat, name in enumerate(('claims.json', 'claims-1.json')):
    recomputed = grade_all(batch_size.claims, batch_size.seen(config, repeat, cells))
    assert repr(recomputed) == repr(read_claims(tmp_path / name))  # NaN differs from itself, hence as text
  assert (tmp_path / 'report.html').read_text().count('<svg') == 6
