"""Configurations of the batch-size study that are refused, each in one line that names argument, value and range."""

import pytest

from configs import batch_size, batch_size_full
from experiments.batch_size import checks
from gdlab.core.errors import InputError


@pytest.mark.parametrize('made', [batch_size, batch_size_full])
def test_the_configurations_are_sound(made):
  checks.check(made.get_config())


@pytest.mark.parametrize(
  ('key', 'value', 'words'),
  [
    ('dataset', 'digit', ("'digits'",)),
    ('num_seeds', 0, ('num_seeds', '0', '>= 1')),
    ('num_train', 1, ('num_train', '1', '>= 2')),
    ('lanes_per_block', -1, ('lanes_per_block', '-1', '>= 0')),
    ('hidden', (0,), ('hidden', '0', '>= 1')),
    ('hidden', (8.5,), ('hidden', '8.5', 'whole number')),
    ('hidden', (), ('hidden', 'none')),
    ('cnn.features', (4, -8), ('cnn.features', '-8')),
    ('cnn.features', (), ('cnn.features', 'none')),
    ('first_seeds', (1000,), ('first_seeds', '(1000,)')),
    ('first_seeds', (1000, 1003), ('first_seeds', '(1000, 1003)', '32')),
    ('first_seeds', (-1, 1000), ('first_seeds', '-1', '[0, ')),
    ('mini_batch', 16, ('mini_batch', '16', '[32, 128]')),
    ('mini_batch', 64, ('mini_batch', '64', '(8, 32, 128)')),
    ('cnn.batch_sizes', (64,), ('cnn.batch_sizes', '32', '(64,)')),
    ('batch_sizes', (), ('batch_sizes', 'none')),
    ('batch_sizes', (32, 8), ('batch_sizes', '(32, 8)', 'increase')),
    ('norm.batch_sizes', (1024,), ('norm.batch_sizes', '1024')),
    ('norm.batch_sizes', (2048,), ('norm.batch_sizes', '2048', '1024]')),
    ('norm.ghost', 2048, ('norm.ghost', '2048', '1024]')),
    ('learning_rates', (0.1,), ('learning_rates', '(0.1,)')),
    ('learning_rates', (0.1, -0.1), ('learning_rates', '-0.1')),
    ('learning_rates', (), ('learning_rates', 'none')),
    ('momenta', (1.0,), ('momenta', '1.0', '[0, 1')),
    ('momenta', (0.9, 0.9), ('momenta', '(0.9, 0.9)', 'different')),
    ('cnn.momenta', (), ('cnn.momenta', 'none')),
    ('cnn.num_seeds', 33, ('cnn.num_seeds', '33', '32]')),
    ('label_noise', 1.5, ('label_noise', '1.5', '(0, 1')),
    ('clock.seconds', 0.0, ('clock.seconds', '0.0')),
    ('sharpness.settings', ((0.7, 0.0),), ('sharpness.settings', '(0.7, 0.0)')),
    ('sharpness.settings', (0.2,), ('sharpness.settings', '0.2')),
    ('sharpness.settings', (), ('sharpness.settings', 'none')),
    ('sharpness.target.noisy', -0.9, ('sharpness.target.noisy', '-0.9')),
    ('sharpness.epsilon', 0.0, ('sharpness.epsilon', '0.0')),
    ('sharpness.cooling_rate', -1.0, ('sharpness.cooling_rate', '-1.0')),
    ('sharpness.cooling_limit', 40, ('sharpness.cooling_limit', '40', '>= 50')),
    ('steps.base', 3, ('steps.base', '3', '(1, 2, 4')),
    ('steps.batch_sizes', (1, 2, 3), ('steps.batch_sizes', '(1, 2, 3)')),
    ('steps.batch_sizes', (), ('steps.batch_sizes', 'none')),
    ('steps.target_loss', -1.0, ('steps.target_loss', '-1.0')),
    ('steps.scale_seeds', 33, ('steps.scale_seeds', '33', '32]')),
    ('adam.batch_sizes', (16, 16), ('adam.batch_sizes', '(16, 16)')),
    ('adam.base', 8, ('adam.base', '8', '(16, 64, 256, 512)')),
    ('adam.b1', 1.5, ('adam.b1', '1.5', '[0, 1')),
    ('adam.b2', 0.9, ('adam.b2', '0.9', '0.96875')),
    ('adam.eps', 0.0, ('adam.eps', '0.0')),
    ('adam.learning_rates', (), ('adam.learning_rates', 'none')),
    ('growth.bench', 'noise', ('growth.bench', "'noise'", "'noisy'")),
    ('growth.bench', 'norm', ('growth.bench', "'norm'", 'clean')),
    ('growth.batch_size', 0, ('growth.batch_size', '0', '>= 1')),
    ('growth.batch_size', 128, ('growth.batch_size', '2048', '1024')),
    ('growth.factor', 1, ('growth.factor', '1', '>= 2')),
    ('growth.epochs', (0, 5, 9), ('growth.epochs', '0', '>= 1')),
    ('growth.epochs', (9, 5, 12), ('growth.epochs', '(9, 5, 12)', 'increase')),
    ('growth.epochs', (5, 9), ('growth.epochs', '(5, 9)', 'three')),
    ('growth.epochs', (), ('growth.epochs', 'none')),
    ('growth.learning_rates', (0.1, 0.1), ('growth.learning_rates', '(0.1, 0.1)')),
  ],
)
def test_bad_configurations_are_refused(key, value, words):
  config = batch_size.get_config()
  *sections, name = key.split('.')
  section = config
  for part in sections:
    section = section[part]
  with section.unlocked(), section.ignore_type():
    section[name] = value
  with pytest.raises(InputError) as refused:
    checks.check(config)
  message = str(refused.value)
  assert '\n' not in message
  for word in words:
    assert word in message
