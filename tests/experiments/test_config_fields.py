"""Every entry of every configuration: what cannot be is refused in one line, before anything is computed."""

import importlib
import math
import pathlib
from collections.abc import Iterable
from typing import Any

import ml_collections
import numpy as np
import pytest

from experiments import compare
from experiments.batch_size import study as batch_size
from experiments.diagnosis_check import __main__ as diagnosis_check
from experiments.instruments import measure
from experiments.landscapes import __main__ as landscapes
from experiments.learning_rate import study as learning_rate
from experiments.methods import study as methods
from experiments.minima import study as minima
from experiments.noisy_quadratic import __main__ as noisy_quadratic
from experiments.order import study as order
from experiments.practice import study as practice
from experiments.saddles import study as saddles
from experiments.throughput import settings
from experiments.variants import study as variants
from gdlab.core.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parents[2]
STUDIES = {
  'batch_size': batch_size,
  'learning_rate': learning_rate,
  'methods': methods,
  'minima': minima,
  'order': order,
  'practice': practice,
  'saddles': saddles,
  'variants': variants,
}
SCHEMAS = {f'{name}{end}': study.Settings for name, study in STUDIES.items() for end in ('', '_full')}
SCHEMAS['variants_mnist'] = SCHEMAS.pop('variants_full')
SCHEMAS['batch_size_mnist'] = SCHEMAS.pop('batch_size_full')
SCHEMAS['minima_mnist'] = SCHEMAS.pop('minima_full')
SCHEMAS |= {
  'compare': compare.Settings,
  'compare_mnist': compare.Settings,
  'compare_text': compare.Settings,
  'diagnosis_check': diagnosis_check.Settings,
  'instruments': measure.Settings,
  'landscapes': landscapes.Settings,
  'noisy_quadratic': noisy_quadratic.Settings,
  'throughput': settings.Settings,
}
# What is refused in place of any single value, and in place of any value of a list.
BAD = {
  'nan': math.nan,
  'inf': math.inf,
  '-inf': -math.inf,
  '-1': -1,
  'text': 'text',
  'None': None,
  '10**30': 10**30,
}
BAD |= {'1e300': 1e300, 'array': np.ones(2), 'dict': {'a': 1}, '[]': [], 'complex': 1j}
# In these lists a negative number is as good as another; these may be empty; these are names that only cells can check.
SIGNED = {'paths.start', 'rates'}
MAY_BE_EMPTY = {'hidden', 'names', 'powers', 'model.features'}
FREE = ('arms.', 'names', 'only')


def get_config(name: str) -> ml_collections.ConfigDict:
  return importlib.import_module(f'configs.{name}').get_config()


def flat(config: ml_collections.ConfigDict, prefix: str = '') -> Iterable[tuple[str, Any]]:
  """All entries of all sections: 'section.name' and value."""
  for key, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from flat(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', value


def changed(name: str, entry: str, value) -> ml_collections.ConfigDict:
  """The configuration with another value, as a file of one's own could have it."""
  config = get_config(name)
  *sections, key = entry.split('.')
  section = config
  for part in sections:
    section = section[part]
  with section.ignore_type():
    section[key] = value
  return config


def refusal(name: str, entry: str, value) -> str | None:
  """The line with which the value is refused, None if it is accepted; any other error is raised."""
  try:
    SCHEMAS[name].checked(changed(name, entry, value).to_dict())
  except InputError as error:
    return str(error)
  return None


ENTRIES = [
  (name, entry) for name in SCHEMAS for entry, _ in flat(get_config(name)) if not entry.startswith(FREE)
]


def test_every_configuration_is_here():
  files = {path.stem for path in (ROOT / 'configs').glob('*.py')} - {'__init__'}
  assert files == set(SCHEMAS)


@pytest.mark.parametrize('name', SCHEMAS)
def test_every_configuration_is_sound(name):
  SCHEMAS[name].checked(get_config(name).to_dict())


@pytest.mark.parametrize(('name', 'entry'), ENTRIES)
def test_what_cannot_be_is_refused_in_one_line(name, entry):
  old = dict(flat(get_config(name)))[entry]
  tried = {said: value for said, value in BAD.items() if not (said == '[]' and entry in MAY_BE_EMPTY)}
  if not isinstance(old, (str, float)):  # ConfigDict makes 1.0 of True for a float
    tried['True for a number'] = 1 if isinstance(old, bool) else True
  if isinstance(old, tuple) and old:
    tried |= {'a number for a list': 3, 'a text for a list': 'abc'}
    for said, value in BAD.items():
      if not (said == '-1' and entry in SIGNED):
        tried[f'{said} in a list'] = (value, *old[1:])
        tried[f'{said} at the end of a list'] = [*old[:-1], value]
  for said, value in tried.items():
    line = refusal(name, entry, value)
    assert line is not None, said
    assert '\n' not in line, said
    assert entry.rpartition('.')[2] in line, (said, line)


@pytest.mark.parametrize(
  ('name', 'entry', 'value', 'line'),
  [
    ('noisy_quadratic', 'exponents', (5, 5), 'exponents should ascend, got (5, 5)'),
    ('noisy_quadratic', 'exponents', (0, 41), 'exponents.1 should be less than or equal to 40, got 41'),
    (
      'noisy_quadratic',
      'powers',
      (0.251, 0.5),
      'powers should be different multiples of 0.01, got (0.251, 0.5)',
    ),
    ('noisy_quadratic', 'powers', (0.5, 0.5), 'powers should be different multiples of 0.01, got (0.5, 0.5)'),
    ('landscapes', 'rates', (10.0, 1e-3), 'rates should ascend, got (10.0, 0.001)'),
    (
      'throughput',
      'cnn.num_steps',
      2**31,
      'cnn.num_steps should be less than or equal to 2147483647, got 2147483648',
    ),
  ],
)
def test_the_line(name, entry, value, line):
  assert refusal(name, entry, value) == line


@pytest.mark.parametrize(
  ('name', 'entry', 'value'),
  [
    ('landscapes', 'names', ()),
    ('noisy_quadratic', 'rates', (-5, -1)),
    ('noisy_quadratic', 'powers', (0.29, 0.57)),  # 100 times these is no whole number in binary
  ],
)
def test_what_can_be_is_accepted(name, entry, value):
  assert refusal(name, entry, value) is None


def test_an_entry_that_is_missing_or_unknown_is_named():
  config = get_config('throughput')
  with config.unlocked():
    del config.cnn['num_steps']
  with pytest.raises(InputError, match=r'^cnn\.num_steps is missing in the configuration$'):
    settings.Settings.checked(config.to_dict())
  config = get_config('throughput')
  with config.unlocked():
    config.cnn.num_step = 1
  with pytest.raises(InputError, match=r"'cnn\.num_step'; did you mean 'cnn\.num_steps'\?"):
    settings.Settings.checked(config.to_dict())
