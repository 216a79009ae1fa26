"""Effects of the study of saddles on made-up results whose answer is plain, true and false, and refusals."""

import json

import numpy as np
import pytest
import xarray as xr

from configs import saddles, saddles_full
from experiments.saddles import claims, effects, seeds
from experiments.saddles.seeds import TUNING_IDS
from experiments.saddles.study import Study, near
from gdlab import theory
from gdlab.claims import Verdict
from gdlab.errors import InputError

FIRST, COUNT = 10, 20


def config():
  """The study's configuration with few sizes."""
  made = saddles.get_config()
  made.update(
    {
      'first_seeds': (FIRST, 100),
      'num_seeds': COUNT,
      'fields': {'dimensions': (1, 2, 3)},
      'search': {'widths': (1, 2)},
      'race': {'generic': ('made', 'network'), 'symmetric': ('twins',)},
      'growth': {'cases': ((2, 0.1, 0.01),), 'strengths': (0.01, 0.1)},
      'training': {'num_seeds': COUNT},
    }
  )
  return made


def study(**results) -> Study:
  """Made-up results as the first set of seeds sees them."""
  return Study(config(), results, FIRST)


def ids() -> list[int]:
  """Two sets of seeds and the tuning seeds; only the first are asked for."""
  return [*range(FIRST, FIRST + COUNT), 100, TUNING_IDS]


def verdict(claim: str, part: str, made: Study) -> Verdict:
  """That of the one effect of a claim whose name begins so."""
  (effect,) = [effect for effect in claims.CLAIMS[claim].effects if effect.name.startswith(part)]
  return effect.rule.judge(effect.measure(made))


def searched(extrema: float, sign: int, dimension: int = 3) -> xr.Dataset:
  """100 points found, so many of them extrema, with an index that rises (1) or falls (-1) with the loss."""
  rng = np.random.default_rng(0)
  loss = rng.uniform(size=(len(ids()), 64))
  shared = {'points': np.full(len(ids()), 100), 'maxima': np.zeros(len(ids()), int)}
  columns = shared | {'minima': np.full(len(ids()), round(100 * extrema))}
  pairs = {'loss': loss, 'index_share': np.round(0.5 + sign * (loss - 0.5), 1)}
  return xr.Dataset(
    {name: ('seed', values) for name, values in columns.items()}
    | {name: (('seed', 'point'), values) for name, values in pairs.items()},
    {'seed': ids()},
    {'dimension': dimension},
  )


@pytest.mark.parametrize(
  ('shares', 'sign', 'expected'), [((1.0, 0.5, 0.2), 1, 'supported'), ((1.0, 0.99, 0.98), -1, 'contradicted')]
)
def test_saddles_and_index_of_fields(shares, sign, expected):
  made = study(
    **{f'fields_{size}': searched(share, sign) for size, share in zip((1, 2, 3), shares, strict=True)}
  )
  for part in (
    'random fields: share',
    'random fields: factor',
    'random fields in the most dimensions: rank',
  ):
    assert verdict('S1', part, made) == expected, part


@pytest.mark.parametrize(
  ('shares', 'sign', 'expected'), [((0.9, 0.5), 1, 'supported'), ((0.5, 0.5), -1, 'contradicted')]
)
def test_saddles_and_index_of_networks(shares, sign, expected):
  made = study(
    **{f'networks_{size}': searched(share, sign) for size, share in zip((1, 2), shares, strict=True)}
  )
  for part in ('networks: share', 'networks with the most hidden units: rank'):
    assert verdict('S1', part, made) == expected, part


def raced(updates: dict[str, tuple[float, float]], escaped: dict[str, float] | None = None) -> xr.Dataset:
  """Arms at two rates, of given updates; a share of the seeds leaves, the others are at the horizon of 1000."""
  arms = list(updates)
  times, left = (np.empty((len(arms), 2, len(ids()))) for _ in range(2))
  for number, arm in enumerate(arms):
    out = np.arange(len(ids())) < (escaped or {}).get(arm, 1.0) * COUNT
    out[-1] = out[0]  # the tuning seed
    left[number] = out
    times[number] = np.where(out, np.array(updates[arm])[:, None], 1000)
  dims = ('arm', 'rate', 'seed')
  return xr.Dataset(
    {'updates': (dims, times), 'escaped': (dims, left.astype(bool))},
    {'arm': arms, 'seed': ids()},
  )


@pytest.mark.parametrize(
  ('full', 'sgd', 'twins', 'expected'),
  [(0.0, 1.0, 1.0, ['supported'] * 3), (1.0, 0.1, 0.0, ['contradicted'] * 3)],
)
def test_who_leaves_a_saddle(full, sgd, twins, expected):
  updates = dict.fromkeys(('full batch', 'B=1', 'mini-batch', 'large batch'), (20.0, 10.0))
  left = dict.fromkeys(updates, sgd) | {'full batch': full}
  made = study(
    at_made=raced(updates, left | {'B=1': 1.0}),
    at_network=raced(updates, left),
    at_twins=raced(updates, {'full batch': 0.0, 'mini-batch': twins}),
  )
  parts = (
    'share of full-batch',
    'share of SGD runs that left, B=1',
    'share of SGD runs that left, mini-batch, least over saddles whose symmetry',
  )
  assert [verdict('S2', part, made) for part in parts] == expected


def test_full_batch_counts_at_every_rate():
  runs = raced(dict.fromkeys(('full batch',), (1.0, 2.0)), {'full batch': 0.0})
  runs.escaped[0, 1] = True  # at the rate that is not the tuned one
  made = study(at_made=runs, at_network=runs, at_twins=runs)
  assert effects.stays(made).estimate == 1


@pytest.mark.parametrize(('momentum', 'expected'), [(5.0, 'supported'), (50.0, 'contradicted')])
def test_momentum_and_adam_against_plain(momentum, expected):
  updates = {'full batch': (40.0, 30.0), 'momentum': (momentum, 90.0), 'Adam': (momentum, 90.0)}
  made = study(near_made=raced(updates), near_network=raced(updates))
  assert verdict('S3', 'updates to leave, momentum', made) == expected
  assert verdict('S3', 'updates to leave, Adam', made) == expected


def test_an_arm_that_stays_took_for_ever():
  updates = {'full batch': (40.0, 30.0), 'momentum': (5.0, 90.0)}
  runs = raced(updates, {'full batch': 1.0, 'momentum': 0.5})
  assert effects.sooner(study(near_made=runs, near_network=runs), 'momentum').high == np.inf


def exits(factor: float, law: bool) -> xr.Dataset:
  """Exits from a quadratic saddle: by the law times a factor, momentum by the law or by (1 - beta)."""
  lanes = [(0.1, 0.0), (1.0, 0.0), (0.1, 0.9), (1.0, 0.9)]
  start = np.full((4, len(ids())), 0.01)
  updates = np.empty_like(start)
  for lane, (rate, beta) in enumerate(lanes):
    plain = np.log(1 / 0.01) / np.log1p(rate * 0.1)
    exact = (
      theory.escape_steps(1.0, 0.01, curvature=0.1, learning_rate=rate, momentum=beta) if beta else plain
    )
    updates[lane] = factor * (exact if law else plain * (1 - beta))
  return xr.Dataset(
    {
      'start': (('lane', 'seed'), start),
      'updates': (('lane', 'seed'), updates),
      'escaped': (('lane', 'seed'), np.ones_like(start, bool)),
      'learning_rate': ('lane', [rate for rate, _ in lanes]),
      'momentum': ('lane', [beta for _, beta in lanes]),
      'curvature': ('seed', np.full(len(ids()), 0.1)),
    },
    {'seed': ids()},
    {'curvature': 0.1},
  )


def test_the_law_of_momentum():
  part = 'escape time with momentum'
  assert verdict('S3', part, study(quadratic_0=exits(1.0, law=False))) == 'supported'
  assert verdict('S3', part, study(quadratic_0=exits(1.0, law=True))) == 'contradicted'


@pytest.mark.parametrize(('factor', 'expected'), [(1.0, 'supported'), (1.4, 'contradicted')])
def test_the_closed_form(factor, expected):
  made = study(quadratic_0=exits(factor, law=True))
  assert verdict('S5', 'quadratic saddles, plain', made) == expected
  assert verdict('S5', 'quadratic saddles, momentum', made) == expected


@pytest.mark.parametrize(('factor', 'expected'), [(1.0, 'supported'), (1.5, 'contradicted')])
def test_the_closed_form_elsewhere(factor, expected):
  runs = exits(1.0, law=True).isel(lane=[0, 1])
  made = study(curved_pca=runs, curved_network=runs)
  law = np.log(made.config.growth.curved_distance / 0.01) / np.log1p(runs.learning_rate * 0.1)
  runs['updates'] = (factor * law).broadcast_like(runs.updates)
  for part in ('PCA of the digits', 'saddles of a network'):
    assert verdict('S5', part, made) == expected


def test_a_run_that_never_escapes_is_not_left_out():
  runs = exits(1.0, law=True)
  runs.escaped[0, 0] = False
  interval = effects.closed_form(study(quadratic_0=runs), momentum=False)
  assert interval.excluded == 0
  assert interval.high == np.inf


@pytest.mark.parametrize(('factor', 'expected'), [(1.0, 'supported'), (1.3, 'contradicted')])
def test_the_law_of_noise(factor, expected):
  law = [
    [theory.mean_escape_steps(1.0, curvature=0.1, learning_rate=0.1, noise=1e-4, batch_size=size)]
    for size in (1, 8)
  ]
  values = factor * np.array(law, float)[..., None] * np.ones(len(ids()))
  made = xr.Dataset(
    {'updates': (('batch_size', 'strength', 'seed'), values)},
    {'batch_size': [1, 8], 'strength': [0.01], 'seed': ids()},
    {'curvature': 0.1, 'noise': 1e-4},
  )
  assert verdict('S5', 'from the saddle itself', study(noisy=made)) == expected


@pytest.mark.parametrize(
  ('adam', 'plain', 'expected'), [(0.0, -1.0, 'supported'), (-1.0, 0.0, 'contradicted')]
)
def test_the_scale_of_the_loss(adam, plain, expected):
  scale = np.array([0.1, 1.0, 10.0])
  values = np.stack([100 * scale**slope for slope in (plain, adam)])[..., None] * np.ones(len(ids()))
  dims = ('arm', 'lane', 'seed')
  made = xr.Dataset(
    {'updates': (dims, values), 'escaped': (dims, np.ones_like(values, bool)), 'scale': ('lane', scale)},
    {'arm': ['plain', 'Adam'], 'seed': ids()},
  )
  assert verdict('S3', 'log-log slope', study(scales=made)) == expected
  assert verdict('S3', 'the same slope', study(scales=made)) == expected


def passed(ratio: float, saddles: int, failed: bool = False) -> xr.Dataset:
  """Passages whose gaps grow by a ratio, for two rates of which the second is slower."""
  times = np.cumsum(10 * ratio ** np.arange(saddles))
  values = np.stack([times, 2 * times])[None, :, None] * np.ones((2, 1, len(ids()), 1))
  if failed:
    values[..., 0, -1] = -1
  return xr.Dataset(
    {'passed': (('arm', 'learning_rate', 'seed', 'saddle'), values)},
    {
      'arm': ['plain', 'perturbed'],
      'learning_rate': [0.25, 0.1],
      'seed': ids(),
      'saddle': np.arange(1, saddles + 1),
    },
    {'limit': 10_000},
  )


def test_chains():
  ratio = theory.octopus_gap_ratio(0.25, 1.0, 1.0)
  made = study(chain_plain=passed(ratio, 6), chain_noisy=passed(1.0, 12))
  parts = [effect.name for effect in claims.CLAIMS['S4'].effects]
  assert {verdict('S4', part, made) for part in parts} == {'supported'}
  other = study(chain_plain=passed(1.1, 6), chain_noisy=passed(1.5, 12))
  assert {verdict('S4', part, other) for part in parts} == {'contradicted'}


def test_a_chain_that_is_not_passed_is_no_support():
  made = study(chain_plain=passed(2.7, 6, failed=True), chain_noisy=passed(1.0, 12, failed=True))
  assert effects.gap_ratio(made, 'chain_noisy', 'perturbed').high == np.inf
  assert effects.chain_slope(made).excluded == 1


def trained(near_share: float) -> xr.Dataset:
  """20 records until the fit, the first of them at gradient 1, so many of the others near a saddle; then none."""
  count = len(ids())
  norm = np.full((count, 25), 0.5)
  norm[:, 0] = 1
  norm[:, 1 : 1 + round(20 * near_share)] = 0.05
  norm[:, 20:] = np.nan
  dims = ('seed', 'step')
  return xr.Dataset(
    {
      'full_grad_norm': (dims, norm),
      'lowest': (dims, np.full_like(norm, -0.1)),
      'highest': (dims, np.ones_like(norm)),
      'sign': (dims, np.full_like(norm, -1)),
    },
    {'seed': ids(), 'step': np.arange(25)},
  )


@pytest.mark.parametrize(('share', 'expected'), [(0.0, 'supported'), (0.4, 'contradicted')])
def test_time_near_a_saddle(share, expected):
  made = study(training_sgd=trained(share), training_adam=trained(share))
  for arm in ('SGD', 'Adam'):
    assert effects.time_near(made, arm).estimate == pytest.approx(share)
    assert verdict('S6', f'share of updates until the fit near a saddle, {arm}', made) == expected


def test_near_needs_a_certain_way_down():
  runs = trained(0.5)
  assert near(runs, 0.1, 0.01).values == pytest.approx(0.5)
  assert near(runs.assign(sign=0 * runs.sign), 0.1, 0.01).values == pytest.approx(0)
  assert near(runs.assign(lowest=0.01 * runs.lowest), 0.1, 0.01).values == pytest.approx(0)


def test_shares_have_a_width_at_their_ends():
  interval = effects.share(np.zeros(20, bool))
  assert interval.low == 0
  assert 0.1 < interval.high < 0.2


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'num_seeds': 1}, ('num_seeds', '1')),
    ({'first_seeds': (1000, 1005)}, ('first_seeds', '1005')),
    ({'chain': {'dimension': 9}}, ('chain.dimension', '9')),
    ({'race': {'multiples': (1.0,)}}, ('race.multiples',)),
    ({'race': {'generic': ('made',)}}, ('race.generic', 'network')),
    ({'race': {'symmetric': ('orign', 'twins')}}, ('orign', "'origin'")),
    ({'fields': {'dimensions': (3, 1)}}, ('fields', '(3, 1)')),
    ({'training': {'num_seeds': 99}}, ('training.num_seeds', '99')),
  ],
)
def test_bad_configurations_are_refused(change, words):
  made = saddles.get_config()
  made.update(change)
  with pytest.raises(InputError) as error:
    seeds.check(made)
  for word in words:
    assert word in str(error.value)


def test_the_full_configuration_is_one_that_runs():
  full = saddles_full.get_config()
  seeds.check(full)
  assert full.num_seeds > saddles.get_config().num_seeds
  assert json.loads(full.to_json()).keys() == json.loads(saddles.get_config().to_json()).keys()
