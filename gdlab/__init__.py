"""gdlab: a research library and laboratory for gradient descent on JAX and Optax.

    sampler  ->  estimator  ->  optimizer (any Optax chain)  ->  apply

`gdlab.algorithm` composes one update of these; `gdlab.run` and `gdlab.sweep` run it over many seeds and
hyperparameters side by side and return an `xarray.Dataset`.
"""

from gdlab import analysis, claims, estimators, problems, sampling, statistics, theory
from gdlab.errors import InputError
from gdlab.training import (
  DIVERGED,
  RUNNING,
  Plan,
  algorithm,
  evaluate,
  load,
  progress_bar,
  provenance,
  run,
  save,
  streams,
  sweep,
  use_all_cores,
)
from gdlab.types import Algorithm, Batch, Estimator, Examples, Info, Known, Problem, Sampler, State, Streams

__version__ = '0.1.0'

__all__ = [
  'DIVERGED',
  'RUNNING',
  'Algorithm',
  'Batch',
  'Estimator',
  'Examples',
  'Info',
  'InputError',
  'Known',
  'Plan',
  'Problem',
  'Sampler',
  'State',
  'Streams',
  'algorithm',
  'analysis',
  'claims',
  'estimators',
  'evaluate',
  'load',
  'problems',
  'progress_bar',
  'provenance',
  'run',
  'sampling',
  'save',
  'statistics',
  'streams',
  'sweep',
  'theory',
  'use_all_cores',
]
