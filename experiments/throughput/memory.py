"""A process that does one run of gdlab and says how much memory it took, and how much it had to hold."""

import resource
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

import gdlab
from experiments.throughput import runs, tasks

RSS_UNIT = 1 if sys.platform == 'darwin' else 1024  # of ru_maxrss, in bytes


def build(work: Mapping[str, Any]) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
  """Nothing to time: the notes hold the process's peak, and parameters, optimizer state and records of a lane."""
  (variant,) = work['variants']
  measurables, _ = runs.build(work)
  result = measurables[variant['name']]()
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
  sampler = runs.SAMPLERS[variant['sampler']](work['batch_size'])
  algorithm = gdlab.algorithm(
    sampler=sampler, optimizer=optax.sgd(work['learning_rate'], momentum=tasks.MOMENTUM)
  )
  _, problem = tasks.make(work)
  state = jax.eval_shape(lambda: algorithm.init(jax.random.key(0), problem))
  held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((state.params, state.optimizer)))
  recorded = sum(variable.nbytes for variable in result.data_vars.values()) // variant['num_lanes']
  return {}, {'peak_bytes': str(peak), 'held_bytes': str(held), 'recorded_bytes': str(recorded)}
