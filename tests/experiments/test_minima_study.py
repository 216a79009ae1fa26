"""The study of minima from the command line: a tiny run of the whole, resumption, and refusals."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from configs import minima, minima_full
from experiments import graded
from experiments.minima import arms, claims
from experiments.minima.study import Study
from gdlab import load
from gdlab.claims import read_claims
from gdlab.errors import InputError

TINY = (
  '--config.num_seeds=4',
  '--config.hidden_of_trap=4',
  '--config.members=2',
  '--config.ensemble_width=4',
  '--config.valleys.num_seeds=4',
  '--config.valleys.num_examples=64',
  '--config.valleys.batch_sizes=(1,4)',
  '--config.valleys.learning_rates=(0.02,0.04)',
  '--config.valleys.updates=200',
  '--config.valleys.return_updates=50',
  '--config.valleys.records=2',
  '--config.escape.num_seeds=6',
  '--config.escape.barriers=(1.5,2.0)',
  '--config.dose.num_seeds=4',
  '--config.dose.num_tuning_seeds=2',
  '--config.dose.updates=50',
  '--config.dose.learning_rates=(0.001,0.002)',
  '--config.dose.levels=(0.0,4.0)',
  '--config.dose_network.num_seeds=4',
  '--config.dose_network.num_tuning_seeds=2',
  '--config.dose_network.updates=10',
  '--config.dose_network.hidden=4',
  '--config.dose_network.learning_rates=(0.1,0.3)',
  '--config.dose_network.levels=(0.0,0.001)',
  '--config.trap.learning_rates=(0.1,0.3)',
  '--config.trap.num_tuning_seeds=2',
  '--config.trap.epochs=1',
  '--config.trap.return_epochs=1',
  '--config.widths.hidden=(2,4)',
  '--config.widths.learning_rates=(0.03,0.1)',
  '--config.widths.num_tuning_seeds=2',
  '--config.widths.epochs=2',
  '--config.widths.pairs=2',
  '--config.widths.points=5',
)


def script(*arguments: str, timeout: float = 900) -> subprocess.CompletedProcess:
  """Runs the script as a user would."""
  command = [sys.executable, '-m', 'experiments.minima', *arguments]
  return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> tuple[pathlib.Path, subprocess.CompletedProcess]:
  """A finished tiny study and what it printed."""
  workdir = tmp_path_factory.mktemp('study')
  return workdir, script(f'--workdir={workdir}', *TINY)


@pytest.mark.slow
def test_a_study_runs_to_its_report(finished):
  workdir, process = finished
  assert process.returncode == 0, process.stderr
  assert str(workdir / 'report.html') in process.stdout.splitlines()[-1]
  assert 'Warning' not in process.stderr
  for name in ('claims.json', 'replication.json'):
    objects = json.loads((workdir / name).read_text())
    assert [claim['id'] for claim in objects] == [f'N{number}' for number in range(1, 8)]


@pytest.mark.slow
def test_the_report_has_its_pictures_and_needs_no_other_file(finished):
  workdir, _ = finished
  page = (workdir / 'report.html').read_text()
  assert page.count('<svg') == len(list((workdir / 'figures').glob('*.svg'))) == 12
  references = re.findall(r'(?:src|href)="([^"#][^"]*)"', page)
  assert not references, references
  assert not list(workdir.glob('.*')), 'temporary files were left behind'


@pytest.mark.slow
def test_verdicts_follow_from_the_stored_results(finished):
  workdir, _ = finished
  results = {file.stem: load(file) for file in (workdir / 'results').glob('*.nc')}
  config = minima.get_config()
  with config.unlocked():
    config.update(json.loads(results['clock'].attrs['config']))
  for first_seed, name in zip(config.first_seeds, ('claims.json', 'replication.json'), strict=True):
    recomputed = graded.grade_all(claims.CLAIMS, Study(config, results, first_seed))
    for ours, stored in zip(recomputed, read_claims(workdir / name), strict=True):
      # NaN differs from itself, and files hold null for what is not finite, so verdicts and texts are compared.
      assert (ours.id, ours.verdict, ours.conditions) == (stored.id, stored.verdict, stored.conditions)
      assert [part.verdict for part in ours.parts] == [part.verdict for part in stored.parts]


@pytest.mark.slow
def test_a_killed_study_goes_on_from_its_finished_cells(finished):
  workdir, _ = finished
  files = sorted((workdir / 'results').glob('*.nc'))
  (workdir / 'results' / 'ensembles_4.nc').unlink()
  kept = {file: file.stat().st_mtime_ns for file in files if file.exists()}
  verdicts = (workdir / 'claims.json').read_bytes()
  again = script(f'--workdir={workdir}', *TINY)
  assert again.returncode == 0, again.stderr
  assert again.stderr.count(': found') == len(kept)
  assert {file: file.stat().st_mtime_ns for file in kept} == kept
  # What is measured again from the same seeds is the same.
  assert (workdir / 'claims.json').read_bytes() == verdicts


@pytest.mark.slow
def test_a_bad_configuration_is_refused_in_one_line(tmp_path):
  process = script(f'--workdir={tmp_path / "w"}', '--config.dataset=digit')
  lines = process.stderr.strip().splitlines()
  assert process.returncode == 2, process
  assert len(lines) == 1, lines
  assert 'digit' in lines[0]


@pytest.mark.parametrize('module', [minima, minima_full])
def test_the_configurations_are_accepted(module):
  arms.check(module.get_config())


@pytest.mark.parametrize(
  ('name', 'value', 'words'),
  [
    ('num_seeds', 0, ('num_seeds', '0')),
    ('first_seeds', (1000, 1010), ('first_seeds', '1010')),
    ('first_seeds', (1000, 999_990), ('first_seeds',)),
    ('members', 1, ('members', '1')),
    ('ensemble_width', 5, ('ensemble_width', '5')),
    ('valleys.learning_rate', 0.3, ('valleys.learning_rate', '0.3')),
    ('valleys.batch_sizes', (2, 4), ('valleys.batch_sizes', '(2, 4)')),
    ('valleys.temperature', 0.0, ('valleys.temperature', '0.0')),
    ('escape.barriers', (4.0, 3.0), ('escape.barriers', 'ascending')),
    ('escape.batch_sizes', (1,), ('escape.batch_sizes',)),
    ('dose.levels', (1.0, 2.0), ('dose.levels', '0')),
    ('widths.hidden', (4, 4), ('widths.hidden', '(4, 4)')),
    ('widths.pairs', 1000, ('widths.pairs', '1000')),
  ],
)
def test_what_the_study_could_not_finish_with_is_refused(name, value, words):
  config = minima.get_config()
  section, _, key = name.rpartition('.')
  (config[section] if section else config).update({key: value})
  with pytest.raises(InputError) as refused:
    arms.check(config)
  for word in words:
    assert word in str(refused.value)
