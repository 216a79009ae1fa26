"""The study of minima: effects on made-up results whose answer is plain, measurements with a closed form, a small run."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import gdlab
from configs import minima as defaults
from configs import minima_full
from experiments.minima import effects, measure
from experiments.minima.figures import minima
from experiments.minima.study import Settings
from gdlab import theory
from gdlab.comparison import clock
from gdlab.core.errors import InputError

SEEDS = 100
TINY = {
  'seeds': {'first': 7, 'count': 4, 'tuning': 2, 'repeats': 1},
  'hidden_of_trap': 4, 'members': 2, 'ensemble_width': 4,
  'valleys': {'num_seeds': 4, 'num_examples': 64, 'batch_sizes': (1, 4), 'learning_rates': (0.02, 0.04),
              'updates': 1000, 'lower_rate': 0.02, 'learning_rate': 0.04, 'return_updates': 50, 'records': 2},
  'escape': {'num_seeds': 6, 'barriers': (1.5, 2.0)},
  'dose': {'num_seeds': 4, 'num_tuning_seeds': 2, 'updates': 50, 'learning_rates': (0.001, 0.002), 'levels': (0.0, 4.0)},
  'dose_network': {'num_seeds': 4, 'num_tuning_seeds': 2, 'updates': 10, 'hidden': 4, 'learning_rates': (0.1, 0.3),
                   'levels': (0.0, 0.001)},
  'trap': {'learning_rates': (0.1, 0.3), 'num_tuning_seeds': 2, 'epochs': 1, 'return_epochs': 2},
  'widths': {'hidden': (2, 4), 'learning_rates': (0.03, 0.1), 'epochs': 2, 'pairs': 2, 'points': 5},
}  # fmt: skip


def given(changes, module=defaults):
  """The default configuration with other values."""
  config = module.get_config()
  for key, value in changes.items():
    with config.ignore_type():
      config[key].update(value) if isinstance(value, dict) else config.update({key: value})
  return config


def view(changes=None, **cells):
  """What one set of seeds saw, with these cells."""
  few = {'seeds': {'count': SEEDS}, 'escape': {'num_seeds': SEEDS, 'barriers': (3.0, 5.0)}}
  few |= {'valleys': {'learning_rates': (0.01, 0.02)}, 'widths': {'hidden': (4, 16, 32), 'pairs': SEEDS // 2}}
  config = Settings.checked(given(few | (changes or {})).to_dict())
  return minima.view(minima, config, cells, {})


def judged(claim, words, made):
  """The verdict on the effect of a claim whose name holds these words."""
  found = [each for each in minima.claims[claim].effects if words in each.name]
  effect = min(found, key=lambda each: len(each.name))
  return effect.rule.judge(effect.measure(made))


def crossings(shares, status=0, returned=0):
  """Runs of which a share, by batch size, reached the other minimum at update 100, at both rates."""
  reached = np.array([[100 * (np.arange(SEEDS) < share * SEEDS) for share in shares.values()]] * 2)[..., None]
  values = {'reached': reached, 'returned': returned * (reached > 0), 'status': np.full_like(reached, status)}
  dims = ('learning_rate', 'batch_size', 'seed', 'step')
  coordinates = {'learning_rate': [0.01, 0.02], 'batch_size': list(shares)}
  return xr.Dataset({name: (dims, value) for name, value in values.items()}, coordinates)


@pytest.mark.parametrize(
  ('full', 'mini', 'deep', 'verdicts'),
  [
    (0.0, 1.0, 0.0, ['supported', 'supported', 'supported']),
    (0.5, 0.1, 0.0, ['contradicted', 'contradicted', 'contradicted']),
    (0.0, 1.0, 1.0, ['supported', 'supported', 'contradicted']),
  ],
)
def test_who_leaves_the_shallow_valley(full, mini, deep, verdicts):
  poor, good = crossings({1: 1.0, 4: mini, 32: 0.0, 512: full}), crossings({1: 1.0, 4: deep})
  made = view(leave_poor=poor, leave_good=good)
  assert [each.rule.judge(each.measure(made)) for each in minima.claims['N1'].effects] == verdicts
  assert made.left('poor', 1).all()
  assert not made.left('poor', 1, by=99).any()


def test_a_full_batch_run_that_diverged_has_not_stayed():
  assert effects.full_batch_left(view(leave_poor=crossings({512: 0.0}, gdlab.DIVERGED))).estimate == 1


@pytest.mark.parametrize(
  ('returned', 'verdict'), [(0, 'supported'), (599, 'contradicted'), (601, 'supported')]
)
def test_who_cannot_leave_the_poor_valley(returned, verdict):
  made = view(leave_good=crossings({1: 1.0, 4: 0.0}, returned=returned))
  assert made.patience('good') == 500  # five times the median time in
  assert judged('N2', 'double well: share of those thrown in', made) == verdict
  assert judged('N2', 'double well: share thrown into', made) == 'supported'


def test_nobody_thrown_in_says_nothing_of_staying():
  made = view(leave_good=crossings({1: 0.0, 4: 0.0}))
  assert np.isnan(effects.stay(made, 'good', False).estimate)
  assert judged('N2', 'double well: share thrown into', made) == 'contradicted'


@pytest.mark.parametrize(
  ('by_then', 'later', 'verdicts'),
  [
    (2.3, 2.3, ('supported', 'supported')),
    (2.3, 0.1, ('supported', 'contradicted')),
    (0.1, 2.3, ('contradicted',)),
  ],
)
def test_networks_in_a_poor_place(by_then, later, verdicts):
  losses = np.full((2, SEEDS, 8), 0.1)
  losses[0, :, 5], losses[0, :, 6:] = by_then, later
  runs = xr.Dataset(
    {'train_loss': (('arm', 'seed', 'step'), losses), 'status': (('arm', 'seed', 'step'), 0 * losses)}
  )
  runs = runs.expand_dims(learning_rate=[0.3], batch_size=[1], change=[0])
  made = view(trap_single=runs.isel(arm=0), trap_mini=runs.isel(arm=1), trap_rescued=runs.isel(arm=0))
  for words, verdict in zip(('in a poor place, single minus mini', 'never came out'), verdicts, strict=False):
    assert judged('N2', words, made) == verdict
  if by_then > 1:
    assert made.rescued.estimate == (later > 1)


def escapes(rates, factor=1.0):
  """Waiting times with the quantiles of an exponential law of these rates by barrier; the longest are censored."""
  cells = {}
  for size, times in ((1, 1.0), (4, factor)):
    waits = -np.log(1 - (np.arange(SEEDS) + 0.5) / SEEDS) / (times * np.array(rates)[:, None])
    limit = np.quantile(waits, 0.9, axis=1, keepdims=True)
    known = {f'mean_{name}': ('barrier', np.exp([3.0, 5.0])) for name in ('kramers', 'chain')}
    values = {
      'time': (('barrier', 'seed'), np.minimum(waits, limit)),
      'censored': (('barrier', 'seed'), waits > limit),
    }
    cells[f'escape_{size}'] = xr.Dataset(values | known)
  return view(**cells)


def test_rates_that_follow_kramers():
  made = escapes(np.exp([-3.0, -5.0]))
  assert effects.arrhenius_slope(made).estimate == pytest.approx(1, rel=0.01)
  # Censored runs count with the time they had, so the rate is that of the law.
  assert effects.rate_ratio(made, 'chain').estimate == pytest.approx(1, rel=0.03)
  assert effects.worst_deviation(made).estimate < 1
  assert effects.batch_size_ratio(made).estimate == pytest.approx(1)
  assert judged('N3', 'equal lr/B', made) == 'supported'


def test_rates_that_do_not():
  made = escapes(np.exp([-3.0, -4.0]), factor=2.0)
  assert effects.arrhenius_slope(made).estimate == pytest.approx(0.5, rel=0.01)
  for words in ('slope', 'standard errors', 'equal lr/B', "Kramers' formula"):
    assert judged('N3', words, made) == 'contradicted', words


def test_the_chain_has_the_mean_time_of_langevin_dynamics_as_steps_vanish():
  exact = theory.mean_first_passage_time(lambda x: (x**2 - 1) ** 2, 0.25, start=-1, end=1, wall=-2.1)
  coarse, fine = (measure.mean_times(4.0, rate, num=800)['mean_chain'] for rate in (0.004, 0.002))
  assert fine == pytest.approx(exact, rel=0.005)
  # Its error is of the order of the step, so two steps extrapolate to a better value.
  assert 2 * fine - coarse == pytest.approx(exact, rel=0.002)


def test_the_examples_pull_in_all_and_make_the_noise_asked_for():
  draws = np.asarray(measure.with_data('tilted', 0.0, 0.1, 3.0, 64).train, float)
  assert abs(draws.mean()) < 1e-6
  assert np.mean(draws**2) == pytest.approx(3.0, rel=1e-5)


def test_passages_are_noted_once_and_in_order():
  watch = measure.passages(near=-1.0, far=1.0)
  place, state = jnp.zeros(1), watch.init(jnp.zeros(1))
  for target in (-1.5, 0.9, 1.0, 0.0, -1.0, 2.0, -3.0):  # the first is no return, nobody having been there
    updates, state = watch.update(target - place, state, place)
    place = place + updates
  assert state.tolist() == [7, 3, 5]


def test_theory_sets_the_temperature_and_who_is_asked():
  options = Settings.checked(defaults.get_config().to_dict()).valleys
  assert options.expected(4, 0.02) == pytest.approx(options.escapes)
  assert options.graded == [(1, 0.01), (4, 0.02), (4, 0.04)]
  assert all(options.temperature(*arm) <= measure.height('tilted') for arm in options.graded)


def doses(constant, annealed):
  """Losses by level of noise, the same for all seeds but for a spread; tuning runs alike at two rates."""
  losses = np.array([constant, annealed], float)[..., None, None] + 0.3 * np.linspace(-1, 1, SEEDS)[:, None]
  dims, coordinates = ('schedule', 'level', 'seed', 'step'), {'schedule': list(measure.SCHEDULES)}
  coordinates |= {'level': [0.0, 1.0, 2.0, 4.0], 'seed': range(SEEDS)}
  runs = xr.Dataset({'train_loss': (dims, losses), 'status': (dims, np.zeros_like(losses))}, coordinates)
  return {
    'dose_landscape': runs,
    'dose_tuning_landscape': runs.expand_dims(learning_rate=[0.1, 0.2]).copy(deep=True),
  }


@pytest.mark.parametrize(
  ('constant', 'annealed', 'verdicts'),
  [
    ([20, 10, 5, 30], [20, 8, 2, 1], ['supported', 'supported', 'supported']),
    ([5, 10, 20, 30], [5, 10, 20, 30], ['contradicted', 'supported', 'contradicted']),
    ([20, 10, 5, 2], [20, 10, 5, 8], ['supported', 'contradicted', 'contradicted']),
  ],
)
def test_dose_response(constant, annealed, verdicts):
  made = view({'dose': {'levels': (0.0, 1.0, 2.0, 4.0)}}, **doses(constant, annealed))
  words = ('landscape: final loss, no noise', 'landscape: final loss, most', 'landscape: final loss, best')
  assert [judged('N4', each, made) for each in words] == verdicts


def test_a_level_at_which_a_run_diverged_is_not_the_best():
  cells = doses([20, 10, 1, 30], [20, 10, 1, 30])
  cells['dose_tuning_landscape'].status.loc[{'level': 2.0, 'seed': 0}] = gdlab.DIVERGED
  assert view(**cells).best_level('landscape', 'constant') == 1.0


def networks(deviations, failed=(), barriers=(0.0, 0.0, 0.0), losses=(1.0, 1.0, 1.0)):
  """Networks of three widths whose losses and errors have these deviations, and barriers between them."""
  unit, cells = np.random.default_rng(0).permutation(np.linspace(-1, 1, SEEDS)), {}
  unit /= unit.std(ddof=1)
  for width, deviation, barrier, loss in zip((4, 16, 32), deviations, barriers, losses, strict=True):
    status = np.isin(np.arange(SEEDS), failed) * gdlab.DIVERGED
    values = {
      'train_loss': loss + deviation * unit,
      'test_accuracy': 0.9 + 0.01 * deviation * unit,
      'status': status,
    }
    dims = ('learning_rate', 'seed', 'step')
    cells[f'width_{width}'] = xr.Dataset(
      {name: (dims, value[None, :, None]) for name, value in values.items()}
    )
    found = barrier * np.linspace(0.9, 1.1, SEEDS // 2)[:, None] * np.array([1.0, 0.1])
    cells[f'lines_{width}'] = xr.Dataset(
      {'barrier': (('pair', 'order'), found)}, {'order': list(measure.ORDERS)}
    )
  return view(**cells)


def test_the_spread_shrinks_or_grows_with_width():
  made = networks([0.4, 0.1, 0.05])
  assert effects.spread_slope(made, 'train_loss', False).estimate == pytest.approx(-1)
  assert effects.widest_spread(made, 'train_loss').estimate == pytest.approx(0.05)
  slopes = minima.claims['N5'].effects[:4]
  assert {each.rule.judge(each.measure(made)) for each in slopes} == {'supported'}
  grows = networks([0.05, 0.1, 0.4])
  assert {each.rule.judge(each.measure(grows)) for each in slopes} == {'contradicted'}
  assert effects.widest_spread(networks([0.4, 0.1, 0.05], failed=(3,)), 'train_loss').estimate == np.inf


def test_barriers_shrink_by_one_yardstick_and_grow_by_the_other():
  shrinks, grows = (
    networks([0, 0, 0], barriers=(8.0, 4.0, 2.0)),
    networks([0, 0, 0], barriers=(0.01, 0.02, 0.04)),
  )
  for words in (
    'barrier at the width where it is least, networks as they are',
    'barrier, networks as they are',
  ):
    for yardstick in ('', ', over the mean loss'):
      assert judged('N6', words + yardstick, shrinks) == 'supported'
      assert judged('N6', words + yardstick, grows) == 'contradicted'
  assert effects.least_barrier(shrinks, 'aligned', False).estimate == pytest.approx(0.2)
  falls = networks([0, 0, 0], barriers=(8.0, 4.0, 2.0), losses=(1 / 4, 1 / 16, 1 / 32))
  assert judged('N6', 'barrier, networks as they are', falls) == 'supported'
  assert judged('N6', 'barrier, networks as they are, over the mean loss', falls) == 'contradicted'


@pytest.mark.parametrize(('gain', 'verdict'), [(0.7, 'supported'), (1.3, 'contradicted')])
def test_ensembles(gain, verdict):
  members = np.linspace(0.08, 0.12, 25)
  values = {'error': gain * members, 'nll': gain * members, 'member_error': members, 'member_nll': members}
  made = view(ensembles_32=xr.Dataset({name: ('ensemble', value) for name, value in values.items()}))
  assert [judged('N7', words, made) for words in ('test error', 'negative log')] == [verdict] * 2
  found = measure.scores(np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]]), np.array([0, 1]))
  assert found == {'error': 0.5, 'nll': pytest.approx(1.5 * np.log(2))}


@pytest.mark.parametrize(
  ('section', 'key', 'value', 'words'),
  [
    ('', 'members', 33, 'members should be at most 32'),
    ('', 'ensemble_width', 5, 'ensemble_width should be one of widths.hidden'),
    ('valleys', 'learning_rate', 0.3, 'learning_rate should be one of learning_rates'),
    ('valleys', 'lower_rate', 0.02, 'lower_rate should be below learning_rate'),
    ('valleys', 'batch_sizes', (2, 4), 'batch_sizes should hold 1 and mini_batch'),
    ('valleys', 'escapes', 1000.0, 'escapes should be below'),
    ('escape', 'batch_sizes', (1,), 'escape.batch_sizes should be at least two different numbers'),
    ('escape', 'num_seeds', 10_001, 'escape.num_seeds should be at most 10000'),
    ('dose', 'levels', (1.0, 2.0), 'levels should start with 0'),
    ('dose_network', 'num_examples', 1000, 'dose_network.num_examples should be at most 718'),
    ('widths', 'pairs', 33, 'widths.pairs should be at most 32'),
  ],
)
def test_what_the_study_could_not_finish_with_is_refused(section, key, value, words):
  with pytest.raises(InputError, match=words):
    Settings.checked(given({section: {key: value}} if section else {key: value}).to_dict())


@pytest.mark.parametrize('module', [defaults, minima_full])
def test_no_random_stream_of_the_escapes_is_used_twice(module):
  config = Settings.checked(module.get_config().to_dict())
  count = len(config.escape.barriers) * len(config.escape.batch_sizes)
  used = [
    seed + config.streams * stream
    for number in range(10)
    for stream in range(1, count + 1)
    for seed in config.again(number).ids(config.escape.num_seeds)
  ]
  assert len(set(used)) == len(used)


def test_a_small_run_of_the_whole_study(tmp_path, monkeypatch):
  monkeypatch.setattr(clock, 'MOST_ROUNDS', 5)
  monkeypatch.setattr(clock, 'CALL_SECONDS', 1e-3)
  config, found = given(TINY), {}
  for cell in minima.cells(config):
    needed = (found[need] for need in cell.needs)
    found[cell.name] = cell.measure(*needed, progress=lambda done, total: None).assign_attrs(
      cell_wall_time_s=1.0
    )
  assert found['leave_good'].seed.values.tolist() == [7, 8, 9, 10]
  assert found['width_4-1'].init_seed.values.tolist() == [100_007 + place for place in range(4)]
  assert found['trap_single'].sizes['step'] == 4
  # As many updates of single examples as make one epoch, and two epochs of mini-batches.
  assert found['trap_rescued'].updates.isel(step=-1).values.ravel().tolist() == [1437 + 2 * 45] * 4
  minima.finish(config, found, tmp_path)
  for number, name in enumerate(('claims.json', 'replication.json')):
    graded = json.loads((tmp_path / name).read_text())
    assert [claim['id'] for claim in graded] == [f'N{place}' for place in range(1, 8)]
    own = minima.seen(Settings.checked(config.to_dict()), number, found)
    assert graded[6]['parts'][0]['effect'] == effects.ensemble_ratio(own, 'error').estimate
    assert graded[4]['num_seeds'] == 4
  page = (tmp_path / 'report.html').read_text()
  assert page.count('<svg') == len(list((tmp_path / 'figures').glob('*.svg'))) == 7
  assert '(an end of those tried)' in page
