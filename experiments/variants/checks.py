"""What the study asks of its configuration, before anything is measured."""

from experiments.fields import Fields, check_fields, choice, count, exactly, positive, real, several
from experiments.variants.arms import DATASETS, TUNING_IDS
from gdlab.core.errors import InputError, check_count

COUNTS, RATES = several(count(), 1), several(positive)
FIELDS: Fields = {
  'dataset': choice(DATASETS),
  'hidden': several(count()),
  'first_seed': count(0),
  'num_seeds': count(maximum=TUNING_IDS),
  'num_tuning_seeds': count(maximum=TUNING_IDS),
  'batch_sizes': COUNTS,
  'mini_batch': count(32, 256),
  'learning_rates': RATES,
  'epochs': count(),
  'min_updates': count(),
  'evaluations': count(),
  'target_loss': positive,
  'target_accuracy': real(above=0, maximum=1),
  'population': count(2),
  'components': count(),
  'timing.repeats': count(),
  'timing.seconds': positive,
  'timing.powers': COUNTS,
  'timing.offset': count(),
  'noise.num_batches': count(),
  'smoothness.learning_rate': positive,
  'smoothness.num_updates': count(),
  'floor.learning_rates': RATES,
  'floor.l2': positive,
  'floor.epochs': count(),
  'convex.l2': positive,
  'convex.num_steps': count(),
  'convex.num_seeds': count(),
  'stream.drift': real(minimum=0),
  'stream.noise': real(minimum=0),
  'stream.learning_rates': RATES,
  'paths.start': exactly(real(), real()),
  'paths.num_updates': count(),
}


def check(config) -> None:
  """Refuses a configuration that the study could not finish with, before its data are read."""
  check_fields(config, FIELDS)
  check_count('first_seed', config.first_seed, minimum=0, maximum=TUNING_IDS - config.num_seeds)
  check_count('convex.num_seeds', config.convex.num_seeds, maximum=config.num_seeds)
  for size in (1, config.mini_batch):
    if size not in config.batch_sizes:
      raise InputError(
        f'batch_sizes must hold 1 and mini_batch, got {tuple(config.batch_sizes)} without {size}'
      )
  rates = {name: config[name].learning_rates for name in ('floor', 'stream')}
  for name, tried in {'learning_rates': config.learning_rates, **rates}.items():
    if len(set(tried)) < max(2, len(tried)):
      full = name if name == 'learning_rates' else f'{name}.learning_rates'
      raise InputError(f'{full} must hold at least two rates, all different, got {tuple(tried)}')


def check_sizes(config, num_examples: int) -> None:
  """Refuses batches that are larger than the training set."""
  offset = config.timing.offset
  neighbours = [power + side for power in config.timing.powers for side in (-offset, offset)]
  for name, sizes in (('batch_sizes', config.batch_sizes), ('timing.powers', neighbours)):
    for size in sizes:
      check_count(name, size, maximum=num_examples)
