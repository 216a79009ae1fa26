"""The check of a configuration before anything is measured.

Each refusal names the entry, its value and what is allowed, on one line.
"""

from collections.abc import Sequence

from experiments.saddles import places
from experiments.saddles.seeds import TUNING_IDS
from experiments.saddles.training import DATASETS, WIDEST
from gdlab.errors import InputError, check_count, check_real, shown, unknown_name

COUNTS: dict[str, dict[str, int]] = {  # section -> name -> least
  '': {'num_seeds': 2, 'num_tuning_seeds': 1},
  'fields': {'num_starts': 1, 'num_features': 1},
  'search': {'num_starts': 2},
  'network': {'num_starts': 2, 'num_saddles': 1, 'hidden': 2},
  'made': {'num_examples': 4},
  'race': {'mini_batch': 1, 'most_updates': 1, 'evaluations': 1, 'timing_repeats': 1, 'timing_updates': 1},
  'growth': {'repeats': 1},
  'chain': {'limit': 1},
  'training': {
    'hidden': 1,
    'batch_size': 1,
    'num_seeds': 2,
    'num_control_seeds': 2,
    'num_updates': 1,
    'record_every': 1,
    'num_curvatures': 1,
  },
}
REALS: dict[
  str, dict[str, int | float | None]
] = {  # section -> name -> the end of what it lies between, from 0, neither included
  'network': {'l2': None, 'least_curvature': 1, 'least_fall': 1},
  'made': {'curvature': None, 'deviation': None},
  'race': {'displacement': None, 'folds': None, 'drop': 1, 'temperature': None, 'radius': None},
  'growth': {
    'distance': None,
    'noise': None,
    'adam_rate': None,
    'curved_scale': None,
    'curved_distance': None,
  },
  'chain': {'largest_rate': 0.5},
  'training': {'target_loss': None, 'small_scale': 1, 'near_curvature': 1},
}
LISTS: dict[
  str, dict[str, tuple[int, int | None]]
] = {  # section -> name -> least length, and the end of what each lies between
  'race': {
    'multiples': (2, None),
    'near_multiples': (2, None),
    'momentum_multiples': (2, None),
    'adam_rates': (2, None),
  },
  'growth': {
    'strengths': (2, None),
    'scales': (2, None),
    'noisy_strengths': (1, None),
    'curved_multiples': (1, None),
  },
  'chain': {'rates': (2, 1)},  # from 1/L on the tubes of the octopus throw runs out
  'training': {'sgd_rates': (2, None), 'adam_rates': (2, None)},
}


def check(config) -> None:
  """Refuses a configuration that the study could not finish with."""
  for section, counts in COUNTS.items():
    for name, least in counts.items():
      check_count(
        f'{section}.{name}'.lstrip('.'), (config[section] if section else config)[name], minimum=least
      )
  for section, reals in REALS.items():
    for name, end in reals.items():
      _real(f'{section}.{name}', config[section][name], end)
  for section, lists in LISTS.items():
    for name, (least, end) in lists.items():
      for value in _several(f'{section}.{name}', config[section][name], least):
        _real(f'{section}.{name}', value, end)
  _check_seeds(config)
  _check_sizes(config)
  _check_images(config)
  _check_places(config)
  _check_growth(config.growth)
  _check_chain(config.chain)
  _check_training(config.training, config.num_seeds)


def _real(name: str, value, end: float | None) -> None:
  check_real(name, value, above=0, **({} if end is None else {'below': end}))


def _several(name: str, values, least: int = 1) -> Sequence:
  """The values of a list if there are so many at least, none twice."""
  listed = isinstance(values, tuple | list)
  if not listed or len(values) < least or any(value in values[:place] for place, value in enumerate(values)):
    raise InputError(f'{name} must be a list of at least {least}, all different, got {shown(values)}')
  return values


def _check_seeds(config) -> None:
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
    for value in _several(name, values, 2):
      check_count(name, value)
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
  if config.training.dataset not in DATASETS:
    raise unknown_name('training.dataset', str(config.training.dataset), DATASETS)
  if config.training.dataset == 'digits':
    check_count('training.batch_size', config.training.batch_size, maximum=count)


def _check_places(config) -> None:
  for kind, known in places.KINDS.items():
    names = _several(f'race.{kind}', config.race[kind])
    for name in names:
      if name not in known:
        raise unknown_name(f'race.{kind} saddle', str(name), known)
    if known[-1] not in names:  # its pictures are on the page
      raise InputError(f'race.{kind} must hold {known[-1]!r}, got {tuple(names)}')


def _check_growth(growth) -> None:
  for case in _several('growth.cases', growth.cases):
    if not isinstance(case, tuple | list) or len(case) != 3:
      raise InputError(
        f'growth.cases must hold (dimension, curvature, scale of the start), got {shown(case)}'
      )
    check_count('growth.cases dimension', case[0], minimum=2, maximum=64)
    check_real('growth.cases curvature', case[1], above=0)
    check_real('growth.cases scale', case[2], above=0, below=growth.distance)
  for beta in _several('growth.betas', growth.betas, 2):
    check_real('growth.betas', beta, minimum=0, below=1)
  if 0 not in growth.betas:
    raise InputError(
      f'growth.betas must hold 0, which the others are compared with, got {tuple(growth.betas)}'
    )
  for size in _several('growth.batch_sizes', growth.batch_sizes):
    check_count('growth.batch_sizes', size)
  check_real('growth.curved_scale', growth.curved_scale, above=0, below=growth.curved_distance)


def _check_chain(chain) -> None:
  check_count('chain.dimension', chain.dimension, minimum=4, maximum=6)
  check_count('chain.long', chain.long, minimum=chain.dimension)
  if sum(rate <= chain.largest_rate for rate in chain.rates) < 2:
    raise InputError(
      f'chain.largest_rate must leave at least two of chain.rates {tuple(chain.rates)}, got {chain.largest_rate}'
    )


def _check_training(training, num_seeds: int) -> None:
  for name in ('num_seeds', 'num_control_seeds'):
    check_count(f'training.{name}', training[name], minimum=2, maximum=num_seeds)
  check_real('training.near_gradient', training.near_gradient, above=0, maximum=WIDEST)
