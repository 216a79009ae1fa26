"""The study of saddles from the command line: a tiny run of the whole, one that is killed, and refusals."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest

from configs import saddles
from experiments import graded
from experiments.saddles import claims
from experiments.saddles.study import Study
from gdlab import load
from gdlab.claims import read_claims

TINY = (
  '--config.first_seeds=(0,500)',
  '--config.num_seeds=3',
  '--config.num_tuning_seeds=1',
  '--config.fields.dimensions=(1,2,3)',
  '--config.fields.num_features=16',
  '--config.fields.num_starts=16',
  '--config.search.widths=(1,2)',
  '--config.search.num_examples=32',
  '--config.search.num_starts=16',
  '--config.network.hidden=2',
  '--config.network.num_examples=64',
  '--config.network.num_starts=96',
  "--config.race.generic=('network',)",
  "--config.race.symmetric=('twins',)",
  '--config.race.multiples=(0.5,1.0)',
  '--config.race.near_multiples=(0.5,1.0)',
  '--config.race.momentum_multiples=(1.0,3.0)',
  '--config.race.adam_rates=(0.01,0.1)',
  '--config.race.evaluations=20',
  '--config.race.folds=5.0',
  '--config.race.most_updates=100',
  '--config.race.mini_batch=8',
  '--config.race.timing_repeats=2',
  '--config.race.timing_updates=20',
  '--config.growth.strengths=(0.03,0.1)',
  '--config.growth.betas=(0.0,0.9)',
  '--config.growth.scales=(0.5,2.0)',
  '--config.growth.batch_sizes=(1,)',
  '--config.growth.repeats=2',
  '--config.chain.dimension=4',
  '--config.chain.long=4',
  '--config.chain.rates=(0.2,0.25,0.7)',
  '--config.chain.limit=600',
  '--config.training.hidden=2',
  '--config.training.num_seeds=2',
  '--config.training.num_updates=60',
  '--config.training.num_control_seeds=2',
  '--config.training.record_every=10',
  '--config.training.num_curvatures=2',
  '--config.training.target_loss=1.5',
)


def command(*arguments: str) -> list[str]:
  """As a user would type it."""
  return [sys.executable, '-m', 'experiments.saddles', *arguments]


def script(*arguments: str) -> subprocess.CompletedProcess:
  """Runs the script to its end."""
  return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=900, check=False)


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> tuple[pathlib.Path, subprocess.CompletedProcess]:
  """A finished tiny study and what it printed."""
  workdir = tmp_path_factory.mktemp('saddles')
  return workdir, script(f'--workdir={workdir}', *TINY)


@pytest.mark.slow
def test_a_study_runs_to_its_report(finished):
  workdir, process = finished
  assert process.returncode == 0, process.stderr
  assert str(workdir / 'report.html') in process.stdout.splitlines()[-1]
  assert 'Warning' not in process.stderr
  for name in ('claims', 'replication'):
    objects = json.loads((workdir / f'{name}.json').read_text())
    assert [claim['id'] for claim in objects] == [f'S{number}' for number in range(1, 7)]


@pytest.mark.slow
def test_the_report_has_its_pictures_and_needs_no_other_file(finished):
  workdir, _ = finished
  page = (workdir / 'report.html').read_text()
  assert page.count('<svg') == len(list((workdir / 'figures').glob('*.svg'))) == 13
  references = re.findall(r'(?:src|href)="([^"#][^"]*)"', page)
  assert not references, references
  assert not list(workdir.glob('.*')), 'temporary files were left behind'


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'which'), [('claims', 0), ('replication', 1)])
def test_verdicts_follow_from_the_stored_results(finished, name, which):
  workdir, _ = finished
  results = {file.stem: load(file) for file in (workdir / 'results').glob('*.nc')}
  config = saddles.get_config()
  with config.unlocked():
    config.update(json.loads(results['timing'].attrs['config']))
  recomputed = graded.grade_all(claims.CLAIMS, Study(config, results, config.first_seeds[which]))
  for ours, stored in zip(recomputed, read_claims(workdir / f'{name}.json'), strict=True):
    # NaN differs from itself, so the numbers are compared as text.
    assert repr(ours) == repr(stored)


@pytest.mark.slow
def test_a_killed_study_goes_on(finished, tmp_path):
  workdir, _ = finished
  folder = tmp_path / 'results'
  shutil.copytree(workdir / 'results', folder)
  verdicts = (workdir / 'claims.json').read_bytes()
  lost = ('quadratic_0', 'scales', 'chain_plain')
  for name in lost:
    (folder / f'{name}.nc').unlink()
  process = subprocess.Popen(
    command(f'--workdir={tmp_path}', *TINY), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  )
  while not (folder / 'quadratic_0.nc').exists() and process.poll() is None:
    time.sleep(0.05)
  process.kill()
  process.wait()
  measured = (folder / 'quadratic_0.nc').stat().st_mtime_ns
  again = script(f'--workdir={tmp_path}', *TINY)
  assert again.returncode == 0, again.stderr
  assert (folder / 'quadratic_0.nc').stat().st_mtime_ns == measured
  assert (tmp_path / 'claims.json').read_bytes() == verdicts


@pytest.mark.slow
def test_bad_input_is_refused_in_one_line(tmp_path):
  process = script(f'--workdir={tmp_path / "w"}', '--config.num_seeds=0')
  lines = process.stderr.strip().splitlines()
  assert process.returncode == 2
  assert len(lines) == 1
  assert lines[0].startswith('error: ')
  assert 'num_seeds' in lines[0]
