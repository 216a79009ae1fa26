"""The study of saddles: effects on made-up results, measurements against closed forms, and a tiny run of it."""

import ast
import json

import jax
import ml_collections
import numpy as np
import pytest
import xarray as xr

from configs import saddles as configs
from configs import saddles_full
from experiments.saddles import effects, figures, measure, places  # noqa: F401, it registers sections
from experiments.saddles.effects import View
from experiments.saddles.study import escape
from gdlab import theory
from gdlab.claims import Claim, grade
from gdlab.core.errors import InputError
from gdlab.problems import landscapes

COUNT = 20
FEW = """
seeds.first=10; seeds.tuning=1; fields.dimensions=(1, 2, 3); search.widths=(1, 2);
race.generic=('made', 'network'); race.symmetric=('twins',); growth.cases=((2, 0.1, 0.01),);
growth.strengths=(0.01, 0.1); training.num_control_seeds=20
"""


def settings(changes=''):
  """The study's configuration with few sizes, and changes such as 'chain.limit=10; chain.long=4'."""
  config = configs.get_config()
  entries = [each.split('=', 1) for each in f'{FEW};{changes}'.split(';') if each.strip()]
  config.update_from_flattened_dict({name.strip(): ast.literal_eval(value) for name, value in entries})
  return escape.config.checked(config.to_dict())


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


@pytest.mark.parametrize(('full', 'sgd', 'silent'), [(0.0, 1.0, 1.0), (1.0, 0.1, 0.0)])
def test_who_leaves_a_saddle(full, sgd, silent):
  arms = dict.fromkeys(('full batch', *effects.SGD), (20.0, 10.0))
  worst = raced(arms, dict.fromkeys(arms, sgd) | {'full batch': full})
  best, agree = raced(arms, {'full batch': 0.0}), raced(arms, {'full batch': 0.0, 'mini-batch': silent})
  view = seen(at_made=best, at_network=worst, at_silent=agree, at_twins=agree)
  assert verdicts('S2', view) == {'contradicted' if full else 'supported'}
  assert view.raced('at_made', 'B=1').updates.values.tolist() == [10.0] * COUNT  # at the sooner rate


def test_full_batch_counts_at_every_rate():
  runs = raced({'full batch': (1.0, 2.0)}, {'full batch': 0.0})
  runs.escaped[0, 1] = True  # at the rate that is not the tuned one
  assert effects.stays(seen(at_made=runs, at_network=runs, at_silent=runs, at_twins=runs)).estimate == 1


def test_momentum_and_adam_against_plain():
  plain = {'full batch': (40.0, 30.0)}
  soon, late = (raced(plain | dict.fromkeys(('momentum', 'Adam'), (time, 90.0))) for time in (5.0, 50.0))
  sooner, later = seen(near_made=soon, near_network=soon), seen(near_made=soon, near_network=late)
  assert verdicts('S3', sooner, 'updates to leave') == {'supported'}
  assert verdicts('S3', later, 'updates to leave') == {'contradicted'}  # the worst saddle counts
  assert effects.sooner(later, 'Adam').estimate == pytest.approx(50 / 30)
  stays = raced(plain | {'momentum': (5.0, 90.0)}, {'momentum': 0.5})
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
  runs = exits(1.0, law=True)
  assert verdicts('S3', seen(quadratic_0=runs), 'escape time with') == {'contradicted'}
  runs.escaped[0, 0] = False  # is not left out
  assert effects.closed_form(seen(quadratic_0=runs), 'quadratic').high == np.inf


def test_the_law_of_noise():
  known = {'curvature': 0.1, 'noise': 1e-4}
  law = [theory.mean_escape_steps(1.0, learning_rate=0.1, batch_size=size, **known) for size in (1, 8)]
  coords = {'batch_size': [1, 8], 'strength': [0.01], 'seed': IDS}
  for factor, expected in ((1.0, 'supported'), (1.3, 'contradicted')):
    values = factor * np.array(law, float)[:, None, None] * np.ones(COUNT)
    runs = xr.Dataset({'updates': ([*coords], values)}, coords, known)
    assert verdicts('S5', seen(noisy=runs), 'from the saddle itself') == {expected}


@pytest.mark.parametrize(('adam', 'plain'), [(0.0, -1.0), (-1.0, 0.0)])
def test_the_scale_of_the_loss(adam, plain):
  scale, dims = np.array([0.1, 1.0, 10.0]), ('arm', 'lane', 'seed')
  values = np.stack([100 * scale**slope for slope in (plain, adam)])[..., None] * np.ones(COUNT)
  columns = {'updates': (dims, values), 'escaped': (dims, values > 0), 'scale': ('lane', scale)}
  view = seen(scales=xr.Dataset(columns, {'arm': ['plain', 'Adam'], 'seed': IDS}))
  assert effects.scale_slope(view, 'Adam').estimate == pytest.approx(adam)
  assert verdicts('S3', view, 'log-log') | verdicts('S3', view, 'the same slope') == {
    'contradicted' if adam else 'supported'
  }


def passed(ratio, saddles, failed=False):
  """Passages whose gaps grow by a ratio: at the second rate slower, at the third faster, which is above the largest."""
  times = np.cumsum(10 * ratio ** np.arange(saddles))
  values = np.stack([times, 2 * times, 0.5 * times])[None, :, None] * np.ones((2, 1, len(ALL), 1))
  values[..., 1, -1] = -1 if failed else values[..., 1, -1]
  coords = {'arm': ['plain', 'perturbed'], 'learning_rate': [0.25, 0.1, 0.7], 'seed': ALL}
  return xr.Dataset({'passed': ([*coords, 'saddle'], values)}, coords | {'saddle': np.arange(1, saddles + 1)})


def chains(plain, perturbed, failed=False) -> View:
  cells = {'chain_plain': passed(plain, 6, failed), 'chain_noisy': passed(perturbed, 12, failed)}
  return View(escape, settings('chain.rates=(0.25, 0.1, 0.7)'), cells, {})


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
  for name, stays, later in (('full_grad_norm', 0.01, 0.9), ('train_loss', 2.3, 1.0)):
    at = (control.step < 8) & ((name == 'train_loss') | (control.step >= 8 - found))
    control[name] = xr.where(at, stays, later).broadcast_like(control.train_loss)
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
  less = runs.assign(sign=0 * runs.sign), runs.assign(lowest=0.01 * runs.lowest)
  assert [int(training(each).near('sgd').sum()) for each in (runs, *less)] == [COUNT * 10, 0, 0]


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


TINY = """
seeds.count=2; fields.num_features=8; fields.num_starts=8; search.num_examples=32; search.num_starts=8;
network.hidden=2; network.num_examples=64; network.num_starts=96; race.generic=('network',);
race.mini_batch=8; race.multiples=(0.5, 1.0); race.near_multiples=(0.5, 1.0);
race.momentum_multiples=(1.0, 3.0); race.adam_rates=(0.01, 0.1); race.evaluations=10; race.folds=5.0;
race.most_updates=50; growth.strengths=(0.03, 0.1); growth.betas=(0.0, 0.9); growth.repeats=2;
chain.dimension=4; chain.long=4; chain.rates=(0.2, 0.25, 0.7); chain.limit=600; training.hidden=2;
training.num_seeds=2; training.num_control_seeds=2; training.num_updates=60; training.record_every=10;
training.target_loss=1.5
"""


@pytest.mark.slow
def test_a_tiny_study_runs_to_its_report(tmp_path):
  config, found = ml_collections.ConfigDict(settings(TINY).model_dump(), convert_dict=True), {}
  for cell in escape.cells(config):
    result = cell.measure(*(found[need] for need in cell.needs), progress=quiet)
    found[cell.name] = result.assign_attrs(cell_wall_time_s=0.0)
  escape.finish(config, found, tmp_path)
  first, second = (json.loads((tmp_path / f'{name}.json').read_text()) for name in ('claims', 'replication'))
  ids = [f'S{number}' for number in range(1, 7)]
  assert [claim['id'] for claim in first] == [claim['id'] for claim in second] == ids
  assert {'saddles', 'at_network-1', 'training_sgd-1'} <= {*found}
  silent = found['at_silent'].sel(arm='mini-batch').transpose('rate', 'seed', ...)
  assert silent.seed.values.tolist() == [1_000_000_010, 10, 11]
  left = silent.escaped.values[silent.updates.values[:, 0].argmin(), 1:]
  assert first[1]['parts'][-1]['effect'] == left.mean()
  page = (tmp_path / 'report.html').read_text()
  assert page.count('<svg') == len(list((tmp_path / 'figures').glob('*.svg'))) == 6


REFUSED = (
  'fields.dimensions=(1, 3)', 'fields.dimensions=(3, 2)', 'search.widths=(1,)', 'network.num_examples=99_999',
  "race.generic=('made', 'made')", "race.symmetric=('orign',)", 'race.mini_batch=65', 'growth.betas=(0.5, 0.9)',
  'growth.cases=((2, 0.1, 5.0),)', 'growth.cases=((100, 0.1, 0.01),)', 'chain.rates=(0.1, 1.5)',
  'chain.largest_rate=0.05', 'training.num_control_seeds=21', 'training.batch_size=99_999',
)  # fmt: skip


@pytest.mark.parametrize('change', REFUSED)
def test_what_could_not_be_finished_is_refused_in_one_line(change):
  with pytest.raises(InputError, match=rf'^[^\n]*{change.partition("=")[0]}[^\n]*$'):
    settings(change)


def test_the_full_configuration_is_one_that_runs_with_more_seeds():
  full, quick = (escape.config.checked(module.get_config().to_dict()) for module in (saddles_full, configs))
  assert full.seeds.count > quick.seeds.count
  assert min(full.seeds.first, quick.seeds.first) >= 5000  # pilots and earlier runs had those below
