"""The check of a configuration before anything is measured.

Each refusal names the entry, its value and what is allowed, on one line.
"""

from collections.abc import Sequence

from experiments.fields import (
  Fields,
  check_fields,
  choice,
  count,
  exactly,
  flat,
  positive,
  real,
  several,
  share,
)
from experiments.saddles import places
from experiments.saddles.seeds import TUNING_IDS
from experiments.saddles.training import DATASETS, WIDEST
from gdlab.core.errors import InputError, check_count, check_real, shown

NUMBERS, RATES, SHARE = several(count()), several(positive), real(above=0, below=1)
FIELDS: Fields = {
  'first_seeds': several(count(0)),
  'num_seeds': count(2),
  'num_tuning_seeds': count(maximum=TUNING_IDS),
  'fields.dimensions': NUMBERS,
  'fields.num_features': count(),
  'fields.num_starts': count(),
  'search.widths': NUMBERS,
  'search.num_examples': count(4),
  'search.num_starts': count(2),
  'network.components': count(),
  'network.l2': positive,
  'network.hidden': count(2),
  'network.num_examples': count(4),
  'network.num_starts': count(2),
  'network.num_saddles': count(),
  'network.least_curvature': SHARE,
  'network.least_fall': SHARE,
  'made.curvature': positive,
  'made.deviation': positive,
  'made.num_examples': count(4),
  'race.generic': several(choice(places.KINDS['generic'])),
  'race.silent': several(choice(places.KINDS['silent'])),
  'race.symmetric': several(choice(places.KINDS['symmetric'])),
  'race.mini_batch': count(),
  'race.multiples': RATES,
  'race.near_multiples': RATES,
  'race.momentum_multiples': RATES,
  'race.adam_rates': RATES,
  'race.displacement': positive,
  'race.folds': positive,
  'race.most_updates': count(),
  'race.evaluations': count(),
  'race.timing_repeats': count(),
  'race.timing_updates': count(),
  'race.drop': SHARE,
  'race.temperature': positive,
  'race.radius': positive,
  'growth.cases': several(exactly(count(2), positive, positive)),  # dimension, curvature, scale of the start
  'growth.strengths': RATES,
  'growth.betas': several(share),
  'growth.distance': positive,
  'growth.scales': RATES,
  'growth.adam_rate': positive,
  'growth.noise': positive,
  'growth.noisy_strengths': RATES,
  'growth.batch_sizes': NUMBERS,
  'growth.repeats': count(),
  'growth.curved_scale': positive,
  'growth.curved_distance': positive,
  'growth.curved_multiples': RATES,
  'chain.dimension': count(4, 6),
  'chain.long': count(4),
  'chain.rates': several(SHARE),  # from 1/L on the tubes of the octopus throw runs out
  'chain.largest_rate': real(above=0, below=0.5),
  'chain.limit': count(),
  'training.dataset': choice(DATASETS),
  'training.hidden': count(),
  'training.batch_size': count(),
  'training.num_seeds': count(2),
  'training.num_control_seeds': count(2),
  'training.sgd_rates': RATES,
  'training.adam_rates': RATES,
  'training.num_updates': count(),
  'training.record_every': count(),
  'training.num_curvatures': count(),
  'training.target_loss': positive,
  'training.small_scale': SHARE,
  'training.near_gradient': real(above=0, maximum=WIDEST),
  'training.near_curvature': SHARE,
}
DIFFERENT = {  # lists without repetition -> how many at least
  'race.multiples': 2,
  'race.near_multiples': 2,
  'race.momentum_multiples': 2,
  'race.adam_rates': 2,
  'growth.strengths': 2,
  'growth.scales': 2,
  'growth.noisy_strengths': 1,
  'growth.curved_multiples': 1,
  'growth.cases': 1,
  'growth.betas': 2,
  'growth.batch_sizes': 1,
  'chain.rates': 2,
  'training.sgd_rates': 2,
  'training.adam_rates': 2,
}


def check(config) -> None:
  """Refuses a configuration that the study could not finish with."""
  check_fields(config, FIELDS)
  given = dict(flat(config))
  for name, least in DIFFERENT.items():
    _several(name, given[name], least)
  _check_seeds(config)
  _check_sizes(config)
  _check_images(config)
  _check_places(config)
  _check_growth(config.growth)
  _check_chain(config.chain)
  for name in ('num_seeds', 'num_control_seeds'):
    check_count(f'training.{name}', config.training[name], minimum=2, maximum=config.num_seeds)


def _several(name: str, values, least: int = 1) -> Sequence:
  """The values of a list if there are so many at least, none twice."""
  if len(values) < least or any(value in values[:place] for place, value in enumerate(values)):
    raise InputError(f'{name} must be a list of at least {least}, all different, got {shown(values)}')
  return values


def _check_seeds(config) -> None:
  check_count('num_seeds', config.num_seeds, maximum=TUNING_IDS)
  if len(_several('first_seeds', config.first_seeds, 2)) != 2:
    raise InputError(f'first_seeds must be the first of each of two sets, got {tuple(config.first_seeds)}')
  first, second = config.first_seeds
  check_count('first_seeds[0]', first, minimum=0)
  check_count(
    'first_seeds[1]', second, minimum=first + config.num_seeds, maximum=TUNING_IDS - config.num_seeds
  )


def _check_sizes(config) -> None:
  for name, values in (
    ('fields.dimensions', config.fields.dimensions),
    ('search.widths', config.search.widths),
  ):
    _several(name, values, 2)
    if list(values) != sorted(values):
      raise InputError(f'{name} must ascend, got {tuple(values)}')
  if 2 not in config.fields.dimensions[:-1]:
    raise InputError(
      f'fields.dimensions must hold 2 and more than that, as S1 compares them, got {tuple(config.fields.dimensions)}'
    )


def _check_images(config) -> None:
  fewest = min(config.made.num_examples, config.network.num_examples)
  check_count('race.mini_batch', config.race.mini_batch, maximum=fewest // 4)  # of all examples
  count, pixels = places.images()[0].shape
  for section in ('network', 'search'):
    check_count(f'{section}.num_examples', config[section].num_examples, minimum=4, maximum=count)
  check_count('network.components', config.network.components, maximum=pixels)
  if config.training.dataset == 'digits':
    check_count('training.batch_size', config.training.batch_size, maximum=count)


def _check_places(config) -> None:
  for kind, known in places.KINDS.items():
    names = _several(f'race.{kind}', config.race[kind])
    if known[-1] not in names:  # its pictures are on the page
      raise InputError(f'race.{kind} must hold {known[-1]!r}, got {tuple(names)}')


def _check_growth(growth) -> None:
  for case in growth.cases:
    check_count('growth.cases dimension', case[0], minimum=2, maximum=64)
    check_real('growth.cases scale', case[2], above=0, below=growth.distance)
  if 0 not in growth.betas:
    raise InputError(
      f'growth.betas must hold 0, which the others are compared with, got {tuple(growth.betas)}'
    )
  check_real('growth.curved_scale', growth.curved_scale, above=0, below=growth.curved_distance)


def _check_chain(chain) -> None:
  check_count('chain.long', chain.long, minimum=chain.dimension)
  if sum(rate <= chain.largest_rate for rate in chain.rates) < 2:
    raise InputError(
      f'chain.largest_rate must leave at least two of chain.rates {tuple(chain.rates)}, got {chain.largest_rate}'
    )
