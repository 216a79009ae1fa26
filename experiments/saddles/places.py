"""The saddles that runs start at: one made, two of PCA on real images, and those of a small network on real images.

All are finite sums, so that full batch has no noise in float64. At some of them the gradient of every single example
vanishes along the way down, by symmetry: at the origin of PCA, and where two hidden units are alike. What programs are
made of is cached, so that all sets of seeds share what is compiled.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from gdlab import analysis, problems
from gdlab.analysis import FoundPoints
from gdlab.core.errors import InputError
from gdlab.core.types import Array, Examples, Problem
from gdlab.problems import landscapes

SILENT = 1e-6  # standard deviation of single examples' slopes that counts as none


class Place(NamedTuple):
  """A problem with K of its saddles, at one of which a seed starts."""

  problem: Problem
  saddles: np.ndarray  # [K, d]
  values: np.ndarray  # [K], the loss there
  falls: np.ndarray  # [K], how far it falls if descent leaves by the steepest way, on the shallower side
  ways: np.ndarray  # [K, d], the unit vector of the most negative curvature
  curvatures: np.ndarray  # [K], minus the most negative eigenvalue
  smoothness: float  # the largest eigenvalue at any of them

  def started(self, scale: float) -> Problem:
    """The problem, started at one of the saddles or at a distance of about scale * sqrt(d) from it."""
    return dataclasses.replace(self.problem, init=_start(tuple(map(tuple, self.saddles.tolist())), scale))


@functools.cache
def _start(points: tuple[tuple[float, ...], ...], scale: float) -> Callable:
  def draw(key: Array) -> tuple[Array, tuple]:
    which, where = jax.random.split(key)
    point = jnp.asarray(points)[jax.random.randint(which, (), 0, len(points))]
    return point + scale * jax.random.normal(where, point.shape), ()

  return draw


@functools.cache
def quadratic(dimension: int, curvature: float) -> Place:
  """A quadratic with one way down, the first coordinate."""
  problem = landscapes.strict_saddle([-curvature, *np.geomspace(0.1, 1.0, dimension - 1)])
  origin, way = np.zeros((1, dimension)), np.eye(dimension)[:1]
  return Place(problem, origin, np.zeros(1), np.full(1, np.inf), way, np.array([curvature]), 1.0)


@functools.cache
def made(options: Any) -> Place:
  """A strict saddle of two ways down with wells, and noise that sums to 0 over the examples."""
  curvatures = [-options.curvature] * 2 + np.geomspace(0.1, 1.0, 8).tolist()
  value = landscapes.value_fn(landscapes.strict_saddle(curvatures, confinement=options.curvature))
  rows = np.random.default_rng(0).standard_normal((options.num_examples, 10)) * options.deviation
  return quadratic(10, options.curvature)._replace(
    problem=problems.from_function(
      lambda params, row: value(params) + row @ params, np.zeros(10), data=rows - rows.mean(axis=0)
    ),
    falls=np.array([options.curvature / 4]),  # to the bottom of one well, at distance 1
  )


@functools.cache
def images(components: int | None = None) -> tuple[np.ndarray, np.ndarray]:
  """Scikit-learn's digits as centred rows, or their leading principal components at unit variance; and the digits."""
  train = problems.digits().train
  rows = np.asarray(train.inputs, float).reshape(len(train.inputs), -1)
  rows = rows - rows.mean(axis=0)
  if components is not None:
    rows = rows @ np.linalg.svd(rows, full_matrices=False)[2][:components].T
    rows = rows / rows.std(axis=0)
  return rows, np.asarray(train.targets)


@functools.cache
def pca(at_origin: bool) -> Place:
  """One component of the digits: the saddle at the second eigenvector, or that at the origin."""
  rows = images()[0]
  spectrum, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
  rows, spectrum = rows / np.sqrt(spectrum[-1]), spectrum / spectrum[-1]
  first, height = spectrum[-1], 0.0 if at_origin else spectrum[-2]
  return Place(
    # |u u^T - x x^T|^2 / 2 for an image x, but for what does not depend on u.
    problems.from_function(
      lambda u, x: jnp.sum(u**2) ** 2 / 2 - (x @ u) ** 2, np.zeros(rows.shape[1]), data=rows
    ),
    np.sqrt(height) * vectors[None, :, -2],
    np.array([-(height**2) / 2]),
    np.array([(first**2 - height**2) / 2]),
    vectors[None, :, -1],
    np.array([2 * (first - height)]),
    4 * max(height, first),  # that of the minimum too, where runs end
  )


@functools.cache
def _network_loss(inputs: int, hidden: int, l2: float) -> Callable[[Array, Examples], Array]:
  """Logistic loss of a tanh network with one hidden layer, its weights one vector, with l2/2 times their square."""

  def loss(params: Array, example: Examples) -> Array:
    into = params[: hidden * (inputs + 1)].reshape(inputs + 1, hidden)
    activity = jnp.tanh(example.inputs @ into[:-1] + into[-1])
    output = activity @ params[into.size : -1] + params[-1]
    return jax.nn.softplus(-example.targets * output) + l2 / 2 * jnp.sum(params**2)

  return loss


def network(options: Any, hidden: int, num_examples: int, seed: int) -> Problem:
  """The network on so many of the digits, drawn by the seed: is the digit at least 5?"""
  rows, digits = images(options.components)
  chosen = np.random.default_rng(seed).permutation(len(rows))[:num_examples]
  train = Examples(rows[chosen], np.where(digits[chosen] >= 5, 1.0, -1.0))
  loss, size = _network_loss(options.components, hidden, options.l2), hidden * (options.components + 2) + 1
  return problems.from_function(loss, np.zeros(size), data=train)


def place_of(config: Any, name: str, found: xr.Dataset) -> Place:
  """The saddles of that name; those of a network are from the search."""
  if name in ('made', 'pca', 'origin'):
    return made(config.made) if name == 'made' else pca(name == 'origin')
  kind, options = 'generic' if name == 'network' else name, config.network
  chosen = found.isel(saddle=np.flatnonzero(found.kind.values == kind))
  if not chosen.sizes['saddle']:
    raise InputError(f'network.num_starts must be larger: no saddle of kind {kind} was found')
  problem = network(options, options.hidden, options.num_examples, seed=0)
  columns: Any = [chosen[each].values for each in ('params', 'value', 'fall', 'way')]
  return Place(*(problem, *columns, -chosen.lowest.values, float(chosen.highest.max())))


def search(problem: Problem, starts: np.ndarray, seed: int) -> FoundPoints:
  """The stationary points found from these starts; with twice as many steps hardly more."""
  options: Any = {'at_once': min(len(starts), 96), 'max_steps': 60, 'newton_steps': 20}
  return analysis.find_stationary_points(problem, starts, (), jax.random.key(seed), **options)


def different(values: np.ndarray) -> np.ndarray:
  """Which points to keep so that those equal but for the order and sign of hidden units count once, bool[K]."""
  order, keep = np.argsort(values), np.zeros(len(values), bool)
  keep[order] = np.diff(values[order], prepend=-np.inf) > 1e-8 * (1 + np.abs(values[order]))
  return keep


def scattered(problem: Problem, count: int, seed: int) -> np.ndarray:
  """Starts of many sizes, half of them normal draws and half along runs of descent from such draws."""
  size, half = problem.init(jax.random.key(0))[0].size, count // 2
  rng = np.random.default_rng(seed)
  draws = rng.standard_normal((count, size)) * np.exp(rng.uniform(np.log(0.1), np.log(3), (count, 1)))
  steps = np.round(np.geomspace(1, 3000, count - half)).astype(int)
  along = jax.vmap(descended, in_axes=(None, 0, None, 0))(problem, draws[half:], 0.3, steps)
  return np.concatenate([draws[:half], along])


@jax.jit
def descended(problem: Problem, params: Array, rate: Array, steps: Array) -> Array:
  """Where descent has got to."""
  gradient = jax.grad(landscapes.value_fn(problem))
  return jax.lax.fori_loop(0, steps, lambda _, x: x - rate * gradient(x), params)


def usable(problem: Problem, points: FoundPoints, options: Any) -> list[dict[str, Any]]:
  """The different certified saddles from which descent falls, by a way of some curvature, on either side; lowest first.

  With whether single examples differ along the steepest way down, and along none: there batches have no noise.
  """
  value, found, rows = landscapes.value_fn(problem), points.certificates, []
  hessian, each = jax.jit(jax.hessian(value)), jax.jit(analysis.per_example_gradients)
  keep = different(points.values) & (found.index > 0) & (found.undecided == 0)
  for number in np.flatnonzero(keep)[np.argsort(points.values[keep])]:
    params, (lowest, highest) = points.params[number], found.eigenvalues[number][[0, -1]]
    ways = np.linalg.eigh(np.asarray(hessian(params)))[1].T[: found.index[number]]
    ends = [descended(problem, params + side * 1e-3 * ways[0], 1 / highest, 5000) for side in (-1, 1)]
    fall, steep = points.values[number] - max(map(float, map(value, ends))), -lowest / highest
    if steep >= options.least_curvature and fall >= options.least_fall * points.values[number]:
      gradients = np.asarray(each(problem, params, (), jax.random.key(0)))
      heard = np.sqrt(np.mean((gradients @ ways.T) ** 2, axis=0)) > SILENT
      row = {'params': params, 'value': points.values[number], 'fall': fall, 'way': ways[0], 'lowest': lowest}
      rows.append(row | {'highest': highest, 'heard': heard[0], 'deaf': not heard.any()})
  return rows


def alike(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """As many as possible whose curvatures differ by a factor of at most 2, so that one horizon suits all."""
  lowest = [row['lowest'] for row in rows]
  groups = [[row for row in rows if least >= row['lowest'] >= 2 * least] for least in lowest]
  return max(groups, key=len, default=[])
