"""CPU seconds per update in fresh processes, of which `python -m experiments.variants.cpu_time JSON` is one."""

import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np

from gdlab.core.errors import InputError
from gdlab.host.progress import Progress

ROOT = pathlib.Path(__file__).resolve().parents[2]


def processor() -> str:
  """The processor's model in words."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    lines = []
  names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
  return (names or [platform.processor()])[0] or 'a processor without a name'


def cores() -> list[int]:
  """The cores that this process may use; one where the system does not tell."""
  return sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else [0]


def in_processes(config, sizes: Sequence[int], progress: Progress) -> np.ndarray:
  """CPU seconds of an update, float[process, round, size].

  As many processes as there are cores are set up at a time; they measure one after the other, the others waiting.
  """
  options = config.powers
  found: list[list[list[float]]] = []
  with tempfile.TemporaryDirectory() as cache:  # all of them run the program that the first one compiled
    given = {'dataset': config.dataset, 'hidden': config.hidden, 'sizes': sizes, 'cache': cache}
    given |= {'rounds': options.rounds, 'examples': options.examples}
    while len(found) < options.processes:
      numbers = range(len(found), min(len(found) + len(cores()), options.processes))
      group = [_fresh(given | {'process': number}) for number in numbers]
      for each in group:
        assert each.stdout is not None
        each.stdout.readline()  # it is ready
      for each in group:
        written, errors = each.communicate('\n')
        if each.returncode:
          raise InputError(f'a process that measures CPU time failed: {errors.strip()[-200:]}')
        found.append(json.loads(written.splitlines()[-1]))
      progress(len(found), options.processes)
  return np.asarray(found)


def _fresh(given: dict) -> subprocess.Popen:
  command = [sys.executable, '-m', 'experiments.variants.cpu_time', json.dumps(given)]
  pipe = subprocess.PIPE
  return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)


def measure(given: dict) -> list[list[float]]:
  """CPU seconds of an update in this process, round by size, on one core, so that no thread waits for another."""
  if hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, {cores()[given['process'] % len(cores())]})
  # After the choice of the core, which XLA's threads take over.
  import jax
  import optax

  import gdlab

  jax.config.update('jax_compilation_cache_dir', given['cache'])
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  problem = getattr(gdlab.problems, given['dataset'])(gdlab.problems.MLP(given['hidden']))

  def program(size: int):
    # With replacement every batch is full: no slot is empty at the end of an epoch.
    sampler = gdlab.sampling.with_replacement(size)
    algorithm = gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(0.1))
    step = jax.jit(
      lambda state, count, problem: jax.lax.fori_loop(
        0, count, lambda _, state: algorithm.step(state, problem)[0], state
      )
    )
    state = algorithm.init(jax.random.key(given['process']), problem)
    return lambda count: jax.block_until_ready(step(state, count, problem))

  programs = {size: program(size) for size in given['sizes']}
  for each in programs.values():
    each(1)  # compiles
  print('ready', flush=True)
  sys.stdin.readline()
  order, seconds = np.random.default_rng(given['process']), np.empty((given['rounds'], len(programs)))
  for own in seconds:
    for place in order.permutation(len(programs)):
      size = given['sizes'][place]
      count = max(1, given['examples'] // size)
      started = time.process_time()
      programs[size](count)
      own[place] = (time.process_time() - started) / count
  return seconds.tolist()


if __name__ == '__main__':
  print(json.dumps(measure(json.loads(sys.argv[1]))))
