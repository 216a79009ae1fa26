"""The one table of samplers, estimators, transforms and schedules: each public unit is in it, documented and tested."""

import ast
import inspect
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from gdlab import estimators, sampling, schedules, transforms

TESTS = Path(__file__).parent


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
  for parameter in inspect.signature(function).parameters:
    # Some share the arguments of a sibling: "Arguments and errors as for `reshuffle`".
    assert f'{parameter}:' in rest or 'rguments' in rest, f'{parameter} is not explained'
  if inspect.signature(function).parameters:
    assert 'Raises:' in rest or 'errors' in rest


@pytest.mark.parametrize(('kind', 'name'), UNITS)
def test_a_unit_is_tested_by_name(kind, name):
  used = set()
  for path in (TESTS / KINDS[kind].folder).glob('*.py'):
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
      used |= (
        {node.id} if isinstance(node, ast.Name) else {node.attr} if isinstance(node, ast.Attribute) else set()
      )
  assert name in used
