"""Where budgets end, against counts by hand."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from quadratic_arms import CURVATURES, descent, searched

import gdlab
from gdlab import sampling
from gdlab.comparison.budgets import updates_within
from gdlab.core.seeds import seed_ids, stream_keys


@pytest.fixture(scope='module')
def valley():
  """A quadratic whose runs can be worked out by hand."""
  return gdlab.problems.quadratic(CURVATURES)


def data(num_examples):
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.normal(size=(num_examples, 3)), jnp.float32)


@pytest.mark.parametrize(
  ('sampler', 'estimator', 'kind', 'amount', 'expected'),
  [
    (sampling.with_replacement(8), gdlab.estimators.batch_mean(), 0, 100, 12),
    (sampling.with_replacement(8), gdlab.estimators.batch_mean(), 0, 104, 13),
    # 50 = 6 * 8 + 2: two epochs are 14 updates and 100 examples, then 8 more each.
    (sampling.reshuffle(8), gdlab.estimators.batch_mean(), 0, 100, 14),
    (sampling.reshuffle(8), gdlab.estimators.batch_mean(), 0, 115, 15),
    (sampling.reshuffle(8), gdlab.estimators.batch_mean(), 0, 116, 16),
    (sampling.reshuffle(8), gdlab.estimators.batch_mean(), 0, 7, 0),
    # A full gradient of 50 before updates 0, 5, 10, ..., and two of the batch at each.
    (sampling.with_replacement(8), gdlab.estimators.svrg(5), 1, 50 + 5 * 16, 5),
    (sampling.with_replacement(8), gdlab.estimators.svrg(5), 1, 2 * 50 + 5 * 16, 5),
    (sampling.with_replacement(8), gdlab.estimators.svrg(5), 1, 2 * 50 + 6 * 16, 6),
  ],
)
def test_work_is_counted_to_the_update(sampler, estimator, kind, amount, expected):
  problem = gdlab.problems.from_function(lambda w, x: jnp.sum((w - x) ** 2), jnp.zeros(3), data=data(50))
  method = gdlab.algorithm(sampler=sampler, estimator=estimator, optimizer=optax.sgd(0.1))
  assert updates_within(method, problem, amount, kind) == expected


def test_growing_batches_are_counted_by_making_them():
  problem = gdlab.problems.from_function(lambda w, x: jnp.sum((w - x) ** 2), jnp.zeros(3), data=data(50))
  growing = sampling.batch_size_schedule(50, lambda step: 1 + step)
  method = gdlab.algorithm(sampler=growing, optimizer=optax.sgd(0.1))
  made, left = [], 50
  for step in range(60):
    left -= (size := min(1 + step, left))  # an epoch's last batch is what is left of it
    left = left or 50
    made.append(size)
  for amount in (1, 45, 49, 50, 640, int(np.sum(made[:57])), int(np.sum(made[:57])) - 1):
    assert updates_within(method, problem, amount, 0) == np.searchsorted(
      np.cumsum(made), amount, side='right'
    )


def test_a_method_that_asks_is_told_the_updates_of_each_budget(valley):
  def decayed(learning_rate, num_steps):
    rate = optax.linear_schedule(learning_rate, 0.0, num_steps)
    return gdlab.algorithm(sampler=sampling.full_batch(), optimizer=optax.sgd(rate))

  arms = {'constant': searched(descent, [0.1]), 'decayed': searched(decayed, [0.1])}
  budgets = {'updates': 10, 'examples': 5}
  answer = gdlab.compare(
    valley, arms, baseline='constant', budgets=budgets, margin=0.1, seeds=2, tuning_seeds=1
  )
  x = np.asarray([valley.init(stream_keys(one).init)[0] for one in seed_ids(2)], np.float64)
  for budget, end in budgets.items():
    shrunk = np.prod([1 - 0.1 * (1 - step / end) * np.asarray(CURVATURES) for step in range(end)], axis=0)
    by_hand = 0.5 * (CURVATURES * (x * shrunk) ** 2).sum(axis=1)
    np.testing.assert_allclose(answer.arms['decayed'].final(budget), by_hand, rtol=1e-5)
    assert answer.arms['decayed'].updates(budget) == end


def test_batch_sizes_among_the_trials_end_where_the_budget_does():
  problem = gdlab.problems.from_function(lambda w, x: jnp.sum((w - x) ** 2), jnp.zeros(3), data=data(60))

  def sized(batch_size):
    return gdlab.algorithm(sampler=sampling.reshuffle(batch_size), optimizer=optax.sgd(0.01))

  arms = {'sizes': gdlab.Arm(sized, {'batch_size': [2, 6, 60]}), 'full': gdlab.Arm(descent(0.01))}
  budgets = {'examples': 120, 'updates': 7}
  answer = gdlab.compare(problem, arms, baseline='full', budgets=budgets, margin=0.1, seeds=2, trials=3)
  assert answer.ends[
    'from_function' if 'from_function' in answer.problems else answer.problems[0], 'sizes'
  ].tolist() == [
    [60, 7],
    [20, 7],
    [2, 7],
  ]
  assert answer.arms['sizes'].best('examples') == {'batch_size': 2}  # 60 updates at one rate come farthest
  plain = gdlab.run(problem, sized(2), num_steps=60, seeds=2).train_loss.isel(step=-1)
  np.testing.assert_array_equal(answer.arms['sizes'].final('examples'), plain)


def test_seconds_end_where_the_clock_says(valley):
  wide = gdlab.problems.from_function(
    lambda w: jnp.sum(jnp.tanh(w @ w) ** 2), jnp.eye(200) * 0.01, name='wide'
  )
  arms = {'once': gdlab.Arm(descent(1e-3)), 'thrice': gdlab.Arm(descent(1e-3), problem=costly(wide))}
  answer = gdlab.compare(
    wide,
    arms,
    baseline='once',
    budgets={'updates': 30, 'seconds': 'once'},
    margin=0.1,
    seeds=2,
    clock_precision=0.05,
  )
  once, thrice = (answer.seconds['wide', name][0] for name in arms)
  assert 1.5 < thrice / once < 6  # the matrix products of three losses over those of one
  assert answer.arms['once'].updates('seconds') == 30
  assert answer.arms['thrice'].updates('seconds') == int(30 * once / thrice)
  times = answer.arms['thrice'].clock('seconds', 'seconds')
  np.testing.assert_allclose(times[0, -1], thrice * answer.arms['thrice'].updates('seconds'))


def costly(problem):
  """The mean of a loss at three nearby points: three times the work, a hardly different function."""

  def loss(w):
    return sum(jnp.sum(jnp.tanh(v @ v) ** 2) for v in (w, w * 1.001, w * 0.999)) / 3

  return gdlab.problems.from_function(loss, jnp.eye(200) * 0.01, name=problem.name)


def test_a_budget_below_one_update_is_refused():
  problem = gdlab.problems.from_function(lambda w, x: jnp.sum((w - x) ** 2), jnp.zeros(3), data=data(60))
  arms = {name: gdlab.Arm(descent(0.01)) for name in ('one', 'two')}
  with pytest.raises(
    gdlab.InputError, match=r"budgets\['examples'\] must be enough for one update of arm 'one'"
  ):
    gdlab.compare(problem, arms, baseline='one', budgets={'examples': 59}, margin=0.1, seeds=2)
