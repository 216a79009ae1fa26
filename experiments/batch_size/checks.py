"""What the study asks of its configuration, before anything is measured."""

from collections.abc import Sequence

from experiments.batch_size.benches import PROBLEMS, TUNING_IDS
from gdlab.errors import InputError, check_count, check_real, unknown_name

COUNTS = {
  '': ('num_seeds', 'num_tuning_seeds', 'epochs', 'updates', 'evaluations', 'num_validation'),
  'cnn': ('epochs', 'updates'),
  'norm': ('epochs', 'updates'),
  'steps': ('records', 'scale_records', 'probes', 'budget_updates', 'budget_examples'),
  'growth': ('batch_size',),
  'clock': ('repeats',),
  'sharpness': ('probes', 'cooling_updates'),
}
POSITIVE = (
  'clock.seconds',
  'sharpness.cooling_rate',
  'sharpness.epsilon',
  'sharpness.target.clean',
  'sharpness.target.noisy',
  'steps.target_loss',
  'adam.eps',
)
GROWN = ('clean', 'noisy')  # the benches on which a batch can grow: those of the perceptron


def check(config) -> None:
  """Refuses a configuration that the study could not finish with, before anything is measured."""
  if config.dataset not in PROBLEMS:
    raise unknown_name('dataset', config.dataset, PROBLEMS)
  for section, names in COUNTS.items():
    for name in names:
      full = f'{section}.{name}'.lstrip('.')
      check_count(full, _value(config, full))
  check_count('num_train', config.num_train, minimum=2)
  check_count('lanes_per_block', config.lanes_per_block, minimum=0)
  check_count(
    'sharpness.cooling_limit', config.sharpness.cooling_limit, minimum=config.sharpness.cooling_updates
  )
  for name in POSITIVE:
    check_real(name, _value(config, name), above=0)
  check_real('label_noise', config.label_noise, above=0, below=1)
  for name in ('hidden', 'cnn.features'):
    for width in _values(config, name):
      check_count(name, width)
  _check_seeds(config)
  _check_batch_sizes(config)
  _check_rates(config)
  _check_adam(config.adam)
  _check_growth(config)


def _check_seeds(config) -> None:
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
    for rate in rates:
      check_real(name, rate, above=0)
    if len(set(rates)) < max(2, len(rates)):
      raise InputError(f'{name} must hold at least two rates, all different, got {rates}')
  for name in ('momenta', 'cnn.momenta', 'norm.momenta'):
    momenta = _values(config, name)
    for momentum in momenta:
      check_real(name, momentum, minimum=0, below=1)
    if len(set(momenta)) < len(momenta):
      raise InputError(f'{name} must all be different, got {momenta}')
  tried = {(rate, momentum) for rate in config.learning_rates for momentum in config.momenta}
  for pair in _values(config, 'sharpness.settings'):
    if not isinstance(pair, Sequence) or tuple(pair) not in tried:
      raise InputError(
        f'sharpness.settings must be pairs of one of learning_rates and one of momenta, got {pair!r}'
      )


def _check_adam(options) -> None:
  factor = max(options.batch_sizes) / options.base
  for name in ('b1', 'b2'):
    value = check_real(f'adam.{name}', options[name], minimum=0, below=1)
    # The square-root rule makes 1 - factor (1 - b) of it.
    if value <= 1 - 1 / factor:
      raise InputError(
        f'adam.{name} must be above {1 - 1 / factor:g} and below 1, as the largest batch is {factor:g} times the '
        f'base, got {value}'
      )


def _check_growth(config) -> None:
  options = config.growth
  if options.bench not in GROWN:
    raise unknown_name('growth.bench', options.bench, GROWN)
  check_count('growth.factor', options.factor, minimum=2)
  epochs = _values(config, 'growth.epochs')
  for epoch in epochs:
    check_count('growth.epochs', epoch)
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
  values = tuple(_value(config, name))
  if not values:
    raise InputError(f'{name} must hold at least one value, got none')
  return values
