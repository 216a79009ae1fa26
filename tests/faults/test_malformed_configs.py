"""Scenario 12: malformed configurations and flag lines are refused in one line, before anything is computed."""

import collections
import copy
import importlib
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import hypothesis
import ml_collections
import numpy as np
import pytest
from hypothesis import strategies as st

from experiments import compare
from experiments.batch_size import __main__ as batch_size
from experiments.diagnosis_check import __main__ as diagnosis_check
from experiments.instruments import __main__ as instruments
from experiments.landscapes import __main__ as landscapes
from experiments.minima import __main__ as minima
from experiments.noisy_quadratic import __main__ as noisy_quadratic
from experiments.saddles import __main__ as saddles
from experiments.throughput import __main__ as throughput
from experiments.variants import __main__ as variants
from gdlab.core.errors import InputError
from gdlab.study import cells as measuring

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIGS = sorted(path.stem for path in (ROOT / 'configs').glob('*.py') if path.stem != '__init__')


def cells_of(make):
  def check(given):
    made = make(given)
    measuring.check(made)
    return len(made)

  return check


CHECKS: dict[str, Callable] = {
  'batch_size': cells_of(batch_size.batch_size.cells),
  'compare': lambda given: (
    len(compare.checked(given)[1])
    if hasattr(compare, 'checked')
    else compare.Settings.checked(given.to_dict())
  ),
  'diagnosis_check': cells_of(diagnosis_check.cells),
  'instruments': lambda given: instruments.measure.Settings.checked(given.to_dict()),
  'landscapes': cells_of(landscapes.cells),
  'minima': cells_of(minima.minima.cells),
  'noisy_quadratic': cells_of(noisy_quadratic.cells),
  'saddles': cells_of(saddles.escape.cells) if hasattr(saddles, 'escape') else None,
  'throughput': lambda given: len(
    list(throughput._measures(throughput.settings.Settings.checked(given.to_dict())))
  ),
  'variants': cells_of(variants.variants.cells),
}


def script_of(name: str) -> str:
  return max((script for script in CHECKS if name.startswith(script)), key=len)


def leaves(config: Mapping, prefix: tuple = ()) -> Iterable[tuple[tuple[str, ...], Any]]:
  for key, value in config.items():
    if isinstance(value, dict):
      yield from leaves(value, (*prefix, key))
    else:
      yield (*prefix, key), value


class Change(NamedTuple):
  path: tuple[str, ...]
  what: str
  value: Any
  bad: bool  # for certain


def nan():
  return math.nan


WRONG = [
  None,
  {'a': 1},
  {},
  1j,
  b'bytes',
  {1, 2},
  object,
  np.ones(2),
  math.nan,
  math.inf,
  -math.inf,
  ['a', ['b']],
  ((),),
]
NUMBERS = [
  0,
  -1,
  1,
  2,
  3,
  7,
  1000,
  10**6,
  10**9,
  10**18,
  10**40,
  -(10**18),
  0.0,
  -0.0,
  -1.0,
  0.5,
  1.0,
  1.5,
  2.0,
  1e-300,
  1e300,
  1e-12,
  1e8,
  True,
  False,
]
TEXTS = [
  '',
  ' ',
  'text',
  'a\nb',
  "it's",
  '"',
  'x' * 10_000,
  'größe',
  '\x00',
  '__import__("os")',
  '<script>',
  '{config}',
  '%s',
  '../..',
  'nan',
  '1',
]


@st.composite
def changes(draw, config) -> Change:
  found = list(leaves(config))
  sections = [(path[:-1], None) for path, _ in found if len(path) > 1]
  kind = draw(
    st.sampled_from(
      ['wrong', 'number', 'text', 'list', 'missing', 'unknown', 'section', 'near', 'number', 'list']
    )
  )
  path, old = draw(st.sampled_from(found))
  if kind == 'section' and sections:
    path = draw(st.sampled_from(sections))[0]
    return Change(path, kind, draw(st.sampled_from([None, 3, 'text', (1,), {}])), True)
  if kind == 'missing':
    return Change(path, kind, None, True)
  if kind == 'unknown':
    return Change(
      (*path[:-1], path[-1] + draw(st.sampled_from(['s', '_', '2', 'x', '\n', 'é']))), kind, old, True
    )
  if kind == 'text':
    return Change(path, kind, draw(st.sampled_from(TEXTS) | st.text(max_size=20)), not isinstance(old, str))
  if kind == 'near' and isinstance(old, str) and old:
    place = draw(st.integers(0, len(old) - 1))
    return Change(path, kind, old[:place] + old[place + 1 :], False)
  if kind == 'list' and isinstance(old, tuple):
    how = draw(st.sampled_from(['empty', 'reversed', 'twice', 'short', 'wrong', 'number', 'text', 'nested']))
    if how == 'empty':
      return Change(path, how, (), False)
    if how == 'nested':
      return Change(path, how, (old,), True)
    if not old:
      return Change(path, how, (draw(st.sampled_from(WRONG)),), True)
    if how == 'reversed':
      return Change(path, how, old[::-1], False)
    if how == 'twice':
      return Change(path, how, (*old, draw(st.sampled_from(old))), False)
    if how == 'short':
      return Change(path, how, old[: draw(st.integers(0, len(old) - 1))], False)
    place = draw(st.integers(0, len(old) - 1))
    new = {
      'wrong': st.sampled_from(WRONG),
      'number': st.sampled_from(NUMBERS) | st.floats() | st.integers(),
      'text': st.sampled_from(TEXTS),
    }[how]
    return Change(path, how, (*old[:place], draw(new), *old[place + 1 :]), how == 'wrong')
  if kind == 'number':
    return Change(path, kind, draw(st.sampled_from(NUMBERS) | st.floats() | st.integers()), False)
  return Change(path, 'wrong', draw(st.sampled_from(WRONG)), True)


def apply(config, each):
  *sections, key = each.path
  section = config
  for part in sections:
    section = section.get(part) if isinstance(section, dict) else None
  if not isinstance(section, dict):
    return
  if each.what == 'missing':
    section.pop(key, None)
  else:
    section[key] = each.value


TOTAL = collections.Counter()
SEEN = []


@pytest.mark.parametrize('name', CONFIGS)
def test_explore(name):
  script = script_of(name)
  default = importlib.import_module(f'configs.{name}').get_config().to_dict()
  check = CHECKS[script]

  @hypothesis.settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=200,
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(st.lists(changes(default), min_size=1, max_size=2))
  def explore(many):
    config = copy.deepcopy(default)
    for each in many:
      apply(config, each)
    try:
      check(ml_collections.ConfigDict(config))
      SEEN.append(
        (
          'VALID' if not many[0].bad else 'BADVALID',
          name,
          [(('.'.join(e.path)), e.what, str(e.value)[:60]) for e in many],
        )
      )
    except InputError as error:
      SEEN.append(
        ('refused', name, [(('.'.join(e.path)), e.what, str(e.value)[:60]) for e in many], str(error))
      )
    except Exception as error:
      SEEN.append(
        (
          'CRASH',
          name,
          [(('.'.join(e.path)), e.what, str(e.value)[:60]) for e in many],
          type(error).__name__ + str(error)[:200],
        )
      )

  explore()
  with open(f'/tmp/h/seen_{name}.txt', 'w') as f:
    for row in SEEN:
      print(*row, file=f)
  print(name, collections.Counter(r[0] for r in SEEN))
  SEEN.clear()
