"""How often verdicts are wrong, over simulated comparisons whose truth is known, with tuning in the loop."""

import numpy as np
import pytest
import scipy.stats
from synthetic import shares, simulated


def most(count, rate):
  """So many of `count` come out wrong with a chance of one in ten thousand, where each does with chance `rate`."""
  return scipy.stats.binom.ppf(1 - 1e-4, count, rate) / count


@pytest.mark.parametrize('count', [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_few_verdicts_are_wrong(count):
  wrong = most(count, 0.05)
  equal = shares([0.0, 0.0], 1.0, count)
  assert equal['better'] + equal['worse'] <= wrong
  assert equal['equivalent'] > 0.3  # a margin of 2.8 standard errors
  differ = shares([0.0, 1.0], 1.0, count)  # by the margin
  assert differ['equivalent'] + differ['better'] <= wrong


@pytest.mark.slow
@pytest.mark.parametrize(
  ('shifts', 'options', 'lies'),
  [
    ([0.0, -1.0], {}, ('equivalent', 'worse')),
    ([0.0, -3.0], {}, ('equivalent', 'worse', 'undecided')),
    ([0.0, 0.0, 0.0, 0.0], {}, ('better', 'worse')),
    ([0.0, 1.0, 1.0, 1.0], {}, ('better', 'equivalent')),
    ([0.0, 0.0, 0.0], {'most': 64}, ('better', 'worse')),
    ([0.0, 1.0, -1.0], {'most': 64}, ('equivalent',)),
  ],
)
def test_few_verdicts_are_wrong_at_length(shifts, options, lies):
  found = shares(shifts, 1.0, 1000, **options)
  assert sum(found[lie] for lie in lies) <= most(1000, 0.05), found


def test_the_winners_curse_is_gone():
  """What was best on the tuning seeds looks better there than it is, and on other seeds as it is."""
  tuned, graded = [], []
  for answer in simulated([0.0, 0.0], 1.0, 100):
    for arm in answer.arms.values():
      tuned.append(float(arm.trials('updates').mean('seed').min()))
      graded.append(float(arm.final('updates').mean()))
  # The least of 4 means of 3 Gaussian numbers: -1.029 / sqrt(3) on average.
  error = 4 / np.sqrt(len(tuned))
  assert np.mean(tuned) == pytest.approx(-1.0294 / np.sqrt(3), abs=error * 0.41)
  assert np.mean(graded) == pytest.approx(0.0, abs=error * 0.25)
