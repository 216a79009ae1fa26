"""Many lanes: spread over devices by a layout, advanced by compiled calls."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from gdlab.errors import InputError, shown
from gdlab.objective import DATA_AXIS
from gdlab.training import lane as one
from gdlab.training.plan import Layout
from gdlab.training.seeds import stream_keys
from gdlab.types import Algorithm, Array, Problem, PyTree

LANES_AXIS = 'lanes'


class Maker(NamedTuple):
  """Makes algorithms of traced hyperparameters; hashable.

  Attributes:
    make_algorithm: `(**hyperparameters) -> Algorithm`.
    structure: the hyperparameters that shape the program, as sorted (name, value) pairs.
  """

  make_algorithm: Callable[..., Algorithm]
  structure: tuple[tuple[str, Any], ...]

  def __call__(self, numbers: Mapping[str, Any]) -> Algorithm:
    """The lane's algorithm; `numbers` are its numeric hyperparameters, tracers inside a compiled call."""
    algorithm = self.make_algorithm(**numbers, **dict(self.structure))
    if not isinstance(algorithm, Algorithm):
      raise InputError(f'make_algorithm must return a gdlab.algorithm(...), got {shown(algorithm)}')
    return algorithm


def weak(numbers: Mapping[str, Any]) -> dict[str, Array]:
  """Traced hyperparameters as weakly typed as the Python floats that they stand for.

  What they are multiplied by keeps its type then, as it does with a constant: a strongly typed rate would turn updates
  and states of bfloat16 into float32.
  """
  return {name: jnp.full_like(0.0, number) for name, number in numbers.items()}


class Program(NamedTuple):
  """What is compiled: hashable, so that an equal program is compiled once.

  Attributes:
    make: makes the lanes' algorithms.
    probes: (name, function) pairs evaluated beside the metrics.
    layout: how the lanes are laid out.
  """

  make: Maker
  probes: tuple[tuple[str, one.Probe], ...]
  layout: Layout


class Inputs(NamedTuple):
  """What makes a lane the lane it is.

  Attributes:
    ids: int32[L, 3], the seed ids of its streams.
    numbers: hyperparameter -> float[L].
  """

  ids: Any
  numbers: dict[str, Any]


@functools.partial(jax.jit, static_argnames='program')
def start(program: Program, problem: Problem, inputs: Inputs, counts: Array) -> tuple[one.Lane, PyTree]:
  """Initial lanes and their metrics, for as many lanes of every shard as `counts` int32[shards] says.

  The shards are those of one copy of the program, see `place`.
  """

  def start_lane(_, inputs, problem):
    algorithm = program.make(weak(inputs.numbers))
    return (), one.start(algorithm, problem, stream_keys(inputs.ids), dict(program.probes))

  return _over_lanes(program.layout, start_lane, (), inputs, counts, (problem,))[1]


@functools.partial(jax.jit, static_argnames='program', donate_argnames='lanes')
def advance(
  program: Program, problem: Problem, lanes: one.Lane, inputs: Inputs, counts: Array, periods: one.Period
) -> tuple[one.Lane, tuple[PyTree, PyTree]]:
  """Lanes advanced through Q periods; records with axes [L, Q, R], metrics with axes [L, Q]."""

  def advance_lane(lane, inputs, problem, periods):
    algorithm = program.make(weak(inputs.numbers))

    def through(lane, period):
      return one.advance(algorithm, problem, lane, period, dict(program.probes))

    return jax.lax.scan(through, lane, periods)

  return _over_lanes(program.layout, advance_lane, lanes, inputs, counts, (problem, periods))


def mesh(layout: Layout) -> Mesh:
  """The devices as a mesh: lanes along the first axis, the batch of each along the second."""
  devices = np.asarray(jax.local_devices()[: layout.num_devices])
  return Mesh(
    devices.reshape(layout.shards, layout.data_parallel),
    (LANES_AXIS, DATA_AXIS),
    axis_types=(AxisType.Auto, AxisType.Auto),
  )


def split(layout: Layout) -> tuple[Sharding, ...]:
  """How arrays with a leading axis of lanes lie on the devices of each copy of the program."""
  if layout.program_per_device:
    return tuple(map(SingleDeviceSharding, jax.local_devices()[: layout.num_devices]))
  return (NamedSharding(mesh(layout), PartitionSpec(LANES_AXIS)),)


def place(layout: Layout, tree: PyTree, *, split_lanes: bool = False) -> tuple[PyTree, ...]:
  """Puts arrays where the compiled calls want them: whole on every device, or split along the lanes.

  Returns:
    A tree for each copy of the program: there is one for all devices, or one for every device.
  """
  if not layout.program_per_device:
    whole = NamedSharding(mesh(layout), PartitionSpec())
    return (jax.device_put(tree, split(layout)[0] if split_lanes else whole),)
  devices = jax.local_devices()[: layout.num_devices]
  if not split_lanes:
    return tuple(jax.tree.map(functools.partial(_on, device), tree) for device in devices)

  def share(number: int, leaf: Any) -> Any:
    size = leaf.shape[0] // len(devices)
    return leaf[number * size : (number + 1) * size]

  return tuple(
    jax.device_put(jax.tree.map(functools.partial(share, number), tree), device)
    for number, device in enumerate(devices)
  )


def _on(device: jax.Device, leaf: Any) -> Array:
  """The array on one device: no second copy where a whole one is there already."""
  if isinstance(leaf, jax.Array) and leaf.is_fully_replicated:
    for shard in leaf.addressable_shards:
      if shard.device == device:
        return shard.data
  return jax.device_put(leaf, device)


def slots(layout: Layout, num_lanes: int) -> tuple[np.ndarray, np.ndarray]:
  """Where the lanes of a block sit, dealt out to the shards in turn, and how many each shard has.

  Returns:
    `(slots int[num_lanes], counts int32[shards])`. Every shard's lanes are the first of its slots.
  """
  per_shard = layout.lanes_per_block // layout.shards
  group, within = np.divmod(np.arange(num_lanes), layout.lanes_at_once)
  round_, shard = np.divmod(group, layout.shards)
  counts = np.bincount(shard, minlength=layout.shards).astype(np.int32)
  return shard * per_shard + round_ * layout.lanes_at_once + within, counts


def _over_lanes(
  layout: Layout,
  function: Callable[..., PyTree],
  state: PyTree,
  inputs: PyTree,
  counts: Array,
  shared: PyTree,
) -> PyTree:
  """`state, result = function(state, inputs, *shared)` for the first `counts` lanes of every shard.

  One loop over the lanes, `lanes_at_once` under vmap: the state is replaced in place, so that there is only one
  of it, and the number of lanes is not compiled in.
  """
  width = layout.lanes_at_once

  def on_shard(state, inputs, count, shared):
    @functools.partial(jax.jit, inline=True)  # traced once for its shapes and its use
    def group(state, inputs):
      if width > 1:
        return jax.vmap(lambda state, inputs: function(state, inputs, *shared))(state, inputs)
      # No vmap at all, so that every conditional is a branch.
      lane_state, lane_inputs = jax.tree.map(lambda leaf: leaf[0], (state, inputs))
      return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], function(lane_state, lane_inputs, *shared))

    def body(number, carried):
      at = lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, number * width, width)
      put = lambda leaf, new: jax.lax.dynamic_update_slice_in_dim(leaf, new, number * width, 0)
      new = group(*jax.tree.map(at, (carried[0], inputs)))
      return jax.tree.map(put, carried, new)

    size = jax.tree.leaves(inputs)[0].shape[0]
    first = jax.tree.map(lambda leaf: leaf[:width], (state, inputs))
    shapes = jax.eval_shape(group, *first)[1]
    results = jax.tree.map(lambda leaf: jnp.zeros((size, *leaf.shape[1:]), leaf.dtype), shapes)
    return jax.lax.fori_loop(0, -(-count[0] // width), body, (state, results))

  if layout.program_per_device:
    return on_shard(state, inputs, counts, shared)
  # Each shard works on its own lanes and nothing is exchanged between them, so replication needs no checking. The
  # data axis is left to the compiler, which splits what `objective.spread` marks.
  sharded = jax.shard_map(
    on_shard,
    mesh=mesh(layout),
    axis_names={LANES_AXIS},
    in_specs=(
      PartitionSpec(LANES_AXIS),
      PartitionSpec(LANES_AXIS),
      PartitionSpec(LANES_AXIS),
      PartitionSpec(),
    ),
    out_specs=PartitionSpec(LANES_AXIS),
    check_vma=False,
  )
  return sharded(state, inputs, counts, shared)
