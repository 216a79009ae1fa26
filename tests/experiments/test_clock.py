"""The studies' clock: seconds of one update, whole epochs, and all loops in turn."""

import itertools

import numpy as np
import optax
import pytest

import gdlab
from experiments import clock


def test_a_timer_divides_by_the_updates_it_ran(monkeypatch):
  problem = gdlab.problems.quadratic([1.0, 2.0])
  algorithm = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(0.1))
  measure = clock.loop_timer(algorithm, problem)
  measure(1)  # compiling reads the time too
  ticks = itertools.count(0.0, 6.0)
  monkeypatch.setattr(clock.time, 'perf_counter', lambda: next(ticks))
  assert [measure(count) for count in (1, 3, 12)] == [6.0, 2.0, 0.5]


@pytest.mark.parametrize(('seconds', 'expected'), [(1.0, 100), (0.34, 30), (0.001, 10)])
def test_whole_epochs_and_one_at_least(seconds, expected):
  asked = []
  found = clock.whole_epochs(lambda count: asked.append(count) or 0.01, 10, seconds)
  assert found == expected
  assert asked == [10, 10]  # the first compiles


def test_loops_take_turns():
  called = []
  timers = [lambda count, name=name: called.append((name, count)) or float(count) for name in 'ab']
  seconds = clock.in_turn(timers, [3, 5], 2, lambda done, total: called.append((done, total)))
  np.testing.assert_array_equal(seconds, [[3.0, 5.0], [3.0, 5.0]])
  assert called == [('a', 3), ('b', 5), (1, 2), ('a', 3), ('b', 5), (2, 2)]
