"""What is measured of S1, in float64: the stationary points of random fields and of networks, by number and kind."""

import os
from concurrent import futures

import jax
import numpy as np
import xarray as xr

from experiments.saddles import fields, places
from experiments.saddles.study import escape
from gdlab import problems

MOST_POINTS = 64  # pairs of loss and index that are kept


@escape.cell(over=lambda config: config.fields.dimensions)
@jax.enable_x64(True)
def random(config, dimension, *, progress):
  """The stationary points of one random field per seed, in a box in which so many are expected."""
  options, ids, found = config.fields, config.seeds.ids[: config.fields.num_fields], []

  def counted(waves: tuple[np.ndarray, np.ndarray], seed: int) -> xr.Dataset:
    density = fields.expected(waves[0], seed)
    side = (options.num_points / density.sum()) ** (1 / dimension)
    points = fields.searched(*waves, side, seed)
    extrema = options.num_points * density[[0, -1]].sum() / density.sum()
    expected = {'expected': float(options.num_points), 'expected_extrema': extrema}
    counts = _summary(points.indices, points.values, dimension)
    return counts.assign(expected | {'missed': fields.missed(points.hits)})

  count = options.num_features
  each = [problems.gaussian_random_field(dimension, num_features=count, seed=seed).train for seed in ids]
  waves = [tuple(np.asarray(part[0]) for part in train) for train in each]
  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy lets others run meanwhile
    for number, row in enumerate(pool.map(counted, waves, ids), 1):
      found.append(row)
      progress(number, len(ids))
  return xr.concat(found, xr.Variable('seed', ids)).assign_attrs(dimension=dimension)


@escape.cell(over=lambda config: config.search.widths)
@jax.enable_x64(True)
def networks(config, width, *, progress):
  """The stationary points found of a network of that width, on other images for each seed; one of each value."""
  options, ids, found = config.search, config.seeds.ids[: config.search.num_networks], []
  dimension = width * (config.network.components + 2) + 1
  for number, seed in enumerate(ids, 1):
    problem = places.network(config.network, width, options.num_examples, seed)
    points = places.search(problem, places.scattered(problem, options.num_starts, seed, 3000), seed)
    keep = places.different(points.values) & (np.asarray(points.certificates.undecided) == 0)
    found.append(_summary(np.asarray(points.certificates.index)[keep], points.values[keep], dimension))
    progress(number, len(ids))
  return xr.concat(found, xr.Variable('seed', ids)).assign_attrs(dimension=dimension)


def _summary(index: np.ndarray, values: np.ndarray, dimension: int) -> xr.Dataset:
  """Counts of points, and loss and index of the first so many of them in random order."""
  some = np.random.default_rng(0).permutation(len(index))[:MOST_POINTS]
  pairs = np.full((2, MOST_POINTS), np.nan)
  pairs[:, : len(some)] = values[some], index[some] / dimension
  counts = {'points': len(index), 'extrema': ((index == 0) | (index == dimension)).sum()}
  return xr.Dataset(counts | {'loss': ('point', pairs[0]), 'index_share': ('point', pairs[1])})
