"""kill -9 at random moments of sweeps, comparisons and studies, also within saves: the end is as without."""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest

import gdlab
from gdlab.host import checkpoints

pytestmark = pytest.mark.faults

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


@pytest.fixture(scope='module')
def cache(tmp_path_factory) -> pathlib.Path:
  return tmp_path_factory.mktemp('compiled')


@pytest.fixture(scope='module')
def whole(tmp_path_factory, cache):
  """What every kind of victim finds when it is left alone, and the seconds that it takes when compiled before."""
  known = {}

  def of(kind: str) -> tuple[dict[str, np.ndarray], float]:
    if kind not in known:
      for _ in range(2):
        folder = tmp_path_factory.mktemp(kind)
        begun = time.monotonic()
        process = started([sys.executable, str(VICTIM), kind, str(folder)], cache)
        assert ended(process, LIMIT), said(process)
        seconds = time.monotonic() - begun
        assert process.returncode == 0, said(process)
      known[kind] = arrays(folder / 'result.npz'), seconds
    return known[kind]

  return of


def check_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
  assert found.keys() == expected.keys()
  for name, values in expected.items():
    assert np.array_equal(found[name], values, equal_nan=True), name


@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
  ('kind', 'most'), [('sweep', 15), ('halving', 5), ('host_steps', 5), ('compare', 10)]
)
def test_kills_at_random_moments(tmp_path, cache, whole, kind, most):
  expected, seconds = whole(kind)
  chance, kills, most_lost = random.Random(kind), 0, 0
  while kills < most:
    folder = tmp_path / str(kills)
    folder.mkdir()
    while True:  # until it comes to its end
      process = started([sys.executable, str(VICTIM), kind, str(folder)], cache)
      # From the first imports on, as it happens.
      if kills < most and not ended(process, chance.uniform(0.2, 1.0) * seconds):
        kills += 1
        if kind in ('sweep', 'host_steps'):
          most_lost = max(most_lost, lost(folder))
        continue
      assert ended(process, LIMIT)
      assert process.returncode == 0, said(process)
      break
    check_same(arrays(folder / 'result.npz'), expected)
  assert kills == most
  assert most_lost <= MOST_LOST
  print(f'kills survived: {kills} of a {kind}; updates lost by one: {most_lost} at most')


@pytest.mark.timeout(1500)
@pytest.mark.parametrize('kind', ['sweep', 'halving', 'compare'])
def test_kills_within_saves(tmp_path, cache, whole, kind):
  expected, _ = whole(kind)
  chance, kills = random.Random(f'saves of a {kind}'), 0
  for number in chance.sample(range(1, 60), 6):
    process = started([sys.executable, str(VICTIM), kind, str(tmp_path), str(number)], cache)
    assert ended(process, LIMIT)
    if process.returncode == 0:  # it had fewer saves left
      break
    assert process.returncode == -9, said(process)
    kills += 1
  if process.returncode:
    process = started([sys.executable, str(VICTIM), kind, str(tmp_path)], cache)
    assert ended(process, LIMIT)
    assert process.returncode == 0, said(process)
  check_same(arrays(tmp_path / 'result.npz'), expected)
  assert kills >= 3
  print(f'kills survived: {kills} within saves of a {kind}')


def study_found(workdir: pathlib.Path) -> dict:
  """The verdicts and the numbers of a study, without when and how fast they were made."""
  claims = json.loads((workdir / 'claims.json').read_text(encoding='utf-8'))
  found = {}
  for file in sorted((workdir / 'results').glob('*.nc')):
    dataset = gdlab.load(file)
    found |= {f'{file.stem}.{name}': dataset[name].values for name in dataset.data_vars}
  return {'claims': claims, 'numbers': found}


@pytest.mark.timeout(1500)
def test_kills_of_a_study(tmp_path, cache):
  def command(workdir):
    options = ['--config.updates=1500', '--checkpoint_every=0.2', f'--workdir={workdir}']
    return [sys.executable, str(STUDY), *options]

  for name in ('first', 'whole'):  # compiled by the first
    begun = time.monotonic()
    process = started(command(tmp_path / name), cache)
    assert ended(process, LIMIT)
    assert process.returncode == 0, said(process)
    seconds = time.monotonic() - begun
  expected = study_found(tmp_path / 'whole')
  chance, kills = random.Random('study'), 0
  for attempt in range(4):
    workdir = tmp_path / f'killed {attempt}'
    for _ in range(3):
      process = started(command(workdir), cache)
      if ended(process, chance.uniform(0.3, 1.0) * seconds):
        assert process.returncode == 0, said(process)
      else:
        kills += 1
    process = started(command(workdir), cache)
    assert ended(process, LIMIT)
    assert process.returncode == 0, said(process)
    found = study_found(workdir)
    assert found['claims'] == expected['claims']
    check_same(found['numbers'], expected['numbers'])
    assert not (workdir / 'checkpoints').exists()
  assert kills >= 8
  print(f'kills survived: {kills} of a study')
