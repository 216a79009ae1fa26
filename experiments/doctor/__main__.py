"""Looks for what is wrong with this machine or its set-up, and says how to mend it.

    python -m experiments.doctor [--workdir=DIR]

Every line begins with ok, note or fault. Ends with status 0 where nothing is wrong, 1 with a fault, 2 at a wrong flag.
Time: about ten seconds; nothing is left behind but the compilation cache.
"""

import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

from absl import app, flags

from experiments.doctor import system
from experiments.doctor.lines import FAULT, NOTE, Line, checked, one_line

LIMIT = 180.0  # seconds for the checks that start JAX; a slow machine compiles for half a minute

WORKDIR = flags.DEFINE_string('workdir', None, 'A folder whose disk is looked at, too.')


def outside(workdir: str | None) -> Iterator[Line]:
  """The checks that need no JAX."""
  checks: dict[str, Callable[[], Iterator[Line]]] = {
    'Python': system.python,
    'versions': system.versions,
    'environment': system.variables,
    'cores': system.cores,
    'memory': system.memory,
    'disk': functools.partial(system.disk, 'disk', tempfile.gettempdir()),
  }
  if workdir is not None:
    checks['workdir'] = functools.partial(system.disk, 'workdir', workdir)
  for name, check in checks.items():
    yield from checked(name, check)


def inside(workdir: str | None) -> Iterator[Line]:
  """The checks of another process, which JAX may end or hang."""
  command = [sys.executable, '-m', 'experiments.doctor.inside', workdir or '']
  with tempfile.TemporaryFile() as errors:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
    late = threading.Event()

    def end() -> None:
      late.set()
      process.kill()

    timer = threading.Timer(LIMIT, end)
    timer.start()
    done = False
    try:
      assert process.stdout is not None
      for text in process.stdout:
        try:
          found = json.loads(text)
        except ValueError:
          continue  # what a library has printed
        done = done or found == 'done'
        if isinstance(found, list):
          yield Line(*found)
      status = process.wait()
    finally:
      timer.cancel()
      process.kill()
    if not done:
      errors.seek(0)
      last = errors.read().decode(errors='replace').strip().splitlines() or ['without a word']
      yield _ended(status, late.is_set(), last)


def _ended(status: int, late: bool, last: list[str]) -> Line:
  """What became of a process that did not come to its end."""
  if late:
    return Line(
      FAULT,
      'JAX',
      f'has not answered within {LIMIT:.0f} s: {last[-1]}',
      'JAX_PLATFORMS=cpu, to see if it is the device',
    )
  how = f'with status {status}'
  if status < 0:
    how = f'by {signal.Signals(-status).name}'
  named = next((line for line in last if 'Unknown flag' in line), last[-1])
  mend = (
    'take that flag out of XLA_FLAGS'
    if 'Unknown flag' in named
    else 'mend what the message names; pip install --upgrade jax'
  )
  return Line(FAULT, 'JAX', f'the process with the checks has ended {how}: {named}', mend)


def main(arguments: list[str]) -> None:
  """Says what is found."""
  if arguments[1:]:
    _end(f'unexpected argument {one_line(arguments[1])!r}; values are given as --flag=value')
  count = {FAULT: 0, NOTE: 0}
  try:
    for line in itertools.chain(outside(WORKDIR.value), checked('JAX', lambda: inside(WORKDIR.value))):
      count[line.status] = count.get(line.status, 0) + 1
      print(line, flush=True)
    wrong = f'{count[FAULT]} fault{"s" * (count[FAULT] != 1)}' if count[FAULT] else 'nothing is wrong'
    print(f'{wrong}; {count[NOTE]} note{"s" * (count[NOTE] != 1)}', flush=True)
  except OSError:  # nobody reads, or the disk that the output goes to is full
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
  sys.exit(1 if count[FAULT] else 0)


def _end(message: str) -> NoReturn:
  print(f'error: {message}', file=sys.stderr)
  sys.exit(2)


def _parse(arguments: list[str]) -> list[str]:
  """Absl's parser, with its complaints on one line."""
  try:
    return flags.FLAGS(arguments)
  except flags.Error as error:
    return _end(one_line(str(error)))


if __name__ == '__main__':
  app.run(main, flags_parser=_parse)
