"""The table of all public functions: one valid call of each, or why there is none."""

import functools
import importlib
import inspect

import calls_of_analysis
import calls_of_pieces
import calls_of_problems
import calls_of_statistics
import calls_of_the_rest
import calls_of_theory

import gdlab

PACKAGES = (
  'analysis',
  'claims',
  'comparison',
  'diagnosis',
  'estimators',
  'plots',
  'problems',
  'problems.landscapes',
  'problems.matrices',
  'problems.noise',
  'report',
  'sampling',
  'schedules',
  'statistics',
  'study',
  'theory',
  'transforms',
)
TABLES = (
  calls_of_statistics,
  calls_of_theory,
  calls_of_pieces,
  calls_of_problems,
  calls_of_analysis,
  calls_of_the_rest,
)
CALLS = {name: call for table in TABLES for name, call in table.CALLS.items()}
NOT_COVERED = {
  **dict.fromkeys(
    (
      'run',
      'sweep',
      'compare',
      'best',
      'diagnose',
      'overfit_small',
      'kept_params',
      'diagnosis.first_nonfinite',
    ),
    'takes minutes here; refusals are in tests/training, tests/comparison and tests/diagnosis',
  ),
  **dict.fromkeys(
    (
      'load',
      'save',
      'merge',
      'to_orbax',
      'claims.read_claims',
      'claims.write_claims',
      'remember_plans',
      'track',
    ),
    'files',
  ),
  **dict.fromkeys(
    ('progress_bar', 'provenance', 'use_all_cores', 'use_compilation_cache', 'worker_pool'), 'of the machine'
  ),
  **dict.fromkeys(('problems.mnist', 'problems.shakespeare'), 'data that is not there'),
  'report.page': 'tests/test_report.py',
  'problems.not_biases': 'a rule for `where`: the path alone decides',
  'estimators.data_parallel': 'needs a mesh; tests/estimators/test_data_parallel.py',
}
PICTURES = 'plots.'  # refusals are in tests/plots
STUDIES = 'study.'  # refusals are in tests/study


@functools.cache
def public_functions():
  """Every public function by `package.name`; those of `gdlab` itself by their name."""
  found = {name: getattr(gdlab, name) for name in gdlab.__all__}
  for package in PACKAGES:
    module = importlib.import_module(f'gdlab.{package}')
    names = getattr(module, '__all__', None) or [
      name
      for name, value in vars(module).items()
      if not name.startswith('_') and getattr(value, '__module__', None) == module.__name__
    ]
    found |= {f'{package}.{name}': getattr(module, name) for name in names}
  functions = {name: value for name, value in found.items() if inspect.isfunction(value)}
  names: dict[int, str] = {}
  for name, value in functions.items():
    names.setdefault(id(value), name)
  return {name: functions[name] for name in names.values()}
