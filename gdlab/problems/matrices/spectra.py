"""Common parts of the matrix problems: matrices with given spectrum and lists of points, in NumPy float64."""

import itertools
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from gdlab.core.errors import InputError, check_count, shown
from gdlab.core.types import StationaryPoints
from gdlab.problems.checks import real_vector

MOST_POINTS = 4096  # of a list of stationary points


def spectrum(name: str, value: Any, *, positive: bool = False) -> np.ndarray:
  """Returns finite numbers, float64[d], in descending order; raises InputError for anything else."""
  numbers = real_vector(name, value)
  if positive and (numbers <= 0).any():
    raise InputError(f'{name} must be > 0, got {shown(value)}')
  return np.sort(numbers)[::-1]


def basis(rotation: int | None, size: int) -> np.ndarray:
  """An orthogonal matrix [size, size] whose columns are the basis: random with that seed, or the identity."""
  if rotation is None:
    return np.eye(size)
  seed = check_count('rotation', rotation, minimum=0)
  return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


def subsets(size: int, members: Iterable[int]) -> tuple[list[tuple[int, ...]], bool]:
  """Subsets of range(size) with the given sizes in order: (at most MOST_POINTS of them, whether these are all)."""
  every = itertools.chain.from_iterable(itertools.combinations(range(size), number) for number in members)
  found = list(itertools.islice(every, MOST_POINTS + 1))
  return found[:MOST_POINTS], len(found) <= MOST_POINTS


def stationary_points(
  params: list[Any], values: Any, eigenvalues: Any, *, complete: bool
) -> StationaryPoints:
  """The list from each point's params, value and unsorted Hessian eigenvalues; all basins are 0."""
  ordered = np.sort(np.asarray(eigenvalues, np.float64), axis=1)
  return StationaryPoints(
    params=jax.tree.map(lambda *leaves: np.stack(leaves), *params),
    values=np.asarray(values, np.float64),
    eigenvalues=ordered,
    index=(ordered < 0).sum(axis=1),
    basin=np.zeros(len(ordered)),
    complete=np.bool_(complete),
  )
