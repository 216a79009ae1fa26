"""kill -9 at random moments of a sweep, also within saves: the end is as if nothing had been."""

import pytest
from victims import MOST_LOST, killed_at_random, killed_within_saves, left_alone

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]


@pytest.mark.parametrize(('kind', 'most'), [('sweep', 25), ('halving', 5), ('host_steps', 5)])
def test_kills_of_a_sweep(tmp_path, kind, most):
  expected, seconds = left_alone(kind, tmp_path, tmp_path)
  lost = killed_at_random(kind, most, seconds, tmp_path, tmp_path, expected)
  assert lost <= MOST_LOST
  print(f'kills survived: {most} of a {kind}; updates lost by one: {lost} at most')
  within = killed_within_saves(kind, 6, tmp_path, tmp_path, expected)
  assert within >= 3
  print(f'kills survived: {within} within saves of a {kind}')
