"""`python -m experiments.compare`: its configurations, what it refuses, and one small comparison that goes on."""

import importlib
import json

import pytest

from experiments import compare
from gdlab.core.errors import InputError


@pytest.fixture
def config():
  return importlib.import_module('configs.compare').get_config()


@pytest.mark.parametrize('name', ['compare', 'compare_mnist', 'compare_text'])
def test_configurations_are_sound(name):
  config = compare.Settings.checked(importlib.import_module(f'configs.{name}').get_config().to_dict())
  assert len([compare.make_arm(*entry) for entry in config.arms.items()]) == 3


@pytest.mark.parametrize(
  ('arm', 'message'),
  [
    ({'optimizer': 'adamm'}, r"unknown arms\.x\.optimizer 'adamm'; did you mean 'adam'"),
    ({'momentun': 0.9, 'optimizer': 'sgd'}, r"unknown arms\.x 'momentun'; did you mean 'momentum'"),
    ({'schedule': 'cosin', 'optimizer': 'sgd'}, r"unknown arms\.x\.schedule 'cosin'; did you mean 'cosine'"),
    ({'schedule': 'cosine', 'optimizer': 'sgd'}, r'arms\.x must have a learning_rate'),
    ({'learning_rate': (0, 1.0), 'optimizer': 'sgd'}, r'arms\.x\.learning_rate: low must be'),
    (
      {'learning_rate': (0.1, 0.2, 0.3), 'optimizer': 'sgd'},
      r'arms\.x\.learning_rate must be a number or a pair',
    ),
  ],
)
def test_refuses(arm, message):
  with pytest.raises(InputError, match=message):
    compare.make_arm('x', arm)


def test_goes_on_where_it_was_stopped(config, tmp_path, capsys):
  config.trials, config.updates, config.seeds, config.most_seeds, config.tuning_seeds = 2, 10, 2, 2, 1
  config.seconds = False
  compare.compare(config, tmp_path)
  first = (tmp_path / 'verdicts.json').read_text()
  assert len(json.loads(first)) == 2
  (tmp_path / 'results' / 'graded_digits_momentum_0-1.nc').unlink()
  capsys.readouterr()
  compare.compare(config, tmp_path)
  assert capsys.readouterr().err.count(': found') == 5
  assert (tmp_path / 'verdicts.json').read_text() == first
  assert 'aria-label' in (tmp_path / 'report.html').read_text()
