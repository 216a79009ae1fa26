"""gdlab's own runs, as measurables of the benchmark, and the bare loop that they are held against."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

import gdlab
from experiments.throughput import loops, tasks
from gdlab import sampling

SAMPLERS = {'with replacement': sampling.with_replacement, 'reshuffle': sampling.reshuffle}


def build(work: Mapping[str, Any]) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
  """The measurables that `work['variants']` describe, each by its name.

  A variant says how many lanes and steps it has, its sampler, how often it records and evaluates, how many lanes at
  once (0: by gdlab's rule) and whether each device has a program of its own. One that is `bare` is the loop without
  gdlab; it records nothing, and evaluates only where its `eval_every` is less than its `num_steps`.
  """
  model, problem = tasks.make(work)
  optimizer = optax.sgd(work['learning_rate'], momentum=tasks.MOMENTUM)
  # One algorithm for each sampler: gdlab compiles once for equal ones.
  algorithms = {
    name: gdlab.algorithm(sampler=make(work['batch_size']), optimizer=optimizer)
    for name, make in SAMPLERS.items()
  }
  measurables: dict[str, Callable[[], Any]] = {}
  for variant in work['variants']:
    if variant.get('bare'):
      measurables[variant['name']] = _bare(work, model, problem, variant)
    else:
      algorithm = algorithms[variant['sampler']]
      measurables[variant['name']] = functools.partial(_run, problem, algorithm, variant)
  return measurables, {}


def _run(problem: gdlab.Problem, algorithm: gdlab.Algorithm, variant: Mapping[str, Any]) -> Any:
  """One call of `gdlab.run`."""
  result = gdlab.run(
    problem,
    algorithm,
    num_steps=variant['num_steps'],
    seeds=variant['num_lanes'],
    eval_every=variant['eval_every'],
    record_every=variant['record_every'],
    plan=gdlab.Plan(variant['lanes_at_once'] or None, program_per_device=variant['program_per_device']),
    progress=False,
  )
  if (result.status != gdlab.RUNNING).any():
    raise RuntimeError(
      'a lane diverged, which makes it cheaper than it should be; lower config.learning_rate'
    )
  return result


def _bare(
  work: Mapping[str, Any], model: Any, problem: gdlab.Problem, variant: Mapping[str, Any]
) -> Callable[[], Any]:
  """Lanes mapped one after another on every device, each with a program of its own, as in gdlab's long runs."""
  num_lanes, num_steps, eval_every = variant['num_lanes'], variant['num_steps'], variant['eval_every']
  devices = jax.local_devices()[: min(num_lanes, jax.local_device_count())]
  work = {**work, 'num_steps': num_steps}
  train, data = loops.training(work, model), [problem.train]
  if eval_every < num_steps:
    train, data = loops.evaluated(work, model, eval_every), [problem.train, problem.test]
  mapped = jax.jit(lambda seeds, data: jax.lax.map(lambda seed: train(seed, *data), seeds))
  padded = np.arange(-(-num_lanes // len(devices)) * len(devices), dtype=np.int32)
  arguments = [
    jax.device_put((seeds, data), device)
    for seeds, device in zip(np.split(padded, len(devices)), devices, strict=True)
  ]
  return lambda: jax.block_until_ready([mapped(*each) for each in arguments])
