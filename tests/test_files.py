"""Files that appear whole or not at all, and what killed writers leave: real processes, killed in the midst of it."""

import os
import pathlib
import signal
import subprocess
import sys

import filelock
import numpy as np
import pytest
import xarray as xr

import gdlab
from gdlab.host import checksums, files

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Each stops in the midst of a save, says so, and is killed or goes on.
WRITERS = {
  'result': """
import xarray as xr
import gdlab
write = pathlib.Path.write_bytes
def write_bytes(path, content):
  if path.name == 'target':
    write(path, content[:100])
    pause()
  return write(path, content)
pathlib.Path.write_bytes = write_bytes
gdlab.save(xr.Dataset({'x': ('a', [1.0] * 1000)}), folder / 'target')
""",
  'claims': """
from gdlab import claims
from gdlab.host import files
move = files._move
files._move = lambda *arguments: (pause(), move(*arguments))
claims.write_claims(folder / 'target', [])
""",
  'download': """
from gdlab.problems import idx
import os
fsync = os.fsync
os.fsync = lambda number: (pause(), fsync(number))
idx._write(folder / 'target', b'content')
""",
  'figure': """
from gdlab.study.workdir import replacing
with replacing(folder / 'target') as path:
  path.write_text('half')
  pause()
  path.write_text('whole')
""",
  'killed between the folder and its lock': """
from gdlab.host import files
files._take = lambda lock: pause()
with files.replacing(folder / 'target') as path:
  path.write_text('whole')
""",
}


def begin(name: str, folder: pathlib.Path) -> subprocess.Popen:
  """Starts a writer; returns it in the midst of its save."""
  head = """
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
def pause():
  print('paused', flush=True)
  sys.stdin.readline()
"""
  process = subprocess.Popen(
    [sys.executable, '-c', head + WRITERS[name], str(folder)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    cwd=ROOT,
  )
  assert process.stdout.readline() == 'paused\n'
  return process


def kill(process: subprocess.Popen) -> None:
  process.send_signal(signal.SIGKILL)
  process.communicate(timeout=60)


def seen(folder: pathlib.Path) -> set[str]:
  """What is in a folder, but for sums and their lock."""
  return set(os.listdir(folder)) - {checksums.SUMS, checksums.LOCK}


def dataset() -> xr.Dataset:
  return xr.Dataset({'x': ('a', np.arange(3.0))})


@pytest.mark.parametrize('name', WRITERS)
def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path, name):
  (tmp_path / 'of others').write_text('kept')
  kill(begin(name, tmp_path))
  left = seen(tmp_path) - {'of others'}
  assert len(left) == 1 + (
    name == 'claims'
  )  # the remains, of the file and of the list of sums, and no target
  assert all(folder.startswith('.gdlab-') for folder in left)
  gdlab.save(dataset(), tmp_path / 'next.nc')
  assert seen(tmp_path) == {'of others', 'next.nc'}


def test_what_a_living_writer_is_at_is_left_alone(tmp_path):
  process = begin('result', tmp_path)
  try:
    before = seen(tmp_path)
    gdlab.save(dataset(), tmp_path / 'next.nc')
    assert seen(tmp_path) == before | {'next.nc'}
    process.communicate('go on\n', timeout=60)
  finally:
    kill(process)
  assert process.returncode == 0
  assert seen(tmp_path) == {'target', 'next.nc'}
  assert gdlab.load(tmp_path / 'target').sizes == {'a': 1000}


def remains(folder: pathlib.Path, host: str, idle: float) -> pathlib.Path:
  """What a writer of a host left so many seconds ago."""
  left = folder / f'.gdlab-{host}-0123abcd'
  left.mkdir()
  (left / 'result.nc').write_bytes(b'half')
  now = folder.stat().st_mtime
  for path in (left / 'result.nc', left):
    os.utime(path, (now - idle, now - idle))
  return left


# Locks of other hosts may not reach this one: there age decides. An hour is 3600 s; 60 s are left for a slow machine.
@pytest.mark.parametrize(
  ('host', 'idle', 'stays'),
  [('0badbeef', 3540, True), ('0badbeef', 3660, False), (files._host(), 0, False)],
)
def test_other_hosts_have_an_hour(tmp_path, host, idle, stays):
  left = remains(tmp_path, host, idle)
  with files.replacing(tmp_path / 'target') as path:
    path.write_text('whole')
  assert left.exists() == stays
  assert (tmp_path / 'target').read_text() == 'whole'


@pytest.mark.parametrize(('idle', 'stays'), [(3540, True), (3660, False)])
def test_a_file_system_without_locks_has_an_hour_too(tmp_path, monkeypatch, idle, stays):
  def acquire(self, **options):
    raise NotImplementedError('this file system has no locks')

  monkeypatch.setattr(filelock.FileLock, 'acquire', acquire)
  left = remains(tmp_path, files._host(), idle)
  with files.replacing(tmp_path / 'target') as path:
    path.write_text('whole')
  assert left.exists() == stays
  assert (tmp_path / 'target').read_text() == 'whole'


def test_a_folder_that_is_taken_away_before_its_lock_is_held_is_made_again(tmp_path, monkeypatch):
  taken = []
  take = files._take

  def robbed(lock):
    if not taken:
      taken.append(pathlib.Path(lock.lock_file).parent)
      taken[0].rmdir()
    return take(lock)

  monkeypatch.setattr(files, '_take', robbed)
  with files.replacing(tmp_path / 'target') as path:
    assert path.parent.is_dir()
    path.write_text('whole')
  assert os.listdir(tmp_path) == ['target']


@pytest.mark.parametrize('linked', [True, False])
def test_a_new_file_never_replaces_one_that_came_meanwhile(tmp_path, monkeypatch, linked):
  def link(source, target):
    raise PermissionError(1, 'this file system has no links')

  if not linked:
    monkeypatch.setattr(os, 'link', link)

  def late():
    with files.replacing(tmp_path / 'target', new=True) as path:
      path.write_text('ours')
      (tmp_path / 'target').write_text('theirs')

  with pytest.raises(FileExistsError):
    late()
  assert (tmp_path / 'target').read_text() == 'theirs'
  with files.replacing(tmp_path / 'other', new=True) as path:
    path.write_text('ours')
  assert (tmp_path / 'other').read_text() == 'ours'
  assert set(os.listdir(tmp_path)) == {'target', 'other'}


def test_a_name_of_any_length_that_the_folder_can_hold_is_written(tmp_path):
  name = 'x' * 252 + '.nc'
  gdlab.save(dataset(), tmp_path / name)
  assert seen(tmp_path) == {name}


def test_a_file_is_as_others_may_read_it(tmp_path):
  (tmp_path / 'plain').write_text('')
  with files.replacing(tmp_path / 'target') as path:
    path.write_text('')
  assert (tmp_path / 'target').stat().st_mode == (tmp_path / 'plain').stat().st_mode


def test_a_block_that_writes_nothing_or_fails_leaves_nothing(tmp_path):
  with pytest.raises(FileNotFoundError), files.replacing(tmp_path / 'target'):
    pass

  def fail():
    with files.replacing(tmp_path / 'target') as path:
      path.write_text('half')
      raise KeyError

  with pytest.raises(KeyError):
    fail()
  assert os.listdir(tmp_path) == []
