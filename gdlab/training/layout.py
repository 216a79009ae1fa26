"""The placement of lanes on devices, and the function of one lane mapped over all of them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from gdlab.core.objective import DATA_AXIS
from gdlab.core.types import Array, PyTree
from gdlab.training.plan import Plan

LANES_AXIS = 'lanes'


def copies(plan: Plan) -> list[jax.Device | None]:
  """The device of every copy of the program; None for one copy on all devices.

  With `host_steps` there is a copy for every `lanes_at_once` lanes, on the devices in turn.
  """
  devices = jax.local_devices()[: plan.num_devices]
  if plan.host_steps:
    return [devices[number % len(devices)] for number in range(plan.lanes_per_block // plan.lanes_at_once)]
  return [*devices] if plan.program_per_device else [None]


def place(plan: Plan, tree: PyTree, *, split_lanes: bool = False) -> tuple[PyTree, ...]:
  """Places arrays for the compiled calls: replicated on every device, or split along the lanes.

  Returns:
    One tree for each copy of the program, see `copies`; if replicated, one for each of their devices.
  """
  devices = copies(plan)
  if devices == [None]:
    whole = NamedSharding(_mesh(plan), PartitionSpec())
    return (jax.device_put(tree, sharding(plan)[0] if split_lanes else whole),)
  if not split_lanes:
    return tuple(jax.tree.map(functools.partial(_on, device), tree) for device in dict.fromkeys(devices))

  def share(number: int, leaf: Any) -> Any:
    size = leaf.shape[0] // len(devices)
    return leaf[number * size : (number + 1) * size]

  return tuple(
    jax.device_put(jax.tree.map(functools.partial(share, number), tree), device)
    for number, device in enumerate(devices)
  )


def sharding(plan: Plan) -> tuple[Sharding, ...]:
  """The sharding of arrays with a leading axis of lanes, for each copy of the program."""
  return tuple(
    NamedSharding(_mesh(plan), PartitionSpec(LANES_AXIS)) if device is None else SingleDeviceSharding(device)
    for device in copies(plan)
  )


def slots(plan: Plan, num_lanes: int) -> tuple[np.ndarray, np.ndarray]:
  """The slots of a block's lanes, assigned to the shards in turn, and how many each copy or shard has.

  Returns:
    `(slots int[num_lanes], counts int32[copies or shards])`. Each copy or shard fills its first slots.
  """
  width = plan.lanes_at_once
  if plan.host_steps:
    full = np.arange(plan.lanes_per_block // width) * width
    return np.arange(num_lanes), np.clip(num_lanes - full, 0, width).astype(np.int32)
  per_shard = plan.lanes_per_block // plan.shards
  group, within = np.divmod(np.arange(num_lanes), width)
  round_, shard = np.divmod(group, plan.shards)
  counts = np.bincount(shard, minlength=plan.shards).astype(np.int32)
  return shard * per_shard + round_ * width + within, counts


def map_lanes(plan: Plan, on_lane: Callable[..., PyTree]) -> Callable[..., PyTree]:
  """`(lane, result) = on_lane(problem, lane, inputs, *shared)` for the first `counts` lanes of every shard.

  One loop over the lanes, `lanes_at_once` of them under vmap: their state is updated in place, and their number is not
  part of the program. With `host_steps` there is no loop: each call is for `lanes_at_once` lanes.

  Returns:
    `(problem, lanes, inputs, counts, shared) -> (lanes, results)`.
  """
  width = plan.lanes_at_once

  def on_shard(problem: PyTree, lanes: PyTree, inputs: PyTree, counts: Array, shared: tuple) -> PyTree:
    @functools.partial(jax.jit, inline=True)  # traced once for its shapes and its use
    def group(lanes, inputs):
      if width > 1:
        axes = (None, 0, 0, *(None for _ in shared))
        return jax.vmap(on_lane, axes)(problem, lanes, inputs, *shared)
      # No vmap at all, so that every conditional is a branch.
      lane, own = jax.tree.map(lambda leaf: leaf[0], (lanes, inputs))
      return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], on_lane(problem, lane, own, *shared))

    if plan.host_steps:
      return group(lanes, inputs)

    def body(number, carried):
      at = lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, number * width, width)
      put = lambda leaf, new: jax.lax.dynamic_update_slice_in_dim(leaf, new, number * width, 0)
      new = group(*jax.tree.map(at, (carried[0], inputs)))
      return jax.tree.map(put, carried, new)

    size = jax.tree.leaves(inputs)[0].shape[0]
    first = jax.tree.map(lambda leaf: leaf[:width], (lanes, inputs))
    shapes = jax.eval_shape(group, *first)[1]
    results = jax.tree.map(lambda leaf: jnp.zeros((size, *leaf.shape[1:]), leaf.dtype), shapes)
    return jax.lax.fori_loop(0, -(-counts[0] // width), body, (lanes, results))

  if plan.program_per_device:
    return on_shard
  # Each shard works on its own lanes and nothing is exchanged between them, so replication needs no checking. The
  # data axis is left to the compiler, which splits what `objective.spread` marks.
  along, whole = PartitionSpec(LANES_AXIS), PartitionSpec()
  return jax.shard_map(
    on_shard,
    mesh=_mesh(plan),
    axis_names={LANES_AXIS},
    in_specs=(whole, along, along, along, whole),
    out_specs=along,
    check_vma=False,
  )


def _mesh(plan: Plan) -> Mesh:
  """The devices as a mesh: lanes along the first axis, each lane's batch along the second."""
  devices = np.asarray(jax.local_devices()[: plan.num_devices])
  return Mesh(
    devices.reshape(plan.shards, plan.data_parallel),
    (LANES_AXIS, DATA_AXIS),
    axis_types=(AxisType.Auto, AxisType.Auto),
  )


def _on(device: jax.Device, leaf: Any) -> Array:
  """The array on one device, without a copy if it is already there."""
  if isinstance(leaf, jax.Array) and leaf.is_fully_replicated:
    for shard in leaf.addressable_shards:
      if shard.device == device:
        return shard.data
  return jax.device_put(leaf, device)
