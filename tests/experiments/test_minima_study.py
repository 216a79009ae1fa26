"""The study of minima from the command line: a tiny run of the whole, resumption, and refusals."""

import json
import math
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from configs import minima, minima_full
from experiments.minima import checks, claims
from experiments.minima.conditions import Graded
from gdlab import load
from gdlab.claims import read_claims
from gdlab.core.errors import InputError
from gdlab.study import graded

TINY = (
  '--config.num_seeds=4',
  '--config.hidden_of_trap=4',
  '--config.members=2',
  '--config.ensemble_width=4',
  '--config.valleys.num_seeds=4',
  '--config.valleys.num_examples=64',
  '--config.valleys.batch_sizes=(1,4)',
  '--config.valleys.learning_rates=(0.02,0.04)',
  '--config.valleys.updates=1000',
  '--config.valleys.lower_rate=0.02',
  '--config.valleys.learning_rate=0.04',
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
def finished(tmp_path_factory) -> tuple[pathlib.Path, subprocess.CompletedProcess, dict[pathlib.Path, int]]:
  """A tiny study that was killed and went on, what the second process printed, and the files the first left."""
  workdir = tmp_path_factory.mktemp('study')
  command = [sys.executable, '-m', 'experiments.minima', f'--workdir={workdir}', *TINY]
  first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  until = time.monotonic() + 400
  while not (workdir / 'results' / 'escape_b1.nc').exists():
    assert time.monotonic() < until
    assert first.poll() is None
    time.sleep(0.2)
  first.send_signal(signal.SIGKILL)
  first.wait()
  kept = {file: file.stat().st_mtime_ns for file in (workdir / 'results').glob('[!.]*.nc')}
  return workdir, script(f'--workdir={workdir}', *TINY), kept


@pytest.mark.slow
def test_a_study_runs_to_its_report(finished):
  workdir, process, _ = finished
  assert process.returncode == 0, process.stderr
  assert str(workdir / 'report.html') in process.stdout.splitlines()[-1]
  assert 'Warning' not in process.stderr
  for name in ('claims.json', 'replication.json'):
    objects = json.loads((workdir / name).read_text())
    assert [claim['id'] for claim in objects] == [f'N{number}' for number in range(1, 8)]


@pytest.mark.slow
def test_the_report_has_its_pictures_and_needs_no_other_file(finished):
  workdir, _, _ = finished
  page = (workdir / 'report.html').read_text()
  assert page.count('<svg') == len(list((workdir / 'figures').glob('*.svg'))) == 12
  references = re.findall(r'(?:src|href)="([^"#][^"]*)"', page)
  assert not references, references
  assert not list(workdir.glob('.*')), 'temporary files were left behind'


@pytest.mark.slow
def test_verdicts_follow_from_the_stored_results(finished):
  workdir, _, _ = finished
  results = {file.stem: load(file) for file in (workdir / 'results').glob('*.nc')}
  config = minima.get_config()
  with config.unlocked():
    config.update(json.loads(results['clock'].attrs['config']))
  for first_seed, name in zip(config.first_seeds, ('claims.json', 'replication.json'), strict=True):
    recomputed = graded.grade_all(claims.CLAIMS, Graded(config, results, first_seed))
    for ours, stored in zip(recomputed, read_claims(workdir / name), strict=True):
      assert flat(ours) == flat(stored)


def flat(finding) -> list[str]:
  """A finding's fields as text, since NaN differs from itself; files hold null for what is not finite."""
  records = (finding._replace(parts=()), *finding.parts)
  return [
    'not finite' if isinstance(value, float) and not math.isfinite(value) else repr(value)
    for record in records
    for value in record
  ]


@pytest.mark.slow
def test_a_killed_study_goes_on_from_its_finished_cells(finished):
  _, process, kept = finished
  assert process.returncode == 0, process.stderr
  assert len(kept) >= 5
  assert process.stderr.count(': found') == len(kept)
  assert {file: file.stat().st_mtime_ns for file in kept} == kept


@pytest.mark.slow
def test_a_bad_configuration_is_refused_in_one_line(tmp_path):
  process = script(f'--workdir={tmp_path / "w"}', '--config.dataset=digit')
  lines = process.stderr.strip().splitlines()
  assert process.returncode == 2, process
  assert len(lines) == 1, lines
  assert 'digit' in lines[0]


@pytest.mark.parametrize('module', [minima, minima_full])
def test_the_configurations_are_accepted(module):
  checks.check(module.get_config())


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
    ('valleys.escapes', 0.0, ('valleys.escapes', '0.0')),
    ('valleys.escapes', 1000.0, ('valleys.escapes', '1000.0')),
    ('valleys.lower_rate', 0.02, ('valleys.lower_rate', '0.02')),
    ('valleys.patience', 0.5, ('valleys.patience', '0.5')),
    ('valleys.start_scale', -1.0, ('valleys.start_scale', '-1.0')),
    ('valleys.batch_sizes', (), ('valleys.batch_sizes', '()')),
    ('valleys.batch_sizes', (0, 1, 4), ('valleys.batch_sizes', '0', '>= 1')),
    ('escape.batch_sizes', (0, 4), ('escape.batch_sizes', '0', '>= 1')),
    ('first_seeds', (1000, 11_000), ('first_seeds', '10000', '11000')),
    ('first_seeds', (1000, 1.5), ('first_seeds', '1.5')),
    ('dose.learning_rates', (0.001, 'a'), ('dose.learning_rates', "'a'")),
    ('dose.learning_rates', (), ('dose.learning_rates', '()')),
    ('dose_network.num_examples', 1000, ('dose_network.num_examples', '1000', '718')),
    ('trap.batch_size', 0, ('trap.batch_size', '0')),
    ('widths.batch_size', 0, ('widths.batch_size', '0')),
    ('widths.points', 1, ('widths.points', '1', '>= 3')),
    ('widths.hidden', (), ('widths.hidden', '()')),
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
  with config.ignore_type():
    (config[section] if section else config)[key] = value
  with pytest.raises(InputError) as refused:
    checks.check(config)
  for word in words:
    assert word in str(refused.value)
  assert '\n' not in str(refused.value)
