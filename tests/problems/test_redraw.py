"""Data drawn anew: the same examples, divided otherwise."""

import numpy as np
import pytest

import gdlab


def test_redrawn_sets_are_a_division_of_the_same_examples():
  problem = gdlab.problems.split(gdlab.problems.digits(), validation=0.2)
  drawn = [gdlab.problems.redraw(problem, seed) for seed in (1, 1, 2)]

  def rows(each):
    return np.asarray(each.inputs, np.float64).reshape(len(each.targets), -1)

  def pooled(each):
    sets = (each.train, each.validation, each.test)
    return np.concatenate([np.column_stack([rows(part), part.targets]) for part in sets])

  ordered = lambda table: table[np.lexsort(table.T)]
  for other in drawn:
    assert [len(getattr(other, name).targets) for name in ('train', 'validation', 'test')] == [1150, 287, 360]
    np.testing.assert_array_equal(ordered(pooled(other)), ordered(pooled(problem)))
  np.testing.assert_array_equal(drawn[0].test.inputs, drawn[1].test.inputs)
  assert not np.array_equal(drawn[0].test.inputs, drawn[2].test.inputs)
  # A set is drawn from all: about a fifth of the new test images were test images before, not all of them.
  old = {row.tobytes() for row in rows(problem.test)}
  shared = np.mean([row.tobytes() in old for row in rows(drawn[0].test)])
  assert 0.1 < shared < 0.32  # 360/1797 = .20 with a standard deviation of .019


def test_a_part_of_the_training_examples_is_drawn():
  whole = gdlab.problems.digits()
  few = gdlab.problems.split(whole, validation=100, train=200, seed=3)
  assert (few.num_examples, len(few.validation.targets)) == (200, 100)
  all_of_them = gdlab.problems.split(whole, validation=100, seed=3)
  np.testing.assert_array_equal(few.validation.inputs, all_of_them.validation.inputs)
  known = {np.asarray(image).tobytes() for image in all_of_them.train.inputs}
  assert all(np.asarray(image).tobytes() in known for image in few.train.inputs)
  with pytest.raises(gdlab.InputError, match=r'train must be a whole number in \[1, 1337\]'):
    gdlab.problems.split(whole, validation=100, train=1400)


def test_without_a_held_out_set_there_is_nothing_to_redraw():
  alone = gdlab.problems.logistic_regression(np.eye(4), np.asarray([0, 1, 0, 1]), l2=0.1)
  with pytest.raises(gdlab.InputError, match='must have a validation or test set to redraw'):
    gdlab.problems.redraw(alone, 0)
