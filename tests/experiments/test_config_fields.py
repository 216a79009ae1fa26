"""Every entry of every configuration: what cannot be is refused in one line, before anything is computed."""

import importlib
import math
import pathlib

import ml_collections
import numpy as np
import pytest

from experiments import fields
from experiments.batch_size import checks as batch_size
from experiments.instruments import measure
from experiments.landscapes import __main__ as landscapes
from experiments.minima import checks as minima
from experiments.noisy_quadratic import __main__ as noisy_quadratic
from experiments.saddles import checks as saddles
from experiments.throughput import settings
from experiments.variants import checks as variants
from gdlab.core.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parents[2]


def check_variants(config):
  variants.check(config)
  variants.check_sizes(config, {'digits': 1437, 'mnist': 60_000}[config.dataset])


CHECKS = {
  'batch_size': batch_size.check,
  'batch_size_full': batch_size.check,
  'instruments': lambda config: fields.check_fields(config, measure.FIELDS),
  'landscapes': lambda config: fields.check_fields(config, landscapes.FIELDS),
  'minima': minima.check,
  'minima_full': minima.check,
  'noisy_quadratic': noisy_quadratic.check,
  'saddles': saddles.check,
  'saddles_full': saddles.check,
  'throughput': settings.check,
  'variants': check_variants,
  'variants_mnist': check_variants,
}
# Their arms are whatever Optax has; tests/comparison looks at what is refused there.
COMPARED = ('compare', 'compare_mnist', 'compare_text')
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
# In these lists a negative number is as good as another.
SIGNED = {('variants', 'paths.start'), ('variants_mnist', 'paths.start'), ('noisy_quadratic', 'rates')}
# These may be empty: no hidden layer, all landscapes, no part of the benchmark, plain descent alone.
MAY_BE_EMPTY = {
  ('variants', 'hidden'),
  ('variants_mnist', 'hidden'),
  ('landscapes', 'names'),
  ('throughput', 'parts'),
  ('noisy_quadratic', 'powers'),
}


def get_config(name: str) -> ml_collections.ConfigDict:
  return importlib.import_module(f'configs.{name}').get_config()


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
    CHECKS[name](changed(name, entry, value))
  except InputError as error:
    return str(error)
  return None


ENTRIES = [(name, entry) for name in CHECKS for entry, _ in fields.flat(get_config(name))]


def test_every_configuration_is_here():
  # The set of planted faults belongs to gdlab.diagnosis; its two entries are names.
  files = {path.stem for path in (ROOT / 'configs').glob('*.py')} - {'__init__', 'diagnosis_check', *COMPARED}
  assert files == set(CHECKS)
  assert len(ENTRIES) > 400


@pytest.mark.parametrize('name', CHECKS)
def test_every_configuration_is_sound(name):
  CHECKS[name](get_config(name))


@pytest.mark.parametrize(('name', 'entry'), ENTRIES)
def test_what_cannot_be_is_refused_in_one_line(name, entry):
  old = dict(fields.flat(get_config(name)))[entry]
  tried = {said: value for said, value in BAD.items() if not (said == '[]' and (name, entry) in MAY_BE_EMPTY)}
  if not isinstance(old, (str, float)):  # ConfigDict makes 1.0 of True for a float
    tried['True for a number'] = 1 if isinstance(old, bool) else True
  if isinstance(old, tuple) and old:
    tried |= {'a number for a list': 3, 'a text for a list': 'abc'}
    for said, value in BAD.items():
      if not (said == '-1' and (name, entry) in SIGNED):
        tried[f'{said} in a list'] = (value, *old[1:])
        tried[f'{said} at the end of a list'] = [*old[:-1], value]
  singular = {'names': 'landscape', 'parts': 'part'}.get(entry, entry)  # what one of these is
  for said, value in tried.items():
    line = refusal(name, entry, value)
    assert line is not None, said
    assert '\n' not in line, said
    assert entry.rpartition('.')[2] in line or (line.startswith('unknown ') and singular in line), (
      said,
      line,
    )


@pytest.mark.parametrize(
  ('name', 'entry', 'value', 'line'),
  [  # the inputs of the report that this came from
    ('variants', 'convex.l2', math.nan, 'convex.l2 must be a real number in (0, inf), got nan'),
    ('variants', 'convex.l2', -1, 'convex.l2 must be a real number in (0, inf), got -1.0'),
    ('variants', 'floor.l2', math.nan, 'floor.l2 must be a real number in (0, inf), got nan'),
    ('variants', 'floor.l2', -1.0, 'floor.l2 must be a real number in (0, inf), got -1.0'),
    (
      'variants',
      'timing.offset',
      'four',
      "timing.offset must be a whole number >= 1, got 'four' of type str",
    ),
    ('variants', 'timing.offset', 4.5, 'timing.offset must be a whole number >= 1, got 4.5 of type float'),
    (
      'variants',
      'noise.num_batches',
      10**30,
      f'noise.num_batches must be a whole number in [1, 2147483647], got {10**30}',
    ),
    ('variants', 'floor.l2', 1e-40, 'floor.l2 must be a real number in [1e-30, 1000000000.0], got 1e-40'),
    ('variants', 'target_accuracy', 90, 'target_accuracy must be a real number in (0, 1], got 90.0'),
    ('variants', 'convex.num_seeds', 17, 'convex.num_seeds must be a whole number in [1, 16], got 17'),
    ('variants', 'paths.start', (1.0,), 'paths.start must be a list of 2, got (1.0,)'),
    ('variants', 'timing.powers', (2,), 'timing.powers must be a whole number in [1, 1437], got -2'),
    ('batch_size', 'norm.wrong_labels', 'no', "norm.wrong_labels must be True or False, got 'no'"),
    ('noisy_quadratic', 'exponents', (5, 5), 'exponents must be two that rise, got (5, 5)'),
    ('noisy_quadratic', 'exponents', (0, 63), 'exponents must be a whole number in [0, 62], got 63'),
    (
      'noisy_quadratic',
      'powers',
      (0.251, 0.5),
      'powers must be different multiples of 0.01, got (0.251, 0.5)',
    ),
    ('noisy_quadratic', 'powers', (0.5, 0.5), 'powers must be different multiples of 0.01, got (0.5, 0.5)'),
    ('landscapes', 'rates', (10.0, 1e-3), 'rates must be two that rise, got (10.0, 0.001)'),
    (
      'throughput',
      'cnn.num_steps',
      2**31,
      'cnn.num_steps must be a whole number in [1, 2147483647], got 2147483648',
    ),
  ],
)
def test_the_line(name, entry, value, line):
  assert refusal(name, entry, value) == line


@pytest.mark.parametrize(
  ('name', 'entry', 'value'),
  [
    ('variants', 'hidden', ()),
    ('variants', 'stream.drift', 0.0),  # a target that stays
    ('variants', 'stream.noise', 0),
    ('variants', 'paths.start', [-3, 3.0]),
    ('variants', 'floor.l2', 1),
    ('landscapes', 'names', ()),
    ('noisy_quadratic', 'rates', (-5, -1)),
    ('noisy_quadratic', 'powers', (0.29, 0.57)),  # 100 times these is no whole number in binary
    ('minima', 'valleys.start_scale', 0.0),
    ('batch_size', 'lanes_per_block', 0),
    ('saddles', 'training.near_gradient', 0.4),
  ],
)
def test_what_can_be_is_accepted(name, entry, value):
  assert refusal(name, entry, value) is None


def test_an_entry_that_is_missing_or_unknown_is_named():
  config = get_config('variants')
  with config.unlocked():
    del config.floor['l2']
  with pytest.raises(InputError, match=r'^floor\.l2 is missing in the configuration$'):
    variants.check(config)
  config = get_config('variants')
  with config.unlocked():
    config.floor.l3 = 1.0
  with pytest.raises(InputError, match=r"^unknown configuration key 'floor\.l3'; did you mean 'floor\.l2'\?"):
    variants.check(config)
