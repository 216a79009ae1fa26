"""Stationary points that a search finds: of random fields, of networks by width, and the saddles that runs start at."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from experiments.saddles import places
from experiments.saddles.seeds import study_seeds
from gdlab import analysis, problems
from gdlab.analysis import FoundPoints
from gdlab.core.types import Problem

# What is kept of a search, one row per seed: counts, and pairs of loss and share of negative eigenvalues.
MOST_POINTS = 64
SILENT = 1e-6  # standard deviation of single examples' slopes that counts as none
LIMITS: dict[str, Any] = {'max_steps': 60, 'newton_steps': 20}  # of a search; twice as many find hardly more


def fields(config, dimension: int, progress) -> xr.Dataset:
  """The stationary points found of one random field per seed, in a box six length scales wide."""
  options, rows = config.fields, []
  ids = study_seeds(config)
  with jax.enable_x64(True):
    for place, seed in enumerate(ids):
      field = problems.gaussian_random_field(dimension, num_features=options.num_features, seed=seed)
      box = field.known.box
      starts = analysis.box_starts(box, options.num_starts, seed=seed)
      points = analysis.find_stationary_points(
        field, starts, (), jax.random.key(seed), at_once=options.num_starts, **LIMITS
      )
      inside = (np.abs(points.params) <= box[:, 1]).all(axis=1)
      rows.append(summary(points, inside, dimension))
      progress(place + 1, len(ids))
  return table(rows, ids).assign_attrs(dimension=dimension)


def networks(config, width: int, progress) -> xr.Dataset:
  """The stationary points found of a network of that width, on other images for each seed; one of each value."""
  options, rows = config.search, []
  ids = study_seeds(config)
  with jax.enable_x64(True):
    for place, seed in enumerate(ids):
      problem = places.network(config.network, width, options.num_examples, seed)
      starts = scattered(problem, options.num_starts, seed)
      points = analysis.find_stationary_points(
        problem, starts, (), jax.random.key(seed), at_once=len(starts), **LIMITS
      )
      rows.append(summary(points, different(points), starts.shape[1]))
      progress(place + 1, len(ids))
  return table(rows, ids).assign_attrs(width=width, dimension=starts.shape[1])


def different(points: FoundPoints) -> np.ndarray:
  """Which points to keep so that those equal but for the order and sign of hidden units count once."""
  order = np.argsort(points.values)
  values = points.values[order]
  first = (
    np.concatenate([[True], np.diff(values) > 1e-8 * (1 + np.abs(values[1:]))]) if len(values) else order > 0
  )
  keep = np.zeros(len(values), bool)
  keep[order[first]] = True
  return keep


def scattered(problem: Problem, count: int, seed: int) -> np.ndarray:
  """Starts of many sizes, half of them normal draws and half along runs of descent from such draws."""
  size = problem.init(jax.random.key(0))[0].size
  rng = np.random.default_rng(seed)
  draws = rng.standard_normal((count, size)) * np.exp(rng.uniform(np.log(0.1), np.log(3), (count, 1)))
  steps = np.round(np.geomspace(1, 3000, count - count // 2)).astype(int)
  along = np.asarray(_along(problem, jnp.asarray(draws[count // 2 :]), jnp.asarray(steps)))
  return np.concatenate([draws[: count // 2], along])


@jax.jit
def _along(problem: Problem, starts, steps):
  """Where descent is after so many steps from each start."""
  gradient = jax.grad(functools.partial(_mean, problem))

  def one(start, count):
    return jax.lax.fori_loop(0, count, lambda _, params: params - 0.3 * gradient(params), start)

  return jax.vmap(one)(starts, steps)


def summary(points: FoundPoints, keep: np.ndarray, dimension: int) -> dict[str, np.ndarray | int]:
  """Counts of what was found and kept, and loss and index of the first so many points in random order."""
  index, values = np.asarray(points.certificates.index)[keep], points.values[keep]
  undecided = np.asarray(points.certificates.undecided)[keep] > 0
  index, values = index[~undecided], values[~undecided]
  some = np.random.default_rng(0).permutation(len(index))[:MOST_POINTS]
  pad = (0, MOST_POINTS - len(some))
  return {
    'points': len(index),
    'minima': int((index == 0).sum()),
    'maxima': int((index == dimension).sum()),
    'undecided': int(undecided.sum()),
    'loss': np.pad(values[some], pad, constant_values=np.nan),
    'index_share': np.pad(index[some] / dimension, pad, constant_values=np.nan),
  }


def table(rows: list[dict], ids: list[int]) -> xr.Dataset:
  """The rows of all seeds."""
  columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
  return xr.Dataset(
    {name: (('seed', 'point')[: values.ndim], values) for name, values in columns.items()}, {'seed': ids}
  )


def saddles(config, progress) -> xr.Dataset:
  """Saddles of one network that runs can start at: three kinds.

  'generic' and 'silent' come from one search, told apart by whether single examples differ along the steepest way down;
  at 'twins' two hidden units were alike from the start of the search, and no way down is heard.

  Kept are those certified, with a curvature downhill of at least a share of the largest, from which descent falls on
  either side. No seed of the study is used: the saddles are part of the problem.
  """
  options = config.network
  with jax.enable_x64(True):
    problem = places.network(options, options.hidden, options.num_examples, seed=0)
    rows, counts = [], dict.fromkeys(('found', 'steepest_heard', 'silent'), 0)
    for place, kinds in enumerate((('generic', 'silent'), ('twins',))):
      starts = scattered(problem, options.num_starts, seed=place)
      starts = alike(starts, options) if 'twins' in kinds else starts
      found = analysis.find_stationary_points(problem, starts, (), jax.random.key(0), at_once=64, **LIMITS)
      rows += _usable(problem, found, kinds, options, counts)
      progress(place + 1, 2)
  columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
  return xr.Dataset(
    {name: (('saddle', 'parameter')[: values.ndim], values) for name, values in columns.items()},
    attrs={f'num_{name}': count for name, count in counts.items()},
  )


def alike(starts: np.ndarray, options) -> np.ndarray:
  """The starts with the second hidden unit made like the first."""
  model = places.Network(options.components, options.hidden, options.l2)
  into = (
    starts[:, : model.hidden * (model.inputs + 1)].reshape(len(starts), model.inputs + 1, model.hidden).copy()
  )
  into[:, :, 1] = into[:, :, 0]
  out = starts[:, into[0].size :].copy()
  out[:, 1] = out[:, 0]
  return np.concatenate([into.reshape(len(starts), -1), out], axis=1)


def _usable(problem: Problem, points: FoundPoints, kinds, options, counts: dict[str, int]) -> list[dict]:
  """The saddles of a search that are fit to start at, of the kinds asked for, each kind lowest first."""
  rows: dict[str, list[dict]] = {kind: [] for kind in kinds}
  hessian = jax.jit(jax.hessian(functools.partial(_mean, problem)))
  keep = different(points) & (points.certificates.index > 0) & (points.certificates.undecided == 0)
  for number in np.flatnonzero(keep)[np.argsort(points.values[keep])]:
    params = points.params[number]
    lowest, highest = points.certificates.eigenvalues[number][[0, -1]]
    if -lowest < options.least_curvature * highest:
      continue
    vectors = np.linalg.eigh(np.asarray(hessian(params)))[1]
    negative = vectors.T[: points.certificates.index[number]]
    # How single examples differ along each way down: where they do not, by symmetry, batches have no noise.
    noise = np.sqrt(np.mean((np.asarray(_each(problem, params)) @ negative.T) ** 2, axis=0))
    if 'twins' in kinds:
      kind = 'twins' if (noise <= SILENT).all() else None
    else:
      kind = 'generic' if noise[0] > SILENT else 'silent'
      counts['found'] += 1
      counts['steepest_heard'] += int(noise[0] > SILENT)
      counts['silent'] += int((noise <= SILENT).all())
    if kind is None:
      continue
    falls = [
      points.values[number] - float(_descended(problem, params + sign * 1e-3 * negative[0], 1 / highest))
      for sign in (-1, 1)
    ]
    if min(falls) < options.least_fall * points.values[number]:
      continue
    rows[kind].append(
      {
        'params': params,
        'value': points.values[number],
        'fall': min(falls),
        'way': negative[0],
        'lowest': lowest,
        'highest': highest,
        'index': int(points.certificates.index[number]),
        'kind': kind,
      }
    )
  return [row for found in rows.values() for row in _alike_in_speed(found)[: options.num_saddles]]


def _alike_in_speed(rows: list[dict]) -> list[dict]:
  """As many as possible whose curvatures downhill differ by a factor of at most 2, so that one horizon suits all."""
  groups = [
    [row for row in rows if least >= row['lowest'] >= 2 * least] for least in {row['lowest'] for row in rows}
  ]
  return max(groups, key=len, default=[])


@jax.jit
def _each(problem: Problem, params):
  """The gradient of every example, float[N, d]."""
  return analysis.per_example_gradients(problem, params, (), jax.random.key(0))


def _mean(problem: Problem, params):
  return jnp.mean(problem.metrics(params, (), problem.train)['loss'])


@jax.jit
def _descended(problem: Problem, params, rate):
  """The loss where descent has got to."""
  gradient = jax.grad(functools.partial(_mean, problem))
  return _mean(problem, jax.lax.fori_loop(0, 5000, lambda _, x: x - rate * gradient(x), params))
