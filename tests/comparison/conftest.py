"""Comparisons that many tests look at, made once."""

import pytest
from quadratic_arms import CURVATURES, descent, heavy_ball, searched

import gdlab


@pytest.fixture(scope='session')
def valley():
  """A quadratic whose runs can be worked out by hand."""
  return gdlab.problems.quadratic(CURVATURES)


@pytest.fixture(scope='session')
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
