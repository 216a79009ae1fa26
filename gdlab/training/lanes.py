"""Many lanes: laid out over devices and blocks by a plan, advanced by compiled calls."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, PartitionSpec

from gdlab.errors import InputError, shown
from gdlab.training import lane as one
from gdlab.training.plan import Layout
from gdlab.training.seeds import stream_keys
from gdlab.types import Algorithm, Array, Problem, PyTree

AXIS = 'lanes'


class Program(NamedTuple):
  """What is compiled: hashable, so that an equal program is compiled once.

  Attributes:
    make_algorithm: `(**hyperparameters) -> Algorithm`.
    structure: the hyperparameters that shape the program, as sorted (name, value) pairs.
    probes: (name, function) pairs evaluated beside the metrics.
    layout: how the lanes are laid out.
  """

  make_algorithm: Callable[..., Algorithm]
  structure: tuple[tuple[str, Any], ...]
  probes: tuple[tuple[str, one.Probe], ...]
  layout: Layout

  def algorithm(self, numbers: Mapping[str, Any]) -> Algorithm:
    """The lane's algorithm; `numbers` are its numeric hyperparameters, tracers inside a compiled call."""
    return self.make_algorithm(**numbers, **dict(self.structure))


def check(program: Program, problem: Problem, numbers: dict[str, float]) -> None:
  """Raises InputError if the program's algorithm does not fit its problem, without computing anything."""
  algorithm = program.algorithm(numbers)
  if not isinstance(algorithm, Algorithm):
    raise InputError(f'make_algorithm must return a gdlab.algorithm(...), got {shown(algorithm)}')
  jax.eval_shape(lambda: algorithm.init(jax.random.key(0), problem))


@functools.partial(jax.jit, static_argnames='program')
def start(program: Program, problem: Problem, ids: Array, numbers: dict[str, Array]) -> PyTree:
  """Initial lanes and their metrics, for seed ids int32[L, 3] and hyperparameters float[L]."""

  def start_lane(ids, numbers, problem):
    return one.start(program.algorithm(numbers), problem, stream_keys(ids), dict(program.probes))

  return _over_lanes(program.layout, start_lane, (ids, numbers), (problem,))


@functools.partial(jax.jit, static_argnames='program', donate_argnames='lanes')
def advance(
  program: Program, problem: Problem, lanes: one.Lane, numbers: dict[str, Array], intervals: one.Interval
) -> PyTree:
  """Lanes advanced through all intervals, and their records with axes [L, interval]."""

  def advance_lane(lane, numbers, problem, intervals):
    algorithm = program.algorithm(numbers)

    def through(lane, interval):
      return one.advance(algorithm, problem, lane, interval, dict(program.probes))

    return jax.lax.scan(through, lane, intervals)

  return _over_lanes(program.layout, advance_lane, (lanes, numbers), (problem, intervals))


def pad(layout: Layout, num_lanes: int) -> int:
  """The number of lanes that fills every block on every device; the surplus is dropped from the results."""
  block = layout.num_devices * layout.lanes_at_once
  return -(-num_lanes // block) * block


def _over_lanes(layout: Layout, function: Callable[..., PyTree], lanes: PyTree, shared: PyTree) -> PyTree:
  """`function(*lane, *shared)` for every lane: sharded over devices, mapped over blocks, vmapped within one."""

  def on_device(lanes, shared):
    def one_lane(lane):
      return function(*lane, *shared)

    if layout.lanes_at_once == 1:
      return jax.lax.map(one_lane, lanes)  # no vmap at all, so that every conditional is a branch
    blocks = jax.tree.map(lambda leaf: leaf.reshape(-1, layout.lanes_at_once, *leaf.shape[1:]), lanes)
    results = jax.lax.map(jax.vmap(one_lane), blocks)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), results)

  devices = jax.local_devices()[: layout.num_devices]
  mesh = jax.make_mesh((layout.num_devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
  # Each device works on its own lanes and nothing is exchanged, so replication needs no checking.
  sharded = jax.shard_map(
    on_device,
    mesh=mesh,
    in_specs=(PartitionSpec(AXIS), PartitionSpec()),
    out_specs=PartitionSpec(AXIS),
    check_vma=False,
  )
  return sharded(lanes, shared)
