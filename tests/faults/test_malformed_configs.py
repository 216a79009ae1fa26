"""Malformed configurations and flag lines: refused in one line before anything is computed, or in fact valid.

What is drawn is the same in every run. Changes marked `bad` can be nothing but refused; others may be
valid by chance, and then the script's cells and problems must come to be.
"""

import collections
import contextlib
import copy
import functools
import importlib
import math
import operator
import pathlib
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import hypothesis
import jax
import ml_collections
import numpy as np
import pytest
from hypothesis import strategies as st

from experiments import compare
from experiments.batch_size import __main__ as batch_size
from experiments.batch_size import arms
from experiments.diagnosis_check import __main__ as diagnosis_check
from experiments.instruments import measure as instruments
from experiments.landscapes import __main__ as landscapes
from experiments.methods import __main__ as methods
from experiments.methods import arms as contestants
from experiments.minima import __main__ as minima
from experiments.minima import networks
from experiments.noisy_quadratic import __main__ as noisy_quadratic
from experiments.saddles import __main__ as saddles
from experiments.saddles import places
from experiments.throughput import __main__ as throughput
from experiments.variants import __main__ as variants
from experiments.variants import measure
from gdlab.core.errors import InputError
from gdlab.study import cells as measuring

pytestmark = pytest.mark.faults

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIGS = sorted(path.stem for path in (ROOT / 'configs').glob('*.py') if path.stem != '__init__')
ACCEPTED = 77  # see line_server.py
EACH = hypothesis.settings(
  derandomize=True, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)


# What each script does with a configuration before its first measurement, and what of its data is cheap to make.


def cells(make: Callable) -> Callable:
  def check(given: ml_collections.ConfigDict) -> Any:
    made = make(given)
    assert made
    measuring.check(made)
    return made[0].measure.args[0] if hasattr(made[0].measure, 'args') else None

  return check


def settings(model: Any) -> Callable:
  return lambda given: model.checked(given.to_dict())


def traced(problem, algorithm) -> None:
  jax.eval_shape(lambda key: algorithm.init(key, problem), jax.random.key(0))


def small(*widths: int) -> bool:
  """Wider networks are drawn on a large machine only."""
  return max(widths, default=1) <= 1000


def build_minima(config) -> None:
  first = config.seeds.first
  for hidden, images in (
    (config.widths.hidden[0], config.widths.images),
    (config.fork.hidden, config.fork.images),
  ):
    traced(networks.drawn('digits', hidden, images, first), networks.stochastic(0.1, 1))
  few = config.dose_network
  networks.drawn('digits', few.hidden, few.num_examples, first, networks.HELD_OUT)


def build_methods(config) -> None:
  on_digits = config.model_copy(update={'images': 'digits', 'text': 'excerpt'})
  contestants.data(on_digits, 'mlp', config.seeds.first)


CHECKS: dict[str, tuple[Callable, Callable]] = {
  'batch_size': (
    cells(batch_size.batch_size.cells),
    lambda config: arms.benches(config)['noisy'].data(config.seeds.first),
  ),
  'compare': (compare.prepared, lambda found: compare.make_problem(found[0])),
  'diagnosis_check': (cells(diagnosis_check.cells), lambda case: case),
  'instruments': (
    settings(instruments.Settings),
    lambda config: traced(
      instruments.make_problem(config), instruments.algorithm(config, config.learning_rate)
    ),
  ),
  'landscapes': (cells(landscapes.cells), lambda config: config),
  'methods': (cells(methods.methods.cells), build_methods),
  'minima': (cells(minima.minima.cells), build_minima),
  'noisy_quadratic': (cells(noisy_quadratic.cells), lambda config: config),
  'saddles': (
    cells(saddles.escape.cells),
    lambda config: places.network(config.network, config.network.hidden, config.network.num_examples, (0, 0)),
  ),
  'throughput': (
    settings(throughput.settings.Settings),
    lambda config: dict(throughput._measures(config)) or pytest.fail('nothing to measure'),
  ),
  'variants': (
    cells(variants.variants.cells),
    lambda config: (measure.drawn(config, config.seeds.first), measure.population(config)),
  ),
}


def script_of(name: str) -> str:
  return max((script for script in CHECKS if name.startswith(script)), key=len)


@functools.cache
def default(name: str) -> dict[str, Any]:
  return importlib.import_module(f'configs.{name}').get_config().to_dict()


def leaves(config: Mapping, prefix: tuple = ()) -> Iterable[tuple[tuple[str, ...], Any]]:
  """Path and value of every entry."""
  for key, value in config.items():
    if isinstance(value, Mapping):
      yield from leaves(value, (*prefix, key))
    else:
      yield (*prefix, key), value


# What is drawn.


class Change(NamedTuple):
  path: tuple[str, ...]
  value: Any
  bad: bool  # whether it can be nothing but refused


MISSING = '(missing)'
WRONG = [{'a': 1}, {}, 1j, b'bytes', {1, 2}, object, np.ones(2), math.nan, math.inf, -math.inf, ['a', ['b']]]
WRONG += [((),), 10**40, -(10**18), 1e300, -1e-3]
NUMBERS = [
  0,
  -1,
  1,
  2,
  3,
  7,
  100,
  10**4,
  10**6,
  10**9,
  2**31,
  10**18,
  -0.0,
  -1.0,
  0.5,
  1.0,
  1.5,
  1e-300,
  1e-12,
  1e8,
]
NUMBERS += [True, False, None]
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
]
TEXTS += [
  '%s',
  '../..',
  'nan',
  '1',
  '-',
  '--',
  '[]',
  '{',
  '(1,',
  "('a',)",
  '1e999',
  'None',
  '0x10',
  '١',
  '\\',
]
# What a configuration may lack, or be free in.
FREE = {'arms', 'model', 'names', 'only'}


def within(low: int, high: int) -> st.SearchStrategy:
  return st.integers(low, high)


@st.composite
def changes(draw, name: str) -> Change:
  """One entry with another value, one too many, or one that is missing."""
  found = list(leaves(default(name)))
  path, old = draw(st.sampled_from(found))
  is_text, free = isinstance(old, str), path[0] in FREE
  kinds = ['wrong', 'number', 'other', 'missing', 'unknown']
  kinds += ['text', 'misspelt'] if is_text else ['text', 'scaled', 'scaled']
  kinds += ['list', 'list', 'list'] if isinstance(old, tuple) else []
  kinds += ['section'] if len(path) > 1 else []
  kind = draw(st.sampled_from(kinds))
  if kind == 'wrong':
    value = draw(st.sampled_from(WRONG))
    return Change(path, value, not (path == ('rates',) or (path[0] == 'paths')))
  if kind == 'section':  # a value in a section's place, or an empty one
    value = draw(st.sampled_from([None, 3, 'text', (1,), {}]))
    return Change(path[:-1], value, not (value == {} and path[0] in {'seeds', *FREE}))
  if kind == 'missing':
    return Change(path, MISSING, path[0] not in {'seeds', *FREE})
  if kind == 'unknown':
    return Change(
      (*path[:-1], path[-1] + draw(st.sampled_from(['s', '_', '2', 'x', '\n', 'é', "'"]))), old, True
    )
  if kind == 'text':
    return Change(path, draw(st.sampled_from(TEXTS) | st.text(max_size=20)), not is_text and not free)
  if kind == 'misspelt' and old:
    place = draw(within(0, len(old) - 1))
    return Change(path, old[:place] + old[place + 1 :], False)
  if kind == 'scaled' and isinstance(
    old, (int, float)
  ):  # plausible by itself, and maybe against other entries
    factor = draw(st.sampled_from([0, 0.5, 2, 10, 100, 1000, 10**5, -1]))
    return Change(path, type(old)(old * factor), False)
  if kind == 'list':
    return Change(path, draw(lists(old)), False)
  if kind == 'other':  # the value of another entry
    return Change(path, draw(st.sampled_from(found))[1], False)
  return Change(path, draw(st.sampled_from(NUMBERS) | st.floats() | st.integers()), False)


@st.composite
def lists(draw, old: tuple) -> Any:
  """A list that is empty, too short, in another order, nested, has a value twice or one that cannot be."""
  wrong = draw(st.sampled_from([*WRONG, *NUMBERS, *TEXTS]))
  place = draw(within(0, max(0, len(old) - 1)))
  return draw(
    st.sampled_from(
      [
        (),
        (old,),
        old[::-1],
        old[:place],
        (*old, *old[place : place + 1]),
        (*old[:place], wrong, *old[place + 1 :]),
      ]
    )
  )


def changed(name: str, drawn: list[Change]) -> ml_collections.ConfigDict:
  config = copy.deepcopy(default(name))
  for change in drawn:
    *sections, key = change.path
    section: Any = config
    for part in sections:
      section = section.get(part) if isinstance(section, dict) else None
    if not isinstance(section, dict):
      continue  # the other change has replaced the section
    if change.value is MISSING:
      section.pop(key, None)
    else:
      section[key] = change.value
  return ml_collections.ConfigDict(config)


def check_line(line: str, names: Iterable[str]) -> None:
  """One line, not too long, that names a field and what was given."""
  assert line == ' '.join(line.split())
  assert len(line) < 4000
  assert any(name.strip("\né'") in line for name in names), (line, names)
  assert re.search(r'\bgot |^unknown |\bunknown |is missing', line), line


COUNTS: collections.Counter[str] = collections.Counter()


@pytest.mark.parametrize('name', CONFIGS)
def test_malformed_configurations(name):
  check, build = CHECKS[script_of(name)]
  known = [path[-1] for path, _ in leaves(default(name))]

  @hypothesis.seed(zlib.crc32(name.encode()))  # or every configuration would be changed in the same places
  @hypothesis.settings(EACH, max_examples=76)
  @hypothesis.given(st.lists(changes(name), min_size=1, max_size=2, unique_by=lambda change: change.path))
  def refused_or_valid(drawn):
    COUNTS['all'] += 1
    first, last = drawn[0], drawn[-1]
    overwritten = first is not last and all(map(operator.eq, first.path, last.path))
    certain = any(change.bad for change in drawn) and not overwritten
    names = [part for change in drawn for part in change.path]
    try:
      config = check(changed(name, drawn))
    except InputError as error:
      COUNTS['refused'] += 1
      check_line(str(error), [first.path[-1]] if certain and first is last else names + known)
      return
    assert not certain, 'a value that cannot be was accepted'
    COUNTS['valid'] += 1
    if not name.endswith(('mnist', 'full')):
      with contextlib.suppress(InputError):  # the data may be too few for it
        build(config)

  refused_or_valid()


def test_so_many_configurations():
  if len(COUNTS) < 2:
    pytest.skip('counts what the other cases of this file have drawn')
  print('inputs refused: {refused} of {all}, {valid} valid'.format_map(COUNTS))
  assert COUNTS['refused'] >= 1000
