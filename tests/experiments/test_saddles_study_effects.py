"""Effects of the study of saddles on made-up results whose answer is plain, true and false."""

import numpy as np
import pytest
import xarray as xr

from configs import saddles
from experiments.saddles import claims, effects
from experiments.saddles.seeds import TUNING_IDS
from experiments.saddles.study import Study, near
from gdlab import theory
from gdlab.claims import Claim, Verdict, grade

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
      'training': {'num_seeds': COUNT, 'num_control_seeds': COUNT},
    }
  )
  return made


def study(**results) -> Study:
  """Made-up results as the first set of seeds sees them."""
  return Study(config(), results, FIRST)


def ids() -> list[int]:
  """Two sets of seeds and the tuning seeds; only the first are asked for."""
  return [*range(FIRST, FIRST + COUNT), 100, TUNING_IDS]


def verdict(claim: str, part: str, made: Study, end: str = '') -> Verdict:
  """That of the one effect of a claim whose name begins and ends so, as the claim's grading has it."""
  (effect,) = [
    effect
    for effect in claims.CLAIMS[claim].effects
    if effect.name.startswith(part) and effect.name.endswith(end)
  ]
  one = Claim(claim, 'one part', {effect.name: effect.rule})
  return grade(one, {effect.name: effect.measure(made)}, num_seeds=COUNT, conditions='made up').verdict


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


def test_points_of_one_index_have_no_rank_correlation():
  # Neither a relation nor its absence: the seeds are excluded, and the claim stays open.
  flat = searched(0.2, 1).assign(index_share=lambda cell: cell.index_share * 0 + 0.5)
  made = study(**{f'fields_{size}': flat for size in (1, 2, 3)})
  assert verdict('S1', 'random fields in the most dimensions: rank', made) == 'inconclusive'
  assert effects.index_correlation(made, 'fields_3').excluded == COUNT


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
  ('full', 'sgd', 'silent', 'expected'),
  [(0.0, 1.0, 1.0, ['supported'] * 3), (1.0, 0.1, 0.0, ['contradicted'] * 3)],
)
def test_who_leaves_a_saddle(full, sgd, silent, expected):
  updates = dict.fromkeys(('full batch', 'B=1', 'mini-batch', 'large batch'), (20.0, 10.0))
  left = dict.fromkeys(updates, sgd) | {'full batch': full}
  made = study(
    at_made=raced(updates, left | {'B=1': 1.0}),
    at_network=raced(updates, left),
    at_silent=raced(updates, {'full batch': 0.0, 'mini-batch': silent}),
    at_twins=raced(updates, {'full batch': 0.0, 'mini-batch': 1 - silent}),  # shown, not graded
  )
  parts = (
    'share of full-batch',
    'share of SGD runs that left, B=1',
    'share of SGD runs that left, mini-batch, saddles found',
  )
  assert [verdict('S2', part, made) for part in parts] == expected


def test_full_batch_counts_at_every_rate():
  runs = raced(dict.fromkeys(('full batch',), (1.0, 2.0)), {'full batch': 0.0})
  runs.escaped[0, 1] = True  # at the rate that is not the tuned one
  made = study(at_made=runs, at_network=runs, at_silent=runs, at_twins=runs)
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


def test_exits_are_compared_with_the_formula_rounded_up():
  runs = exits(1.0, law=True)
  assert effects.rounded_up(study(quadratic_0=runs)) == 0
  runs['updates'] = np.ceil(runs.updates)
  assert effects.rounded_up(study(quadratic_0=runs)) == 1


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
  """Passages whose gaps grow by a ratio: at the second rate slower, at the third faster, which is above the largest."""
  times = np.cumsum(10 * ratio ** np.arange(saddles))
  values = np.stack([times, 2 * times, 0.5 * times])[None, :, None] * np.ones((2, 1, len(ids()), 1))
  if failed:
    values[..., 0, -1] = -1
  return xr.Dataset(
    {'passed': (('arm', 'learning_rate', 'seed', 'saddle'), values)},
    {
      'arm': ['plain', 'perturbed'],
      'learning_rate': [0.25, 0.1, 0.7],
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


def test_rates_of_chains_are_tuned_below_the_bound_and_told():
  made = study(chain_plain=passed(2.7, 6), chain_noisy=passed(1.0, 12))
  assert made.chain_rate('chain_plain', 'plain') == 0.25
  assert made.chain_rate_named('chain_plain', 'plain') == '0.25'
  made.config.chain.rates = (0.25, 0.1, 0.7)
  assert made.chain_rate_named('chain_plain', 'plain') == '0.25 (end)'
  assert '0.25 (end)' in made.conditions('S4')
  assert 'not graded: 0.7' in made.conditions('S4')


def test_a_chain_that_is_not_passed_counts_as_infinite_and_supports_no_finite_time():
  ratio = theory.octopus_gap_ratio(0.25, 1.0, 1.0)
  made = study(chain_plain=passed(ratio, 6, failed=True), chain_noisy=passed(1.0, 12, failed=True))
  assert effects.gap_ratios(made.passages('chain_plain', 'plain'))[0] == np.inf
  assert effects.gap_ratio(made, 'chain_plain', 'plain').num == COUNT
  assert verdict('S4', 'plain descent: factor', made) == 'supported'
  assert effects.chain_slope(made).excluded == 1
  assert verdict('S4', 'perturbed descent: log-log slope', made) == 'inconclusive'


def trained(near_share: float, runs: int = COUNT) -> xr.Dataset:
  """21 records until the fit, the first of which is the start, so many of the next 20 near a saddle in some runs."""
  count = len(ids())
  norm = np.full((count, 25), 0.5)
  norm[:, 0] = 1
  norm[:runs, 1 : 1 + round(20 * near_share)] = 0.05
  norm[:, 21:] = np.nan
  loss = np.broadcast_to(np.linspace(2.5, 0.1, 25), norm.shape)
  dims = ('seed', 'step')
  return xr.Dataset(
    {
      'full_grad_norm': (dims, norm),
      'train_loss': (dims, loss),
      'lowest': (dims, np.full_like(norm, -0.1)),
      'highest': (dims, np.ones_like(norm)),
      'sign': (dims, np.full_like(norm, -1)),
    },
    {'seed': ids(), 'step': np.arange(25)},
    {'usual_gradient': 1.0},
  )


def control(found: bool) -> xr.Dataset:
  """A stay of eight records at the first loss, then a fall, near by the rule's definition or not at all."""
  runs = trained(0.0)
  runs['full_grad_norm'] = runs.full_grad_norm.where(runs.step >= 8, 0.01 if found else 0.9)
  runs['train_loss'] = xr.where(runs.step < 8, 2.3, 1.0).broadcast_like(runs.train_loss)
  return runs


def training_study(sgd: xr.Dataset, *, found: bool = True) -> Study:
  """Both arms alike, with a control that the definition finds or misses."""
  return study(training_sgd=sgd, training_adam=sgd, training_sgd_small_start=control(found))


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
  made = training_study(trained(share, runs))
  for arm in ('SGD', 'Adam'):
    assert made.time_near(arm).values[:runs] == pytest.approx(round(20 * share) / 21)
    interval = effects.lingers(made, arm)
    assert interval.num == COUNT
    assert interval.estimate == (runs / COUNT if share > 0.1 else 0)
    assert (
      verdict('S6', 'share of runs that spent over a tenth', training_study(trained(share, runs)), arm)
      == expected
    )


def test_more_records_of_one_run_are_not_more_runs():
  short, long = trained(0.0), trained(0.0)
  long = xr.concat([long] * 10, 'step').assign_coords(step=np.arange(250))
  assert effects.lingers(training_study(short), 'SGD') == effects.lingers(training_study(long), 'SGD')


def test_no_run_is_judged_where_the_control_is_missed():
  assert training_study(trained(0.0)).control_found().values == pytest.approx(1)
  missed = training_study(trained(0.4), found=False)
  assert missed.control_found().values == pytest.approx(0)
  assert verdict('S6', 'share of runs that spent over a tenth', missed, 'SGD') == 'inconclusive'
  half = control(found=True)
  half['full_grad_norm'] = half.full_grad_norm.where(half.step >= 4, 0.9)
  runs = trained(0.0)
  with_half = study(training_sgd=runs, training_adam=runs, training_sgd_small_start=half)
  assert with_half.control_found().values == pytest.approx(0.5)
  assert np.isnan(effects.lingers(with_half, 'SGD').estimate)


def test_near_needs_a_certain_way_down():
  runs = trained(0.5)
  assert int(near(runs, 0.1, 0.01).sum()) == COUNT * 10
  assert not near(runs.assign(sign=0 * runs.sign), 0.1, 0.01).any()
  assert not near(runs.assign(lowest=0.01 * runs.lowest), 0.1, 0.01).any()
  assert not near(runs, 0.04, 0.01).any()


def test_shares_have_a_width_at_their_ends():
  interval = effects.share(np.zeros(20, bool))
  assert interval.low == 0
  assert 0.1 < interval.high < 0.2
