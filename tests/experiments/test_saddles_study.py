"""The study of saddles from the command line: a tiny run of the whole, one that is killed, and refusals."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from configs import saddles
from experiments.saddles import claims, effects, training
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
  assert page.count('<svg') == len(list((workdir / 'figures').glob('*.svg'))) == 14
  # Within the page itself: its parts, and the cells of a heat map.
  references = re.findall(r'(?:src|href)="(?!#|data:)([^"]*)"', page)
  assert not references, references
  assert not list(workdir.glob('.*')), 'temporary files were left behind'


def stored(workdir: pathlib.Path):
  """The configuration and the results of a finished study."""
  results = {file.stem: load(file) for file in (workdir / 'results').glob('*.nc')}
  config = saddles.get_config()
  with config.unlocked():
    config.update(json.loads(results['timing'].attrs['config']))
  return config, results


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'which'), [('claims', 0), ('replication', 1)])
def test_numbers_follow_from_the_stored_results(finished, name, which):
  config, results = stored(finished[0])
  study = Study(config, results, config.first_seeds[which])
  compared = 0
  for finding in read_claims(finished[0] / f'{name}.json'):
    asked = {effect.name: effect for effect in claims.CLAIMS[finding.id].effects}
    assert [part.effect_name for part in finding.parts] == list(asked)
    assert finding.num_seeds == min(part.num for part in finding.parts if part.num)
    assert finding.conditions == study.conditions(finding.id)
    for part in finding.parts:
      interval = asked[part.effect_name].measure(study)
      # Written as JSON, which has no NaN and no infinity.
      numbers = [number if np.isfinite(number) else np.nan for number in interval[:3]]
      told = [
        number if np.isfinite(number) else np.nan for number in (part.effect, part.ci_low, part.ci_high)
      ]
      assert told == pytest.approx(numbers, nan_ok=True, rel=1e-12), part.effect_name
      compared += np.isfinite(told).sum()
  assert compared >= 40


@pytest.mark.slow
def test_numbers_are_those_of_arithmetic_by_hand(finished):
  config, results = stored(finished[0])
  found = {finding.id: finding.parts for finding in read_claims(finished[0] / 'claims.json')}
  ours = range(config.first_seeds[0], config.first_seeds[0] + config.num_seeds)

  silent = results['at_silent'].sel(arm='mini-batch').transpose('rate', 'seed', ...)
  tuned = silent.updates.values[:, silent.seed.values >= 1_000_000].mean(axis=1).argmin()
  left = silent.escaped.values[tuned][np.isin(silent.seed.values, ours)]
  assert left.size == config.num_seeds
  assert found['S2'][-1].effect == pytest.approx(left.mean())

  runs = results['training_sgd'].transpose('seed', 'step', ...)
  small = runs.full_grad_norm.values <= config.training.near_gradient * runs.attrs['usual_gradient']
  down = (runs.sign.values < 0) & (
    runs.lowest.values <= -config.training.near_curvature * runs.highest.values
  )
  shares = (small & down).sum(axis=1) / np.isfinite(runs.full_grad_norm.values).sum(axis=1)
  mine = np.isin(runs.seed.values, range(ours.start, ours.start + config.training.num_seeds))
  told = Study(config, results, ours.start).time_near('SGD').values
  assert told == pytest.approx(shares[mine])


@pytest.mark.slow
def test_the_control_is_found_next_to_its_saddle():
  config = saddles.get_config()
  config.update({'first_seeds': (0, 500), 'num_seeds': 3, 'num_tuning_seeds': 1})
  config.training.update(
    {'num_seeds': 3, 'num_control_seeds': 3, 'num_updates': 600, 'sgd_rates': (0.3, 1.0)}
  )
  results = {
    training.cell_name(arm): training.training(config, arm, lambda *_: None)
    for arm in ('SGD', training.CONTROL)
  }
  study = Study(config, results, 0)
  assert (study.control_found() > effects.CONTROL_FOUND).all()
  assert (study.time_near(training.CONTROL) > 0.02).all()  # it leaves after about 25 of some 350 updates
  # With the gradient of the study's first run it was hardly found, and with one of a hundredth not at all.
  assert (study.time_near(training.CONTROL, gradient=0.01) < 0.01).all()
  config.training.near_gradient = 0.01
  assert np.isnan(effects.lingers(study, 'SGD').estimate)


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
