"""The study of planted faults, one case of it: its sets are what they say, and its page holds its counts."""

import collections
import subprocess
import sys

import pytest

from experiments.diagnosis_check import planted


def test_the_sets_have_fourteen_kinds_and_do_not_overlap():
  seeds, counts = {}, {}
  for name, setting in planted.SETTINGS.items():
    kinds = collections.Counter()
    seeds[name] = set()
    for case in planted.cases(setting):
      points = 1
      for values in case.grid.values():
        points *= len(values)
      kinds[case.kind] += points * len(case.seeds)
      seeds[name] |= set(case.seeds)
      assert (case.cause is None) == (case.kind == 'sound')
    counts[name] = kinds
  assert len(set.union(*seeds.values())) == sum(map(len, seeds.values()))
  for kinds in counts.values():
    assert kinds.pop('sound') == 80
    assert len(kinds) == 14
    assert set(kinds.values()) == {10}


@pytest.mark.slow
def test_the_page_of_one_case(tmp_path):
  command = [sys.executable, '-m', 'experiments.diagnosis_check', f'--workdir={tmp_path}']
  command += ['--config.only=tumours: rate too small']
  done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
  assert done.returncode == 0, done.stderr
  assert 'Planted faults named: 2 of 2' in done.stdout
  assert '2 of 2' in (tmp_path / 'report.html').read_text(encoding='utf-8')
