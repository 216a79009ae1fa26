"""The groups of a sweep: for every combination of shaping hyperparameters a program, its lanes and their layout."""

import collections
import contextlib
import functools
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen, nnx

from gdlab.errors import InputError, shown
from gdlab.problems.checks import check_unmasked, check_whole
from gdlab.training import choose, drive, interrupt, lanes, memory
from gdlab.training.collect import Collector
from gdlab.training.grid import Grid, named_by
from gdlab.training.lane import Probe
from gdlab.training.plan import Layout, Plan, resolve
from gdlab.training.schedule import Call, Schedule
from gdlab.types import Algorithm, Problem


class Work(NamedTuple):
  """What a sweep is asked for, checked.

  Attributes:
    problem: what is minimised, or what makes it.
    make_algorithm: makes the algorithm.
    points: the grid.
    ids: int32[S, 3], the seed ids of the streams.
    schedule: when is recorded.
    probes: what else is measured.
    plan: how lanes are to be laid out.
    part: `(i, n)`: of n shares of the lanes the i-th.
  """

  problem: Problem | Callable[..., Problem]
  make_algorithm: Callable[..., Algorithm]
  points: Grid
  ids: np.ndarray
  schedule: Schedule
  probes: tuple[tuple[str, Probe], ...]
  plan: Plan
  part: tuple[int, int]


class Share(NamedTuple):
  """A group, and which of the sweep's runs its lanes are.

  Attributes:
    group: the lanes.
    places: int[L], their numbers among all runs of the sweep.
    points: int[L], which point of the grid each belongs to.
  """

  group: drive.Group
  places: np.ndarray
  points: np.ndarray


def make(work: Work) -> list[Share]:
  """Checks and lays out every group, without computing anything but the trial that a layout may need.

  Raises:
    InputError: if the algorithm does not fit the problem.
  """
  places = work.points.places(len(work.ids))
  index, count = work.part
  num_lanes = places.shape[1]
  share = slice(num_lanes * index // count, num_lanes * (index + 1) // count)
  numbers = work.points.numbers(len(work.ids))
  ids = np.tile(work.ids, (work.points.num_points(), 1))
  dtype = jax.dtypes.canonicalize_dtype(float)
  inputs = lanes.Inputs(ids[share], {name: values[share].astype(dtype) for name, values in numbers.items()})
  shared = work.problem
  if isinstance(shared, Problem):  # one copy on the devices serves all groups
    devices, parallel = work.plan.num_devices or jax.local_device_count(), work.plan.data_parallel or 1
    [shared] = lanes.place(Layout(1, devices, 1, 1, parallel), shared)
  shares, probed = [], None
  for structure, group_places in zip(work.points.groups(), places, strict=True):
    interrupt.look()
    problem = shared if isinstance(shared, Problem) else _make_problem(shared, structure)
    group, cost = _group(work, structure, problem, inputs, num_lanes)
    probed = cost.probes if probed is None else probed
    if cost.probes != probed:
      raise InputError(f'probes must have one shape in all groups, got {probed} and {dict(cost.probes)}')
    mine = group_places[share]
    shares.append(Share(group, mine, mine // len(work.ids)))
  return shares


def compiled_ahead(
  groups: Sequence[drive.Group], calls: Callable[[drive.Group], Call]
) -> Iterator[drive.Group]:
  """The groups in turn, each with its programs compiled; those of the next ones are being compiled meanwhile.

  Tracing holds Python's lock, compiling does not: so this thread traces and others compile.
  """
  ahead: collections.deque[list[futures.Future]] = collections.deque()
  coming = iter(groups)
  workers = os.cpu_count() or 1
  with futures.ThreadPoolExecutor(workers) as pool, contextlib.ExitStack() as stack:
    stack.callback(pool.shutdown, wait=False, cancel_futures=True)  # where the caller gives up
    for group in groups:
      # Of programs that are compiled for every device fewer: a process has room for some hundreds.
      most = 1 + -(-workers // len(group.problem))
      for following in itertools.islice(coming, max(0, most - len(ahead))):
        ahead.append([pool.submit(lowered.compile) for lowered in drive.prepare(following, calls(following))])
      # Not `result`: what is wrong with a program is raised by its call, where a lack of memory is dealt with.
      interrupt.wait(functools.partial(futures.wait, ahead.popleft()))
      yield group


def _group(
  work: Work, structure: dict[str, Any], problem: Problem, inputs: lanes.Inputs, num_lanes: int
) -> tuple[drive.Group, choose.Cost]:
  make = lanes.Maker(work.make_algorithm, tuple(sorted(named_by(work.make_algorithm, structure).items())))

  def group_of(layout: Layout, schedule: Schedule, inputs: lanes.Inputs) -> drive.Group:
    program, placed = lanes.Program(make, work.probes, layout), lanes.place(layout, problem)
    return drive.Group(program, placed, inputs, Collector(len(inputs.ids), schedule))

  make(work.points.first_numbers())  # so that values are checked, which tracers do not have
  cost = choose.cost(make, problem, work.points.traced, work.probes)
  num_steps = int(work.schedule.steps[-1])
  sharing = work.plan.data_parallel or 1
  shards = (work.plan.num_devices or jax.local_device_count()) // sharing
  per_shard = -(-num_lanes // shards)  # of the whole sweep's lanes: all parts must choose alike
  own_per_shard = -(-len(inputs.ids) // shards)

  def trial(width: int, num_updates: int) -> float:
    layout = Layout(width, shards, num_updates, shards * choose.MIDDLE, 1)
    few = jax.tree.map(lambda leaf: np.resize(leaf, (layout.lanes_per_block, *leaf.shape[1:])), inputs)
    schedule = Schedule(np.asarray([0, num_updates]), np.asarray([False, False]))
    timed = group_of(layout, schedule, few)
    return _seconds(timed, schedule) / num_updates / choose.MIDDLE

  at_once = work.plan.lanes_at_once or (
    1 if sharing > 1 else choose.lanes_at_once(cost, per_shard, num_steps, trial)
  )
  fitting = memory.memory_lanes(cost.num_bytes, shards)
  layout = resolve(
    work.plan,
    max(1, len(inputs.ids)),
    num_steps,
    lanes_at_once=at_once,
    memory_lanes=fitting,
    program_per_device=shards > 1 and choose.program_per_device(cost, own_per_shard, num_steps),
  )
  return group_of(layout, work.schedule, inputs), cost


def _seconds(group: drive.Group, schedule: Schedule) -> float:
  """The time of one compiled call for all lanes: the faster of two, after one that compiles."""
  block = drive.begin(group, np.arange(len(group.inputs.ids)))
  [[call]] = schedule.calls(int(schedule.steps[-1]))
  seconds = []
  for _ in range(3):
    jax.block_until_ready(block.lanes)
    started = time.perf_counter()
    block = drive.advance(group, block, [call], lambda updates: None)
    jax.block_until_ready(block.lanes)
    seconds.append(time.perf_counter() - started)
  return min(seconds[1:])


def _make_problem(make_problem: Callable[..., Problem], structure: dict[str, Any]) -> Problem:
  problem = make_problem(**named_by(make_problem, structure))
  check_problem(problem)
  return problem


def check_problem(problem: object) -> None:
  """Raises InputError for what is not a problem."""
  refuse_module(problem)
  if not isinstance(problem, Problem):
    raise InputError(f'problem must be a gdlab Problem such as gdlab.problems.digits(), got {shown(problem)}')
  for split in ('train', 'test'):
    for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(problem, split)):
      if isinstance(leaf, np.ndarray):  # what JAX holds already has changed already
        check_unmasked(f'problem.{split}{jax.tree_util.keystr(path)}', leaf)
        check_whole(f'problem.{split}{jax.tree_util.keystr(path)}', leaf)


def refuse_module(problem: object) -> None:
  """Raises InputError for a Flax module, or a class of them, which can be called as what makes problems can."""
  kind = problem if isinstance(problem, type) else type(problem)
  for module, adapter in (
    (linen.Module, 'from_linen(module, ...)'),
    (nnx.Module, 'from_nnx(make_module, ...)'),
  ):
    if issubclass(kind, module):
      raise InputError(
        f'problem must be a gdlab Problem, such as gdlab.problems.{adapter} makes of a Flax module, data and a loss, '
        f'got the module {shown(problem)}'
      )
