"""Effects of the batch-size study on made-up results whose answer is plain, true and false, with runs that fail."""

import numpy as np
import pytest
import xarray as xr

import gdlab
from configs import batch_size
from experiments.batch_size import (
  benches,
  claims,
  effects,
  report,
  steps,
  tables,
)
from experiments.batch_size.study import Study
from gdlab.claims import Verdict
from gdlab.study.graded import grade_all

SEEDS = range(1000, 1008)
SIZES = (1, 2, 4, 16, 64, 256)


def small_config():
  """Two batch sizes and two settings on every bench."""
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
  made.growth.learning_rates = (0.1, 0.2, 0.4)
  return made


@pytest.fixture(scope='module')
def config():
  return small_config()


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
  results: dict[str, xr.Dataset] = {}
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


def crossing_results(config, law, noise: float, scale: float):
  """Steps by a law of the batch size, and a noise scale on the way, both with some spread between seeds."""
  rng = np.random.default_rng(1)
  results: dict[str, xr.Dataset] = {}
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


def test_a_finding_counts_the_fewest_seeds_of_its_parts():
  full = batch_size.get_config()
  study = Study(full, {'clock': xr.Dataset()}, full.first_seeds[0])
  counts = {claim: study.num_seeds(claim) for claim in claims.CLAIMS}
  assert counts['G1'] == counts['G2'] == full.cnn.num_seeds < full.num_seeds
  assert counts['G3'] == counts['G4'] == full.sharpness.num_seeds < full.num_seeds
  assert counts['G5'] == full.steps.scale_seeds < full.num_seeds
  assert counts['G6'] == full.norm.num_seeds
  assert counts['G7'] == counts['G8'] == full.num_seeds


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
  results: dict[str, xr.Dataset] = {}
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


def test_a_gap_that_is_not_established_is_said_so_and_has_no_interval(config):
  results: dict[str, xr.Dataset] = {}
  for small, said in ((0.95, 'not established to exceed half a point'), (0.99, 'is 9.0')):
    accuracies = {'b32': small, 'b1024': 0.95 if small == 0.95 else 0.90, 'ghost1024': 0.93}
    for name, accuracy in accuracies.items():
      made = arms_results(config, 'norm', dict.fromkeys(accuracies, 0.5), population_accuracy=[0.3, accuracy])
      results |= {cell: found for cell, found in made.items() if cell.endswith(f'_{name}')}
    study = study_of(config, results)
    assert said in report._gap(study)
    assert 'inf' not in report._gap(study)
    found = tables.within(effects.closed_beyond(study, claims.SHARE, claims.POINTS))
    assert (found == 'not graded') == (small == 0.95)


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
