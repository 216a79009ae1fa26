"""A comparison that is ended in its midst goes on: the same runs, the same verdicts, the same ends of its budgets."""

import numpy as np
import pytest
from quadratic_arms import CURVATURES, descent, heavy_ball, searched

import gdlab
from gdlab.core.errors import InputError


class Killed(Exception):
  """In place of the end of a process."""


def compared(**options):
  problem = gdlab.problems.quadratic(CURVATURES, noise=0.1, num_examples=8)
  arms = {'plain': searched(descent), 'heavy': searched(heavy_ball)}
  own = {'budgets': {'updates': 30}, 'margin': 0.01, 'seeds': 4, 'tuning_seeds': 2, 'most_seeds': 8}
  return gdlab.compare(problem, baseline='plain', **(own | {'progress': False, 'arms': arms} | options))


def ended_after(share):
  def show(done, total):
    if done >= share * total:
      raise Killed

  return show


def test_a_comparison_goes_on_with_the_same_runs(tmp_path):
  for share in (0.1, 0.3, 0.5, 0.9):
    with pytest.raises(Killed):
      compared(checkpoint=tmp_path, checkpoint_every=1e-9, progress=ended_after(share))
  whole, found = compared(), compared(checkpoint=tmp_path)
  assert found.verdicts == whole.verdicts
  for key, runs in whole.graded.items():
    assert np.array_equal(found.graded[key].result.train_loss, runs.result.train_loss)
  assert found.extend(8).verdicts == whole.extend(8).verdicts
  stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*.npz')}
  assert compared(checkpoint=tmp_path).extend(8).verdicts == whole.extend(8).verdicts
  assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*.npz')} == stamps


def test_the_ends_of_seconds_stay_where_they_were(tmp_path):
  budgets = {'updates': 30, 'seconds': 'plain'}
  with pytest.raises(Killed):
    compared(budgets=budgets, checkpoint=tmp_path, checkpoint_every=1e-9, progress=ended_after(0.5))
  clock = (tmp_path / 'clock.nc').read_bytes()
  first, second = (compared(budgets=budgets, checkpoint=tmp_path) for _ in range(2))
  assert (tmp_path / 'clock.nc').read_bytes() == clock
  assert first.verdicts == second.verdicts
  for key, ends in first.ends.items():
    assert np.array_equal(ends, second.ends[key])


def test_seconds_of_another_comparison_are_refused(tmp_path):
  """Ended after the clock, before any sweep has saved: nothing but the clock is there."""
  budgets = {'updates': 30, 'seconds': 'plain'}
  with pytest.raises(Killed):
    compared(budgets=budgets, checkpoint=tmp_path, progress=ended_after(0.0))
  assert [path.name for path in tmp_path.iterdir() if path.suffix in ('.nc', '.npz')] == ['clock.nc']
  others = {
    'plain': searched(descent),
    'heavy': searched(lambda learning_rate: heavy_ball(2 * learning_rate)),
  }
  with pytest.raises(InputError, match=r'checkpoint must be .* differs in program'):
    compared(budgets=budgets, checkpoint=tmp_path, arms=others)
  compared(budgets=budgets, checkpoint=tmp_path)


def test_redrawn_data_have_folders_of_their_own(tmp_path):
  def redraw(problem, seed):
    return gdlab.problems.quadratic(CURVATURES, noise=0.1 + 0.01 * (seed % 7), num_examples=8)

  with pytest.raises(Killed):
    compared(redraw=redraw, checkpoint=tmp_path, checkpoint_every=1e-9, progress=ended_after(0.5))
  assert compared(redraw=redraw, checkpoint=tmp_path).verdicts == compared(redraw=redraw).verdicts


def test_another_comparison_is_refused(tmp_path):
  compared(checkpoint=tmp_path)
  with pytest.raises(InputError, match=r'checkpoint must be .* differs in num_steps \(30 there, 40 here\)'):
    compared(checkpoint=tmp_path, budgets={'updates': 40})


def test_two_ways_to_keep_results_are_refused(tmp_path):
  with pytest.raises(InputError, match='checkpoint must be None with stored'):
    compared(checkpoint=tmp_path, stored=lambda name, make: make())
  with pytest.raises(InputError, match='checkpoint_every must be None without checkpoint'):
    compared(checkpoint_every=5)
