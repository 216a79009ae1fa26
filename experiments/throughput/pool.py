"""The benchmark's side of its workers: start them, let them warm up, and time them in turn."""

import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

from gdlab.host.machine import SMALL_LOOP

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE = 20.0  # seconds that a worker gets to end by itself


class Spec(NamedTuple):
  """What a group of worker processes does.

  Attributes:
    module: the module of this package whose `build(work)` makes the measurables.
    works: one description of the work for each process.
    pinned: whether process k keeps to the k-th core, with one core's worth of threads.
    all_cores: whether JAX gets a device for each core, as gdlab's scripts give it.
  """

  module: str
  works: Sequence[Mapping[str, Any]]
  pinned: bool = False
  all_cores: bool = False


class Group:
  """The running processes of one Spec; `run` has all of them do the same at once."""

  def __init__(self, name: str, spec: Spec):
    self.name = name
    environment = before_gdlab(os.environ)
    self._processes = []
    try:
      for work, core in zip(spec.works, cores()):
        content = {
          'module': spec.module,
          'work': work,
          'core': core if spec.pinned else None,
          'all_cores': spec.all_cores,
        }
        command = [sys.executable, '-m', 'experiments.throughput.worker', json.dumps(content)]
        self._processes.append(
          subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
          )
        )
    except BaseException:
      self.close()
      raise

  def ready(self) -> dict[str, str]:
    """Waits until all is compiled and has run once; returns the workers' notes by measurable."""
    first, *_ = [self._answer(process)['notes'] for process in self._processes]
    return first

  def run(self, measurable: str) -> float:
    """Seconds from the word to go to the last worker's answer."""
    started = time.perf_counter()
    for process in self._processes:
      with contextlib.suppress(BrokenPipeError):  # it is dead, which the missing answer tells
        to, _ = _pipes(process)
        to.write(f'{measurable}\n')
        to.flush()
    answers = [self._answer(process) for process in self._processes]
    elapsed = time.perf_counter() - started
    if compiled := sum(answer['compilations'] for answer in answers):
      raise RuntimeError(f'{self.name}: {measurable} compiled {compiled} programs while it was timed')
    return elapsed

  def close(self) -> None:
    """Ends the processes."""
    for process in self._processes:
      with contextlib.suppress(OSError):  # it may be gone already
        _pipes(process)[0].close()
    for process in self._processes:
      try:
        process.wait(PATIENCE)
      except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
      _pipes(process)[1].close()

  def _answer(self, process: subprocess.Popen) -> dict[str, Any]:
    line = _pipes(process)[1].readline()
    if not line:
      raise RuntimeError(f'{self.name}: a worker ended with status {process.wait()}; it said why above')
    return json.loads(line)


def before_gdlab(environment: Mapping[str, str]) -> dict[str, str]:
  """The environment without what gdlab's scripts set in it: under its option `jit(vmap)` is slower."""
  kept = {key: value for key, value in environment.items() if key not in ('JAX_NUM_CPU_DEVICES', 'XLA_FLAGS')}
  flags = environment.get('XLA_FLAGS', '').replace(SMALL_LOOP, '').strip()
  return kept | ({'XLA_FLAGS': flags} if flags else {})


def _pipes(process: subprocess.Popen) -> tuple[IO[str], IO[str]]:
  """The process's stdin and stdout, which were asked for."""
  assert process.stdin is not None
  assert process.stdout is not None
  return process.stdin, process.stdout


class Timed(NamedTuple):
  """The repeats of one measurable.

  Attributes:
    group: the name of the workers that ran it.
    measurable: its name among theirs.
    seconds: one repeat each, by round.
    note: what the worker chose.
  """

  group: str
  measurable: str
  seconds: list[float]
  note: str

  @property
  def median(self) -> float:
    """The median over the rounds, in seconds."""
    return statistics.median(self.seconds)


def race(
  specs: Mapping[str, Spec],
  entries: Sequence[tuple[str, str]],
  num_rounds: int,
  progress: Callable[[int, int], None],
) -> dict[tuple[str, str], Timed]:
  """Times every entry (group, measurable) once a round, in turn, so that a slow minute hits all alike."""
  with _groups(specs) as groups:
    notes = {name: group.ready() for name, group in groups.items()}
    seconds: dict[tuple[str, str], list[float]] = {entry: [] for entry in entries}
    for number in range(num_rounds):
      for place, (name, measurable) in enumerate(entries):
        seconds[name, measurable].append(groups[name].run(measurable))
        progress(number * len(entries) + place + 1, num_rounds * len(entries))
  return {
    (name, measurable): Timed(name, measurable, values, notes[name].get(measurable, ''))
    for (name, measurable), values in seconds.items()
  }


def ask_fresh(name: str, spec: Spec) -> dict[str, str]:
  """The notes of a process that is started for them alone."""
  with _groups({name: spec}) as groups:
    return groups[name].ready()


def cores() -> list[int]:
  """The cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return sorted(os.sched_getaffinity(0))
  return list(range(os.cpu_count() or 1))


@contextlib.contextmanager
def _groups(specs: Mapping[str, Spec]) -> Iterator[dict[str, Group]]:
  with contextlib.ExitStack() as stack:
    groups = {}
    for name, spec in specs.items():
      groups[name] = Group(name, spec)
      stack.callback(groups[name].close)
    yield groups
