"""What `gdlab.compare` refuses, in one line; and where its trials lie."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from quadratic_arms import CURVATURES, descent, heavy_ball, searched

import gdlab


@pytest.fixture(scope='module')
def valley():
  """A quadratic whose runs can be worked out by hand."""
  return gdlab.problems.quadratic(CURVATURES)


@pytest.fixture(scope='module')
def digits():
  return gdlab.problems.digits()


PLAIN = gdlab.Arm(descent(0.1))
SEARCH = searched(descent)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'arms': {'a': PLAIN}}, 'arms must map at least two names'),
    ({'arms': {'a': PLAIN, 'b': descent(0.1)}}, "arms must map names to gdlab.Arm(...), got 'b'"),
    (
      {'arms': {'a': PLAIN, 'b': gdlab.Arm(descent(0.1), {'rate': [1.0]})}},
      "arms['b'].make must be a function of",
    ),
    (
      {'arms': {'a': PLAIN, 'b': gdlab.Arm(descent, {'rate': [1.0]})}},
      "arms['b']: unknown hyperparameter 'rate'",
    ),
    (
      {'arms': {'a': PLAIN, 'b': gdlab.Arm(descent, {'learning_rate': 0.1})}},
      "arms['b'].search['learning_rate'] must",
    ),
    (
      {'arms': {'a': PLAIN, 'b': gdlab.Arm(descent, {'learning_rate': (1e-4, 0.3)})}},
      "arms['b'].search['learning_rate'] must be gdlab.log_uniform(0.0001, 0.3) or gdlab.uniform(0.0001, 0.3) for a "
      'range, or the list [0.0001, 0.3] for two values',
    ),
    (
      {'arms': {'a': PLAIN, 'b': gdlab.Arm(descent, {'learning_rate': [1.0, 1.0]})}},
      'must hold distinct values',
    ),
    ({'arms': {'a': PLAIN, 'b': gdlab.Arm(3)}}, "arms['b'].make must be an algorithm or a function"),
    ({'arms': {'a': SEARCH, 'b': searched(descent, [0.1])}}, 'arms must have equal numbers of trials'),
    ({'baseline': 'c'}, "unknown baseline 'c'"),
    ({'budgets': {}}, 'budgets must map kinds to amounts'),
    ({'budgets': {'update': 3}}, "unknown budget 'update'; did you mean 'updates'?"),
    ({'budgets': {'updates': 0}}, "budgets['updates'] must be a whole number >= 1"),
    ({'budgets': {'seconds': 'a'}}, "budgets must have 'updates', if seconds are those"),
    ({'budgets': {'seconds': 'z', 'updates': 3}}, "unknown arm in budgets['seconds'] 'z'"),
    ({'budgets': {'seconds': -1.0}}, "budgets['seconds'] must be a real number"),
    ({'margin': 0.0}, 'margin must be a real number'),
    ({'metric': 'loss'}, "arms['a'] on 'quadratic': unknown metric 'loss'"),
    ({'metric': 'test_loss'}, 'metric must not be of the test set'),
    ({'effect': 'quotient'}, "unknown effect 'quotient'"),
    ({'seeds': 1}, 'seeds must be a whole number >= 2'),
    ({'most_seeds': 3}, 'most_seeds must be a whole number >= 4'),
    ({'confidence': 1.0}, 'confidence must be'),
    ({'keep': 'all'}, "keep must be None or 'params', got 'all'"),
    ({'eval_every': 0}, 'eval_every must be a whole number >= 1'),
    ({'search_seed': -1}, 'search_seed must be a whole number >= 0'),
    ({'clock_precision': 'x'}, 'clock_precision must be a real number'),
    ({'problem': {}}, 'problem must be a gdlab.Problem or a mapping'),
  ],
)
def test_refuses(valley, change, message):
  options = {
    'problem': valley,
    'arms': {'a': PLAIN, 'b': SEARCH},
    'baseline': 'a',
    'budgets': {'updates': 3},
    'margin': 0.1,
    'seeds': 4,
  } | change
  with pytest.raises(gdlab.InputError) as refused:
    gdlab.compare(options.pop('problem'), options.pop('arms'), **options)
  assert message in str(refused.value)
  assert '\n' not in str(refused.value)


def test_never_tunes_on_the_test_set(digits):
  arms = {'a': searched(descent), 'b': searched(heavy_ball)}
  with pytest.raises(gdlab.InputError, match='problem must have a validation set'):
    gdlab.compare(digits, arms, baseline='a', budgets={'updates': 3}, margin=0.1)
  divided = gdlab.problems.split(digits, validation=100)
  answer = gdlab.compare(
    divided, arms, baseline='a', budgets={'updates': 2}, margin=0.1, seeds=2, tuning_seeds=1, eval_every=2
  )
  assert (answer.metric, answer.question.graded) == ('validation_loss', 'test_loss')


def test_ratios_need_positive_values():
  problem = gdlab.problems.from_function(lambda w: jnp.sum(w), jnp.asarray([1.0]))
  arms = {'a': gdlab.Arm(descent(0.5)), 'b': gdlab.Arm(descent(1.0))}
  with pytest.raises(
    gdlab.InputError, match="effect must be 'difference' where train_loss is not always positive"
  ):
    gdlab.compare(problem, arms, baseline='a', budgets={'updates': 4}, margin=0.1, effect='ratio', seeds=2)


def test_quasi_random_trials_fill_every_part():
  where = gdlab.log_uniform(1e-4, 1.0)
  trials = gdlab.comparison.search.trials_of({'learning_rate': where}, 16, 0)['learning_rate']
  parts = np.sort(np.floor(16 * np.log10(np.asarray(trials) / 1e-4) / 4))
  assert parts.tolist() == list(range(16))
  both = gdlab.comparison.search.trials_of({'rate': where, 'size': [1, 2]}, 16, 3)
  assert sorted(both['size']) == [1] * 8 + [2] * 8
  assert [where.share(where.at(share)) for share in (0.0, 0.3, 1.0)] == pytest.approx([0.0, 0.3, 1.0])
  linear = gdlab.uniform(-1.0, 3.0)
  assert (linear.at(0.25), linear.share(0.0)) == (0.0, 0.25)
  for low, high in ((0.0, 1.0), (1.0, 1.0), (1.0, math.inf)):
    with pytest.raises(gdlab.InputError):
      gdlab.log_uniform(low, high)
