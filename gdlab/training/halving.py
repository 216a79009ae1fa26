"""Successive halving: the worst points of a grid are stopped early."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.errors import InputError, check_count, check_real, shown
from gdlab.training import drive, lanes
from gdlab.training.groups import Share, compiled_ahead
from gdlab.training.lane import DIAGNOSTICS, RUNNING
from gdlab.training.schedule import Call, Schedule


class Halving(NamedTuple):
  """Stops the worst hyperparameters of a sweep early (Jamieson and Talwalkar 2016, arXiv:1502.07943).

  At each of the steps the points of the grid that still run are ranked by the mean of a metric over their seeds
  (one diverged run makes it infinite), and only the best share of them goes on. What is stopped has status
  STOPPED from then on and no further records: a value at the end is that of a survivor.

  All lanes that still run stay in memory between rankings, whatever `Plan.lanes_per_block` says: where they do not fit,
  the error is raised. A sweep without halving goes on in smaller blocks.

  Attributes:
    steps: updates after which points are ranked, increasing.
    keep: the share of points that goes on each time, in (0, 1), rounded up.
    metric: what they are ranked by, small is good.
    largest: large is good instead, as with an accuracy.
  """

  steps: tuple[int, ...]
  keep: float = 0.5
  metric: str = 'train_loss'
  largest: bool = False


def check_halving(halving: Halving, num_steps: int) -> Halving:
  """Raises InputError for what does not fit the run."""
  if not isinstance(halving, Halving):
    raise InputError(f'halving must be a gdlab.Halving or None, got {shown(halving)}')
  steps = tuple(
    check_count('halving.steps', step, minimum=1, maximum=num_steps - 1) for step in halving.steps
  )
  if not steps or list(steps) != sorted(set(steps)):
    raise InputError(f'halving.steps must be increasing, at least one, got {shown(halving.steps)}')
  check_real('halving.keep', halving.keep, above=0, below=1)
  return halving._replace(steps=steps)


def run(shares: Sequence[Share], schedule: Schedule, halving: Halving, report: drive.Report) -> list[Share]:
  """Runs all groups side by side from ranking to ranking. All running lanes stay in memory."""

  def stages_of(group: drive.Group) -> list[list[Call]]:
    return schedule.calls(group.program.layout.steps_per_call, halving.steps)

  groups = [share.group for share in shares]
  stages = [stages_of(group) for group in groups]
  for _ in compiled_ahead(groups, lambda group: stages_of(group)[0][0]):
    pass  # All at once, before any runs: they run side by side.
  blocks: dict[int, list[drive.Block]] = {}
  ends = [*halving.steps, int(schedule.steps[-1])]
  for stage, end in enumerate(ends):
    for number, share in enumerate(shares):
      group, calls = share.group, stages[number][stage]
      if stage == 0:
        blocks[number] = [drive.begin(group, members) for members in _members(share)]
        _check_metric(halving.metric, share)
      blocks[number] = [drive.advance(group, block, calls, report) for block in blocks[number]]
    if end == ends[-1]:
      return list(shares)
    place = int(np.searchsorted(schedule.steps, end))
    going = _going(shares, blocks, halving, place)
    for number, share in enumerate(shares):
      kept = []
      for block in blocks[number]:
        stays = np.isin(share.points[block.members], going)
        share.group.collector.stop(block.members[~stays], place)
        report(int((~stays).sum()) * (ends[-1] - end))
        if stays.any():
          kept.append(block if stays.all() else _compact(share.group, block, stays))
      blocks[number] = kept
  raise AssertionError('the last stage returns')


def _members(share: Share) -> list[np.ndarray]:
  size, total = share.group.program.layout.lanes_per_block, len(share.places)
  return [np.arange(first, min(first + size, total)) for first in range(0, total, size)]


def _check_metric(metric: str, share: Share) -> None:
  known = {*share.group.collector.names(), *DIAGNOSTICS}
  if metric not in known:
    raise InputError(f'halving.metric must be one of {", ".join(sorted(known))}, got {shown(metric)}')
  if share.group.collector.column(metric, 0).ndim > 1:
    raise InputError(f'halving.metric must be one number of a run, and {metric} has axes of its own')


def _going(shares: Sequence[Share], blocks, halving: Halving, place: int) -> np.ndarray:
  """The points that go on."""
  values, points = [], []
  for number, share in enumerate(shares):
    running = np.concatenate([block.members for block in blocks[number]] or [np.zeros(0, int)])
    collector = share.group.collector
    value = collector.column(halving.metric, place)[running]
    failed = (collector.column('status', place)[running] != RUNNING) | ~np.isfinite(value)
    values.append(np.where(failed, np.inf, -value if halving.largest else value))
    points.append(share.points[running])
  names, inverse = np.unique(np.concatenate(points), return_inverse=True)
  means = np.bincount(inverse, np.concatenate(values)) / np.bincount(inverse)
  return names[np.argsort(means, kind='stable')[: math.ceil(round(halving.keep * len(names), 9))]]


def _compact(group: drive.Group, block: drive.Block, stays: np.ndarray) -> drive.Block:
  """The lanes that stay, moved together, so that the others cost nothing."""
  layout = group.program.layout
  slots, counts = lanes.slots(layout, int(stays.sum()))
  source = np.zeros(layout.lanes_per_block, int)
  source[slots] = block.slots[stays]

  def moved(*leaves: jax.Array) -> jax.Array:
    if len(leaves) == 1:
      return leaves[0][source]
    return jnp.concatenate(jax.device_put(leaves, next(iter(leaves[0].devices()))))[source]

  carried = jax.tree.map(moved, *zip(block.lanes, block.inputs, strict=True))
  going, inputs, counted = zip(*lanes.place(layout, (*carried, counts), split_lanes=True), strict=True)
  return drive.Block(going, inputs, counted, block.members[stays], slots)
