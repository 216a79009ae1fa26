"""Which seeds are used for what, and the check of a configuration before anything is measured."""

import jax
import numpy as np

from experiments.saddles import places
from gdlab.errors import InputError, check_count, check_real, unknown_name

TUNING_IDS = 1_000_000  # seeds for tuning start here, far from the study's


def study_seeds(config) -> list[int]:
  """The ids of both sets of seeds, one after the other."""
  return [first + place for first in config.first_seeds for place in range(config.num_seeds)]


def tuning_seeds(config) -> list[int]:
  """The ids of the seeds that rates are tuned with."""
  return list(range(TUNING_IDS, TUNING_IDS + config.num_tuning_seeds))


def keys(ids) -> jax.Array:
  """One key for each seed id, for measurements that are not runs of `gdlab.sweep`."""
  return jax.vmap(lambda number: jax.random.fold_in(jax.random.key(0), number))(np.asarray(ids, np.int32))


COUNTS = {
  '': ('num_seeds', 'num_tuning_seeds'),
  'fields': ('num_starts', 'num_features'),
  'network': ('num_examples', 'components', 'num_starts', 'num_saddles', 'hidden'),
  'search': ('num_examples', 'num_starts'),
  'race': ('mini_batch', 'most_updates'),
  'growth': ('repeats',),
  'chain': ('dimension', 'long', 'limit'),
  'training': ('hidden', 'num_updates', 'num_records', 'batch_size', 'num_seeds'),
}
POSITIVE = {
  'network': ('l2',),
  'race': ('displacement', 'folds', 'drop', 'temperature', 'radius'),
  'growth': ('distance', 'noise'),
  'training': ('target_loss', 'small_scale'),
}
RATES = {
  'race': ('multiples', 'near_multiples', 'momentum_multiples', 'adam_rates'),
  'growth': ('strengths', 'betas', 'scales'),
  'chain': ('rates',),
  'training': ('sgd_rates', 'adam_rates'),
}


def check(config) -> None:
  """Refuses a configuration that the study could not finish with."""
  for section, names in COUNTS.items():
    for name in names:
      check_count(f'{section}.{name}'.lstrip('.'), (config[section] if section else config)[name])
  for section, names in POSITIVE.items():
    for name in names:
      check_real(f'{section}.{name}', config[section][name], above=0)
  for section, names in RATES.items():
    for name in names:
      _check_rates(f'{section}.{name}', config[section][name])
  _check_seeds(config)
  check_count('num_seeds', config.num_seeds, minimum=2)
  check_count('chain.dimension', config.chain.dimension, minimum=4, maximum=6)
  check_count('chain.long', config.chain.long, minimum=config.chain.dimension)
  for name, least in (('fields', 1), ('search', 1)):
    sizes = config[name]['dimensions' if name == 'fields' else 'widths']
    if len(sizes) < 2 or list(sizes) != sorted(set(sizes)) or sizes[0] < least:
      raise InputError(f'{name} needs at least two ascending sizes >= {least}, got {tuple(sizes)}')
  for kind, known in places.KINDS.items():
    for name in config.race[kind]:
      if name not in known:
        raise unknown_name(f'race.{kind} saddle', name, known)
    if known[-1] not in config.race[kind]:  # its pictures are on the page
      raise InputError(f'race.{kind} must hold {known[-1]!r}, got {tuple(config.race[kind])}')
  check_real('race.drop', config.race.drop, above=0, below=1)
  check_count('training.num_seeds', config.training.num_seeds, maximum=config.num_seeds)


def _check_rates(name: str, rates) -> None:
  if len(set(rates)) < max(2, len(rates)):
    raise InputError(f'{name} must hold at least two numbers, all different, got {tuple(rates)}')
  for rate in rates:
    check_real(name, rate, minimum=0)


def _check_seeds(config) -> None:
  if len(config.first_seeds) != 2:
    raise InputError(f'first_seeds must be the first of each of two sets, got {tuple(config.first_seeds)}')
  first, second = config.first_seeds
  check_count('first_seeds[0]', first, minimum=0)
  check_count(
    'first_seeds[1]', second, minimum=first + config.num_seeds, maximum=TUNING_IDS - config.num_seeds
  )
