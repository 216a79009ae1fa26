"""The one table of samplers, estimators, transforms and schedules: each public unit is in it, documented and tested."""

import ast
import inspect
import re
from pathlib import Path
from typing import NamedTuple

import pytest

import gdlab
from gdlab import estimators, sampling, schedules, transforms

TESTS = Path(__file__).parent
PAGE = Path(gdlab.__file__).parent / 'UNITS.md'
HEAD = """# Samplers, estimators, transforms and schedules

What gdlab adds to Optax, in one table, generated from the docstrings by `python tests/test_units.py`. The docstrings of
the four packages compare the units of a kind, and say what to use from Optax instead.

| kind | unit | what it is | source |
|---|---|---|---|"""


class Kind(NamedTuple):
  """A package of units, with those of its public functions that serve units and are none themselves."""

  package: object
  helpers: frozenset[str]
  folder: str


KINDS = {
  'sampler': Kind(sampling, frozenset({'last_loss', 'gradient_norm', 'piecewise_sizes'}), 'sampling'),
  'estimator': Kind(estimators, frozenset(), 'estimators'),
  'transform': Kind(
    transforms,
    frozenset(
      {
        'averaged_params',
        'exponential_weights',
        'freeze_status',
        'noise_scale_estimate',
        'pgd_constants',
        'statistics',
        'uniform_weights',
      }
    ),
    'transforms',
  ),
  'schedule': Kind(schedules, frozenset({'observe'}), 'schedules'),
}


def functions(kind: Kind) -> list[str]:
  """The public functions of a package."""
  names = kind.package.__all__
  return [name for name in names if inspect.isfunction(getattr(kind.package, name))]


UNITS = [
  (kind, name) for kind, found in KINDS.items() for name in functions(found) if name not in found.helpers
]


def tabled(kind: Kind) -> set[str]:
  """The names in the first column of the tables in a package's docstring."""
  rows = re.findall(r'^\| `(\w+)', kind.package.__doc__, re.MULTILINE)
  return set(rows)


def source(kind: str, name: str) -> str:
  """What a unit's docstring gives as its source, on one line; that of a sibling where it names one."""
  function = getattr(KINDS[kind].package, name)
  text = inspect.getdoc(function)
  if found := re.search(r'^Source: (.*?)(?=\n\n|\Z)', text, re.MULTILINE | re.DOTALL):
    return ' '.join(found[1].split())
  return source(kind, shared(text)['source'])


def shared(text: str) -> dict[str, str]:
  """What a docstring leaves to a sibling: 'Arguments and errors as for `reshuffle`' is that of both by `reshuffle`."""
  return {
    word: sibling
    for words, sibling in re.findall(r'((?:\w+, )*\w+(?: and \w+)?) as for `(\w+)`', text)
    for word in re.findall(r'arguments|errors|source', words.lower())
  }


def page() -> str:
  """The one table, made of the docstrings."""
  rows = []
  for kind, name in sorted(UNITS, key=lambda unit: ([*KINDS].index(unit[0]), unit[1])):
    summary = inspect.getdoc(getattr(KINDS[kind].package, name)).partition('\n')[0]
    cells = (kind, f'`gdlab.{KINDS[kind].folder}.{name}`', summary, source(kind, name))
    rows.append('| ' + ' | '.join(cell.replace('|', r'\|') for cell in cells) + ' |')
  return '\n'.join([HEAD, *rows, ''])


def test_the_one_table_has_every_unit_as_its_docstring_has_it():
  """After a change: `python tests/test_units.py` writes it anew."""
  assert PAGE.read_text(encoding='utf-8') == page()


@pytest.mark.parametrize('kind', list(KINDS))
def test_the_table_of_a_package_lists_its_units_and_no_others(kind):
  found = KINDS[kind]
  assert {name for each, name in UNITS if each == kind} == tabled(found)
  mentioned = found.package.__doc__
  assert [name for name in found.helpers if f'`{name}' not in mentioned] == []


@pytest.mark.parametrize(('kind', 'name'), UNITS)
def test_a_unit_is_documented_to_the_template(kind, name):
  function = getattr(KINDS[kind].package, name)
  text = inspect.getdoc(function)
  summary, _, rest = text.partition('\n')
  assert summary.endswith('.')
  left = shared(rest)

  def explained(word, pattern):
    """Here, or in the sibling that the docstring leaves it to."""
    texts = [rest]
    if word in left:
      texts.append(inspect.getdoc(getattr(KINDS[kind].package, left[word])))
    return any(re.search(pattern, text, re.MULTILINE) for text in texts)

  for parameter in inspect.signature(function).parameters:
    assert explained('arguments', rf'^  {parameter}: '), f'{parameter} is not explained'
  if inspect.signature(function).parameters:
    assert explained('errors', r'^Raises:$')
  assert explained('source', r'^Source: \w|^Source: `'), 'no source'


@pytest.mark.parametrize(('kind', 'name'), UNITS)
def test_a_unit_is_tested_by_name(kind, name):
  used = set()
  for path in (TESTS / KINDS[kind].folder).glob('*.py'):
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
      used |= (
        {node.id} if isinstance(node, ast.Name) else {node.attr} if isinstance(node, ast.Attribute) else set()
      )
  assert name in used


if __name__ == '__main__':
  PAGE.write_text(page(), encoding='utf-8')
