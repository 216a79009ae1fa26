"""Sums beside files: what is listed, what is refused, and writers that are killed or come at the same time."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
from concurrent import futures

import pytest

from gdlab.core.errors import InputError
from gdlab.host import checksums, files
from gdlab.host.checksums import Damaged

NAMES = ['plain.json', 'two  spaces.nc', 'it\'s "ours".nc', 'größe-λ.nc']
NAMES += ['back\\slash', 'new\nline', 'car\rriage', 'next\x85line\u2028']


def write(path, text, **options):
  with checksums.writing(path, **options) as temporary:
    temporary.write_text(text)


def listed(folder):
  return (folder / 'SHA256SUMS').read_bytes().splitlines()


def test_what_is_written_is_verified_and_any_other_content_is_not(tmp_path):
  path = tmp_path / 'new' / 'a.json'
  write(path, 'one')
  assert checksums.verify(path)
  assert listed(path.parent) == [f'{hashlib.sha256(b"one").hexdigest()}  a.json'.encode()]
  write(path, 'two')
  assert checksums.verify(path)
  assert listed(path.parent) == [f'{hashlib.sha256(b"two").hexdigest()}  a.json'.encode()]
  for content in ('one', 'twO', '', 'two\n'):
    path.write_text(content)
    with pytest.raises(
      Damaged, match=r'^/.*a\.json is damaged: its SHA-256 is not that in SHA256SUMS'
    ) as caught:
      checksums.verify(path)
    assert isinstance(caught.value, InputError)
    assert '\n' not in str(caught.value)


def test_every_name_is_listed_as_sha256sum_reads_it(tmp_path):
  for name in NAMES:
    write(tmp_path / name, name)
  for name in NAMES:
    assert checksums.verify(tmp_path / name)
    (tmp_path / name).write_text('else')
    with pytest.raises(Damaged):
      checksums.verify(tmp_path / name)
    write(tmp_path / name, name)
  if shutil.which('sha256sum'):
    done = subprocess.run(
      ['sha256sum', '-c', '--strict', 'SHA256SUMS'], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done
    assert done.stdout.count(b': OK') == len(NAMES)


def test_a_list_that_sha256sum_wrote_is_read(tmp_path):
  (tmp_path / 'a').write_text('one')
  own = hashlib.sha256(b'one').hexdigest()
  for line in (f'{own}  a\n', f'{own} *a', f'# ours\n\n{own}  a\nnonsense\n'):
    (tmp_path / 'SHA256SUMS').write_text(line)
    assert checksums.verify(tmp_path / 'a')


def test_a_file_that_is_not_listed_is_refused_and_without_a_list_it_is_not_verified(tmp_path):
  (tmp_path / 'a').write_text('one')
  assert checksums.verify(tmp_path / 'a') is False
  (tmp_path / 'SHA256SUMS').write_text('')
  with pytest.raises(Damaged, match=r'^/.*/a is not in SHA256SUMS beside it'):
    checksums.verify(tmp_path / 'a')
  (tmp_path / 'SHA256SUMS').unlink()
  (tmp_path / 'SHA256SUMS').mkdir()
  with pytest.raises(
    InputError, match=r'^/.*/a cannot be verified: SHA256SUMS beside it cannot be read \(Is a dir'
  ):
    checksums.verify(tmp_path / 'a')


def test_removed_files_are_no_longer_listed(tmp_path):
  for name in 'abc':
    write(tmp_path / name, name)
  checksums.remove(tmp_path / 'b')
  (tmp_path / 'c').unlink()
  assert checksums.verify(tmp_path / 'a')
  checksums.remove(tmp_path / 'b')
  write(tmp_path / 'd', 'd')
  assert [line.split(b'  ')[1] for line in listed(tmp_path)] == [b'a', b'd']


def test_what_was_there_without_a_list_is_kept_as_it_is(tmp_path):
  (tmp_path / 'a').write_text('one')
  checksums.adopt(tmp_path, [tmp_path / 'a', tmp_path / 'absent'])
  assert checksums.verify(tmp_path / 'a')
  (tmp_path / 'b').write_text('two')
  checksums.adopt(tmp_path, [tmp_path / 'b'])  # there is a list
  with pytest.raises(Damaged):
    checksums.verify(tmp_path / 'b')


@pytest.mark.parametrize('new', [True, False])
def test_a_failure_leaves_the_sum_of_what_is_there(tmp_path, new, monkeypatch):
  write(tmp_path / 'a', 'one')
  before = listed(tmp_path)

  def fail(*arguments):
    raise OSError(28, 'No space left on device')

  with pytest.raises(FileExistsError):
    write(tmp_path / 'a', 'two', new=True)
  monkeypatch.setattr(files, '_move', fail)
  with pytest.raises(OSError, match='No space'):
    write(tmp_path / ('b' if new else 'a'), 'two', new=new)
  assert listed(tmp_path) == before
  assert checksums.verify(tmp_path / 'a')


# Without a list the old sum is listed first.
@pytest.mark.parametrize(
  ('had_list', 'moves'), [(True, 0), (True, 1), (True, 2), (False, 0), (False, 1), (False, 2), (False, 3)]
)
def test_a_writer_that_is_killed_leaves_nothing_that_looks_damaged(tmp_path, moves, had_list):
  """Killed before the sum is listed, between sum and file, and before the old sum is dropped."""
  path = tmp_path / 'a'
  write(path, 'one')
  if not had_list:
    (tmp_path / 'SHA256SUMS').unlink()
  code = f"""
import os, pathlib, signal
from gdlab.host import checksums, files
move, count = files._move, 0
def counted(source, target, new):
  global count
  if count == {moves}:
    os.kill(os.getpid(), signal.SIGKILL)
  count += 1
  move(source, target, new)
files._move = counted
with checksums.writing({str(path)!r}) as temporary:
  temporary.write_text('two')
"""
  done = subprocess.run([sys.executable, '-c', code], check=False, timeout=60)
  assert done.returncode == -9
  assert path.read_text() == ('two' if moves == 3 - had_list else 'one')
  assert checksums.verify(path) is (had_list or moves > 0)
  write(path, 'three')
  assert checksums.verify(path)
  assert len(listed(tmp_path)) == 1
  assert not list(tmp_path.glob('.gdlab-*-*'))


def test_of_two_writers_of_a_new_file_the_first_one_counts(tmp_path):
  def late():
    with checksums.writing(tmp_path / 'a', new=True) as temporary:
      temporary.write_text('late')
      write(tmp_path / 'a', 'first', new=True)

  with pytest.raises(FileExistsError):
    late()
  assert (tmp_path / 'a').read_text() == 'first'
  assert checksums.verify(tmp_path / 'a')
  assert len(listed(tmp_path)) == 1


def test_writers_and_readers_at_the_same_time_never_see_damage(tmp_path):
  write(tmp_path / 'shared', 'start')
  over = threading.Event()

  def writer(number):
    for turn in range(15):
      write(tmp_path / 'shared', f'{number} {turn}')
      write(tmp_path / f'{number}-{turn}', 'own')

  def reader():
    count = 0
    while not over.is_set():
      assert checksums.verify(tmp_path / 'shared')
      count += 1
    return count

  with futures.ThreadPoolExecutor(6) as pool:
    readers = [pool.submit(reader) for _ in range(2)]
    writers = [pool.submit(writer, number) for number in range(4)]
    futures.wait(writers)
    over.set()
    for task in (*writers, *readers):
      task.result()
  assert all(task.result() > 0 for task in readers)
  assert len(listed(tmp_path)) == 61
  for name in os.listdir(tmp_path):
    assert name.startswith(('.gdlab', 'SHA')) or checksums.verify(tmp_path / name)


def test_without_locks_files_are_written_and_listed(tmp_path, monkeypatch):
  def acquire(self, **options):
    raise NotImplementedError('this file system has no locks')

  monkeypatch.setattr(checksums.filelock.FileLock, 'acquire', acquire)
  write(tmp_path / 'a', 'one')
  assert checksums.verify(tmp_path / 'a')
