"""Training: composed algorithms, and runs of them over many seeds and hyperparameters."""

from gdlab.core.evaluation import evaluate
from gdlab.host.machine import use_all_cores, use_compilation_cache
from gdlab.host.progress import progress_bar
from gdlab.host.workers import worker_pool
from gdlab.results.datasets import DIVERGED, RUNNING, STOPPED, provenance
from gdlab.results.parts import merge
from gdlab.results.selection import Best, best
from gdlab.results.store import load, save
from gdlab.training.autotune import remember_plans
from gdlab.training.halving import Halving
from gdlab.training.plan import Plan
from gdlab.training.sweeps import run, sweep
from gdlab.updates.compose import algorithm, streams

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
  'worker_pool',
]
