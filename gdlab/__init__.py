"""gdlab: a research library and laboratory for gradient descent on JAX and Optax.

    sampler  ->  estimator  ->  optimizer (any Optax chain)  ->  apply

`gdlab.algorithm` composes one update of these; `gdlab.run` and `gdlab.sweep` run it over many seeds and
hyperparameters side by side and return an `xarray.Dataset`.
"""

from gdlab import (
  analysis,
  claims,
  diagnosis,
  estimators,
  problems,
  sampling,
  schedules,
  statistics,
  theory,
  transforms,
)
from gdlab.core.errors import InputError
from gdlab.core.types import (
  Algorithm,
  Batch,
  EstimateInfo,
  Estimator,
  Examples,
  Info,
  Known,
  LeafKind,
  Problem,
  Sampler,
  State,
  StationaryPoints,
  Streams,
)
from gdlab.diagnosis import check_gradients, diagnose, overfit_small
from gdlab.problems.variables import to_flax
from gdlab.results.kept import kept_params
from gdlab.training import (
  DIVERGED,
  RUNNING,
  STOPPED,
  Best,
  Halving,
  Plan,
  algorithm,
  best,
  evaluate,
  load,
  merge,
  progress_bar,
  provenance,
  remember_plans,
  run,
  save,
  streams,
  sweep,
  use_all_cores,
  use_compilation_cache,
)

__version__ = '0.1.0'

__all__ = [
  'DIVERGED',
  'RUNNING',
  'STOPPED',
  'Algorithm',
  'Batch',
  'Best',
  'EstimateInfo',
  'Estimator',
  'Examples',
  'Halving',
  'Info',
  'InputError',
  'Known',
  'LeafKind',
  'Plan',
  'Problem',
  'Sampler',
  'State',
  'StationaryPoints',
  'Streams',
  'algorithm',
  'analysis',
  'best',
  'check_gradients',
  'claims',
  'diagnose',
  'diagnosis',
  'estimators',
  'evaluate',
  'kept_params',
  'load',
  'merge',
  'overfit_small',
  'problems',
  'progress_bar',
  'provenance',
  'remember_plans',
  'run',
  'sampling',
  'save',
  'schedules',
  'statistics',
  'streams',
  'sweep',
  'theory',
  'to_flax',
  'transforms',
  'use_all_cores',
  'use_compilation_cache',
]
