"""Successive halving: the worst points of a grid are stopped early."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.errors import InputError, check_count, check_real, shown
from gdlab.core.metrics import large_is_good
from gdlab.host import interrupt
from gdlab.host.checkpoints import Saved
from gdlab.results.datasets import DIAGNOSTICS, RUNNING
from gdlab.training import layout
from gdlab.training.execute import all_smaller, compiled_ahead, counting
from gdlab.training.programs import Block, Program, Report
from gdlab.training.records import Records
from gdlab.training.saved import Checkpoint, lanes_of, restored

NAME = 'halving'  # of its checkpoints


class Halving(NamedTuple):
  """Stops the worst hyperparameters of a sweep early (Jamieson and Talwalkar 2016, arXiv:1502.07943).

  At each of the steps, the points that still run are ranked by the mean of a metric over their seeds (infinite if a run
  diverged), and only the best fraction continues. Runs that are stopped have status STOPPED from then on and no further
  records.

  All lanes that still run stay in memory between rankings, regardless of `Plan.lanes_per_block`.

  Attributes:
    steps: the numbers of updates after which points are ranked, increasing, each below `num_steps`.
    keep: the fraction of points that continues each time, in (0, 1); their number is rounded up.
    metric: the metric to rank by.
    largest: whether larger is better; by default only for an accuracy, a metric whose name ends with 'accuracy'.
  """

  steps: tuple[int, ...]
  keep: float = 0.5
  metric: str = 'train_loss'
  largest: bool | None = None


def check_halving(halving: Halving, num_steps: int) -> Halving:
  """Raises InputError if `halving` does not fit the run."""
  if not isinstance(halving, Halving):
    raise InputError(f'halving must be a gdlab.Halving or None, got {shown(halving)}')
  steps = tuple(
    check_count('halving.steps', step, minimum=1, maximum=num_steps - 1) for step in halving.steps
  )
  if not steps or list(steps) != sorted(set(steps)):
    raise InputError(f'halving.steps must be increasing, at least one, got {shown(halving.steps)}')
  check_real('halving.keep', halving.keep, above=0, below=1)
  if not isinstance(halving.largest, bool | np.bool_ | None):
    raise InputError(f'halving.largest must be True, False or None, got {shown(halving.largest)}')
  largest = large_is_good(str(halving.metric)) if halving.largest is None else bool(halving.largest)
  return halving._replace(steps=steps, largest=largest)


def run_halving(
  programs: Sequence[Program],
  num_seeds: int,
  halving: Halving,
  report: Report,
  checkpoint: Checkpoint | None = None,
) -> list[Program]:
  """Runs all programs from ranking to ranking, with all running lanes in memory.

  If they do not fit, all restart with blocks half as large, which are moved to host memory between calls.

  Args:
    programs: the programs of the sweep.
    num_seeds: the number of runs at every point.
    halving: when and how to rank.
    report: called with numbers of updates made or skipped, summed over lanes.
    checkpoint: where all runs are saved together and resumed from.

  Returns:
    The programs with the plans that fitted.
  """
  programs, park = list(programs), False
  while True:
    counted, taken_back = counting(report)
    try:
      _run(programs, num_seeds, halving, counted, park, checkpoint)
    except (RuntimeError, ValueError, MemoryError) as error:  # JAX's is one of the first two, by place
      programs, park = [_begun_again(program) for program in all_smaller(programs, error)], True
      taken_back()
      if checkpoint is not None:
        checkpoint.folder.clear(NAME)
    else:
      return programs


def _run(
  programs: Sequence[Program],
  num_seeds: int,
  halving: Halving,
  report: Report,
  park: bool,
  checkpoint: Checkpoint | None,
) -> None:
  stages = [program.records.stages(halving.steps) for program in programs]
  for _ in compiled_ahead(programs, halving.steps, checkpoint):
    pass  # All at once, before any runs: they run side by side.
  host = jax.local_devices(backend='cpu')[0] if park else None

  def parked(block: Block) -> Block:
    return block if host is None else block._replace(lanes=jax.device_put(block.lanes, host))

  told = 0

  def counted(updates: int) -> None:
    nonlocal told
    told += updates
    report(updates)

  saved = None if checkpoint is None else checkpoint.latest(NAME, programs)
  if saved is None:
    if checkpoint is not None:
      checkpoint.folder.clear(NAME)
    first = 0
    blocks = [[parked(program.start(members)) for members in _members(program)] for program in programs]
    made = [[0 for _ in own] for own in blocks]
  else:
    first, made = saved.about['stage'], saved.about['made']
    blocks = [[parked(block) for block in own] for own in _restored(programs, saved)]
    counted(saved.about['updates'])
  for program in programs:
    _check_metric(halving.metric, program)
  for stage, end in [*enumerate((*halving.steps, None))][first:]:

    def save() -> None:
      if checkpoint is not None:
        _save(checkpoint, programs, blocks, made, stage=stage, updates=told)  # noqa: B023, it is called in this round

    for number, program in enumerate(programs):
      last = stages[number][stage].stop
      for place, block in enumerate(blocks[number]):
        if made[number][place] == last:
          continue
        moved = block if host is None else _back(block)
        if checkpoint is None:
          chunks = program.records.chunks(program.plan.steps_per_call, halving.steps)[stage]
          moved, made[number][place] = program.advance(moved, chunks, counted), last
        while checkpoint is not None and made[number][place] < last:
          with interrupt.held():
            rest = range(made[number][place], last)
            moved, made[number][place] = checkpoint.advance(program, moved, rest, counted)
            blocks[number][place] = moved
            if made[number][place] < last or interrupt.asked():
              save()
          interrupt.look()
        blocks[number][place] = parked(moved)
    if end is None:
      break
    going = _going(programs, blocks, num_seeds, halving, end)
    for number, program in enumerate(programs):
      place, kept = _place(program, end), []
      for block in blocks[number]:
        stays = np.isin(program.places[block.members] // num_seeds, going)
        program.records.stop(block.members[~stays], place)
        counted(int((~stays).sum()) * (program.records.num_steps - end))
        if stays.any():
          kept.append(block if stays.all() else parked(_compact(program, block, stays)))
      blocks[number] = kept
      made[number] = [stages[number][stage].stop for _ in kept]
  if checkpoint is not None:
    nothing: list[list] = [[] for _ in programs]
    _save(checkpoint, programs, nothing, nothing, stage=len(halving.steps) + 1, updates=told, keep=1)


def _save(checkpoint: Checkpoint, programs: Sequence[Program], blocks, made, **about: int) -> None:
  """Saves all blocks and all records together; stopped runs have no later records."""
  arrays: dict[str, np.ndarray] = {}
  for number, (program, own) in enumerate(zip(programs, blocks, strict=True)):
    rows = program.records.rows(np.arange(len(program.places)), len(program.records.steps))
    arrays |= {f'{number}.records.{name}': values for name, values in rows.items()}
    for place, block in enumerate(own):
      arrays[f'{number}.{place}.members'] = block.members
      arrays |= {f'{number}.{place}.{name}': bits for name, bits in lanes_of(block).items()}
  checkpoint.save(NAME, about['updates'], programs, arrays, made=made, **about)


def _restored(programs: Sequence[Program], saved: Saved) -> list[list[Block]]:
  """The blocks of every program as passed to `_save`; also restores the records."""
  blocks: list[list[Block]] = []
  for number, (program, own) in enumerate(zip(programs, saved.about['made'], strict=True)):
    prefix = f'{number}.records.'
    rows = {name.removeprefix(prefix): rows for name, rows in saved.arrays.items() if name.startswith(prefix)}
    program.records.put_rows(np.arange(len(program.places)), rows)
    blocks.append([])
    for place in range(len(own)):
      prefix = f'{number}.{place}.'
      arrays = {
        name.removeprefix(prefix): bits for name, bits in saved.arrays.items() if name.startswith(prefix)
      }
      blocks[-1].append(restored(program, arrays['members'], arrays))
  return blocks


def _begun_again(program: Program) -> Program:
  records = program.records
  return program._replace(records=Records(records.steps, records.evaluates, records.num_lanes))


def _back(block: Block) -> Block:
  """The block with its lanes on the devices again."""
  places = [inputs['ids'].sharding for inputs in block.inputs]
  return block._replace(lanes=tuple(map(jax.device_put, block.lanes, places)))


def _members(program: Program) -> list[np.ndarray]:
  size, total = program.plan.lanes_per_block, len(program.places)
  return [np.arange(first, min(first + size, total)) for first in range(0, total, size)]


def _place(program: Program, step: int) -> int:
  return int(np.searchsorted(program.records.steps, step))


def _check_metric(metric: str, program: Program) -> None:
  known = {*program.records.names(), *DIAGNOSTICS}
  if metric not in known:
    raise InputError(f'halving.metric must be one of {", ".join(sorted(known))}, got {shown(metric)}')
  if program.records.column(metric, 0).ndim > 1:
    raise InputError(f'halving.metric must be one number of a run, and {metric} has axes of its own')


def _going(programs: Sequence[Program], blocks, num_seeds: int, halving: Halving, step: int) -> np.ndarray:
  """The points that continue."""
  values, points = [], []
  for program, own in zip(programs, blocks, strict=True):
    running = np.concatenate([block.members for block in own] or [np.zeros(0, int)])
    place, records = _place(program, step), program.records
    value = records.column(halving.metric, place)[running]
    failed = (records.column('status', place)[running] != RUNNING) | ~np.isfinite(value)
    values.append(np.where(failed, np.inf, -value if halving.largest else value))
    points.append(program.places[running] // num_seeds)
  names, inverse = np.unique(np.concatenate(points), return_inverse=True)
  means = np.bincount(inverse, np.concatenate(values)) / np.bincount(inverse)
  return names[np.argsort(means, kind='stable')[: math.ceil(round(halving.keep * len(names), 9))]]


def _compact(program: Program, block: Block, stays: np.ndarray) -> Block:
  """The block with only the lanes that stay, so that the others cost nothing."""
  inputs, counts, slots = program.placed(block.members[stays])
  source = np.zeros(program.plan.lanes_per_block, int)
  source[slots] = block.slots[stays]

  def moved(*leaves: jax.Array) -> jax.Array:
    if len(leaves) == 1:
      return leaves[0][source]
    return jnp.concatenate(jax.device_put(leaves, next(iter(leaves[0].devices()))))[source]

  carried = jax.tree.map(moved, *block.lanes)
  going = layout.place(program.plan, carried, split_lanes=True)[: len(inputs)]
  return Block(going, inputs, counts, block.members[stays], slots)
