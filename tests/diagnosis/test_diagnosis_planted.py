"""Planted faults and sound runs: the whole checking set is named well enough. Some 35 minutes on two busy cores."""

import subprocess
import sys

import numpy as np
import pytest

from gdlab import load

pytestmark = pytest.mark.slow


def test_the_checking_set(tmp_path):
  command = [sys.executable, '-m', 'experiments.diagnosis_check', f'--workdir={tmp_path}']
  done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)
  assert done.returncode == 0, done.stderr
  right = {True: [], False: []}
  for file in (tmp_path / 'results').glob('*.nc'):
    result = load(file)
    right[result.attrs['kind'] == 'sound'].append(result.right.values.astype(bool))
  sound, faulty = np.concatenate(right[True]), np.concatenate(right[False])
  assert (len(faulty), len(sound)) == (140, 80)
  assert faulty.sum() >= 133
  assert sound.sum() >= 76
