"""How a script starts: flags, one-line errors and the set-up of the machine."""

import contextlib
import os
import pathlib
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from typing import TypeAlias

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

import gdlab
from experiments.workdir import open_workdir
from gdlab.errors import InputError, unknown_name

Config: TypeAlias = ml_collections.ConfigDict


def start(run: Callable[[Config, pathlib.Path], None], default_config: str) -> None:
  """Runs a script that has a configuration and a working directory, on all cores.

  Compiled programs are kept in the user's cache folder (`--nocompilation_cache` turns that off), and layouts found by
  timing in the working directory.

  Args:
    run: does the work, of the configuration and the folder.
    default_config: the configuration's file.
  """
  with one_line_errors():
    _check_overrides(sys.argv[1:], default_config)
    config = config_flags.DEFINE_config_file('config', default_config, 'The configuration, a Python file.')
  folder = flags.DEFINE_string('workdir', None, 'Folder for results, figures and the report.')
  cache = flags.DEFINE_bool('compilation_cache', True, 'Keep compiled programs for the next start.')

  def set_up(arguments: list[str]) -> None:
    if arguments:
      raise InputError(f'unexpected argument {arguments[0]!r}; values are given as --flag=value')
    if not folder.value:
      raise InputError('--workdir=DIR is needed: the folder for results, figures and the report')
    workdir = open_workdir(folder.value)
    if not os.environ.get('JAX_NUM_CPU_DEVICES'):
      gdlab.use_all_cores()
    if cache.value:
      _use_cache()
    gdlab.remember_plans(workdir / 'plans')
    run(config.value, workdir)

  launch(set_up)


def launch(run: Callable[[list[str]], None]) -> None:
  """Parses the flags and runs; bad input ends the script with one line and exit status 2.

  Args:
    run: does the work, of the arguments that are no flags or follow `--`.
  """

  def run_with(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # JAX tells at INFO which backends the machine lacks
    run(argv[1:])

  with one_line_errors():
    app.run(run_with, flags_parser=_parse_flags)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
  """Ends the script with one line and exit status 2 where bad input is refused."""
  try:
    yield
  except InputError as error:
    print(f'error: {" ".join(str(error).split())}', file=sys.stderr)
    sys.exit(2)


def _use_cache() -> None:
  try:
    gdlab.use_compilation_cache()
  except InputError as error:  # a home that cannot be written is common on clusters
    print(f'compilation cache: off, {error}', file=sys.stderr)


def _parse_flags(argv: list[str]) -> list[str]:
  """Absl's parser, whose own complaints become InputErrors."""
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    raise InputError(str(error)) from error


def _check_overrides(arguments: list[str], default_config: str) -> None:
  """Refuses a missing configuration file and overrides of keys that it lacks, before absl trips over them."""
  matches = [re.fullmatch(r'--?(config[^=]*)=(.*)', argument) for argument in arguments]
  given = {match[1]: match[2] for match in matches if match}
  file = given.pop('config', default_config)
  if not pathlib.Path(file).is_file():
    raise InputError(f'config must be a Python file with get_config(), and there is no file {file}')
  known = set(_flat_keys(runpy.run_path(file)['get_config']()))
  for key in given:
    if key.removeprefix('config.') not in known:
      raise unknown_name('configuration key', key.removeprefix('config.'), known)


def _flat_keys(config: Config, prefix: str = '') -> Iterator[str]:
  for key, value in config.items():
    yield prefix + key
    if isinstance(value, ml_collections.ConfigDict):
      yield from _flat_keys(value, f'{prefix}{key}.')
