"""Rates and schedules: measurements against what is known, and a tiny run of all cells to verdicts and pictures."""

import ast
import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdlab
from configs import learning_rate as configs
from configs import learning_rate_full
from experiments.learning_rate.rates import claims, effects, exact, figures, measure, tasks
from experiments.learning_rate.study import steps
from gdlab import statistics, theory
from gdlab.claims import read_claims
from gdlab.core.errors import InputError
from gdlab.study import View
from gdlab.study.graded import grade_all
from tests.experiments import test_learning_rate_rates_can_fail as synthetic

TINY = """
rates.num_seeds=3; rates.num_tuning=2; rates.quadratics.num_seeds=2; rates.quadratics.dimension=3;
rates.decays.num_seeds=4; rates.decays.updates=64; rates.schedules.num_train=64; rates.schedules.num_validation=32;
rates.schedules.hidden=(4,); rates.schedules.updates=32; rates.schedules.evaluations=4;
rates.schedules.regression_rates=(0.01, 0.1); rates.schedules.logistic_rates=(0.1, 0.5);
rates.schedules.network_rates=(0.1, 0.5); rates.schedules.prodigy_rates=(0.1, 1.0); rates.warm_up.hidden=(4,);
rates.warm_up.updates=20; rates.warm_up.trained=2.3; rates.warm_up.sgd_peaks=(0.01, 0.1);
rates.warm_up.adam_peaks=(0.01, 0.1); rates.transfer.hidden=2; rates.transfer.wide=4; rates.transfer.batch_size=64;
rates.transfer.epochs=1; rates.transfer.full_updates=11; rates.transfer.learning_rates=(0.0625, 4.0, 128.0);
rates.batches.hidden=(4,); rates.batches.sgd_rates=(0.25, 1.0); rates.batches.adam_rates=(0.01, 0.02);
rates.batches.target=2.2; rates.batches.budget_updates=20; rates.batches.budget_examples=100; rates.batches.records=10
"""


def settings(changes='', given=configs):
  config = given.get_config()
  entries = [each.split('=', 1) for each in changes.split(';') if each.strip()]
  config.update_from_flattened_dict({name.strip(): ast.literal_eval(value) for name, value in entries})
  return steps.config.checked(config.to_dict())


def quiet(*_, **__):
  pass


FEW = 'rates.quadratics.num_seeds=2; rates.quadratics.updates=400; rates.quadratics.momenta=(0.5, 0.9)'


def test_borders_are_those_of_the_roots_of_the_recursion():
  found = measure_border(settings(FEW))
  # Rounding: over 400 updates about 1e-13 of the norm, and the bisection's 3e-14.
  np.testing.assert_allclose(found.over_formula, 1, rtol=0, atol=1e-11)
  assert found.method.values.tolist() == [
    'plain',
    'heavy ball 0.5',
    'heavy ball 0.9',
    'Nesterov 0.5',
    'Nesterov 0.9',
  ]


def measure_border(config):
  return exact.border(config, 10, progress=quiet)


def test_a_wrong_formula_would_show(monkeypatch):
  monkeypatch.setattr(theory, 'largest_stable_rate', lambda smoothness, **_: 2 / smoothness)
  found = measure_border(settings(FEW)).over_formula.values[:, 0]
  np.testing.assert_allclose(found, [1, 1.5, 1.9, 3 / 4, 3.8 / 5.6], rtol=1e-9)


def test_line_searches_are_those_of_numpy():
  config = settings(FEW)
  found = exact.cauchy(config, 10, progress=quiet)
  h = exact.spectra(config.rates.quadratics, 10, config.seeds.ids[:1])[0]
  with jax.enable_x64(True):
    x = np.asarray(exact.starts(config.rates.quadratics, config.seeds.ids[:1]))[0]  # turning changes nothing
  for step in range(5):
    gradient = h * x
    after = x - (gradient @ gradient) / (gradient @ (h * gradient)) * gradient
    left = (after @ (h * after)) / (x @ (h * x))
    assert found.left.sel(start='random')[0, step].item() == pytest.approx(left, rel=1e-10)
    x = after
  np.testing.assert_allclose(found.left.sel(start='worst'), (9 / 11) ** 2, rtol=1e-12)
  assert float(np.abs(found.turn).max()) < 1e-10


def test_the_floor_of_regression_is_the_fixed_point_of_its_moments():
  # E |x - alpha a (a x - e)|^2 by a million draws, from the floor's own second moment: it stays.
  rate, size = 0.1, exact.DIMENSION
  rng, count = np.random.default_rng(0), 200_000
  moment = 2 * exact.floor('regression', rate)
  x = np.sqrt(moment / size) * rng.standard_normal((count, size))
  a, e = rng.standard_normal((count, size)), rng.standard_normal(count)
  after = x - rate * a * ((a * x).sum(axis=1) - e)[:, None]
  squares = (after**2).sum(axis=1)
  assert abs(squares.mean() - moment) < 4 * squares.std() / np.sqrt(count)
  assert exact.floor('quadratic', 0.1) == pytest.approx(
    sum(0.1 / (2 - 0.1 * h) / 2 for h in exact.CURVATURES)
  )


def test_noise_of_the_quadratic_and_slopes_of_regression():
  keys, others = (jax.random.split(jax.random.key(seed), 4000) for seed in (0, 1))
  x = jnp.array([1.0, -2.0])
  slopes = np.asarray(jax.vmap(lambda key: jax.grad(exact.noisy_quadratic)(x, key))(keys))
  np.testing.assert_allclose(slopes.mean(axis=0), np.array(exact.CURVATURES) * x, atol=4 / np.sqrt(4000))
  np.testing.assert_allclose(slopes.std(axis=0), 1, atol=4 / np.sqrt(8000))
  away = jnp.ones(3) + jnp.array([0.0, 2.0, 0.0])
  losses = np.asarray(jax.vmap(lambda key: exact.regression(1)(away, key))(others))
  # A normal error of variance 1 + 4; its modulus has a standard deviation of 0.6 of the error's.
  assert abs(losses.mean() - np.sqrt(2 / np.pi * 5)) < 4 * losses.std() / np.sqrt(4000)


def test_excess_on_the_stream_is_that_of_the_expected_loss():
  problem = tasks.task('regression', 'digits', 1, 1, 0.2, (), 0)
  state = type('State', (), {'params': jnp.ones(tasks.DIMENSION).at[3].add(2.0)})
  found = float(measure._excess(problem, state))
  assert found == pytest.approx(np.sqrt(2 / np.pi) * (np.sqrt(5) - 1), rel=1e-6)


def test_the_table_of_schedules():
  rows = dict(zip(tasks.SCHEDULES, tasks.factors(64), strict=True))
  t = np.arange(64)
  expected = {
    'constant': np.ones(64),
    '1/sqrt t': 1 / np.sqrt(1 + t),
    'cooldown': np.interp(t, [0, 51.2, 64], [1, 1, 0]),
    'cosine': (1 + np.cos(np.pi * t / 64)) / 2,
    'linear': 1 - t / 64,
    'step': np.where(t < 32, 1, np.where(t < 48, 0.1, 0.01)),
    'exponential': 0.01 ** (t / 64),
    'linear, for T/2': np.maximum(1 - t / 32, 0),
    'linear, for 2T': 1 - t / 128,
  }
  assert [*rows] == [*expected]
  for name, row in expected.items():
    np.testing.assert_allclose(rows[name], row, atol=1e-6, err_msg=name)
  assert np.argsort(effects.bounds(400)).tolist() == [4, 3, 2, 1, 0]  # the order of the claim


def test_every_seed_has_images_of_its_own_and_as_many_wrong_labels():
  one, other = (tasks.task('network', 'digits', 100, 50, 0.2, (4,), seed) for seed in (0, 1))
  assert [len(part.targets) for part in (one.train, one.validation, one.test)] == [100, 50, 360]
  assert (one.train.inputs != other.train.inputs).any()
  right = tasks.task('network', 'digits', 100, 50, 1e-9, (4,), 0)
  assert int((right.train.targets != one.train.targets).sum()) == 20
  assert (right.validation.targets == one.validation.targets).all()


@pytest.mark.parametrize('given', [configs, learning_rate_full], ids=['quick', 'full'])
def test_what_could_not_be_graded_is_refused(given):
  for change in ('rates.schedules.network_rates=(0.1, 0.2)', 'rates.decays.exponents=(0.0, 1.0)',
                 'rates.warm_up.shares=(0.0, 0.1)', 'rates.quadratics.conditions=(10, 20)',
                 'rates.batches.batch_sizes=(1, 4, 16, 1024)', 'rates.schedules.num_train=60_000'):  # fmt: skip
    word = re.match(r'rates\.(\w+)\.', change)[1]
    with pytest.raises(InputError, match=rf'^[^\n]*{word}[^\n]*$'):
      settings(change, given)


def measured(config, names):
  """The cells of these names, and those that they need."""
  registered = {cell.name: cell for cell in steps.cells(dict_of(config))}
  found = {}
  for name in names:
    cell = registered[name]
    found[name] = cell.measure(*(found[need] for need in cell.needs), progress=quiet)
  return found


def dict_of(config):
  import ml_collections

  return ml_collections.ConfigDict(config.model_dump(), convert_dict=True)


@pytest.mark.slow
def test_all_cells_give_verdicts_and_pictures():
  config = settings(f'{TINY}; seeds.first=10; seeds.count=3; seeds.tuning=2; seeds.repeats=0')
  arms = [f'trained_{task}_{arm}' for task in ('regression', 'network') for arm in tasks.ARMS]
  batches = [f'batch_{method}_{size}' for method in measure.OPTIMIZERS for size in (4, 16)]
  names = [
    'border_10',
    'cauchy_10',
    'decays_quadratic',
    'decays_regression',
    *arms,
    'warm_up_SGD',
    'warm_up_Adam',
  ]
  found = measured(config, [*names, 'transfer_base', 'transfer_scale', 'transfer_full', *batches, 'noise_16'])
  # The same code once more, which takes long to compile.
  copies = {'border_100': 'border_10', 'cauchy_100': 'cauchy_10', 'transfer_width': 'transfer_base'}
  copies |= {'transfer_batch': 'transfer_scale'} | {
    f'trained_logistic_{arm}': f'trained_network_{arm}' for arm in tasks.ARMS
  }
  copies |= {
    f'batch_{method}_{size}': f'batch_{method}_16'
    for method in measure.OPTIMIZERS
    for size in (64, 256, 1024)
  }
  found |= {name: found[of] for name, of in copies.items()}
  view = View(steps, config, found, {})
  asked = {name: steps.claims[name] for name in synthetic.CLAIMS}
  findings = grade_all(asked, view)
  assert [finding.id for finding in findings] == [*synthetic.CLAIMS]
  # One effect by hand: the stream's excess at the end, of the rates that two tuning runs choose.
  excess = found['trained_regression_fixed'].excess.isel(step=-1)
  ends = []
  for name in ('step', 'constant'):
    own = excess.sel(schedule=name).transpose('learning_rate', 'seed').values
    ends.append(own[own[:, :2].mean(axis=1).argmin(), 2:])
  ratio = effects.loss_ratio(view, 'regression', ('step',), ('constant',)).estimate
  assert ratio == pytest.approx(np.exp(np.mean(np.log(ends[0] / ends[1]))), rel=1e-6)
  slopes = [effects.fastest_rates(view, 'SGD', size) for size in (4, 16)]
  expected = statistics.bootstrap(np.log(slopes[1] / slopes[0]) / np.log(4)).estimate
  assert effects.rate_slope(view, 'SGD', large=False).estimate == pytest.approx(expected)
  for name in ('_ranking', '_rate_and_batch', '_warm_up', '_decays', '_zigzag', '_transfer'):
    assert getattr(figures, name)(view)
  assert set(claims.KINDS) == {'quadratic', 'regression'}


# Every cell and every arm of the full configuration stays, and the lengths of warm-up and batch sizes of both halves.
FULL = f"""{TINY};
seeds.count=3; seeds.tuning=2; seeds.repeats=0; edge.climb.points=8; edge.climb.hidden=4; edge.climb.updates=40;
edge.climb.every=10; edge.climb.substeps=2; edge.model.updates=1000; edge.batches.num_seeds=2;
edge.batches.num_train=16; edge.batches.hidden=3; edge.batches.updates=20; edge.batches.every=5;
edge.batches.draws=4; edge.warm.num_seeds=2; edge.warm.num_train=16; edge.warm.hidden=3; edge.warm.updates=10;
edge.warm.lengths=(0,1,2,4,6); edge.warm.peaks=(0.01,0.1,1.0); edge.warm.adam_peaks=(0.01,0.1,1.0)
"""


@pytest.mark.slow
def test_the_full_configuration_shrunk_runs_to_its_verdicts(tmp_path):
  """Both halves of the study; on digits where there is no MNIST."""
  changes = FULL if 'GDLAB_DATA' in os.environ else f'{FULL}; rates.schedules.dataset=digits'
  flags = [f'--workdir={tmp_path}', *(f'--config.{each.strip()}' for each in changes.split(';'))]
  command = [sys.executable, '-m', 'experiments.learning_rate', '--config=configs/learning_rate_full.py']
  environment = os.environ | {'JAX_NUM_CPU_DEVICES': '1'}
  subprocess.run([*command, *flags], check=True, timeout=1800, env=environment)
  cells = {file.stem: gdlab.load(file) for file in (tmp_path / 'results').glob('*.nc')}
  config = steps.config.checked(json.loads(cells['climb_plain'].attrs['config']))
  # Stored configurations do not say how often the study is repeated: here not at all.
  names = [cell.name for cell in steps.cells(dict_of(config))]
  assert {*cells} == {name for name in names if not name.endswith('-1')}
  recomputed = grade_all(steps.claims, steps.seen(config, 0, cells))
  assert {finding.id for finding in recomputed} == {f'L{number}' for number in range(1, 16)}
  # As text, since NaN differs from itself.
  assert repr(recomputed) == repr(read_claims(tmp_path / 'claims.json'))
