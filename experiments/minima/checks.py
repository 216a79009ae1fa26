"""Refuses a configuration that the study could not finish with, before anything is measured."""

import math
from collections.abc import Sequence
from typing import Any

from experiments.fields import Fields, check_fields, choice, count, positive, real, several
from experiments.minima import kramers, valleys
from experiments.minima.arms import DATASETS, TUNING_IDS
from gdlab.core.errors import InputError, check_count, check_real, shown

EXAMPLES = {'digits': 1437, 'mnist': 60_000}  # for training
SEEDS = count(2, TUNING_IDS)
NUMBERS, RATES, LEVELS = (
  several(count()),
  several(positive),
  several(real(minimum=0)),
)  # ascending, see `_check_list`
FIELDS: Fields = {
  'dataset': choice(DATASETS),
  'first_seeds': several(count(0)),
  'num_seeds': count(4, TUNING_IDS),
  'hidden_of_trap': count(),
  'members': count(2),
  'ensemble_width': count(),
  'valleys.num_seeds': SEEDS,
  'valleys.num_examples': count(2),
  'valleys.batch_sizes': NUMBERS,
  'valleys.mini_batch': count(2),
  'valleys.learning_rates': RATES,
  'valleys.learning_rate': positive,
  'valleys.lower_rate': positive,
  'valleys.escapes': positive,
  'valleys.start_scale': real(minimum=0),
  'valleys.updates': count(),
  'valleys.patience': real(minimum=1),
  'valleys.return_updates': count(),
  'valleys.records': count(),
  'escape.num_seeds': SEEDS,
  'escape.num_examples': count(2),
  'escape.batch_sizes': NUMBERS,
  'escape.barriers': RATES,
  'escape.learning_rate': positive,
  'escape.horizon': real(minimum=1),
  'dose.dim': count(),
  'dose.num_seeds': SEEDS,
  'dose.num_tuning_seeds': count(maximum=TUNING_IDS),
  'dose.updates': count(),
  'dose.learning_rates': RATES,
  'dose.levels': LEVELS,
  'dose_network.hidden': count(),
  'dose_network.num_examples': count(),
  'dose_network.num_seeds': SEEDS,
  'dose_network.num_tuning_seeds': count(maximum=TUNING_IDS),
  'dose_network.updates': count(),
  'dose_network.learning_rates': RATES,
  'dose_network.levels': LEVELS,
  'trap.batch_size': count(2),
  'trap.learning_rates': RATES,
  'trap.num_tuning_seeds': count(maximum=TUNING_IDS),
  'trap.epochs': count(),
  'trap.return_epochs': count(),
  'widths.hidden': NUMBERS,
  'widths.learning_rates': RATES,
  'widths.num_tuning_seeds': count(maximum=TUNING_IDS),
  'widths.batch_size': count(),
  'widths.epochs': count(),
  'widths.pairs': count(2),
  'widths.points': count(3),
}


def check(config) -> None:
  """Refuses, with an InputError that names the argument, its value and what is allowed."""
  check_fields(config, FIELDS)
  for name, entry in FIELDS.items():
    if entry in (NUMBERS, RATES, LEVELS):
      _check_list(name, _value(config, name), from_zero=entry is LEVELS)
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


def _check_list(name: str, given: Sequence, from_zero: bool) -> None:
  if len(set(given)) < max(2, len(given)) or list(given) != sorted(given):
    raise InputError(f'{name} must be at least two different numbers, ascending, got {shown(tuple(given))}')
  if from_zero and given[0] != 0:
    raise InputError(f'{name} must start with 0, which is no noise, got {shown(tuple(given))}')


def _check_seeds(config) -> None:
  """The two sets share no seed, none is for tuning, and no random stream of N3 is used twice."""
  check_count('escape.num_seeds', config.escape.num_seeds, maximum=kramers.STREAMS // 2)
  sections = ('valleys', 'escape', 'dose', 'dose_network')
  most = max(config.num_seeds, *(config[name].num_seeds for name in sections))
  firsts = config.first_seeds
  if len(firsts) != 2:
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
