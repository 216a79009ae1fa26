"""Intervals after a choice: by hand, and how often they cover what the whole procedure does on average."""

import numpy as np
import pytest
import scipy.stats

import gdlab
from gdlab import statistics
from gdlab.statistics import Interval


def test_shares_of_choices_are_those_of_the_draws():
  losses = np.asarray([[0.0, 1.0], [0.0, 1.0], [5.0, 1.0]])  # [run, trial]
  choose = lambda runs: int(losses[runs].mean(axis=0).argmin())
  found = statistics.choices(choose, 3, num_resamples=4000)
  # The first trial is best where the third run is not drawn, (2/3)^3; the runs themselves choose the second.
  assert [*found] == [1, 0]
  share = (2 / 3) ** 3
  assert found[0] == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 4000))
  assert sum(found.values()) == pytest.approx(1)


def test_the_width_by_hand():
  effects = {'a': Interval(1.0, 0.4, 1.6, 0.95, 9, 0), 'b': Interval(2.0, 1.5, 2.5, 0.95, 9, 0)}
  found = statistics.over_choices(effects, {'a': 0.75, 'b': 0.25})
  half = np.sqrt(0.6**2 + scipy.stats.t.ppf(0.975, 8) ** 2 * 0.75 * 0.25)
  np.testing.assert_allclose(found[:3], [1, 1 - half, 1 + half], rtol=1e-12)
  alone = statistics.over_choices({'a': effects['a']}, {'a': 1.0})
  np.testing.assert_allclose(alone[:3], effects['a'][:3], rtol=1e-12)
  logs = {
    key: each._replace(estimate=np.exp(each[0]), low=np.exp(each[1]), high=np.exp(each[2]))
    for key, each in effects.items()
  }
  ratio = statistics.over_choices(logs, {'a': 0.75, 'b': 0.25}, scale='log')
  np.testing.assert_allclose(ratio[:3], np.exp([1, 1 - half, 1 + half]), rtol=1e-12)


@pytest.mark.parametrize('gap', [0.0, 0.3, 1.0])
def test_it_covers_what_tuning_and_grading_do_together(gap):
  """Two trials whose true means differ by a gap; noise makes the choice. The truth is the mean over all tunings."""
  rng, studies, tuning, graded = np.random.default_rng(int(10 * gap)), 1000, 8, 16
  means = np.asarray([0.0, gap])
  wrong = scipy.stats.norm.cdf(-gap / np.sqrt(2 / tuning))  # how often the worse trial is chosen
  truth = gap * wrong
  hits = narrow = 0
  for _ in range(studies):
    tuned = means + rng.standard_normal((tuning, 2))
    runs = means + rng.standard_normal((graded, 2))
    shares = statistics.choices(
      lambda rows, t=tuned: int(t[rows].mean(axis=0).argmin()), tuning, num_resamples=99
    )
    effects = {choice: statistics.bootstrap(runs[:, choice]) for choice in shares}
    found = statistics.over_choices(effects, shares)
    hits += found.low <= truth <= found.high
    made = next(iter(effects.values()))
    narrow += made.low <= truth <= made.high
  assert hits >= scipy.stats.binom(studies, 0.94).ppf(1e-4), hits / studies
  assert narrow <= hits


@pytest.mark.parametrize(
  ('effects', 'shares'),
  [({}, {}), ({'a': Interval(1.0, 0.0, 2.0, 0.95, 9, 0)}, {'b': 1.0})],
)
def test_refuses(effects, shares):
  with pytest.raises(gdlab.InputError, match='must begin with the choice that was made'):
    statistics.over_choices(effects, shares)


def test_what_is_known_exactly_cannot_be_widened():
  with pytest.raises(gdlab.InputError, match='confidence below 1'):
    statistics.over_choices({'a': statistics.exactly(1.0)}, {'a': 1.0})
