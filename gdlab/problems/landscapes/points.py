"""Tables of stationary points: from constants, or as the product of those of each coordinate."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gdlab.core.types import StationaryPoints

MOST_POINTS = 3000  # of a complete list


class Profile(NamedTuple):
  """The stationary points of one coordinate's term in a sum over coordinates, ascending."""

  locations: np.ndarray
  values: np.ndarray
  curvatures: np.ndarray
  basins: np.ndarray


def profile(locations: Any, values: Any, curvatures: Any) -> Profile:
  """All stationary points of a function of one variable.

  Gradient flow leads to a minimum from everywhere between its two neighbours; points with curvature 0 do not count as
  minima.
  """
  places, curves = np.asarray(locations, np.float64), np.asarray(curvatures, np.float64)
  gaps = np.concatenate([[np.inf], np.diff(places), [np.inf]])
  basins = np.where(curves > 0, np.minimum(gaps[:-1], gaps[1:]), 0.0)
  return Profile(places, np.asarray(values, np.float64), curves, basins)


def polished(locations: Any, slope: Any, curvature: Any) -> np.ndarray:
  """Roots of a function of one variable, refined to rounding by Newton's method."""
  places = np.asarray(locations, np.float64)
  for _ in range(8):
    places = places - slope(places) / curvature(places)
  return places


def listed(
  params: Any, values: Any, eigenvalues: Any, basin: Any, *, complete: bool = True
) -> StationaryPoints:
  """The points sorted by index, then by value: the lowest minimum comes first."""
  eigenvalues = np.sort(np.asarray(eigenvalues, np.float64), axis=-1)
  values = np.asarray(values, np.float64)
  index = (eigenvalues < 0).sum(axis=-1)
  order = np.lexsort((values, index))
  places, radii = np.asarray(params, np.float64), np.asarray(basin, np.float64)
  return StationaryPoints(
    places[order], values[order], eigenvalues[order], index[order], radii[order], np.bool_(complete)
  )


def tabled(rows: Sequence[Sequence[float]], *, complete: bool = True) -> StationaryPoints:
  """The points of a table with a row (x, y, value, two eigenvalues, basin) for each point."""
  table = np.asarray(rows, np.float64)
  return listed(table[:, :2], table[:, 2], table[:, 3:5], table[:, 5], complete=complete)


def product(profiles: Sequence[Profile]) -> StationaryPoints:
  """The stationary points of a sum of functions of one coordinate each: all combinations of those of the terms.

  If there are more than MOST_POINTS, one point of each index is listed: the lowest, and those whose first coordinates
  are at their lowest maximum instead.
  """
  counts = np.array([len(one.locations) for one in profiles])
  num_points = math.prod(counts.tolist())
  complete = num_points <= MOST_POINTS
  if complete:
    grid = np.zeros((len(profiles), num_points), int)
    # Only of those with a choice: NumPy's arrays have at most 64 axes.
    grid[counts > 1] = np.indices(tuple(counts[counts > 1])).reshape(-1, num_points)
  else:
    bottoms = np.array([one.values.argmin() for one in profiles])
    tops = np.array([np.where(one.curvatures < 0, one.values, np.inf).argmin() for one in profiles])
    falling = np.flatnonzero([(one.curvatures < 0).any() for one in profiles])
    moved = np.zeros((len(profiles), len(falling) + 1), bool)
    moved[falling] = np.triu(np.ones((len(falling), len(falling) + 1)), 1)
    grid = np.where(moved, tops[:, None], bottoms[:, None])

  def combined(field: str) -> np.ndarray:
    return np.stack([getattr(one, field)[rows] for one, rows in zip(profiles, grid)], axis=-1)

  return listed(
    combined('locations'),
    combined('values').sum(axis=-1),
    combined('curvatures'),
    combined('basins').min(axis=-1),
    complete=complete,
  )
