"""The rule that lays out lanes, its refusals, and progress shown without a terminal and on one."""

import io
import subprocess
import sys

import jax
import pytest
from absl.testing import parameterized

import gdlab
from gdlab.errors import InputError
from gdlab.training import Plan
from gdlab.training import progress as progress_module
from gdlab.training.lanes import pad
from gdlab.training.plan import resolve


class PlanTest(parameterized.TestCase):
  """On the four CPU devices of the tests."""

  @parameterized.parameters(
    (None, 10, 160, (1, 4, 10)),
    (None, 3, 160, (1, 3, 10)),
    (None, 1, 1, (1, 1, 1)),
    (Plan(), 2, 17, (1, 2, 2)),
    (Plan(lanes_at_once=3), 10, 160, (3, 4, 10)),
    (Plan(num_devices=2), 1, 160, (1, 2, 10)),
    (Plan(5, 1, 7), 10, 160, (5, 1, 7)),
  )
  def test_open_choices_are_made_and_given_ones_kept(self, plan, num_lanes, num_steps, expected):
    self.assertEqual(tuple(resolve(plan, num_lanes, num_steps)), expected)

  @parameterized.parameters(
    (1, 1, 5, 5), (2, 1, 5, 6), (1, 4, 5, 8), (3, 2, 5, 6), (3, 4, 13, 24), (3, 4, 12, 12)
  )
  def test_lanes_are_padded_to_whole_blocks_on_every_device(self, at_once, devices, lanes, padded):
    self.assertEqual(pad(resolve(Plan(at_once, devices), lanes, 1), lanes), padded)

  @parameterized.parameters(
    (Plan(lanes_at_once=0), 'plan.lanes_at_once must be a whole number >= 1, got 0'),
    (Plan(lanes_at_once=1.5), 'plan.lanes_at_once must be a whole number >= 1, got 1.5 of type float'),
    (Plan(steps_per_call=-1), 'plan.steps_per_call must be a whole number >= 1, got -1'),
    (Plan(num_devices=True), 'plan.num_devices must be a whole number >= 1, got True of type bool'),
    (Plan(num_devices=5), r'plan.num_devices must be a whole number in \[1, 4\], got 5'),
    ('all', "plan must be a gdlab.Plan or None, got 'all'"),
    (((1, 1, 1),), r'plan must be a gdlab.Plan or None, got \(1, 1, 1\)'),
  )
  def test_refusals(self, plan, message):
    plan = plan[0] if type(plan) is tuple else plan
    with self.assertRaisesRegex(InputError, f'^{message}$'):
      resolve(plan, 8, 10)

  def test_all_cores_are_refused_once_the_backend_runs(self):
    jax.devices()
    with self.assertRaisesRegex(
      InputError, r'^use_all_cores\(\) must be called before JAX computes anything$'
    ):
      gdlab.use_all_cores()


def test_all_cores_in_a_fresh_process():
  code = 'import gdlab, jax; n = gdlab.use_all_cores(); assert n == jax.device_count() >= 1, n'
  subprocess.run([sys.executable, '-c', code], check=True)


class Terminal(io.StringIO):
  """A standard error that says whether it is a terminal."""

  def __init__(self, isatty):
    super().__init__()
    self._isatty = isatty

  def isatty(self):
    return self._isatty


def shown(monkeypatch, progress, isatty, seconds_between_lines=0.0):
  stream = Terminal(isatty)
  monkeypatch.setattr(sys, 'stderr', stream)
  monkeypatch.setattr(progress_module, 'SECONDS_BETWEEN_LINES', seconds_between_lines)
  with progress_module.reporting(progress, 40) as report:
    for count in (10, 30):
      report(count)
  return stream.getvalue()


def test_lines_in_a_log_say_how_much_is_done_and_how_long_it_takes(monkeypatch):
  lines = shown(monkeypatch, True, isatty=False).splitlines()
  assert lines == ['updates: 25%, about 0 s left', 'updates: 100%, about 0 s left']


def test_lines_in_a_log_are_rare(monkeypatch):
  assert shown(monkeypatch, True, isatty=False, seconds_between_lines=10.0) == ''


def test_time_left_is_in_proportion(monkeypatch):
  clock = iter([100.0, 130.0, 130.0])
  monkeypatch.setattr(progress_module.time, 'monotonic', lambda: next(clock))
  stream = Terminal(False)
  monkeypatch.setattr(sys, 'stderr', stream)
  with progress_module.reporting(True, 40) as report:
    report(10)  # a quarter in 30 seconds
  assert stream.getvalue() == 'updates: 25%, about 90 s left\n'


def test_a_terminal_gets_a_bar_by_default_and_a_log_nothing(monkeypatch):
  assert 'updates' in shown(monkeypatch, None, isatty=True)
  assert shown(monkeypatch, None, isatty=False) == ''


@pytest.mark.parametrize('isatty', [True, False])
def test_silence_can_be_asked_for(monkeypatch, isatty):
  assert shown(monkeypatch, False, isatty) == ''


def test_a_function_gets_running_totals():
  calls = []
  with progress_module.reporting(lambda done, total: calls.append((done, total)), 40) as report:
    report(10)
    report(30)
  assert calls == [(10, 40), (40, 40)]
