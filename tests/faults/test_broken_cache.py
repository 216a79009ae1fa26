"""A broken compilation cache: training goes on with the same numbers, and with a warning or a line at most."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import types

import pytest
from jax._src import compilation_cache

from gdlab.core.errors import InputError
from gdlab.host import machine

ROOT = pathlib.Path(__file__).resolve().parents[2]
# As a script does that `gdlab.study.launch` starts; every program is kept, however fast it is compiled.
PROGRAM = """
import hashlib, sys
import jax, optax
import gdlab
try:
  gdlab.use_compilation_cache(sys.argv[1])
except gdlab.InputError as error:
  print(f'compilation cache: off, {error}', file=sys.stderr)
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
problem = gdlab.problems.quadratic([1.0, 0.1], noise=0.3, num_examples=16)
method = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(4), optimizer=optax.adam(0.1))
result = gdlab.run(problem, method, num_steps=20, seeds=3, eval_every=10)
content = hashlib.sha256()
for name in sorted(result.variables):
  content.update(str(name).encode() + result[name].values.tobytes())
print(content.hexdigest())
"""


def trained(folder: pathlib.Path) -> tuple[str, list[str]]:
  """The numbers of a run with this cache, and what it warned of; fails unless it ends well."""
  environment = {name: value for name, value in os.environ.items() if name != 'JAX_COMPILATION_CACHE_DIR'}
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, str(folder)],
    env=environment | {'PYTHONPATH': str(ROOT), 'JAX_NUM_CPU_DEVICES': '2'},
    check=False,
    capture_output=True,
    text=True,
    timeout=240,
  )
  assert done.returncode == 0, done.stderr
  assert 'Traceback' not in done.stderr
  lines = [line for line in done.stderr.splitlines() if line.strip() != 'warnings.warn(']
  # A warning of a program, or our one line.
  allowed = (
    'Error reading persistent compilation cache',
    'Error writing persistent compilation cache',
    'cache: off',
  )
  assert [line for line in lines if not any(words in line for words in allowed)] == []
  return done.stdout.strip(), lines


@pytest.fixture(scope='module')
def filled(tmp_path_factory):
  """A cache with the programs, where it is, a copy of it, and the numbers without any cache."""
  folder = tmp_path_factory.mktemp('cache') / 'programs'
  numbers, lines = trained(folder)
  assert lines == []
  copy = folder.with_name('copy')
  shutil.copytree(folder, copy)
  assert len(entries(folder)) >= 5
  return folder, copy, numbers


def entries(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(folder.glob('*-cache'))


def restored(folder: pathlib.Path, copy: pathlib.Path) -> None:
  """As it was: at its own place, for JAX finds no entry at another."""
  shutil.rmtree(folder)
  shutil.copytree(copy, folder)


def flipped(content: bytes) -> bytes:
  found = bytearray(content)
  found[len(found) // 2] ^= 1
  return bytes(found)


DAMAGES = {
  'truncated': lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
  'a flipped bit': lambda path: path.write_bytes(flipped(path.read_bytes())),
  'empty': lambda path: path.write_bytes(b''),
  'foreign': lambda path: path.write_bytes(b'\xff' * 1000),
  'a folder': lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.faults
@pytest.mark.parametrize('damage', DAMAGES)
def test_damaged_entries(filled, damage):
  folder, copy, expected = filled
  restored(folder, copy)
  for path in entries(folder):
    DAMAGES[damage](path)
  numbers, lines = trained(folder)
  assert numbers == expected
  assert lines  # it was said, so the damage was met
  print(f'damaged entries survived, {damage}: {len(entries(folder))}')


@pytest.mark.faults
def test_a_sound_cache_is_used_in_silence(filled):
  """Else the tests above would show nothing."""
  folder, copy, expected = filled
  restored(folder, copy)
  before = {path.name: path.stat().st_mtime_ns for path in entries(folder)}
  assert trained(folder) == (expected, [])
  assert {path.name: path.stat().st_mtime_ns for path in entries(folder)} == before


@pytest.mark.faults
def test_an_entry_without_its_time_of_use(filled):
  """Of a process that ran out of disk between the two: JAX alone could never add a program again."""
  folder, copy, expected = filled
  restored(folder, copy)
  for path in folder.glob('*-atime'):
    path.unlink()
  entries(folder)[0].unlink()
  count = len(entries(folder))
  assert trained(folder) == (expected, [])
  assert len(entries(folder)) == count + 1


@pytest.mark.faults
def test_a_file_in_the_place_of_the_folder(filled, tmp_path):
  (tmp_path / 'file').write_text('mine')
  numbers, lines = trained(tmp_path / 'file')
  assert numbers == filled[2]
  assert lines == [
    f'compilation cache: off, folder must be one that can be written, got {tmp_path}/file: File exists'
  ]
  assert (tmp_path / 'file').read_text() == 'mine'


@contextlib.contextmanager
def disk(place: pathlib.Path, size: str):
  """A disk of its own, as permission bits say nothing to root."""
  place.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'none', place]
  if subprocess.run(mount, check=False, capture_output=True).returncode:
    pytest.skip('no tmpfs can be mounted here')
  try:
    yield
  finally:
    subprocess.run(['umount', '-l', place], check=True)


@pytest.mark.faults
def test_a_read_only_disk(filled, tmp_path):
  place = tmp_path / 'disk'
  with disk(place, '8m'):
    for path in filled[1].iterdir():
      shutil.copy(path, place)
    subprocess.run(['mount', '-o', 'remount,ro', place], check=True)
    numbers, lines = trained(place)
  assert numbers == filled[2]
  assert lines == [
    f'compilation cache: off, folder must be one that can be written, got {place}: Read-only file system'
  ]


@pytest.mark.faults
@pytest.mark.parametrize(('size', 'used'), [('64k', 65536), ('64k', 40960)])
def test_a_full_disk(filled, tmp_path, size, used):
  """Full from the start, and full after some programs."""
  place = tmp_path / 'disk'
  with disk(place, size):
    (place / 'large').write_bytes(bytes(used))
    for _ in range(2):  # what the first has left behind is met by the second
      numbers, lines = trained(place)
      assert numbers == filled[2]
      assert lines
  print(f'lines said on a full disk: {len(lines)}')


def plain(program: bytes) -> bytes:
  raise AssertionError('packed without a checksum')


@pytest.mark.parametrize('name', ['zstd', 'zstandard'])
def test_programs_packed_by_zstandard_get_a_checksum(monkeypatch, name):
  """Of 10,035 flipped bits in a plain frame 10,016 went unseen, and one in JAX's cache ended its process."""
  asked = []
  flag = types.SimpleNamespace(checksum_flag='checksum')
  by_function = types.SimpleNamespace(
    CompressionParameter=flag, compress=lambda program, options: asked.append(options) or program
  )
  by_class = types.SimpleNamespace(
    ZstdCompressor=lambda write_checksum: types.SimpleNamespace(
      compress=lambda program: asked.append({'checksum': int(write_checksum)}) or program
    )
  )
  monkeypatch.setattr(compilation_cache, 'zstd', by_function if name == 'zstd' else None)
  monkeypatch.setattr(compilation_cache, 'zstandard', None if name == 'zstd' else by_class)
  monkeypatch.setattr(compilation_cache, 'compress_executable', plain)
  machine._sum_programs()
  assert compilation_cache.compress_executable(b'program') == b'program'
  assert asked == [{'checksum': 1}]


def test_programs_packed_by_zlib_stay_as_they_are(monkeypatch):
  monkeypatch.setattr(compilation_cache, 'zstd', None)
  monkeypatch.setattr(compilation_cache, 'zstandard', None)
  before = compilation_cache.compress_executable
  machine._sum_programs()
  assert compilation_cache.compress_executable is before


@pytest.mark.parametrize('mode', ['full', 'ro'])
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, mode):
  place = tmp_path / 'disk'
  before = machine.settings().config['jax_compilation_cache_dir']
  with disk(place, '64k'):
    (place / 'large').write_bytes(bytes(65536))
    if mode == 'ro':
      subprocess.run(['mount', '-o', 'remount,ro', place], check=True)
    reason = 'Read-only file system' if mode == 'ro' else 'No space left on device'
    with pytest.raises(InputError, match=f'^folder must be one that can be written, got {place}: {reason}$'):
      machine.use_compilation_cache(place)
  assert machine.settings().config['jax_compilation_cache_dir'] == before
