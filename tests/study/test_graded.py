"""How the parts of a claim are graded together: their verdicts hold at once."""

import re

import pytest
import scipy.stats

import gdlab
from gdlab import claims, statistics
from gdlab.statistics import Interval
from gdlab.study.graded import Asked, Effect, Story, conclude, grade_all


class Parts:
  """Stored results of a study whose parts have intervals of known widths."""

  def __init__(self, confidence=0.95):
    self.confidence = confidence

  def with_confidence(self, confidence):
    return Parts(confidence)

  def conditions(self, claim):
    return 'a test'

  def part(self, standard_errors):
    """An effect so many standard errors above 0, with a normal interval."""
    half = scipy.stats.norm.ppf((1 + self.confidence) / 2)
    return Interval(standard_errors, standard_errors - half, standard_errors + half, self.confidence, 9, 0)


def effect(standard_errors):
  return Effect(f'{standard_errors}', claims.greater_than(0), lambda view: view.part(standard_errors))


@pytest.mark.parametrize(
  ('sizes', 'levels', 'verdict'),
  [
    # Quantiles of the normal distribution at 1 - 0.05/m, two-sided: 1.96, 2.24 and 2.39 for m = 1, 2, 3.
    ((2.0,), (1,), 'supported'),
    ((2.5, 2.3, 2.0), (3, 2, 1), 'supported'),  # each decided at the next level of Holm's
    ((2.3, 2.3, 2.3), (3, 3, 3), 'inconclusive'),  # of three alike none passes the first level
    ((3.0, 2.1, 2.1), (3, 2, 2), 'inconclusive'),
    ((3.0, -3.0), (2, 2), 'mixed'),
  ],
)
def test_parts_are_judged_at_once_by_holms_method(sizes, levels, verdict):
  asked = {'A': Asked('A claim.', tuple(effect(size + 1e-6 * place) for place, size in enumerate(sizes)))}
  [finding] = grade_all(asked, Parts())
  assert finding.verdict == verdict
  parts = finding.parts or [finding]
  assert [part.confidence for part in parts] == pytest.approx([1 - 0.05 / level for level in levels])


def test_a_verdict_is_also_told_for_all_claims_together():
  asked = {name: Asked('A claim.', (effect(size),)) for name, size in {'A': 2.1, 'B': 3.0}.items()}
  findings = grade_all(asked, Parts())
  assert [finding.verdict for finding in findings] == ['supported', 'supported']
  assert [finding.jointly for finding in findings] == ['inconclusive', 'supported']  # 2.24 is asked of each


def test_seeds_are_counted_where_there_is_chance():
  known = Effect('known', claims.exact(0), lambda view: statistics.exactly(0, num=2))
  by_chance = grade_all({'A': Asked('A claim.', (known, effect(3.0)))}, Parts())
  exact = grade_all({'A': Asked('A claim.', (known,))}, Parts())
  assert [finding.num_seeds for finding in by_chance + exact] == [9, 2]


def test_an_effect_must_have_the_confidence_it_is_asked_for():
  stubborn = Effect('stubborn', claims.greater_than(0), lambda view: Interval(1, 0.5, 1.5, 0.95, 9, 0))
  with pytest.raises(gdlab.InputError, match="'stubborn' must have an interval of the confidence"):
    grade_all({'A': Asked('A claim.', (stubborn, effect(3.0)))}, Parts())


def test_claims_are_listed_by_their_numbers(tmp_path, capsys):
  asked = dict.fromkeys(('X10', 'X2', 'X1a', 'X1'), Asked('A claim.', (effect(3.0),)))
  conclude(tmp_path, Story('A study', [], []), grade_all(asked, Parts()), {}, module='own')
  expected = ['X1', 'X1a', 'X2', 'X10']
  assert re.findall(r'<div class="claim" id="(\w+)"', (tmp_path / 'report.html').read_text()) == expected
  assert re.findall(r'X\w+', capsys.readouterr().out) == expected
