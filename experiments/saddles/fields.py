r"""All stationary points of a random field in a box, and how many of each index Kac and Rice's formula expects there.

A field of plane waves, given its frequencies $\omega_k$, is Gaussian and stationary whatever their number m: its
gradient at a point is $N(0, \Sigma)$ with $\Sigma = \frac1m \sum_k \omega_k \omega_k^\top$, and independent of its
Hessian $H = \frac{1}{\sqrt m} \sum_k c_k \omega_k \omega_k^\top$, $c_k \sim N(0, 1)$. So the stationary points of
index i in a volume V number, in expectation,

$$V (2\pi)^{-d/2} (\det\Sigma)^{-1/2}\, E\bigl[\lvert\det H\rvert\, 1_{\text{index } i}\bigr].$$

Source: Kac 1943; Rice 1944; Bray and Dean 2007, cond-mat/0611023.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse
import scipy.spatial

DRAWS = 20_000  # Hessians: 3 % of the rarest kind's number for one field, half a percent for 40
STATIONARY = 1e-11  # norm of a gradient whose typical one is sqrt(d)
ONE_POINT = 1e-6  # distance
AT_ONCE = 2048  # starts of a round
MOST_ROUNDS = 64


class Counted(NamedTuple):
  """What was found in a box."""

  points: np.ndarray  # [K, d]
  indices: np.ndarray  # [K]
  values: np.ndarray  # [K]
  hits: np.ndarray  # [K], how many starts ended there


def expected(frequencies: np.ndarray, seed: int) -> np.ndarray:
  """The expected number of stationary points in a unit of volume, by index, [d + 1], from drawn Hessians."""
  count, dimension = frequencies.shape
  factors = np.random.default_rng([seed, 1]).standard_normal((DRAWS, count)) / np.sqrt(count)
  spectra = np.linalg.eigvalsh(_weighted(factors, frequencies))
  scale = np.sqrt((2 * np.pi) ** dimension * np.linalg.det(frequencies.T @ frequencies / count))
  weights = np.abs(spectra.prod(axis=1)) / scale / DRAWS
  return np.bincount((spectra < 0).sum(axis=1), weights, minlength=dimension + 1)


def searched(frequencies: np.ndarray, amplitudes: np.ndarray, side: float, seed: int) -> Counted:
  """All stationary points in the box [-side/2, side/2]^d, each once.

  Descents on the gradient's norm start everywhere in the box, round after round, until at most one point in fifty
  has been reached once only: then hardly any is missing, by the estimate of `missed`.
  """
  rng, dimension = np.random.default_rng([seed, 2]), frequencies.shape[1]
  points, hits = np.zeros((0, dimension)), np.zeros(0)
  for _ in range(MOST_ROUNDS):
    starts = rng.uniform(-side / 2, side / 2, (AT_ONCE, dimension))
    ends = _descended(starts, frequencies, amplitudes, side / 2 + 1)
    ends = ends[(np.abs(ends) <= side / 2).all(axis=1)]
    points, hits = _merged(np.concatenate([points, ends]), np.concatenate([hits, np.ones(len(ends))]))
    if (hits == 1).sum() <= len(points) / 50:
      break
  values, _, hessians = _local(points, frequencies, amplitudes)
  return Counted(points, (np.linalg.eigvalsh(hessians) < 0).sum(axis=1), values, hits.astype(int))


def missed(hits: np.ndarray) -> float:
  """How many points no start has reached, estimated from those reached once and twice.

  Source: Chao 1987, Estimating the population size for capture-recapture data with unequal catchability, Biometrics 43.
  """
  once, twice = (hits == 1).sum(), (hits == 2).sum()
  return float(once * (once - 1) / (2 * (twice + 1)))


def _weighted(weights: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
  """Sums over k of weights [n, k] times the squares of the frequencies, [n, d, d]."""
  count, dimension = frequencies.shape
  squares = (frequencies[:, :, None] * frequencies[:, None, :]).reshape(count, -1)
  return _times(weights, squares).reshape(-1, dimension, dimension)


def _times(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
  """Their product, in pieces so small that BLAS starts no threads: fields already run side by side in threads."""
  return np.concatenate([part @ matrix for part in np.array_split(rows, len(rows) // 64 + 1)])


def _local(
  x: np.ndarray, frequencies: np.ndarray, amplitudes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Values, gradients and Hessians at points [n, d]."""
  phases = _times(x, frequencies.T)
  cosines, sines = np.cos(phases), np.sin(phases)
  waves = cosines * amplitudes[:, 0] + sines * amplitudes[:, 1]
  slopes = cosines * amplitudes[:, 1] - sines * amplitudes[:, 0]
  return waves.sum(axis=1), _times(slopes, frequencies), -_weighted(waves, frequencies)


def _descended(x: np.ndarray, frequencies: np.ndarray, amplitudes: np.ndarray, reach: float) -> np.ndarray:
  """Where Levenberg and Marquardt's steps on the gradient lead to roots of it, without those that go beyond `reach`."""
  _, g, hessians = _local(x, frequencies, amplitudes)
  damping, ends = np.full(len(x), 1e-3), [x[:0]]
  for _ in range(80):
    size = np.linalg.norm(g, axis=1)
    product = np.einsum('nij,nj->ni', hessians, g)
    shift = damping * (product**2).sum(axis=1) / size**2
    system = hessians @ hessians + shift[:, None, None] * np.eye(x.shape[1])
    step = np.linalg.solve(system, product[..., None])[..., 0]
    _, new_g, new_hessians = _local(x - step, frequencies, amplitudes)
    better = np.linalg.norm(new_g, axis=1) < size
    x, g = np.where(better[:, None], x - step, x), np.where(better[:, None], new_g, g)
    hessians = np.where(better[:, None, None], new_hessians, hessians)
    damping = damping * np.where(better, 0.1, 4)
    there = np.linalg.norm(g, axis=1) < STATIONARY
    ends.append(x[there])
    going = ~there & (damping < 1e3) & (np.abs(x).max(axis=1) <= reach)
    x, g, hessians, damping = x[going], g[going], hessians[going], damping[going]
    if not len(x):
      break
  return np.concatenate(ends)


def _merged(points: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Points with those within a distance taken for one, and the sums of their hits."""
  pairs = scipy.spatial.cKDTree(points).query_pairs(ONE_POINT, output_type='ndarray')
  graph = scipy.sparse.coo_matrix((np.ones(len(pairs)), tuple(pairs.T)), (len(points),) * 2)
  count, label = scipy.sparse.csgraph.connected_components(graph, directed=False)
  first = np.unique(label, return_index=True)[1]
  return points[first], np.bincount(label, hits, minlength=count)
