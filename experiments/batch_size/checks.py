"""What the study asks of its configuration, before anything is measured."""

from experiments.batch_size.benches import PROBLEMS, TUNING_IDS
from experiments.fields import (
  Fields,
  check_fields,
  choice,
  count,
  exactly,
  flag,
  positive,
  real,
  several,
  share,
)
from gdlab.core.errors import InputError, check_count

GROWN = ('clean', 'noisy')  # the benches on which a batch can grow: those of the perceptron
COUNTS, RATES = several(count(), 1), several(positive, 1)
FIELDS: Fields = {
  'dataset': choice(PROBLEMS),
  'hidden': COUNTS,
  'num_train': count(2),
  'num_validation': count(),
  'label_noise': real(above=0, below=1),
  'first_seeds': several(count(0, TUNING_IDS)),
  'num_seeds': count(),
  'num_tuning_seeds': count(),
  'batch_sizes': COUNTS,
  'mini_batch': count(),
  'learning_rates': RATES,
  'momenta': several(share, 1),
  'epochs': count(),
  'updates': count(),
  'evaluations': count(),
  'lanes_per_block': count(0),
  'clock.repeats': count(),
  'clock.seconds': positive,
  'cnn.features': COUNTS,
  'cnn.num_seeds': count(),
  'cnn.batch_sizes': COUNTS,
  'cnn.momenta': several(share, 1),
  'cnn.epochs': count(),
  'cnn.updates': count(),
  'norm.ghost': count(),
  'norm.wrong_labels': flag,
  'norm.num_seeds': count(),
  'norm.batch_sizes': COUNTS,
  'norm.momenta': several(share, 1),
  'norm.epochs': count(),
  'norm.updates': count(),
  'sharpness.target.clean': positive,
  'sharpness.target.noisy': positive,
  'sharpness.num_seeds': count(),
  'sharpness.cooling_rate': positive,
  'sharpness.cooling_updates': count(),
  'sharpness.cooling_limit': count(),
  'sharpness.epsilon': positive,
  'sharpness.probes': count(),
  'sharpness.settings': several(exactly(positive, share), 1),
  'steps.batch_sizes': COUNTS,
  'steps.learning_rates': RATES,
  'steps.target_loss': positive,
  'steps.budget_updates': count(),
  'steps.budget_examples': count(),
  'steps.records': count(),
  'steps.base': count(),
  'steps.scale_records': count(),
  'steps.scale_seeds': count(),
  'steps.probes': count(),
  'adam.batch_sizes': COUNTS,
  'adam.base': count(),
  'adam.learning_rates': RATES,
  'adam.b1': share,
  'adam.b2': share,
  'adam.eps': positive,
  'growth.bench': choice(GROWN),
  'growth.batch_size': count(),
  'growth.factor': count(2),
  'growth.epochs': COUNTS,
  'growth.learning_rates': RATES,
}


def check(config) -> None:
  """Refuses a configuration that the study could not finish with, before anything is measured."""
  check_fields(config, FIELDS)
  check_count(
    'sharpness.cooling_limit', config.sharpness.cooling_limit, minimum=config.sharpness.cooling_updates
  )
  _check_seeds(config)
  _check_batch_sizes(config)
  _check_rates(config)
  _check_adam(config.adam)
  _check_growth(config)


def _check_seeds(config) -> None:
  check_count('num_seeds', config.num_seeds, maximum=TUNING_IDS)
  firsts = tuple(config.first_seeds)
  if len(firsts) != 2:
    raise InputError(f'first_seeds must be two ids, got {firsts}')
  for first in firsts:
    check_count('first_seeds', first, minimum=0, maximum=TUNING_IDS - config.num_seeds)
  if abs(firsts[0] - firsts[1]) < config.num_seeds:
    raise InputError(f'first_seeds must be at least num_seeds ({config.num_seeds}) apart, got {firsts}')
  for name in ('sharpness.num_seeds', 'cnn.num_seeds', 'norm.num_seeds', 'steps.scale_seeds'):
    check_count(name, _value(config, name), maximum=config.num_seeds)


def _check_batch_sizes(config) -> None:
  for name in ('batch_sizes', 'cnn.batch_sizes', 'norm.batch_sizes', 'steps.batch_sizes', 'adam.batch_sizes'):
    sizes = _values(config, name)
    for size in sizes:
      check_count(name, size, maximum=config.num_train)
    if list(sizes) != sorted(set(sizes)):
      raise InputError(f'{name} must increase, got {sizes}')
  check_count('norm.ghost', config.norm.ghost, maximum=config.num_train)
  # Small batches as the claims have it, and small beside the full one.
  check_count('mini_batch', config.mini_batch, minimum=32, maximum=min(128, config.num_train - 1))
  for name in ('batch_sizes', 'cnn.batch_sizes'):
    if config.mini_batch not in _values(config, name):
      raise InputError(f'mini_batch must be one of {name} {_values(config, name)}, got {config.mini_batch}')
  if min(config.norm.batch_sizes) >= config.num_train:
    raise InputError(
      f'norm.batch_sizes must hold one below num_train ({config.num_train}), got {_values(config, "norm.batch_sizes")}'
    )
  sizes = _values(config, 'steps.batch_sizes')
  if len(sizes) < 4 or sizes[0] >= sizes[-1] / 8:
    raise InputError(
      f'steps.batch_sizes must hold four sizes, the largest above 8 times the least, got {sizes}'
    )
  for name in ('steps', 'adam'):
    if config[name].base not in config[name].batch_sizes:
      allowed = _values(config, f'{name}.batch_sizes')
      raise InputError(f'{name}.base must be one of {name}.batch_sizes {allowed}, got {config[name].base!r}')


def _check_rates(config) -> None:
  for name in ('learning_rates', 'steps.learning_rates', 'adam.learning_rates', 'growth.learning_rates'):
    rates = _values(config, name)
    if len(set(rates)) < max(2, len(rates)):
      raise InputError(f'{name} must hold at least two rates, all different, got {rates}')
  for name in ('momenta', 'cnn.momenta', 'norm.momenta'):
    momenta = _values(config, name)
    if len(set(momenta)) < len(momenta):
      raise InputError(f'{name} must all be different, got {momenta}')
  tried = {(rate, momentum) for rate in config.learning_rates for momentum in config.momenta}
  for pair in _values(config, 'sharpness.settings'):
    if tuple(pair) not in tried:
      raise InputError(
        f'sharpness.settings must be pairs of one of learning_rates and one of momenta, got {pair!r}'
      )


def _check_adam(options) -> None:
  factor = max(options.batch_sizes) / options.base
  for name in ('b1', 'b2'):
    value = options[name]
    # The square-root rule makes 1 - factor (1 - b) of it.
    if value <= 1 - 1 / factor:
      raise InputError(
        f'adam.{name} must be above {1 - 1 / factor:g} and below 1, as the largest batch is {factor:g} times the '
        f'base, got {value}'
      )


def _check_growth(config) -> None:
  options = config.growth
  epochs = _values(config, 'growth.epochs')
  if len(epochs) != 3 or list(epochs) != sorted(set(epochs)):
    raise InputError(f'growth.epochs must be three that increase, got {epochs}')
  if (last := options.batch_size * options.factor**2) > config.num_train:
    raise InputError(
      f'growth.batch_size times growth.factor squared must be at most num_train ({config.num_train}), got {last}'
    )


def _value(config, name: str):
  for key in name.split('.'):
    config = config[key]
  return config


def _values(config, name: str) -> tuple:
  return tuple(_value(config, name))
