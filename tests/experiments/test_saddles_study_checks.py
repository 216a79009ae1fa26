"""Configurations that the study of saddles refuses before it measures anything, and those that it takes."""

import pytest

from configs import saddles, saddles_full
from experiments.saddles.checks import check
from gdlab.core.errors import InputError

REFUSED = {
  'num_seeds': ({'num_seeds': 1}, ('num_seeds', '>= 2', 'got 1')),
  'sets': ({'first_seeds': (1000, 1005)}, ('first_seeds', '1005')),
  'one set': ({'first_seeds': (1000,)}, ('first_seeds', '(1000,)')),
  'dataset': ({'training': {'dataset': 'digit'}}, ('training.dataset', "'digit'", "'digits'")),
  'batch': ({'training': {'batch_size': 99_999}}, ('training.batch_size', '99999')),
  'training seeds': ({'training': {'num_seeds': 99}}, ('training.num_seeds', '99')),
  'control seeds': ({'training': {'num_control_seeds': 21}}, ('training.num_control_seeds', '[2, 20]', '21')),
  'records': ({'training': {'record_every': 0}}, ('training.record_every', '>= 1', 'got 0')),
  'hidden': ({'training': {'hidden': 0}}, ('training.hidden', '>= 1', 'got 0')),
  'near': ({'training': {'near_gradient': 0.9}}, ('training.near_gradient', '0.4', '0.9')),
  'no rate': ({'training': {'sgd_rates': ()}}, ('training.sgd_rates', 'at least 2', '()')),
  'negative rate': ({'training': {'adam_rates': (-0.1, 0.1)}}, ('training.adam_rates', '(0', '-0.1')),
  'timing': ({'race': {'timing_repeats': 0}}, ('race.timing_repeats', '>= 1', 'got 0')),
  'mini-batch': ({'race': {'mini_batch': 65}}, ('race.mini_batch', '[1, 64]', 'got 65')),
  'evaluations': ({'race': {'evaluations': 0}}, ('race.evaluations', '>= 1', 'got 0')),
  'one rate': ({'race': {'multiples': (1.0,)}}, ('race.multiples', 'at least 2', '(1.0,)')),
  'zero rate': ({'race': {'near_multiples': (0.0, 1.0)}}, ('race.near_multiples', '(0', 'got 0.0')),
  'drop': ({'race': {'drop': 1.0}}, ('race.drop', '(0, 1)', '1.0')),
  'places': ({'race': {'generic': ('made',)}}, ('race.generic', 'network')),
  'no place': ({'race': {'generic': ()}}, ('race.generic', '()')),
  'silent': ({'race': {'silent': ('twins',)}}, ('race.silent', "'twins'")),
  'place name': ({'race': {'symmetric': ('orign', 'twins')}}, ('race.symmetric', "'orign'", "'origin'")),
  'betas': ({'growth': {'betas': (0.5, 0.9)}}, ('growth.betas', 'hold 0', '(0.5, 0.9)')),
  'beta 1': ({'growth': {'betas': (0.0, 1.0)}}, ('growth.betas', '[0, 1)', 'got 1.0')),
  'cases': ({'growth': {'cases': ()}}, ('growth.cases', '()')),
  'case': ({'growth': {'cases': ((2, 0.1),)}}, ('growth.cases', '(2, 0.1)')),
  'case size': ({'growth': {'cases': ((100, 0.1, 0.01),)}}, ('growth.cases dimension', '64', '100')),
  'case scale': ({'growth': {'cases': ((2, 0.1, 5.0),)}}, ('growth.cases scale', '(0, 1.0)', '5.0')),
  'growth batches': ({'growth': {'batch_sizes': (0,)}}, ('growth.batch_sizes', '>= 1', 'got 0')),
  'strengths': ({'growth': {'strengths': (0.1, -0.1)}}, ('growth.strengths', '(0', '-0.1')),
  'no dimension 2': ({'fields': {'dimensions': (1, 3)}}, ('fields.dimensions', 'hold 2', '(1, 3)')),
  'nothing above 2': ({'fields': {'dimensions': (1, 2)}}, ('fields.dimensions', '(1, 2)')),
  'order': ({'fields': {'dimensions': (3, 2)}}, ('fields.dimensions', 'ascend', '(3, 2)')),
  'widths': ({'search': {'widths': (0, 2)}}, ('search.widths', '>= 1', 'got 0')),
  'images': ({'network': {'num_examples': 99_999}}, ('network.num_examples', '1437]', '99999')),
  'search images': ({'search': {'num_examples': 99_999}}, ('search.num_examples', '1437]', '99999')),
  'components': ({'network': {'components': 65}}, ('network.components', '[1, 64]', '65')),
  'made examples': ({'made': {'num_examples': 0}}, ('made.num_examples', '>= 4', 'got 0')),
  'chain': ({'chain': {'dimension': 9}}, ('chain.dimension', '[4, 6]', '9')),
  'chain rates': ({'chain': {'rates': (0.1, 1.5)}}, ('chain.rates', '(0, 1)', '1.5')),
  'chain bound': ({'chain': {'largest_rate': 0.05}}, ('chain.largest_rate', '0.05')),
}


@pytest.mark.parametrize(('change', 'words'), REFUSED.values(), ids=REFUSED.keys())
def test_what_could_not_be_finished_is_refused_in_one_line(change, words):
  made = saddles.get_config()
  made.update(change)
  with pytest.raises(InputError) as error:
    check(made)
  message = str(error.value)
  assert '\n' not in message
  for word in words:
    assert word in message, message


@pytest.mark.parametrize('module', [saddles, saddles_full])
def test_the_configurations_are_ones_that_run(module):
  check(module.get_config())


def test_the_full_configuration_has_the_same_entries_and_more_seeds():
  quick, full = saddles.get_config(), saddles_full.get_config()
  assert full.num_seeds > quick.num_seeds
  assert full.training.num_seeds >= quick.training.num_seeds
  for name, section in quick.items():
    if hasattr(section, 'keys'):
      assert full[name].keys() == section.keys()
  assert full.keys() == quick.keys()


def test_seeds_are_none_of_the_pilots_or_of_an_earlier_run():
  for module in (saddles, saddles_full):
    config = module.get_config()
    used = {first + place for first in config.first_seeds for place in range(config.num_seeds)}
    assert len(used) == 2 * config.num_seeds
    assert min(used) >= 3000
