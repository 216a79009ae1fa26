"""Training: composed algorithms, and runs of them over many seeds and hyperparameters."""

from gdlab.evaluation import evaluate
from gdlab.training.algorithm import algorithm, streams
from gdlab.training.best import Best, best
from gdlab.training.choose import remember_plans
from gdlab.training.halving import Halving
from gdlab.training.lane import DIVERGED, RUNNING, STOPPED
from gdlab.training.machine import use_all_cores, use_compilation_cache
from gdlab.training.parts import merge
from gdlab.training.plan import Plan
from gdlab.training.progress import progress_bar
from gdlab.training.records import provenance
from gdlab.training.run import run, sweep
from gdlab.training.store import load, save

__all__ = [
  'DIVERGED',
  'RUNNING',
  'STOPPED',
  'Best',
  'Halving',
  'Plan',
  'algorithm',
  'best',
  'evaluate',
  'load',
  'merge',
  'progress_bar',
  'provenance',
  'remember_plans',
  'run',
  'save',
  'streams',
  'sweep',
  'use_all_cores',
  'use_compilation_cache',
]
