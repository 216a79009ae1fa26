"""Rules of the house that no other tool holds: file lengths, machine paths, the lock, the public surface."""

import ast
import functools
import importlib
import importlib.metadata
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import gdlab

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 400
# Registries, the options that point at one, and private folders of a machine.
FORBIDDEN = re.compile(
  r'\b(?:pypi|pythonhosted|npmjs)\.(?:org|com)\b|index-url|find-links|trusted-host'
  r'|(?<![\w.])/(?:home|Users|root|work)/\w'
)
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']
EXTRAS = PROJECT['optional-dependencies']
MODULES = [module.name for module in pkgutil.walk_packages(gdlab.__path__, 'gdlab.')]


@functools.cache
def tree() -> tuple[Path, ...]:
  """All files of the project, tracked or about to be; what git ignores is left out."""
  command = ['git', 'ls-files', '--cached', '--others', '--exclude-standard', '-z']
  names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split('\0')
  return tuple(path for name in names if name and (path := ROOT / name).is_file())


def python_files(*folders: str) -> list[Path]:
  return [path for folder in folders for path in (ROOT / folder).rglob('*.py')]


def test_no_source_file_is_too_long():
  lengths = {
    path: len(path.read_text(encoding='utf-8').splitlines()) for path in tree() if path.suffix == '.py'
  }
  assert lengths
  assert {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > MAX_LINES} == {}


def test_no_file_names_a_registry_or_a_path_of_one_machine():
  found = []
  for path in tree():
    if path == Path(__file__).resolve():
      continue  # It has to name what it forbids.
    try:
      lines = path.read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError:
      continue  # An image.
    found += [
      f'{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}'
      for number, line in enumerate(lines, 1)
      if FORBIDDEN.search(line) or str(ROOT) + '/' in line
    ]
  assert found == []


@pytest.mark.parametrize(
  'line',
  [
    '--extra-index-url https://mirror.example/simple',
    'see https://pypi.org/simple',
    "data = '/home/someone/data'",
    'cd ' + '/'.join(['', 'work', 'main']),
  ],
)
def test_a_forbidden_line_is_found(line):
  assert FORBIDDEN.search(line)


def test_the_lock_holds_versions_and_nothing_else():
  pinned = re.compile(r'[a-z0-9-]+==[\w.+!]+( ; [\w\s.<>=!*\'"()]+)?')
  lines = (ROOT / 'requirements.lock').read_text(encoding='utf-8').splitlines()
  entries = [line for line in lines if line.strip() and not line.strip().startswith('#')]
  assert entries
  assert [line for line in entries if not pinned.fullmatch(line)] == []


@pytest.mark.parametrize('python', ['3.11', '3.13'])
def test_the_lock_covers_what_the_project_asks_for(python):
  environment = {'python_version': python, 'python_full_version': f'{python}.0', 'sys_platform': 'linux'}
  lines = (ROOT / 'requirements.lock').read_text(encoding='utf-8').splitlines()
  locked = {}
  for line in lines:
    if not line.strip() or line.strip().startswith('#'):
      continue
    entry = Requirement(line)
    if entry.marker is None or entry.marker.evaluate(environment):
      assert entry.name not in locked, f'{entry.name} is locked twice for Python {python}'
      locked[entry.name] = next(iter(entry.specifier)).version
  extras = [text for name, extra in EXTRAS.items() if name != 'torch' for text in extra]
  for text in [*PROJECT['dependencies'], *extras]:
    asked = Requirement(text)
    assert asked.specifier.contains(locked[canonicalize_name(asked.name)]), f'{text} against the lock'


def third_party_imports(paths: list[Path]) -> set[str]:
  found = set()
  for path in paths:
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
      if isinstance(node, ast.Import):
        found |= {alias.name.partition('.')[0] for alias in node.names}
      elif isinstance(node, ast.ImportFrom) and not node.level:
        found.add(node.module.partition('.')[0])
  return found - set(sys.stdlib_module_names) - {'gdlab', 'experiments', 'configs'}


def test_what_is_imported_is_declared_and_what_is_declared_is_used():
  paths = python_files('gdlab', 'experiments', 'configs')
  provides = importlib.metadata.packages_distributions()
  imported = {
    canonicalize_name(distribution)
    for name in third_party_imports(paths)
    for distribution in provides.get(name, [name])
  }
  declared = {canonicalize_name(Requirement(text).name) for text in PROJECT['dependencies']}
  assert imported - declared == set()
  # xarray takes its file format by name, never by import.
  texts = [path.read_text(encoding='utf-8') for path in paths]
  by_name = {name for name in ('h5netcdf', 'filelock') if any(f"'{name}'" in text for text in texts)}
  assert declared - imported - by_name == set()


@pytest.mark.parametrize('name', ['gdlab', *MODULES])
def test_every_module_is_documented_and_exports_what_it_says(name):
  module = importlib.import_module(name)
  assert module.__doc__
  assert [export for export in getattr(module, '__all__', ()) if not hasattr(module, export)] == []


def test_importing_gdlab_is_silent_and_starts_no_backend():
  # A started backend refuses another number of devices; users set it after the import.
  code = 'import gdlab, jax; jax.config.update("jax_num_cpu_devices", 3); assert jax.device_count() == 3'
  done = subprocess.run(
    [sys.executable, '-W', 'error', '-c', code], cwd=ROOT, check=False, capture_output=True, text=True
  )
  assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_the_version_is_the_same_everywhere():
  assert gdlab.__version__ == PROJECT['version']
  assert f'## [{PROJECT["version"]}]' in (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')
