"""The study of the variants: effects on made-up results, measurements against closed forms, and a tiny run of it."""

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
import xarray as xr

import gdlab
from configs import variants as configs
from configs import variants_mnist
from experiments.variants import effects, measure
from experiments.variants.study import Seen, variants
from gdlab import theory
from gdlab.claims import write_claims
from gdlab.study import graded

N, MINI, SEEDS = 64, 32, 4
SLOW = [1, 0.9, 0.8, 0.5, 0.4]  # reaches 0.5 after 3 updates
FAST = [1, 0.5, 0.4, 0.2, 0.1]  # after 1


def settings():
  """The study's configuration, with as many seeds as the made-up results have."""
  config = configs.get_config()
  config.seeds.update({'first': 0, 'count': SEEDS, 'tuning': 2})
  config.update({'batch_sizes': (1, MINI), 'learning_rates': (0.1, 1.0), 'epochs': 2, 'target_loss': 0.5})
  return variants.config.checked(config.to_dict())


def runs(losses, seeds, failed=()):
  """Records at steps 0 ... T of runs whose losses are given by step; the seeds in `failed` diverged at once."""
  losses = np.tile(np.asarray(losses, float), (2, len(seeds), 1))
  status = np.full(losses.shape, gdlab.RUNNING)
  for place in failed:
    losses[:, place] = losses[:, place, :1]
    status[:, place, 1:] = gdlab.DIVERGED
  dims = ('learning_rate', 'seed', 'step')
  values = {'train_loss': (dims, losses), 'test_accuracy': (dims, 1 - losses), 'status': (dims, status)}
  coords = {'learning_rate': [0.1, 1.0], 'seed': list(seeds), 'step': range(losses.shape[-1])}
  return xr.Dataset(values, coords)


def seen(full=SLOW, mini=FAST, failed_full=(), failed_mini=(), num_examples=N, **cells) -> Seen:
  """A view of arms in which an update takes as many seconds as it has examples."""
  config, sizes = settings(), [1, MINI, num_examples]
  seconds = (('round', 'batch_size'), [[float(size) for size in sizes]])
  clock = xr.Dataset({'seconds_per_update': seconds}, {'batch_size': sizes}, {'num_examples': num_examples})
  cells = {'timing': clock} | cells
  for size, losses, failed in ((num_examples, full, failed_full), (MINI, mini, failed_mini)):
    cells[f'arm_{size}'] = runs(losses, config.seeds.ids, failed)
    cells.setdefault(f'tuning_{size}', runs(losses, config.seeds.for_tuning))
  return Seen(variants, config, cells, {})


def test_ratios_of_examples_and_of_seconds_to_the_target():
  # 3 updates of 64 examples against 1 of 32.
  interval = effects.reached(seen(), 'examples', 'mini')
  assert interval[:3] == pytest.approx((6, 6, 6))
  assert interval.excluded == 0
  # A full batch that never gets there counts with all it had, 4 updates: a lower bound.
  never = seen([1, 0.9, 0.9, 0.9, 0.9])
  assert effects.reached(never, 'examples', 'mini').estimate == pytest.approx(8)
  # Accuracy 0.9 is loss 0.1: full batch never has it, in 4 updates of 64 s; the mini-batch after 4 of 32 s.
  assert effects.reached(seen(), 'time', 'mini').estimate == pytest.approx(2)


def test_a_small_batch_that_never_gets_there_is_no_reason_to_support_it():
  interval = effects.reached(seen(failed_mini=(0, 1, 2)), 'examples', 'mini')
  assert (interval.excluded, interval.low) == (0, 0)
  neither = effects.reached(seen(failed_mini=(0,), failed_full=(0,)), 'examples', 'mini')
  assert neither.excluded == 1


def test_ratio_of_losses_counts_failures_as_infinite():
  # After 2 passes: 2 updates of full batch, 4 of the mini-batch.
  assert effects.loss_ratio(seen()).estimate == pytest.approx(0.8 / 0.1)
  failed = effects.loss_ratio(seen(failed_full=(1,)))
  assert (failed.estimate, failed.excluded) == (np.inf, 0)


@pytest.mark.parametrize('how', ['diverged', 'not finite'])
def test_tuning_does_not_choose_a_rate_at_which_a_seed_failed(how):
  tuned = runs([1, 0.5, 0.4, 0.3, 0.2], settings().seeds.for_tuning)
  tuned.train_loss[0] = 0.6  # the rate 0.1 is worse than 1.0 where both work
  assert seen(tuning_32=tuned).rate('examples', MINI) == 1.0
  if how == 'diverged':
    tuned.status[1, 0, 1:] = gdlab.DIVERGED
  else:
    tuned.train_loss[1, 0, 1:] = np.nan
  view = seen(tuning_32=tuned)
  assert [view.rate(kind, MINI) for kind in ('examples', 'time')] == [0.1, 0.1]
  assert '0.1 (an end of those tried) for B=32' in view.conditions('V7')


def test_budgets_are_equal_examples_and_the_mini_batch_arms_time():
  view = seen()
  ends = {size: (view.budget('examples', size), view.budget('time', size)) for size in view.sizes}
  assert ends == {1: (128, 128), MINI: (4, 4), N: (2, 2)}
  assert view.time_budget == 128
  short = seen(num_examples=70)  # an epoch is 32 + 32 + 6
  np.testing.assert_array_equal(short.clock('examples', MINI, np.arange(5)), [0, 32, 64, 70, 102])


def test_tracking_counts_a_diverged_stream_as_infinite():
  config = settings()
  ids = config.seeds.ids + config.seeds.for_tuning
  single = np.ones((2, len(ids), 2, 10))
  single[:, :, 1] = 0.5  # the second rate is better,
  single[1, -1, 1, 7:] = np.nan  # but diverged when it was tuned
  values = {
    'single': (('drift', 'seed', 'learning_rate', 'example'), single),
    'full': (('drift', 'seed', 'example'), np.full((2, len(ids), 10), 3.0)),
  }
  stream = xr.Dataset(values, {'drift': [0.0, 0.1], 'seed': ids, 'learning_rate': [0.1, 1.0]})
  view = seen(stream=stream)
  assert effects.tracking_ratio(view).estimate == pytest.approx(3)
  assert view.late_errors(drift=0)[1] == 1.0


def test_variances_are_held_against_the_law_at_every_batch_size():
  trace, sizes = np.array([1.0, 2.0, 3.0]), [1, 5, 10]
  law = np.stack([theory.mean_variance(trace, size, 10) for size in sizes], axis=1)
  noise = xr.Dataset(
    {
      'variance': (('seed', 'replacement', 'batch_size'), np.stack([law * [1, 1.1, 1], law], axis=1)),
      'covariance_trace': ('seed', trace),
    },
    {'seed': range(3), 'replacement': ['without', 'with'], 'batch_size': sizes},
    {'num_examples': 10},
  )
  # (1 - 5/10) * 10/9 / 5 of the trace is the variance of 5 of 10; 1/5 with replacement.
  np.testing.assert_allclose(law[:, 1], trace / 9)
  assert effects.variance_ratio(seen(noise=noise), 'without')[:3] == pytest.approx((1.1, 1, 1.1))
  assert effects.variance_ratio(seen(noise=noise), 'with')[:3] == pytest.approx((5 / 9, 5 / 9, 1))
  assert effects.full_batch_variance(seen(noise=noise)).estimate == 0


def test_the_worst_step_is_held_against_the_bound():
  gap = np.array([[[8.0, 4, 2, 1e-12, 1e-12]], [[8, 4, 3, 3, 3]], [[8, 9, 20, 50, 80]]])
  dims = ('problem', 'rate_times_smoothness', 'seed', 'step')
  coords = {'problem': ['linear'], 'rate_times_smoothness': [1.0, 1.9, 2.1]}
  view = seen(convex=xr.Dataset({'gap': (dims, gap[None]), 'bound': ('problem', [0.8])}, coords))
  # The factor 1 of the last step is rounding: its gap is below 1e-9 of the first.
  assert effects.worst_contraction(view, 'linear').estimate == pytest.approx(0.5 / 0.8)
  assert effects.remaining_gap(view, 'linear', 1.9).estimate == 3 / 8
  assert effects.remaining_gap(view, 'linear', 2.1).estimate == 10


def test_powers_of_two_are_held_against_both_neighbours():
  per_example = {28: 2.0, 32: 1.0, 36: 8.0, 60: 1.0, 64: 1.0, 68: 1.0, 124: 1.0, 128: 2.0, 132: 1.0}
  seconds = (('round', 'batch_size'), [[size * each for size, each in per_example.items()]] * 2)
  clock = xr.Dataset({'seconds_per_update': seconds}, {'batch_size': [*per_example]}, {'num_examples': N})
  view = seen(timing=clock)
  # Neighbours over powers: sqrt(2 * 8) = 4, 1 and 1/2.
  assert effects.power_gain(view).estimate == pytest.approx(2 ** (1 / 3))


def test_refitting_is_least_squares_over_what_came_before():
  rng = np.random.default_rng(0)
  inputs, targets, ridge = rng.normal(size=(12, 3)), rng.normal(size=12), 1e-3
  for place, error in enumerate(measure.refitted(inputs, targets, ridge)):
    x, y = inputs[:place], targets[:place]
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
  assert measure.counted(70, 32, 'without') == (70, 32, 3, 1, 1)
  assert measure.counted(70, 70, 'full') == (70, 70, 1, 1, 1)


TINY = """
  seeds.count=3 seeds.tuning=1 hidden=(4,) batch_sizes=(1,32) learning_rates=(0.1,1.0) epochs=1 min_updates=5
  evaluations=10 population=200 timing.precision=0.5 timing.powers=(32,) noise.num_batches=20 smoothness.num_updates=5
  floor.epochs=8 convex.num_steps=20 convex.num_seeds=2
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
  assert page.count('<svg') >= len(list((tmp_path / 'figures').iterdir())) == 5
  assert not re.findall(r'(?:src|href)="([^"#][^"]*)"', page), 'the page needs other files'
  cells = {file.stem: gdlab.load(file) for file in (tmp_path / 'results').glob('*.nc')}
  config = variants.config.checked(json.loads(cells['timing'].attrs['config']))
  for number, name in enumerate(('claims.json', 'claims-1.json')):
    written = (tmp_path / name).read_text()
    claims = json.loads(written)
    assert [claim['id'] for claim in claims] == [f'V{number}' for number in range(1, 14)]
    assert all(claims[place]['verdict'] == 'supported' for place in (0, 2, 3)), 'V1, V3 and V4 are identities'
    view = variants.seen(config, number, cells)
    write_claims(tmp_path / 'again.json', graded.grade_all(variants.claims, view))
    assert (tmp_path / 'again.json').read_text() == written
    own = cells[f'arm_32{"-1" * number}']
    assert own.seed.values.tolist() == [200 + 100_000 * number + place for place in range(3)]


def test_missing_data_are_named(tmp_path):
  assert variants.config.checked(variants_mnist.get_config().to_dict()).seeds.count == 8
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
