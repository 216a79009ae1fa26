"""Linear and logistic regression built from the eigenvalues of their Hessian."""

from typing import Any

import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real, shown
from gdlab.core.types import Problem
from gdlab.problems.checks import nonnegative, real_vector
from gdlab.problems.logistic import logistic_regression
from gdlab.problems.regression import linear_regression


@checked('num_examples', 'minimiser', 'noise', 'seed')
def spectral_regression(
  eigenvalues: Any,
  *,
  num_examples: int,
  minimiser: Any = None,
  noise: float = 0.0,
  l2: float = 0.0,
  rotated: bool = True,
  seed: int = 0,
  initial_scale: float = 1.0,
) -> Problem:
  r"""Least squares or ridge regression whose Hessian has the given eigenvalues.

  $X = \sqrt N U \Lambda^{1/2} Q^\top$ with orthonormal columns in U [N, d] and an orthogonal Q [d, d], both
  random, so $X^\top X/N = Q \Lambda Q^\top$. The targets are $y = X w^* + r$ with a random residual
  $r \perp U$ of mean square $\sigma^2$: the least-squares minimiser is $w^*$ and the minimum $\sigma^2/2$,
  both without ridge. All this holds to rounding in JAX's default float; `Problem.known` is in float64, of the data
  as stored. In float32, eigenvalues below about $10^{-7} \max\lambda$ are therefore not accurate.

  Example:
    >>> problem = spectral_regression([1.0, 100.0], num_examples=8, minimiser=[1.0, -1.0], noise=0.5)
    >>> problem.known.params.round(4), float(problem.known.value.round(4))
    (array([ 1., -1.]), 0.25)

  Args:
    eigenvalues: float[d] >= 0, of $X^\top X/N$; not all 0.
    num_examples: N >= d, with noise N >= d + 1.
    minimiser: w*, float[d]; drawn from N(0, I) by default. Where an eigenvalue is 0 there are many minimisers,
      and `known` has the one of least norm.
    noise: sigma^2 >= 0.
    l2: lambda >= 0 of the ridge term, see `linear_regression`. It adds to the eigenvalues.
    rotated: False for Q = I: the Hessian is diagonal, in the given order.
    seed: >= 0, of U, Q, w* and r.
    initial_scale: > 0; weights start at N(0, initial_scale^2), drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: the construction is that of N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed.,
  2002, section 28.3 (random matrices with chosen singular values).
  """
  curvatures = _spectrum(eigenvalues)
  noise = nonnegative('noise', noise)
  size = len(curvatures)
  count = check_count('num_examples', num_examples, minimum=size + (1 if noise else 0))
  rng = np.random.default_rng(check_count('seed', seed, minimum=0))
  basis, features = _features(rng, curvatures, count, rotated)
  weights = _weights('minimiser', minimiser, rng.standard_normal(size))
  residual = rng.standard_normal(count)
  residual -= basis @ (basis.T @ residual)
  # Where N = d nothing is left beside U but rounding, which is not to be scaled up.
  residual *= np.sqrt(count * noise) / np.linalg.norm(residual) if noise else 0
  return linear_regression(features, features @ weights + residual, l2=l2, initial_scale=initial_scale)


@checked('num_examples', 'weights', 'signal', 'seed')
def spectral_logistic(
  eigenvalues: Any,
  *,
  num_examples: int,
  l2: float,
  weights: Any = None,
  signal: float = 1.0,
  rotated: bool = True,
  seed: int = 0,
  initial_scale: float = 1.0,
) -> Problem:
  r"""Logistic regression of two classes whose Hessian at w = 0 has the given eigenvalues, plus l2.

  The Hessian at 0 is $X^\top X/(4N) + \lambda_2 I$, the largest anywhere, and
  $X = 2 \sqrt N U \Lambda^{1/2} Q^\top$ as for `spectral_regression`. The labels are 1 with probability
  $1/(1 + e^{-x_i^\top v})$ for the true weights v. The minimiser, which is not v, is in `Problem.known`
  where l2 > 0.

  Args:
    eigenvalues: float[d] >= 0, of $X^\top X/(4N)$; not all 0.
    num_examples: N >= d.
    l2: ridge parameter >= 0, see `logistic_regression`.
    weights: v, float[d]; by default of random direction, scaled by `signal`.
    signal: >= 0, the root mean square of $x_i^\top v$ if `weights` is None; at 0 the labels are independent of x.
    rotated: as for `spectral_regression`.
    seed: >= 0, of U, Q, v and the labels.
    initial_scale: as for `spectral_regression`.

  Raises:
    InputError: an argument out of range or of the wrong shape.
  """
  curvatures = _spectrum(eigenvalues)
  signal = nonnegative('signal', signal)
  count = check_count('num_examples', num_examples, minimum=len(curvatures))
  rng = np.random.default_rng(check_count('seed', seed, minimum=0))
  _, features = _features(rng, 4 * curvatures, count, rotated)
  drawn = rng.standard_normal(len(curvatures))
  true = _weights('weights', weights, drawn * signal / np.sqrt(np.mean((features @ drawn) ** 2)))
  labels = rng.random(count) < 1 / (1 + np.exp(-(features @ true)))
  return logistic_regression(
    features, labels.astype(np.int32), l2=l2, num_classes=2, initial_scale=initial_scale
  )


def _features(
  rng: np.random.Generator, curvatures: np.ndarray, count: int, rotated: bool
) -> tuple[np.ndarray, np.ndarray]:
  """An orthonormal basis U [N, d] of the column space, and features X with X'X/N of these eigenvalues."""
  size = len(curvatures)
  basis = np.linalg.qr(rng.standard_normal((count, size)))[0]
  rotation = np.linalg.qr(rng.standard_normal((size, size)))[0] if rotated else np.eye(size)
  return basis, np.sqrt(count) * (basis * np.sqrt(curvatures)) @ rotation.T


def _spectrum(eigenvalues: Any) -> np.ndarray:
  values = real_vector('eigenvalues', eigenvalues)
  if not ((values >= 0).all() and (values > 0).any()):
    raise InputError(f'eigenvalues must be numbers >= 0, not all 0, got {shown(eigenvalues)}')
  return values


def _weights(name: str, given: Any, default: np.ndarray) -> np.ndarray:
  if given is None:
    return default
  if np.shape(given) != default.shape:
    raise InputError(f'{name} must have shape {default.shape}, one per eigenvalue, got {np.shape(given)}')
  return np.array([float(check_real(f'{name}[{i}]', value)) for i, value in enumerate(given)])
