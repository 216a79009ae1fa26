"""What the groups of a sweep found, put together."""

import itertools
from typing import Any

import numpy as np

from gdlab.training.groups import Share
from gdlab.training.plan import Plan


def joined(shares: list[Share]) -> tuple[dict[str, np.ndarray], np.ndarray]:
  """The records of all groups, lanes in the order of their places, and these."""
  tables = []
  for mine in shares:
    records = mine.group.collector.totals()
    tables.append(records | {'epoch': records['examples'] / mine.num_examples})
  places = np.concatenate([mine.places for mine in shares]) if shares else np.zeros(0, int)
  order = np.argsort(places)
  if len(tables) == 1 and (np.diff(places) == 1).all():
    return tables[0], places  # no copy: it may be most of the memory
  joined = {}
  for name in dict.fromkeys(itertools.chain(*tables)):
    like = next(records[name] for records in tables if name in records)
    # A group whose problem lacks a metric (it has no test set) has NaN there.
    values = [
      records.pop(name) if name in records else _missing(len(mine.places), like)
      for records, mine in zip(tables, shares, strict=True)
    ]
    joined[name] = np.concatenate(values)[order]
  return joined, places[order]


def _missing(num_lanes: int, like: np.ndarray) -> np.ndarray:
  return np.full((num_lanes, *like.shape[1:]), np.nan if like.dtype.kind == 'f' else 0, like.dtype)


def plan_attributes(shares: list[Share]) -> dict[str, Any]:
  """The layouts: one number where all groups share it, else one for every group."""
  layouts = [mine.group.program.layout._asdict() for mine in shares]
  columns = {name: [layout[name] for layout in layouts] for name in Plan._fields}
  return {
    f'plan_{name}': values[0] if len(set(values)) == 1 else values
    for name, values in columns.items()
    if values
  }
