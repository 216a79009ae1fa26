"""`gdlab.compare` against quadratics worked out by hand, plain runs, and brute force."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from quadratic_arms import CURVATURES, RATES, descent, heavy_ball, losses_by_hand, searched

import gdlab
from gdlab import sampling
from gdlab.comparison import figures, page
from gdlab.comparison.comparing import TUNING
from gdlab.core.seeds import seed_ids, stream_keys


@pytest.fixture(scope='module')
def valley():
  """A quadratic whose runs can be worked out by hand."""
  return gdlab.problems.quadratic(CURVATURES)


@pytest.fixture(scope='module')
def on_valley(valley):
  """Heavy ball against plain descent, three rates each."""
  arms = {'plain': searched(descent), 'ball': searched(heavy_ball)}
  budgets = {'updates': 40, 'examples': 20}
  return gdlab.compare(
    valley,
    arms,
    baseline='plain',
    budgets=budgets,
    margin=1e-4,
    seeds=6,
    tuning_seeds=2,
    eval_every=1,
    keep='params',
  )


@pytest.mark.parametrize(('arm', 'momentum'), [('plain', 0.0), ('ball', 0.9)])
@pytest.mark.parametrize(('budget', 'end'), [('updates', 40), ('examples', 20)])
def test_tunes_on_its_seeds_and_grades_on_others(valley, on_valley, arm, momentum, budget, end):
  tuned = [losses_by_hand(valley, [TUNING, TUNING + 1], rate, momentum, end)[:, -1].mean() for rate in RATES]
  best = RATES[int(np.argmin(tuned))]
  assert on_valley.arms[arm].best(budget) == {'learning_rate': best}
  graded = losses_by_hand(valley, range(6), best, momentum, end)
  # 40 updates in float32, each of which rounds a parameter of size 1 once.
  np.testing.assert_allclose(on_valley.arms[arm].final(budget), graded[:, -1], rtol=1e-4, atol=1e-7)
  np.testing.assert_allclose(on_valley.arms[arm].curve(budget).train_loss, graded, rtol=1e-4, atol=1e-7)
  assert on_valley.arms[arm].at_an_end(budget) == (['learning_rate'] if best in (RATES[0], RATES[-1]) else [])
  params, _ = on_valley.arms[arm].params(3, 'updates')
  whole = on_valley.arms[arm].curve('updates').sel(seed=3)
  assert float(gdlab.evaluate(valley, params)['train_loss']) == float(whole.train_loss[-1])


def test_effects_are_of_pairs_and_hold_at_once(on_valley):
  arms = on_valley.arms
  differences = np.stack(
    [arms['ball'].final(budget) - arms['plain'].final(budget) for budget in on_valley.budgets], 1
  )
  intervals = gdlab.statistics.joint_intervals(differences, confidence=0.95)
  for row, interval in zip(on_valley.verdicts, intervals, strict=True):
    np.testing.assert_allclose(row.effect[:3], interval[:3], rtol=1e-6)
    assert (row.arm, row.num_seeds, row.failed, row.baseline_failed) == ('ball', 6, 0, 0)
  assert [row.updates for row in on_valley.verdicts] == [40, 20]
  assert str(on_valley).splitlines()[0].split()[:4] == ['problem', 'budget', 'arm', 'verdict']


@pytest.mark.parametrize(
  ('low', 'high', 'smaller', 'larger'),
  [
    (-0.5, 0.5, 'equivalent', 'equivalent'),
    (-0.5, -0.1, 'equivalent', 'equivalent'),
    (-3.0, -0.1, 'better', 'worse'),
    (0.1, 1.1, 'worse', 'better'),
    (-1.1, 0.1, 'undecided', 'undecided'),
    (-1.0, 0.1, 'undecided', 'undecided'),
  ],
)
def test_verdicts_of_intervals(low, high, smaller, larger):
  for largest, verdict in ((False, smaller), (True, larger)):
    assert gdlab.comparison.verdicts.Question('loss', largest, 1.0, False, 0.95).judge(low, high) == verdict
  ratio = gdlab.comparison.verdicts.Question('loss', False, 1.0, True, 0.95)
  assert ratio.judge(-0.69, 0.69) == 'equivalent'  # a factor of 2 either way, log 2 = .693
  assert ratio.judge(-0.70, 0.69) == 'undecided'


def test_ratios_are_geometric_means(valley):
  arms = {'slow': searched(descent, [0.1]), 'fast': searched(descent, [0.4])}
  answer = gdlab.compare(
    valley,
    arms,
    baseline='slow',
    budgets={'updates': 10},
    margin=0.1,
    effect='ratio',
    seeds=5,
    tuning_seeds=1,
    trials=1,
  )
  hands = [losses_by_hand(valley, range(5), rate, 0.0, 10)[:, -1] for rate in (0.4, 0.1)]
  [row] = answer.verdicts
  np.testing.assert_allclose(row.effect.estimate, np.exp(np.log(hands[0] / hands[1]).mean()), rtol=1e-5)
  theirs = gdlab.statistics.paired_log_ratio(*hands)
  np.testing.assert_allclose(row.effect[:3], theirs[:3], rtol=1e-4)


def test_failed_runs_count_as_failures(valley):
  arms = {'sane': searched(descent, [0.1, 0.2]), 'wild': searched(descent, [1e20, 2e20])}
  options = {'baseline': 'sane', 'budgets': {'updates': 20}, 'margin': 1e-4, 'seeds': 4, 'tuning_seeds': 2}
  answer = gdlab.compare(valley, arms, **options)
  [row] = answer.verdicts
  assert (row.failed, row.baseline_failed) == (4, 0)
  start = losses_by_hand(valley, range(4), 0.0, 0.0, 0)[:, 0]
  np.testing.assert_allclose(answer.arms['wild'].final('updates'), start, rtol=1e-6)
  assert answer.arms['wild'].steps_to(1e-3, 'updates').censored.all()
  given = gdlab.compare(valley, arms, failed=7.0, **options)
  assert given.arms['wild'].final('updates').values.tolist() == [7.0] * 4
  assert given.verdicts[0].mean == 7.0


def test_one_failure_on_the_tuning_seeds_rules_a_trial_out():
  # The start decides whether a rate diverges; the best mean of the others must not count for it.
  def risky(learning_rate):
    def update(updates, state, params):
      bad = (learning_rate > 0.5) & (params[0] > 0)
      return jnp.where(bad, jnp.nan, -learning_rate * params), state

    return gdlab.algorithm(
      sampler=sampling.full_batch(), optimizer=optax.GradientTransformation(lambda params: (), update)
    )

  valley = gdlab.problems.quadratic([1.0, 1.0])
  signs = [float(valley.init(stream_keys(one).init)[0][0]) > 0 for one in seed_ids(range(TUNING, TUNING + 6))]
  assert len({*signs}) == 2
  arms = {'risky': searched(risky, [0.1, 0.9]), 'plain': searched(descent, [0.1, 0.2])}
  answer = gdlab.compare(
    valley, arms, baseline='plain', budgets={'updates': 3}, margin=0.1, seeds=2, tuning_seeds=6
  )
  assert answer.arms['risky'].best('updates') == {'learning_rate': 0.1}
  assert np.isnan(answer.arms['risky'].trials('updates')).sum(dim='seed').values.tolist() == [0, sum(signs)]


def test_the_same_method_twice_is_no_evidence(valley):
  arms = {'one': searched(descent), 'two': searched(descent)}
  answer = gdlab.compare(
    valley, arms, baseline='one', budgets={'updates': 5}, margin=1.0, seeds=3, tuning_seeds=1
  )
  [row] = answer.verdicts
  assert row.verdict == 'undecided'
  assert row.remark == 'both arms give the same numbers to the last bit'


def test_what_is_not_random_is_said():
  fixed = gdlab.problems.quadratic(CURVATURES, start=[1.0, 1.0])
  arms = {'slow': searched(descent, [0.1]), 'fast': searched(descent, [0.5])}
  answer = gdlab.compare(
    fixed, arms, baseline='slow', budgets={'updates': 5}, margin=1e-3, seeds=3, tuning_seeds=1
  )
  [row] = answer.verdicts
  assert row.verdict == 'better'
  assert row.remark.startswith('all seeds give the same numbers')
  assert row.effect.low == row.effect.high


def test_steps_to_a_target(on_valley, valley):
  arm = on_valley.arms['plain']
  curve = losses_by_hand(valley, range(6), arm.best('updates')['learning_rate'], 0.0, 40)
  target = float(np.median(curve[:, 10]))
  found = arm.steps_to(target, 'updates')
  expected = [next((step for step, loss in enumerate(row) if loss <= target), None) for row in curve]
  assert found.time.tolist() == [40 if step is None else step for step in expected]
  assert found.censored.tolist() == [step is None for step in expected]


def test_expected_best_of_k_is_that_of_all_subsets(on_valley):
  arm = on_valley.arms['plain']
  means = arm.trials('updates').mean('seed').values
  for k, expected in enumerate(arm.best_of('updates'), start=1):
    every = [min(chosen) for chosen in itertools.combinations(means, k)]
    assert len(every) == math.comb(3, k)
    assert expected == pytest.approx(np.mean(every), rel=1e-9)


def test_window_and_speed(on_valley, valley):
  plain, ball = on_valley.arms['plain'], on_valley.arms['ball']
  means = plain.trials('updates').mean('seed').values
  wide = plain.window('updates', within=float(means.max() - means.min()))
  assert wide.share == 1.0
  assert wide.ranges == {'learning_rate': (RATES[0], RATES[-1])}
  assert plain.window('updates', within=0.0).share == pytest.approx(1 / 3)
  slow, fast = plain.curve('updates').train_loss.mean('seed'), ball.curve('updates').train_loss.mean('seed')
  ahead, behind = (fast, slow) if fast[-1] < slow[-1] else (slow, fast)
  reached = int(np.flatnonzero(ahead <= behind[-1])[0])
  factor = 40 / reached
  assert ball.speedup('updates') == pytest.approx(factor if ahead is fast else 1 / factor)
  assert ball.speedup('updates') * 1 != 1.0


def test_profile_over_problems():
  problems = {f'c{curvature}': gdlab.problems.quadratic([curvature], start=[1.0]) for curvature in (1.0, 0.5)}
  arms = {'rate1': searched(descent, [0.5]), 'rate2': searched(descent, [1.5])}
  answer = gdlab.compare(
    problems, arms, baseline='rate1', budgets={'updates': 1}, margin=1e-3, seeds=2, tuning_seeds=1
  )
  # The loss goes down by (1 - rate * curvature)^2: .25 and .25 for curvature 1, .5625 and .0625 for .5.
  factors, shares = answer.profile('updates')
  np.testing.assert_allclose(factors, [1.0, 9.0], rtol=1e-5)
  assert shares['rate2'].tolist() == [1.0, 1.0]
  assert shares['rate1'].tolist() == [0.5, 1.0]
  assert [row.problem for row in answer.verdicts] == ['c1.0', 'c0.5']


def test_an_arm_can_have_a_model_of_its_own(valley):
  other = gdlab.problems.quadratic([0.5, 0.5])
  arms = {'valley': gdlab.Arm(descent(0.1)), 'bowl': gdlab.Arm(descent(0.1), problem=other)}
  answer = gdlab.compare(valley, arms, baseline='valley', budgets={'updates': 3}, margin=0.1, seeds=3)
  plain = gdlab.run(other, descent(0.1), num_steps=3, seeds=3).train_loss.isel(step=-1)
  np.testing.assert_array_equal(answer.arms['bowl'].final('updates'), plain)


def test_extending_adds_seeds_and_keeps_what_is_decided():
  noisy = gdlab.problems.quadratic([1.0, 0.1])
  arms = {
    'base': gdlab.Arm(descent(0.1)),
    'near': gdlab.Arm(descent(0.101)),
    'far': gdlab.Arm(descent(1.0)),
  }
  first = gdlab.compare(
    noisy, arms, baseline='base', budgets={'updates': 5}, margin=1e-6, seeds=4, most_seeds=16
  )
  assert first.num_seeds == 4
  near, far = first.verdicts
  assert near.verdict == 'undecided' or far.verdict == 'undecided'
  later = first.extend()
  for old, new in zip(first.verdicts, later.verdicts, strict=True):
    assert new == old if old.verdict != 'undecided' else new.num_seeds > 4
  plain = gdlab.run(noisy, descent(0.101), num_steps=5, seeds=later.num_seeds).train_loss.isel(step=-1)
  np.testing.assert_array_equal(later.arms['near'].final('updates'), plain)
  # At 8 seeds the second look may spend 4/16 of 5 %.
  second = first.extend(8)
  columns = np.stack(
    [second.arms[name].final('updates') - second.arms['base'].final('updates') for name in ('near', 'far')], 1
  )
  interval = gdlab.statistics.joint_intervals(columns, confidence=1 - 0.05 * 4 / 16)
  for row, expected, old in zip(second.verdicts, interval, first.verdicts, strict=True):
    if old.verdict == 'undecided':
      np.testing.assert_allclose(row.effect[:3], expected[:3], rtol=1e-6)


def test_what_was_judged_once_and_for_all_is_not_looked_at_again(on_valley):
  with pytest.raises(gdlab.InputError, match='most_seeds must be given'):
    on_valley.extend()


def test_in_worker_processes_the_same():
  arms = {'plain': searched(descent, [0.1, 0.5]), 'ball': searched(heavy_ball, [0.1, 0.5])}
  problem = gdlab.problems.quadratic(CURVATURES)
  options = {'baseline': 'plain', 'budgets': {'updates': 6}, 'margin': 0.1, 'seeds': 2, 'tuning_seeds': 2}
  options['plan'] = gdlab.Plan(1, 1)
  here = gdlab.compare(problem, arms, **options)
  with gdlab.worker_pool(1) as pool:
    there = gdlab.compare(problem, arms, **options, executor=pool)
  assert str(here) == str(there)
  for name in arms:
    np.testing.assert_array_equal(here.arms[name].final('updates'), there.arms[name].final('updates'))


def test_the_page_tells_the_answer(on_valley, tmp_path):
  path = on_valley.report(tmp_path / 'answer.html')
  text = path.read_text()
  first = on_valley.verdicts[0]
  assert (
    f'ball is {first.verdict}' in text or f'ball against plain at equal updates is {first.verdict}' in text
  )
  assert text.count('role="img" aria-label="') == text.count('<figure>') >= 3
  assert 'A difference below 0.0001 was said beforehand' in text
  assert ('an end of the search' in text) == any(
    arm.at_an_end(budget) for arm in on_valley.arms.values() for budget in on_valley.budgets
  )


def test_the_page_tells_how_it_was_asked(on_valley):
  assert page.seeds(on_valley) == [
    'Graded on the seeds 0 to 5, tuned on the seeds 1,000,000,000 to 1,000,000,001. All seeds have the same data.'
  ]
  # A quadratic has one example, which every update sees.
  assert page.searches(on_valley).rows == [
    ('quadratic', 'plain', 'learning rate: 0.1, 0.5, 1.5', '3', '1'),
    ('quadratic', 'ball', 'learning rate: 0.1, 0.5, 1.5', '3', '1'),
  ]


def test_a_panel_that_would_only_repeat_another_is_left_out(valley, on_valley):
  shown = [axes.get_xlabel() for axes in figures.curves(on_valley, 'quadratic').axes]
  assert shown == ['updates', 'examples']  # 40 updates of 1 example, and 20
  arms = {'plain': searched(descent), 'ball': searched(heavy_ball)}
  options = {'baseline': 'plain', 'margin': 0.1, 'seeds': 2, 'tuning_seeds': 1, 'trials': 3}
  same = gdlab.compare(valley, arms, budgets={'updates': 4, 'examples': 4}, **options)
  assert [axes.get_xlabel() for axes in figures.curves(same, 'quadratic').axes] == ['updates']


def test_progress_reaches_the_end(valley):
  seen = []
  arms = {'plain': searched(descent), 'ball': searched(heavy_ball)}
  gdlab.compare(
    valley,
    arms,
    baseline='plain',
    budgets={'updates': 5},
    margin=0.1,
    seeds=2,
    tuning_seeds=1,
    progress=lambda done, total: seen.append((done, total)),
  )
  assert seen[-1] == (2 * 3 * 5 + 2 * 2 * 5, 2 * 3 * 5 + 2 * 2 * 5)
  assert [done for done, _ in seen] == sorted(done for done, _ in seen)
