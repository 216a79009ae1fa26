"""Every part of every claim of the study of saddles can fail: made-up results that support it, and that do not."""

import ast

import numpy as np
import pytest
import xarray as xr

from configs import saddles as configs
from experiments.saddles import effects
from experiments.saddles.effects import NOISY, SGD, View
from experiments.saddles.study import DIMENSIONS, escape
from gdlab import statistics, theory
from gdlab.claims import Claim, grade

FEW = """
seeds.first=10; search.widths=(1, 2); growth.cases=((2, 0.1, 0.01),); growth.strengths=(0.0005, 0.1);
training.grid=((1, 1.0),)
"""


def settings(changes=''):
  """The study's configuration with few sizes, and changes such as 'chain.limit=10; chain.long=4'."""
  config = configs.get_config()
  entries = [each.split('=', 1) for each in f'{FEW};{changes}'.split(';') if each.strip()]
  config.update_from_flattened_dict({name.strip(): ast.literal_eval(value) for name, value in entries})
  return escape.config.checked(config.to_dict())


IDS = settings().seeds.ids
ALL = settings().seeds.for_tuning + IDS
COUNT = len(IDS)
JITTER = np.exp(0.01 * np.random.default_rng(0).standard_normal(COUNT))  # so that intervals have a width
SHARES = {2: 0.5, 3: 0.25, 4: 0.12, 5: 0.06, 6: 0.03}


def seen(**cells) -> View:
  return View(escape, settings(), cells, {})


def verdict(effect, view):
  """As the claim's grading has it."""
  claim = Claim('one', 'one', {effect.name: effect.rule._replace(premise=False)})
  found = grade(claim, {effect.name: effect.measure(view)}, num_seeds=COUNT, conditions='made up')
  return found.verdict.value


def searched(extrema, sign, expected=0.5, points=300, seed=0):
  """Points found, such a share of them extrema, with an index that rises (1) or falls (-1) with the loss."""
  rng = np.random.default_rng(seed)
  loss = rng.uniform(size=(COUNT, 64))
  index = np.round(0.5 + sign * (loss - 0.5) + 0.1 * rng.standard_normal(loss.shape), 1)
  counts = {'points': points * JITTER, 'extrema': points * extrema * (1 + 0.01 * rng.standard_normal(COUNT))}
  counts |= {'expected': np.full(COUNT, 300.0), 'expected_extrema': np.full(COUNT, 300 * expected)}
  columns = {name: ('seed', values) for name, values in counts.items()}
  pairs = {'loss': loss, 'index_share': index}
  return xr.Dataset(
    columns | {name: (('seed', 'point'), each) for name, each in pairs.items()}, {'seed': IDS}
  )


def raced(updates, escaped=None):
  """Arms at two rates, of given updates; a share of the seeds leaves, the others are at the horizon of 1000."""
  left = np.array([[np.arange(COUNT) < (escaped or {}).get(arm, 1.0) * COUNT] * 2 for arm in updates])
  left = np.concatenate([np.repeat(left[..., :1], len(ALL) - COUNT, axis=-1), left], axis=-1)
  jitter = (
    np.concatenate([np.ones(len(ALL) - COUNT), JITTER]) ** np.arange(1, len(updates) + 1)[:, None, None]
  )
  times = np.where(left, np.array([*updates.values()])[..., None] * jitter, 1000)
  dims = ('arm', 'rate', 'seed')
  return xr.Dataset({'updates': (dims, times), 'escaped': (dims, left)}, {'arm': [*updates], 'seed': ALL})


def races(full, sgd, beside, symmetric):
  """Which shares of runs leave: full batch and SGD at saddles, full batch beside them, SGD where all agree."""
  arms = dict.fromkeys(('full batch', *SGD), (20.0, 10.0))
  shares = dict.fromkeys(arms, sgd) | {'full batch': full}
  cells = {f'at_{kind}': raced(arms, shares) for kind in (*NOISY, *settings().network.silent)}
  cells |= {f'near_{kind}': raced(arms, {'full batch': beside}) for kind in NOISY}
  return cells | {'at_origin': raced(arms, dict.fromkeys(arms, symmetric))}


def exits(
  momentum='exact', plain=1.0, distance=1.0, lanes=((0.005, 0.5), (0.005, 0.9), (1.0, 0.5), (1.0, 0.9))
):
  """Exits from a quadratic saddle: plain by the formula times a factor, momentum by the recursion or by 1 - beta."""
  numbers = np.array([(0.005, 0.0), (1.0, 0.0), *lanes])
  start, alpha, beta = 0.01 * JITTER, numbers[:, :1] * np.ones(COUNT), numbers[:, 1:] * np.ones(COUNT)
  times = plain * np.ceil(np.log(distance / start) / np.log1p(alpha * 0.1))
  for lane in range(2, len(numbers)):
    rate, own = numbers[lane]
    exact = theory.escape_steps(distance, start, curvature=0.1, learning_rate=rate, momentum=own)
    times[lane] = exact if momentum == 'exact' else times[lane] * momentum * JITTER[::-1]
  columns = {'learning_rate': alpha, 'momentum': beta, 'updates': times, 'escaped': times > 0}
  columns = {name: (('lane', 'seed'), values) for name, values in columns.items()}
  ends = {'start': ('seed', start), 'curvature': ('seed', np.full(COUNT, 0.1))}
  return xr.Dataset(columns | ends, {'seed': IDS})


def noise(factor):
  known = {'curvature': 0.1, 'noise': 1e-4}
  law = [theory.mean_escape_steps(1.0, learning_rate=0.1, batch_size=size, **known) for size in (1, 8)]
  coords = {'batch_size': [1, 8], 'strength': [0.01], 'seed': IDS}
  values = factor * np.array(law, float)[:, None, None] * JITTER
  return xr.Dataset({'updates': ([*coords], values)}, coords, known)


def scaled(plain, adam):
  """Exits by the scale of the loss, with such slopes."""
  scale, dims = np.array([0.1, 1.0, 10.0]), ('arm', 'lane', 'seed')
  values = np.stack(
    [100 * scale[:, None] ** (slope * np.ones(COUNT) + 0.1 * np.log(JITTER)) for slope in (plain, adam)]
  )
  lanes = np.broadcast_to(scale[:, None], values.shape[1:])
  columns = {'updates': (dims, values), 'escaped': (dims, values > 0), 'scale': (('lane', 'seed'), lanes)}
  return xr.Dataset(columns, {'arm': ['plain', 'Adam'], 'seed': IDS})


def passed(ratio, saddles, failed=False):
  """Passages whose gaps grow by a ratio, sooner at the first of three rates that verdicts are for."""
  jitter = np.concatenate([np.ones(len(ALL) - COUNT), JITTER])[:, None]
  times = np.cumsum(10 * (ratio * jitter) ** np.arange(saddles), axis=1)
  values = np.stack([times, 2 * times, 0.5 * times])[None] * np.ones((2, 1, 1, 1))
  values[..., -1, -1] = -1 if failed else values[..., -1, -1]
  coords = {'arm': ['plain', 'perturbed'], 'learning_rate': [0.25, 0.1, 0.7], 'seed': ALL}
  return xr.Dataset({'passed': ([*coords, 'saddle'], values)}, coords | {'saddle': np.arange(1, saddles + 1)})


def chains(plain, perturbed, failed=False) -> View:
  cells = {'chain_plain': passed(plain, 6, failed), 'chain_noisy': passed(perturbed, 12, failed)}
  return View(escape, settings('chain.rates=(0.25, 0.1, 0.7)'), cells, {})


def trained(near_share, runs=20):
  """21 records until the fit, the first of which is the start, so many of the next 20 near a saddle in some runs."""
  norm = np.full((20, 25), 0.5)
  norm[:, 0], norm[:runs, 1 : 1 + round(20 * near_share)], norm[:, 21:] = 1, 0.05, np.nan
  columns = {'full_grad_norm': norm, 'lowest': 0 * norm - 0.1, 'highest': 0 * norm + 1, 'sign': 0 * norm - 1}
  columns = {name: (('seed', 'step'), each) for name, each in columns.items()}
  return xr.Dataset(columns, {'seed': IDS[:20], 'step': np.arange(25)}, {'usual_gradient': 1.0})


def fields(shares, sign, points=300):
  return {f'random_{size}': searched(shares[size], sign, SHARES[size], points, size) for size in DIMENSIONS}


def widths(few, many, sign):
  return {f'networks_{width}': searched(share, sign, seed=width) for width, share in ((1, few), (2, many))}


def momenta(fast, slow):
  """Momentum and Adam beside saddles against plain descent in 30."""
  return {
    f'near_{kind}': raced({'full batch': (40.0, 30.0), 'momentum': (fast, slow), 'Adam': (fast, slow)})
    for kind in NOISY
  }


LAW = theory.octopus_gap_ratio(0.25, 1.0, 1.0)
PLAIN = exits(distance=0.05, lanes=()), exits(plain=1.5, distance=0.05, lanes=())
# By claim: results that support every part of it, and results that support none.
SYNTHETIC = {
  'S1': (
    seen(**fields(SHARES, 1), **widths(0.9, 0.5, 1)),
    seen(**fields(dict.fromkeys(DIMENSIONS, 0.96), -1, 500), **widths(0.5, 0.5, -1)),
  ),
  'S2': (seen(**races(0.0, 1.0, 1.0, 0.0)), seen(**races(1.0, 0.1, 0.1, 1.0))),
  'S3': (
    seen(quadratic_0=exits(), scales=scaled(-0.9, 0.0), **momenta(5.0, 90.0)),
    seen(quadratic_0=exits(momentum=1.0), scales=scaled(0.0, -0.9), **momenta(50.0, 90.0)),
  ),
  'S4': (chains(LAW, 1.0), chains(1.2, 1.5)),
  'S5': (
    seen(quadratic_0=exits(), noisy=noise(1.0), curved_pca=PLAIN[0], curved_network=PLAIN[0]),
    seen(quadratic_0=exits(1.0, 1.5), noisy=noise(1.3), curved_pca=PLAIN[1], curved_network=PLAIN[1]),
  ),
  'S6': (
    seen(training_sgd=trained(0.05), training_adam=trained(0.0), training_control=trained(0.4)),
    seen(training_sgd=trained(0.4), training_adam=trained(0.4), training_control=trained(0.0)),
  ),
}  # fmt: skip
PARTS = [(claim, effect) for claim, asked in escape.claims.items() for effect in asked.effects]


@pytest.mark.parametrize(('claim', 'effect'), PARTS, ids=[f'{claim} {each.name}' for claim, each in PARTS])
def test_every_part_can_be_supported_and_can_fail(claim, effect):
  good, bad = SYNTHETIC[claim]
  assert verdict(effect, good) == 'supported'
  fails = ('inconclusive',) if effect.rule.premise else ('contradicted', 'no difference')
  assert verdict(effect, bad) in fails


# Results in which the two sides of a comparison are one and the same.
FLAT = searched(0.5, 1)
TWINS = (
  raced({'full batch': (30.0, 30.0)})
  .isel(arm=[0, 0, 0])
  .assign_coords(arm=['full batch', 'momentum', 'Adam'])
)
SAME = {
  'S1': (
    ('random fields: share of saddles', 'networks: share'),
    seen(**{f'random_{size}': FLAT for size in DIMENSIONS}, networks_1=FLAT, networks_2=FLAT),
  ),
  'S3': (('updates to leave',), seen(**{f'near_{kind}': TWINS for kind in NOISY})),
}


@pytest.mark.parametrize('claim', SAME)
def test_arms_that_are_one_and_the_same_are_no_evidence(claim):
  starts, view = SAME[claim]
  asked = [effect for effect in escape.claims[claim].effects if effect.name.startswith(starts)]
  assert len(asked) >= len(starts)
  assert {verdict(effect, view) for effect in asked} == {'inconclusive'}


def test_full_batch_counts_at_every_rate():
  runs = raced({'full batch': (1.0, 2.0)}, {'full batch': 0.0})
  runs.escaped[0, 1] = True  # at the rate that is not the tuned one
  assert effects.stays(seen(at_made=runs), 'made').estimate == 1


def test_a_run_that_stays_is_not_left_out():
  plain = {'full batch': (40.0, 30.0)}
  stays = seen(near_made=raced(plain | {'momentum': (5.0, 90.0)}, {'momentum': 0.5}))
  assert effects.sooner(stays, 'momentum', 'made').high == np.inf
  few = seen(near_made=raced(plain | {'momentum': (5.0, 90.0)}, {'momentum': 0.9}))
  for view in (few, seen(**momenta(5.0, 90.0))):  # one in ten that stay leave the median where it is
    assert 4 / 29 < effects.sooner(view, 'momentum', 'made').estimate < 5 / 30 * 1.02
    assert effects.sooner(view, 'momentum', 'made').high < 0.9
  runs = exits()
  runs.escaped[0, 0] = False
  assert effects.departure(seen(quadratic_0=runs), momentum=False).estimate == np.inf


def test_a_share_after_a_choice_is_a_share():
  runs, tuning = raced({'B=1': (20.0, 10.0)}), len(ALL) - COUNT
  runs.escaped[0, 0, tuning : tuning + COUNT // 2] = False  # at a rate that half of the draws choose
  odd = np.arange(tuning) % 2
  runs.updates[0, :, :tuning] = np.stack([1 + 8 * odd, 9 - 8 * odd])
  found = effects.leaves(seen(at_made=runs), 'at_made', 'B=1')
  assert 0 <= found.low < found.estimate <= found.high <= 1


def test_points_of_one_index_have_no_rank_correlation():
  # Neither a relation nor its absence: the seeds are excluded, and the claim stays open.
  flat = searched(0.2, 1).assign(index_share=lambda cell: cell.index_share * 0 + 0.5)
  view = seen(**{f'random_{size}': flat for size in DIMENSIONS})
  assert effects.index_correlation(view, 'random').excluded == COUNT


def test_chains_are_tuned_below_the_bound_and_waiting_counts_as_infinite():
  good = SYNTHETIC['S4'][0]
  assert good.chain_rate('chain_plain', 'plain') == 0.25
  assert 'rate 0.25 (an end of those tried)' in good.conditions('S4')
  view = chains(LAW, 1.0, failed=True)
  assert effects.gap_ratio(view, 'chain_plain', 'plain').estimate == pytest.approx(LAW, rel=0.01)
  slope = effects.chain_slope(view)
  assert slope.excluded == 1
  assert verdict(escape.claims['S4'].effects[-1], view) == 'inconclusive'


def test_momentum_follows_the_saying_at_small_rates_alone():
  runs = exits()
  assert effects.follows(runs).tolist() == [True, True, True, True, False, False]
  np.testing.assert_allclose(effects.momentum_ratios(runs)[2:4], 1, atol=0.1)
  assert (effects.momentum_ratios(runs)[5] > 1.25).all()


@pytest.mark.parametrize(('share', 'runs', 'expected'), [(0.4, 1, 'supported'), (0.4, 5, 'inconclusive')])
def test_one_run_of_twenty_says_little_of_the_others(share, runs, expected):
  view = seen(training_sgd=trained(share, runs))
  assert view.time_near('training_sgd').values[:runs] == pytest.approx(round(20 * share) / 21)
  assert verdict(escape.claims['S6'].effects[0], view) == expected


def test_near_needs_a_certain_way_down():
  runs = trained(0.5)
  less = runs.assign(sign=0 * runs.sign), runs.assign(lowest=0.01 * runs.lowest)
  found = [int(seen(training_sgd=each).near('training_sgd').sum()) for each in (runs, *less)]
  assert found == [20 * 10, 0, 0]


def test_saddles_of_one_network_are_not_taken_for_independent():
  def interval(flags):
    return effects.clustered_share(xr.DataArray(flags, dims=('seed', 'saddle')), 0.95)

  half = np.arange(COUNT) % 2 == 0
  alike = interval(np.tile(half[:, None], (1, 4)))  # as wide as of one for each seed
  one = statistics.share(half)
  assert alike[1:3] == pytest.approx(one[1:3], abs=0.01)
  apart = interval(np.random.default_rng(0).uniform(size=(COUNT, 4)) < 0.5)
  assert 0.45 < (apart.high - apart.low) / (one.high - one.low) < 0.6  # 1/2: about as of four for each seed
  assert interval(half[:, None])[1:3] == pytest.approx(one[1:3], abs=1e-12)
  every = statistics.share(np.ones(COUNT, bool))
  assert interval(np.ones((COUNT, 4), bool))[1:3] == pytest.approx(every[1:3], abs=1e-12)
