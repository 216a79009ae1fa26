"""Two starts at one working directory: real processes, one of which is refused, dies or waits its turn."""

import json
import os
import pathlib
import platform
import signal
import subprocess
import sys

import filelock
import pytest

from gdlab.core.errors import InputError
from gdlab.host import locks

STUDY = pathlib.Path(__file__).parents[1] / 'study' / 'tiny_study.py'
HOLD = """
import sys
from gdlab.host import locks
with locks.held(sys.argv[1]):
  print('held', flush=True)
  sys.stdin.readline()
"""


def hold(folder: pathlib.Path) -> subprocess.Popen:
  """A process that holds the folder until it reads a line."""
  pipe = subprocess.PIPE
  process = subprocess.Popen([sys.executable, '-c', HOLD, str(folder)], stdin=pipe, stdout=pipe, text=True)
  assert process.stdout.readline() == 'held\n'
  return process


def start(workdir: pathlib.Path, stall: str = '') -> subprocess.Popen:
  """The tiny study, which stalls at a cell."""
  changes = {'STALL': stall, 'STALL_FILE': str(workdir.parent / 'stalled'), 'JAX_NUM_CPU_DEVICES': '1'}
  return subprocess.Popen(
    [sys.executable, str(STUDY), f'--workdir={workdir}', '--nocompilation_cache'],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=os.environ | changes,
  )


def end(process: subprocess.Popen, how: int = 0) -> None:
  if how:
    process.send_signal(how)
  process.communicate('\n', timeout=60)
  assert process.returncode == -how


def refused(folder: pathlib.Path, name: str = 'workdir') -> str:
  with pytest.raises(InputError) as caught, locks.held(folder, name):
    pass
  return str(caught.value)


def test_the_second_is_told_who_holds_it_and_since_when(tmp_path):
  first = hold(tmp_path)
  line = refused(tmp_path)
  since = json.loads((tmp_path / locks.HOLDER).read_text())['since']
  assert line == (
    f'workdir {tmp_path} is in use by process {first.pid} on {platform.node()} since {since}; '
    'wait for its end, end it, or name another folder'
  )
  assert refused(tmp_path, 'checkpoint').startswith(
    f'checkpoint {tmp_path} is in use by process {first.pid} '
  )
  end(first)
  with locks.held(tmp_path):
    # Nor by the same process twice.
    assert f'process {os.getpid()} ' in refused(tmp_path)
  assert os.listdir(tmp_path) == [locks.LOCK]


@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGTERM])
def test_that_of_a_dead_process_is_taken_over(tmp_path, how):
  end(hold(tmp_path), how)
  assert (tmp_path / locks.HOLDER).exists()  # it could not say goodbye
  second = hold(tmp_path)
  assert f'process {second.pid} ' in refused(tmp_path)
  end(second)


def test_many_take_turns_with_kills_and_never_two_at_once(tmp_path):
  count = 0
  for turn in range(12):
    holder = hold(tmp_path)
    assert f'process {holder.pid} ' in refused(tmp_path)
    end(holder, signal.SIGKILL if turn % 2 else 0)
    count += 1
  print(f'holders refused for and taken over from: {count}')


@pytest.mark.parametrize('content', ['', '{', '[]', '{"process": "x"}', '{"process": null}', '\xff'])
def test_a_holder_that_cannot_be_read_is_another_process(tmp_path, content):
  with locks.held(tmp_path):
    (tmp_path / locks.HOLDER).write_text(content, encoding='latin-1')
    assert f'{tmp_path} is in use by another process; wait' in refused(tmp_path)


@pytest.mark.parametrize('error', [NotImplementedError('no locks'), OSError(37, 'No locks available')])
def test_a_file_system_without_locks_is_said_and_all_goes_on(tmp_path, monkeypatch, capsys, error):
  def acquire(self, **options):
    raise error

  monkeypatch.setattr(filelock.FileLock, 'acquire', acquire)
  with locks.held(tmp_path):
    pass
  assert capsys.readouterr().err == (
    f'workdir {tmp_path}: its file system has no locks, and a second start there would not be noticed\n'
  )


def test_what_stands_in_the_locks_place_is_one_line(tmp_path):
  (tmp_path / locks.LOCK).mkdir()
  assert refused(tmp_path) == (
    f'workdir {tmp_path} cannot be locked: Is a directory; it must be a folder that can be written'
  )


def test_a_block_that_fails_lets_it_go(tmp_path):
  with pytest.raises(KeyError), locks.held(tmp_path):
    raise KeyError
  with locks.held(tmp_path):
    pass


def test_a_second_start_of_a_study_is_refused_and_goes_on_when_the_first_is_killed(tmp_path):
  workdir = tmp_path / 'work'
  first = start(workdir, stall='runs')
  try:
    for line in first.stderr:
      if 'start' in line:
        break
    second = start(workdir)
    out, err = second.communicate(timeout=120)
    assert (second.returncode, out) == (2, '')
    assert err.startswith(
      f'error: workdir {workdir} is in use by process {first.pid} on {platform.node()} since 2'
    )
    assert err.count('\n') == 1
  finally:
    first.kill()
    first.communicate(timeout=60)
  third = start(workdir)
  out, err = third.communicate(timeout=120)
  assert (third.returncode, out) == (0, 'finished\n'), err
  assert '[1/4] start: found' in err
