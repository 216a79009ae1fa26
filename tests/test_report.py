"""Reports say what an interval says, and what other seeds say."""

import math

import pytest

from gdlab import claims, report
from gdlab.statistics import Interval, exactly


def finding(interval: Interval) -> claims.Finding:
  claim = claims.Claim('X1', 'A claim.', {'effect': claims.greater_than(1)})
  return claims.grade(claim, {'effect': interval}, num_seeds=8, conditions='a test')


def page(interval: Interval, again: Interval) -> str:
  facts = report.Table(('fact', 'value'), [])
  return report.page(
    'Title',
    lead=[],
    sections=[],
    findings=[finding(interval)],
    again=[[finding(again)], [finding(interval)]],
    facts=facts,
    command='',
  )


@pytest.mark.parametrize(
  ('measured', 'expected'),
  [
    (exactly(2), 'exactly'),
    (Interval(2, 1.5, 2, 1.0, 8, 0), '[1.50, 2.00] exactly'),
    (Interval(2, 1.5, 2.5, 0.95, 8, 0), '[1.50, 2.50] at 95 %'),
    (Interval(2, 1.5, math.inf, 0.95, 8, 0), '[1.50, inf] at 95 %'),
    (Interval(2, -math.inf, math.inf, 0.95, 8, 0), 'no interval'),
    (Interval(2, 1.5, 2.5, 0.95, 6, 2), '[1.50, 2.50] at 95 %, 2 runs without a value'),
  ],
)
def test_an_interval_in_words(measured, expected):
  assert report.interval(finding(measured)) == expected


def test_a_verdict_that_other_seeds_do_not_give_is_marked():
  low, high = Interval(0.5, 0.4, 0.6, 0.95, 8, 0), Interval(2, 1.5, 2.5, 0.95, 8, 0)
  text = page(high, low)
  assert 'the same in 1 of 2 repeats' in text
  assert 'fragile: the same in 1 of 2 repeats' in text
  assert 'repeat 1: 0.500' in text
  assert 'repeat 2: 2.00' in text
  assert 'the same in 2 of 2 repeats' in page(high, high)
  assert 'fragile' not in page(high, high)
