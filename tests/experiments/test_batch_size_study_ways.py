"""G7 and G8 of the batch-size study on made-up results whose answer is plain."""

import numpy as np
import pytest
import xarray as xr
from test_batch_size_study_effects import SEEDS, arms_results, small_config, study_of, tuning_ids

import gdlab
from experiments.batch_size import claims, effects, growth, report


@pytest.fixture(scope='module')
def config():
  return small_config()


BEST = {'growth': 0.2, 'decay': 0.1, 'kept': 0.4}  # the rate that validates best for each way


def growth_results(config, ratio: float, kept: float = 1.0, lag: float = 0.0):
  """Made-up ways of G7.

  A growing batch has `ratio` times the loss of a decaying rate, a constant rate `kept` times it. At its own best rate
  the growing batch's test accuracy is `lag` behind; at any other way and rate it is 0.9.
  """
  passes = config.growth.epochs[-1] + 1
  rates = np.array(config.growth.learning_rates)

  def ways(ids):
    loss = np.exp(-0.1 * np.arange(passes)) * np.ones((len(rates), len(ids), passes))

    def one(name, values):
      best = (rates == BEST[name])[:, None, None] * np.ones(values.shape)
      dims = ('learning_rate', 'seed', 'passes')
      variables = {
        'train_loss': values,
        'validation_loss': values,
        'test_accuracy': 0.9 - (lag * best if name == 'growth' else 0),
        'validation_accuracy': 0.8 + 0.1 * best,
        'state': np.zeros(values.shape, np.int8),
      }
      return xr.Dataset(
        {key: (dims, np.broadcast_to(value, values.shape).copy()) for key, value in variables.items()}
        | {'made': ('passes', np.linspace(0, 600 if name == 'growth' else 1000, passes))},
        {'learning_rate': rates, 'seed': ids, 'passes': range(passes)},
      )

    decay = xr.concat(
      [one('decay', loss), one('kept', kept * loss)], 'decay', data_vars='different', compat='equals'
    )
    return one('growth', ratio * loss), decay

  grown, decayed = ways(list(SEEDS))
  grown_tuning, decayed_tuning = ways(tuning_ids(config))
  return {
    'growth': grown,
    'decay': decayed,
    'tuning_growth': grown_tuning,
    'tuning_decay': decayed_tuning,
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


def test_every_way_has_its_own_best_rate_and_accuracy_is_compared_there_too(config):
  results = growth_results(config, 1.0, lag=0.02)
  study = study_of(config, results)
  assert {way: study.growth_rate(way) for way in growth.WAYS} == BEST
  assert study.growth_words('kept') == '0.4 (end)'
  assert study.growth_words('growth') == '0.2'
  assert effects.growth_accuracy(study, own=False).estimate == pytest.approx(0)
  assert effects.growth_accuracy(study, own=True).estimate == pytest.approx(-0.02)
  # A rate with which every tuning run fails is not chosen, however well it validated.
  results['tuning_growth'].state.loc[{'learning_rate': 0.2}] = gdlab.DIVERGED
  assert study.growth_rate('growth') != 0.2


@pytest.mark.parametrize(('kept', 'words'), [(0.5, 'nothing to decay for'), (2.0, 'decay did help')])
def test_whether_there_was_anything_to_decay_for(config, kept, words):
  study = study_of(config, growth_results(config, 1.0, kept=kept))
  assert effects.neither_loss_ratio(study).estimate == pytest.approx(kept)
  text = report._anything_to_decay_for(study)
  assert words in text
  assert f'{kept:.3f}'[:4] in text


@pytest.mark.parametrize('bench', ['clean', 'noisy'])
def test_stopping_by_either_loss(config, bench):
  results = arms_results(config, bench, {'b32': 0.9, 'b1024': 0.9}, test_loss=1.0)
  found = results[f'arm_{bench}_b32']
  last = found.sizes['step'] - 1
  # Training loss falls to the end; validation loss is least in the middle, where the test is best.
  ramp = np.linspace(1, 0.1, last + 1)
  found.train_loss[:] = ramp
  found.validation_loss[:] = 1.0
  found.validation_loss[..., 1] = 0.5
  found.test_accuracy[..., 1] = 0.95
  found.test_accuracy[..., last] = 0.8
  found.test_loss[..., 1] = 0.4
  found.test_loss[..., last] = 0.8
  # The other setting fits best, and stays at its best to the end.
  found.validation_loss[0] = ramp
  results[f'tuning_{bench}_b32'].train_loss[0] = 0.1
  study = study_of(config, results)
  on = study.benches[bench]
  assert study.setting(on, study.small(on), 'fit') == 0
  assert study.setting(on, study.small(on), 'epochs') == 1
  assert effects.stopping_gain(study, bench, 'epochs').estimate == pytest.approx(0.15)
  assert effects.stopping_ratio(study, bench, 'epochs').estimate == pytest.approx(0.5)
  assert effects.stopping_gain(study, bench, 'fit').estimate == pytest.approx(0)
  assert effects.stopping_ratio(study, bench, 'fit').estimate == pytest.approx(1)
  parts = [part for part in claims.CLAIMS['G8'].effects if claims.CONDITIONS[bench] in part.name]
  assert [bool(np.isfinite(part.measure(study).estimate)) for part in parts] == [True] * 4
