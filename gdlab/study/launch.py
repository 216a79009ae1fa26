"""Starts a script: flags, one-line errors and the set-up of the machine."""

import contextlib
import os
import pathlib
import re
import runpy
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeAlias

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from gdlab.core.errors import InputError, check_real, shown, unknown_name
from gdlab.host import checkpoints, interrupt, locks, machine
from gdlab.host.progress import say
from gdlab.study.workdir import open_workdir
from gdlab.training.autotune import remember_plans

Config: TypeAlias = ml_collections.ConfigDict


STOPPED = 75  # the exit status of a script ended by a signal or its time limit: the same command resumes it


def start(
  run: Callable[[Config, pathlib.Path], None], default_config: str | Config, *, saves: bool = True
) -> None:
  """Runs a script that has a configuration and a working directory, on all cores.

  Compiled programs are kept in the user's cache folder (`--nocompilation_cache` turns that off), layouts found by
  timing in the working directory, and checkpoints of runs in its folder `checkpoints`, until the script has finished.
  After Ctrl-C, SIGTERM or the end of `--time_limit`, compiled calls run to their end, runs are saved, and the script
  ends with status 75; a second signal kills it.

  Args:
    run: `(config, folder)`, does the work.
    default_config: the configuration's file, which `--config=FILE` replaces; or the configuration.
    saves: whether to save checkpoints of runs; not if they are timed.
  """
  with one_line_errors():
    _check_overrides(sys.argv[1:], default_config)
    if isinstance(default_config, str):
      config = config_flags.DEFINE_config_file('config', default_config, 'The configuration, a Python file.')
    else:
      config = config_flags.DEFINE_config_dict('config', default_config)
  folder = flags.DEFINE_string('workdir', None, 'Folder for results, figures and the report.')
  cache = flags.DEFINE_bool('compilation_cache', True, 'Keep compiled programs for the next start.')
  every = flags.DEFINE_float(
    'checkpoint_every', None, 'Seconds between checkpoints of runs, 0 for none; by default 120 or more.'
  )
  limit = flags.DEFINE_float('time_limit', None, 'Minutes after which to save and end with status 75.')
  exact = flags.DEFINE_bool(
    'deterministic', False, 'Let XLA use what gives the same bits each time on a GPU.'
  )

  def set_up(arguments: list[str]) -> None:
    if arguments:
      raise InputError(f'unexpected argument {shown(arguments[0])}; values are given as --flag=value')
    if not folder.value:
      raise InputError('--workdir=DIR is needed: the folder for results, figures and the report')
    if folder.value.startswith('-'):  # of `--workdir --flag`
      raise InputError(f'--workdir must be a folder, got the flag {shown(folder.value)}')
    for name, value, above in (('time_limit', limit.value, 0), ('checkpoint_every', every.value, -1e-9)):
      if value is not None:
        check_real(f'--{name}', value, above=above)
    workdir = open_workdir(folder.value)
    if exact.value:
      machine.deterministic()
    if not os.environ.get('JAX_NUM_CPU_DEVICES'):
      machine.use_all_cores()
    if cache.value:
      _use_cache()
    remember_plans(workdir / 'plans')
    kept = workdir.resolve() / 'checkpoints'
    with locks.held(workdir), contextlib.ExitStack() as stack:
      if saves and every.value != 0:
        stack.enter_context(checkpoints.inside(kept, every.value))
      if limit.value is not None:
        _end_after(limit.value)
      run(config.value, workdir)
      shutil.rmtree(kept, ignore_errors=True)

  launch(set_up)


def launch(run: Callable[[list[str]], None]) -> None:
  """Parses the flags and runs; see `one_line_errors` for the exit status.

  Args:
    run: does the work; its argument is the list of arguments that are not flags or follow `--`.
  """

  def run_with(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # JAX tells at INFO which backends the machine lacks
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    run(argv[1:])
    if sys.stdout is not None:
      sys.stdout.flush()  # what cannot be written is not left for Python's end to find out

  _occupy_standard_streams()
  with one_line_errors(), interrupt.for_a_script():
    app.run(run_with, flags_parser=_parse_flags)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
  """Ends the script with a one-line message: status 2 for bad input, 1 for an OSError, 75 for a signal."""
  try:
    yield
  except InputError as error:
    _end(str(error), 2)
  except OSError as error:  # a full disk, a pipe that nobody reads
    _end(str(error), 1)
  except SystemExit as error:
    if not isinstance(error.__context__, BrokenPipeError):  # which rich turns into an end without a word
      raise
    _end(str(error.__context__), 1)
  except KeyboardInterrupt:
    say('interrupted: what is finished is kept, and the same command goes on from there')
    with contextlib.suppress(AttributeError, OSError, ValueError):
      sys.stdout.flush()
    os._exit(STOPPED)  # at once: Python's own end waits for compiled calls


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **further: Any) -> None:
  """A warning as one line, without the place in the sources."""
  del category, where, further
  say(f'warning: {" ".join(str(message).split())}')


def _end_after(minutes: float) -> None:
  """Sends SIGTERM to this process after some minutes, as a job queue does."""

  def ask() -> None:
    say(f'the time limit of {minutes:g} minutes is over')
    os.kill(os.getpid(), signal.SIGTERM)

  timer = threading.Timer(60 * minutes, ask)
  timer.daemon = True
  timer.start()


def _end(line: str, status: int) -> NoReturn:
  say(f'error: {" ".join(line.split())}')
  with (
    contextlib.suppress(AttributeError, OSError, ValueError),  # no output, or one that is no file
    open(os.devnull, 'w', encoding='utf-8') as nowhere,
  ):
    os.dup2(nowhere.fileno(), sys.stdout.fileno())  # or Python would try once more, and complain
  sys.exit(status)


def _occupy_standard_streams() -> None:
  """Opens closed standard streams: the next file would get the stream's number, and libraries' output with it."""
  while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
    pass
  os.close(descriptor)


def _use_cache() -> None:
  try:
    machine.use_compilation_cache()
  except InputError as error:  # a home that cannot be written is common on clusters
    say(f'compilation cache: off, {error}')


def _parse_flags(argv: list[str]) -> list[str]:
  """Absl's parser, with its errors raised as InputErrors."""
  try:
    return flags.FLAGS(argv)
  except (flags.Error, TypeError, ValueError) as error:  # Absl raises the latter for --noNAME=3
    raise _input_error(error) from error


def _input_error(error: Exception) -> InputError:
  """Absl's error as an InputError, on one line of bounded length."""
  text = ' '.join(str(error).removeprefix('ERROR:: ').split())
  return InputError(text if len(text) <= 400 else f'{text[:397]}...')


def _check_overrides(arguments: list[str], default_config: str | Config) -> None:
  """Refuses invalid configuration files and overrides of unknown keys, before absl raises less clear errors."""
  given = {}
  try:
    arguments = flags.FLAGS.read_flags_from_files(arguments, force_gnu=False)
  except flags.Error as error:
    raise _input_error(error) from error
  for argument, following in zip(arguments, [*arguments[1:], '']):
    if argument == '--':
      break
    if match := re.fullmatch(r'--?(config[^=]*)(?:=(.*))?', argument, re.DOTALL):
      given[match[1]] = following if match[2] is None else match[2]
  file = given.pop('config', default_config)
  if isinstance(file, str) and not isinstance(default_config, str):
    raise InputError(f'--config=FILE is not taken here, got {file}: values are given as --config.key=value')
  known = set(_flat_keys(_load(file) if isinstance(file, str) else file))
  for key in given:
    if key.removeprefix('config.') not in known:
      raise unknown_name('configuration key', key.removeprefix('config.'), known)


def _load(file: str) -> Config:
  """The result of the file's `get_config()`."""
  allowed = 'config must be a Python file with get_config()'
  try:
    if not pathlib.Path(file).is_file():
      raise InputError(f'{allowed}, and there is no file {file}')
  except OSError as error:  # such as a name that is too long
    raise InputError(f'{allowed}, got {shown(file)}: {error.strerror}') from error
  try:
    config = runpy.run_path(file)['get_config']()
  except (Exception, SystemExit) as error:  # whatever a user's file may raise
    raise InputError(f'{allowed}, and {file} fails with {type(error).__name__}: {error}') from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise InputError(f'{allowed}, which returns a ConfigDict, and that of {file} returns {shown(config)}')
  return config


def _flat_keys(config: Config, prefix: str = '') -> Iterator[str]:
  for key, value in config.items():
    yield prefix + key
    if isinstance(value, ml_collections.ConfigDict):
      yield from _flat_keys(value, f'{prefix}{key}.')
