"""The saddles that runs start at, one for each seed on data of its own: made, of PCA, and of small networks on images.

All are finite sums, so that full batch has no noise in float64. At the origin of PCA the gradient of every single
example vanishes along all ways down, by symmetry. What programs are made of is cached, so that all sets of seeds share
what is compiled.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from gdlab import analysis, problems
from gdlab.analysis import FoundPoints
from gdlab.core.types import Array, Examples, Problem
from gdlab.problems import landscapes

LONG = 2000  # updates of a descent that ends, at rate 1/L
SILENT = 1e-6  # standard deviation of single examples' slopes that counts as none


class Place(NamedTuple):
  """For each of S seeds a problem and a saddle of it."""

  problem: Problem  # the leaves of `train` have a leading axis of S
  saddles: np.ndarray  # [S, d]
  values: np.ndarray  # [S], the loss there
  falls: np.ndarray  # [S], how far it falls if descent leaves by the steepest way, on the shallower side
  ways: np.ndarray  # [S, d], the unit vector of the most negative curvature
  curvatures: np.ndarray  # [S], minus the most negative eigenvalue
  smoothness: np.ndarray  # [S], the largest eigenvalue


def stacked(all_problems: Sequence[Problem]) -> Problem:
  """The problems, alike but for their data, as one."""
  train = jax.tree.map(lambda *leaves: np.stack(leaves), *(problem.train for problem in all_problems))
  return dataclasses.replace(all_problems[0], train=train)


@functools.cache
def _quadratic(dimension: int, curvature: float, noise: float) -> Problem:
  problem = landscapes.strict_saddle([-curvature, *np.geomspace(0.1, 1.0, dimension - 1)])
  return problems.with_noise(problem, problems.noise.isotropic(noise)) if noise else problem


def quadratic(dimension: int, curvature: float, count: int, noise: float = 0.0) -> Place:
  """A quadratic with one way down, the first coordinate, the same for all seeds."""
  problem, one = stacked([_quadratic(dimension, curvature, noise)] * count), np.ones(count)
  way = np.tile(np.eye(dimension)[:1], (count, 1))
  return Place(problem, 0 * way, 0 * one, np.inf * one, way, curvature * one, one)


@functools.cache
def _made_loss(curvature: float) -> Callable[[Array, Array], Array]:
  curvatures = [-curvature] * 2 + np.geomspace(0.1, 1.0, 8).tolist()
  value = landscapes.value_fn(landscapes.strict_saddle(curvatures, confinement=curvature))
  return lambda params, row: value(params) + row @ params


def made(options: Any, count: int, ids: Sequence[int]) -> Place:
  """A strict saddle of two ways down with wells, and noise that sums to 0 over the examples, drawn by the seed."""
  each = [np.random.default_rng(seed).standard_normal((count, 10)) * options.deviation for seed in ids]
  loss = _made_loss(options.curvature)
  return quadratic(10, options.curvature, len(ids))._replace(
    problem=stacked(
      [problems.from_function(loss, np.zeros(10), data=rows - rows.mean(axis=0)) for rows in each]
    ),
    falls=np.full(len(ids), options.curvature / 4),  # to the bottom of one well, at distance 1
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


def _drawn(count: int, seed: Any) -> np.ndarray:
  """Which images a seed has."""
  return np.random.default_rng(seed).permutation(len(images()[0]))[:count]


def _component_loss(u: Array, x: Array) -> Array:
  """|u u^T - x x^T|^2 / 2 for an image x, but for what does not depend on u."""
  return jnp.sum(u**2) ** 2 / 2 - (x @ u) ** 2


def pca(at_origin: bool, count: int, ids: Sequence[int]) -> Place:
  """One component of the seed's digits: the saddle at the second eigenvector, or that at the origin."""
  found = []
  for seed in ids:
    rows = images()[0][_drawn(count, seed)]
    spectrum, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    rows, spectrum = rows / np.sqrt(spectrum[-1]), spectrum / spectrum[-1]
    height = 0.0 if at_origin else spectrum[-2]
    problem = problems.from_function(_component_loss, np.zeros(rows.shape[1]), data=rows)
    falls, curvature = (1 - height**2) / 2, 2 * (1 - height)
    # The smoothness is that of the minimum, where runs end.
    numbers = (np.sqrt(height) * vectors[:, -2], -(height**2) / 2, falls, vectors[:, -1], curvature, 4.0)
    found.append((problem, *numbers))
  all_problems, *columns = zip(*found, strict=True)
  return Place(stacked(all_problems), *map(np.array, columns))


@functools.cache
def _network_loss(inputs: int, hidden: int, l2: float) -> Callable[[Array, Examples], Array]:
  """Logistic loss of a tanh network with one hidden layer, its weights one vector, with l2/2 times their square."""

  def loss(params: Array, example: Examples) -> Array:
    into = params[: hidden * (inputs + 1)].reshape(inputs + 1, hidden)
    activity = jnp.tanh(example.inputs @ into[:-1] + into[-1])
    output = activity @ params[into.size : -1] + params[-1]
    return jax.nn.softplus(-example.targets * output) + l2 / 2 * jnp.sum(params**2)

  return loss


def network(options: Any, hidden: int, num_examples: int, seed: Any) -> Problem:
  """The network on so many of the digits, drawn by the seed: is the digit at least 5?"""
  rows, digits = images(options.components)
  chosen = _drawn(num_examples, seed)
  train = Examples(rows[chosen], np.where(digits[chosen] >= 5, 1.0, -1.0))
  loss, size = _network_loss(options.components, hidden, options.l2), hidden * (options.components + 2) + 1
  return problems.from_function(loss, np.zeros(size), data=train)


def place_of(config: Any, name: str, found: xr.Dataset) -> Place:
  """The saddles of that kind, of all seeds of the set; those of networks are from the search."""
  options, ids = config.network, config.seeds.for_tuning + config.seeds.ids
  if name == 'made':
    return made(config.made, options.num_examples, ids)
  if name in ('pca', 'origin'):
    return pca(name == 'origin', options.num_examples, ids)
  mine = found.sel(kind=name, seed=ids)
  each = [
    network(options, options.hidden, options.num_examples, (seed, draw))
    for seed, draw in zip(ids, mine.draw.values.tolist(), strict=True)
  ]
  columns = [mine[column].values for column in ('params', 'value', 'fall', 'way', 'curvature', 'smoothness')]
  return Place(stacked(each), *columns)


def search(problem: Problem, starts: np.ndarray, seed: int) -> FoundPoints:
  """The stationary points found from these starts; with twice as many steps hardly more."""
  options: Any = {'at_once': min(len(starts), 96), 'max_steps': 60, 'newton_steps': 20}
  return analysis.find_stationary_points(problem, starts, (), jax.random.key(seed), **options)


def different(values: np.ndarray) -> np.ndarray:
  """Which points to keep so that those equal but for the order and sign of hidden units count once, bool[K]."""
  order, keep = np.argsort(values), np.zeros(len(values), bool)
  keep[order] = np.diff(values[order], prepend=-np.inf) > 1e-8 * (1 + np.abs(values[order]))
  return keep


def scattered(problem: Problem, count: int, seed: Any, longest: int) -> np.ndarray:
  """Starts of many sizes, half of them normal draws and half along runs of descent from such draws."""
  size, half = problem.init(jax.random.key(0))[0].size, count // 2
  rng = np.random.default_rng(seed)
  draws = rng.standard_normal((count, size)) * np.exp(rng.uniform(np.log(0.1), np.log(3), (count, 1)))
  steps = np.round(np.geomspace(1, longest, count - half)).astype(int)
  along = descended(problem, draws[half:], 0.3, steps)
  return np.concatenate([draws[:half], along])


@jax.jit
def descended(problem: Problem, params: Array, rate: Array, steps: Array) -> Array:
  """Where descent has got to, [run, d]."""
  gradient = jax.grad(landscapes.value_fn(problem))

  def one(start: Array, count: Array) -> Array:
    return jax.lax.fori_loop(0, count, lambda _, x: x - rate * gradient(x), start)

  return jax.vmap(one)(params, steps)


@jax.jit
def _measured(problem: Problem, params: Array) -> tuple[Array, Array, Array]:
  """The Hessian's eigenvalues and eigenvectors, and by way the root mean square of single examples' slopes."""
  spectrum, vectors = jnp.linalg.eigh(jax.hessian(landscapes.value_fn(problem))(params))
  slopes = analysis.per_example_gradients(problem, params, (), jax.random.key(0)) @ vectors
  return spectrum, vectors, jnp.sqrt(jnp.mean(slopes**2, axis=0))


def chosen(
  problem: Problem, points: FoundPoints, options: Any, seed: Any, wanted: Sequence[str]
) -> dict[str, dict[str, Any]]:
  """Certified saddles by kind, of the kinds wanted, drawn from all that were found; fewer where there are fewer.

  A saddle has a way down of some curvature, and descent from it falls on either side. At 'network' single examples
  differ along the steepest way down. At 'silent0', 'silent1', ... they agree on it, so that batches have no noise
  there, but differ on another.
  """
  value, found, rows = landscapes.value_fn(problem), points.certificates, dict[str, dict[str, Any]]()
  keep = different(points.values) & (found.index > 0) & (found.undecided == 0)
  for number in np.random.default_rng(seed).permutation(np.flatnonzero(keep)):
    params, height = points.params[number], points.values[number]
    spectrum, vectors, slopes = (np.asarray(part) for part in _measured(problem, params))
    differ = slopes[: found.index[number]] > SILENT
    names = [name for name in wanted if name not in rows and (name == 'network') == differ[0]]
    if not names or not differ.any() or -spectrum[0] < options.least_curvature * spectrum[-1]:
      continue
    sides = params + 1e-3 * np.array([[-1], [1]]) * vectors[:, 0]
    ends = descended(problem, sides, 1 / spectrum[-1], np.full(2, LONG))
    fall = height - max(map(float, map(value, ends)))
    if fall >= options.least_fall * height:
      row = {'params': params, 'value': height, 'fall': fall, 'way': vectors[:, 0]}
      rows[names[0]] = row | {'curvature': -spectrum[0], 'smoothness': spectrum[-1]}
  return rows
