"""The rule that lays out lanes, its refusals, and progress shown without a terminal and on one."""

import io
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from absl.testing import parameterized

import gdlab
from gdlab import Plan
from gdlab.core.errors import InputError
from gdlab.host import progress as progress_module
from gdlab.host.machine import SMALL_LOOP
from gdlab.training.layout import slots
from gdlab.training.plan import check_plan, resolved


class PlanTest(parameterized.TestCase):
  """On the four CPU devices of the tests."""

  @parameterized.parameters(
    # plan, lanes, steps -> lanes at once, devices, steps per call, lanes per block, data parallel, own programs, host
    (Plan(), 10, 160, (1, 4, 10, 12, 1, False, False)),
    (Plan(), 3, 160, (1, 4, 10, 4, 1, False, False)),
    (Plan(), 2, 17, (1, 4, 2, 4, 1, False, False)),
    (Plan(lanes_at_once=3), 10, 160, (3, 4, 10, 12, 1, False, False)),
    (Plan(num_devices=2), 1, 160, (1, 2, 10, 2, 1, False, False)),
    (Plan(5, 1, 7), 11, 160, (5, 1, 7, 15, 1, False, False)),
    (Plan(2, 2, lanes_per_block=5), 100, 160, (2, 2, 10, 8, 1, False, False)),
    (Plan(data_parallel=2), 5, 160, (1, 2, 10, 5, 2, False, False)),
    (Plan(), 5000, 160, (1, 4, 10, 1000, 1, False, False)),
    (Plan(program_per_device=1), 10, 160, (1, 4, 10, 12, 1, True, False)),
    (Plan(host_steps=True), 10, 160, (1, 4, 1, 12, 1, True, True)),
  )
  def test_open_choices_are_made_and_given_ones_kept(self, plan, num_lanes, num_steps, expected):
    self.assertEqual(
      tuple(resolved(check_plan(plan), num_lanes, num_steps, lanes_at_once=1, memory_lanes=1000)), expected
    )

  @parameterized.parameters((None, True), (False, False))
  def test_a_plan_may_refuse_programs_for_every_device(self, asked, expected):
    options = {'lanes_at_once': 1, 'memory_lanes': 9, 'program_per_device': True}
    self.assertEqual(resolved(Plan(program_per_device=asked), 4, 8, **options).program_per_device, expected)

  @parameterized.parameters(
    (Plan(1, 2, 1, 6, 1), 3, [0, 3, 1], [2, 1]),
    (Plan(1, 1, 1, 3, 1), 3, [0, 1, 2], [3]),
    (Plan(2, 2, 1, 8, 1), 5, [0, 1, 4, 5, 2], [3, 2]),
    (Plan(3, 4, 1, 12, 2), 4, [0, 1, 2, 6], [3, 1]),
    (Plan(2, 2, 1, 8, 1, True, True), 5, [0, 1, 2, 3, 4], [2, 2, 1, 0]),
  )
  def test_lanes_are_dealt_out_evenly(self, layout, num_lanes, expected, expected_counts):
    found, counts = slots(layout, num_lanes)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(counts, expected_counts)

  @parameterized.parameters(*range(1, 26))
  def test_every_lane_has_a_slot_of_its_own_among_the_first_of_its_shard(self, num_lanes):
    layout = Plan(3, 4, 1, 24, 1)
    found, counts = slots(layout, min(num_lanes, 24))
    self.assertLen(set(found), min(num_lanes, 24))
    shard, within = np.divmod(found, 6)
    for number, count in enumerate(counts):
      self.assertEqual(sorted(within[shard == number]), list(range(count)))
    # No shard has more than one group of lanes above another: whole groups take equal time.
    groups = -(-counts // 3)
    self.assertLessEqual(groups.max() - groups.min(), 1)

  def test_a_layout_is_halved_down_to_one_lane(self):
    layout, sizes = Plan(4, 2, 10, 40, 1), []
    while layout is not None:
      sizes.append((layout.lanes_per_block, layout.lanes_at_once))
      layout = layout.halved()
    self.assertEqual(sizes, [(40, 4), (16, 4), (8, 4), (4, 2), (2, 1)])

  @parameterized.parameters(
    (Plan(lanes_at_once=0), 'plan.lanes_at_once must be a whole number >= 1, got 0'),
    (Plan(lanes_at_once=1.5), 'plan.lanes_at_once must be a whole number >= 1, got 1.5 of type float'),
    (Plan(steps_per_call=-1), 'plan.steps_per_call must be a whole number >= 1, got -1'),
    (Plan(num_devices=True), 'plan.num_devices must be a whole number >= 1, got True of type bool'),
    (Plan(num_devices=5), r'plan.num_devices must be a whole number in \[1, 4\], got 5'),
    ('all', "plan must be a gdlab.Plan or None, got 'all'"),
    (((1, 1, 1),), r'plan must be a gdlab.Plan or None, got \(1, 1, 1\)'),
    (Plan(1, 4, data_parallel=2), r'plan.data_parallel must be 1 or all devices in use, 4, got 2'),
    (Plan(data_parallel=5), r'plan.data_parallel must be a whole number in \[1, 4\], got 5'),
    (Plan(lanes_per_block=0), 'plan.lanes_per_block must be a whole number >= 1, got 0'),
    (Plan(program_per_device='no'), "plan.program_per_device must be True, False or None, got 'no'"),
    (
      Plan(data_parallel=2, program_per_device=True),
      'plan.program_per_device must be False or None where devices share a batch, got True',
    ),
  )
  def test_refusals(self, plan, message):
    plan = plan[0] if type(plan) is tuple else plan
    with self.assertRaisesRegex(InputError, f'^{message}$'):
      check_plan(plan)

  def test_all_cores_are_refused_once_the_backend_runs(self):
    jax.devices()
    with self.assertRaisesRegex(
      InputError, r'^use_all_cores\(\) must be called before JAX computes anything$'
    ):
      gdlab.use_all_cores()


def test_all_cores_in_a_fresh_process():
  code = 'import gdlab, jax; n = gdlab.use_all_cores(); assert n == jax.device_count() >= 1, n'
  subprocess.run([sys.executable, '-c', code], check=True)


ONE_FUNCTION = """
import gdlab, jax, optax
from gdlab import problems
gdlab.use_all_cores()
problem = problems.digits(problems.MLP(features=(128, 128)))
descent = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(1), optimizer=optax.sgd(0.1, momentum=0.9))
state = descent.init(jax.random.key(0), problem)
steps = jax.jit(lambda state: jax.lax.fori_loop(0, 100, lambda _, state: descent.step(state, problem)[0], state))
text = steps.lower(state).compile().as_text()
entry = text[text.index('ENTRY'):]
assert 'xla_cpu_small_call' in entry and ' while(' not in entry, entry
"""


def test_the_loop_of_small_updates_becomes_one_function():
  environment = {name: value for name, value in os.environ.items() if name != 'XLA_FLAGS'}
  subprocess.run([sys.executable, '-c', ONE_FUNCTION], check=True, env=environment)


def test_options_of_ones_own_are_left_alone():
  code = 'import os, gdlab; gdlab.use_all_cores(); print(os.environ["XLA_FLAGS"])'
  for own in (
    '',
    '--xla_cpu_enable_fast_math=false',
    '--xla_backend_extra_options=xla_cpu_optimize_for_size',
  ):
    environment = {**os.environ, 'XLA_FLAGS': own}
    run = subprocess.run(
      [sys.executable, '-c', code], check=True, env=environment, capture_output=True, text=True
    )
    added = '' if 'extra_options' in own else SMALL_LOOP
    assert run.stdout.split() == [*own.split(), *added.split()]


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


def test_a_block_that_is_begun_again_can_undo_all_that_was_done(monkeypatch):
  stream = Terminal(False)
  monkeypatch.setattr(sys, 'stderr', stream)
  monkeypatch.setattr(progress_module, 'SECONDS_BETWEEN_LINES', 0.0)
  with progress_module.reporting(True, 40) as report:
    report(10)
    report(-10)
    report(20)
  assert [line.split(',')[0] for line in stream.getvalue().splitlines()] == ['updates: 25%', 'updates: 50%']


@pytest.mark.parametrize('isatty', [True, False])
def test_silence_can_be_asked_for(monkeypatch, isatty):
  assert shown(monkeypatch, False, isatty) == ''


NO_STANDARD_ERROR = """
import sys
assert sys.stderr is None
import gdlab, optax
problem = gdlab.problems.quadratic([1.0, 0.1], noise=0.01, num_examples=16)
descent = gdlab.algorithm(sampler=gdlab.sampling.single(), optimizer=optax.sgd(0.1))
losses = []
for progress in (None, True, False):
  losses.append(gdlab.run(problem, descent, num_steps=8, seeds=2, eval_every=2, progress=progress).train_loss)
with gdlab.progress_bar('cell') as show:
  show(1, 2)
print(all(loss.identical(losses[-1]) for loss in losses))
"""


def test_without_a_standard_error_nothing_but_the_bar_is_missing():
  command = [sys.executable, '-c', NO_STANDARD_ERROR]
  process = subprocess.run(
    ['sh', '-c', 'exec "$@" 2>&-', 'sh', *command], stdout=subprocess.PIPE, text=True, check=False
  )
  assert (process.returncode, process.stdout) == (0, 'True\n')  # no line strays into standard output


class Unread(Terminal):
  """A standard error whose reader has gone."""

  def write(self, text):
    raise BrokenPipeError(32, 'Broken pipe')


@pytest.mark.parametrize('kind', ['closed', 'missing', 'a stand-in', 'unread'])
@pytest.mark.parametrize('progress', [None, True])
def test_a_run_goes_on_without_a_standard_error(monkeypatch, capsys, kind, progress):
  closed = io.StringIO()
  closed.close()
  stream = {'closed': closed, 'missing': None, 'a stand-in': object(), 'unread': Unread(False)}[kind]
  monkeypatch.setattr(progress_module, 'SECONDS_BETWEEN_LINES', 0.0)
  with monkeypatch.context() as patch:
    patch.setattr(sys, 'stderr', stream)
    with progress_module.reporting(progress, 40) as report:
      report(40)
  assert capsys.readouterr() == ('', '')


def test_a_function_gets_running_totals():
  calls = []
  with progress_module.reporting(lambda done, total: calls.append((done, total)), 40) as report:
    report(10)
    report(30)
  assert calls == [(10, 40), (40, 40)]
