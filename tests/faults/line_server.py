"""Runs scripts of experiments/ with flag lines, each in a forked process: what a start costs but the imports.

Reads lines of JSON `[script, arguments]`, answers each with `[status, stdout, stderr]`. What comes to where the script
would begin to measure ends with status ACCEPTED. JAX is imported here but not started, so that forks are safe.
"""

import importlib
import json
import os
import runpy
import signal
import sys
import tempfile
import types
import warnings

ACCEPTED = 77
LIMIT = 60  # seconds
SCRIPTS = ('batch_size', 'compare', 'diagnosis_check', 'instruments', 'landscapes', 'methods')
SCRIPTS += ('minima', 'noisy_quadratic', 'saddles', 'throughput', 'variants')


def accepted(*args, **options):
  os._exit(ACCEPTED)


def prepare() -> None:
  """Imports everything, and ends each script where its first measurement would begin."""
  for script in SCRIPTS:
    importlib.import_module(f'experiments.{script}' + ('' if script == 'compare' else '.__main__'))
  modules = {
    'gdlab.study.app': ['Results'],
    'gdlab.study.workdir': ['Results'],
    'experiments.instruments.measure': ['make_problem'],
    'experiments.throughput.parts': ['mlp', 'samplers', 'cnn', 'users_cnn', 'lanes', 'memory'],
  }
  for module, names in modules.items():
    for name in names:
      setattr(importlib.import_module(module), name, accepted)
  # The true cases come with their data.
  case = types.SimpleNamespace(kind='rates', name='digits: rate too large')
  importlib.import_module('experiments.diagnosis_check.planted').cases = lambda setting: [case]


def run(script: str, arguments: list[str]) -> None:
  """The script as `python -m` would run it."""
  sys.argv = [script, *arguments]
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # of runpy, about what is imported already
    spec = f'experiments.{script}'
    sys.modules.pop(spec if script == 'compare' else f'{spec}.__main__', None)
    runpy.run_module(spec, run_name='__main__', alter_sys=True)


def answer(script: str, arguments: list[str]) -> tuple[int, str, str]:
  """Status and both outputs of one line."""
  with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
    child = os.fork()
    if not child:
      signal.alarm(LIMIT)
      os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
      os.dup2(out.fileno(), 1)
      os.dup2(err.fileno(), 2)
      status = 0
      try:
        run(script, arguments)
      except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
      except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
      sys.stdout.flush()
      sys.stderr.flush()
      os._exit(status)
    _, status = os.waitpid(child, 0)
    texts = []
    for file in (out, err):
      file.seek(0)
      texts.append(file.read().decode(errors='backslashreplace'))
    return os.waitstatus_to_exitcode(status), *texts


if __name__ == '__main__':
  warnings.filterwarnings('ignore', message='os.fork')
  answers = os.fdopen(os.dup(1), 'w')
  prepare()
  for line in sys.stdin:
    print(json.dumps(answer(*json.loads(line))), file=answers, flush=True)
