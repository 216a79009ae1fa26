"""Job arrays: the commands of their elements, and refusals; submitting needs submitit, which is optional."""

import importlib
import pathlib
import shlex
import subprocess
import sys

import pytest

from experiments import slurm
from gdlab.core.errors import InputError


def test_a_dry_run_prints_the_command_of_every_element(tmp_path):
  command = [
    sys.executable,
    '-m',
    'experiments.slurm',
    f'--workdir={tmp_path / "w"}',
    '--num_jobs=3',
    '--dry_run',
  ]
  done = subprocess.run(
    [*command, '--', '--config.num_seeds=4'], capture_output=True, text=True, timeout=60, check=True
  )
  lines = [shlex.split(line) for line in done.stdout.splitlines()]
  assert [line[4] for line in lines] == ['--cell=0/3', '--cell=1/3', '--cell=2/3']
  for line in lines:
    assert line[:4] == ['python', '-m', 'experiments.variants', f'--workdir={tmp_path / "w"}']
    assert line[5:] == ['--config.num_seeds=4']
  assert not (tmp_path / 'w').exists()


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (('nosuch', 'w', 2, []), "'nosuch'"),
    (('no.such', 'w', 2, []), "'no.such'"),
    (('variants', 'w', 0, []), 'num_jobs'),
    (('variants', 'w', 2, ['--workdir=x']), '--workdir=x'),
    (('variants', 'w', 2, ['--cell=0/2']), '--cell=0/2'),
    (('variants', 'w', 2, ['stray']), "'stray'"),
  ],
)
def test_an_array_that_cannot_work_is_refused(arguments, words):
  with pytest.raises(InputError, match=words):
    slurm.commands(*arguments)


def test_a_missing_submitit_is_named(monkeypatch):
  def missing(name):
    raise ImportError(name)

  monkeypatch.setattr(importlib, 'import_module', missing)
  with pytest.raises(InputError, match='submitit'):
    slurm.submit([], pathlib.Path('w'), {}, 'local')
