"""One worker of the benchmark: `python -m experiments.throughput.worker SPEC`, told what to do over its pipes.

Lines on stdin are names of measurables, and each is answered by a line of JSON on stdout when that one has run.
Before the first, everything is run once, so that all is compiled; a worker that waits blocks on its pipe. It ends
with its stdin, so none outlives the benchmark.
"""

import importlib
import json
import os
import sys

COMPILED = '/jax/core/compile/backend_compile_duration'


def main() -> None:
  """Builds the measurables that the specification asks for, then runs them when told."""
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)  # what a library prints must not be taken for an answer
  spec = json.loads(sys.argv[1])
  if spec['core'] is not None:
    # Before JAX, NumPy or PyTorch count the cores: each then starts one thread.
    os.sched_setaffinity(0, {spec['core']})

  import jax
  import jax.monitoring

  compilations = 0

  def count(event: str, duration_secs: float, **metadata: str | int) -> None:
    nonlocal compilations
    compilations += event == COMPILED

  if spec['all_cores']:
    import gdlab  # which takes seconds, and not all need it

    gdlab.use_all_cores()
  jax.monitoring.register_event_duration_secs_listener(count)

  def answer(**content) -> None:
    print(json.dumps(content), file=answers, flush=True)

  contenders = importlib.import_module(f'experiments.throughput.{spec["module"]}')
  measurables, notes = contenders.build(spec['work'])
  for run in measurables.values():
    run()
  answer(notes=notes)
  for line in sys.stdin:
    before = compilations
    measurables[line.strip()]()
    answer(compilations=compilations - before)


if __name__ == '__main__':
  main()
