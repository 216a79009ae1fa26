"""What a configuration of the benchmark must be, refused before anything is measured."""

from experiments.fields import Fields, check_fields, choice, count, positive, several
from gdlab.core.errors import InputError

PARTS = ('mlp', 'samplers', 'cnn', 'users_cnn', 'lanes', 'memory')
STEPS = ('num_steps', 'vmap_steps', 'loop_steps', 'torch_steps')  # one value for each batch size


COUNTS = several(count(), 1)
FIELDS: Fields = {
  'parts': several(choice(PARTS, 'part')),
  'num_rounds': count(),
  'hidden': COUNTS,
  'learning_rate': positive,
  'num_seeds': count(),
  'batch_sizes': COUNTS,
  **dict.fromkeys(STEPS, COUNTS),
  'peak.sizes': COUNTS,
  'peak.gflop': positive,
  'cnn.batch_size': count(),
  'cnn.num_seeds': count(),
  'cnn.num_images': count(),
  'cnn.num_steps': count(),
  'cnn.torch_steps': count(),
  'users_cnn.num_seeds': count(),
  'users_cnn.batch_sizes': COUNTS,
  'users_cnn.num_steps': COUNTS,
  'lanes.counts': COUNTS,
  'lanes.num_rounds': count(),
  'lanes.batch_size': count(),
  'lanes.num_steps': count(),
  'memory.counts': COUNTS,
  'memory.num_steps': count(),
}


def check(config) -> None:
  """Refuses a configuration that the benchmark could not finish with, before anything is measured."""
  check_fields(config, FIELDS)
  for name in STEPS:
    if len(config[name]) != len(config.batch_sizes):
      raise InputError(
        f'{name} must have one value for each of the {len(config.batch_sizes)} batch_sizes, '
        f'got {len(config[name])}'
      )
  sizes, steps = config.users_cnn.batch_sizes, config.users_cnn.num_steps
  if len(sizes) != len(steps):
    raise InputError(
      f'users_cnn.num_steps must have one value for each of the {len(sizes)} batch_sizes, got {len(steps)}'
    )
  if len(config.memory.counts) != 2 or config.memory.counts[0] >= config.memory.counts[1]:
    raise InputError(f'memory.counts must be two rising numbers of lanes, got {tuple(config.memory.counts)}')
