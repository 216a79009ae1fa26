"""Effects of the batch-size study on made-up results whose answer is plain, true and false, with runs that fail."""

import numpy as np
import pytest
import xarray as xr

import gdlab
from configs import batch_size
from experiments.batch_size import arms, benches, claims, effects, sharp_effects, steps
from experiments.batch_size.study import Study
from experiments.graded import grade_all
from gdlab.claims import Verdict
from gdlab.errors import InputError

SEEDS = range(1000, 1008)
SIZES = (1, 2, 4, 16, 64, 256)


@pytest.fixture(scope='module')
def config():
  made = batch_size.get_config()
  made.num_seeds = len(SEEDS)
  made.first_seeds = (1000, 2000)
  made.batch_sizes = (32,)
  made.learning_rates = (0.2, 0.5)
  made.momenta = (0.0,)
  made.sharpness.settings = ((0.2, 0.0), (0.5, 0.0))
  made.steps.batch_sizes = SIZES
  made.steps.base = 1
  made.epochs = 2
  made.updates = 64
  for section in ('sharpness', 'cnn', 'norm'):
    made[section].num_seeds = len(SEEDS)
  for section in ('cnn', 'norm'):
    made[section].momenta = (0.0,)
  return made


def tuning_ids(config):
  return benches.tuning_seeds(config)


def runs(ids, settings, ends, **variables):
  """Records at step 0 and at the budgets' ends; a variable is a number, or one by setting, constant in time."""
  shape = (len(settings), len(ids), len(ends) + 1)
  spread = np.random.default_rng(0).normal(0, 1e-4, shape[:2])[..., None]
  values = {
    name: (
      ('setting', 'seed', 'step'),
      np.broadcast_to(np.asarray(value, float).reshape(-1, 1, 1), shape) + spread,
    )
    for name, value in variables.items()
  }
  status = (('setting', 'seed', 'step'), np.zeros(shape, np.int8))
  return xr.Dataset(
    values | {'status': status}, {'setting': list(settings), 'seed': list(ids), 'step': [0, *ends]}
  )


def study_of(config, results) -> Study:
  """A study with a clock by which every update takes a second."""
  sizes = [*config.batch_sizes, config.num_train]
  clock = xr.Dataset(
    {'seconds_per_update': (('repeat', 'batch_size'), np.ones((1, len(sizes))))},
    {'batch_size': sizes},
    {'mini_batch': config.mini_batch},
  )
  return Study(config, {'clock': clock} | results, 1000)


def arms_results(config, bench: str, accuracy: dict[str, float], **more):
  """Tuning and study cells of a bench whose test accuracy is that of the arm at setting 1, and 0.3 at setting 0."""
  made = benches.benches(config)[bench]
  results = {}
  for arm in made.arms:
    ends = sorted(set(made.budgets(arm.batch_size).values()) | {32, 64})
    found = {
      'validation_accuracy': [0.2, 0.9],
      'validation_loss': 1.0,
      'train_loss': 0.5,
      'alike_loss': 1.0,
      'test_accuracy': [0.3, accuracy[arm.name]],
    } | more
    results[f'tuning_{bench}_{arm.name}'] = runs(tuning_ids(config), range(2), ends, **found)
    results[f'arm_{bench}_{arm.name}'] = runs(SEEDS, range(2), ends, **found)
  return results


@pytest.mark.parametrize(
  ('small', 'verdict'), [(0.97, 'supported'), (0.95, 'contradicted'), (0.93, 'contradicted')]
)
@pytest.mark.parametrize('kind', ['epochs', 'updates'])
def test_gain_of_small_batches(config, small, verdict, kind):
  study = study_of(config, arms_results(config, 'clean', {'b32': small, 'b1024': 0.95}))
  interval = effects.accuracy_gain(study, 'clean', kind)
  assert interval.estimate == pytest.approx(small - 0.95, abs=1e-3)
  assert claims.greater_than(claims.POINTS).judge(interval) == verdict


def test_a_small_batch_that_diverged_counts_as_nothing_learnt(config):
  results = arms_results(config, 'clean', {'b32': 0.99, 'b1024': 0.9})
  results['arm_clean_b32'].status[1, :4, 1:] = gdlab.DIVERGED
  interval = effects.accuracy_gain(study_of(config, results), 'clean', 'epochs')
  assert interval.excluded == 0
  assert interval.estimate == pytest.approx(0.99 / 2 - 0.9, abs=1e-2)


def test_tuning_never_chooses_a_setting_that_failed(config):
  results = arms_results(config, 'clean', {'b32': 0.97, 'b1024': 0.9})
  results['tuning_clean_b32'].status[1, :, 1:] = gdlab.DIVERGED
  study = study_of(config, results)
  bench = study.benches['clean']
  assert study.setting(bench, bench.arm('b32'), 'epochs') == 0
  assert study.setting(bench, bench.arm('b1024'), 'epochs') == 1


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


def crossing_results(config, law, noise: float, scale: float):
  """Steps by a law of the batch size, and a noise scale on the way, both with some spread between seeds."""
  rng = np.random.default_rng(1)
  results = {}
  for size in SIZES:
    taken = law(size) * np.exp(rng.normal(0, noise, (len(steps.RULES), len(SEEDS))))
    results[f'steps_b{size}'] = xr.Dataset(
      {'steps': (('rule', 'seed'), taken), 'censored': (('rule', 'seed'), np.zeros(taken.shape, bool))},
      {'rule': list(steps.RULES), 'seed': list(SEEDS), 'learning_rate': ('rule', [0.1] * len(steps.RULES))},
    )
  values = scale * np.exp(rng.normal(0, 0.05, (len(SEEDS), 3)))
  results[f'scales_b{max(SIZES)}'] = xr.Dataset(
    {'simple': (('seed', 'step'), values), 'noise': (('seed', 'step'), values)}, {'seed': list(SEEDS)}
  )
  return results


@pytest.mark.parametrize(
  ('law', 'scale', 'verdicts'),
  [
    (lambda size: 30 * (1 + 20 / size), 20, ['supported', 'supported', 'supported']),
    (lambda size: 30 * (1 + 20 / size), 500, ['supported', 'supported', 'contradicted']),
    (lambda size: 1000 / size**0.6, 20, ['contradicted', 'contradicted', None]),
  ],
)
def test_the_bend_and_its_prediction(config, law, scale, verdicts):
  study = study_of(config, crossing_results(config, law, 0.03, scale))
  for effect, verdict in zip(claims.CLAIMS['G5'].effects, verdicts, strict=True):
    if verdict is not None:
      assert effect.rule.judge(effect.measure(study)) == verdict, effect.name


def test_a_run_that_never_got_there_leaves_the_bend_inconclusive(config):
  results = crossing_results(config, lambda size: 30 * (1 + 20 / size), 0.03, 20)
  results['steps_b1'].censored[:, 0] = True
  assert effects.small_end_slope(study_of(config, results)).excluded == 1


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
  assert abs(sharp_effects.rank_correlation_within(study, 'clean', 'eigenvalue').estimate) < 0.5


def test_a_run_without_an_end_point_is_not_silently_left_out(config):
  results = sharp_results(config, 1.0, 1.0)
  results['sharpness_clean_b32'].eigenvalue[0, 0] = np.nan
  assert sharp_effects.rank_correlation(study_of(config, results), 'clean', 'eigenvalue').excluded == 1


@pytest.mark.parametrize(
  ('small', 'large', 'ghost', 'verdict'),
  [
    (0.95, 0.90, 0.93, Verdict.SUPPORTED),
    (0.95, 0.90, 0.90, Verdict.CONTRADICTED),
    (0.95, 0.95, 0.93, Verdict.INCONCLUSIVE),  # there is no gap to close
  ],
)
def test_ghosts_close_a_gap(config, small, large, ghost, verdict):
  accuracies = {'b32': small, 'b1024': large, 'ghost1024': ghost}
  results = {}
  for name, accuracy in accuracies.items():
    results |= {
      cell: found
      for cell, found in arms_results(
        config, 'norm', dict.fromkeys(accuracies, 0.5), population_accuracy=[0.3, accuracy]
      ).items()
      if cell.endswith(f'_{name}')
    }
  findings = grade_all({'G6': claims.CLAIMS['G6']}, _Worded(config, study_of(config, results)))
  assert findings[0].verdict is verdict


class _Worded:
  """A study that has words for no conditions: grading asks for them, the effects do not."""

  def __init__(self, config, study):
    self._study = study
    self.config = config

  def __getattr__(self, name):
    return getattr(self._study, name)

  def num_seeds(self, claim):
    return len(SEEDS)

  def conditions(self, claim):
    return 'made up'


def growth_results(config, ratio: float):
  """A growing batch whose loss is `ratio` times that with a decaying rate."""
  ids = [*SEEDS, *tuning_ids(config)]
  passes = config.growth.epochs[-1] + 1
  rates = list(config.growth.learning_rates)
  loss = np.exp(-0.1 * np.arange(passes)) * np.ones((len(rates), len(ids), passes))
  names = ('train_loss', 'test_loss', 'validation_loss')

  def way(values, dims, made):
    variables = dict.fromkeys(names, (dims, values)) | {
      'test_accuracy': (dims, np.full(values.shape, 0.9)),
      'validation_accuracy': (dims, np.full(values.shape, 0.9)),
      'state': (dims, np.zeros(values.shape, np.int8)),
      'made': ('passes', np.linspace(0, made, passes)),
    }
    return xr.Dataset(variables, {'learning_rate': rates, 'seed': ids, 'passes': range(passes)})

  dims = ('learning_rate', 'seed', 'passes')
  return {
    'growth': way(ratio * loss, dims, 600),
    'decay': way(np.stack([loss, loss], axis=1), ('learning_rate', 'decay', *dims[1:]), 1000),
  }


def test_growing_and_decaying(config):
  for ratio, verdict in ((1.0, 'supported'), (1.5, 'contradicted')):
    study = study_of(config, growth_results(config, ratio))
    asked = claims.CLAIMS['G7'].effects
    assert asked[0].rule.judge(asked[0].measure(study)) == verdict
    assert effects.growth_updates(study).estimate == pytest.approx(0.6)
  failed = growth_results(config, 1.0)
  failed['growth'].state[:, 0, -1] = gdlab.DIVERGED
  interval = effects.growth_loss_ratio(study_of(config, failed), 2)
  assert interval.estimate == np.inf
  assert interval.excluded == 0


def test_stopping_by_either_loss(config):
  results = arms_results(config, 'noisy', {'b32': 0.9, 'b1024': 0.9})
  found = results['arm_noisy_b32']
  last = found.sizes['step'] - 1
  # Training loss falls to the end; validation loss is least in the middle, where the test is best.
  ramp = np.linspace(1, 0.1, last + 1)
  found.train_loss[:] = ramp
  found.validation_loss[:] = 1.0
  found.validation_loss[..., 1] = 0.5
  found.test_accuracy[..., 1] = 0.95
  found.test_accuracy[..., last] = 0.8
  found.alike_loss[..., 1] = 0.4
  found.alike_loss[..., last] = 0.8
  study = study_of(config, results)
  bench = study.benches['noisy']
  results['tuning_noisy_b32'].train_loss[1] = 0.1  # the setting that fits fastest
  assert study.setting(bench, study.mini(), 'fit') == 1
  assert effects.stopping_gain(study).estimate == pytest.approx(0.15)
  assert effects.stopping_ratio(study).estimate == pytest.approx(0.5)
  found.validation_loss[:] = ramp
  assert effects.stopping_gain(study).estimate == pytest.approx(0)


@pytest.mark.parametrize(
  ('key', 'value', 'words'),
  [
    ('num_seeds', 0, ('num_seeds', '0')),
    ('first_seeds', (1000, 1003), ('first_seeds',)),
    ('mini_batch', 16, ('mini_batch', '16')),
    ('learning_rates', (0.1,), ('learning_rates',)),
    ('momenta', (1.0,), ('momenta', '1.0')),
    ('cnn.num_seeds', 17, ('cnn.num_seeds', '17')),
    ('label_noise', 1.5, ('label_noise', '1.5')),
    ('steps.base', 3, ('steps.base', '3')),
    ('steps.batch_sizes', (1, 2, 3), ('steps.batch_sizes',)),
    ('growth.epochs', (5, 2), ('growth.epochs',)),
    ('sharpness.settings', ((0.7, 0.0),), ('sharpness.settings', '0.7')),
  ],
)
def test_bad_configurations_are_refused(key, value, words):
  config = batch_size.get_config()
  section, _, name = key.rpartition('.')
  with (config[section] if section else config).unlocked():
    (config[section] if section else config)[name] = value
  with pytest.raises(InputError) as refused:
    benches.check(config)
  for word in words:
    assert word in str(refused.value)
