"""Deep linear networks: a product of matrices fitted to one matrix."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, shown
from gdlab.core.types import Array, Known, Problem, StationaryPoints
from gdlab.problems.analytic import PointwiseLoss, PointwiseMetrics
from gdlab.problems.checks import default_float
from gdlab.problems.matrices import spectra
from gdlab.problems.starts import arrays_start


@checked('singular_values', 'depth', 'width', 'num_inputs', 'num_outputs')
def deep_linear_network(
  singular_values: Any,
  *,
  depth: int = 2,
  width: int | None = None,
  num_inputs: int | None = None,
  num_outputs: int | None = None,
  rotation: int | None = None,
  start: Any = None,
  initial_scale: float = 1.0,
) -> Problem:
  r"""A linear network of k layers on whitened inputs, fitted to a matrix with given singular values.

  $f(W_1, \dots, W_k) = \frac12\lVert W_k \cdots W_1 - M\rVert_F^2$, $M = \sum_i \sigma_i u_i v_i^\top$, the
  parameters a tuple, $W_1$ float[h, n_in], $W_k$ float[n_out, h], those between float[h, h]. For every set S
  of at most h of the $\sigma_i > 0$ there are stationary points with $W_k\cdots W_1 = \sum_{i\in S}\sigma_i
  u_i v_i^\top$ and $f = \frac12\sum_{i\notin S}\sigma_i^2$.

  Known: for each S the balanced point, where all layers have the singular values $\sigma_a^{1/k}$ and zeros; at most
  4096, the larger S first. The Hessian there has the eigenvalues, with $p_a = \sigma_a^{1/k}$ and
  $a, b \in S$,

  - $\sum_{j=1}^k p_a^{2(k-j)} p_b^{2(j-1)}$ and 0, k-1 times, for each (a, b);
  - $p_a^{k-2}(\sigma_a \pm \sigma_i)$ for each a and each i not in S: negative where S left out a larger one;
  - $p_a^{2(k-1)}$ for each a, $|n_{in} - n_{out}|$ times;
  - for k = 2, $\pm\sigma_i$, $h - |S|$ times for each i not in S; and 0 for the rest.

  With two layers every saddle is strict. With more, the point with S the largest singular values and
  |S| < min(h, rank M) has no negative eigenvalue and index 0, but is not a minimum: f decreases from it in order k
  only.

  The list is complete for two layers and M square and invertible, up to $(C W_1, W_2 C^{-1})$ (and rotations
  that commute with M). Otherwise there are points of the same values where some layers are 0 and others are not.

  Example:
    >>> points = deep_linear_network([2.0, 1.0], depth=3).known.stationary_points
    >>> points.values, points.index
    (array([0. , 0.5, 2. , 2.5]), array([0, 0, 1, 0]))

  Args:
    singular_values: sigma, float[m] >= 0, in any order.
    depth: k >= 2 layers.
    width: h >= 1; m by default.
    num_inputs: n_in >= m; m by default.
    num_outputs: n_out >= m; m by default.
    rotation: seed of the random singular vectors; None for unit vectors, the largest singular value first.
    start: initial (W_1, ..., W_k); None draws all entries from N(0, initial_scale^2) with the run's init
      stream.
    initial_scale: > 0.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Baldi, Hornik 1989, Neural Networks and Principal Component Analysis; Kawaguchi 2016, Deep Learning
    without Poor Local Minima, arXiv 1605.07110.
  """
  numbers = spectra.spectrum('singular_values', singular_values)
  if numbers[-1] < 0:
    raise InputError(f'singular_values must be >= 0, got {shown(singular_values)}')
  size = len(numbers)
  depth = check_count('depth', depth, minimum=2)
  width = check_count('width', size if width is None else width)
  inputs = check_count('num_inputs', size if num_inputs is None else num_inputs, minimum=size)
  outputs = check_count('num_outputs', size if num_outputs is None else num_outputs, minimum=size)
  # Another seed on the right, or M would be symmetric.
  right = spectra.basis(rotation, inputs)
  left = spectra.basis(None if rotation is None else rotation + 1, outputs)
  target = left[:, :size] * numbers @ right[:, :size].T
  points = _stationary_points(numbers, left, right, depth, width)
  sizes = [inputs, *[width] * (depth - 1), outputs]
  return Problem(
    init=arrays_start(start, initial_scale, tuple(zip(sizes[1:], sizes))),
    loss=PointwiseLoss(_losses),
    metrics=PointwiseMetrics((('loss', _losses),)),
    name='deep linear network',
    train=jnp.asarray(target[None], default_float()),
    known=Known(
      params=tuple(leaf[0] for leaf in points.params), value=points.values[0], stationary_points=points
    ),
  )


def _losses(params: tuple[Array, ...], examples: Array) -> Array:
  product = functools.reduce(lambda below, layer: layer @ below, params)
  return jnp.sum((product[None] - examples) ** 2, axis=(1, 2)) / 2


def _stationary_points(
  numbers: np.ndarray, left: np.ndarray, right: np.ndarray, depth: int, width: int
) -> StationaryPoints:
  inputs, outputs = len(right), len(left)
  positive = int((numbers > 0).sum())
  chosen, all_chosen = spectra.subsets(positive, range(min(positive, width), -1, -1))
  params, values, eigenvalues = [], [], []
  for members in chosen:
    outside = np.zeros(min(inputs, outputs) - len(members))
    left_out = np.delete(numbers, members)
    outside[: len(left_out)] = left_out
    roots = numbers[list(members)] ** (1 / depth)
    params.append(_balanced(roots, left[:, list(members)], right[:, list(members)], depth, width))
    values.append(np.sum(outside**2) / 2)
    nonzero = _eigenvalues(roots, outside, depth, width - len(members), abs(inputs - outputs))
    eigenvalues.append(np.zeros(sum(layer.size for layer in params[-1])))
    eigenvalues[-1][: len(nonzero)] = nonzero
  complete = all_chosen and depth == 2 and positive == inputs == outputs
  return spectra.stationary_points(params, values, eigenvalues, complete=complete)


def _balanced(
  roots: np.ndarray, left: np.ndarray, right: np.ndarray, depth: int, width: int
) -> tuple[np.ndarray, ...]:
  """The layers in which each of the first hidden units carries one singular direction."""
  hidden = np.eye(width, len(roots))
  between = hidden * roots @ hidden.T
  return (hidden * roots @ right.T, *[between] * (depth - 2), left * roots @ hidden.T)


def _eigenvalues(roots: np.ndarray, outside: np.ndarray, depth: int, unused: int, surplus: int) -> np.ndarray:
  """All except the zeros that are always there; `surplus` is |inputs - outputs|."""
  powers = roots[:, None] ** (2 * np.arange(depth))
  weak = roots[:, None] ** (depth - 2)
  strong = roots[:, None] ** depth
  return np.concatenate(
    [
      (powers[:, ::-1] @ powers.T).ravel(),
      (weak * (strong + outside)).ravel(),
      (weak * (strong - outside)).ravel(),
      np.tile(powers[:, -1], surplus),
      np.tile([*outside, *-outside], unused if depth == 2 else 0),
    ]
  )
