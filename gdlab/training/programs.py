"""The programs of a sweep: for each combination of static hyperparameters the compiled code, lanes and plan."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.errors import InputError, shown
from gdlab.core.leaves import named
from gdlab.core.types import Algorithm, Array, Problem, PyTree
from gdlab.host import interrupt
from gdlab.training import lane as one
from gdlab.training import layout
from gdlab.training.plan import Plan
from gdlab.training.records import Chunk, Records

Report = Callable[[int], None]


class Block(NamedTuple):
  """The lanes in device memory and all that their runs need to continue.

  Device arrays are tuples with one item for each copy of the program, see `layout.copies`.

  Attributes:
    lanes: their carried state, on the devices.
    inputs: their seeds and hyperparameters, on the devices.
    counts: int32[shards], the number of lanes of each copy or shard, on the devices.
    members: int[n], their numbers in the program.
    slots: int[n], their positions in the block.
  """

  lanes: tuple[one.Lane, ...]
  inputs: tuple[one.Inputs, ...]
  counts: tuple[jax.Array, ...]
  members: np.ndarray
  slots: np.ndarray


class Program(NamedTuple):
  """The compiled code for one structure and plan, and the lanes that share it.

  Attributes:
    factory: an algorithm, or a function of hyperparameters that returns it.
    structure: the static hyperparameters, as sorted (name, value) pairs.
    probes: (name, function) pairs, evaluated with the metrics.
    plan: the layout of the lanes, every choice made.
    problem: the problem to minimise, on the devices of each copy of the program.
    inputs: what distinguishes its lanes, on the host: `ids` int32[L, 3], the seed ids of their streams, and `numbers`,
      traced hyperparameter -> float[L].
    params: the initial parameters of all runs; None for the problem's own.
    places: int[L], the numbers of the lanes among all runs of the sweep.
    records: the results.
  """

  factory: Algorithm | Callable[..., Algorithm]
  structure: tuple[tuple[str, Any], ...]
  probes: tuple[tuple[str, one.Probe], ...]
  plan: Plan
  problem: tuple[Problem, ...]
  inputs: one.Inputs
  params: PyTree
  places: np.ndarray
  records: Records

  def compiled(self, function: Callable[..., PyTree], *, donate: bool = False) -> Any:
    """A function of one lane, see `lane`, compiled for all lanes of a copy; equal programs share compiled code."""
    return _compiled(function, self.factory, self.structure, self.probes, self.plan, donate)

  def lowered(self, chunk: Chunk) -> Iterator[jax.stages.Lowered]:
    """Traces the functions that the run calls, so that they can be compiled while others run, for every copy."""
    shape = np.zeros(min(len(self.places), self.plan.unit), int)
    inputs, counts, _ = self.placed(shape)
    for place, sharding in enumerate(layout.sharding(self.plan)[: min(len(inputs), len(self.problem))]):
      problem, rest = self.problem[place], (inputs[place], counts[place])

      def shapes(tree: PyTree, sharding=sharding) -> PyTree:
        return jax.tree.map(
          lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
        )

      started = self.compiled(one.start).lower(problem, (), *rest, (self.params,))
      yield started
      lanes = shapes(started.out_info[1][0])
      if self.plan.host_steps:
        yield self.compiled(one.update).lower(problem, lanes, *rest, ())
        yield self.compiled(one.record).lower(problem, lanes, *rest, ())
        ended = (lanes, lanes.state)
        yield self.compiled(one.close).lower(problem, ended, *rest, (chunk.evaluates[0],))
      else:
        periods = layout.place(self.plan, (chunk.lengths, chunk.evaluates))[place]
        yield self.compiled(one.advance, donate=True).lower(problem, lanes, *rest, periods)

  def start(self, members: np.ndarray) -> Block:
    """The block of these lanes before their first update."""
    inputs, counts, slots = self.placed(members)
    start = self.compiled(one.start)
    copies = zip(itertools.cycle(self.problem), inputs, counts)
    started = [start(problem, (), own, count, (self.params,))[1] for problem, own, count in copies]
    lanes, metrics = zip(*started, strict=True)
    self.records.put_initial(members, slots, together(metrics))
    return Block(lanes, inputs, counts, members, slots)

  def advance(self, block: Block, chunks: Iterable[Chunk], report: Report) -> Block:
    """Makes the updates of `chunks`. The given block's buffers are donated: do not use it afterwards."""
    pending: tuple[Chunk, Sequence[PyTree]] | None = None
    for chunk in chunks:
      interrupt.look()
      made = self._stepped(block, chunk) if self.plan.host_steps else self._looped(block, chunk)
      lanes, results = zip(*made, strict=True)
      block = block._replace(lanes=lanes)
      if pending is not None:
        self._collect(block, *pending, report)  # the last call's records, while this one computes
      pending = chunk, results
    if pending is not None:
      self._collect(block, *pending, report)
    return block

  def keep(self, block: Block) -> None:
    """Keeps the final parameters and model states of lanes that are finished."""
    read = self.compiled(one.read)
    copies = zip(itertools.cycle(self.problem), block.lanes, block.inputs, block.counts)
    found = together([read(*arguments, ())[1] for arguments in copies])
    kept = named(dict(zip(('params', 'model_state'), found, strict=True)))
    self.records.keep(block.members, block.slots, kept)

  def placed(self, members: np.ndarray) -> tuple[tuple[one.Inputs, ...], tuple[jax.Array, ...], np.ndarray]:
    """The inputs of these lanes on the devices, the counts of each copy or shard, and the lanes' slots."""
    slots, counts = layout.slots(self.plan, len(members))
    # What fills up a group under vmap must compute something.
    chosen = np.full(self.plan.lanes_per_block, members[0])
    chosen[slots] = members
    inputs = jax.tree.map(lambda leaf: leaf[chosen], self.inputs)
    both = layout.place(self.plan, (inputs, counts), split_lanes=True)
    if self.plan.host_steps:
      both = both[: np.count_nonzero(counts)]
    placed_inputs, placed_counts = zip(*both, strict=True)
    return placed_inputs, placed_counts, slots

  def _looped(self, block: Block, chunk: Chunk) -> list[tuple[one.Lane, PyTree]]:
    """One call of a compiled loop for every copy; none waits for another."""
    advance = self.compiled(one.advance, donate=True)
    periods = layout.place(self.plan, (chunk.lengths, chunk.evaluates))
    copies = zip(self.problem, block.lanes, block.inputs, block.counts, periods, strict=True)
    return [advance(*arguments) for arguments in copies]

  def _stepped(self, block: Block, chunk: Chunk) -> list[tuple[one.Lane, PyTree]]:
    """One period of every copy, one call for every update; the copies take turns, so that no device waits."""
    functions = [self.compiled(function) for function in (one.update, one.record, one.close)]
    update, record, close = functions
    copies = [*zip(itertools.cycle(self.problem), block.inputs, block.counts)]
    began, moved = [lane.state for lane in block.lanes], [*block.lanes]
    records: list[list[PyTree]] = [[] for _ in moved]
    for length in chunk.lengths[0]:
      for number in range(int(length)):
        interrupt.look()
        last = number + 1 == length
        for place, (problem, inputs, counts) in enumerate(copies):
          moved[place], found = (record if last else update)(problem, moved[place], inputs, counts, ())
          if last:
            records[place].append(found)
    made = []
    for place, (problem, inputs, counts) in enumerate(copies):
      both, evaluates = (moved[place], began[place]), (chunk.evaluates[0],)
      lane, metrics = close(problem, both, inputs, counts, evaluates)
      made.append((lane, (records[place], metrics)))
    return made

  def _collect(self, block: Block, chunk: Chunk, results: Sequence[PyTree], report: Report) -> None:
    interrupt.wait(lambda: jax.block_until_ready(results))
    if self.plan.host_steps:
      results = [_one_period(records, metrics, chunk) for records, metrics in results]
    self.records.put(block.members, block.slots, chunk, together(results))
    report(len(block.members) * chunk.num_steps)


def made(
  factory: Algorithm | Callable[..., Algorithm],
  structure: tuple[tuple[str, Any], ...],
  numbers: Mapping[str, Any],
) -> Algorithm:
  """A lane's algorithm; `numbers` are its traced hyperparameters (tracers inside a compiled call)."""
  if isinstance(factory, Algorithm):
    return factory
  algorithm = factory(**weak(numbers), **dict(structure))
  if not isinstance(algorithm, Algorithm):
    raise InputError(f'make_algorithm must return a gdlab.algorithm(...), got {shown(algorithm)}')
  return algorithm


def weak(numbers: Mapping[str, Any]) -> dict[str, Array]:
  """Traced hyperparameters, weakly typed like the Python floats they stand for.

  A product with one keeps the other factor's dtype, as with a constant: a strongly typed rate would promote bfloat16
  updates and states to float32.
  """
  return {name: jnp.full_like(0.0, number) for name, number in numbers.items()}


def together(results: Sequence[PyTree]) -> PyTree:
  """The results of all copies of the program, concatenated along the axis of lanes."""
  if len(results) == 1:
    return results[0]
  return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *results)


@functools.lru_cache(maxsize=1024)
def _compiled(
  function: Callable[..., PyTree],
  factory: Algorithm | Callable[..., Algorithm],
  structure: tuple[tuple[str, Any], ...],
  probes: tuple[tuple[str, one.Probe], ...],
  plan: Plan,
  donate: bool,
) -> Callable[..., PyTree]:
  on_lane = functools.partial(function, functools.partial(made, factory, structure), dict(probes))
  mapped = layout.map_lanes(plan, on_lane)
  mapped.__name__ = function.__name__  # what JAX calls the program
  return jax.jit(mapped, donate_argnums=(1,) if donate else ())


def _one_period(
  records: Sequence[Mapping[str, Array]], metrics: PyTree, chunk: Chunk
) -> tuple[PyTree, PyTree]:
  """The results of a host-stepped period, in the form of a chunk with a single period."""
  padding = chunk.places.shape[1] - len(records)

  def stacked(*leaves: Array) -> np.ndarray:
    values = [np.asarray(leaf) for leaf in leaves]
    return np.stack([*values, *[values[0]] * padding], axis=1)[:, None]

  return jax.tree.map(stacked, *records), jax.tree.map(lambda leaf: np.asarray(leaf)[:, None], metrics)
