"""The study of the variants from the command line: a tiny run of the whole, resumption, and refusals."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from configs import variants
from experiments.variants import claims
from experiments.variants.study import Study
from gdlab import load
from gdlab.claims import read_claims
from gdlab.study import graded

TINY = (
  '--config.num_seeds=3',
  '--config.num_tuning_seeds=1',
  '--config.hidden=(4,)',
  '--config.batch_sizes=(1,32)',
  '--config.learning_rates=(0.1,1.0)',
  '--config.epochs=1',
  '--config.min_updates=5',
  '--config.population=200',
  '--config.timing.repeats=3',
  '--config.timing.seconds=0.002',
  '--config.timing.powers=(32,)',
  '--config.noise.num_batches=20',
  '--config.smoothness.num_updates=5',
  '--config.evaluations=10',
  '--config.floor.epochs=8',
  '--config.convex.num_steps=20',
  '--config.convex.num_seeds=2',
  '--config.paths.num_updates=5',
)


def script(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess:
  """Runs the script as a user would."""
  command = [sys.executable, '-m', 'experiments.variants', *arguments]
  return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> tuple[pathlib.Path, subprocess.CompletedProcess]:
  """A finished tiny study and what it printed."""
  workdir = tmp_path_factory.mktemp('study')
  return workdir, script(f'--workdir={workdir}', *TINY)


def test_a_study_runs_to_its_report(finished):
  workdir, process = finished
  assert process.returncode == 0, process.stderr
  assert str(workdir / 'report.html') in process.stdout.splitlines()[-1]
  assert 'full batch' in process.stdout
  assert 'V13' in process.stdout
  assert 'Warning' not in process.stderr
  objects = json.loads((workdir / 'claims.json').read_text())
  assert [claim['id'] for claim in objects] == [f'V{number}' for number in range(1, 14)]
  for identity in ('V1', 'V3', 'V4'):
    assert objects[int(identity[1:]) - 1]['verdict'] == 'supported', identity


def test_the_report_needs_no_other_file(finished):
  workdir, _ = finished
  page = (workdir / 'report.html').read_text()
  assert page.count('<svg') == 8
  references = re.findall(r'(?:src|href)="([^"#][^"]*)"', page)
  assert not references, references
  assert not list(workdir.glob('.*')), 'temporary files were left behind'


def test_verdicts_follow_from_the_stored_results(finished):
  workdir, _ = finished
  results = {file.stem: load(file) for file in (workdir / 'results').glob('*.nc')}
  config = variants.get_config()
  with config.unlocked():
    config.update(json.loads(results['timing'].attrs['config']))
  recomputed = graded.grade_all(claims.CLAIMS, Study(config, results))
  for ours, stored in zip(recomputed, read_claims(workdir / 'claims.json'), strict=True):
    # NaN differs from itself, so the numbers are compared as text.
    assert repr(ours) == repr(stored)


@pytest.mark.slow
def test_a_second_start_measures_nothing_and_overwrites_nothing(finished):
  workdir, _ = finished
  files = sorted((workdir / 'results').glob('*.nc'))
  before = [file.stat().st_mtime_ns for file in files]
  verdicts = (workdir / 'claims.json').read_bytes()
  again = script(f'--workdir={workdir}', *TINY)
  assert again.returncode == 0, again.stderr
  assert again.stderr.count(': found') == len(files)
  assert [file.stat().st_mtime_ns for file in files] == before
  assert (workdir / 'claims.json').read_bytes() == verdicts


@pytest.mark.slow
def test_a_missing_cell_is_measured_again(finished):
  workdir, _ = finished
  (workdir / 'results' / 'counts.nc').unlink()
  again = script(f'--workdir={workdir}', *TINY)
  assert again.returncode == 0, again.stderr
  assert (workdir / 'results' / 'counts.nc').exists()


def assert_refused(process: subprocess.CompletedProcess, *words: str) -> None:
  """Refused at once: status 2 and one line that holds the words."""
  lines = process.stderr.strip().splitlines()
  assert process.returncode == 2, process
  assert len(lines) == 1, lines
  assert lines[0].startswith('error: ')
  for word in words:
    assert word in lines[0]


def test_another_configuration_in_the_same_folder_is_refused(finished):
  workdir, _ = finished
  assert_refused(script(f'--workdir={workdir}', *TINY, '--config.epochs=2'), 'epochs', str(workdir))


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ((), ('--workdir',)),
    (('--workdir=W', '--config.num_seedz=3'), ('num_seedz', "'num_seeds'")),
    pytest.param(('--workdir=W', '--config.num_seeds=abc'), ('num_seeds',), marks=pytest.mark.slow),
    pytest.param(('--workdir=W', '--wrkdir=x'), ('wrkdir',), marks=pytest.mark.slow),
    pytest.param(('--workdir=W', 'stray'), ('stray',), marks=pytest.mark.slow),
    pytest.param(('--workdir=W', '--config=nowhere.py'), ('nowhere.py',), marks=pytest.mark.slow),
    (('--workdir=W', '--config.dataset=digit'), ('digit', "'digits'")),
    pytest.param(('--workdir=W', '--config.num_seeds=0'), ('num_seeds', '0'), marks=pytest.mark.slow),
    pytest.param(('--workdir=W', '--config.batch_sizes=(0,)'), ('batch_size', '0'), marks=pytest.mark.slow),
    pytest.param(('--workdir=W', '--config.mini_batch=33'), ('mini_batch', '33'), marks=pytest.mark.slow),
  ],
)
def test_bad_input_is_refused_in_one_line(arguments, words, tmp_path):
  workdir = tmp_path / 'study'
  arguments = [f'--workdir={workdir}' if argument == '--workdir=W' else argument for argument in arguments]
  assert_refused(script(*arguments), *words)
  assert not workdir.exists() or not list((workdir / 'results').glob('*.nc'))


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
  occupied = tmp_path / 'file'
  occupied.write_text('mine')
  assert_refused(script(f'--workdir={occupied}'), 'workdir', str(occupied))
  assert occupied.read_text() == 'mine'


def test_missing_data_are_named(tmp_path):
  missing = {'GDLAB_DATA': str(tmp_path), 'XDG_CACHE_HOME': str(tmp_path)}
  process = subprocess.run(
    [
      sys.executable,
      '-m',
      'experiments.variants',
      '--config=configs/variants_mnist.py',
      f'--workdir={tmp_path / "w"}',
    ],
    capture_output=True,
    text=True,
    env=os.environ | missing | {'https_proxy': 'http://127.0.0.1:9'},  # nothing answers there
    timeout=120,
    check=False,
  )
  assert_refused(process, 'train-images-idx3-ubyte', 'GDLAB_DATA')
