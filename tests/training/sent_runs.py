"""What the tests of executors send to other processes: functions at the top level of a module."""

import os
import signal
import time

import jax
import optax

import gdlab

# One device, which a worker with one core has; lane after lane, so that parts are laid out alike.
PLAN = gdlab.Plan(lanes_at_once=1, num_devices=1)


def quadratic():
  return gdlab.problems.quadratic([1.0, 0.1], noise=0.3, num_examples=16)


def descent(learning_rate):
  return gdlab.algorithm(sampler=gdlab.sampling.reshuffle(4), optimizer=optax.sgd(learning_rate))


def runs(problem, executor=None):
  return gdlab.sweep(
    problem,
    descent,
    {'learning_rate': [0.05, 0.1]},
    num_steps=20,
    seeds=2,
    eval_every=10,
    plan=PLAN,
    executor=executor,
    progress=False,
  )


def seen():
  """What a worker knows of its process."""
  time.sleep(0.5)  # so that the next task goes to the other worker
  return {
    'id': os.getpid(),
    'cores': sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else None,
    'devices': jax.local_device_count(),
    'threads': os.environ['NPROC'],
    'dtype': str(jax.numpy.zeros(()).dtype),
    'cache': jax.config.jax_compilation_cache_dir,
    'leaves Ctrl-C': signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
  }


def long_run(folder):
  """Minutes of one run, in calls of less than a second; writes `seen` once it computes, and saves when it is to end."""

  def show(done, total):
    (folder / 'seen').touch()

  plan = gdlab.Plan(lanes_at_once=1, num_devices=1, steps_per_call=20_000)
  options = {'num_steps': 10**8, 'eval_every': 10**4, 'checkpoint': folder, 'checkpoint_every': 3600.0}
  return gdlab.run(quadratic(), descent(0.1), seeds=1, plan=plan, progress=show, **options)
