"""The study of batch sizes from the command line: a tiny run of the whole, a killed run, and the full configuration."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from configs import batch_size, batch_size_full
from experiments.batch_size import checks, claims
from experiments.batch_size.study import Study
from gdlab import load
from gdlab.claims import read_claims
from gdlab.study import graded

TINY = (
  '--config.first_seeds=(0,500)',
  '--config.num_seeds=2',
  '--config.num_tuning_seeds=1',
  '--config.hidden=(4,)',
  '--config.batch_sizes=(32,)',
  '--config.num_train=128',
  '--config.num_validation=60',
  '--config.learning_rates=(0.1,0.5)',
  '--config.momenta=(0.0,)',
  '--config.epochs=3',
  '--config.updates=12',
  '--config.evaluations=3',
  '--config.lanes_per_block=4',
  '--config.clock.repeats=2',
  '--config.clock.seconds=0.001',
  '--config.cnn.features=(2,)',
  '--config.cnn.num_seeds=2',
  '--config.cnn.momenta=(0.0,)',
  '--config.norm.num_seeds=2',
  '--config.norm.momenta=(0.0,)',
  '--config.norm.epochs=2',
  '--config.sharpness.num_seeds=2',
  '--config.sharpness.cooling_updates=2',
  '--config.sharpness.cooling_limit=20',
  '--config.cnn.epochs=1',
  '--config.cnn.updates=2',
  '--config.norm.updates=2',
  '--config.sharpness.target.clean=2.2',
  '--config.sharpness.target.noisy=2.25',
  '--config.sharpness.settings=((0.1,0.0),(0.5,0.0))',
  '--config.sharpness.probes=2',
  '--config.steps.batch_sizes=(1,4,16,128)',
  '--config.steps.learning_rates=(0.1,0.3)',
  '--config.steps.target_loss=2.2',
  '--config.steps.budget_updates=40',
  '--config.steps.budget_examples=100',
  '--config.steps.records=10',
  '--config.steps.base=4',
  '--config.steps.scale_records=3',
  '--config.steps.scale_seeds=2',
  '--config.steps.probes=2',
  '--config.adam.batch_sizes=(16,)',
  '--config.adam.learning_rates=(0.01,0.03)',
  '--config.growth.epochs=(1,2,3)',
  '--config.growth.learning_rates=(0.1,0.3)',
)
COMMAND = (sys.executable, '-m', 'experiments.batch_size')
# One device: the suite's four would share its cores, and cost four times the programs.
ENVIRONMENT = os.environ | {'JAX_NUM_CPU_DEVICES': '1'}


def script(*arguments: str, timeout: float = 900) -> subprocess.CompletedProcess:
  """Runs the script as a user would."""
  return subprocess.run(
    [*COMMAND, *arguments], capture_output=True, text=True, timeout=timeout, check=False, env=ENVIRONMENT
  )


def killed_after(cell: str, workdir: pathlib.Path, *arguments: str) -> None:
  """Runs the script until that cell is there."""
  command = [*COMMAND, f'--workdir={workdir}', *arguments]
  study = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
  until = time.monotonic() + 300
  while not (workdir / 'results' / f'{cell}.nc').exists():
    assert time.monotonic() < until
    assert study.poll() is None
    time.sleep(0.2)
  study.send_signal(signal.SIGKILL)
  study.wait()


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> pathlib.Path:
  """A tiny study that was killed after its first cells and went on."""
  workdir = tmp_path_factory.mktemp('study')
  killed_after('arm_clean_b32', workdir, *TINY)
  second = script(f'--workdir={workdir}', *TINY)
  assert second.returncode == 0, second.stderr
  assert second.stderr.count(': found') >= 3
  assert 'Warning' not in second.stderr
  assert str(workdir / 'report.html') in second.stdout.splitlines()[-1]
  return workdir


@pytest.mark.slow
def test_verdicts_follow_from_the_stored_results(finished):
  results = {file.stem: load(file) for file in (finished / 'results').glob('*.nc')}
  config = batch_size.get_config()
  with config.unlocked():
    config.update(json.loads(results['clock'].attrs['config']))
  for name, seed in zip(('claims.json', 'replication.json'), config.first_seeds, strict=True):
    recomputed = graded.grade_all(claims.CLAIMS, Study(config, results, seed))
    stored = read_claims(finished / name)
    assert [finding.id for finding in stored] == [f'G{number}' for number in range(1, 9)]
    for ours, theirs in zip(recomputed, stored, strict=True):
      # Verdicts, estimates, intervals, counts and words of every part. NaN differs from itself, hence as text.
      assert repr(ours) == repr(theirs)
      assert len(ours.parts) == len(claims.CLAIMS[ours.id].effects)


@pytest.mark.slow
def test_the_report_has_its_pictures_and_needs_no_other_file(finished):
  page = (finished / 'report.html').read_text()
  assert page.count('<svg') == 15
  assert len(list((finished / 'figures').glob('*.svg'))) == 15
  references = re.findall(r'(?:src|href)="(?!#|data:)([^"]+)"', page)
  assert not references, references
  assert not list(finished.glob('.*')), 'temporary files were left behind'


def test_the_full_configuration_is_sound():
  config = batch_size_full.get_config()
  checks.check(config)

  def keys(values):
    return {key: keys(value) if isinstance(value, dict) else None for key, value in values.items()}

  # What it changes must be there to be changed, in sections too.
  assert keys(config.to_dict()) == keys(batch_size.get_config().to_dict())


@pytest.mark.slow
def test_the_full_configuration_runs_when_it_is_shrunk(tmp_path):
  killed_after(
    'clock', tmp_path, '--config=configs/batch_size_full.py', '--config.dataset=digits', *TINY,
    '--config.mini_batch=32', '--config.growth.batch_size=8',
  )  # fmt: skip


@pytest.mark.parametrize(
  ('argument', 'word'),
  [('--config.dataset=digit', "'digits'"), ('--config.growth.bench=noise', "'noisy'")],
)
def test_bad_input_is_refused_in_one_line(tmp_path, argument, word):
  done = script(f'--workdir={tmp_path / "w"}', argument)
  lines = done.stderr.strip().splitlines()
  assert done.returncode == 2
  assert len(lines) == 1
  assert word in lines[0]
  assert not list((tmp_path / 'w' / 'results').glob('*.nc'))
