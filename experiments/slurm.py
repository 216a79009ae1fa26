"""A study as a job array on a SLURM cluster, submitted with submitit (an optional extra: `gdlab[slurm]`).

    python -m experiments.slurm --study=variants --num_jobs=8 --workdir=DIR --partition=NAME -- --config.num_seeds=64

Each element measures every eighth cell, and whichever ends last writes the report. All of them use the same working
directory, which the nodes must share. What follows `--` goes to the study. `--dry_run` prints the commands alone;
`--cluster=local` runs them on this machine.
"""

import importlib
import importlib.util
import pathlib
import shlex
import sys
from typing import Any

from absl import flags

from experiments.launch import launch
from experiments.workdir import open_workdir
from gdlab.core.errors import InputError, check_count

FORWARDED = 'What follows -- goes to the study.'

STUDY = flags.DEFINE_string('study', 'variants', f'A study in experiments, or the module of one. {FORWARDED}')
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the study, shared by all nodes.')
NUM_JOBS = flags.DEFINE_integer('num_jobs', 8, 'Elements of the array.')
PARTITION = flags.DEFINE_string('partition', None, 'Where the cluster runs them.')
MINUTES = flags.DEFINE_integer('minutes', 240, 'Time limit of an element.')
CPUS = flags.DEFINE_integer('cpus', 4, 'Cores of an element.')
GPUS = flags.DEFINE_integer('gpus', 0, 'Accelerators of an element.')
CLUSTER = flags.DEFINE_enum('cluster', 'slurm', ['slurm', 'local'], 'Where to run.')
DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Print the commands instead of submitting them.')


def commands(study: str, workdir: str, num_jobs: int, forwarded: list[str]) -> list[list[str]]:
  """The command of every element of the array."""
  check_count('--num_jobs', num_jobs)
  for argument in forwarded:
    if not argument.startswith('-'):
      raise InputError(f'unexpected argument {argument!r}; values are given as --flag=value')
    if argument.lstrip('-').partition('=')[0] in ('workdir', 'cell', 'distributed'):
      raise InputError(f'{argument} cannot be given to the study, whose elements get their own')
  module = study if '.' in study else f'experiments.{study}'
  try:
    found = importlib.util.find_spec(module)
  except ImportError:
    found = None
  if found is None:
    raise InputError(f'--study must be a study such as variants, or the module of one, got {study!r}')
  return [
    [sys.executable, '-m', module, f'--workdir={workdir}', f'--cell={number}/{num_jobs}', *forwarded]
    for number in range(num_jobs)
  ]


def submit(
  array: list[list[str]], folder: pathlib.Path, parameters: dict[str, Any], cluster: str
) -> list[Any]:
  """Submits a job array; returns submitit's jobs."""
  submitit = _submitit()
  try:
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
  except RuntimeError as error:
    raise InputError(f'--cluster={cluster} is not to be found here: {error}') from error
  executor.update_parameters(**parameters)
  with executor.batch():
    return [executor.submit(submitit.helpers.CommandFunction(command)) for command in array]


def _submitit() -> Any:
  try:
    return importlib.import_module('submitit')
  except ImportError as error:
    raise InputError('experiments.slurm needs submitit: pip install "gdlab[slurm]"') from error


def main(forwarded: list[str]) -> None:
  """Submits, or prints what would be."""
  if not WORKDIR.value:
    raise InputError('--workdir=DIR is needed: the folder for results, figures and the report')
  array = commands(STUDY.value, WORKDIR.value, NUM_JOBS.value, forwarded)
  if DRY_RUN.value:
    print('\n'.join(shlex.join(['python', *command[1:]]) for command in array))
    return
  _submitit()
  parameters = {
    'name': STUDY.value,
    'timeout_min': check_count('--minutes', MINUTES.value),
    'cpus_per_task': check_count('--cpus', CPUS.value),
    'gpus_per_node': check_count('--gpus', GPUS.value, minimum=0),
  }
  if PARTITION.value:
    parameters['slurm_partition'] = PARTITION.value
  logs = open_workdir(WORKDIR.value) / 'jobs'
  jobs = submit(array, logs, parameters, CLUSTER.value)
  print(f'submitted {", ".join(job.job_id for job in jobs)}; what they print is in {logs}')


if __name__ == '__main__':
  launch(main)
