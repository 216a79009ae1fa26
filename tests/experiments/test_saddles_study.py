"""The study of saddles: effects on made-up results, measurements against closed forms, and a tiny run of it."""

import json

import jax
import numpy as np
import pytest
import xarray as xr

from configs import saddles as configs
from configs import saddles_full
from experiments.saddles import effects, measure, places
from experiments.saddles.effects import View
from experiments.saddles.study import escape
from gdlab import theory
from gdlab.claims import Claim, grade
from gdlab.core.errors import InputError
from gdlab.problems import landscapes

COUNT = 20
SEEDS = {'first': 10, 'count': COUNT, 'tuning': 1, 'repeats': 0}


def settings(changes=None):
  """The study's configuration with few sizes."""
  made = configs.get_config()
  few = {
    'race': {'generic': ('made', 'network'), 'symmetric': ('twins',)},
    'fields': {'dimensions': (1, 2, 3)},
  }
  few |= {'search': {'widths': (1, 2)}, 'growth': {'cases': ((2, 0.1, 0.01),), 'strengths': (0.01, 0.1)}}
  made.update({'seeds': SEEDS, 'training': {'num_control_seeds': COUNT}} | few)
  made.update(changes or {})
  return escape.config.checked(made.to_dict())


IDS = settings().seeds.ids
ALL = settings().seeds.for_tuning + IDS


def seen(**cells) -> View:
  return View(escape, settings(), cells, {})


def verdicts(claim, view, start='', end=''):
  """Those of the effects of a claim whose names begin and end so, as the claim's grading has them."""
  asked = [
    each for each in escape.claims[claim].effects if each.name.startswith(start) and each.name.endswith(end)
  ]
  ones = [(Claim(claim, 'one', {each.name: each.rule}), {each.name: each.measure(view)}) for each in asked]
  assert ones
  return {grade(*one, num_seeds=COUNT, conditions='made up').verdict.value for one in ones}


def searched(extrema, sign):
  """100 points found, so many of them extrema, with an index that rises (1) or falls (-1) with the loss."""
  loss = np.random.default_rng(0).uniform(size=(COUNT, 64))
  counts = {'points': 100, 'maxima': 0, 'minima': round(100 * extrema)}
  pairs = {'loss': loss, 'index_share': np.round(0.5 + sign * (loss - 0.5), 1)}
  columns = {name: ('seed', np.full(COUNT, value)) for name, value in counts.items()}
  return xr.Dataset(
    columns | {name: (('seed', 'point'), each) for name, each in pairs.items()}, {'seed': IDS}
  )


@pytest.mark.parametrize(
  ('fields', 'networks', 'sign', 'expected'),
  [((1.0, 0.5, 0.2), (0.9, 0.5), 1, 'supported'), ((1.0, 0.99, 0.98), (0.5, 0.5), -1, 'contradicted')],
)
def test_saddles_and_index(fields, networks, sign, expected):
  cells = {f'fields_{size}': searched(share, sign) for size, share in enumerate(fields, 1)}
  cells |= {f'networks_{size}': searched(share, sign) for size, share in enumerate(networks, 1)}
  view = seen(**cells)
  assert verdicts('S1', view) == {expected}
  rise = effects.share_rise(view, 'fields')  # dimension 3 less dimension 2, all fields alike
  assert rise[:3] == pytest.approx([fields[1] - fields[2]] * 3)
  line = np.polyfit([1, 2, 3], np.log((COUNT * 100 * np.array(fields) + 0.5) / (COUNT * 100 + 0.5)), 1)[0]
  assert effects.extrema_factor(view).estimate == pytest.approx(np.exp(line))


def test_points_of_one_index_have_no_rank_correlation():
  # Neither a relation nor its absence: the seeds are excluded, and the claim stays open.
  flat = searched(0.2, 1).assign(index_share=lambda cell: cell.index_share * 0 + 0.5)
  view = seen(**{f'fields_{size}': flat for size in (1, 2, 3)})
  assert verdicts('S1', view, 'random fields in the most') == {'inconclusive'}
  assert effects.index_correlation(view, 'fields').excluded == COUNT


def raced(updates, escaped=None):
  """Arms at two rates, of given updates; a share of the seeds leaves, the others are at the horizon of 1000."""
  shares = [(escaped or {}).get(arm, 1.0) for arm in updates]
  left = np.array([[np.arange(COUNT) < share * COUNT] * 2 for share in shares])
  left = np.concatenate([left[..., :1], left], axis=-1)  # the tuning seed
  times = np.where(left, np.array([*updates.values()])[..., None], 1000)
  dims = ('arm', 'rate', 'seed')
  return xr.Dataset({'updates': (dims, times), 'escaped': (dims, left)}, {'arm': [*updates], 'seed': ALL})


@pytest.mark.parametrize(
  ('full', 'sgd', 'silent', 'expected'), [(0.0, 1.0, 1.0, 'supported'), (1.0, 0.1, 0.0, 'contradicted')]
)
def test_who_leaves_a_saddle(full, sgd, silent, expected):
  arms = dict.fromkeys(('full batch', *effects.SGD), (20.0, 10.0))
  worst = raced(arms, dict.fromkeys(arms, sgd) | {'full batch': full})
  agreeing = raced(arms, {'full batch': 0.0, 'mini-batch': silent})
  view = seen(
    at_made=raced(arms, {'full batch': 0.0}), at_network=worst, at_silent=agreeing, at_twins=agreeing
  )
  assert verdicts('S2', view) == {expected}
  assert (
    view.raced('at_made', 'B=1').updates.values.tolist() == [10.0] * COUNT
  )  # the second rate is the sooner


def test_full_batch_counts_at_every_rate():
  runs = raced({'full batch': (1.0, 2.0)}, {'full batch': 0.0})
  runs.escaped[0, 1] = True  # at the rate that is not the tuned one
  assert effects.stays(seen(at_made=runs, at_network=runs, at_silent=runs, at_twins=runs)).estimate == 1


def test_momentum_and_adam_against_plain():
  runs = {
    time: raced({'full batch': (40.0, 30.0), 'momentum': (time, 90.0), 'Adam': (time, 90.0)})
    for time in (5.0, 50.0)
  }
  sooner, later = (seen(near_made=runs[5.0], near_network=runs[time]) for time in (5.0, 50.0))
  assert verdicts('S3', sooner, 'updates to leave') == {'supported'}
  assert verdicts('S3', later, 'updates to leave') == {'contradicted'}  # the worst saddle counts
  assert effects.sooner(later, 'Adam').estimate == pytest.approx(50 / 30)
  stays = raced({'full batch': (40.0, 30.0), 'momentum': (5.0, 90.0)}, {'momentum': 0.5})
  assert effects.sooner(seen(near_made=stays, near_network=stays), 'momentum').high == np.inf


def exits(factor, law, distance=1.0):
  """Exits from a quadratic saddle: by the law times a factor, momentum by the law or by (1 - beta)."""
  lanes = np.array([(0.1, 0.0), (1.0, 0.0), (0.1, 0.9), (1.0, 0.9)])
  times = np.log(distance / 0.01) / np.log1p(lanes[:, 0] * 0.1) * (1 - lanes[:, 1])
  if law:
    numbers = [{'learning_rate': rate, 'momentum': beta} for rate, beta in lanes]
    times[2:] = [theory.escape_steps(1.0, 0.01, curvature=0.1, **each) for each in numbers[2:]]
  updates = (('lane', 'seed'), factor * times[:, None] * np.ones(COUNT))
  columns = {'updates': updates, 'escaped': (('lane', 'seed'), np.ones((4, COUNT), bool))}
  columns |= {'start': ('seed', np.full(COUNT, 0.01)), 'momentum': ('lane', lanes[:, 1])}
  return xr.Dataset(columns | {'learning_rate': ('lane', lanes[:, 0])}, {'seed': IDS}, {'curvature': 0.1})


def test_laws_of_exits():
  names = ('quadratic saddles', 'PCA', 'saddles of a network')
  for factor, expected in ((1.0, 'supported'), (1.5, 'contradicted')):
    curved = exits(factor, law=True, distance=settings().growth.curved_distance).isel(lane=[0, 1])
    view = seen(quadratic_0=exits(factor, law=True), curved_pca=curved, curved_network=curved)
    assert {each for name in names for each in verdicts('S5', view, name)} == {expected}
    assert effects.closed_form(view, 'curved_pca').estimate == pytest.approx(factor)
  assert verdicts('S3', seen(quadratic_0=exits(1.0, law=False)), 'escape time with') == {'supported'}
  assert verdicts('S3', seen(quadratic_0=exits(1.0, law=True)), 'escape time with') == {'contradicted'}


def test_a_run_that_never_escapes_is_not_left_out():
  runs = exits(1.0, law=True)
  runs.escaped[0, 0] = False
  interval = effects.closed_form(seen(quadratic_0=runs), 'quadratic')
  assert (interval.excluded, interval.high) == (0, np.inf)


@pytest.mark.parametrize(('factor', 'expected'), [(1.0, 'supported'), (1.3, 'contradicted')])
def test_the_law_of_noise(factor, expected):
  law = [
    theory.mean_escape_steps(1.0, curvature=0.1, learning_rate=0.1, noise=1e-4, batch_size=size)
    for size in (1, 8)
  ]
  values = factor * np.array(law, float)[:, None, None] * np.ones(COUNT)
  coords = {'batch_size': [1, 8], 'strength': [0.01], 'seed': IDS}
  runs = xr.Dataset({'updates': ([*coords], values)}, coords, {'curvature': 0.1, 'noise': 1e-4})
  assert verdicts('S5', seen(noisy=runs), 'from the saddle itself') == {expected}


@pytest.mark.parametrize(
  ('adam', 'plain', 'expected'), [(0.0, -1.0, 'supported'), (-1.0, 0.0, 'contradicted')]
)
def test_the_scale_of_the_loss(adam, plain, expected):
  scale, dims = np.array([0.1, 1.0, 10.0]), ('arm', 'lane', 'seed')
  values = np.stack([100 * scale**slope for slope in (plain, adam)])[..., None] * np.ones(COUNT)
  columns = {
    'updates': (dims, values),
    'escaped': (dims, np.ones_like(values, bool)),
    'scale': ('lane', scale),
  }
  view = seen(scales=xr.Dataset(columns, {'arm': ['plain', 'Adam'], 'seed': IDS}))
  assert effects.scale_slope(view, 'Adam').estimate == pytest.approx(adam)
  assert verdicts('S3', view, 'log-log') | verdicts('S3', view, 'the same slope') == {expected}


def passed(ratio, saddles, failed=False):
  """Passages whose gaps grow by a ratio: at the second rate slower, at the third faster, which is above the largest."""
  times = np.cumsum(10 * ratio ** np.arange(saddles))
  values = np.stack([times, 2 * times, 0.5 * times])[None, :, None] * np.ones((2, 1, len(ALL), 1))
  values[..., 1, -1] = -1 if failed else values[..., 1, -1]
  coords = {'arm': ['plain', 'perturbed'], 'learning_rate': [0.25, 0.1, 0.7], 'seed': ALL}
  return xr.Dataset({'passed': ([*coords, 'saddle'], values)}, coords | {'saddle': np.arange(1, saddles + 1)})


def chains(plain, perturbed, failed=False) -> View:
  cells = {'chain_plain': passed(plain, 6, failed), 'chain_noisy': passed(perturbed, 12, failed)}
  return View(escape, settings({'chain': {'rates': (0.25, 0.1, 0.7)}}), cells, {})


def test_chains_are_tuned_below_the_bound():
  ratio = theory.octopus_gap_ratio(0.25, 1.0, 1.0)
  assert chains(ratio, 1.0).chain_rate('chain_plain', 'plain') == 0.25
  assert 'rate 0.25 (an end of those tried)' in chains(ratio, 1.0).conditions('S4')
  assert effects.gap_ratio(chains(ratio, 1.0), 'chain_plain', 'plain').estimate == pytest.approx(ratio)
  assert verdicts('S4', chains(ratio, 1.0)) == {'supported'}
  assert verdicts('S4', chains(1.1, 1.5)) == {'contradicted'}


def test_a_chain_that_is_not_passed_counts_as_infinite_and_supports_no_finite_time():
  view = chains(theory.octopus_gap_ratio(0.25, 1.0, 1.0), 1.0, failed=True)
  assert effects.gap_ratio(view, 'chain_plain', 'plain').num == COUNT
  assert verdicts('S4', view, 'plain descent: factor') == {'supported'}
  assert effects.chain_slope(view).excluded == 1
  assert verdicts('S4', view, 'perturbed descent: log-log slope') == {'inconclusive'}


def trained(near_share, runs=COUNT):
  """21 records until the fit, the first of which is the start, so many of the next 20 near a saddle in some runs."""
  norm = np.full((COUNT, 25), 0.5)
  norm[:, 0], norm[:runs, 1 : 1 + round(20 * near_share)], norm[:, 21:] = 1, 0.05, np.nan
  loss = np.broadcast_to(np.linspace(2.5, 0.1, 25), norm.shape)
  columns = {'full_grad_norm': norm, 'train_loss': loss, 'lowest': 0 * loss - 0.1, 'highest': 0 * loss + 1}
  columns = {name: (('seed', 'step'), each) for name, each in (columns | {'sign': 0 * loss - 1}).items()}
  return xr.Dataset(columns, {'seed': IDS, 'step': np.arange(25)}, {'usual_gradient': 1.0})


def training(runs, found=8) -> View:
  """With a control whose stay of eight records at the first loss is near by the definition for the last so many."""
  control = trained(0.0)
  control['full_grad_norm'] = xr.where(control.step >= 8 - found, 0.01, 0.9).broadcast_like(
    control.train_loss
  )
  control['train_loss'] = xr.where(control.step < 8, 2.3, 1.0).broadcast_like(control.train_loss)
  return seen(training_sgd=runs, training_adam=runs, training_sgd_small_start=control)


@pytest.mark.parametrize(
  ('share', 'runs', 'expected'),
  [
    (0.0, COUNT, 'supported'),
    (0.4, COUNT, 'contradicted'),
    (0.4, 1, 'supported'),  # one run of 20 says little of the others
    (0.4, 2, 'inconclusive'),
    (0.05, COUNT, 'supported'),  # all were near one, but briefly
  ],
)
def test_time_near_a_saddle(share, runs, expected):
  view = training(trained(share, runs))
  assert view.time_near('sgd').values[:runs] == pytest.approx(round(20 * share) / 21)
  assert effects.lingers(view, 'adam')[::4] == ((runs / COUNT if share > 0.1 else 0), COUNT)
  assert verdicts('S6', view) == {expected}


def test_where_the_control_is_missed_no_run_is_judged():
  assert training(trained(0.0)).control_found().values == pytest.approx(1)
  half = training(trained(0.4), found=4)
  assert half.control_found().values == pytest.approx(0.5)
  assert verdicts('S6', half) == {'inconclusive'}


def test_near_needs_a_certain_way_down():
  runs = trained(0.5)
  near = [
    int(training(each).near('sgd').sum())
    for each in (runs, runs.assign(sign=0 * runs.sign), runs.assign(lowest=0.01 * runs.lowest))
  ]
  assert near == [COUNT * 10, 0, 0]
  assert not training(runs).near('sgd', 0.04).any()


@pytest.mark.parametrize('name', ['made', 'pca', 'origin'])
def test_saddles_that_are_known(name):
  with jax.enable_x64(True):
    place = places.place_of(settings(), name, xr.Dataset())
    value = landscapes.value_fn(place.problem)
    gradient = jax.grad(value)(place.saddles[0])
    spectrum, vectors = np.linalg.eigh(jax.hessian(value)(place.saddles[0]))
    assert np.abs(gradient).max() < 1e-14  # N terms of size 1, each rounded at 1e-16
    assert spectrum[0] == pytest.approx(-place.curvatures[0], rel=1e-12)
    if name != 'made':  # two equal ways
      assert np.abs(vectors[:, 0] @ place.ways[0]) == pytest.approx(1, rel=1e-9)
    assert float(value(place.saddles[0])) == pytest.approx(place.values[0], abs=1e-14)
    ends = places.descended(place.problem, place.saddles[0] + 1e-3 * place.ways[0], 0.2, 600)
    assert float(place.values[0] - value(ends)) == pytest.approx(place.falls[0], rel=1e-4)


def quiet(*_):
  return None


def test_exits_are_those_of_the_exact_recursion():
  config = settings()
  runs = measure.quadratic(config, 0, progress=quiet)
  view = seen(quadratic_0=runs)
  assert effects.recursion(view)[:3] == (1, 1, 1)
  plain = runs.momentum.values == 0
  law = effects.formula(view, 'quadratic_0')[plain]
  np.testing.assert_array_equal(runs.updates.values[plain], np.ceil(law))


TINY = {
  'seeds': {'first': 0, 'count': 2, 'tuning': 1, 'repeats': 1},
  'fields': {'dimensions': (1, 2, 3), 'num_features': 8, 'num_starts': 8},
  'search': {'widths': (1, 2), 'num_examples': 32, 'num_starts': 8},
  'network': {'hidden': 2, 'num_examples': 64, 'num_starts': 96},
  'race': {
    'generic': ('network',),
    'symmetric': ('twins',),
    'mini_batch': 8,
    'multiples': (0.5, 1.0),
    'near_multiples': (0.5, 1.0),
    'momentum_multiples': (1.0, 3.0),
    'adam_rates': (0.01, 0.1),
    'evaluations': 10,
    'folds': 5.0,
    'most_updates': 50,
  },
  'growth': {
    'cases': ((2, 0.1, 0.01),),
    'strengths': (0.03, 0.1),
    'betas': (0.0, 0.9),
    'scales': (0.5, 2.0),
    'batch_sizes': (1,),
    'repeats': 2,
  },
  'chain': {'dimension': 4, 'long': 4, 'rates': (0.2, 0.25, 0.7), 'limit': 600},
  'training': {
    'hidden': 2,
    'num_seeds': 2,
    'num_control_seeds': 2,
    'num_updates': 60,
    'record_every': 10,
    'target_loss': 1.5,
    'sgd_rates': (0.3, 1.0),
    'adam_rates': (0.01, 0.1),
  },
}


def test_a_tiny_study_runs_to_its_report(tmp_path):
  config = configs.get_config()
  config.update(TINY)
  found = {}
  for cell in escape.cells(config):
    result = cell.measure(*(found[need] for need in cell.needs), progress=quiet)
    found[cell.name] = result.assign_attrs(cell_wall_time_s=0.0)
  escape.finish(config, found, tmp_path)
  first, second = (json.loads((tmp_path / f'{name}.json').read_text()) for name in ('claims', 'replication'))
  assert (
    [claim['id'] for claim in first]
    == [claim['id'] for claim in second]
    == [f'S{number}' for number in range(1, 7)]
  )
  assert {'saddles', 'at_network-1', 'training_sgd-1'} <= {*found}
  silent = found['at_silent'].sel(arm='mini-batch').transpose('rate', 'seed', ...)
  assert silent.seed.values.tolist() == [1_000_000_000, 0, 1]
  left = silent.escaped.values[silent.updates.values[:, 0].argmin(), 1:]
  assert first[1]['parts'][-1]['effect'] == left.mean()
  page = (tmp_path / 'report.html').read_text()
  assert page.count('<svg') == len(list((tmp_path / 'figures').glob('*.svg'))) == 6


@pytest.mark.parametrize(
  ('section', 'key', 'value'),
  [
    ('fields', 'dimensions', (1, 3)),
    ('fields', 'dimensions', (3, 2)),
    ('search', 'widths', (1,)),
    ('network', 'num_examples', 99_999),
    ('race', 'generic', ('made', 'made')),
    ('race', 'symmetric', ('orign',)),
    ('race', 'mini_batch', 65),
    ('growth', 'betas', (0.5, 0.9)),
    ('growth', 'cases', ((2, 0.1, 5.0),)),
    ('growth', 'cases', ((100, 0.1, 0.01),)),
    ('chain', 'rates', (0.1, 1.5)),
    ('chain', 'largest_rate', 0.05),
    ('training', 'num_control_seeds', 21),
    ('training', 'near_gradient', 0.9),
    ('training', 'batch_size', 99_999),
  ],
)
def test_what_could_not_be_finished_is_refused_in_one_line(section, key, value):
  with pytest.raises(InputError, match=rf'^[^\n]*{section}.{key}[^\n]*$'):
    settings({section: {key: value}})


def test_the_full_configuration_is_one_that_runs_with_more_seeds():
  full, quick = (escape.config.checked(module.get_config().to_dict()) for module in (saddles_full, configs))
  assert full.seeds.count > quick.seeds.count
  assert min(full.seeds.first, quick.seeds.first) >= 5000  # pilots and earlier runs had those below
