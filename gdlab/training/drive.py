"""Drives the lanes of one program from the host: block by block, call by call."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from gdlab.training import interrupt, lanes
from gdlab.training.collect import Collector
from gdlab.training.lane import Lane
from gdlab.training.plan import Layout
from gdlab.training.schedule import Call
from gdlab.types import Problem, PyTree

Report = Callable[[int], None]


class Group(NamedTuple):
  """The lanes that share a program.

  Attributes:
    program: what is compiled.
    problem: its problem, on the devices of each copy of the program.
    inputs: all lanes' seeds and hyperparameters, on the host.
    collector: where records go.
  """

  program: lanes.Program
  problem: tuple[Problem, ...]
  inputs: lanes.Inputs
  collector: Collector

  def relaid(self, layout: Layout) -> 'Group':
    """The same lanes under another layout."""
    return self._replace(program=self.program._replace(layout=layout))


class Block(NamedTuple):
  """Lanes in the machine's memory, complete: with it their runs can go on.

  What is on the devices is a tuple, with an item for each copy of the program, see `lanes.place`.

  Attributes:
    lanes: their carried state, on the devices.
    inputs: their seeds and hyperparameters, on the devices.
    counts: int32[shards], how many each shard has, on the devices.
    members: int[n], their numbers in the group.
    slots: int[n], where they sit.
  """

  lanes: tuple[Lane, ...]
  inputs: tuple[lanes.Inputs, ...]
  counts: tuple[jax.Array, ...]
  members: np.ndarray
  slots: np.ndarray


def prepare(group: Group, call: Call) -> Iterator[jax.stages.Lowered]:
  """Traces the group's two programs, so that they can be compiled while others run; yields every copy of them."""
  program = group.program
  inputs, counts, _ = _placed(group, np.zeros(1, int))
  periods = lanes.place(program.layout, call.periods)
  copies = zip(group.problem, inputs, counts, periods, lanes.split(program.layout), strict=True)
  for problem, own_inputs, own_counts, own_periods, sharding in copies:
    lowered = lanes.start.lower(program, problem, own_inputs, own_counts)
    yield lowered
    block = jax.tree.map(
      lambda leaf, sharding=sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
      lowered.out_info[0],
    )
    yield lanes.advance.lower(program, problem, block, own_inputs, own_counts, own_periods)


def run_group(group: Group, calls: Sequence[Call], report: Report) -> Group:
  """Runs all lanes from the first record to the last, in blocks that fit the memory.

  Where a block does not fit after all, it is halved and begun again.

  Returns:
    The group with the layout that fitted.
  """
  done = 0
  num_lanes = len(group.inputs.ids)
  while done < num_lanes:
    members = np.arange(done, min(done + group.program.layout.lanes_per_block, num_lanes))
    made = 0

    def counted(updates: int) -> None:
      nonlocal made
      made += updates
      report(updates)

    try:
      advance(group, begin(group, members), calls, counted)
    except (RuntimeError, ValueError, MemoryError) as error:  # JAX's is one of the first two, by place
      group = smaller(group, error)
      report(-made)
    else:
      done += len(members)
  return group


def begin(group: Group, members: np.ndarray) -> Block:
  """The block of these lanes, before their first update."""
  inputs, counts, slots = _placed(group, members)
  copies = zip(group.problem, inputs, counts, strict=True)
  made = [lanes.start(group.program, *arguments) for arguments in copies]
  started, metrics = zip(*made, strict=True)
  group.collector.put_initial(members, slots, _together(metrics))
  return Block(started, inputs, counts, members, slots)


def advance(group: Group, block: Block, calls: Sequence[Call], report: Report) -> Block:
  """Makes the updates of `calls`. The block given is used up."""
  program, collector = group.program, group.collector

  def collect(call: Call, results: Sequence[PyTree]) -> None:
    interrupt.wait(lambda: jax.block_until_ready(results))
    collector.put(block.members, block.slots, call, _together(results))
    report(len(block.members) * call.num_steps)

  pending: tuple[Call, Sequence[PyTree]] | None = None
  for call in calls:
    interrupt.look()
    periods = lanes.place(program.layout, call.periods)
    copies = zip(group.problem, block.lanes, block.inputs, block.counts, periods, strict=True)
    made = [lanes.advance(program, *arguments) for arguments in copies]  # none waits for another
    advanced, results = zip(*made, strict=True)
    block = block._replace(lanes=advanced)
    if pending is not None:
      collect(*pending)  # the last call's records, while this one computes
    pending = call, results
  if pending is not None:
    collect(*pending)
  return block


def smaller(group: Group, error: Exception) -> Group:
  """The group under half the block, if the error says that the memory was full; else the error is raised."""
  if not isinstance(error, MemoryError) and 'RESOURCE_EXHAUSTED' not in str(error):
    raise error
  layout = group.program.layout.halved()
  if layout is None:
    raise error
  warnings.warn(
    f'out of memory with {group.program.layout.lanes_per_block} lanes per block, '
    f'{group.program.layout.lanes_at_once} at once: going on with {layout.lanes_per_block} per block, '
    f'{layout.lanes_at_once} at once',
    RuntimeWarning,
    stacklevel=2,
  )
  return group.relaid(layout)


def _together(results: Sequence[PyTree]) -> PyTree:
  """The results of all copies of the program, lanes along the leading axis."""
  if len(results) == 1:
    return results[0]
  return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *results)


def _placed(
  group: Group, members: np.ndarray
) -> tuple[tuple[lanes.Inputs, ...], tuple[jax.Array, ...], np.ndarray]:
  """The inputs of these lanes on the devices, how many each shard has, and where they sit."""
  layout = group.program.layout
  slots, counts = lanes.slots(layout, len(members))
  chosen = np.full(
    layout.lanes_per_block, members[0]
  )  # what fills up a group under vmap must compute something
  chosen[slots] = members
  inputs = jax.tree.map(lambda leaf: leaf[chosen], group.inputs)
  placed_inputs, placed_counts = zip(*lanes.place(layout, (inputs, counts), split_lanes=True), strict=True)
  return placed_inputs, placed_counts, slots
