"""Contenders of a race: who runs them, how much one repeat does, and what the race says of them."""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.throughput import pool
from experiments.throughput.pool import Spec
from experiments.throughput.ratios import Ratio

NO_TORCH = 'skipped: torch is not installed'


class Outcome(NamedTuple):
  """What one part found: rows for `throughput.json`, and the ratios."""

  measurements: list[dict[str, Any]]
  ratios: list[Ratio]
  facts: dict[str, Any]


class Entry(NamedTuple):
  """One contender: who runs it, and how many updates of how many lanes one repeat makes."""

  group: str
  measurable: str
  num_lanes: int
  num_steps: int


def skipped() -> dict[str, str]:
  """The contenders that this machine lacks, and why."""
  return {} if importlib.util.find_spec('torch') else {'PyTorch eager': NO_TORCH}


def variants_of(num_lanes: int, num_steps: int) -> Callable[..., dict[str, Any]]:
  """Makes descriptions of runs for `runs.build`; by default nothing is recorded between the ends.

  All have a program for every device: it is what the rule gives to long runs, which these stand for, and what the bare
  loop has.
  """

  def variant(name: str, **changes) -> dict[str, Any]:
    usual = {
      'sampler': 'with replacement',
      'num_lanes': num_lanes,
      'num_steps': num_steps,
      'eval_every': num_steps,
      'record_every': num_steps,
      'lanes_at_once': 0,
      'program_per_device': True,
    }
    return {'name': name, **usual, **changes}

  return variant


def per_core(module: str, work: Mapping[str, Any], num_seeds: int) -> Spec:
  """One process per core that has a seed, with the seeds dealt out among them."""
  count = min(len(pool.cores()), num_seeds)
  return Spec(module, [{**work, 'seeds': [*range(first, num_seeds, count)]} for first in range(count)], True)


def row(
  part: str,
  name: str,
  batch_size: int,
  entry: Entry,
  specs: Mapping[str, Spec],
  timed: Mapping[tuple[str, str], pool.Timed],
) -> dict[str, Any]:
  """What `throughput.json` says of one contender: every repeat, and the median per update and lane."""
  result = timed[entry.group, entry.measurable]
  return {
    'part': part,
    'contender': name,
    'batch_size': batch_size,
    'num_lanes': entry.num_lanes,
    'num_steps': entry.num_steps,
    'num_processes': len(specs[entry.group].works),
    'seconds': result.seconds,
    'median_seconds': result.median,
    'us_per_update': result.median / (entry.num_lanes * entry.num_steps) * 1e6,
    'note': result.note,
  }


def us_of(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
  """Microseconds per update and lane by contender, one for each round."""
  return {
    row['contender']: np.asarray(row['seconds']) / (row['num_lanes'] * row['num_steps']) * 1e6 for row in rows
  }
