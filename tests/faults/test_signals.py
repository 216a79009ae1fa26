"""SIGTERM and Ctrl-C while things are compiled, computed and saved: what was made is saved, the status says so."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from victims import LIMIT, STUDY, VICTIM, arrays, check_same, ended, said, started

from gdlab.host import checkpoints, files, locks

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
STOPPED = 75
# What a shell starts in the background ignores SIGINT, and so would a victim.
LISTENING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.fixture(scope='module')
def cache(tmp_path_factory) -> pathlib.Path:
  return tmp_path_factory.mktemp('compiled')


def victim(folder: pathlib.Path, cache: pathlib.Path, *further: str) -> subprocess.Popen:
  folder.mkdir(exist_ok=True)
  return started([sys.executable, '-c', LISTENING, str(VICTIM), 'sweep', str(folder), *further], cache)


@pytest.fixture(scope='module')
def whole(tmp_path_factory, cache) -> tuple[dict[str, np.ndarray], float]:
  for name in ('first', 'whole'):
    folder, begun = tmp_path_factory.mktemp(name), time.monotonic()
    process = victim(folder, cache)
    assert ended(process, LIMIT)
    assert process.returncode == 0, said(process)
  return arrays(folder / 'result.npz'), time.monotonic() - begun


def wait_for(there, process: subprocess.Popen) -> None:
  limit = time.monotonic() + LIMIT
  while not there():
    assert process.poll() is None, said(process)
    assert time.monotonic() < limit
    time.sleep(0.01)


def starts(folder: pathlib.Path) -> int:
  file = folder / 'progress'
  return file.read_text(encoding='utf-8').count('started') if file.exists() else 0


def begun(folder: pathlib.Path) -> bool:
  file = folder / 'progress'
  return file.exists() and len(file.read_text(encoding='utf-8').splitlines()) > 1


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_any_moment_saves_all_that_was_made(tmp_path, cache, whole, number):
  expected, seconds = whole
  chance, stops = random.Random(int(number)), 0
  for _ in range(5):
    process = victim(tmp_path, cache)
    # Not before Python can deal with it; while it traces, compiles, computes or saves.
    wait_for(lambda before=stops: starts(tmp_path) > before, process)
    time.sleep(chance.uniform(0, 0.5) * seconds)
    process.send_signal(number)
    assert ended(process, LIMIT)
    assert process.returncode in (0, STOPPED), said(process)
    if process.returncode == 0:
      break
    stops += 1
    lines = (tmp_path / 'progress').read_text(encoding='utf-8').split('started\n')[-1].splitlines()
    if lines and len(lines[-1].split()) == 2:
      kept = checkpoints.Folder(tmp_path / 'checkpoints')
      saved = [kept.latest(name, arrays=False) for name in kept.names()]
      assert sum(each.about['lanes'] * each.step for each in saved) == int(lines[-1].split()[0])
  if process.returncode:
    process = victim(tmp_path, cache)
    assert ended(process, LIMIT)
  check_same(arrays(tmp_path / 'result.npz'), expected)
  assert stops
  print(f'signals {signal.Signals(number).name} heard: {stops}')


def test_a_signal_while_programs_are_compiled(tmp_path):
  cold = tmp_path / 'cold'
  cold.mkdir()
  process = victim(tmp_path / 'own', cold)
  wait_for(lambda: starts(tmp_path / 'own') > 0, process)
  time.sleep(1)
  process.send_signal(signal.SIGTERM)
  assert ended(process, LIMIT)
  assert process.returncode == STOPPED, said(process)
  assert not begun(tmp_path / 'own')  # nothing was computed yet
  assert 'Traceback' not in said(process)


def test_a_signal_within_a_save(tmp_path, cache, whole):
  process = victim(tmp_path, cache, 'slow')
  wait_for(lambda: [*(tmp_path / 'checkpoints').glob(f'{files.PREFIX}*/*.npz')], process)
  process.send_signal(signal.SIGTERM)
  assert ended(process, LIMIT)
  assert process.returncode == STOPPED, said(process)
  assert [*(tmp_path / 'checkpoints').glob('*.npz')]
  assert not [*(tmp_path / 'checkpoints').glob(f'{files.PREFIX}*/*')]
  process = victim(tmp_path, cache)
  assert ended(process, LIMIT)
  check_same(arrays(tmp_path / 'result.npz'), whole[0])


def test_a_second_signal_ends_at_once(tmp_path, cache, whole):
  process = victim(tmp_path, cache)
  wait_for(lambda: begun(tmp_path), process)
  process.send_signal(signal.SIGTERM)
  process.send_signal(signal.SIGINT)
  sent = time.monotonic()
  assert ended(process, LIMIT)
  assert process.returncode in (-signal.SIGINT, -signal.SIGTERM, STOPPED)
  assert time.monotonic() - sent < 20
  process = victim(tmp_path, cache)
  assert ended(process, LIMIT)
  check_same(arrays(tmp_path / 'result.npz'), whole[0])


def study(workdir: pathlib.Path, *options: str) -> list[str]:
  own = ['--config.updates=3000', '--checkpoint_every=0.2', f'--workdir={workdir}', *options]
  return [sys.executable, '-c', LISTENING, str(STUDY), *own]


def holder(workdir: pathlib.Path) -> int | None:
  """The process that works in a folder, once it does; signals before that end Python as they end any program."""
  try:
    return json.loads((workdir / locks.HOLDER).read_text(encoding='utf-8'))['process']
  except OSError:
    return None


def test_signals_to_a_study(tmp_path, cache):
  stops = 0
  for attempt in range(4):
    process = started(study(tmp_path / 'stopped'), cache)
    wait_for(lambda pid=process.pid: holder(tmp_path / 'stopped') == pid, process)
    time.sleep(0.5 * attempt)
    process.send_signal(signal.SIGTERM if attempt % 2 else signal.SIGINT)
    assert ended(process, LIMIT)
    err = said(process)
    if process.returncode == 0:
      break
    assert process.returncode == STOPPED, err
    assert (
      err.splitlines()[-1] == 'interrupted: what is finished is kept, and the same command goes on from there'
    )
    assert 'Traceback' not in err
    stops += 1
  for name in ('stopped', 'whole'):
    process = started(study(tmp_path / name), cache)
    assert ended(process, LIMIT)
    assert process.returncode == 0, said(process)
  first, second = (json.loads((tmp_path / name / 'claims.json').read_text()) for name in ('stopped', 'whole'))
  assert first == second
  assert stops
  print(f'signals heard by a study: {stops}')


def test_a_study_with_workers_ends_by_a_signal(tmp_path, cache):
  workdir = tmp_path / 'shared'
  own = ['--workers=1', '--config.num_seeds=300000', f'--workdir={workdir}']
  process = started([sys.executable, '-c', LISTENING, str(STUDY.with_name('tiny_study.py')), *own], cache)
  wait_for(lambda: [*(workdir / 'checkpoints').rglob('*.npz')], process)
  process.send_signal(signal.SIGTERM)
  assert ended(process, LIMIT)
  assert process.returncode == STOPPED, said(process)
  last = 'interrupted: what is finished is kept, and the same command goes on from there'
  assert said(process).splitlines()[1:] == [last]  # after '[1/4] start: 0.0 s'


def test_a_time_limit_ends_like_a_signal(tmp_path, cache):
  process = started(study(tmp_path / 'limited', '--time_limit=0.15', '--config.updates=1000000'), cache)
  assert ended(process, LIMIT)
  err = said(process)
  assert process.returncode == STOPPED, err
  assert 'the time limit of 0.15 minutes is over' in err
  assert 'Traceback' not in err


def test_a_time_limit_that_is_none_is_refused(tmp_path, cache):
  process = started(study(tmp_path / 'refused', '--time_limit=0'), cache)
  assert ended(process, LIMIT)
  assert process.returncode == 2
  assert said(process).startswith('error: --time_limit must be')
  assert not os.path.exists(tmp_path / 'refused')
