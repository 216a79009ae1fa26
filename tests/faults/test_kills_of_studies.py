"""kill -9 at random moments of comparisons and studies, also within saves: the end is as if nothing had been."""

import json
import pathlib
import random
import sys
import time

import pytest
from victims import (
  LIMIT,
  STUDY,
  check_same,
  ended,
  killed_at_random,
  killed_within_saves,
  left_alone,
  said,
  started,
)

import gdlab

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]


def test_kills_of_a_comparison(tmp_path):
  expected, seconds = left_alone('compare', tmp_path, tmp_path)
  killed_at_random('compare', 25, seconds, tmp_path, tmp_path, expected)
  print('kills survived: 25 of a comparison')
  within = killed_within_saves('compare', 6, tmp_path, tmp_path, expected)
  assert within >= 3
  print(f'kills survived: {within} within saves of a comparison')


def study_found(workdir: pathlib.Path) -> dict:
  """The verdicts and the numbers of a study, without when and how fast they were made."""
  claims = json.loads((workdir / 'claims.json').read_text(encoding='utf-8'))
  found = {}
  for file in sorted((workdir / 'results').glob('*.nc')):
    dataset = gdlab.load(file)
    found |= {f'{file.stem}.{name}': dataset[name].values for name in dataset.data_vars}
  return {'claims': claims, 'numbers': found}


def test_kills_of_a_study(tmp_path):
  cache = tmp_path

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
  chance, kills, attempt = random.Random('study'), 0, 0
  while kills < 25:
    workdir, attempt = tmp_path / f'killed {attempt}', attempt + 1
    while True:
      process = started(command(workdir), cache)
      # From the first imports on; later starts have less to do.
      if kills >= 25 or ended(process, chance.uniform(0.1, 0.9) * seconds):
        assert ended(process, LIMIT)
        assert process.returncode == 0, said(process)
        break
      kills += 1
    found = study_found(workdir)
    assert found['claims'] == expected['claims']
    check_same(found['numbers'], expected['numbers'])
    assert not (workdir / 'checkpoints').exists()
  print(f'kills survived: {kills} of a study')
