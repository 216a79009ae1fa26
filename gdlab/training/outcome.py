"""What the groups of a sweep found, put together."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gdlab.training.groups import Share
from gdlab.training.plan import Plan


def joined(shares: list[Share]) -> tuple[dict[str, np.ndarray], np.ndarray]:
  """The records of all groups, lanes in the order of their places, and these."""
  pieces = []
  for mine in shares:
    records = mine.group.collector.totals()
    pieces.append(
      (mine.places, records | {'epoch': records['examples'] / mine.group.problem[0].num_examples})
    )
  return gathered(pieces)


def gathered(
  pieces: Sequence[tuple[np.ndarray, Mapping[str, np.ndarray]]],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
  """Lanes from several places, in order.

  Args:
    pieces: the numbers of some lanes, and their records with axes [lane, ...].

  Returns:
    `(records, numbers)` of all. Where problems lack a metric (one has no test set) it is NaN, or 0 for whole numbers.
  """
  places = np.concatenate([np.zeros(0, int), *(places for places, _ in pieces)])
  if len(pieces) == 1 and (np.diff(places) == 1).all():
    return dict(pieces[0][1]), places  # no copy: it may be most of the memory
  rank = np.argsort(np.argsort(places))
  begins = np.cumsum([0, *(len(places) for places, _ in pieces)])
  found: dict[str, np.ndarray] = {}
  for begin, (own, records) in zip(begins, pieces):
    for name, values in records.items():
      if name not in found:
        missing = np.nan if values.dtype.kind in 'fc' else 0
        found[name] = np.full((len(places), *values.shape[1:]), missing, values.dtype)
      found[name][rank[begin : begin + len(own)]] = values
  return found, np.sort(places)


def plan_attributes(shares: list[Share]) -> dict[str, Any]:
  """The layouts: one number where all groups share it, else one for every group."""
  layouts = [mine.group.program.layout._asdict() for mine in shares]
  columns = {name: [int(layout[name]) for layout in layouts] for name in Plan._fields}
  return {
    f'plan_{name}': values[0] if len(set(values)) == 1 else values
    for name, values in columns.items()
    if values
  }
