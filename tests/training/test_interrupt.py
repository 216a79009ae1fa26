"""Ctrl-C while a sweep runs: seen wherever it comes, also in a callback of the garbage collector."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from tiny_runs import run, standard_run

from gdlab.host import interrupt

# Without end: 1e8 updates of about a microsecond, in calls of well under a second. The collector runs all the time,
# and with it the callbacks in which Python forgets exceptions.
LONG_RUN = """
import gc, signal, sys
import gdlab, optax

signal.signal(signal.SIGINT, signal.default_int_handler)  # the background jobs of a shell ignore it

def show(done, total):
  print(done, flush=True)
  gc.set_threshold(int(sys.argv[1]), 1000, 1000)

problem = gdlab.problems.quadratic([1.0, 0.1], noise=0.01, num_examples=16)
descent = gdlab.algorithm(sampler=gdlab.sampling.single(), optimizer=optax.sgd(0.1))
plan = gdlab.Plan(lanes_at_once=1, num_devices=1, steps_per_call=20_000)
options = {'num_steps': 10**8, 'eval_every': 10**6, 'seeds': 1, 'plan': plan, 'progress': show}
print('ready', flush=True)
gdlab.run(problem, descent, **options)
print('finished', flush=True)
"""
# From the signal to the end of the process: a look every 0.1 s, a call that is under way, and Python's own end.
# Measured alone on 2 cores: 0.3 to 0.7 s. A busy machine stretches all of that; the run would take a minute or more.
LIMIT = 20.0


def interrupted(after: float, line: str, threshold: int = 1) -> float:
  """Starts the run, waits for a line and so many seconds more, sends one SIGINT; returns the seconds to its end."""
  command = [sys.executable, '-c', LONG_RUN, str(threshold)]
  process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  try:
    while not process.stdout.readline().startswith(line):
      assert process.poll() is None, process.stderr.read()
    time.sleep(after)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    out, err = process.communicate(timeout=LIMIT)
    seconds = time.monotonic() - sent
  finally:
    process.kill()
    process.wait()
  assert process.returncode == -signal.SIGINT, err  # what Python's end by KeyboardInterrupt looks like
  assert err.splitlines()[-1] == 'KeyboardInterrupt', err
  assert 'Exception ignored' not in err
  assert 'finished' not in out
  return seconds


@pytest.fixture(autouse=True)
def pythons_own_handler():
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(('after', 'threshold'), [(0.0, 1), (0.35, 700)])
def test_a_signal_ends_a_running_process(after, threshold):
  interrupted(after, '20000', threshold)


@pytest.mark.slow
@pytest.mark.parametrize('number', range(20))
def test_a_signal_ends_a_process_at_any_moment(number):
  # A third while it traces and compiles, the others while it computes.
  early = number % 3 == 0
  interrupted(after=0.037 * number, line='ready' if early else '20000', threshold=1 if number % 2 else 700)


@pytest.fixture
def within_the_collector():
  """Calls back: a SIGINT that reaches Python inside a callback of the garbage collector, as JAX has one."""

  def callback(phase, info):
    if phase == 'start' and wanted:
      wanted.clear()
      signal.raise_signal(signal.SIGINT)

  wanted: list[bool] = []
  gc.callbacks.append(callback)

  def send():
    wanted.append(True)
    gc.collect()

  yield send
  gc.callbacks.remove(callback)


def test_python_forgets_an_interrupt_within_the_collector(within_the_collector, monkeypatch):
  # Why all this is needed. Where this fails, Python has changed, and gdlab.host.interrupt can go.
  forgotten = []
  monkeypatch.setattr(sys, 'unraisablehook', lambda found: forgotten.append(found.exc_type))
  within_the_collector()
  assert forgotten == [KeyboardInterrupt]


def test_an_interrupt_within_the_collector_ends_the_run(within_the_collector):
  totals = []

  def show(done, total):
    totals.append(done)
    if len(totals) == 1:
      within_the_collector()

  with pytest.raises(KeyboardInterrupt):
    run(1, progress=show)
  assert totals == [8]  # of 12 updates, in two calls
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
  run(1)  # and nothing of it is left


def test_an_interrupt_in_the_last_call_is_not_lost(within_the_collector):
  def show(done, total):
    if done == total:
      within_the_collector()

  with pytest.raises(KeyboardInterrupt):
    run(1, progress=show)


def test_a_second_interrupt_raises_at_once():
  reached = []

  def twice():
    with interrupt.deferred():
      signal.raise_signal(signal.SIGINT)
      reached.append('after the first')
      signal.raise_signal(signal.SIGINT)
      reached.append('after the second')

  with pytest.raises(KeyboardInterrupt):
    twice()
  assert reached == ['after the first']
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
  interrupt.look()  # is quiet again


def test_a_wait_is_left_at_an_interrupt():
  release = threading.Event()

  def block():
    signal.raise_signal(signal.SIGINT)
    assert release.wait(60)

  try:
    with pytest.raises(KeyboardInterrupt), interrupt.deferred():
      interrupt.wait(block)
    assert not release.is_set()
  finally:
    release.set()


def test_an_error_does_not_hide_an_interrupt():
  def fail():
    with interrupt.deferred():
      signal.raise_signal(signal.SIGINT)
      raise ValueError('of a block that was not looked into')

  with pytest.raises(KeyboardInterrupt):
    fail()
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_ones_own_stays_and_is_called():
  calls = []

  def own(number, frame):
    calls.append(number)

  def show(done, total):
    assert signal.getsignal(signal.SIGINT) is own
    if done < total:
      os.kill(os.getpid(), signal.SIGINT)

  before = signal.signal(signal.SIGINT, own)
  try:
    run(1, progress=show)  # to its end
    assert signal.getsignal(signal.SIGINT) is own
  finally:
    signal.signal(signal.SIGINT, before)
  assert calls == [signal.SIGINT]


def test_another_thread_runs_as_ever():
  found = []
  standard_run()  # so that it is compiled

  def work():
    found.append(run(3, progress=lambda done, total: found.append(signal.getsignal(signal.SIGINT))))

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert found[:-1] == [signal.default_int_handler] * 2
  assert found[-1].identical(standard_run().assign_attrs(found[-1].attrs))


def test_a_signal_in_the_last_call_of_a_script_is_raised_at_its_end():
  reached = []

  def script():
    with interrupt.for_a_script():
      with interrupt.deferred():
        signal.raise_signal(signal.SIGTERM)
        reached.append('the end of the call')
      reached.append('what comes after')

  with pytest.raises(KeyboardInterrupt):
    script()
  assert reached == ['the end of the call']
  assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_that_python_forgets_in_a_script_is_raised_again_without_a_word(within_the_collector, capfd):
  def script():
    with interrupt.for_a_script():
      within_the_collector()
      time.sleep(2 * interrupt.AGAIN_AFTER)
      pytest.fail('it was forgotten')

  with pytest.raises(KeyboardInterrupt):
    script()
  assert capfd.readouterr().err == ''


def test_sigterm_to_a_process_and_its_group_is_one_signal():
  def script():
    with interrupt.for_a_script(), interrupt.deferred(), interrupt.held():
      signal.raise_signal(signal.SIGTERM)
      signal.raise_signal(signal.SIGTERM)  # as `timeout` does; a second one would end this process
      assert interrupt.asked()

  with pytest.raises(KeyboardInterrupt):
    script()


def test_a_thread_that_saves_does_not_keep_the_main_one_from_ending():
  entered, leave = threading.Event(), threading.Event()

  def save():
    with interrupt.held():
      entered.set()
      leave.wait(30)

  def interrupted_at_once():
    with interrupt.deferred():
      signal.raise_signal(signal.SIGINT)
      interrupt.look()
      pytest.fail('nothing was raised')

  thread = threading.Thread(target=save)
  thread.start()
  assert entered.wait(30)
  try:
    with pytest.raises(KeyboardInterrupt):
      interrupted_at_once()
  finally:
    leave.set()
    thread.join()
