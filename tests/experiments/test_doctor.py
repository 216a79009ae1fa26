"""`python -m experiments.doctor`: what it says of a sound set-up, and of faults that are made for real."""

import gzip
import os
import pathlib
import platform
import subprocess
import sys
import zlib
from importlib import metadata

import pytest

from experiments.doctor import inside, lines, system
from gdlab.problems import images

ROOT = pathlib.Path(__file__).resolve().parents[2]


def doctor(
  home: pathlib.Path, *arguments: str, shell: str = 'exec "$@"', **given: str
) -> tuple[int, list[str], str]:
  """Status, lines and errors of the command, in an environment that says nothing of JAX, with a cache of its own."""
  prefixes = ('JAX_', 'XLA_', 'GDLAB_', 'OMP_', 'CUDA_', 'NPROC')
  environment = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
  environment |= {'XDG_CACHE_HOME': str(home), 'PYTHONPATH': str(ROOT)} | given
  command = ['sh', '-c', shell, 'sh', sys.executable, '-m', 'experiments.doctor', *arguments]
  done = subprocess.run(
    command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=240
  )
  assert 'Traceback' not in done.stdout + done.stderr
  return done.returncode, done.stdout.splitlines(), done.stderr


def found(text: list[str]) -> dict[str, str]:
  """The last status of everything that was looked at."""
  return {
    line[7:].partition(':')[0]: line[:6].strip()
    for line in text
    if line[:6].strip() in ('ok', 'note', 'fault')
  }


def test_nothing_is_wrong_with_a_sound_set_up(tmp_path):
  status, text, errors = doctor(tmp_path, f'--workdir={tmp_path / "new"}')
  assert (status, errors) == (0, ''), text
  assert found(text) == {
    **dict.fromkeys(
      ('Python', 'versions', 'environment', 'cores', 'memory', 'disk', 'workdir', 'devices'), 'ok'
    ),
    **dict.fromkeys(('compilation cache', 'self-test float32', 'self-test float64', 'self-test bits'), 'ok'),
    **dict.fromkeys(('MNIST', 'Tiny Shakespeare'), 'note'),  # absent is no fault
  }
  assert text[-1] == 'nothing is wrong; 2 notes'
  for name in ('jax', 'jaxlib', 'optax', 'flax', 'gdlab'):
    assert f'{name} {metadata.version(name)}' in text[1]
  assert not (tmp_path / 'new').exists()
  assert os.listdir(tmp_path) == ['gdlab']  # the compilation cache


def test_faults_are_named_with_how_to_mend_them(tmp_path):
  """Damaged data, a damaged cache, a file in the workdir's place; and variables that change results."""
  mnist, play = tmp_path / 'mnist', tmp_path / 'tinyshakespeare'
  mnist.mkdir(), play.mkdir()
  (mnist / 'train-images-idx3-ubyte').write_bytes(b'other')
  (mnist / 't10k-images-idx3-ubyte.gz').write_bytes(gzip.compress(bytes(100))[:-9])
  (play / 'input.txt').write_text('other')
  programs = tmp_path / 'gdlab' / 'compiled'
  programs.mkdir(parents=True)
  (programs / 'jit_f-0-cache').write_bytes(zlib.compress(bytes(100))[:-2])
  (tmp_path / 'file').write_text('')
  given = {'GDLAB_DATA': str(tmp_path), 'JAX_ENABLE_X64': '0', 'JAX_NUM_CPU_DEVICES': '3'}
  status, text, errors = doctor(tmp_path, f'--workdir={tmp_path / "file"}', **given)
  assert (status, errors) == (1, '')
  own = found(text)
  faults = {'workdir', 'compilation cache', 'MNIST', 'Tiny Shakespeare'}
  assert {name for name, state in own.items() if state == 'fault'} == faults - {
    'MNIST'
  }  # whose last line is a note
  wrong = [line for line in text if line.startswith('fault')]
  assert [
    line for line in wrong if f'{mnist}/train-images-idx3-ubyte: expected' in line and 'SHA-256' in line
  ]
  assert [
    line for line in wrong if f'{mnist}/t10k-images-idx3-ubyte.gz: expected an intact gzip file' in line
  ]
  assert own['JAX_ENABLE_X64'] == own['JAX_NUM_CPU_DEVICES'] == 'note'
  for place, line in enumerate(text):
    if line.startswith('fault'):
      assert text[place + 1].startswith('       to mend: ')
  assert 'exact number on 3 of 3' in '\n'.join(text)
  assert text[-1].startswith(f'{len(wrong)} faults; ')
  print(f'faults named: {len(wrong)}')


@pytest.mark.parametrize(
  ('given', 'fault', 'mend'),
  [
    (
      {'XLA_FLAGS': '--xla_nonsense=1'},
      'Unknown flag in XLA_FLAGS: --xla_nonsense=1',
      'take that flag out of XLA_FLAGS',
    ),
    (
      {'JAX_PLATFORMS': 'nonsense'},
      "does not start: Unable to initialize backend 'nonsense'",
      'unset JAX_PLATFORMS',
    ),
  ],
)
def test_a_jax_that_does_not_start_is_a_line(tmp_path, given, fault, mend):
  status, text, errors = doctor(tmp_path, **given)
  assert (status, errors) == (1, '')
  wrong = [place for place, line in enumerate(text) if line.startswith('fault')]
  assert len(wrong) == 1
  assert fault in text[wrong[0]]
  assert mend in text[wrong[0] + 1]


def test_wrong_flags_and_closed_outputs(tmp_path):
  assert doctor(tmp_path, '--wrokdir=x') == (
    2,
    [],
    "error: Unknown command line flag 'wrokdir'. Did you mean: workdir ?\n",
  )
  status, text, errors = doctor(tmp_path, 'x')
  assert (status, text) == (2, [])
  assert errors == "error: unexpected argument 'x'; values are given as --flag=value\n"
  status, text, errors = doctor(tmp_path, shell='"$@" | head -n 1', XLA_FLAGS='--xla_nonsense=1')
  assert text == [f'ok     Python: {platform.python_version()} on {platform.system()} {platform.machine()}']
  assert errors == ''


@pytest.mark.parametrize(
  ('version', 'bound', 'expected'),
  [
    ('3.11.7', '>=3.11', True),
    ('3.9', '>=3.11', False),
    ('0.10.2', '>=0.10.2', True),
    ('0.10.2', '<=0.10.2,>=0.10.2', True),
    ('0.10.10', '>=0.10.2', True),
    ('0.10', '>=0.10.0', True),
    ('2.0rc1', '>=2,<3', True),
    ('3.0', '>=2,<3', False),
    ('1.5', '!=1.5.0', False),
    ('1.5', '', True),
    ('1.5', '~=9', True),  # not read, so nothing is said of it
  ],
)
def test_versions_are_compared_by_their_numbers(version, bound, expected):
  assert system.within(version, bound) is expected


def test_versions_below_their_bounds_are_faults(monkeypatch):
  required = ['jax>=99', 'optax[x] >=0.1', 'no-such-package>=1', 'ruff>=999; extra == "dev"']
  monkeypatch.setattr(
    metadata, 'requires', lambda name: required if name == 'gdlab' else ['jaxlib<=0.1', 'numpy>=1']
  )
  own = [(line.status, line.name, line.mend) for line in system.versions()]
  assert own == [
    ('fault', 'jax', 'pip install --upgrade "jax>=99"'),
    ('fault', 'no-such-package', 'pip install "no-such-package>=1"'),
    ('fault', 'jaxlib', 'pip install --upgrade "jaxlib<=0.1"'),
    ('ok', 'versions', ''),
  ]


@pytest.mark.parametrize(
  ('limit', 'used', 'cached', 'expected'),
  [
    ('max', 2**30, 0, '8.0 GiB free on the host'),
    (4 * 2**30, 3 * 2**30, 0, "1.0 GiB free of the container's 4.0 GiB"),
    (
      4 * 2**30,
      4 * 2**30,
      3 * 2**30,
      "3.0 GiB free of the container's 4.0 GiB",
    ),  # the cache of files goes first
    (4 * 2**30, 4 * 2**30, 2**20, "1.0 MiB free of the container's 4.0 GiB"),
  ],
)
def test_memory_of_a_container(tmp_path, monkeypatch, limit, used, cached, expected):
  (tmp_path / 'memory.max').write_text(f'{limit}\n')
  (tmp_path / 'memory.current').write_text(f'{used}\n')
  (tmp_path / 'memory.stat').write_text(f'anon 1\ninactive_file {cached}\n')
  real = system._text
  meminfo = f'MemTotal: 1 kB\nMemAvailable:   {8 * 2**20} kB\n'
  monkeypatch.setattr(system, '_text', lambda path: meminfo if path == '/proc/meminfo' else real(path))
  monkeypatch.setattr(system, 'CGROUP', tmp_path)
  (line,) = (line for line in system.memory() if line.name == 'memory')
  assert line.text == expected
  assert (
    line.status
    == {'8.0': 'ok', '1.0 GiB': 'note', '3.0': 'ok', '1.0 MiB': 'fault'}[
      expected[:7] if expected[:3] == '1.0' else expected[:3]
    ]
  )


def test_a_full_and_a_read_only_disk_are_faults(tmp_path):
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', tmp_path]
  if subprocess.run(mount, check=False, capture_output=True).returncode:
    pytest.skip('no tmpfs can be mounted here')
  try:
    (line,) = system.disk('disk', str(tmp_path / 'new' / 'folder'))
    assert (line.status, line.text.partition(',')[0]) == ('fault', f'64.0 KiB free in {tmp_path}')
    (tmp_path / 'large').write_bytes(bytes(65536))
    (line,) = system.disk('disk', str(tmp_path))
    assert line[:3] == ('fault', 'disk', f'{tmp_path} cannot be written: No space left on device')
    subprocess.run(['mount', '-o', 'remount,ro', tmp_path], check=True)
    (line,) = system.disk('disk', str(tmp_path))
    assert line[:3] == ('fault', 'disk', f'{tmp_path} cannot be written: Read-only file system')
  finally:
    subprocess.run(['umount', '-l', tmp_path], check=True)


def test_a_check_that_raises_is_a_line():
  def broken():
    yield lines.Line(lines.OK, 'this', 'is said before')
    raise KeyError('one\ntwo\x1b[31m')

  first, last = lines.checked('that', broken)
  assert first.name == 'this'
  assert (last.status, last.name) == ('fault', 'that')
  assert len(str(last).splitlines()) == 2
  assert '\x1b' not in str(last)


def test_wrong_arithmetic_is_a_fault(monkeypatch):
  """Of one part in a thousand, which no rounding makes."""
  true = inside._numpy_loop()
  monkeypatch.setattr(inside, '_closed_form', lambda: true)
  monkeypatch.setattr(inside, '_numpy_loop', lambda: (true[0] * 1.001, true[1]))
  (line,) = inside.arithmetic(inside.np.float32)
  assert (line.status, line.name) == ('fault', 'self-test float32')
  assert 'is off its NumPy loop by' in line.text


def test_intact_data_is_ok(tmp_path, monkeypatch):
  sums = {}
  (tmp_path / 'mnist').mkdir()
  for name in images.MNIST_SHA256:
    content = b'\0\0\x08\x01\0\0\0\x02ab'
    (tmp_path / 'mnist' / f'{name}.gz').write_bytes(gzip.compress(content))
    sums[name] = inside.hashlib.sha256(content).hexdigest()
  monkeypatch.setattr(images, 'MNIST_SHA256', sums)
  monkeypatch.setenv('GDLAB_DATA', str(tmp_path))
  own = {line.name: line.status for line in inside.data()}
  assert own == {'MNIST': 'ok', 'Tiny Shakespeare': 'note'}
  monkeypatch.setenv('GDLAB_DATA', str(tmp_path / 'absent'))
  assert [line.status for line in inside.data()] == ['fault']
