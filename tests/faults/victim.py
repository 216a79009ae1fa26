"""What the tests of faults kill: python victim.py KIND FOLDER [DIE_AT]; KIND is sweep, halving, host_steps or compare.

It writes `progress` (a line for every report) and, at its end, `result.npz` into FOLDER, and keeps checkpoints in
FOLDER/checkpoints. With DIE_AT=N it kills itself in its N-th call of os.fsync or os.replace: in the midst of a save.
With DIE_AT=slow every such call takes half a second more.
"""

import itertools
import os
import pathlib
import signal
import sys
import time

import jax
import numpy as np
import optax

import gdlab
from gdlab.host import interrupt

EVERY = {'updates': 40}
NUM_STEPS = 400


def problem():
  return gdlab.problems.digits(gdlab.problems.MLP([8]))


def adam(learning_rate, batch_size=8):
  optimizer = optax.adam(learning_rate)
  return gdlab.algorithm(sampler=gdlab.sampling.reshuffle(batch_size), optimizer=optimizer)


def sweep(folder, show, **options):
  """Two programs with four lanes each; a period is ten updates."""
  grid = {'learning_rate': [0.01, 0.1], 'batch_size': [4, 8]}
  found = gdlab.sweep(
    problem(),
    adam,
    grid,
    num_steps=NUM_STEPS,
    seeds=2,
    eval_every=10,
    checkpoint=folder,
    checkpoint_every=EVERY,
    progress=show,
    **options,
  )
  return {str(name): found[name].values for name in found.data_vars}


def compare(folder, show):
  arms = {name: gdlab.Arm(adam, {'learning_rate': rates}) for name, rates in ARMS.items()}
  answer = gdlab.compare(
    gdlab.problems.split(problem(), validation=0.2),
    arms,
    baseline='low',
    budgets={'updates': NUM_STEPS // 2},
    margin=0.01,
    tuning_seeds=2,
    seeds=4,
    eval_every=10,
    checkpoint=folder,
    checkpoint_every=EVERY,
    progress=show,
  )
  found = {
    f'{key[1]}.{name}': runs.result[name].values
    for key, runs in answer.graded.items()
    for name in runs.result
  }
  rows = [[row.effect.estimate, row.effect.low, row.effect.high] for row in answer.verdicts]
  return found | {'effects': np.asarray(rows)}


ARMS = {'low': [0.01, 0.03], 'high': [0.1, 0.3]}
KINDS = {
  'sweep': sweep,
  'halving': lambda folder, show: sweep(folder, show, halving=gdlab.Halving((100, 200))),
  'host_steps': lambda folder, show: sweep(folder, show, plan=gdlab.Plan(1, 2, host_steps=True)),
  'compare': compare,
}


def die_within_a_save(number: int) -> None:
  calls = itertools.count(1)

  def fatal(real):
    def call(*arguments, **options):
      if next(calls) == number:
        os.kill(os.getpid(), signal.SIGKILL)
      return real(*arguments, **options)

    return call

  os.fsync, os.replace = fatal(os.fsync), fatal(os.replace)


def be_slow_to_save() -> None:
  real = os.fsync

  def slow(file):
    time.sleep(0.5)
    real(file)

  os.fsync = slow


def main() -> None:
  kind, folder = sys.argv[1], pathlib.Path(sys.argv[2])
  jax.config.update('jax_num_cpu_devices', 2)
  gdlab.use_compilation_cache()
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  if sys.argv[3:] == ['slow']:
    be_slow_to_save()
  elif sys.argv[3:]:
    die_within_a_save(int(sys.argv[3]))
  with open(folder / 'progress', 'a', encoding='utf-8') as log:

    def show(done, total):
      log.write(f'{done} {total}\n')
      log.flush()

    with interrupt.for_a_script():
      log.write('started\n')
      log.flush()
      try:
        found = KINDS[kind](folder / 'checkpoints', show)
      except KeyboardInterrupt:
        interrupt.heard()
        os._exit(75)
  np.savez(folder / 'result.npz', **found)


if __name__ == '__main__':
  main()
