"""Malformed flag lines of every script: exit status 2 and one line, or in fact valid; some in real processes."""

import collections
import importlib
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent import futures
from typing import Any, NamedTuple

import hypothesis
import line_server
import pytest
from hypothesis import strategies as st

from gdlab.host import locks

pytestmark = pytest.mark.faults

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).parent
NUM_LINES = 1110


class Line(NamedTuple):
  """The arguments of a script; whether they can be nothing but refused."""

  script: str
  arguments: list[str]
  bad: bool


def environment(folder: pathlib.Path) -> dict[str, str]:
  path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get('PYTHONPATH'))))
  return os.environ | {'PYTHONPATH': path, 'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled')}


# Files in a configuration's place, none of which is one.
FILES: dict[str, str | bytes] = {
  'empty.py': '',
  'no_function.py': 'x = 1',
  'syntax.py': 'def get_config(',
  'indent.py': 'def get_config():\nreturn 1',
  'dict.py': 'def get_config():\n  return {"seeds": 1}',
  'none.py': 'def get_config():\n  pass',
  'type.py': 'import ml_collections\ndef get_config():\n  return ml_collections.ConfigDict',
  'number.py': 'get_config = 3',
  'argument.py': 'def get_config(a):\n  return {}',
  'raises.py': 'def get_config():\n  raise ValueError("a\\nb")',
  'raises_at_once.py': '1 / 0',
  'exits.py': 'import sys\nsys.exit(0)',
  'recursion.py': 'def get_config():\n  return get_config()',
  'import.py': 'import no_such_module_anywhere',
  'bytes.py': b'\xff\xfe\x00',
  'not_python.txt': 'seeds:\n  count: 3\n',
  'empty_config.py': 'import ml_collections\ndef get_config():\n  return ml_collections.ConfigDict()',
  'foreign.py': 'import ml_collections\ndef get_config():\n  return ml_collections.ConfigDict({"a": {"b": 1}})',
  'quote\'s "and" größe.py': 'def get_config():\n  return 1',
}
# No number, truth, tuple or name of anything.
NOTHING = [
  'abc',
  '{}',
  "'",
  '"',
  '--',
  'a\nb',
  'x' * 10_000,
  '$(ls)',
  '__import__("os")',
  '%s',
  'größe',
  '{"a": 1}',
]
NOTHING += [
  'nan',
  '-inf',
  'None',
  '(',
  '((',
  '1e',
  '\\',
  '<script>',
  '\t',
  '٣٣x',
  '1 2',
  '[1',
  '(1,',
  '1;2',
  '=',
  '=1',
]
MAYBE = [
  '',
  '0',
  '-1',
  '1',
  '1.5',
  '1e3',
  '0x10',
  '٣',
  '9' * 40,
  'true',
  '()',
  '(1,)',
  '(0.1, 0.1)',
  '1e-320',
  '1_000',
]
WORDS = r"""
  --workers=0 --workers=-1 --workers=x --workers=1.5 --workers= --workers=nan --workers --dask=nonsense
  --dask= --dask=: --dask=host: --dask=:80 --dask=host:x --dask=. --dask --repeat=-1 --repeat=10
  --repeat=x --repeat= --repeat=1.0 --repeat=9999999999999 stray - --- ---x -x --= --=3 -- = a=b --no
  --compilation_cache=maybe --nocompilation_cache=3 --workdir= --workdir --flagfile=absent --flagfile=.
  --flagfile --config --config= --config=. --config=absent.py --noconfig --config. --config.= --config..=3
  --config.__class__=3 --confi.a=3 --cell=runs --coordinator=a:1 --process_id=0 --größe=1 --undefok
  --config=' --config=configs --config=~ --config=${HOME}
"""
OTHERS = [
  *WORDS.split(),
  '-- stray',
  '\n',
  '',
  ' ',
  '--\n',
  '--workers=2 --dask=a:1',
  '--x\ny=1',
  '--config=\n',
]
OTHERS += ['--config=' + 'x' * 5000]
FLAGS = ['workdir', 'workers', 'dask', 'repeat', 'compilation_cache', 'config', 'nocompilation_cache']


def leaves(config: Mapping, prefix: str = '') -> Iterator[tuple[str, Any]]:
  for key, value in config.items():
    if isinstance(value, Mapping):
      yield f'{prefix}{key}', value
      yield from leaves(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', value


ENTRIES = {
  script: [*leaves(importlib.import_module(f'configs.{script}').get_config().to_dict())]
  for script in line_server.SCRIPTS
}


@st.composite
def lines(draw) -> Line:
  """A script with one argument that is wrong, or may be."""
  script = draw(st.sampled_from(line_server.SCRIPTS))
  key, old = draw(st.sampled_from(ENTRIES[script]))
  kind = draw(st.sampled_from(['nothing', 'nothing', 'maybe', 'unknown', 'misspelt', 'file', 'other', 'any']))
  if kind == 'nothing':
    bad, wrong = True, f'--config.{key}={draw(st.sampled_from(NOTHING))}'
    # A text may be part of a case's name or none; a pair of numbers may be one of Optax's other values.
    bad = not isinstance(old, str) and not key.startswith(('arms', 'model'))
  elif kind == 'maybe':
    bad, wrong = False, f'--config.{key}={draw(st.sampled_from(MAYBE))}'
  elif kind == 'any':
    text = st.text(st.characters(exclude_characters='\0', exclude_categories=['Cs']), max_size=30)
    bad, wrong = False, draw(st.sampled_from([f'--config.{key}=', '--', f'--config.{key}', '--config=']))
    wrong += draw(text)
  elif kind == 'unknown':
    end = draw(st.sampled_from(['s', 'x', '.', '.x', '\n', 'é', ' ', '-', "'"]))
    bad, wrong = True, f'--config.{key}{end}=1'
    bad = f'{key}{end}' not in dict(ENTRIES[script])
  elif kind == 'misspelt':
    flag = draw(st.sampled_from(FLAGS))
    place = draw(st.integers(1, len(flag) - 1))
    bad, wrong = True, f'--{flag[:place]}{draw(st.sampled_from(["", "q", "-"]))}{flag[place + 1 :]}=3'
    bad = wrong[2:-2] not in FLAGS
  elif kind == 'file':
    bad, wrong = True, f'--config=FOLDER/{draw(st.sampled_from([*FILES, "absent.py", "", "empty.py/x"]))}'
  else:
    bad, wrong = True, draw(st.sampled_from(OTHERS))
    bad = wrong not in ('--', '', '--undefok', '-', '--config.__class__=3') and not wrong.startswith(
      '--repeat'
    )
  if wrong in ('--workdir', '--flagfile'):  # they would take the next argument for their value
    return Line(script, [wrong], bad)
  arguments = wrong.split(' ') if wrong in ('-- stray', '--workers=2 --dask=a:1') else [wrong]
  harmless = draw(st.sampled_from([[], ['--compilation_cache'], ['--nocompilation_cache']]))
  return Line(script, [*harmless, *arguments] if draw(st.booleans()) else [*arguments, *harmless], bad)


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> pathlib.Path:
  """With all the files in a configuration's place."""
  folder = tmp_path_factory.mktemp('malformed')
  for name, text in FILES.items():
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
  return folder


@pytest.fixture(scope='module')
def server(folder):
  """Asks line_server.py."""
  process = subprocess.Popen(
    [sys.executable, str(HERE / 'line_server.py')],
    cwd=ROOT,
    env=environment(folder),
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )

  def ask(script: str, arguments: list[str]) -> tuple[int, str, str]:
    process.stdin.write(json.dumps([script, arguments]) + '\n')
    process.stdin.flush()
    return json.loads(process.stdout.readline())

  with process:
    yield ask


def check_refused(status: int, out: str, err: str) -> None:
  assert (status, out) == (2, ''), (status, out, err)
  assert err.startswith('error: '), err
  assert err.endswith('\n'), err
  assert len(err.splitlines()) == 1, err
  assert 20 < len(err) < 6000, err


def test_malformed_lines(server, folder):
  counts: collections.Counter[str] = collections.Counter()

  @hypothesis.settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=NUM_LINES,
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(lines())
  def refused_or_valid(line):
    counts['all'] += 1
    arguments = [argument.replace('FOLDER', str(folder)) for argument in line.arguments]
    # In front, so that a flag that wants a value finds none.
    status, out, err = server(line.script, [f'--workdir={folder / "workdir"}', *arguments])
    if status == line_server.ACCEPTED:
      assert (out, err) == ('', '')
      assert not line.bad, 'accepted'
      counts['valid'] += 1
    else:
      check_refused(status, out, err)
      counts['refused'] += 1

  refused_or_valid()
  print('inputs refused: {refused} of {all}, {valid} valid'.format_map(counts))
  assert counts['refused'] >= 1000


# Of every script some, in processes of their own: `python -m experiments.NAME ...`.
REAL = [
  ('variants', '--config.seeds.count=abc'),
  ('variants', '--config.batch_sizes=(1, 2'),
  ('variants', '--workers=0'),
  ('variants', '--repeat=-1'),
  ('batch_size', '--config.num_train=1437'),
  ('batch_size', '--config.cnn.num_sedes=3'),
  ('batch_size', '--dask=nonsense'),
  ('batch_size', '--config.claims=("G9",)'),
  ('minima', '--config=FOLDER/syntax.py'),
  ('minima', '--config.fork.late=1'),
  ('minima', '--workers=x'),
  ('saddles', '--config=FOLDER/exits.py'),
  ('saddles', '--config.training.dataset=mnits'),
  ('saddles', '--config.seeds=3'),
  ('compare', '--config.arms.momentum.optimizer=adm'),
  ('compare', '--config.arms.momentum.momentum=7'),
  ('compare', '--config.arms.adam.batch_size=100000'),
  ('compare', '--config.baseline=a\nb'),
  ('noisy_quadratic', '--config.powers=(0.5, 0.5)'),
  ('noisy_quadratic', '--config.momentum=nan'),
  ('noisy_quadratic', 'stray'),
  ('landscapes', '--config.names=("bowle",)'),
  ('landscapes', '--config.names=("bowl", "bowl")'),
  ('landscapes', '--config=FOLDER'),
  ('instruments', '--config.width=9999999999'),
  ('instruments', '--config.eval_every=100000'),
  ('instruments', '--wokers=2'),
  ('diagnosis_check', '--config.planted_set=cheking'),
  ('diagnosis_check', '--config.only=größe'),
  ('throughput', '--config.parts=()'),
  ('throughput', '--config.lanes.batch_size=5000'),
  ('throughput', '--flagfile=FOLDER/absent'),
]


# Compiled sources; the lock of a folder stays behind its holder.
IGNORED = {'__pycache__', locks.LOCK}


def test_real_processes(folder):
  files = lambda place: {
    path for path in place.rglob('*') if path.is_file() and not (IGNORED & {*path.parts, path.name})
  }
  before = files(folder), {path: files(ROOT / path) for path in ('experiments', 'configs', 'gdlab')}

  def ended(number: int) -> tuple[float, int, str, str]:
    script, argument = REAL[number]
    command = [sys.executable, '-m', f'experiments.{script}', f'--workdir={folder / f"real {number}"}']
    started = time.monotonic()
    process = subprocess.run(
      [*command, argument.replace('FOLDER', str(folder))],
      cwd=ROOT,
      env=environment(folder),
      capture_output=True,
      text=True,
      check=False,
      timeout=60,
    )
    return time.monotonic() - started, process.returncode, process.stdout, process.stderr

  with futures.ThreadPoolExecutor(2) as pool:
    found = list(pool.map(ended, range(len(REAL))))
  for _, *outcome in found:
    check_refused(*outcome)
  print(
    f'real processes refused: {len(found)} of {len(REAL)}, each under {max(row[0] for row in found):.0f} s'
  )
  after = files(folder), {path: files(ROOT / path) for path in ('experiments', 'configs', 'gdlab')}
  assert after == before
