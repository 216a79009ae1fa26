"""From the arguments of a sweep to its programs; computes nothing except the timed trial that a plan may need."""

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.errors import InputError, check_count, shown
from gdlab.core.evaluation import evaluate
from gdlab.core.types import SPLITS, Algorithm, Problem, PyTree
from gdlab.host import interrupt, memory
from gdlab.problems.checks import check_problem
from gdlab.training import autotune, layout
from gdlab.training.grid import Grid, named_by
from gdlab.training.lane import Probe
from gdlab.training.plan import Plan, resolved
from gdlab.training.programs import Program
from gdlab.training.records import Records
from gdlab.updates.optimizers import check_params


def make_programs(
  problem: Problem | Callable[..., Problem],
  factory: Algorithm | Callable[..., Algorithm],
  grid: Grid,
  ids: np.ndarray,
  num_steps: int | Callable[..., int],
  records: Callable[[int, int], Records],
  probes: tuple[tuple[str, Probe], ...],
  plan: Plan,
  part: tuple[int, int],
  params: PyTree,
  keep: bool,
  plans: Mapping[int, Plan] = MappingProxyType({}),
) -> list[Program]:
  """Checks and lays out every program.

  Args:
    problem: the problem to minimise, or a function that makes it.
    factory: an algorithm, or a function that makes it.
    grid: the points.
    ids: int32[S, 3], the seed ids of the streams.
    num_steps: updates of every run, or a function of static hyperparameters.
    records: `(num_steps, num_lanes) -> Records`, makes empty ones.
    probes: functions that are evaluated with the metrics.
    plan: the layout, as given by the user.
    part: `(i, n)`: the i-th of n shares of every program's lanes.
    params: the initial parameters; None for the problem's own.
    keep: whether to keep the final parameters and model state of every run.
    plans: plans of runs that are resumed, by the first lane of their program.

  Raises:
    InputError: if the algorithm does not fit the problem, or programs do not fit into one result.
  """
  shared = problem
  if isinstance(shared, Problem):  # one copy on the devices serves all programs
    devices, parallel = plan.num_devices or jax.local_device_count(), plan.data_parallel or 1
    [shared] = layout.place(Plan(1, devices, 1, 1, parallel), shared)
  made, probed, kept = [], None, None
  for shape, numbers, places in grid.programs(len(ids)):
    interrupt.look()
    own = shared if isinstance(shared, Problem) else _make_problem(shared, shape)
    steps = check_count(
      'num_steps', num_steps(**named_by(num_steps, shape)) if callable(num_steps) else num_steps
    )
    structure = () if isinstance(factory, Algorithm) else tuple(sorted(named_by(factory, shape).items()))
    if not isinstance(factory, Algorithm):
      # With plain numbers, so that values are checked, which tracers do not have.
      factory(**{name: float(values[0]) for name, values in numbers.items()}, **dict(structure))
    begun = jax.eval_shape(own.init, jax.random.key(0))
    _check_not_metrics([*grid.axes, *grid.trials], own, begun)
    if params is not None:  # while its numbers can be looked at
      check_params(params, begun[0])
    shapes = jax.tree.map(jnp.shape, begun) if keep else None
    kept = shapes if kept is None else kept
    if shapes != kept:
      raise InputError(
        f'keep must be None where parameters differ in shape, got {shown(kept)} and {shown(shapes)}'
      )
    found = autotune.footprint(factory, structure, own, numbers, probes, params)
    probed = found.probes if probed is None else probed
    if found.probes != probed:
      raise InputError(f'probes must have one shape in all programs, got {probed} and {dict(found.probes)}')
    index, count = part
    share = slice(len(places) * index // count, len(places) * (index + 1) // count)
    dtype = jax.dtypes.canonicalize_dtype(float)
    inputs: dict[str, Any] = {
      'ids': np.tile(ids, (len(places) // len(ids), 1))[share],
      'numbers': {name: values[share].astype(dtype) for name, values in numbers.items()},
    }

    def program(
      plan: Plan, inputs: Any, records: Records, own=own, structure=structure, places=places[share]
    ):
      placed, start = layout.place(plan, own), params
      return Program(factory, structure, probes, plan, placed, inputs, start, places, records)

    chosen = plans.get(int(places[share][0])) if len(places[share]) else None
    chosen = chosen or _chosen(plan, found, len(places), steps, inputs, program)
    made.append(program(chosen, inputs, records(steps, len(inputs['ids']))))
  return made


def _check_not_metrics(
  hyperparameters: Iterable[str], problem: Problem, begun: tuple[PyTree, PyTree]
) -> None:
  """Raises InputError for a hyperparameter that would share its name with a metric in the result."""
  if alike := {name for name in hyperparameters if name.partition('_')[0] in SPLITS}:
    metrics = jax.eval_shape(functools.partial(evaluate, problem), *begun)
    if taken := sorted(alike & metrics.keys()):
      raise InputError(f'hyperparameter must have a name that no metric has, got {taken[0]!r}')


def _chosen(
  plan: Plan,
  found: autotune.Footprint,
  num_lanes: int,
  num_steps: int,
  inputs: Mapping[str, Any],
  program: Callable[[Plan, Any, Records], Program],
) -> Plan:
  """The plan with every choice made, by a timed trial of the program if no rule decides."""
  sharing = plan.data_parallel or 1
  shards = (plan.num_devices or jax.local_device_count()) // sharing
  per_shard = -(-num_lanes // shards)  # of the whole sweep's lanes: all parts must choose alike
  own = len(inputs['ids'])
  on_host = sharing == 1 and (autotune.host_steps(found) if plan.host_steps is None else plan.host_steps)

  def trial(width: int, num_updates: int) -> float:
    size = shards * autotune.MIDDLE
    few = jax.tree.map(lambda leaf: np.resize(leaf, (size, *leaf.shape[1:])), inputs)
    records = Records(np.asarray([0, num_updates]), np.asarray([False, False]), size)
    timed = program(Plan(width, shards, num_updates, size, 1, False, False), few, records)
    return _seconds(timed) / num_updates / autotune.MIDDLE

  one_by_one = sharing > 1 or on_host
  at_once = plan.lanes_at_once or (
    1 if one_by_one else autotune.lanes_at_once(found, per_shard, num_steps, trial)
  )
  return resolved(
    plan,
    max(1, own),
    num_steps,
    lanes_at_once=at_once,
    memory_lanes=memory.memory_lanes(found.num_bytes, shards),
    program_per_device=shards > 1 and autotune.program_per_device(found, -(-own // shards), num_steps),
    host_steps=on_host,
  )


def _seconds(program: Program) -> float:
  """The time of one compiled call for all lanes: the faster of two, after one to compile."""
  block = program.start(np.arange(len(program.inputs['ids'])))
  [chunks] = program.records.chunks(program.records.num_steps)
  seconds = []
  for _ in range(3):
    jax.block_until_ready(block.lanes)
    started = time.perf_counter()
    block = program.advance(block, chunks, lambda updates: None)
    jax.block_until_ready(block.lanes)
    seconds.append(time.perf_counter() - started)
  return min(seconds[1:])


def _make_problem(make_problem: Callable[..., Problem], shape: dict[str, Any]) -> Problem:
  problem = make_problem(**named_by(make_problem, shape))
  check_problem(problem)
  return problem
