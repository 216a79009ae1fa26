"""Imports in gdlab point down only: the layers of the design, held by reading the sources."""

import ast
import graphlib
from pathlib import Path

import pytest

GDLAB = Path(__file__).resolve().parents[1] / 'gdlab'

# From the bottom up. A module or package missing here is refused: give it its row.
LAYERS = (
  {'core'},
  {'_cpu', 'host'},
  {'analysis', 'problems', 'sampling', 'estimators', 'transforms', 'schedules', 'theory'},
  {'updates', 'results'},
  {'training'},
  {'claims', 'diagnosis', 'statistics'},
  {'report', 'plots'},
  {'comparison'},
  {'study'},
)
# Parts of one row that must not know each other; they meet in `updates`, through the Protocols in `core.types`.
STRANGERS = LAYERS[2]
OUTSIDE = {'experiments', 'configs', 'tests'}
ROW = {unit: row for row, units in enumerate(LAYERS) for unit in units}


def unit_of(path: Path, package: Path) -> str:
  """The part of the library a file belongs to: `problems` for `gdlab/problems/models.py`."""
  return path.relative_to(package).with_suffix('').parts[0]


def imported_modules(path: Path, package: Path) -> set[str]:
  """Absolute names of all modules imported anywhere in a file, also inside functions."""
  here = path.relative_to(package.parent).parts[:-1]
  found = set()
  for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      parents = list(here[: len(here) - node.level + 1]) if node.level else []
      base = '.'.join(parents + ([node.module] if node.module else []))
      # `from gdlab import core` names a part, `from gdlab.core.types import Batch` is within one.
      found |= {f'{base}.{alias.name}' for alias in node.names} if base == package.name else {base}
  return found


def violations(package: Path) -> list[str]:
  """One line for each import or file that breaks the rule."""
  broken, edges = [], {}
  for path in sorted(package.rglob('*.py')):
    if path == package / '__init__.py':
      continue  # It re-exports, so it sees everything; nothing inside may import it.
    unit, where = unit_of(path, package), path.relative_to(package.parent)
    if unit not in ROW:
      broken.append(f'{where}: {unit} is not listed in a layer')
      continue
    for module in sorted(imported_modules(path, package)):
      top, _, rest = module.partition('.')
      if top in OUTSIDE:
        broken.append(f'{where}: the library imports {module}')
      if top != package.name:
        continue
      other = rest.partition('.')[0]
      if other == unit:
        continue
      if other not in ROW:
        broken.append(f'{where}: {module} is no listed part of the library')
      elif ROW[other] > ROW[unit]:
        broken.append(f'{where}: {unit} imports {other}, which lies above it')
      elif {unit, other} <= STRANGERS:
        broken.append(f'{where}: {unit} imports {other}, its neighbour')
      else:
        edges.setdefault(unit, set()).add(other)
  try:
    graphlib.TopologicalSorter(edges).prepare()
  except graphlib.CycleError as error:
    broken.append(f'cycle: {" -> ".join(error.args[1])}')
  return broken


def test_imports_point_down_only():
  assert list(GDLAB.rglob('*.py')), 'no sources found'
  assert violations(GDLAB) == []


def write_tree(root: Path, **sources: str) -> Path:
  package = root / 'gdlab'
  for name, text in {'__init__': 'from gdlab.report.page import render', **sources}.items():
    path = package / (name.replace('__in__', '/') + '.py')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
  return package


def test_a_sound_tree_passes(tmp_path):
  package = write_tree(
    tmp_path,
    core__in__types='import jax',
    core__in__objective='from gdlab.core.types import Batch',
    sampling__in__epochs='from gdlab import core\nfrom gdlab.sampling import one\nfrom . import other',
    training__in__run='import gdlab.sampling.epochs\nfrom gdlab.core.objective import batch_loss',
    claims='from gdlab.statistics import interval',
    statistics='import numpy',
    report__in__page='from ..claims import Claim',
  )
  assert violations(package) == []


@pytest.mark.parametrize(
  ('name', 'source', 'expected'),
  [
    ('core', 'from gdlab.training import run', 'core imports training, which lies above it'),
    ('training__in__run', 'import gdlab.report.page', 'training imports report, which lies above it'),
    ('sampling__in__epochs', 'from gdlab.estimators import batch_mean', 'sampling imports estimators'),
    ('sampling__in__epochs', 'from ..problems import digits', 'sampling imports problems, its neighbour'),
    ('sampling__in__epochs', 'from .. import problems', 'sampling imports problems, its neighbour'),
    ('sampling', 'def late():\n  from gdlab import plots', 'sampling imports plots, which lies above it'),
    ('core', 'from experiments.variants import main', 'the library imports experiments.variants'),
    ('plots', 'import configs', 'the library imports configs'),
    ('training', 'from tests.helpers import x', 'the library imports tests.helpers'),
    ('claims', 'import gdlab', 'gdlab is no listed part'),
    ('claims', 'from gdlab import run', 'gdlab.run is no listed part'),
    ('utils', 'import jax', 'utils is not listed in a layer'),
    ('odds__in__ends', 'import jax', 'odds is not listed in a layer'),
    ('statistics', 'from gdlab.claims import Claim', 'cycle: '),
  ],
)
def test_a_violation_is_found(tmp_path, name, source, expected):
  sources = {'claims': 'from gdlab.statistics import interval', 'statistics': '', name: source}
  found = violations(write_tree(tmp_path, **sources))
  assert len(found) == 1
  assert expected in found[0]
