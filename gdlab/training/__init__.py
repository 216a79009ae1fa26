"""Training: composed algorithms, and runs of them over many seeds and hyperparameters."""

from gdlab.training.algorithm import algorithm, streams
from gdlab.training.evaluate import evaluate
from gdlab.training.lane import DIVERGED, RUNNING
from gdlab.training.plan import Plan, use_all_cores
from gdlab.training.progress import progress_bar
from gdlab.training.records import provenance
from gdlab.training.run import run, sweep
from gdlab.training.store import load, save

__all__ = [
  'DIVERGED',
  'RUNNING',
  'Plan',
  'algorithm',
  'evaluate',
  'load',
  'progress_bar',
  'provenance',
  'run',
  'save',
  'streams',
  'sweep',
  'use_all_cores',
]
