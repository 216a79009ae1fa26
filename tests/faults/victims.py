"""Processes that tests of faults start, kill, and look at afterwards."""

import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import numpy as np

from gdlab.host import checkpoints

HERE = pathlib.Path(__file__).parent
VICTIM, STUDY = HERE / 'victim.py', HERE.parent / 'study' / 'own_study.py'
LIMIT = 240.0  # seconds for a whole run on a busy machine
# Updates of one run between checkpoints, `victim.EVERY`, times the runs that a block of the sweep has at most.
MOST_LOST = 40 * 8


def environment(cache: pathlib.Path) -> dict[str, str]:
  own = {'JAX_COMPILATION_CACHE_DIR': str(cache), 'XDG_CACHE_HOME': str(cache), 'JAX_NUM_CPU_DEVICES': '2'}
  return os.environ | own


def ended(process: subprocess.Popen, seconds: float) -> bool:
  """Whether a process has ended by itself within so many seconds; else it is killed."""
  try:
    process.wait(seconds)
  except subprocess.TimeoutExpired:
    process.kill()
    process.wait()
    return False
  return True


def started(command: list[str], cache: pathlib.Path) -> subprocess.Popen:
  with tempfile.NamedTemporaryFile(dir=cache, suffix='.log', delete=False) as log:
    process = subprocess.Popen(command, env=environment(cache), stdout=subprocess.DEVNULL, stderr=log)
  process.log = pathlib.Path(log.name)
  return process


def said(process: subprocess.Popen) -> str:
  return process.log.read_text(encoding='utf-8')


def lost(folder: pathlib.Path) -> int:
  """How many updates of a killed sweep were reported and are not saved."""
  starts = (folder / 'progress').read_text(encoding='utf-8').split('started\n')[1:]
  reported = [int(line.split()[0]) for line in starts[-1].splitlines()]
  if not reported or not (folder / 'checkpoints').is_dir():
    return max(reported, default=0)
  kept = checkpoints.Folder(folder / 'checkpoints')
  saved = [kept.latest(name, arrays=False) for name in kept.names()]
  return max(reported) - sum(each.about['lanes'] * each.step for each in saved if each is not None)


def arrays(file: pathlib.Path) -> dict[str, np.ndarray]:
  with np.load(file, allow_pickle=False) as archive:
    return dict(archive)


def check_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
  assert found.keys() == expected.keys()
  for name, values in expected.items():
    assert np.array_equal(found[name], values, equal_nan=True), name


def left_alone(kind: str, folder: pathlib.Path, cache: pathlib.Path) -> tuple[dict[str, np.ndarray], float]:
  """What a kind of victim finds when it is left alone, and the seconds that it takes when compiled before."""
  for name in ('first', 'second'):
    own = folder / f'{kind} {name}'
    own.mkdir()
    begun = time.monotonic()
    process = started([sys.executable, str(VICTIM), kind, str(own)], cache)
    assert ended(process, LIMIT), said(process)
    assert process.returncode == 0, said(process)
  return arrays(own / 'result.npz'), time.monotonic() - begun


def killed_at_random(
  kind: str,
  most: int,
  seconds: float,
  folder: pathlib.Path,
  cache: pathlib.Path,
  expected: dict[str, np.ndarray],
) -> int:
  """Kills victims so many times, each until it has come to its end as `expected`; the updates lost by one at most."""
  chance, kills, most_lost, number = random.Random(kind), 0, 0, 0
  while kills < most:
    own = folder / f'{kind} {number}'
    number += 1
    own.mkdir()
    while True:
      process = started([sys.executable, str(VICTIM), kind, str(own)], cache)
      # From the first imports on, as it happens.
      if kills >= most or ended(process, chance.uniform(0.2, 1.0) * seconds):
        assert ended(process, LIMIT)
        assert process.returncode == 0, said(process)
        break
      kills += 1
      if kind in ('sweep', 'host_steps'):
        most_lost = max(most_lost, lost(own))
    check_same(arrays(own / 'result.npz'), expected)
  return most_lost


def killed_within_saves(
  kind: str, most: int, folder: pathlib.Path, cache: pathlib.Path, expected: dict[str, np.ndarray]
) -> int:
  """Lets one victim kill itself within saves, so many times at most; how many times it did."""
  chance, kills = random.Random(f'saves of a {kind}'), 0
  own = folder / f'{kind} within saves'
  own.mkdir()
  for number in [*chance.sample(range(1, 16), most), None]:
    process = started(
      [sys.executable, str(VICTIM), kind, str(own), *([str(number)] if number else [])], cache
    )
    assert ended(process, LIMIT)
    if process.returncode == 0:  # the last, or it had fewer saves left
      break
    assert process.returncode == -9, said(process)
    kills += 1
  check_same(arrays(own / 'result.npz'), expected)
  return kills
