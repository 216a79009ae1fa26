"""The study of minima: effects on made-up results, measurements with a closed form, and a small run of the whole."""

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
from gdlab.claims import read_claims
from gdlab.comparison import clock

YES, NO, SEEDS = 'supported', 'contradicted', 100
TINY = {
  'seeds': {'first': 7, 'count': 4, 'tuning': 2}, 'hidden_of_trap': 4, 'members': 2, 'ensemble_width': 4,
  'valleys': {'num_seeds': 4, 'num_examples': 64, 'batch_sizes': (1, 4), 'learning_rates': (0.02, 0.04), 'records': 2,
              'updates': 1000, 'lower_rate': 0.02, 'learning_rate': 0.04, 'return_updates': 50},
  'escape': {'num_seeds': 6, 'barriers': (1.5, 2.0)},
  'dose': {'num_seeds': 4, 'num_tuning_seeds': 2, 'updates': 50, 'learning_rates': (0.001, 0.002), 'levels': (0.0, 4)},
  'dose_network': {'num_seeds': 4, 'num_tuning_seeds': 2, 'updates': 10, 'hidden': 4, 'levels': (0.0, 0.001)},
  'trap': {'learning_rates': (0.1, 0.3), 'num_tuning_seeds': 2, 'epochs': 1, 'return_epochs': 2},
  'widths': {'hidden': (2, 4), 'learning_rates': (0.03, 0.1), 'epochs': 2, 'pairs': 2, 'points': 5},
}  # fmt: skip


def given(changes):
  config = defaults.get_config()
  with config.ignore_type():
    config.update(changes)
  return config


def view(**cells):
  """What one set of seeds saw, with these cells."""
  few = {'seeds': {'count': SEEDS}, 'escape': {'num_seeds': SEEDS, 'barriers': (3.0, 5.0)}}
  few |= {'valleys': {'learning_rates': (0.01, 0.02)}, 'dose': {'levels': (0.0, 1.0, 2.0, 4.0)}}
  few['widths'] = {'hidden': (4, 16, 32), 'pairs': SEEDS // 2}
  return minima.view(minima, Settings.checked(given(few).to_dict()), cells, {})


def judged(claim, made, *words):
  """The verdicts on the effects of a claim whose names end with or else hold these words; on all without any."""
  asked, found = minima.claims[claim].effects, []
  for each in words or ('',):
    found += [e for e in asked if e.name.endswith(each)] or [e for e in asked if each in e.name]
  return [effect.rule.judge(effect.measure(made)) for effect in found]


def dataset(dims, values, **coordinates):
  return xr.Dataset({name: (dims, np.asarray(value)) for name, value in values.items()}, coordinates)


def crossings(shares, status=0, returned=0):
  """Runs of which a share, by batch size, reached the other minimum at update 100, at both rates."""
  reached = np.array([[100 * (np.arange(SEEDS) < share * SEEDS) for share in shares.values()]] * 2)[..., None]
  values = {'reached': reached, 'returned': returned * (reached > 0), 'status': 0 * reached + status}
  dims = ('learning_rate', 'batch_size', 'seed', 'step')
  return dataset(dims, values, learning_rate=[0.01, 0.02], batch_size=list(shares))


def test_who_leaves_the_shallow_valley():
  for full, mini, deep, leave, gain in ((0, 1, 0, YES, YES), (0.5, 0.1, 0, NO, NO), (0, 1, 1, YES, NO)):
    poor = crossings({1: 1.0, 4: mini, 32: 0.0, 512: full})
    made = view(leave_poor=poor, leave_good=crossings({1: 1.0, 4: deep}))
    assert judged('N1', made) == [leave, leave, gain]
    assert made.left('poor', 1).all()
    assert not made.left('poor', 1, by=99).any()
  made = view(leave_poor=crossings({512: 0.0}, gdlab.DIVERGED))  # which is not to have stayed
  assert effects.full_batch_left(made).estimate == 1


@pytest.mark.parametrize(('returned', 'verdict'), [(0, YES), (599, NO), (601, YES)])
def test_who_cannot_leave_the_poor_valley(returned, verdict):
  made = view(leave_good=crossings({1: 1.0, 4: 0.0}, returned=returned))
  assert made.patience('good') == 500  # five times the median time in
  words = ('double well: share of those thrown in that had not come back', 'double well: share thrown into')
  assert judged('N2', made, *words) == [verdict, YES]
  made = view(leave_good=crossings({1: 0.0, 4: 0.0}))
  assert judged('N2', made, words[1]) == [NO]
  assert np.isnan(effects.stay(made, 'good', False).estimate)  # nobody thrown in says nothing of staying


@pytest.mark.parametrize(('by_then', 'later', 'stay'), [(2.3, 2.3, YES), (2.3, 0.1, NO), (0.1, 2.3, None)])
def test_networks_in_a_poor_place(by_then, later, stay):
  losses = np.full((2, SEEDS, 8), 0.1)
  losses[0, :, 5], losses[0, :, 6:] = by_then, later
  runs = dataset(('arm', 'seed', 'step'), {'train_loss': losses, 'status': 0 * losses})
  runs = runs.expand_dims(learning_rate=[0.3], batch_size=[1], change=[0])
  made = view(trap_single=runs.isel(arm=0), trap_mini=runs.isel(arm=1), trap_rescued=runs.isel(arm=0))
  assert judged('N2', made, 'in a poor place, single minus mini') == [YES if stay else NO]
  if stay:
    assert judged('N2', made, 'never came out') == [stay]
    assert made.rescued.estimate == (stay == YES)


def escapes(rates, factor=1.0):
  """Waiting times with the quantiles of an exponential law of these rates by barrier; the longest are censored."""
  cells, known = {}, dataset('barrier', dict.fromkeys(('mean_kramers', 'mean_chain'), np.exp([3.0, 5.0])))
  for size, times in ((1, 1.0), (4, factor)):
    waits = -np.log(1 - (np.arange(SEEDS) + 0.5) / SEEDS) / (times * np.exp(rates)[:, None])
    limit = np.quantile(waits, 0.9, axis=1, keepdims=True)
    values = {'time': np.minimum(waits, limit), 'censored': waits > limit}
    cells[f'escape_{size}'] = dataset(('barrier', 'seed'), values).merge(known)
  return view(**cells)


def test_rates_that_follow_kramers_and_rates_that_do_not():
  made = escapes([-3.0, -5.0])
  assert effects.arrhenius_slope(made).estimate == pytest.approx(1, rel=0.01)
  # Censored runs count with the time they had, so the rate is that of the law.
  assert effects.rate_ratio(made, 'chain').estimate == pytest.approx(1, rel=0.03)
  assert effects.worst_deviation(made).estimate < 1
  assert judged('N3', made, 'equal lr/B') == [YES]
  other = escapes([-3.0, -4.0], factor=2.0)
  assert effects.arrhenius_slope(other).estimate == pytest.approx(0.5, rel=0.01)
  assert effects.batch_size_ratio(other).estimate == pytest.approx(2)
  assert judged('N3', other, 'slope', 'standard errors', 'equal lr/B', "Kramers' formula") == [NO] * 4


def test_measurements_with_closed_forms():
  exact = gdlab.theory.mean_first_passage_time(lambda x: (x**2 - 1) ** 2, 0.25, start=-1, end=1, wall=-2.1)
  coarse, fine = (measure.mean_times(4.0, rate, num=800)['mean_chain'] for rate in (0.004, 0.002))
  assert fine == pytest.approx(exact, rel=0.005)
  # Its error is of the order of the step, so two steps extrapolate to a better value.
  assert 2 * fine - coarse == pytest.approx(exact, rel=0.002)
  draws = np.asarray(measure.with_data('tilted', 0.0, 0.1, 3.0, 64).train, float)
  assert abs(draws.mean()) < 1e-6
  assert np.mean(draws**2) == pytest.approx(3.0, rel=1e-5)
  options = Settings.checked(defaults.get_config().to_dict()).valleys
  assert options.expected(4, 0.02) == pytest.approx(options.escapes)
  assert options.graded == [(1, 0.01), (4, 0.02), (4, 0.04)]
  watch = measure.passages(near=-1.0, far=1.0)
  place, state = jnp.zeros(1), watch.init(jnp.zeros(1))
  for target in (-1.5, 0.9, 1.0, 0.0, -1.0, 2.0, -3.0):  # the first is no return, for nobody had been there
    updates, state = watch.update(target - place, state, place)
    place = place + updates
  assert state.tolist() == [7, 3, 5]


def test_dose_response():
  for constant, annealed, verdicts in (
    ([20, 10, 5, 30], [20, 8, 2, 1], [YES, YES, YES]),
    ([5, 10, 20, 30], [5, 10, 20, 30], [NO, YES, NO]),
    ([20, 10, 5, 2], [20, 10, 5, 8], [YES, NO, NO]),
  ):
    losses = np.array([constant, annealed], float)[..., None, None] + 0.3 * np.linspace(-1, 1, SEEDS)[:, None]
    axes = {'schedule': list(measure.SCHEDULES), 'level': [0.0, 1.0, 2.0, 4.0], 'seed': range(SEEDS)}
    runs = dataset((*axes, 'step'), {'train_loss': losses, 'status': 0 * losses}, **axes)
    tuned = runs.expand_dims(learning_rate=[0.1, 0.2]).copy(deep=True)
    made = view(dose_landscape=runs, dose_tuning_landscape=tuned)
    assert judged('N4', made, 'landscape: final loss') == verdicts
    best = made.best_level('landscape', 'constant')
    tuned.status.loc[{'level': best, 'seed': 0}] = gdlab.DIVERGED
    assert made.best_level('landscape', 'constant') != best


def networks(deviations, failed=(), barriers=(0.0, 0.0, 0.0), losses=(1.0, 1.0, 1.0)):
  """Networks of three widths whose losses and errors have these deviations, and barriers between them."""
  unit, cells = np.random.default_rng(0).permutation(np.linspace(-1, 1, SEEDS)), {}
  unit, status = unit / unit.std(ddof=1), np.isin(np.arange(SEEDS), failed) * gdlab.DIVERGED
  for width, deviation, barrier, loss in zip((4, 16, 32), deviations, barriers, losses, strict=True):
    own = {'train_loss': loss + deviation * unit, 'test_accuracy': 0.9 + 0.01 * deviation * unit}
    runs = dataset('seed', own | {'status': status})
    cells[f'width_{width}'] = runs.expand_dims(learning_rate=[0.1], step=[9])
    found = barrier * np.linspace(0.9, 1.1, SEEDS // 2)[:, None] * np.array([1.0, 0.1])
    cells[f'lines_{width}'] = dataset(('pair', 'order'), {'barrier': found}, order=list(measure.ORDERS))
  return view(**cells)


def test_spreads_and_barriers_shrink_or_grow_with_width():
  made = networks([0.4, 0.1, 0.05])
  assert effects.spread_slope(made, 'train_loss', False).estimate == pytest.approx(-1)
  assert effects.widest_spread(made, 'train_loss').estimate == pytest.approx(0.05)
  assert judged('N5', made, 'log-log slope') == [YES] * 4
  assert judged('N5', networks([0.05, 0.1, 0.4]), 'log-log slope') == [NO] * 4
  assert effects.widest_spread(networks([0.4, 0.1, 0.05], failed=(3,)), 'train_loss').estimate == np.inf
  least, slope = 'where it is least, networks as they are', 'width of the barrier, networks as they are'
  words = (least, slope, f'{least}, over the mean loss', f'{slope}, over the mean loss')
  made = networks([0, 0, 0], barriers=(8.0, 4.0, 2.0))
  assert judged('N6', made, *words) == [YES] * 4
  assert effects.least_barrier(made, 'aligned', False).estimate == pytest.approx(0.2)
  assert judged('N6', networks([0, 0, 0], barriers=(0.01, 0.02, 0.04)), *words) == [NO] * 4
  falls = networks([0, 0, 0], barriers=(8.0, 4.0, 2.0), losses=(1 / 4, 1 / 16, 1 / 32))
  assert judged('N6', falls, *words) == [YES, YES, YES, NO]


def test_ensembles():
  members = np.linspace(0.08, 0.12, 25)
  for gain, verdict in ((0.7, YES), (1.3, NO)):
    values = {'error': gain * members, 'nll': gain * members, 'member_error': members, 'member_nll': members}
    assert judged('N7', view(ensembles_32=dataset('ensemble', values))) == [verdict] * 2
  found = measure.scores(np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]]), np.array([0, 1]))
  assert found == {'error': 0.5, 'nll': pytest.approx(1.5 * np.log(2))}


def test_what_the_study_could_not_finish_with_is_refused():
  for words, changes in {
    'ensemble_width should be one of widths.hidden': {'ensemble_width': 5},
    'lower_rate should be below learning_rate': {'valleys': {'lower_rate': 0.02}},
    'batch_sizes should hold 1 and mini_batch': {'valleys': {'batch_sizes': (2, 4)}},
    'escapes should be below': {'valleys': {'escapes': 1000.0}},
    'escape.num_seeds should be at most 10000': {'escape': {'num_seeds': 10_001}},
    'levels should start with 0': {'dose': {'levels': (1.0, 2.0)}},
    'widths.pairs should be at most 32': {'widths': {'pairs': 33}},
    'widths.hidden tuple should have at least 2 items': {'widths': {'hidden': (4,)}},
  }.items():
    with pytest.raises(gdlab.InputError, match=words):
      Settings.checked(given(changes).to_dict())


def test_no_random_stream_of_the_escapes_is_used_twice():
  for module in (defaults, minima_full):
    config = Settings.checked(module.get_config().to_dict())
    streams = range(1, 1 + len(config.escape.barriers) * len(config.escape.batch_sizes))
    sets = [np.array(config.again(number).ids(config.escape.num_seeds)) for number in range(3)]
    used = np.concatenate([ids + config.streams * stream for ids in sets for stream in streams])
    assert np.unique(used).size == used.size


def test_a_small_run_of_the_whole_study(tmp_path, monkeypatch):
  monkeypatch.setattr(clock, 'MOST_ROUNDS', 5)
  config, found, quiet = given(TINY), {}, lambda done, total: None
  for cell in minima.cells(config):
    measured = cell.measure(*(found[need] for need in cell.needs), progress=quiet)
    found[cell.name] = measured.assign_attrs(cell_wall_time_s=1.0)
  assert found['leave_good'].seed.values.tolist() == [7, 8, 9, 10]
  assert found['width_4-1'].init_seed.values.tolist() == [100_007 + place for place in range(4)]
  # An epoch of single examples, and two of mini-batches.
  assert (found['trap_rescued'].updates.isel(step=[0, 1, -1]) == [0, 1437, 1437 + 2 * 45]).all()
  minima.finish(config, found, tmp_path)
  for number, name in enumerate(('claims.json', 'claims-1.json')):
    graded = read_claims(tmp_path / name)
    assert [claim.id for claim in graded] == [f'N{place}' for place in range(1, 8)]
    own = minima.seen(Settings.checked(config.to_dict()), number, found)
    assert graded[6].parts[0].effect == effects.ensemble_ratio(own, 'error').estimate
  assert (tmp_path / 'report.html').read_text().count('<svg') == 7
