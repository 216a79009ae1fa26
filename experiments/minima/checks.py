"""Refuses a configuration that the study could not finish with, before anything is measured."""

import math
from typing import Any

from experiments.minima import kramers, valleys
from experiments.minima.arms import DATASETS, TUNING_IDS
from gdlab.errors import InputError, check_count, check_real, shown, unknown_name

EXAMPLES = {'digits': 1437, 'mnist': 60_000}  # for training
COUNTS = {  # the least that is allowed
  'num_seeds': 4,
  'hidden_of_trap': 1,
  'members': 2,
  'valleys.num_seeds': 2,
  'valleys.num_examples': 2,
  'valleys.mini_batch': 2,
  'valleys.updates': 1,
  'valleys.return_updates': 1,
  'valleys.records': 1,
  'escape.num_seeds': 2,
  'escape.num_examples': 2,
  'dose.dim': 1,
  'dose.num_seeds': 2,
  'dose.num_tuning_seeds': 1,
  'dose.updates': 1,
  'dose_network.hidden': 1,
  'dose_network.num_examples': 1,
  'dose_network.num_seeds': 2,
  'dose_network.num_tuning_seeds': 1,
  'dose_network.updates': 1,
  'trap.batch_size': 2,
  'trap.num_tuning_seeds': 1,
  'trap.epochs': 1,
  'trap.return_epochs': 1,
  'widths.num_tuning_seeds': 1,
  'widths.batch_size': 1,
  'widths.epochs': 1,
  'widths.pairs': 2,
  'widths.points': 3,
}
POSITIVE = ('valleys.escapes', 'valleys.learning_rate', 'valleys.lower_rate', 'escape.learning_rate')
AT_LEAST = {'valleys.start_scale': 0, 'valleys.patience': 1, 'escape.horizon': 1}
WHOLE_LISTS = ('valleys.batch_sizes', 'escape.batch_sizes', 'widths.hidden')
REAL_LISTS = (
  'valleys.learning_rates',
  'escape.barriers',
  'dose.learning_rates',
  'dose_network.learning_rates',
  'trap.learning_rates',
  'widths.learning_rates',
)
LEVELS = ('dose.levels', 'dose_network.levels')


def check(config) -> None:
  """Refuses, with an InputError that names the argument, its value and what is allowed."""
  if config.dataset not in DATASETS:
    raise unknown_name('dataset', config.dataset, DATASETS)
  for name, least in COUNTS.items():
    check_count(name, _value(config, name), minimum=least)
  for name in POSITIVE:
    check_real(name, _value(config, name), above=0)
  for name, least in AT_LEAST.items():
    check_real(name, _value(config, name), minimum=least)
  for name in (*WHOLE_LISTS, *REAL_LISTS, *LEVELS):
    _check_list(name, _value(config, name))
  _check_seeds(config)
  _check_sizes(config)
  _check_valleys(config)
  check_count('widths.pairs', config.widths.pairs, minimum=2, maximum=config.num_seeds // 2)
  check_count('members', config.members, minimum=2, maximum=config.num_seeds // 2)
  if config.ensemble_width not in config.widths.hidden:
    raise InputError(
      f'ensemble_width must be one of widths.hidden {tuple(config.widths.hidden)}, got {config.ensemble_width}'
    )


def _value(config, name: str) -> Any:
  section, _, key = name.rpartition('.')
  return (config[section] if section else config)[key]


def _check_list(name: str, given: Any) -> None:
  if not isinstance(given, (tuple, list)):
    raise InputError(f'{name} must be at least two different numbers, ascending, got {shown(given)}')
  for value in given:
    if name in WHOLE_LISTS:
      check_count(name, value)
    elif name in LEVELS:
      check_real(name, value, minimum=0)
    else:
      check_real(name, value, above=0)
  if len(set(given)) < max(2, len(given)) or list(given) != sorted(given):
    raise InputError(f'{name} must be at least two different numbers, ascending, got {shown(tuple(given))}')
  if name in LEVELS and given[0] != 0:
    raise InputError(f'{name} must start with 0, which is no noise, got {shown(tuple(given))}')


def _check_seeds(config) -> None:
  """The two sets share no seed, none is for tuning, and no random stream of N3 is used twice."""
  check_count('escape.num_seeds', config.escape.num_seeds, maximum=kramers.STREAMS // 2)
  sections = ('valleys', 'escape', 'dose', 'dose_network')
  most = max(config.num_seeds, *(config[name].num_seeds for name in sections))
  firsts = config.first_seeds
  if not isinstance(firsts, (tuple, list)) or len(firsts) != 2:
    raise InputError(f'first_seeds must be two whole numbers, got {shown(firsts)}')
  for first in firsts:
    check_count('first_seeds', first, minimum=0, maximum=TUNING_IDS - most)
  distance = abs(firsts[0] - firsts[1])
  if distance < most:
    raise InputError(f'first_seeds must be at least {most} apart, got {tuple(firsts)}')
  to_multiple = abs((distance + kramers.STREAMS // 2) % kramers.STREAMS - kramers.STREAMS // 2)
  if to_multiple < config.escape.num_seeds:
    raise InputError(
      f'first_seeds must differ by at least {config.escape.num_seeds} from every multiple of {kramers.STREAMS} '
      f'in their distance, or the sets share random streams, got {tuple(firsts)}'
    )


def _check_sizes(config) -> None:
  """Batches fit into their data, and images are left over to tune with."""
  for name in ('valleys', 'escape'):
    for size in config[name].batch_sizes:
      check_count(f'{name}.batch_sizes', size, maximum=config[name].num_examples - 1)
  available = EXAMPLES[config.dataset]
  for name in ('trap', 'widths'):
    check_count(f'{name}.batch_size', config[name].batch_size, maximum=available)
  check_count('dose_network.num_examples', config.dose_network.num_examples, maximum=available // 2)


def _check_valleys(config) -> None:
  options = config.valleys
  for name in ('learning_rate', 'lower_rate'):
    if options[name] not in options.learning_rates:
      raise InputError(
        f'valleys.{name} must be one of valleys.learning_rates {tuple(options.learning_rates)}, '
        f'got {options[name]}'
      )
  if options.lower_rate >= options.learning_rate:
    raise InputError(
      f'valleys.lower_rate must be below valleys.learning_rate {options.learning_rate}, got {options.lower_rate}'
    )
  if 1 not in options.batch_sizes or options.mini_batch not in options.batch_sizes:
    raise InputError(
      f'valleys.batch_sizes must hold 1 and mini_batch={options.mini_batch}, got {tuple(options.batch_sizes)}'
    )
  # A temperature above the ridge leaves no valley to get out of; at the ridge the exponential is 1/e.
  most = options.updates * options.learning_rate * valleys.attempts() / math.e
  check_real('valleys.escapes', options.escapes, above=0, maximum=round(most, 6))
