"""What the cells share: seeds, checks of the configuration, and the choice of a rate by tuning runs."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

import gdlab
from gdlab import problems
from gdlab.errors import InputError, check_count, check_real, unknown_name
from gdlab.training.progress import Progress
from gdlab.types import Problem

TUNING_IDS = 1_000_000  # seeds for tuning start here, far from the study's
DATASETS = {'digits': problems.digits, 'mnist': problems.mnist}

COUNTS = {
  '': ('hidden_of_trap', 'members'),
  'valleys': ('num_seeds', 'num_examples', 'updates', 'return_updates', 'records'),
  'escape': ('num_seeds', 'num_examples'),
  'dose': ('dim', 'updates', 'num_seeds', 'num_tuning_seeds'),
  'dose_network': ('updates', 'num_seeds', 'num_tuning_seeds', 'num_examples', 'hidden'),
  'trap': ('epochs', 'return_epochs', 'num_tuning_seeds', 'batch_size'),
  'widths': ('epochs', 'batch_size', 'num_tuning_seeds', 'points', 'pairs'),
}
LISTS = {
  'valleys': ('learning_rates',),
  'escape': ('barriers',),
  'dose': ('learning_rates', 'levels'),
  'dose_network': ('learning_rates', 'levels'),
  'trap': ('learning_rates',),
  'widths': ('learning_rates', 'hidden'),
}


def make_problem(config, hidden: Sequence[int]) -> Problem:
  """The classification problem that a configuration names, with hidden layers of these widths."""
  return DATASETS[config.dataset](problems.MLP(features=tuple(hidden)))


def check(config) -> None:
  """Refuses a configuration that the study could not finish with, before anything is measured."""
  if config.dataset not in DATASETS:
    raise unknown_name('dataset', config.dataset, DATASETS)
  check_count('num_seeds', config.num_seeds, minimum=4)
  for section, names in COUNTS.items():
    for name in names:
      check_count(f'{section}.{name}'.lstrip('.'), (config[section] if section else config)[name])
  most = max(
    config.num_seeds, *(config[name].num_seeds for name in ('valleys', 'escape', 'dose', 'dose_network'))
  )
  firsts = tuple(config.first_seeds)
  if (
    len(firsts) != 2
    or abs(firsts[0] - firsts[1]) < most
    or min(firsts) < 0
    or max(firsts) + most > TUNING_IDS
  ):
    raise InputError(
      f'first_seeds must be two numbers in [0, {TUNING_IDS - most}] at least {most} apart, got {firsts}'
    )
  for section, names in LISTS.items():
    for name in names:
      values = tuple(config[section][name])
      if len(set(values)) < max(2, len(values)) or list(values) != sorted(values):
        raise InputError(f'{section}.{name} must be at least two different numbers, ascending, got {values}')
      for value in values:
        check_real(f'{section}.{name}', value, minimum=0) if name == 'levels' else check_real(
          f'{section}.{name}', value, above=0
        )
      if name == 'levels' and values[0] != 0:
        raise InputError(f'{section}.levels must start with 0, which is no noise, got {values}')
  check_real('valleys.temperature', config.valleys.temperature, above=0)
  check_real('escape.learning_rate', config.escape.learning_rate, above=0)
  check_real('escape.horizon', config.escape.horizon, minimum=1)
  _check_valleys(config)
  check_count('widths.pairs', config.widths.pairs, maximum=config.num_seeds // 2)
  check_count('members', config.members, minimum=2, maximum=config.num_seeds // 2)
  if config.ensemble_width not in config.widths.hidden:
    raise InputError(
      f'ensemble_width must be one of widths.hidden {tuple(config.widths.hidden)}, got {config.ensemble_width}'
    )


def _check_valleys(config) -> None:
  valleys, escape = config.valleys, config.escape
  if valleys.learning_rate not in valleys.learning_rates:
    raise InputError(
      f'valleys.learning_rate must be one of valleys.learning_rates {tuple(valleys.learning_rates)}, '
      f'got {valleys.learning_rate}'
    )
  for name, sizes in (
    ('valleys.batch_sizes', valleys.batch_sizes),
    ('escape.batch_sizes', escape.batch_sizes),
  ):
    for size in sizes:
      check_count(name, size, maximum=valleys.num_examples - 1)
  if 1 not in valleys.batch_sizes or valleys.mini_batch not in valleys.batch_sizes or valleys.mini_batch == 1:
    raise InputError(
      f'valleys.batch_sizes must hold 1 and mini_batch={valleys.mini_batch} > 1, got {tuple(valleys.batch_sizes)}'
    )
  if len(set(escape.batch_sizes)) < 2:
    raise InputError(f'escape.batch_sizes must hold at least two sizes, got {tuple(escape.batch_sizes)}')


def seeds(config, count: int | None = None) -> list[int]:
  """The ids of both sets of seeds, `count` each or as many as configured."""
  count = int(config.num_seeds if count is None else count)
  return [seed for first in config.first_seeds for seed in range(first, first + count)]


def tuning_seeds(count: int) -> range:
  """The ids of the seeds that rates and noise levels are tuned with."""
  return range(TUNING_IDS, TUNING_IDS + count)


def share_of(progress: Progress, number: int, count: int) -> Progress:
  """Reports the progress of one of `count` equal parts as that of the whole."""
  return lambda done, total: progress(number * total + done, count * total)


def at_end(runs: xr.Dataset, variable: str, failed: float) -> xr.DataArray:
  """A variable after the last update, with `failed` where a run has diverged or the value is not finite."""
  last = runs.isel(step=-1)
  return last[variable].where((last.status == gdlab.RUNNING) & np.isfinite(last[variable]), failed)


def best_rate(tuned: xr.Dataset, variable: str = 'train_loss') -> xr.DataArray:
  """The rate of least mean loss after the last update; a failed run counts as infinite."""
  return at_end(tuned, variable, np.inf).mean('seed', skipna=False).idxmin('learning_rate')
