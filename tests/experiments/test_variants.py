"""The study of the variants: measurements against closed forms, and a tiny run of the whole."""

import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdlab
from configs import variants as defaults
from configs import variants_mnist
from experiments.variants import figures, measure, stream  # noqa: F401, figures register sections
from experiments.variants.study import variants
from gdlab import theory
from gdlab.claims import write_claims
from gdlab.study import graded


def test_refitting_is_least_squares_over_a_window():
  rng = np.random.default_rng(0)
  inputs, targets, ridge = rng.normal(size=(12, 3)), rng.normal(size=12), 1e-3
  for window, errors in zip((12, 4), stream.refitted(inputs, targets, [12, 4], ridge), strict=True):
    for place, error in enumerate(errors):
      x, y = (values[max(0, place - window) : place] for values in (inputs, targets))
      weights = np.linalg.solve(x.T @ x + ridge * np.eye(3), x.T @ y)
      assert error == pytest.approx((targets[place] - inputs[place] @ weights) ** 2)


@pytest.mark.parametrize(('kind', 'finite'), [('with', None), ('without', 6)])
def test_drawn_batches_have_the_variance_of_the_law(kind, finite):
  rows = np.random.default_rng(1).normal(size=(6, 4))
  rows -= rows.mean(axis=0)
  keys = jax.random.split(jax.random.key(2), 4000)
  found = float(measure.mean_square(jnp.asarray(rows @ rows.T, jnp.float32), keys, measure.SAMPLERS[kind](3)))
  # The mean of 4,000 squares; each has a standard deviation of about its mean, so 5 standard errors are 8 %.
  assert found == pytest.approx(theory.mean_variance(np.mean(np.sum(rows**2, axis=1)), 3, finite), rel=0.08)


def test_an_epoch_is_counted():
  assert measure.counted(70, 32, 'without', 1) == (70, 32, 3, 1, 1)
  assert measure.counted(70, 70, 'full', 1) == (70, 70, 1, 1, 1)


def test_the_cost_line_passes_between_relative_errors():
  sizes = np.asarray([1.0, 8, 32, 512])
  line = 2 + 0.1 * sizes
  assert measure.cost_line(sizes, line) == pytest.approx((2, 0.1))
  line[-1] /= 2
  a, b = measure.cost_line(sizes, line)
  errors = (a + b * sizes) / line - 1
  # Of least squares of relative errors: they are orthogonal to both columns of the fit.
  assert [errors @ (1 / line), errors @ (sizes / line)] == pytest.approx([0, 0], abs=1e-9)


def test_every_seed_has_a_division_of_its_own():
  config = variants.config.checked(defaults.get_config().to_dict())
  first, again, other = (measure.drawn(config, seed) for seed in (1, 1, 2))
  sizes = [len(part.targets) for part in (first.train, first.validation, first.test)]
  assert sizes == [config.train, config.validation, 360]
  assert (first.train.inputs == again.train.inputs).all()
  assert (first.train.inputs != other.train.inputs).any()


TINY = """
  seeds.count=3 seeds.tuning=2 seeds.repeats=1 hidden=(4,) batch_sizes=(1,32) population=200 train=200 validation=100
  race.learning_rates=(0.1,1.0) race.epochs=1 race.min_updates=5 race.evaluations=10
  trade.learning_rates=(0.1,1.0) trade.budgets=(2,4,8) trade.tuning=2 trade.num_seeds=2 timing.precision=0.5
  powers.sizes=(16,32) powers.offsets=(1,1) powers.between=(24,) powers.processes=2 powers.rounds=1
  powers.examples=64 noise.num_batches=20 smoothness.num_updates=5 floor.epochs=4 convex.num_steps=20
  convex.num_seeds=2 stream.components=4 stream.learning_rates=(0.1,1.0) stream.windows=(16,64)
"""


def script(*arguments: str, **options) -> subprocess.CompletedProcess:
  """Runs the script as a user would."""
  command = [sys.executable, '-m', 'experiments.variants', *arguments]
  return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, **options)


def test_a_study_runs_to_its_report_and_its_verdicts_follow_from_the_stored_results(tmp_path):
  process = script(
    '--config=configs/variants.py', f'--workdir={tmp_path}', *(f'--config.{each}' for each in TINY.split())
  )
  assert process.returncode == 0, process.stderr
  assert str(tmp_path / 'report.html') in process.stdout.splitlines()[-1]
  assert 'Warning' not in process.stderr
  page = (tmp_path / 'report.html').read_text()
  assert page.count('<svg') >= len(list((tmp_path / 'figures').iterdir())) == 7
  assert not re.findall(r'(?:src|href)="([^"#][^"]*)"', page), 'the page needs other files'
  cells = {file.stem: gdlab.load(file) for file in (tmp_path / 'results').glob('*.nc')}
  config = variants.config.checked(json.loads(cells['timing'].attrs['config']))
  for number, name in enumerate(('claims.json', 'claims-1.json')):
    written = (tmp_path / name).read_text()
    claims = json.loads(written)
    assert [claim['id'] for claim in claims] == [*variants.claims]
    assert all(claims[place]['verdict'] == 'supported' for place in (0, 2, 3)), 'V1, V3 and V4 are identities'
    view = variants.seen(config, number, cells)
    write_claims(tmp_path / 'again.json', graded.grade_all(variants.claims, view))
    assert (tmp_path / 'again.json').read_text() == written
    own = cells[f'arm_mini{"-1" * number}']
    assert own.seed.values.tolist() == [30_000 + 100_000 * number + place for place in range(3)]


def test_of_mnist_two_claims_are_asked():
  config = variants.config.checked(variants_mnist.get_config().to_dict())
  asked = [name for name, when in variants._when.items() if when is None or when(config)]
  assert asked == ['V9', 'V12']
  names = {cell.name for cell in variants.cells(variants_mnist.get_config())}
  expected = {f'{kind}_{name}' for kind in ('tuning', 'arm') for name in ('mini', 'full')}
  assert names == expected | {'timing', 'whole_timing', 'trade_tuning', 'trade'}
  assert [told.heading for told in variants._sections if told.when is None or told.when(config)] == [
    'Speed and quality against batch size',
    'Test accuracy against seconds',
  ]


def test_missing_data_are_named(tmp_path):
  missing = {
    'GDLAB_DATA': str(tmp_path),
    'XDG_CACHE_HOME': str(tmp_path),
    'https_proxy': 'http://127.0.0.1:9',
  }
  process = script(
    '--config=configs/variants_mnist.py', f'--workdir={tmp_path / "w"}', env=os.environ | missing
  )
  assert (process.returncode, process.stderr.count('\n')) == (2, 1), process.stderr
  assert 'train-images-idx3-ubyte' in process.stderr
  assert not list(pathlib.Path(tmp_path).glob('w/results/*'))
