"""The saddles that runs start at: one made, two of PCA on real images, and those of a small network on real images.

All are finite sums in float64, so that full batch has no noise at all. At some of them the gradient of every single
example vanishes along the way down, by symmetry: at the origin of PCA, and where two hidden units are alike.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from gdlab import problems
from gdlab.core.errors import InputError
from gdlab.core.types import Array, Examples, Key, Problem, PyTree
from gdlab.problems.analytic import PointwiseLoss, PointwiseMetrics
from gdlab.problems.landscapes.saddles import StrictSaddle


class Place(NamedTuple):
  """A problem with K of its saddles; a seed starts at one of them.

  Attributes:
    problem: starts at the origin; see `starting`.
    saddles: float[K, d].
    values: float[K], the loss there.
    falls: float[K], how far the loss falls from there when descent leaves by the steepest way, the shallower side.
    ways: float[K, d], the unit vector of the most negative curvature.
    curvatures: float[K], minus the most negative eigenvalue.
    smoothness: the largest eigenvalue at any of them.
  """

  problem: Problem
  saddles: np.ndarray
  values: np.ndarray
  falls: np.ndarray
  ways: np.ndarray
  curvatures: np.ndarray
  smoothness: float


@dataclasses.dataclass(frozen=True)
class SaddleStart:
  """One of several points, drawn, plus normal displacements of a scale."""

  points: tuple[tuple[float, ...], ...]
  scale: float

  def __call__(self, key: Key) -> tuple[Array, PyTree]:
    """Draws `(params, ())`."""
    which, where = jax.random.split(key)
    points = jnp.asarray(self.points)
    point = points[jax.random.randint(which, (), 0, len(self.points))]
    return point + self.scale * jax.random.normal(where, point.shape), ()


def starting(place: Place, scale: float) -> Problem:
  """The problem, started at one of the saddles or at a distance of about scale * sqrt(d) from it."""
  return dataclasses.replace(place.problem, init=SaddleStart(_tuples(place.saddles), float(scale)))


def pointwise(losses: Callable[[Array, PyTree], Array], train: PyTree, size: int, name: str) -> Problem:
  """A problem of a flat vector of parameters."""
  start = SaddleStart(((0.0,) * size,), 0.0)
  return Problem(start, PointwiseLoss(losses), PointwiseMetrics((('loss', losses),)), name, train)


def _tuples(points: Any) -> tuple[tuple[float, ...], ...]:
  return tuple(map(tuple, np.asarray(points, float).tolist()))


@dataclasses.dataclass(frozen=True)
class Linear:
  """A function of the parameters plus, for each example, a linear term."""

  value: Callable[[Array], Array]

  def __call__(self, params: Array, examples: Array) -> Array:
    """Returns float[B]."""
    return self.value(params) + examples @ params


def made(config) -> Place:
  """A strict saddle of two ways down with wells, and noise that sums to 0 over the examples."""
  options, size = config.made, 10
  curvatures = np.concatenate([[-options.curvature] * 2, np.geomspace(0.1, 1.0, size - 2)])
  value = StrictSaddle(tuple(curvatures.tolist()), options.curvature)
  rng = np.random.default_rng(0)
  rows = rng.standard_normal((options.num_examples, size)) * options.deviation
  problem = pointwise(Linear(value), jnp.asarray(rows - rows.mean(axis=0)), size, 'strict saddle')
  depth = options.curvature / 4  # of one well, at distance 1
  way = np.eye(size)[:1]
  return Place(
    problem, np.zeros((1, size)), np.zeros(1), np.array([depth]), way, np.array([options.curvature]), 1.0
  )


def pca_losses(params: Array, images: Array) -> Array:
  """|u u^T - x x^T|^2 / 2 for each image x, but for what does not depend on u."""
  return jnp.sum(params**2) ** 2 / 2 - (images @ params) ** 2


def images(components: int | None = None) -> tuple[np.ndarray, np.ndarray]:
  """Scikit-learn's digits as centred rows, or their leading principal components at unit variance; and the digits."""
  train = problems.digits().train
  rows = np.asarray(train.inputs, float).reshape(len(train.inputs), -1)
  rows = rows - rows.mean(axis=0)
  if components is not None:
    rows = rows @ np.linalg.svd(rows, full_matrices=False)[2][:components].T
    rows = rows / rows.std(axis=0)
  return rows, np.asarray(train.targets)


def pca(at_origin: bool) -> Place:
  """One component of the digits: the saddle at the second eigenvector, or that at the origin."""
  rows = images()[0]
  spectrum, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
  rows, spectrum = rows / np.sqrt(spectrum[-1]), spectrum / spectrum[-1]
  first, second = spectrum[-1], spectrum[-2]
  problem = pointwise(pca_losses, jnp.asarray(rows), rows.shape[1], 'PCA of the digits')
  height = 0.0 if at_origin else second
  return Place(
    problem,
    np.sqrt(height) * vectors[None, :, -2],
    np.array([-(height**2) / 2]),
    np.array([(first**2 - height**2) / 2]),
    vectors[None, :, -1],
    np.array([2 * (first - height)]),
    max(4 * height, 4 * first),  # that of the minimum too, where runs end
  )


@dataclasses.dataclass(frozen=True)
class Network:
  """Logistic loss of a tanh network with one hidden layer, its weights one vector, with l2/2 times their square."""

  inputs: int
  hidden: int
  l2: float

  @property
  def size(self) -> int:
    """The number of parameters."""
    return self.hidden * (self.inputs + 2) + 1

  def __call__(self, params: Array, examples: Examples) -> Array:
    """Returns float[B]."""
    first = self.hidden * (self.inputs + 1)
    into = params[:first].reshape(self.inputs + 1, self.hidden)
    activity = jnp.tanh(examples.inputs @ into[:-1] + into[-1])
    output = activity @ params[first:-1] + params[-1]
    return jax.nn.softplus(-examples.targets * output) + self.l2 / 2 * jnp.sum(params**2)


def network(options, hidden: int, num_examples: int, seed: int) -> Problem:
  """The network on so many of the digits, drawn by the seed: is the digit at least 5?"""
  rows, digits = images(options.components)
  chosen = np.random.default_rng(seed).permutation(len(rows))[:num_examples]
  model = Network(options.components, hidden, float(options.l2))
  train = Examples(jnp.asarray(rows[chosen]), jnp.asarray(np.where(digits[chosen] >= 5, 1.0, -1.0)))
  return pointwise(model, train, model.size, 'network on the digits')


def found(config, saddles: xr.Dataset, kind: str) -> Place:
  """The network with saddles that the search found; kind 'generic', 'silent' or 'twins'."""
  problem = network(config.network, config.network.hidden, config.network.num_examples, seed=0)
  if kind not in saddles.kind.values:
    raise InputError(f'network.num_starts must be larger: no saddle of kind {kind} was found')
  chosen = saddles.isel(saddle=np.flatnonzero(saddles.kind.values == kind))
  return Place(
    problem,
    chosen.params.values,
    chosen.value.values,
    chosen.fall.values,
    chosen.way.values,
    -chosen.lowest.values,
    float(chosen.highest.max()),
  )


def place(config, name: str, saddles: xr.Dataset) -> Place:
  """The place of that name; with x64 enabled."""
  makers = {
    'made': lambda: made(config),
    'pca': lambda: pca(at_origin=False),
    'origin': lambda: pca(at_origin=True),
    'network': lambda: found(config, saddles, 'generic'),
    'silent': lambda: found(config, saddles, 'silent'),
    'twins': lambda: found(config, saddles, 'twins'),
  }
  return makers[name]()


KINDS = {
  'generic': ('made', 'pca', 'network'),  # where examples disagree on the way down
  'silent': ('silent',),  # where they agree on the steepest, as found; on others they may not
  'symmetric': ('origin', 'twins'),  # where every single example's gradient vanishes along it
}
