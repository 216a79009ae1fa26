"""The package: what its metadata says, what is in its wheel and sdist, and that both work where nothing else is."""

import email
import importlib
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']
NAME = f'gdlab-{PROJECT["version"]}'
KEPT_OUT = ('.ci/', 'runs/')  # of the sdist
DATA = {
  'gdlab/py.typed',
  'gdlab/__init__.pyi',
  'gdlab/report/page.html.jinja',
  'gdlab/problems/data/descent.txt',
}
# What a user does first, in an empty folder.
FIRST_USE = """
import pathlib, sys
import optax
import gdlab
assert pathlib.Path(gdlab.__file__).is_relative_to(sys.prefix), gdlab.__file__
method = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(32), optimizer=optax.sgd(0.1))
result = gdlab.run(gdlab.problems.digits(), method, num_steps=5, seeds=2)
assert result.sizes['seed'] == 2 and bool((result.status == gdlab.RUNNING).all())
gdlab.load(gdlab.save(result, 'result.nc'))
arms = {name: gdlab.Arm(lambda: method, {}) for name in ('first', 'second')}
problem = gdlab.problems.split(gdlab.problems.digits(), validation=0.2)
answer = gdlab.compare(problem, arms, baseline='first', budgets={'updates': 3}, margin=0.1, seeds=3)
answer.report('answer.html')
assert 'second' in pathlib.Path('answer.html').read_text(encoding='utf-8')
print(gdlab.__version__)
"""


def run(*command, cwd, **environment):
  """Runs a command; what it prints is shown where it fails."""
  done = subprocess.run(
    list(map(str, command)),
    cwd=cwd,
    env=os.environ | environment,
    check=False,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, f'{command}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}'
  return done.stdout + done.stderr


def tracked(*folders):
  """The project's files below some folders, as git sees them."""
  names = run(
    'git', 'ls-files', '--cached', '--others', '--exclude-standard', *folders, cwd=ROOT
  ).splitlines()
  return {name for name in names if (ROOT / name).is_file()}


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  """A wheel and an sdist, made without a network by the build backend that is installed."""
  pytest.importorskip('hatchling')
  folder = tmp_path_factory.mktemp('dist')
  run(sys.executable, '-m', 'hatchling', 'build', '-d', folder, cwd=ROOT)
  return folder


def test_the_wheel_holds_the_package_and_nothing_else(built):
  with zipfile.ZipFile(built / f'{NAME}-py3-none-any.whl') as wheel:
    names = {name for name in wheel.namelist() if not name.endswith('/')}
    metadata = email.message_from_bytes(wheel.read(f'{NAME}.dist-info/METADATA'))
  own = {name for name in names if not name.startswith(f'{NAME}.dist-info/')}
  assert own == tracked('gdlab')
  assert own > DATA
  assert {name.removeprefix(f'{NAME}.dist-info/') for name in names - own} == {
    'METADATA', 'WHEEL', 'RECORD', 'licenses/LICENSE',
  }  # fmt: skip
  assert metadata['License-Expression'] == 'Apache-2.0'
  assert metadata['Requires-Python'] == '>=3.11'
  assert {'trackers', 'cuda', 'docs'} <= set(metadata.get_all('Provides-Extra'))
  assert metadata.get_payload().startswith('# gdlab')


def test_the_sdist_holds_the_sources_and_nothing_else(built):
  with tarfile.open(built / f'{NAME}.tar.gz') as sdist:
    names = {member.name.removeprefix(f'{NAME}/') for member in sdist.getmembers() if member.isfile()}
  assert names - {'PKG-INFO'} == {name for name in tracked() if not name.startswith(KEPT_OUT)}


def test_classifiers_are_known_and_the_licence_is_given_once():
  known = importlib.import_module('trove_classifiers').classifiers  # hatchling brings it
  assert [line for line in PROJECT['classifiers'] if line not in known] == []
  assert not any(line.startswith('License ::') for line in PROJECT['classifiers'])  # by SPDX


def test_version_date_and_licence_are_the_same_everywhere():
  citation = dict(
    re.findall(r'^([\w-]+): "?(.+?)"?$', (ROOT / 'CITATION.cff').read_text(encoding='utf-8'), re.M)
  )
  newest = re.search(r'^## \[(.+?)\] - (\S+)$', (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8'), re.M)
  assert newest[1] == citation['version'] == PROJECT['version']
  assert newest[2] == citation['date-released']
  assert citation['license'] == PROJECT['license']
  assert citation['cff-version'] == '1.2.0'
  assert {'message', 'title'} <= {*citation}


def test_every_template_of_an_issue_says_what_it_is_for():
  templates = sorted((ROOT / '.github' / 'ISSUE_TEMPLATE').glob('*.md'))
  assert [path.stem for path in templates] == ['bug', 'claim', 'feature']
  for path in templates:
    head = re.match(r'---\nname: .+\nabout: .+\nlabels: .+\n---\n', path.read_text(encoding='utf-8'))
    assert head, path.name


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['wheel', 'sdist'])
def test_an_empty_environment_installs_it_and_works(kind, tmp_path):
  pytest.importorskip('build')
  dist, empty = tmp_path / 'dist', tmp_path / 'empty'
  empty.mkdir()
  said = run(
    sys.executable, '-m', 'build', '--outdir', dist, ROOT, cwd=tmp_path
  )  # sdist, and the wheel of it
  assert not re.search('warning|deprecat', said, re.IGNORECASE), said
  run(sys.executable, '-m', 'venv', tmp_path / 'venv', cwd=tmp_path)
  python = tmp_path / 'venv' / 'bin' / 'python'
  file = dist / (f'{NAME}-py3-none-any.whl' if kind == 'wheel' else f'{NAME}.tar.gz')
  run(python, '-m', 'pip', 'install', '--quiet', '--constraint', ROOT / 'requirements.lock', file, cwd=empty)
  run(python, '-m', 'pip', 'check', cwd=empty)
  (empty / 'first_use.py').write_text(FIRST_USE, encoding='utf-8')
  said = run(python, '-I', 'first_use.py', cwd=empty, PYTHONPATH='')
  assert said.splitlines()[-1] == PROJECT['version']
  assert {path.name for path in empty.iterdir()} >= {'answer.html', 'result.nc'}
