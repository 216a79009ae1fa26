"""What a configuration of the benchmark must be, refused before anything is measured."""

from gdlab.errors import InputError, check_count, check_real, unknown_name

PARTS = ('mlp', 'samplers', 'cnn', 'lanes', 'memory')
STEPS = ('num_steps', 'vmap_steps', 'loop_steps', 'torch_steps')  # one value for each batch size


def check(config) -> None:
  """Refuses a configuration that the benchmark could not finish with, before anything is measured."""
  for name in config.parts:
    if name not in PARTS:
      raise unknown_name('part', name, PARTS)
  for section, names in {
    '': ('num_rounds', 'num_seeds'),
    'cnn': ('batch_size', 'num_seeds', 'num_images', 'num_steps', 'torch_steps'),
    'lanes': ('num_rounds', 'batch_size', 'num_steps'),
    'memory': ('num_steps',),
  }.items():
    for name in names:
      check_count(f'{section}.{name}'.lstrip('.'), (config[section] if section else config)[name])
  check_real('learning_rate', config.learning_rate, above=0)
  check_real('peak.gflop', config.peak.gflop, above=0)
  lists = {name: config[name] for name in ('hidden', 'batch_sizes', *STEPS)}
  lists |= {
    'peak.sizes': config.peak.sizes,
    'lanes.counts': config.lanes.counts,
    'memory.counts': config.memory.counts,
  }
  for name, values in lists.items():
    if not values:
      raise InputError(f'{name} must hold at least one whole number, got none')
    for value in values:
      check_count(name, value)
  for name in STEPS:
    if len(config[name]) != len(config.batch_sizes):
      raise InputError(
        f'{name} must have one value for each of the {len(config.batch_sizes)} batch_sizes, '
        f'got {len(config[name])}'
      )
  if len(config.memory.counts) != 2 or config.memory.counts[0] >= config.memory.counts[1]:
    raise InputError(f'memory.counts must be two rising numbers of lanes, got {tuple(config.memory.counts)}')
